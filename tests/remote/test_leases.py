"""Named locks on a server: what others get when an owner dies or stands still, and that it can then change nothing."""

import asyncio
import gc
import inspect
import os
import pickle
import signal
import socket
import statistics
import threading
import time

import helpers
import pytest
from helpers import servers
from helpers.machine import SLOWER

import shmvar
from shmvar._remote import link, owners

TURNS = 20 if "SHMVAR_REMOTE_SECONDS" in os.environ else 3

HOLD = """
s = shmvar.attach(key)
lock = s.lock("l")
with lock:
    print(lock.fence, flush=True)
    sys.stdin.read()
"""


def field(segment, name="l"):
    """The key of the locks and the field of one of them."""
    return segment._requests.data + b"l", b"s" + name.encode()


def steal(server, segment, name="l"):
    """Lets a lock end, as if others had had it meanwhile."""
    server.call("HDEL", *field(segment, name))


def taken_after(segment, seconds=60):
    """How long it takes to get the lock `l`; it is let go again."""
    began = time.monotonic()
    with segment.lock("l", timeout=seconds * SLOWER):
        return time.monotonic() - began


def elsewhere(call):
    """What a call returns in another thread."""
    got = []
    helpers.in_threads(lambda _: got.append(call()), 1)
    return got[0]


