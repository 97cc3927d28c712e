"""The near cache and its server: which message makes what void, what a server forgot or refuses, and a partition."""

import os
import socket
import time
from types import SimpleNamespace

import pytest
from helpers import servers
from helpers.machine import SLOWER
from helpers.near_caches import NEAR, awake, cached, memory, nothing_stays, open_pair, opened, until

import shmvar
from shmvar._remote import near_listener, near_memory
from shmvar._remote.near_memory import EPOCH, FLOORS, HEARD


@pytest.fixture(autouse=True)
def nothing_is_left():
    with nothing_stays():
        yield


@pytest.fixture
def pair(server):
    with opened(server) as handles:
        yield handles


def test_a_destroyed_segment_is_gone_soon_and_for_its_destroyer_at_once(pair):
    near, plain = pair
    plain["n"] = 1
    cached(near, "n")
    plain.destroy()

    def gone():
        try:
            near["n"]
        except shmvar.SegmentNotFoundError:
            return True

    until(gone)


def test_flushall_which_sends_no_message_is_noticed(own_server):
    server = own_server()
    near, plain = open_pair(server)
    plain["n"] = 1
    cached(near, "n")
    began = time.monotonic()
    server.call("FLUSHALL")
    # Nor does another segment of this key stand for it.
    shmvar.attach(plain.url)["n"] = 2

    def gone():
        try:
            near["n"]
        except shmvar.SegmentNotFoundError:
            return True

    until(gone)
    assert time.monotonic() - began < 0.6 * SLOWER


def test_a_server_that_comes_back_with_older_data_is_believed(own_server):
    server = own_server("--appendonly", "no")
    near, plain = open_pair(server)
    plain["n"] = 1
    server.call("SAVE")
    plain["n"] = 2
    assert cached(near, "n") == 2
    owner = memory(near).words[near_memory.OWNER]
    server.kill()
    server.start()
    until(lambda: memory(near).words[near_memory.OWNER] != owner)
    awake(near)
    # What was cached is as of a later version than any that this server knows.
    assert near["n"] == 1
    plain["n"] = 3
    until(lambda: near["n"] == 3)
    assert cached(near, "n") == 3


def test_versions_that_went_back_begin_another_epoch(server, pair):
    near, plain = pair
    plain["n"] = 1
    cached(near, "n")
    epoch = memory(near).words[EPOCH]
    server.call("HSET", near._requests.prefix, "seq", 5)
    until(lambda: memory(near).words[EPOCH] not in (0.0, epoch))
    assert cached(near, "n") == 1


def test_a_partition_is_over_after_half_a_second(server, proxy):
    key = f"near-partition-{os.getpid()}"
    plain = shmvar.attach(server.url(key))
    near = awake(shmvar.attach(server.tcp(key, port=proxy.port, near=NEAR, timeout=2)))
    try:
        plain["n"] = 1
        cached(near, "n")
        proxy.still.set()
        stopped = time.clock_gettime(time.CLOCK_BOOTTIME)
        plain["n"] = 2
        last = None
        with pytest.raises(shmvar.SegmentUnavailableError):
            while True:
                before = time.clock_gettime(time.CLOCK_BOOTTIME)
                assert near["n"] == 1
                last = before
        # A hit began at most this long after the network stood still, whenever this thread came to run.
        assert last - stopped < near_listener.FRESH
        proxy.still.clear()
        until(lambda: not raises(near) and near["n"] == 2)
        assert cached(near, "n") == 2
    finally:
        proxy.still.clear()
        near.detach()
        plain.destroy()


def raises(near):
    try:
        near.get("n")
    except shmvar.SegmentUnavailableError:
        return True
    return False


def test_a_listener_that_is_not_the_listener_any_more_writes_nothing(pair):
    near, plain = pair
    plain["n"] = 1
    cached(near, "n")
    with memory(near)._guard:
        memory(near).words[near_memory.OWNER] = 1.0
    assert not memory(near).living(2.0, 5.0, 1e300) and not memory(near).heard(2.0, [(FLOORS, 1e15)], 5.0, True)
    plain["n"] = 2
    until(lambda: near["n"] == 2)


