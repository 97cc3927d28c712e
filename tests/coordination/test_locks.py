"""Named locks within one process: owners, names, timeouts, and what happens when a handle or a thread ends."""

import os
import pickle
import random
import signal
import threading
import time

import helpers
import pytest

import shmvar

NAMES = [0, 1, -(2**63), 2**63 - 1, "", "accounts", "ключ", "k" * 1024]


def elsewhere(function):
    """Runs a function in another thread and returns its result."""
    got = []
    thread = threading.Thread(target=lambda: got.append(function()))
    thread.start()
    thread.join(60)
    assert got, "the thread raised or hangs"
    return got[0]


def is_held(lock):
    """Is the lock held by any thread but the one that this look runs in?"""

    def look():
        if taken := lock.acquire(timeout=0):
            lock.release()
        return not taken

    return elsewhere(look)


@pytest.mark.parametrize("name", NAMES)
def test_a_lock_of_any_name_excludes_other_threads_until_it_is_let_go(seg, name):
    lock = seg.lock(name)
    assert (lock.name, lock.segment, lock.timeout, lock.locked()) == (name, seg, None, False)
    with lock as entered:
        assert entered is lock and lock.locked() and seg.lock(name).locked() and is_held(seg.lock(name))
        assert seg.info().locks == {name: os.getpid()}
    assert not lock.locked() and not is_held(lock) and seg.info().locks == {}
    assert repr(name)[1:-1] in repr(lock)


def test_it_is_let_go_when_the_block_raises(seg):
    with pytest.raises(ZeroDivisionError), seg.lock():
        raise ZeroDivisionError
    assert not seg.lock().locked()


def test_it_is_re_entrant_in_a_thread_through_any_lock_object_and_handle(seg, key):
    with shmvar.attach(key) as other, seg.lock("r"), seg.lock("r"):
        again = other.lock("r", timeout=0)
        with again:
            assert again.acquire() and again.acquire(timeout=0)
            again.release()
            again.release()
        assert seg.lock("r").locked() and is_held(seg.lock("r"))
    assert not seg.lock("r").locked()


@pytest.mark.parametrize("depth", [1, 2, 1000])
def test_it_is_let_go_with_the_last_release(seg, depth):
    lock = seg.lock()
    for _ in range(depth):
        assert lock.acquire() is True
    for _ in range(depth):
        assert lock.locked() and is_held(lock)
        assert lock.release() is None
    assert not lock.locked()
    with pytest.raises(RuntimeError):
        lock.release()


def test_a_release_by_whoever_does_not_hold_it_is_a_runtime_error(seg):
    lock = seg.lock("mine")

    def release():
        with pytest.raises(RuntimeError, match="mine"):
            lock.release()
        return True

    assert release() and elsewhere(release)
    with lock:
        assert elsewhere(release) and lock.locked()
        with pytest.raises(RuntimeError):
            seg.lock("other").release()
    assert release()


def test_locks_of_other_names_are_others(seg):
    names = [5, "5", 6, "x", "x " * 9]
    with seg.lock(5):
        for name in names[1:]:
            assert elsewhere(lambda name=name: seg.lock(name).acquire(timeout=0)), name
    # The locks of a thread go when it ends; `join` returns a moment before that.
    helpers.until(lambda: seg.info().locks == {})


def test_thousands_of_locks_are_held_at_once(seg):
    locks = [seg.lock(number if number % 2 else f"name {number}") for number in range(5000)]
    for lock in locks:
        assert lock.acquire(timeout=30)
    seg["v"] = 1
    assert len(seg.info().locks) == 5000 == seg.check().locks and len(seg) == 1
    for lock in reversed(locks):
        lock.release()
    assert seg.info().locks == {} and seg.check().locks == 0


# --- locks and variables


