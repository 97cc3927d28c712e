"""A change is carried out once, however often the network made the client send it."""

import contextlib
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


def test_an_interrupt_while_an_answer_is_outstanding_leaves_a_usable_handle(seg, monkeypatch):
    seg["n"] = 0
    link = seg._open
    answers = type(link)._answers

    def interrupted(self, connection, count):
        monkeypatch.setattr(type(link), "_answers", answers)
        raise KeyboardInterrupt

    for _ in range(20):
        monkeypatch.setattr(type(link), "_answers", interrupted)
        with pytest.raises(KeyboardInterrupt):
            seg.add("n")
        # The next answer on a connection is that of the next request, and no number of a slot comes twice.
        before = seg["n"]
        assert seg.add("n") in (before + 1, before + 2)
    helpers.until(lambda: seg["n"] == 40)
    seg.check()


class OwnDeadline(TimeoutError):
    """Of a caller, who has a signal handler that raises it."""


@pytest.mark.parametrize("own", [TimeoutError, OwnDeadline, ConnectionResetError, OSError])
def test_the_callers_own_deadline_is_not_taken_for_a_lost_connection(own_server, own):
    import signal

    still = own_server()
    segment = shmvar.attach(still.url("still", timeout=20))
    segment["n"] = 1

    def deadline(*_):
        raise own("my own deadline")

    before = signal.signal(signal.SIGALRM, deadline)
    try:
        for call in (lambda: segment["n"], lambda: segment.add("n")):
            with still.stopped(), helpers.promptly(10), pytest.raises(own, match="my own deadline"):
                try:
                    raise ValueError("which the caller is handling")
                except ValueError:
                    signal.setitimer(signal.ITIMER_REAL, 0.2)
                    call()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    # And an error of the network in a handler of the caller's error is one of the network.
    still.kill()
    with pytest.raises(shmvar.SegmentUnavailableError), contextlib.suppress(KeyError):
        try:
            raise ValueError("which the caller is handling")
        except ValueError:
            shmvar.attach(still.url("still", timeout=0.2))["n"]


def test_an_error_after_a_lost_answer_says_that_the_change_may_have_been_applied(own_server):
    guarded = own_server()
    guarded.call("ACL", "SETUSER", "app", "on", ">secret", "~*", "&*", "+@all")
    between = servers.Proxy(guarded.socket)
    try:
        segment = shmvar.attach(guarded.tcp("n", "app:secret@", port=between.port))
        # The server knows the script from now on.
        segment["n"] = 0
        done = segment._open._sorted_out

        def sorted_out(error):
            if between.lost:
                helpers.until(lambda: shmvar.attach(guarded.url("n")).get("n") == 1)
                guarded.call("ACL", "SETUSER", "app", "resetpass", ">another")
            return done(error)

        segment._open._sorted_out = sorted_out
        between.lose_after = lambda data: b"EVAL" in data and not between.lost
        with pytest.raises(shmvar.SegmentAccessError, match="add to 'n' may have been applied") as caught:
            segment.add("n")
        assert caught.value.maybe_applied is True and "secret" not in str(caught.value)
        between.lose_after = None
        with pytest.raises(shmvar.SegmentAccessError) as caught:
            segment["n"]
        assert not hasattr(caught.value, "maybe_applied") and "may have" not in str(caught.value)
    finally:
        between.end()


def test_a_script_that_an_administrator_kills_is_tried_again(seg, monkeypatch):
    from redis.exceptions import ResponseError

    link = type(seg._open)
    answers, killed = link._answers, []

    def kill(self, connection, count):
        found = answers(self, connection, count)
        if not killed:
            killed.append(found)
            return [ResponseError("Error running script (call to x): Script killed by user with SCRIPT KILL.")]
        return found

    monkeypatch.setattr(link, "_answers", kill)
    assert seg.add("n") == 1 and killed


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


def test_when_time_is_up_the_error_says_whether_it_may_have_been_applied(own_server):
    still = own_server()
    segment = shmvar.attach(still.url("up", timeout=1.5))
    segment["n"] = 1
    with still.stopped():
        with pytest.raises(shmvar.SegmentUnavailableError, match="add to 'n' may have been applied") as caught:
            segment.add("n")
        assert caught.value.maybe_applied is True and isinstance(caught.value, ConnectionError)
        with pytest.raises(shmvar.SegmentUnavailableError) as caught:
            segment["n"]
        assert caught.value.maybe_applied is False and "may have" not in str(caught.value)
    helpers.until(lambda: segment.add("n", 0) in (1, 2))
    still.kill()
    with pytest.raises(shmvar.SegmentUnavailableError) as caught:
        segment.add("n")
    with pytest.raises(shmvar.SegmentUnavailableError) as caught:
        segment.add("n")
    assert caught.value.maybe_applied is False, "nothing was ever sent"


def test_an_answer_that_comes_byte_after_byte_ends_with_the_time(server, new_key, proxy):
    """Each byte is in time for the socket, and all of them never are."""
    name = new_key().partition("#")[2]
    segment = shmvar.attach(servers.Server.tcp(server, name, port=proxy.port, timeout=4))
    segment["v"] = "x" * 5000
    proxy.drip = 0.05
    with helpers.promptly(), pytest.raises(shmvar.SegmentUnavailableError, match="not complete after"):
        segment["v"]
    proxy.cut()
    proxy.drip = 0.0
    assert segment["v"] == "x" * 5000


def test_a_server_that_is_killed_and_started_again_keeps_what_its_file_has(own_server):
    kept = own_server("--appendonly", "yes", "--appendfsync", "everysec")
    segment = shmvar.attach(kept.url("restart", timeout=30))
    acknowledged, versions, end = [0], [], threading.Event()

    def add():
        while not end.is_set():
            acknowledged[0] = segment.add("n")
            versions.append(segment.version("n"))

    thread = threading.Thread(target=add)
    thread.start()
    for _ in range(2):
        helpers.until(lambda count=acknowledged[0]: acknowledged[0] > count + 50)
        kept.kill()
        kept.start()
    helpers.until(lambda count=acknowledged[0]: acknowledged[0] > count + 50)
    end.set()
    thread.join(60)
    # The process died, the machine did not: what was acknowledged is in the file.
    assert segment["n"] == acknowledged[0] and versions == sorted(set(versions))
    segment.check()


def test_a_server_that_starts_empty_has_no_such_segment(own_server):
    empty = own_server()
    segment = shmvar.attach(empty.url("empty"))
    segment[1] = 1
    empty.kill()
    empty.start()
    for call in (lambda: segment[1], lambda: segment.add(1), lambda: len(segment), segment.clear, segment.info):
        with pytest.raises(shmvar.SegmentNotFoundError):
            call()


def test_versions_grow_though_a_server_comes_back_with_older_data(own_server):
    """The clock is in every version: a number is not given again to another value."""
    old = own_server()
    segment = shmvar.attach(old.url("older", timeout=20))
    for number in range(50):
        segment["v"] = number
    old.call("SAVE")
    for number in range(50, 100):
        segment["v"] = number
    before = segment.version("v")
    old.kill()
    old.start()
    assert segment["v"] == 49 and segment.version("v") < before, "the server has lost fifty changes"
    for number in range(200, 210):
        segment["v"] = number
        assert segment.version("v") > before
    segment.check()


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
