"""How many named locks may be held: in proportion to the size, with a minimum; dead processes hold none."""

import asyncio
import contextlib
import threading

import helpers
import pytest

import shmvar

LEAST = 1024


def taken(segment, names):
    """Takes locks until one is refused; returns those that are held, and the error."""
    held = []
    for name in names:
        lock = segment.lock(name)
        try:
            assert lock.acquire(0)
        except shmvar.SegmentFullError as error:
            return held, error
        held.append(lock)
    return held, None


@pytest.mark.parametrize("kind", [int, "{:05}".format, lambda n: f"{n:05}" + "n" * 1019], ids=["int", "str", "longest"])
def test_f37_a_segment_of_one_byte_holds_a_thousand_locks_and_no_more(key, kind):
    with shmvar.attach(key, 1) as segment:
        before = segment.info().resident
        held, error = taken(segment, map(kind, range(20_000)))
        assert len(held) == LEAST and isinstance(error, MemoryError)
        # A lock with the longest name costs a little more than a KiB; leaves and slabs have room to spare.
        assert segment.info().resident - before < 3 << 20
        assert (error.needed, error.free, error.size) == (1024, 0, LEAST * 1024)
        for word in (f"{LEAST} named locks are held", "release some", "raise the size", key):
            assert word in str(error), (word, error)
        # Each release allows one other lock, and a lock that is held may be taken again by its owner.
        assert held[0].acquire(0)
        held[0].release()
        for lock in held[:3]:
            lock.release()
        again, error = taken(segment, [kind(n) for n in (90_001, 90_002, 90_003, 90_004)])
        assert len(again) == 3 and error is not None
        assert len(segment.info().locks) == LEAST == segment.check().locks
        for lock in held[3:] + again:
            lock.release()
        held, error = taken(segment, map(kind, range(30_000, 30_100)))
        assert len(held) == 100 and error is None


def test_the_remedy_works_and_a_larger_segment_holds_more(key):
    with shmvar.attach(key, 1) as segment:
        held, error = taken(segment, range(5_000))
        assert len(held) == LEAST and error is not None
        segment.resize(1500 << 10)
        more, error = taken(segment, range(5_000, 10_000))
        assert len(held) + len(more) == 1500
        assert (error.needed, error.free, error.size) == (1024, 0, 1500 * 1024)
        # A smaller limit takes no lock away from its owner.
        segment.resize(1)
        assert segment.check().locks == 1500
        for lock in held + more:
            lock.release()


def test_a_task_meets_the_bound_as_a_thread_does(key):
    async def tasks(segment):
        async with segment.lock("last"):
            for name in ("one more", 999_999):
                with pytest.raises(shmvar.SegmentFullError, match="named locks are held"):
                    async with segment.lock(name, timeout=5):
                        pass
        async with segment.lock("one more"):
            pass

    with shmvar.attach(key, 1) as segment:
        held, _ = taken(segment, range(LEAST - 1))
        asyncio.run(tasks(segment))
        for lock in held:
            lock.release()


def test_what_the_dead_held_counts_for_nothing(key, children):
    code = f"""
    segment = shmvar.attach(key, 1)
    held = [segment.lock(n) for n in range({LEAST})]
    for lock in held:
        lock.acquire(0)
    print("on", flush=True)
    sys.stdin.read()
    """
    with shmvar.attach(key, 1) as segment:
        child = helpers.start(code, key)
        children.append(child)
        with pytest.raises(shmvar.SegmentFullError):
            segment.lock("mine").acquire(0)
        with pytest.raises(shmvar.SegmentFullError), segment.lock("mine", timeout=5):
            pass
        # A call waits for a lock that is held, at the limit, too.
        assert segment.lock(5).acquire(0.05) is False
        helpers.end(child)
        with segment.lock("mine", timeout=5):
            assert segment.check().locks == 1


def test_threads_that_take_and_release_at_the_bound_get_locks_or_the_typed_error(key):
    with shmvar.attach(key, 1) as segment:
        held, _ = taken(segment, range(LEAST - 2))
        outcomes = {"held": 0, "full": 0}
        wrong = []

        def turn(number):
            for one in range(60):
                try:
                    with segment.lock((number << 20) + one + 10_000, timeout=5):
                        outcomes["held"] += 1
                except shmvar.SegmentFullError:
                    outcomes["full"] += 1
                except BaseException as error:
                    wrong.append(error)

        threads = [threading.Thread(target=turn, args=(number,)) for number in range(4)]
        with contextlib.ExitStack() as stack:
            for thread in threads:
                thread.start()
                stack.callback(thread.join, 60)
        assert not wrong and outcomes["held"] > 0 and sum(outcomes.values()) == 240
        assert segment.check().locks == len(held)
        for lock in held:
            lock.release()