@pytest.mark.parametrize("name", [7, "seven"])
def test_a_lock_and_a_variable_of_one_name_have_nothing_to_do_with_each_other(seg, name):
    with seg.lock(name):
        assert name not in seg and seg.version(name) == 0 and seg.get_many([name]) == {} and list(seg) == []
        seg[name] = "value"
        assert seg.swap(name, 5) == "value" and seg.add(name) == 6 and seg.remove(name)
        assert seg.lock(name).locked()
        seg[name] = 1
    assert dict(seg) == {name: 1} and not seg.lock(name).locked()


def test_locks_are_neither_listed_nor_counted_nor_charged(seg, key):
    seg.update({1: 1, "x": b"x" * 5000})
    before = seg.info()
    with seg.lock(1), seg.lock("x"), seg.lock("y" * 1000), shmvar.attach(key, readonly=True) as reader:
        for handle in (seg, reader):
            info = handle.info()
            assert (info.count, info.used, info.free) == (before.count, before.used, before.free)
            assert len(handle) == 2 and set(handle) == {1, "x"} == set(handle.keys()) and len(handle.items()) == 2
            assert handle == {1: 1, "x": b"x" * 5000} and info.locks.keys() == {1, "x", "y" * 1000}
            assert handle.lock(1).locked() and not handle.lock(2).locked()
        assert seg.popitem() and seg.popitem()
        with pytest.raises(KeyError):
            seg.popitem()


def test_a_held_lock_survives_growth_and_clear_and_tombstones(seg):
    with seg.lock("text"), seg.lock(5):
        version = seg.version(5)
        seg.update({number: number for number in range(40_000)})
        assert is_held(seg.lock("text")) and is_held(seg.lock(5))
        seg.clear()
        for number in range(3000):
            seg[f"{number}"] = number
            del seg[f"{number}"]
        assert is_held(seg.lock("text")) and is_held(seg.lock(5)) and version == 0
        assert seg.check().locks == 2 and len(seg) == 0
    assert not is_held(seg.lock("text")) and not is_held(seg.lock(5))


def test_a_full_segment_has_locks(key):
    with shmvar.attach(key, 1) as segment:
        with segment.lock(), segment.lock("t" * 1000, timeout=5):
            assert is_held(segment.lock())
            with pytest.raises(shmvar.SegmentFullError):
                segment[1] = 1
        for number in range(1000):
            with segment.lock(f"{number}"):
                pass
        assert segment.info().used == 0 and segment.check().locks == 0


def test_a_lock_does_not_wake_or_move_a_variable(seg):
    seg[1] = 1
    version = seg.version(1)
    for _ in range(100):
        with seg.lock(1):
            pass
    assert seg.version(1) == version
    with pytest.raises(shmvar.WaitTimeoutError):
        seg.wait(1, 0.1)


# --- timeouts


class Holder:
    """A thread that holds a lock."""

    def __init__(self, lock):
        self.lock, self.taken, self.done = lock, threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        with self.lock:
            self.taken.set()
            self.done.wait(60)

    def __enter__(self):
        self.thread.start()
        assert self.taken.wait(60)
        return self

    def __exit__(self, *_):
        self.done.set()
        self.thread.join(60)


def took(call):
    began = time.monotonic()
    call()
    return time.monotonic() - began


def enter_in_vain(lock):
    with pytest.raises(shmvar.WaitTimeoutError, match=r"held-one.*0\.5"), lock:
        pytest.fail("it was entered")


@pytest.mark.parametrize("how", ["acquire", "the lock's own", "with", "acquire beats the lock's own"])
def test_f5_a_timeout_is_kept_within_a_fifth(seg, how):
    calls = {
        "acquire": lambda: seg.lock("held-one").acquire(timeout=0.5) and pytest.fail("taken"),
        "the lock's own": lambda: seg.lock("held-one", timeout=0.5).acquire() and pytest.fail("taken"),
        "with": lambda: enter_in_vain(seg.lock("held-one", timeout=0.5)),
        "acquire beats the lock's own": lambda: seg.lock("held-one", timeout=90).acquire(0.5) and pytest.fail("taken"),
    }
    with Holder(seg.lock("held-one")):
        # A busy machine makes a single wait longer, but not several in a row.
        times = [took(calls[how]) for _ in range(4)]
    assert min(times) >= 0.4 and min(times) <= 0.6
    assert seg.lock("held-one").acquire(0) is True
    seg.lock("held-one").release()


