"""The near cache: reads of a segment on a server from the memory of this machine. docs/remote.md, "Near cache"."""

import asyncio
import contextlib
import gc
import itertools
import multiprocessing
import os
import random
import signal
import socket
import threading
import time
import warnings
from array import array
from types import SimpleNamespace

import numpy
import pytest
from helpers import event_loops, machine, servers
from helpers.machine import SLOWER

import shmvar
from shmvar._remote import near_listener, near_memory
from shmvar._remote.near_memory import ALIVE, CONTROL, EPOCH, FLOORS, HEARD

LONG = 10 * SLOWER
NEAR = "4MiB"
NUMBERS = itertools.count(1)


def caches():
    return {info.key for info in shmvar.segments() if isinstance(info.key, str) and info.key.startswith("shmvar near ")}


@pytest.fixture(autouse=True)
def nothing_is_left():
    before = caches()
    yield
    gc.collect()
    until = time.monotonic() + LONG
    # A thread may be opening another one just now, which it closes at once.
    while caches() - before and time.monotonic() < until:
        time.sleep(0.01)
    assert caches() <= before


def until(condition, seconds=LONG):
    """Waits until something holds, and returns it."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.002)
    return found


def memory(segment):
    return segment._near.memory


def awake(segment):
    """Waits until entries may be used."""
    until(
        lambda: memory(segment).words[EPOCH] and memory(segment).words[ALIVE] > time.clock_gettime(time.CLOCK_BOOTTIME)
    )
    return segment


def is_hit(segment, index):
    return segment._near.hit(segment, index) is not None


def cached(segment, index):
    """Reads until it is a hit, and returns the value."""
    until(lambda: (segment.get(index), is_hit(segment, index))[1])
    return segment[index]


def open_pair(server):
    """A handle with a near cache, and one without, on a new segment."""
    key = f"near-{os.getpid()}-{next(NUMBERS)}"
    return awake(shmvar.attach(server.url(key, near=NEAR))), shmvar.attach(server.url(key))


@pytest.fixture
def pair(server):
    near, plain = open_pair(server)
    yield near, plain
    near.detach()
    with contextlib.suppress(shmvar.SegmentNotFoundError):
        plain.destroy()


VALUES = [
    7, 1.5, "text", b"bytes", bytearray(b"array"), array("i", [1, 2]), [1, {"a": (2, None)}], True, None, 1 << 700,
    numpy.arange(5), b"b" * 100_000, bytearray(100_000), array("d", [1.0] * 10_000),
    {"field": numpy.arange(30_000).reshape(3, -1), "name": "x"},
]  # fmt: skip


def alike(one, two):
    if isinstance(one, numpy.ndarray):
        return type(one) is type(two) and one.flags.writeable == two.flags.writeable and (one == two).all()
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(alike(one[key], two[key]) for key in one)
    if isinstance(one, memoryview):
        return (one.readonly, one.format, one.tobytes()) == (two.readonly, two.format, two.tobytes())
    return type(one) is type(two) and one == two


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_what_is_cached_is_what_the_server_gives(pair, value):
    near, plain = pair
    plain["v"] = value
    assert alike(cached(near, "v"), plain["v"])
    assert alike(near.view("v"), plain.view("v")) and alike(near.view("v"), plain.view("v"))
    assert alike(near.get("v"), plain["v"])


def test_a_value_read_from_the_cache_is_the_readers_own(pair):
    near, plain = pair
    plain["list"], plain["array"] = [1], numpy.zeros(30_000)
    cached(near, "list").append(2)
    cached(near, "array")[0] = 5
    assert near["list"] == [1] and near["array"][0] == 0


def test_a_change_by_somebody_else_comes(pair):
    near, plain = pair
    for number in range(100):
        plain["n"] = number
        until(lambda number=number: near["n"] == number)
    plain.add("n", 1000)
    until(lambda: near["n"] == 1099)
    del plain["n"]
    until(lambda: near.get("n") is None)


def test_own_changes_are_seen_at_once(pair):
    near, _ = pair
    # What the cache believed before each change would be found again, if the change did not make it void itself.
    near._near._follower._take = None
    for number in range(50):
        near["n"] = number
        assert near["n"] == number
        assert near.add("n", 1) == near["n"] == near.get("n")
        near.put_many({"n": -number, "m": 1})
        assert near["n"] == -number
        assert near.swap("n", 5) == -number and near["n"] == 5
        assert near.modify("n", lambda n: n + 1) == near["n"] == 6
        near.touch("n")
        assert near.pop("n") == 6 and near.get("n") is None
        near["n"] = numpy.full(10_000, number)
        assert near["n"][0] == number
        near.clear()
        assert near.get("n") is None


@pytest.fixture
def deaf(pair, monkeypatch):
    """A pair whose listener hears nothing for a while, though the cache is alive."""
    near, plain = pair
    plain["n"] = 1
    cached(near, "n")
    # It goes on with PINGs; what they promise is kept, so only the messages are lost.
    monkeypatch.setattr(near_listener._News, "_change", lambda self, text: None)
    return near, plain


def test_without_messages_the_old_value_would_be_read(deaf):
    near, plain = deaf

    def is_old():
        value = cached(near, "n")
        plain["n"] = value + 1
        return near["n"] == value

    # On a busy machine the cache may not be alive all the time.
    until(is_old)


CALLS = {
    "put": lambda near: near.put("n", 2),
    "add": lambda near: near.add("n"),
    "remove": lambda near: near.remove("n"),
    "expire": lambda near: (near.expire("n", 0.001), time.sleep(0.01)),
    "put_many": lambda near: near.put_many({"n": 2}),
    "clear": lambda near: near.clear(),
    "a large value": lambda near: near.put("n", bytes(100_000)),
}


@pytest.mark.parametrize("call", CALLS)
def test_an_own_change_is_seen_though_no_message_comes(deaf, call):
    near, plain = deaf
    CALLS[call](near)
    assert near.get("n") == plain.get("n") != 1


READS = {
    "get_versioned": lambda near: near.get_versioned("n"),
    "version": lambda near: near.version("n"),
    "get_many": lambda near: near.get_many(["n"]),
    "stat": lambda near: near.stat("n"),
    "has": lambda near: "n" in near,
}


@pytest.mark.parametrize("read", READS)
def test_what_any_call_has_read_is_never_followed_by_something_older(deaf, read):
    near, plain = deaf
    plain["n"] = 2
    READS[read](near)
    assert near["n"] == 2


def test_whoever_was_told_of_a_version_by_waiting_reads_it(deaf):
    near, plain = deaf
    seen = near.version("n")
    changing = threading.Timer(0.05, lambda: plain.put("n", 2))
    changing.start()
    near.wait("n", LONG, newer_than=seen)
    assert near["n"] == 2
    cached(near, "n")
    removing = threading.Timer(0.05, lambda: plain.remove("n"))
    removing.start()
    assert near.wait("n", LONG) == 0
    assert near.get("n") is None
    changing.join(), removing.join()


def test_whoever_is_told_of_a_change_reads_it(deaf):
    near, plain = deaf
    changes = near.changes(prefix="n", timeout=LONG)
    for number in range(2, 10):
        cached(near, "n")
        plain["n"] = number
        assert next(changes) == ("n", plain.version("n")) and near["n"] == number
    cached(near, "n")
    plain.remove("n")
    assert next(changes) == ("n", 0) and near.get("n") is None
    changes.close()


def test_a_task_that_was_told_of_a_version_reads_it(deaf):
    near, plain = deaf

    async def main():
        changed = near.changed("n")
        await asyncio.to_thread(plain.put, "n", 2)
        await changed
        assert near["n"] == await near.aio.get("n") == 2

    event_loops.run(main())


@pytest.mark.parametrize("read", ["has", "get_many", "version"])
def test_who_has_found_it_missing_does_not_find_it_again(deaf, read):
    near, plain = deaf
    del plain["n"]
    READS[read](near)
    assert near.get("n") is None


@pytest.mark.parametrize("known_by", ["its message", "another read"])
def test_a_slow_filler_brings_nothing_old_back(pair, deaf, known_by, monkeypatch):
    near, plain = deaf
    if known_by == "its message":
        monkeypatch.undo()
    ticket = near._near.begin()
    value, record = near._found("n")
    plain["n"] = 2
    if known_by == "its message":
        until(lambda: memory(near).words[memory(near).floor_of("n")] >= plain.version("n"))
    else:
        near.version("n")
    # Nor does it matter what was evicted meanwhile.
    memory(near).segment.remove("n")
    near._near.keep(ticket, "n", record, value)
    assert not is_hit(near, "n") and near["n"] == 2


def test_reads_while_a_lock_is_held_ask_the_server(deaf, monkeypatch):
    near, plain = deaf
    plain["n"] = 2
    near._near._held.by[7] = {}
    try:
        assert near["n"] == near.get("n") == near.view("n") == near.copy()["n"] == 2
    finally:
        del near._near._held.by[7]


def test_the_message_of_an_expiry_makes_it_void(pair):
    near, plain = pair
    plain["n"] = 1
    cached(near, "n")
    plain.expire("n", 0.05)
    until(lambda: not is_hit(near, "n"))
    assert near["n"] == 1 if plain.has("n") else True
    until(lambda: near.get("n") is None)


def test_what_has_a_ttl_is_not_cached(pair):
    near, plain = pair
    plain.put("n", 1, ttl=100)
    for _ in range(20):
        assert near["n"] == 1 and not is_hit(near, "n")
    plain.expire("n", None)
    # Another change has to come before the floor of this one is reached.
    plain["m"] = 1
    assert cached(near, "n") == 1


def test_a_batch_and_a_clear_make_all_void(pair):
    near, plain = pair
    plain.put_many({number: number for number in range(100)})
    for number in range(100):
        cached(near, number)
    plain.put_many({number: -number for number in range(100)})
    until(lambda: [near[number] for number in range(100)] == [-number for number in range(100)])
    plain.clear()
    until(lambda: not any(is_hit(near, number) for number in range(100)))
    assert near.get(5) is None


def test_items_values_and_copy_use_it_and_get_many_does_not(pair):
    near, plain = pair
    plain.put_many({number: number for number in range(600)})
    until(lambda: (near.copy(), all(is_hit(near, number) for number in range(600)))[1])
    local, other = memory(near), {number: number + 1000 for number in range(600)}

    def is_read():
        # Entries that no server has.
        for number, value in other.items():
            local.segment.put(number, (local.words[EPOCH], local.words[HEARD], local.floor_of(number), value))
        return near.copy() == other and dict(near.items()) == other and sorted(near.values()) == sorted(other.values())

    # On a busy machine the cache may not be alive all the time.
    until(is_read)
    assert near.get_many(range(600)) == {number: number for number in range(600)}


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


# --- several processes


def in_children(count, function, *arguments):
    """Runs a function in forked processes, which end with it."""
    pids = []
    for number in range(count):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                function(number, *arguments)
                code = 0
            except BaseException:
                import traceback

                traceback.print_exc()
            finally:
                os._exit(code)
        pids.append(pid)
    return pids


def joined(pids):
    return [os.waitpid(pid, 0)[1] for pid in pids]


def reads_never_go_back(number, url, stop, highest):
    """Reads a counter; what anybody has read before is never undercut by a read that begins later."""
    segment = shmvar.attach(url)
    hits = 0
    while not stop.is_set():
        for _ in range(200):
            least = highest.value
            hits += is_hit(segment, "n")
            found = segment["n"]
            assert found >= least, f"{found} after {least}"
            if found > highest.value:
                with highest.get_lock():
                    highest.value = max(highest.value, found)
    segment.detach()
    assert hits, "nothing was ever cached"


def test_versions_never_go_back_over_processes_though_listeners_are_killed(server):
    near, plain = open_pair(server)
    url = near.url
    seconds = float(os.environ.get("SHMVAR_REMOTE_SECONDS", 3))
    stop, highest = multiprocessing.Event(), multiprocessing.Value("q", 0)
    plain["n"] = 0
    near.detach()
    children = in_children(2, reads_never_go_back, url, stop, highest)

    def victim(_number):
        segment = shmvar.attach(url)
        while True:
            segment["n"]

    end = time.monotonic() + seconds
    killed = 0
    while time.monotonic() < end:
        (pid,) = in_children(1, victim)
        for _ in range(random.randrange(50, 200)):
            plain.add("n")
            time.sleep(0.001)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        killed += 1
    # One more reader may need a while on a busy machine.
    until(lambda: highest.value >= plain["n"] - 1)
    stop.set()
    assert joined(children) == [0, 0] and killed
    plain.destroy()


def listens(_number, url, index, ready):
    segment = awake(shmvar.attach(url))
    segment[index]
    ready.set()
    time.sleep(1000)


def test_a_killed_listener_is_replaced(server):
    near, plain = open_pair(server)
    url = near.url
    near.detach()
    gc.collect()
    plain["n"] = 1
    ready = multiprocessing.Event()
    (pid,) = in_children(1, listens, url, "n", ready)
    assert ready.wait(LONG)
    near = shmvar.attach(url)
    owner = memory(near).words[near_memory.OWNER]
    cached(near, "n")
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    # Nobody hears of it.
    plain["n"] = 2
    until(lambda: memory(near).words[near_memory.OWNER] != owner)
    until(lambda: near["n"] == 2)
    assert cached(near, "n") == 2
    near.detach()
    plain.destroy()


def test_while_the_listener_is_stopped_the_server_is_asked(server):
    near, plain = open_pair(server)
    url = near.url
    near.detach()
    gc.collect()
    plain["n"] = 1
    ready = multiprocessing.Event()
    (pid,) = in_children(1, listens, url, "n", ready)
    assert ready.wait(LONG)
    near = shmvar.attach(url)
    cached(near, "n")
    os.kill(pid, signal.SIGSTOP)
    try:
        until(lambda: memory(near).words[ALIVE] < time.clock_gettime(time.CLOCK_BOOTTIME))
        for number in range(2, 20):
            plain["n"] = number
            assert near["n"] == number and not is_hit(near, "n")
        os.kill(pid, signal.SIGCONT)
        assert cached(near, "n") == 19
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    near.detach()
    plain.destroy()


def holds_the_guard(url, ready):
    segment = awake(shmvar.attach(url))
    with memory(segment)._guard:
        ready.set()
        time.sleep(1000)


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_whoever_has_the_guard_and_is_stopped_or_killed_holds_nobody_up(pair, how):
    near, plain = pair
    plain["n"] = 1
    cached(near, "n")
    ready = multiprocessing.Event()

    def child(_number):
        holds_the_guard(near.url, ready)

    (pid,) = in_children(1, child)
    assert ready.wait(LONG)
    os.kill(pid, signal.SIGSTOP if how == "stopped" else signal.SIGKILL)
    try:
        began = time.monotonic()
        for number in range(2, 52):
            near["n"] = number
            assert near["n"] == number
            plain["n"] = -number
            assert near.get_versioned("n")[0] == near["n"] == -number
        if how == "stopped":
            # One of them has waited for the guard, not each.
            assert time.monotonic() - began < 0.05 * 50 * SLOWER
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert cached(near, "n") == -51


def test_a_forked_child_reads_and_goes_on_when_its_parent_is_no_more(server):
    near, plain = open_pair(server)
    plain["n"] = 1
    cached(near, "n")
    url = near.url
    near.detach()
    gc.collect()
    told, tell = os.pipe()
    done, end = os.pipe()
    middle = os.fork()
    if middle == 0:
        # The parent of the reader: it listens, and is killed.
        near = awake(shmvar.attach(url))
        cached(near, "n")
        child = os.fork()
        if child == 0:
            code = b"F"
            try:
                assert near["n"] == 1
                os.write(tell, b"r")
                os.read(done, 1)
                assert until(lambda: near["n"] == 2)
                code = b"T" if cached(near, "n") == 2 else b"N"
                near.detach()
            finally:
                os.write(tell, code)
                os._exit(0)
        time.sleep(1000)
    assert os.read(told, 1) == b"r"
    os.kill(middle, signal.SIGKILL)
    os.waitpid(middle, 0)
    plain["n"] = 2
    os.write(end, b"g")
    assert os.read(told, 1) == b"T"
    for descriptor in (told, tell, done, end):
        os.close(descriptor)
    plain.destroy()


# --- the local segment


def test_the_last_one_destroys_the_local_segment(pair):
    near, _ = pair
    another = shmvar.attach(near.url)
    key = memory(near).key
    near.detach()
    gc.collect()
    assert shmvar.exists(key)
    another.detach()
    gc.collect()
    until(lambda: not shmvar.exists(key))


def test_children_that_end_one_after_the_other_leave_it_to_their_parent(pair):
    near, _ = pair
    before = memory(near)

    def child(_number):
        shmvar.attach(near.url).detach()
        near.detach()

    for _ in range(5):
        assert joined(in_children(2, child)) == [0, 0]
    assert before.leads_here()


def test_what_a_killed_process_left_is_removed_by_the_next_one(server):
    near, plain = open_pair(server)
    url, key = near.url, memory(near).key
    near.detach()
    gc.collect()
    ready = multiprocessing.Event()
    plain["n"] = 1
    (pid,) = in_children(1, listens, url, "n", ready)
    assert ready.wait(LONG)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert shmvar.exists(key)
    other, other_plain = open_pair(server)
    assert not shmvar.exists(key)
    other.detach()
    other_plain.destroy()
    plain.destroy()


@pytest.mark.parametrize("how", ["destroyed", "cleared"])
def test_another_local_segment_is_opened_where_somebody_has_taken_it(pair, how):
    near, plain = pair
    plain["n"] = 1
    cached(near, "n")
    before = memory(near)
    shmvar.destroy(before.key) if how == "destroyed" else before.segment.clear()
    # What is there goes on meanwhile.
    plain["n"] = 2
    until(lambda: near["n"] == 2)
    until(lambda: memory(near) is not before)
    awake(near)
    plain["n"] = 3
    until(lambda: near["n"] == 3)
    assert cached(near, "n") == 3 and shmvar.exists(before.key)


@pytest.mark.skipif(not machine.IS_ROOT, reason="needs another user")
def test_somebody_elses_segment_under_its_name_is_not_used(pair):
    near, plain = pair
    plain["n"] = 1
    url, key = near.url, memory(near).key
    near.detach()
    gc.collect()
    until(lambda: not shmvar.exists(key))
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setgid(machine.NOBODY), os.setuid(machine.NOBODY)
            shmvar.attach(key, 4 << 20, evict="lru", perm=0o666)
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    try:
        with pytest.warns(RuntimeWarning, match="no near cache now"):
            near = shmvar.attach(url)
        near["n"] = 2
        assert near["n"] == near.view("n") == 2 and near.copy() == {"n": 2} and not is_hit(near, "n")
        near.clear()
    finally:
        shmvar.destroy(key)
    near["n"] = 3
    # As soon as the name is free there is a cache.
    assert cached(near, "n") == 3
    near.detach()


def test_a_full_cache_goes_on(server):
    key = f"near-full-{os.getpid()}"
    plain = shmvar.attach(server.url(key))
    near = awake(shmvar.attach(server.url(key, near="1MiB")))
    for number in range(40):
        plain[number] = bytes([number]) * 100_000
    for turn in range(2):
        for number in range(40):
            assert near[number] == bytes([number]) * 100_000, turn
    plain["large"] = bytes(600_000)
    assert near["large"] == bytes(600_000) and not is_hit(near, "large")
    near.detach()
    plain.destroy()


def test_who_lists_a_server_makes_no_caches(server, pair):
    near, _ = pair
    before = caches()
    assert near.key in {info.key for info in shmvar.segments(server.url(near=NEAR))}
    assert caches() == before


def test_handles_with_and_without_a_cache_share_their_connections(pair):
    near, plain = pair
    assert near._link is plain._link


def test_too_small_a_cache_is_refused(server):
    with pytest.raises(ValueError, match="1MiB"):
        shmvar.attach(server.url("k", near="1000"))
    shmvar.destroy(server.url("k"))


def test_a_handle_that_trusts_has_a_cache_of_its_own(pair):
    near, plain = pair
    trusting = awake(shmvar.attach(near.url, trust=True))
    assert memory(trusting).key != memory(near).key
    plain["v"] = Point(1)
    assert cached(trusting, "v") == Point(1)
    for _ in range(3):
        with pytest.raises(shmvar.UntrustedValueError):
            near["v"]
    trusting.detach()


class Point:
    def __init__(self, x):
        self.x = x

    def __eq__(self, other):
        return self.x == other.x


def test_the_variable_with_the_name_of_the_array_is_not_cached(pair):
    near, plain = pair
    plain[CONTROL] = 5
    for _ in range(5):
        assert near[CONTROL] == near.view(CONTROL) == 5 and not is_hit(near, CONTROL)
    assert memory(near).leads_here()


def test_indexes_of_all_kinds_and_errors_are_as_without(pair):
    near, plain = pair
    for index in (0, -5, 2**63 - 1, -(2**63), "", "ü", "x" * 1024, numpy.int64(12), True):
        plain[index] = 1
        assert cached(near, index) == 1
    for index, error in ((1.5, TypeError), (2**63, OverflowError), ("x" * 1025, OverflowError), (None, TypeError)):
        with pytest.raises(error):
            near[index]
        with pytest.raises(error):
            near.get(index)
    with pytest.raises(KeyError):
        near["missing"]
    assert near.get("missing", 5) == 5
    near.detach()
    with pytest.raises(shmvar.DetachedError):
        near[0]


def test_a_listener_that_is_not_the_listener_any_more_writes_nothing(pair):
    near, plain = pair
    plain["n"] = 1
    cached(near, "n")
    with memory(near)._guard:
        memory(near).words[near_memory.OWNER] = 1.0
    assert not memory(near).living(2.0, 5.0, 1e300) and not memory(near).heard(2.0, [(FLOORS, 1e15)], 5.0, True)
    plain["n"] = 2
    until(lambda: near["n"] == 2)


def test_a_floor_is_never_lowered_by_another_epoch(pair):
    near, plain = pair
    plain["n"] = 1
    cached(near, "n")
    floor, high = memory(near).floor_of("n"), plain.version("n") + 10**9
    memory(near).raise_floor(floor, high)
    epoch = memory(near).words[EPOCH]
    with memory(near)._guard:
        memory(near).words[near_memory.OWNER] = 1.0
    until(lambda: memory(near).words[EPOCH] not in (0.0, epoch))
    assert memory(near).words[floor] == high


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


def test_its_threads_end_with_the_handles(server):
    for _ in range(3):
        near, plain = open_pair(server)
        near.detach()
        plain.destroy()
    gc.collect()
    until(lambda: not any(thread.name == "shmvar-near" for thread in threading.enumerate()))


def test_the_local_segment_is_for_this_user_alone(pair):
    near, _ = pair
    info = memory(near).segment.info()
    assert info.perm == 0o600 and info.uid == os.geteuid()


def test_no_warning_where_all_is_well(server):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        near, plain = open_pair(server)
    near.detach()
    plain.destroy()