def late_copy(server, data):
    """Sends what was kept back of a client's requests, and waits for the answer."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(server.socket)
        connection.sendall(data)
        assert connection.recv(1000)


# --- fences, exclusion


def test_fences_grow_over_all_locks_processes_and_changes(seg, key):
    code = """
    s = shmvar.attach(key)
    for n in range(25):
        with s.lock("l") as lock:
            s["fences"] = [*s.get("fences", ()), lock.fence]
    """
    helpers.run_in_processes(code, key, count=3)
    fences = seg["fences"]
    assert len(fences) == 75 and fences == sorted(set(fences))
    before = seg.version("fences")
    with seg.lock("another") as lock:
        assert lock.fence > before and lock.lost is False
        seg["v"] = 1
        assert seg.version("v") > lock.fence
    assert lock.fence is None and lock.lost is False


def test_a_lock_of_any_host_excludes_a_forked_child_and_another_thread_and_the_child_owns_nothing(server, seg):
    with seg.lock("l"):
        assert not elsewhere(lambda: seg.lock("l").acquire(0))

        def child():
            assert not seg.lock("l").acquire(0.05)
            with pytest.raises(RuntimeError):
                seg.lock("l").release()
            # The child carries no locks: nothing is refused though the parent's was lost.
            steal(server, seg)
            seg["child"] = 1
            with seg.lock("l"):
                pass

        helpers.in_child(child)
        with pytest.raises(shmvar.LockLostError):
            seg["parent"] = 1
        with pytest.raises(shmvar.LockLostError):
            seg.lock("l").release()
        assert seg.lock("l").acquire(5)


# --- a lock that was lost


CHANGES = {
    "put": lambda seg: seg.put("a", 2),
    "put of a large value": lambda seg: seg.put("a", b"x" * 50_000),
    "put with a ttl": lambda seg: seg.put("a", 2, ttl=5),
    "touch": lambda seg: seg.touch("a"),
    "expire": lambda seg: seg.expire("a", 5),
    "remove": lambda seg: seg.remove("a"),
    "add": lambda seg: seg.add("a"),
    "add of a long int": lambda seg: seg.add("a", 10**30),
    "swap": lambda seg: seg.swap("a", 2),
    "compare_and_put": lambda seg: seg.compare_and_put("a", seg.version("a"), 2),
    "modify": lambda seg: seg.modify("a", str),
    "pop": lambda seg: seg.pop("a"),
    "popitem": lambda seg: seg.popitem(),
    "setdefault": lambda seg: seg.setdefault("b", 2),
    "put_many": lambda seg: seg.put_many({"a": 2, "b": 3}),
    "put_many of large values": lambda seg: seg.put_many({"a": b"x" * 50_000, "b": b"x" * 50_000}),
    "clear": lambda seg: seg.clear(),
    "resize": lambda seg: seg.resize(1 << 25),
    "trim": lambda seg: seg.trim(),
    "taking it again": lambda seg: seg.lock("l").acquire(),
}


@pytest.mark.parametrize("call", CHANGES)
def test_no_change_is_made_by_who_has_lost_a_lock(server, seg, key, call):
    seg.put_many({"a": 1, "kept": [1, 2]})
    before = seg.copy(), seg.version("a"), seg.size
    with seg.lock("still mine"):
        lock = seg.lock("l")
        lock.acquire()
        steal(server, seg)
        # Another handle of the same thread, too: the lock is the thread's.
        for handle in (seg, shmvar.attach(key)):
            if call != "taking it again" or lock.lost:
                with pytest.raises(shmvar.LockLostError, match='lock "l"') as caught:
                    CHANGES[call](handle)
                assert isinstance(caught.value, TimeoutError) and isinstance(caught.value, shmvar.Error)
            else:
                with pytest.raises(shmvar.LockLostError):
                    seg["a"] = 2
        assert (seg.copy(), seg.version("a"), seg.size) == before and lock.lost
        # Whoever holds nothing goes on.
        elsewhere(lambda: seg.put("others", 1))
        with pytest.raises(shmvar.LockLostError):
            lock.release()
        seg["mine again"] = 1
    assert not server.call("KEYS", seg._requests.data + b"b:*")


def test_the_end_of_a_block_raises_after_a_loss_unless_another_exception_is_on_its_way(server, seg):
    with pytest.raises(shmvar.LockLostError), seg.lock("l"):
        steal(server, seg)
    with pytest.raises(ZeroDivisionError), seg.lock("l"):
        steal(server, seg)
        raise ZeroDivisionError
    lock = seg.lock("l")
    lock.acquire()
    steal(server, seg)
    with pytest.raises(shmvar.LockLostError):
        lock.release()
    assert lock.lost
    with pytest.raises(RuntimeError):
        lock.release()
    with lock:
        assert not lock.lost

    async def task():
        with pytest.raises(shmvar.LockLostError):
            async with seg.lock("l") as lock:
                steal(server, seg)
                with pytest.raises(shmvar.LockLostError):
                    seg["a"] = 1
                assert lock.lost
        with pytest.raises(ZeroDivisionError):
            async with seg.lock("l"):
                steal(server, seg)
                raise ZeroDivisionError

    asyncio.run(task())
    assert "a" not in seg


def test_a_task_that_has_lost_its_lock_is_refused_and_another_task_is_not(server, seg):
    async def other(stolen):
        await stolen.wait()
        seg["other"] = 1
        # As asyncio wrappers do it: in a thread, for the task.
        await asyncio.get_running_loop().run_in_executor(None, owners.bound(seg.put), "other in a thread", 1)

    async def main():
        stolen = asyncio.Event()
        task = asyncio.create_task(other(stolen))
        with pytest.raises(shmvar.LockLostError):
            async with seg.lock("l"):
                steal(server, seg)
                stolen.set()
                await task
                for call in (seg.put, owners.bound(seg.put)):
                    with pytest.raises(shmvar.LockLostError):
                        await asyncio.get_running_loop().run_in_executor(None, owners.bound(call), "mine", 1)
                seg["mine"] = 1

    asyncio.run(main())
    assert dict(seg) == {"other": 1, "other in a thread": 1}


def test_a_change_without_a_held_lock_sends_what_it_sent_before(seg, monkeypatch):
    sent = []
    run = link.Link.run

    def noted(self, requests, *rest):
        sent.append(requests)
        return run(self, requests, *rest)

    monkeypatch.setattr(link.Link, "run", noted)

    def size_of_a_put():
        seg["a"] = 1
        sent.clear()
        seg["a"] = 1
        return sum(len(part) for part in sent.pop())

    # The number of the request has another digit now and then.
    before = size_of_a_put() + 4
    with seg.lock("l"), seg.lock("a lock with a longer name"):
        assert size_of_a_put() > before + 40 and elsewhere(size_of_a_put) <= before
    assert size_of_a_put() <= before


# --- owners that die, stand still or are cut off


def test_the_lock_of_a_killed_owner_is_handed_on_after_grace(new_key, children, capsys):
    key = new_key()
    segment = shmvar.attach(key)
    times = []
    for _ in range(TURNS):
        child = helpers.start(HOLD, key)
        children.append(child)
        assert not segment.lock("l").acquire(0) and segment.lock("l").locked()
        child.kill()
        child.wait(20)
        times.append(taken_after(segment))
    # Of the lease, 10 s, nothing: the server saw the connection end.
    assert min(times) > 0.2 and statistics.median(times) < 3 * SLOWER
    with capsys.disabled():
        print(f"\nkilled owner: handed on {len(times)} of {TURNS}, after {min(times):.2f} to {max(times):.2f} s")


def test_a_killed_owner_is_seen_by_locked_by_info_and_by_a_reader(new_key, children):
    key = new_key()
    segment = shmvar.attach(key)
    child = helpers.start(HOLD, key)
    children.append(child)
    with shmvar.attach(key, readonly=True) as reader:
        for handle in (segment, reader):
            assert handle.lock("l").locked() and handle.info().locks == {"l": child.pid} and handle.check().locks == 1
        with pytest.raises(shmvar.ReadOnlyError):
            reader.lock("l").acquire(0)
        child.kill()
        child.wait(20)
        for handle in (segment, reader):
            helpers.until(lambda handle=handle: not handle.lock("l").locked())
            assert handle.info().locks == {}


STOPPED = """
s = shmvar.attach(key)
lock = s.lock("l")
lock.acquire()
s["by"] = "first"
print(lock.fence, flush=True)
sys.stdin.readline()
try:
    s["by"] = "first again"
