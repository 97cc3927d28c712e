"""A change is carried out once, however often the network made the client send it."""

import itertools
import os
import threading
import time

import helpers
import pytest
from helpers import servers

import shmvar

CHANGES = {
    "put": lambda seg: seg.put("p", 1),
    "put of a large value": lambda seg: seg.put("p", b"x" * 100_000),
    "add": lambda seg: seg.add("a"),
    "add of a long int": lambda seg: seg.add("a", 10**30),
    "swap": lambda seg: seg.swap("s", "new"),
    "modify": lambda seg: seg.modify("m", lambda old: [*old, 1], []),
    "compare_and_put": lambda seg: seg.compare_and_put("c", seg.version("c"), "new"),
    "setdefault": lambda seg: seg.setdefault("d", 5),
    "remove": lambda seg: seg.remove("r"),
    "pop": lambda seg: seg.pop("r"),
    "popitem": lambda seg: seg.popitem(),
    "touch": lambda seg: seg.touch("r"),
    "expire": lambda seg: seg.expire("r", 1000),
    "put_many": lambda seg: seg.put_many({"p": 1, "q": b"y" * 50_000}),
    "clear": lambda seg: seg.clear(),
    "resize": lambda seg: seg.resize(1 << 20),
}


def prepared(url):
    segment = shmvar.attach(url)
    segment.clear()
    segment.put_many({"a": 10, "s": "old", "m": [0], "c": "old", "r": "there"})
    return segment


def state_of(segment):
    return {index: segment[index] for index in segment} | {"size of it": segment.size}


@pytest.mark.parametrize("call", CHANGES)
def test_the_answer_of_each_request_in_turn_is_lost_and_the_change_is_made_once(server, new_key, proxy, call):
    key = new_key()
    local = prepared(key)
    expected = CHANGES[call](local)
    wanted = state_of(local)
    for lost in itertools.count():
        local = prepared(key)
        local.resize(1 << 30)
        segment = shmvar.attach(servers.Server.tcp(server, key.partition("#")[2], port=proxy.port))
        seen = itertools.count()
        proxy.lost = 0
        proxy.lose_after = lambda data, seen=seen, lost=lost: next(seen) == lost
        try:
            result = CHANGES[call](segment)
        finally:
            proxy.lose_after = None
        if call == "popitem":
            assert len(segment) == 4 and result[0] not in segment
        else:
            assert state_of(local) == (wanted if call == "resize" else wanted | {"size of it": 1 << 30})
            assert result == expected or call == "touch"
        local.check()
        if not proxy.lost:
            break
    assert lost > 0


def test_a_create_whose_answer_is_lost_has_created(server, new_key, proxy):
    key = new_key()
    url = servers.Server.tcp(server, key.partition("#")[2], port=proxy.port)
    shmvar.exists(url)
    proxy.lose_after = lambda data: b"EVAL" in data and proxy.lost == 0
    segment = shmvar.attach(url, create=True)
    assert proxy.lost == 1 and segment.created
    with pytest.raises(shmvar.SegmentExistsError):
        shmvar.attach(url, create=True)


def test_a_destroy_whose_answer_is_lost_has_destroyed(server, new_key, proxy):
    key = new_key()
    shmvar.attach(key)["a"] = 1
    url = servers.Server.tcp(server, key.partition("#")[2], port=proxy.port)
    proxy.lose_after = lambda data: b"EVAL" in data and proxy.lost == 0
    assert shmvar.destroy(url) is True
    proxy.lose_after = None
    assert proxy.lost == 1 and not shmvar.exists(key) and shmvar.destroy(key) is False


