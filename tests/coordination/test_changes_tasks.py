"""`changes` beside other threads, in an event loop and a signal handler: nobody stands still for a large segment."""

import asyncio
import collections
import signal
import threading

import helpers
import pytest
from helpers.changes import all_of
from helpers.event_loops import run

import shmvar

MANY = 25_000
"""More than a task looks at in its event loop."""


def test_each_change_goes_to_one_of_several_threads(seg):
    changes, told = seg.changes(timeout=60), []

    def take():
        told.extend(changes)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(2000):
        seg[number] = number
    helpers.until(lambda: len(told) >= 2000 or len({index for index, _ in told}) == 2000, 60)
    changes.close()
    for thread in threads:
        thread.join(60)
    assert sorted(told) == [(n, seg.version(n)) for n in range(2000)]


def test_the_loop_goes_on_while_a_large_segment_is_looked_at(seg):
    seg.update((n, n) for n in range(MANY))

    async def main():
        changes, ticks = seg.changes(timeout=60), 0

        async def tick():
            nonlocal ticks
            while True:
                await asyncio.sleep(0)
                ticks += 1

        ticker = asyncio.ensure_future(tick())
        task = asyncio.ensure_future(changes.__anext__())
        await asyncio.sleep(0.05)
        seg["x"] = 1
        assert await task == ("x", seg.version("x")) and ticks
        ticker.cancel()
        for _ in range(2):
            changes = seg.changes(timeout=0.2, prefix="none")
            stop = threading.Event()

            def write(stop=stop):
                while not stop.is_set():
                    seg["y"] = 1

            writer = threading.Thread(target=write)
            writer.start()
            with pytest.raises(shmvar.WaitTimeoutError):
                await asyncio.wait_for(changes.__anext__(), 60)
            stop.set()
            writer.join()

    run(main())


@pytest.mark.parametrize("first", [False, True])
def test_the_loop_goes_on_while_a_large_segment_was_cleared_or_all_is_told(seg, first):
    """What is gone through is as large as what was there, or as what is told, whatever is there now."""
    seg.update((n, n) for n in range(MANY))

    async def main():
        changes, ticks = seg.changes(newer_than={} if first else None, timeout=60), 0

        async def tick():
            nonlocal ticks
            while True:
                await asyncio.sleep(0)
                ticks += 1

        ticker = asyncio.ensure_future(tick())
        if not first:
            seg.clear()
        assert ticks == 0
        index, version = await changes.__anext__()
        assert ticks and (index, version) == ((index, seg.version(index)) if first else (index, 0))
        ticker.cancel()

    run(main())


def test_a_signal_handler_that_asks_while_its_thread_looks_is_told_so(seg):
    seg.update((n, n) for n in range(MANY))
    changes = seg.changes(timeout=0)
    errors = collections.Counter()

    def handler(*_):
        try:
            next(changes)
        except (RuntimeError, shmvar.WaitTimeoutError) as error:
            errors[type(error)] += 1

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
        for number in range(50):
            seg["x"] = number
            all_of(changes)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    seg["last"] = 1
    assert dict(all_of(changes)).get("last") == seg.version("last")