except shmvar.LockLostError:
    print("refused", lock.lost, flush=True)
try:
    lock.release()
except shmvar.LockLostError:
    print("lost", flush=True)
with s.lock("l", timeout=60) as lock:
    s["by"] = "first at last"
    print(lock.fence, flush=True)
"""


def test_a_stopped_owner_loses_its_lock_after_the_lease_and_its_change_is_refused(server, new_key, children):
    key = new_key().replace("#", "?lease=1#")
    segment = shmvar.attach(key)
    child = helpers.start(STOPPED, key)
    children.append(child)
    child.send_signal(signal.SIGSTOP)
    with segment.lock("l", timeout=60 * SLOWER) as lock:
        second = lock.fence
        segment["by"] = "second"
        child.send_signal(signal.SIGCONT)
        child.stdin.write("\n")
        child.stdin.flush()
        assert child.stdout.readline() == "refused True\n" and child.stdout.readline() == "lost\n"
        assert segment["by"] == "second"
    third = int(child.stdout.readline())
    assert int(child.said) < second < third and child.wait(60) == 0 and segment["by"] == "first at last"


def test_a_stopped_owner_keeps_what_nobody_else_has_taken(new_key, children):
    key = new_key().replace("#", "?lease=0.3#")
    segment = shmvar.attach(key)
    child = helpers.start(HOLD.replace("sys.stdin.read()", "sys.stdin.readline(); s['v'] = 1"), key)
    children.append(child)
    child.send_signal(signal.SIGSTOP)
    helpers.until(lambda: not segment.lock("l").locked())
    child.send_signal(signal.SIGCONT)
    child.stdin.write("\n")
    child.stdin.flush()
    assert child.wait(60) == 0 and segment["v"] == 1


PROXY = """
sys.path.insert(0, sys.argv[2])
from helpers.servers import Proxy
print(Proxy(key).port, flush=True)
sys.stdin.read()
"""


def test_the_lock_of_a_host_that_vanished_is_handed_on_after_the_lease(server, new_key, children):
    """Whatever is between the host and the server goes on keeping the connections, so that no end of them is seen."""
    local = new_key()
    segment = shmvar.attach(local)
    network = helpers.start(PROXY, server.socket, os.path.dirname(os.path.dirname(__file__)))
    children.append(network)
    key = servers.Server.tcp(server, local.partition("#")[2], port=int(network.said), lease=3)
    host = helpers.start(HOLD, key)
    children.append(host)
    network.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    host.kill()
    host.wait(20)
    # What was left of the lease by then, however late the last renewal was.
    with segment.lock("l", timeout=60 * SLOWER):
        assert time.monotonic() - began > 0.7


def test_an_owner_whose_connections_are_cut_keeps_its_lock(own_server, children):
    cut = own_server()
    # Between the end of a connection and the next one lies the scheduler of a busy machine.
    key = cut.url("cut", grace=2 * SLOWER)
    segment = shmvar.attach(key)
    child = helpers.start(HOLD.replace("sys.stdin.read()", "sys.stdin.readline(); s['v'] = 1"), key)
    children.append(child)
    waiter = threading.Thread(target=lambda: segment.lock("l", timeout=100).acquire(), daemon=True)
    waiter.start()
    process = cut.call("HGET", *field(segment)).partition(b".")[0]
    presence = segment._requests.data + b"p:" + process
    for _ in range(5):
        for kind in ("pubsub", "normal"):
            cut.call("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
        helpers.until(lambda: cut.call("PUBSUB", "SHARDNUMSUB", presence)[1], what="presence")
        assert segment.info().locks == {"l": child.pid}
    assert waiter.is_alive()
    child.stdin.write("\n")
    child.stdin.flush()
    assert child.wait(60) == 0 and segment["v"] == 1
    waiter.join(60)
    assert not waiter.is_alive()


def test_whose_lock_it_is_follows_from_the_session_of_its_owner(server, new_key):
    """Each step of the page's list, with the records of an owner that does not exist."""
    grace = 0.5
    segment = shmvar.attach(new_key().replace("#", f"?grace={grace}#"))
    lock, owner = segment.lock("l"), b"0123456789ab"
    run = next(line for line in server.raw(b"INFO", b"server").split() if line.startswith(b"run_id:"))[7:]

    def begin(session):
        server.call("HSET", *field(segment), owner + b".5 7")
        server.call("HDEL", segment._requests.data + b"o", owner)
        if session:
            server.call("HSET", segment._requests.data + b"o", owner, session)

    def session(lasts, run, dead):
        now = int(time.time() * 1e6)
        return b"%d %b %d 2000000 1" % (now + lasts * 1_000_000, run, now + dead * 1_000_000 if dead else 0)

    def mark():
        return server.call("HGET", segment._requests.data + b"o", owner).split()[2]

    # 1. Nobody has anything to wait for.
    for ended in (None, b"", b"no session", session(1_000_000_000, run, 0)):
        begin(ended)
        assert not lock.locked() and lock.acquire(0) and lock.release() is None, ended
    # 2. Its connection is there, and a mark is wiped, however old it is.
    begin(session(1000, run, -100))
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(server.socket)
        channel = segment._requests.data + b"p:" + owner
        connection.sendall(link.pack(b"SSUBSCRIBE", channel))
        assert connection.recv(1000)
        assert lock.locked() and segment.info().locks == {"l": 1} and not lock.acquire(0) and mark() == b"0"
        # But a connection that nobody is heard of on ends with the lease, and `grace`.
        begin(session(-1, run, 0))
        began = time.monotonic()
        assert not lock.acquire(0) and mark() != b"0"
        assert lock.acquire(60) and time.monotonic() - began >= grace and lock.release() is None
    helpers.until(lambda: not server.call("PUBSUB", "SHARDNUMSUB", channel)[1])
    # 3. and 4. The session of another server: a lease from the first look, whatever the mark and the deadline say.
    for where, lasts, dead in (
        (b"other", 1000, 0),
        (b"other", 1000, -100),
        (b"+other", -1, 0),
        (b"other", -9999, -100),
    ):
        begin(session(lasts, where, dead))
        assert segment.info().locks == ({"l": 1} if lasts > 0 else {}) and lock.locked() == (lasts > 0)
        began = time.monotonic()
        assert not lock.acquire(0) and lock.locked() and segment.info().locks == {"l": 1}
        assert lock.acquire(60) and time.monotonic() - began >= 2 + grace and lock.release() is None
    begin(session(1000, b"+" + run, -100))
    assert lock.locked() and not lock.acquire(2 * grace)
    # 5. and 6. The first who misses it makes a mark, and from then on it has `grace`; a mark of the future is none. A
    # deadline that has passed is no end by itself: the server may have stood still.
    for lasts, dead in ((1000, 0), (1000, 1000), (-1, 0), (-9999, 0)):
        begin(session(lasts, run, dead))
        began = time.monotonic()
        assert not lock.acquire(0) and abs(int(mark()) / 1e6 - time.time()) < 60
        assert lock.acquire(60) and time.monotonic() - began >= grace and lock.release() is None
    begin(session(1000, run, -1))
    assert lock.acquire(0) and lock.release() is None


