"""`await changed` and `async with lock` when the watching thread fails: no task sleeps for ever."""

import asyncio
import errno
import threading
import time

import helpers
import pytest
from helpers.event_loops import run

import shmvar
from shmvar import _task_queue, _task_watcher

FAILURES = [OSError(errno.EMFILE, "Too many open files"), MemoryError(), RuntimeError("anything"), shmvar.Error("x")]


class Failing:
    """A handle; some of its calls raise."""

    def __init__(self, segment, error, times, calls=("_mark",), everywhere=False):
        self.segment, self.error, self.times, self.calls, self.everywhere = segment, error, times, calls, everywhere
        self._watcher = _task_watcher.Watcher()
        self.failed = 0

    def __getattr__(self, name):
        found = getattr(self.segment, name)
        watching = threading.current_thread().name == "shmvar-watcher"
        if name in self.calls and (watching or self.everywhere) and self.failed < self.times:
            self.failed += 1
            raise self.error
        return found


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    until = time.monotonic() + 5
    while any("shmvar" in thread.name for thread in threading.enumerate()):
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize("calls", ["_mark", "_watch", "_watch_count"])
@pytest.mark.parametrize("error", FAILURES, ids=repr)
@pytest.mark.parametrize("times", [1, 7])
def test_a_failure_that_passes_leaves_every_task_watched(seg, calls, error, times):
    async def main():
        handle = Failing(seg, error, times, [calls])
        tasks = [asyncio.create_task(_task_watcher.changed(handle, n, 20, 0)) for n in range(3)]
        await asyncio.sleep(0.4)
        for _ in range(1000):
            if handle.failed:
                break
            await asyncio.sleep(0.02)
        assert 0 < handle.failed <= times
        began = time.monotonic()
        for n in range(3):
            seg[n] = n
        assert await asyncio.gather(*tasks) == [seg.version(n) for n in range(3)]
        # The task is woken; it does not only look when its time is up.
        assert time.monotonic() - began < 10 and not handle._watcher._waiters

    run(main())


@pytest.mark.parametrize("error", FAILURES, ids=repr)
def test_a_failure_that_stays_is_each_tasks_own(seg, error):
    async def main():
        handle = Failing(seg, error, 0, everywhere=True)
        tasks = [asyncio.create_task(_task_watcher.changed(handle, n, None, 0)) for n in range(3)]
        await asyncio.sleep(0.1)
        handle.times = 10**9
        assert await asyncio.gather(*tasks, return_exceptions=True) == [error] * 3
        handle.times = 0
        seg[1] = 1
        assert await _task_watcher.changed(handle, 1, 20, 0) == seg.version(1)

    run(main())


def test_a_failing_watcher_does_not_spin(seg):
    async def main():
        handle = Failing(seg, MemoryError(), 10**9, ["_watch"])
        task = asyncio.create_task(_task_watcher.changed(handle, 1, None, 0))
        await asyncio.sleep(1.0)
        assert 0 < handle.failed < 100
        seg[1] = 1
        assert await task == seg.version(1)

    run(main())


@pytest.mark.parametrize("where", ["__init__", "_bootstrap"], ids=["before its start", "in its first lines"])
def test_the_collector_may_close_a_forgotten_wait_while_the_thread_starts(key, seg, where):
    """The end of a wait takes no lock, for the collector runs while others hold theirs: here in `Watcher.add`."""
    code = """
    import asyncio, faulthandler, gc, threading
    faulthandler.dump_traceback_later(30, exit=True)
    s = shmvar.attach(key)
    gc.disable()
    async def wait(name, timeout=None):
        await s.changed(name, timeout=timeout)
    loop = asyncio.new_event_loop()
    forgotten = loop.create_task(wait("a"))
    forgotten._log_destroy_pending = False
    loop.run_until_complete(asyncio.sleep(0.05))
    watcher = s._watcher
    loop.close()
    s["a"] = 1  # The thread sees that the loop is closed, and ends.
    while watcher._thread is not None:
        time.sleep(0.01)
    waits = forgotten.get_coro()
    assert waits.cr_frame is not None
    del waits, forgotten, loop

    step, collected = getattr(threading.Thread, sys.argv[2]), []
    def collect(thread, *args, **options):
        if "shmvar-watcher" in (options.get("name"), getattr(thread, "_name", None)):
            collected.append(gc.collect())
        return step(thread, *args, **options)
    setattr(threading.Thread, sys.argv[2], collect)
    async def main():
        task = asyncio.create_task(wait("b", 20))
        await asyncio.sleep(0.05)
        s["b"] = 1
        await task
    asyncio.run(main())
    assert len(collected) == 1 and collected[0] > 0
    """
    helpers.run(code, key, where)


def test_a_detached_handle_ends_every_wait(key):
    async def main():
        handle = shmvar.attach(key)
        tasks = [asyncio.create_task(handle.changed(n)) for n in range(3)]
        await asyncio.sleep(0.1)
        handle.detach()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(error) for error in ended] == [shmvar.DetachedError] * 3

    run(main())


def test_a_task_that_waits_for_a_lock_is_watched_again(seg):
    async def main():
        handle, lock = Failing(seg, MemoryError(), 3, ["_watch"]), seg.lock()

        class Lock:
            segment, name, timeout = handle, 0, 20

            def __getattr__(self, name):
                return getattr(lock, name)

        async def wait():
            await _task_queue.enter(Lock())
            assert lock.locked()
            await _task_queue.leave(Lock())

        async with seg.lock():
            task = asyncio.create_task(wait())
            for _ in range(1000):
                await asyncio.sleep(0.02)
                if handle.failed == 3:
                    break
            assert not task.done() and handle.failed == 3
        await task
        assert not lock.locked()

    run(main())