def test_a_look_that_found_another_server_promises_nothing_of_the_old_one(pair, monkeypatch):
    near, _ = pair
    follower, link = near._near._follower, near._link
    seq, living = follower._seq, near_memory.Memory.living
    moved, promised = [], []

    def moving(least):
        found = seq(least)
        if not moved:
            moved.append(follower._owner)
            link.moves += 1
        return found

    def noted(self, owner, *words):
        promised.append((bool(moved), owner))
        return living(self, owner, *words)

    monkeypatch.setattr(near_memory.Memory, "living", noted)
    monkeypatch.setattr(follower, "_seq", moving)
    until(lambda: moved and memory(near).words[near_memory.OWNER] != moved[0])
    assert (True, moved[0]) not in promised


def test_what_comes_in_part_behind_the_servers_word_is_not_lost(pair):
    near, _ = pair
    follower = near._near._follower
    ours, theirs = socket.socketpair()
    with ours, theirs:
        channel = follower._channel
        word = b"*3\r\n$10\r\nssubscribe\r\n$%d\r\n%b\r\n:1\r\n" % (len(channel), channel)
        message = b"*3\r\n$8\r\nsmessage\r\n$%d\r\n%b\r\n$4\r\ngone\r\n" % (len(channel), channel)
        theirs.sendall(word + message[:20])
        parser = follower._subscribe(SimpleNamespace(_sock=ours))
        assert parser.feed(message[20:]) == [[b"smessage", channel, b"gone"]]


MESSAGES = [
    b"",
    b"x",
    b"* *",
    b"12",
    b"12 q5",
    b"12 i",
    b"9999999999999999 i5",
    b"-",
    b"~ sx",
    b"\xff\xfe 5",
    b"12 i99999999999999999999999",
]


@pytest.mark.parametrize("message", MESSAGES, ids=repr)
def test_a_message_that_nobody_understands_makes_all_void_and_no_more(server, pair, message):
    near, plain = pair
    plain["n"] = 1
    cached(near, "n")
    epoch = memory(near).words[EPOCH]
    server.call("SPUBLISH", near._requests.data + b"w", message)
    until(lambda: memory(near).words[EPOCH] not in (0.0, epoch))
    assert cached(near, "n") == 1


def test_a_version_that_no_variable_has_makes_nothing_void(server, pair):
    near, plain = pair
    plain["n"] = 1
    cached(near, "n")
    epoch, version = memory(near).words[EPOCH], plain.version("n") + 1
    server.call("HSET", near._requests.prefix, "seq", version)
    server.call("SPUBLISH", near._requests.data + b"w", b"=%d" % version)
    until(lambda: memory(near).words[HEARD] >= version)
    assert memory(near).words[EPOCH] == epoch and cached(near, "n") == 1


def test_without_the_right_to_subscribe_attaching_says_so(own_server):
    server = own_server()
    plain = shmvar.attach(server.url("k"))
    plain["n"] = 1
    rights = [word for word in servers.rights("reader") if "subscribe" not in word]
    server.call("ACL", "SETUSER", "few", "on", ">secret", *rights)
    with pytest.raises(shmvar.SegmentAccessError, match="ssubscribe"):
        shmvar.attach(server.url("k", near=NEAR, user="few", password_file=password(server)), readonly=True)


def test_these_rights_are_enough(own_server):
    server = own_server()
    plain = shmvar.attach(server.url("k"))
    plain["n"] = 1
    for user in ("reader", "app"):
        server.call("ACL", "SETUSER", user, "on", ">secret", *servers.rights(user))
        url = server.url("k", near=NEAR, user=user, password_file=password(server))
        near = awake(shmvar.attach(url, readonly=user == "reader"))
        assert cached(near, "n") == 1
        near.detach()


def password(server):
    path = os.path.join(server.directory, "password")
    with open(path, "w") as file:
        file.write("secret\n")
    return path