def test_a_handle_with_a_shorter_lease_does_not_shorten_the_session_of_its_process(server, new_key):
    key = new_key()
    long, short = (shmvar.attach(key.replace("#", f"?lease={lease}#")) for lease in (1000, 1))
    session = long._requests.data + b"o"

    def now_and_then():
        text = server.call("HGET", session, owners.process()).split()
        return int(text[0]), int(text[3])

    with long.lock("long"):
        before = now_and_then()
        with short.lock("short"):
            # The renewals of the shorter one come in between, too.
            for _ in helpers.looks(seconds=1, turns=3):
                assert now_and_then() >= before
                time.sleep(0.1)
    assert before[1] == 1_000_000_000


def test_a_session_that_ended_today_is_kept_for_its_owner_may_come_back(server, seg):
    sessions, now = seg._requests.data + b"o", time.time_ns() // 1000
    server.call("HSET", sessions, b"%012d" % 1, b"%d other 0 10000000 1" % (now - 3600_000_000))
    for number in range(40):
        server.call("HDEL", sessions, owners.process())
        with seg.lock(number):
            pass
    assert server.call("HEXISTS", sessions, b"%012d" % 1)


def test_a_living_owner_keeps_its_lock_though_the_server_stood_still_beyond_its_lease(own_server, children):
    still = own_server()
    key = still.url("still", lease=1.5, grace=1.5, timeout=60)
    segment = shmvar.attach(key)
    child = helpers.start(HOLD.replace("sys.stdin.read()", "sys.stdin.readline(); s['v'] = 1"), key)
    children.append(child)
    waiter = threading.Thread(target=lambda: segment.lock("l", timeout=100).acquire(), daemon=True)
    waiter.start()
    for _ in range(2):
        with still.stopped():
            time.sleep(2)
        for _ in helpers.looks(seconds=1, turns=3):
            assert waiter.is_alive()
            time.sleep(0.05)
    child.stdin.write("\n")
    child.stdin.flush()
    assert child.wait(60) == 0 and segment["v"] == 1
    waiter.join(60)
    assert not waiter.is_alive()


