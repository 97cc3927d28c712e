"""Corner cases: calls that wait while something else happens (a stopped writer, a detach, a fork), and what is left."""

import asyncio
import decimal
import os
import signal
import threading
import time

import helpers
import pytest
from helpers import Raw, end, run, start
from helpers.event_loops import tick

import shmvar
from shmvar import _task_watcher

WRITER = """
    seg = shmvar.attach(key, create=False)
    seg[-1] = 0
    print("here", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def segment(seg):
    """The same for tests that have a second handle."""
    return seg


@pytest.fixture
def stopped(segment):
    """The writer lock is a living process's that does not go on, while the fixture's function was called with True."""
    child = start(WRITER, segment.key)
    raw = Raw(segment)
    segment[-1] = 1

    def hold(held):
        if held:
            raw.hold_lock(child.pid)
        else:
            raw.free_lock()

    yield hold
    raw.free_lock()
    raw.__exit__()
    end(child)


# --- batches


def test_a_batch_beside_held_locks_grows_the_table_once_and_by_what_it_needs(key):
    # At most seven in eight slots of a leaf are used; locks are in a table of their own.
    with shmvar.attach(key) as seg, Raw(seg) as raw:
        locks = [seg.lock(n) for n in range(10)]
        for lock in locks:
            lock.acquire()
        before = list(raw.leaves(names=True))
        assert [leaf.granules for leaf in raw.leaves()] == [1]
        generation = raw.unpack("<Q", raw.directory()[0])[0] & 0x3FFFF
        seg.put_many({n: n for n in range(440)})
        assert len(seg) == 440 and all(lock.locked() for lock in locks)
        (leaf,) = raw.leaves()
        assert 440 <= len(leaf.slots()) < 440 * 3 // 2
        assert raw.unpack("<Q", raw.directory()[0])[0] & 0x3FFFF == generation + 1
        assert seg.check().slots == len(leaf.slots()) + 127 and list(raw.leaves(names=True)) == before
        seg.destroy()


def test_a_batch_of_hostile_extent_is_refused(key):
    seg = shmvar.attach(key)
    seg["big"] = b"x" * 100_000
    with Raw(seg) as raw:
        granule = raw.slot_in_a_span()[4] >> 16
        at, word = raw.entry(granule)
        # The span says that it is being filled, with a length of 0 or one that does not fit; its batch list is empty.
        for length in (0, 4096, 2**32 - 1):
            raw.pack("<Q", at, word & 0xFFFF_FFF0 | length << 32 | 2)
            raw.pack("<2Q", raw.granule_at(granule), 0, 16)
            raw.pack("<3Q", raw.MANY, 1, granule << 8 | 1, 0)
            with pytest.raises(shmvar.CorruptSegmentError):
                seg[5] = 5
            seg[5] = length
            assert seg[5] == length
            # The span was not freed: freed, it would be handed out over others.
            assert raw.entry(granule)[1] & 15 == 2
    seg.destroy()


def test_clearing_what_is_damaged_costs_no_other_call(key):
    seg = shmvar.attach(key)
    seg["big"] = b"x" * 100_000
    with Raw(seg) as raw:
        at, _ = raw.entry(raw.slot_in_a_span()[4] >> 16)
        raw.pack("<Q", at, 0)
    with pytest.raises(shmvar.CorruptSegmentError):
        seg.clear()
    seg[5] = 5
    assert seg[5] == 5
    seg.destroy()


# --- expiry


def test_what_has_expired_is_not_counted(segment):
    segment[1] = 1
    segment.put(2, 2, ttl=0.01)
    segment.put(3, 3, ttl=100)
    time.sleep(0.05)
    assert (len(segment), len(segment.keys()), segment.info().count) == (2, 2, 2)
    assert segment == {1: 1, 3: 3}


def test_a_put_with_a_time_to_live_bears_damage_elsewhere(key):
    seg = shmvar.attach(key)
    seg.put(1, b"x" * 100_000, ttl=0.01)
    time.sleep(0.02)
    with Raw(seg) as raw:
        at, _ = raw.entry(raw.slot(1)[4] >> 16)
        raw.pack("<Q", at, 0)
    for n in range(1000):
        seg.put(2, n, ttl=100)
    assert seg[2] == 999
    seg.destroy()


# --- locks


def test_one_try_takes_the_lock_of_a_dead_process(segment):
    code = """
        seg = shmvar.attach(key, create=False)
        seg.lock("l").acquire()
        print("here", flush=True)
        sys.stdin.read()
    """
    child = start(code, segment.key)
    lock = segment.lock("l")
    assert not lock.acquire(timeout=0) and lock.locked()
    child.kill()
    child.wait(10)
    assert lock.acquire(timeout=0)
    lock.release()
    end(child)


@pytest.mark.parametrize("timeout", [0, 0.3])
def test_the_timeout_of_a_lock_holds_while_a_writer_is_stopped(segment, stopped, timeout):
    lock, began = segment.lock(), time.monotonic()
    stopped(True)
    assert not lock.acquire(timeout=timeout)
    # Well before the ten seconds after which other calls give up.
    assert time.monotonic() - began < 8
    stopped(False)
    assert lock.acquire(timeout=5)
    lock.release()


def test_a_task_that_asks_for_a_lock_lets_the_others_go_on_while_a_writer_is_stopped(segment, stopped):
    turns, during = [], []

    async def main():
        ticking = asyncio.create_task(tick(turns))
        stopped(True)
        for _ in helpers.looks(lambda: max(during, default=0) > 3, seconds=0, at_most=20):
            before = len(turns)
            with pytest.raises(shmvar.WaitTimeoutError):
                async with segment.lock(timeout=0.5):
                    pass
            during.append(len(turns) - before)
        ticking.cancel()

    asyncio.run(main())


def test_who_waits_for_a_lock_or_a_change_when_the_handle_is_detached_is_told(key):
    with shmvar.attach(key) as other:
        other.lock().acquire()
        seg, told = shmvar.attach(key), []

        def wait_for(what):
            try:
                told.append(what(timeout=30))
            except shmvar.DetachedError as error:
                told.append(type(error))

        waits = [lambda timeout: seg.wait(1, timeout), seg.lock().acquire]
        threads = [threading.Thread(target=wait_for, args=(what,)) for what in waits]
        for thread in threads:
            thread.start()
        time.sleep(0.1)
        seg.detach()
        for thread in threads:
            thread.join(20)
        assert told == [shmvar.DetachedError] * 2
        other.lock().release()
        assert not other.lock().locked()
        other.destroy()


def test_letting_go_after_detaching_says_so(segment):
    seg = shmvar.attach(segment.key, create=False)
    lock = seg.lock()
    lock.acquire()
    seg.detach()
    with pytest.raises(shmvar.DetachedError):
        lock.release()
    assert not segment.lock().locked()


@pytest.mark.slow
def test_detaching_waits_once_for_a_stopped_writer_however_many_locks_it_holds(segment, stopped):
    seg = shmvar.attach(segment.key, create=False)
    for name in range(3):
        seg.lock(name).acquire()
    stopped(True)
    thread = threading.Thread(target=seg.detach)
    thread.start()
    thread.join(25)
    assert not thread.is_alive()
    stopped(False)
    segment[1] = 1
    assert not any(segment.lock(name).locked() for name in range(3))


# --- asyncio


class Between:
    """A segment whose watcher runs a function of the test between two of its steps."""

    def __init__(self, segment, before_count):
        self.segment, self.before_count, self.counts, self.slept = segment, before_count, [], []

    def _watch_count(self):
        self.before_count()
        self.counts.append(self.segment._watch_count())
        return self.counts[-1]

    def _watch(self, count):
        self.slept.append(count)
        if count == self.segment._watch_count():
            self.segment._watch(count)

    def __getattr__(self, name):
        return getattr(self.segment, name)


def test_a_change_just_before_the_watcher_counts_wakes_who_came_just_before_that(segment):
    """The watcher reads its list after the count: a later waiter is woken, because the count has moved since."""
    watcher, looked = _task_watcher.Watcher(), []

    async def main():
        first = _task_watcher.Waiter(watcher, segment, 1, 0)
        second = _task_watcher.Waiter(watcher, segment, 2, 0)
        second.look = lambda: looked.append(len(between.slept)) or True
        step = iter(range(3))

        def before_count():
            if next(step, None) == 0:
                watcher._waiters[id(second)] = second
                segment._mark(2, False)
                segment[2] = 2

        between = Between(segment, before_count)
        first.segment = between
        with first:
            first.arm()
            for _ in range(500):
                if looked:
                    break
                await asyncio.sleep(0.01)
        watcher.drop(second)
        # The watcher looks before its first sleep, not after it.
        assert looked[0] == 0

    asyncio.run(asyncio.wait_for(main(), 20))


def test_a_forked_child_drops_a_waiter_though_the_watchers_lock_was_held(segment):
    async def main():
        watcher = _task_watcher.Watcher()
        with _task_watcher.Waiter(watcher, segment, 1, 0) as waiter, watcher._some:
            pid = os.fork()
            if pid == 0:
                signal.alarm(30)
                watcher.drop(waiter)
                os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

    asyncio.run(main())


def test_a_waiter_for_which_there_is_no_thread_leaves_nothing(segment, monkeypatch):
    def no_thread(self):
        raise RuntimeError("can't start new thread")

    async def main():
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", no_thread)
            with pytest.raises(RuntimeError):
                await segment.changed(1, 5)
        threading.Timer(0.05, segment.put, (1, 1)).start()
        return await segment.changed(1, 15, newer_than=0)

    assert asyncio.run(asyncio.wait_for(main(), 20)) == segment.version(1)
    assert not segment._watcher._waiters


def test_any_number_is_a_timeout(segment):
    for timeout in (decimal.Decimal("0.01"), True, 0):
        with pytest.raises(shmvar.WaitTimeoutError):
            segment.wait(1, timeout and decimal.Decimal("0.01"))
        with pytest.raises(shmvar.WaitTimeoutError):
            asyncio.run(segment.changed(1, timeout and decimal.Decimal("0.01")))


@pytest.mark.parametrize("where", ["wait", "lock", "changed"])
def test_a_program_ends_in_silence_while_a_daemon_thread_waits(key, where):
    """F17."""
    code = """
        import asyncio, threading
        seg = shmvar.attach(key)
        waits = {
            "wait": lambda: seg.wait(1),
            "lock": lambda: seg.lock().acquire(),
            "changed": lambda: asyncio.run(seg.changed(1)),
        }
        if sys.argv[2] == "lock":
            seg.lock().acquire()
        threading.Thread(target=waits[sys.argv[2]], daemon=True).start()
        time.sleep(0.2)
        shmvar.destroy(key) if sys.argv[2] == "lock" else seg.put(2, 2)
    """
    done = run(code, key, where, timeout=30)
    assert (done.stdout, done.stderr) == ("", "")
    shmvar.destroy(key)