def test_a_timeout_of_0_is_one_try(seg):
    with Holder(seg.lock()):
        assert min(took(lambda: seg.lock(timeout=0).acquire()) for _ in range(5)) < 0.1
        with pytest.raises(shmvar.WaitTimeoutError), seg.lock(timeout=0):
            pass
    assert seg.lock(timeout=0).acquire()
    seg.lock().release()


def test_a_lock_that_comes_free_while_one_waits_is_taken(seg):
    for _ in range(20):
        with Holder(seg.lock()) as holder:
            timer = threading.Timer(0.01, holder.done.set)
            timer.start()
            with seg.lock(timeout=30):
                assert holder.done.is_set()
            timer.join()


def test_after_a_timeout_the_place_in_the_queue_is_given_up(seg):
    with Holder(seg.lock()):
        assert not seg.lock().acquire(0.05)
    for _ in range(3):
        assert elsewhere(lambda: seg.lock().acquire(5))


# --- threads, handles, interrupts


def test_f9_the_lock_of_a_thread_that_ended_is_let_go(seg):
    for turn in range(20):
        locks = [seg.lock("t"), seg.lock("t"), seg.lock(turn)]
        assert elsewhere(lambda locks=locks: all(lock.acquire(5) for lock in locks))
        assert seg.lock("t").acquire(5) and seg.lock(turn).acquire(5)
        seg.lock("t").release()
        seg.lock(turn).release()
    assert seg.info().locks == {}


def test_detaching_lets_go_of_what_was_taken_through_the_handle(seg, key):
    for _ in range(3):
        handle = shmvar.attach(key)
        lock = handle.lock("d")
        lock.acquire()
        lock.acquire()
        seg.lock("kept").acquire()
        handle.detach()
        assert not is_held(seg.lock("d")) and is_held(seg.lock("kept"))
        seg.lock("kept").release()
        for call in (lock.acquire, lock.locked, handle.lock):
            with pytest.raises(shmvar.DetachedError):
                call()
    with shmvar.attach(key) as handle:
        handle.lock("w").acquire()
    assert not seg.lock("w").locked()


def test_a_lock_that_is_held_while_its_handle_is_detached_by_another_thread_ends_quietly(seg, key):
    handle = shmvar.attach(key)
    with pytest.raises((RuntimeError, shmvar.DetachedError)), handle.lock("q"):
        elsewhere(lambda: handle.detach() is None)
        assert not seg.lock("q").locked()
    assert seg.lock("q").acquire(5) and seg.lock("q").release() is None


def test_a_dropped_handle_lets_go_unless_a_lock_keeps_it(seg, key):
    lock = shmvar.attach(key).lock("k")
    lock.acquire()
    assert is_held(seg.lock("k")) and lock.segment.key == key
    del lock
    assert not is_held(seg.lock("k"))


def test_destroying_leaves_the_locks_of_those_still_attached(key):
    with shmvar.attach(key) as old, old.lock("l"):
        old.destroy()
        assert old.lock("l").locked() and is_held(old.lock("l"))
        with shmvar.attach(key) as new:
            assert not new.lock("l").locked() and new.lock("l").acquire(0)
            new.destroy()
    assert not shmvar.exists(key)


def test_a_pickled_handle_has_the_same_locks(seg):
    with pickle.loads(pickle.dumps(seg)) as other, other.lock("p"):
        assert is_held(seg.lock("p"))
    code = "import pickle; print(pickle.loads(bytes.fromhex(sys.argv[2])).lock('p').acquire(0.1))"
    with seg.lock("p"):
        assert helpers.run(code, "", pickle.dumps(seg).hex()).stdout == "False\n"
    assert helpers.run(code, "", pickle.dumps(seg).hex()).stdout == "True\n"
    assert seg.lock("p").acquire(5) and seg.lock("p").release() is None