def test_leases_are_renewed(server, new_key):
    segment = shmvar.attach(new_key().replace("#", "?lease=4#"))
    session = segment._requests.data + b"o"

    def deadline():
        return int(server.call("HGET", session, owners.process()).split()[0])

    with segment.lock("l") as lock:
        first = deadline()
        helpers.until(lambda: deadline() > first + 1_500_000, what="a renewal")
        assert not lock.lost
        segment["v"] = 1


def test_a_server_that_restarts_with_its_file_has_its_locks_and_the_owner_keeps_its_own(own_server):
    kept = own_server("--appendonly", "yes", "--appendfsync", "always")
    segment = shmvar.attach(kept.url("restart", timeout=60))
    other = shmvar.attach(kept.url("restart", timeout=60))
    with segment.lock("l") as lock:
        segment["v"] = 1
        kept.kill()
        kept.start()
        # `run` is another: the owner has its lease to come back.
        assert not elsewhere(lambda: other.lock("l").acquire(1))
        segment["v"] = 2
        assert not lock.lost and segment["v"] == 2
        # And its presence is known at the new server: it could be seen to die there.
        run = next(line for line in kept.raw(b"INFO", b"server").split() if line.startswith(b"run_id:"))[7:]
        session = segment._requests.data + b"o"
        helpers.until(lambda: kept.call("HGET", session, owners.process()).split()[1] == run)
    assert elsewhere(lambda: other.lock("l").acquire(5))