@pytest.mark.parametrize("change", ["put", "remove", "add"])
def test_a_copy_that_arrives_after_its_answer_changes_nothing(server, new_key, proxy, change):
    """The first copy is held in the network, the second one is answered; then somebody else changes the variable."""
    key = new_key()
    local = prepared(key)
    segment = shmvar.attach(servers.Server.tcp(server, key.partition("#")[2], port=proxy.port))
    segment.put("r", "warm")
    proxy.held = lambda data: b"EVALSHA" in data and not proxy.kept
    {"put": lambda: segment.put("r", "mine"), "remove": lambda: segment.remove("r"), "add": lambda: segment.add("a")}[
        change
    ]()
    assert len(proxy.kept) == 1
    local["r"], local["a"] = "another", 100
    for later in range(2):
        with server_socket(server) as late:
            late.sendall(proxy.kept[0])
            assert late.recv(1000)
        assert local["r"] == "another" and local["a"] == 100
        # The next change of the slot: the copy is older now than what the server remembers.
        segment.put("elsewhere", later)


def test_a_late_copy_of_a_chunk_does_not_make_a_stored_value_expire(server, seg, monkeypatch):
    from shmvar._remote import blobs

    sent, upload = [], blobs.upload
    monkeypatch.setattr(blobs, "upload", lambda *arguments: (sent.append(arguments), upload(*arguments)))
    seg["v"] = b"x" * 20_000
    (chunk,) = server.call("KEYS", seg._requests.data + b"b:*")
    assert server.call("PTTL", chunk) == -1
    upload(*sent[0])
    assert server.call("PTTL", chunk) == -1 and seg["v"] == b"x" * 20_000


def test_a_large_value_gets_the_time_that_a_slow_network_needs(server, new_key, proxy):
    name = new_key().partition("#")[2]
    segment = shmvar.attach(servers.Server.tcp(server, name, port=proxy.port, timeout=0.5))
    proxy.pause = 0.02
    segment["v"] = b"x" * 6_000_000
    segment.put_many({number: b"y" * 10_000 for number in range(300)})
    proxy.pause = 0.0
    assert len(segment["v"]) == 6_000_000 and len(segment) == 301


def test_a_copy_of_a_change_that_a_full_server_refused_is_barred(own_server):
    full = own_server()
    between = servers.Proxy(full.socket)
    try:
        local = shmvar.attach(full.url("barred"))
        segment = shmvar.attach(full.tcp("barred", port=between.port))
        local["a"] = segment["b"] = "old"

        def hold(data):
            if b"EVALSHA" not in data or between.kept:
                return False
            # From now on the server has no memory: it refuses the second copy.
            full.call("CONFIG", "SET", "maxmemory", "1")
            return True

        between.held = hold
        with pytest.raises(shmvar.SegmentFullError, match="maxmemory"):
            segment["a"] = "mine"
        assert len(between.kept) == 1
        full.call("CONFIG", "SET", "maxmemory", "0")
        with server_socket(full) as late:
            late.sendall(between.kept[0])
            assert late.recv(1000)
        assert local["a"] == "old"
        # And where the first copy was carried out, the refusal of the second one does not matter.
        between.held = None
        lost = []

        def lose(data):
            if b"EVALSHA" not in data or lost:
                return False
            lost.append(data)
            return True

        between.lose_after = lose
        done = segment._open._sorted_out

        def sorted_out(error):
            helpers.until(lambda: local["a"] == "mine")
            full.call("CONFIG", "SET", "maxmemory", "1")
            return done(error)

        segment._open._sorted_out = sorted_out
        segment["a"] = "mine"
        assert local["a"] == "mine" and lost
    finally:
        between.end()


def test_a_slot_is_kept_for_a_day_and_dropped_by_the_next_new_one(server, seg, key):
    seg.add("n")
    prefix = seg._requests.prefix
    (slot,) = (field for field in server.call("HKEYS", prefix) if field.startswith(b"c:"))
    number, at, answer = server.call("HGET", prefix, slot).split(b" ", 2)
    for hours, kept in ((23, True), (25, False)):
        aged = b"%b %d %b" % (number, int(at) - hours * 3_600_000_000, answer)
        server.call("HSET", prefix, slot, aged)
        for turn in range(20):
            shmvar.attach(key) if turn % 2 else shmvar.attach(key).add("n")
        assert bool(server.call("HEXISTS", prefix, slot)) is kept


