"""A call of `aio` whose task was cancelled changes nothing under a lock that the task has let go meanwhile."""

import asyncio
import contextlib
import threading

import pytest
from helpers import event_loops
from helpers.machine import SLOWER

import shmvar
from shmvar._remote import blobs, workers
from shmvar._remote.queue_holds import Hold

LONG = 60 * SLOWER
gate, reached = threading.Event(), threading.Event()


def passed(value=None):
    """Waits until the test lets it go on."""
    reached.set()
    assert gate.wait(LONG)
    return value


class Slow:
    """A value that takes long to be pickled."""

    def __reduce__(self):
        return str, (passed("late"),)


CALLS = {
    "put of a value that takes long to be pickled": lambda aio, _: aio.put("x", Slow()),
    "modify": lambda aio, _: aio.modify("x", lambda _: passed("late")),
    "put in chunks": lambda aio, patched: slow_upload(patched) or aio.put("x", b"l" * 100_000),
    "put_many": lambda aio, _: aio.put_many({"x": Slow(), "y": 1}),
    "swap": lambda aio, _: aio.swap("x", Slow()),
    "clear after a long update": lambda aio, _: aio.update({"x": 1, "y": Slow()}),
}


def slow_upload(patched):
    upload = blobs.upload
    patched.setattr(blobs, "upload", lambda *arguments: passed() or upload(*arguments))


@pytest.fixture
def ends(monkeypatch):
    """What the calls in threads have raised, None for those that have returned."""
    found, carried_out = [], workers._Workers._carried_out
    gate.clear(), reached.clear()

    def noted(self, job):
        try:
            result = carried_out(self, job)
        except BaseException as error:
            found.append(error)
            raise
        found.append(None)
        return result

    monkeypatch.setattr(workers._Workers, "_carried_out", noted)
    yield found
    gate.set()


def once_reached(call):
    """Makes a call in the running loop once the thread of a call of `aio` has come to `passed`."""
    loop = asyncio.get_running_loop()
    loop.run_in_executor(None, lambda: (reached.wait(LONG), loop.call_soon_threadsafe(call)))


async def until(condition):
    async with asyncio.timeout(LONG):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("call", CALLS)
def test_it_does_not_land_in_the_block_of_the_next_holder(key, monkeypatch, ends, call):
    segment, other = shmvar.attach(key), shmvar.attach(key)
    segment["x"] = "first"
    lock = segment.lock("l")

    async def main():
        with contextlib.suppress(asyncio.CancelledError):
            async with lock:
                once_reached(asyncio.current_task().cancel)
                await CALLS[call](segment.aio, monkeypatch)
        assert reached.is_set() and not ends
        # For the server it is another holder, though it is the same task.
        async with other.lock("l") as anew:
            other["x"] = "second"
            version = other.version("x")
            gate.set()
            await until(lambda: ends)
            assert other.version("x") == version and other["x"] == "second" and len(other) == 1
            assert not anew.lost and not lock.lost
        assert isinstance(ends[0], shmvar.LockLostError)
        # What the task does from now on is not refused.
        await segment.aio.put("x", 1)

    event_loops.run(main())


def test_it_is_refused_where_nobody_holds_the_lock_too(seg, ends):
    async def main():
        with contextlib.suppress(TimeoutError):
            async with seg.lock("l"), asyncio.timeout(None) as limit:
                # Not before: a call that no thread has begun is not made at all.
                once_reached(lambda: limit.reschedule(0))
                await seg.aio.put("x", Slow())
        assert reached.is_set() and not ends
        gate.set()
        await until(lambda: ends)
        assert isinstance(ends[0], shmvar.LockLostError) and "x" not in seg

    event_loops.run(main())


def test_a_call_may_let_go_and_take_locks_itself(seg, ends):
    """Its own function does: what it holds counts then, and not what it held."""

    def lets_go(_):
        held.release()
        with seg.lock("another"):
            seg["y"] = 1
        seg["z"] = 2
        return "changed"

    held = seg.lock("l")

    async def main():
        async with held:
            await seg.aio.put("w", 1)
            assert await seg.aio.modify("x", lets_go, default=None) == "changed"
            await held.__aenter__()
        assert dict(seg) == {"w": 1, "x": "changed", "y": 1, "z": 2}

    event_loops.run(main())


@pytest.mark.parametrize("call", CALLS)
def test_a_lock_of_the_thread_that_another_task_lets_go_meanwhile_is_not_the_calls(key, monkeypatch, ends, call):
    """`with lock` takes it for the thread, and so for each of its tasks, but a call has no part in its end."""
    segment = shmvar.attach(key)
    segment["x"] = "first"

    async def holds():
        with segment.lock("l"):
            await begun.wait()
            await until(reached.is_set)
        gate.set()

    async def main():
        holder = asyncio.create_task(holds())
        # It has taken the lock once it has run, and this task never heard of that.
        await asyncio.sleep(0)
        begun.set()
        await CALLS[call](segment.aio, monkeypatch)
        await holder
        assert ends == [None] and segment.version("x") != version

    begun, version = asyncio.Event(), segment.version("x")
    event_loops.run(main())


def test_a_taken_item_is_done_though_another_task_lets_go_a_lock_of_the_thread_meanwhile(key, monkeypatch):
    segment = shmvar.attach(key)
    queue = segment.queue("q")
    queue.put("work")
    end = Hold.end
    gate.clear(), reached.clear()

    async def works():
        async with queue.take() as work:
            assert work == "work"
            monkeypatch.setattr(Hold, "end", lambda *arguments: passed() or end(*arguments))

    async def main():
        worker = asyncio.create_task(works())
        with segment.lock("l"):
            await until(reached.is_set)
        gate.set()
        await worker

    event_loops.run(main())
    assert queue.qsize() == 0 and not segment.info().queues