def test_a_lock_that_the_file_of_the_server_has_not_is_lost(own_server):
    old = own_server()
    segment = shmvar.attach(old.url("older", timeout=60))
    segment["v"] = 1
    old.call("SAVE")
    with pytest.raises(shmvar.LockLostError), segment.lock("l"):
        old.kill()
        old.start()
        with pytest.raises(shmvar.LockLostError):
            segment["v"] = 2
        assert segment["v"] == 1


def test_locks_of_a_destroyed_segment_are_gone(new_key):
    key = new_key()
    seg = shmvar.attach(key)
    with pytest.raises(shmvar.SegmentNotFoundError), seg.lock("l"):
        shmvar.destroy(key)
        successor = shmvar.attach(key)
        with successor.lock("l", timeout=0):
            successor["v"] = 1
        with pytest.raises(shmvar.SegmentNotFoundError):
            seg["v"] = 2


# --- answers that are lost, and copies that come late


@pytest.fixture
def through(server, new_key, proxy):
    """A segment, and a handle on it through the proxy."""
    key = new_key()
    local = shmvar.attach(key)
    segment = shmvar.attach(servers.Server.tcp(server, key.partition("#")[2], port=proxy.port))
    with segment.lock("warm"):
        segment["v"] = 0
    return local, segment


@pytest.mark.parametrize("op", [b"take", b"free"])
def test_a_request_whose_answer_was_lost_is_repeated_and_no_loss(through, proxy, op):
    local, segment = through
    for _ in range(3):
        proxy.lost = 0
        proxy.lose_after = lambda data: b"EVAL" in data and b"\r\n" + op + b"\r\n" in data and not proxy.lost
        with segment.lock("l") as lock:
            segment.add("v")
            assert not lock.lost and elsewhere(lambda: not local.lock("l").acquire(0))
        assert proxy.lost == 1
        proxy.lose_after = None
        assert local.lock("l").acquire(0)
        local.lock("l").release()
    assert local["v"] == 3


def test_a_late_copy_of_a_taking_that_was_in_vain_takes_nothing(server, through, proxy):
    local, segment = through
    with local.lock("l"):
        proxy.held = lambda data: b"\r\ntake\r\n" in data and not proxy.kept
        assert elsewhere(lambda: segment.lock("l").acquire(0)) is False and len(proxy.kept) == 1
        proxy.held = None
    late_copy(server, proxy.kept[0])
    assert not local.lock("l").locked() and local.lock("l").acquire(0)


def test_a_taking_that_is_interrupted_leaves_nothing_though_a_copy_comes_late(server, through, proxy, monkeypatch):
    local, segment = through
    answers = link.Link._answers

    def interrupted(self, connection, count):
        monkeypatch.setattr(link.Link, "_answers", answers)
        raise KeyboardInterrupt

    for held in (False, True):
        proxy.kept.clear()
        proxy.held = lambda data, held=held: held and b"\r\ntake\r\n" in data and not proxy.kept
        monkeypatch.setattr(link.Link, "_answers", interrupted)
        with pytest.raises(KeyboardInterrupt):
            segment.lock("l").acquire()
        with pytest.raises(RuntimeError):
            segment.lock("l").release()
        if held:
            helpers.until(lambda: proxy.kept)
            proxy.held = None
            # The thread that lets go what may be ours has said so before the copy comes.
            number = proxy.kept[0].split(b"\r\nc:")[1].split(b"\r\n")
            slot = b"c:" + number[0]
            recorded = lambda slot=slot: server.call("HGET", local._requests.prefix, slot)  # noqa: E731
            helpers.until(lambda recorded=recorded, n=number[2]: (recorded() or b"").startswith(n + b" "))
            late_copy(server, proxy.kept[0])
        assert local.lock("l").acquire(30) and local.lock("l").release() is None