def test_handles_that_are_never_attached_leave_no_slots_that_were_idle(server, seg):
    """A forked child and an unpickled handle run no `attach`: their slots were never dropped."""
    from shmvar._remote.numbered import Slot

    prefix = seg._requests.prefix
    for number in range(60):
        server.call("HSET", prefix, b"c:%012d" % number, b"1 1 o")
    for _ in range(60):
        seg._requests._slots[:] = [Slot()]
        seg.add("n")
    left = [field for field in server.call("HKEYS", prefix) if server.call("HGET", prefix, field) == b"1 1 o"]
    assert len(left) < 20


def server_socket(server):
    import socket

    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(10)
    connection.connect(server.socket)
    return connection


ADDER = """
signal.alarm(int(float(sys.argv[3])) + 500)
s = shmvar.attach(key)
me, done = sys.argv[2], 0
print("go", flush=True)
while "stop" not in s:
    s.add("total"); s.modify("list", lambda old: old + 1, 0); s.swap("swap" + me, done)
    done += 1
print(done, flush=True)
"""


@pytest.mark.slow
def test_connections_are_killed_all_the_time_and_each_change_is_made_once(own_server, children, capsys):
    killed_server = own_server()
    url = killed_server.url("kills", timeout=60)
    segment = shmvar.attach(url)
    seconds = float(os.environ.get("SHMVAR_REMOTE_SECONDS", "3"))
    children += [helpers.start(ADDER, url, number, seconds) for number in range(4)]
    kills = []
    for _ in helpers.looks(lambda: sum(kills) > 40, seconds, at_most=seconds + 300):
        kills.append(killed_server.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"))
        time.sleep(0.02)
    segment["stop"] = True
    counts = [int(child.stdout.readline()) for child in children]
    assert segment["total"] == sum(counts) == segment["list"] and sum(counts) > 0
    assert [segment[f"swap{number}"] for number in range(4)] == [count - 1 for count in counts]
    segment.check()
    with capsys.disabled():
        print(f"\n{sum(kills)} connections killed, {sum(counts)} adds, modifies and swaps each, all once")


def test_a_server_that_stands_still_counts_each_add_once(own_server):
    still = own_server()
    segment = shmvar.attach(still.url("still", timeout=20))
    link = segment._open
    link.attempt = 0.1
    done, end = [], threading.Event()

    def add():
        while not end.is_set():
            done.append(segment.add("n"))

    thread = threading.Thread(target=add)
    thread.start()
    for _ in range(3):
        before = len(done)
        helpers.until(lambda before=before: len(done) > before + 20)
        with still.stopped():
            time.sleep(0.5)
    end.set()
    thread.join(60)
    assert done == list(range(1, len(done) + 1)) and segment["n"] == len(done)


def test_a_forked_child_uses_the_handle_and_counts_once(seg):
    seg.add("n")

    def child():
        for _ in range(100):
            seg.add("n")

    pids = [helpers.fork(child) for _ in range(3)]
    for _ in range(100):
        seg.add("n")
    assert [helpers.reap(pid) for pid in pids] == [0] * 3
    assert seg["n"] == 401


def test_the_last_handle_that_is_detached_closes_the_connections(own_server):
    alone = own_server()
    handles = [shmvar.attach(alone.url(number)) for number in range(3)]
    helpers.in_threads(lambda number: [handles[number].add("n") for _ in range(50)], 3)
    connected = lambda: int(alone.call("INFO", "clients")["connected_clients"]) - 1  # noqa: E731 - less this one
    assert 1 <= connected() <= 3
    for handle in handles:
        handle.detach()
    helpers.until(lambda: connected() == 0)


def test_threads_share_a_handle(seg):
    helpers.in_threads(lambda _: [seg.add("n") for _ in range(200)], 8)
    assert seg["n"] == 1600