def test_f5_ctrl_c_ends_a_wait_and_leaves_nothing_held(seg):
    lock, main = seg.lock("c"), threading.main_thread()
    for _ in range(5):
        with Holder(lock):
            timer = threading.Timer(0.05, lambda: signal.pthread_kill(main.ident, signal.SIGINT))
            with pytest.raises(KeyboardInterrupt):
                timer.start()
                lock.acquire()
                pytest.fail("taken")
            timer.join()
            with pytest.raises(RuntimeError):
                lock.release()
        assert not is_held(lock) and lock.acquire(5) and lock.release() is None


def test_f60_other_threads_run_while_one_waits(seg):
    with Holder(seg.lock()):
        waiter = threading.Thread(target=lambda: seg.lock().acquire(30))
        waiter.start()
        turns, until = 0, time.monotonic() + 0.3
        while time.monotonic() < until:
            turns += 1
        assert turns > 100 and waiter.is_alive()
    waiter.join(30)
    assert not waiter.is_alive()


def test_a_lock_that_is_taken_again_takes_no_other_slot(seg):
    with helpers.Raw(seg) as raw:
        slots = set()
        for number in range(1000):
            with seg.lock(7), seg.lock("seven"):
                slots.add(raw.slot(7, names=True)[:2])  # its place and its version: the slot was not written again
            seg[8] = number
        assert len(slots) == 1
    report = seg.check()
    assert report.locks == 0 and report.tombstones == 2


@pytest.mark.parametrize("seed", range(10))
def test_slots_that_locks_left_are_taken_by_others_and_by_the_same_lock_again(seg, seed):
    chance, held, stored = random.Random(seed), {}, {}
    for step in range(600):
        number = chance.randrange(40)
        if chance.random() < 0.5:
            lock = held.pop(number, None)
            if lock is None:
                held[number] = lock = seg.lock(number)
                assert lock.acquire(0)
            else:
                lock.release()
        elif number in stored:
            assert seg.pop(number) == stored.pop(number)
        else:
            seg[number] = stored[number] = "x" * chance.randrange(40)
        if step % 50 == 0:
            report = seg.check()
            assert (report.locks, report.variables) == (len(held), len(stored)) and dict(seg) == stored
            assert seg.info().locks.keys() == held.keys()
        if step == 300:
            # The tables are larger: the slots of what was removed, and of locks that were released, stay behind.
            seg.update({n: n for n in range(1000, 2000)})
            stored |= {n: n for n in range(1000, 2000)}
            others = [seg.lock(n) for n in range(1000, 1200)]
            assert all(lock.acquire(0) for lock in others) and seg.check().tombstones == 0
            for lock in others:
                lock.release()
            assert seg.check().tombstones == 200
    for lock in held.values():
        lock.release()
    assert not any(seg.lock(number).locked() for number in range(40)) and seg.check().locks == 0


def test_a_signal_handler_may_take_the_lock_that_its_thread_waits_for(seg):
    """The thread is its owner then: it acquires the lock once more, and does not wait for itself."""
    lock, held, depths = seg.lock("a"), threading.Event(), []

    def hold():
        with seg.lock("a"):
            held.set()
            helpers.until(lambda: depths)
            time.sleep(0.2)

    def handler(*_):
        depths.append("waits")
        depths[:] = [lock.acquire(timeout=30)]

    thread = threading.Thread(target=hold)
    before = signal.signal(signal.SIGALRM, handler)
    try:
        thread.start()
        assert held.wait(30)
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        assert lock.acquire(timeout=60) and depths == [True]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        thread.join(60)
    assert is_held(lock)
    lock.release()
    assert is_held(lock)
    lock.release()
    assert not is_held(lock) and seg.info().locks == {}