def test_a_release_that_cannot_reach_the_server_is_made_when_it_is_back(own_server):
    still = own_server()
    segment, other = shmvar.attach(still.url("still", timeout=1.5)), shmvar.attach(still.url("still"))
    lock = segment.lock("l")
    lock.acquire()
    with still.stopped():
        with pytest.raises(shmvar.SegmentUnavailableError):
            lock.release()
        with pytest.raises(RuntimeError):
            lock.release()
    assert other.lock("l").acquire(5 * SLOWER)


# --- what ends without letting go


def test_a_thread_a_task_and_a_handle_that_end_let_go(seg, key):
    assert elsewhere(lambda: seg.lock("l").acquire())
    assert taken_after(seg, 8) < 8 * SLOWER

    async def main():
        await seg.lock("l").__aenter__()

    asyncio.run(main())
    helpers.until(lambda: not seg.lock("l").locked())
    shmvar.attach(key).lock("l").acquire()
    helpers.until(lambda: not seg.lock("l").locked())
    handle = shmvar.attach(key)
    handle.lock("l").acquire()
    handle.detach()
    assert elsewhere(lambda: seg.lock("l").acquire(0))


def test_a_coroutine_that_is_closed_lets_go(seg):
    async def hold():
        async with seg.lock("l"), seg.lock("l"):
            await asyncio.sleep(100)

    loop = asyncio.new_event_loop()
    task = loop.create_task(hold())
    task._log_destroy_pending = False
    loop.run_until_complete(asyncio.sleep(0))
    for _ in helpers.looks(lambda: seg.lock("l").locked()):
        loop.run_until_complete(asyncio.sleep(0.001))
    loop.close()
    del task
    gc.collect()
    helpers.until(lambda: not seg.lock("l").locked())


def test_a_task_that_is_cancelled_while_it_asks_or_waits_has_nothing(seg):
    async def hold():
        async with seg.lock("l"):
            await asyncio.sleep(0)

    async def main():
        for turn in range(60):
            task = asyncio.create_task(hold())
            # From nothing done to everything done.
            await asyncio.sleep(turn * 0.0001)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            async with seg.lock("l", timeout=30):
                pass

    asyncio.run(main())
    helpers.until(lambda: seg.info().locks == {})


# --- rights, memory, damage


def test_the_rights_of_the_page_are_enough_for_locks(own_server):
    guarded = own_server(port=servers.free_port())
    for name in ("app", "reader"):
        assert guarded.call("ACL", "SETUSER", name, "on", f">{name}-secret", *servers.rights(name)) == b"OK"
    segment = shmvar.attach(guarded.tcp("acl", "app:app-secret@"))
    reader = shmvar.attach(guarded.tcp("acl", "reader:reader-secret@"), readonly=True)
    with segment.lock("l"):
        segment["v"] = 1
        assert elsewhere(lambda: segment.lock("l").acquire(0.2)) is False
        assert reader.lock("l").locked() and reader.info().locks == {"l": os.getpid()} and segment.check().locks == 1
    session = segment._requests.data + b"o"
    assert guarded.call("HGET", session, owners.process()).split()[1] != b"-", "presence was not confirmed"
    assert not reader.lock("l").locked()
    for lacking in ("-ssubscribe", "-spublish", "-hset", "resetchannels"):
        rights = [word for word in servers.rights("app") if lacking != "resetchannels" or not word.startswith("&")]
        guarded.call("ACL", "SETUSER", "lacks", "reset", "on", ">secret", *rights, lacking)
        handle = shmvar.attach(guarded.tcp("acl", "lacks:secret@", timeout=3))
        with pytest.raises(shmvar.SegmentAccessError, match="Remedies"), handle.lock("l", timeout=5):
            pass


