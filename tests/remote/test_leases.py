"""Named locks on a server whose owner dies, stands still or is cut off: who gets them, and when."""

import os
import signal
import socket
import statistics
import threading
import time

import helpers
import pytest
from helpers import servers
from helpers.machine import SLOWER
from helpers.remote_locks import HOLD, elsewhere, field, taken_after

import shmvar
from shmvar._remote import link, owners

TURNS = 20 if "SHMVAR_REMOTE_SECONDS" in os.environ else 3


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