def test_a_full_server_refuses_locks_and_lets_go_and_renews(own_server):
    full = own_server()
    segment, other = shmvar.attach(full.url("full", lease=1)), shmvar.attach(full.url("full"))
    lock = segment.lock("l")
    lock.acquire()
    full.call("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(shmvar.SegmentFullError, match="maxmemory"):
        segment.lock("another").acquire()
    with pytest.raises(shmvar.SegmentFullError, match="maxmemory"):
        segment["v"] = 1
    # Renewed: twice the lease later it is still held.
    for _ in helpers.looks(seconds=2, turns=3):
        assert other.lock("l").locked() and not lock.lost
        time.sleep(0.1)
    lock.release()
    assert not other.lock("l").locked()
    full.call("CONFIG", "SET", "maxmemory", "0")
    assert other.lock("l").acquire(5)


def test_each_byte_of_a_lock_and_of_a_session_changed_is_a_typed_error_or_nothing(server, seg, key):
    other = shmvar.attach(key.replace("#", "?grace=0.001#"))
    for which in ("l", "o"):
        with seg.lock("warm"):
            name = seg._requests.data + which.encode()
            part = b"swarm" if which == "l" else owners.process()
            length = len(server.call("HGET", name, part))
        for place in range(length + 1):
            lock = seg.lock("l")
            lock.acquire()
            part = b"sl" if which == "l" else owners.process()
            record = server.call("HGET", name, part)
            changed = record[:place] if place == length - 1 else record[:place] + b"\xff" + record[place + 1 :]
            server.call("HSET", name, part, changed if place < length else b"9" * 400)
            calls = [
                lambda: seg.put("v", 1),
                lambda: elsewhere(lambda: other.lock("l").locked()),
                lambda: seg.info(),
                lambda: elsewhere(lambda: typed(lambda: other.lock("l").acquire(0.02))),
                lock.release,
            ]
            for call in calls:
                typed(call)
            server.call("HDEL", name, part)
    assert seg.lock("l").acquire(5) and seg.lock("l").release() is None


def typed(call):
    try:
        return call()
    except (shmvar.LockLostError, shmvar.CorruptSegmentError) as error:
        return error


@pytest.mark.parametrize("which", ["l", "o"])
def test_a_key_of_another_type_is_a_typed_error(server, seg, which):
    name = seg._requests.data + which.encode()
    server.call("SET", name, "another type")
    for call in (seg.lock("l").acquire, seg.lock("l").locked if which == "l" else seg.lock("l").acquire):
        with pytest.raises(shmvar.IncompatibleSegmentError):
            call()
    server.call("DEL", name)
    with seg.lock("l"):
        pass


def test_sessions_that_have_ended_are_dropped(server, seg):
    sessions = seg._requests.data + b"o"
    for number in range(40):
        server.call("HSET", sessions, b"%012d" % number, b"1 - 0 1")
    for number in range(80):
        # As if it had not been renewed: the next acquisition writes it anew.
        server.call("HDEL", sessions, owners.process())
        with seg.lock(number):
            pass
    assert server.call("HLEN", sessions) < 10


def test_a_lock_has_the_interface_of_the_local_one(seg):
    local = {name for name in dir(shmvar.Lock) if not name.startswith("_")}
    lock = seg.lock("l", timeout=2)
    assert {name for name in dir(lock) if not name.startswith("_")} == local | {"fence", "lost"}
    for name in (*local, "fence", "lost", "__enter__", "__exit__", "__aenter__", "__aexit__"):
        ours, theirs = getattr(type(lock), name), getattr(shmvar.Lock, name, None)
        assert ours.__doc__, name
        if callable(ours) and not name.startswith("__"):
            assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters)
    assert (lock.name, lock.segment, lock.timeout) == ("l", seg, 2.0) and seg.lock().name == 0
    assert repr(lock) == f'<shmvar.RemoteLock "l" of segment {seg.url}>'
    with pytest.raises(TypeError):
        pickle.dumps(lock)
    for wrong in ("x", -1, float("nan")):
        with pytest.raises((TypeError, ValueError)):
            seg.lock(timeout=wrong)
        with pytest.raises((TypeError, ValueError)):
            lock.acquire(wrong)
    with pytest.raises(TypeError):
        seg.lock([])
