"""Queues in asyncio: the tasks of one loop that wait for the same stand in line, and only the first of them tries.

`put`, `get`, `enter` and `leave` are what `Queue.aput`, `Queue.aget` and `async with queue.take()` call. The
thread that watches the queue is in `_task_watcher`.
"""

from __future__ import annotations

import _thread
import asyncio
import itertools
import os
import time
from weakref import WeakValueDictionary

from shmvar._task_watcher import Waiter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from shmvar._core import Queue, Segment, TakenItem

    _T = TypeVar("_T")

# All times are in seconds.

# While somebody holds items, a task looks this often whether the holder has died: nobody is notified of that.
_HELD_POLL = 0.1
# A task that waits for room looks this often: nobody tells it when the segment itself gets room.
_ROOM_POLL = 0.05
# So often a thread tries to end the holds that could not be ended.
_END_PAUSE = 0.5


class _QueueWaiter(Waiter):
    """A task that waits for an item of a queue or, with `room`, for room in it."""

    def __init__(self, queue: Queue, room: bool) -> None:
        super().__init__(queue.segment._watcher, queue.segment, queue.name, -1)
        self.queue = queue
        self.room = room
        # Whether the task looks again by itself, because it knows that somebody holds items.
        self.polls = False

    def look(self) -> bool:
        """Marks what the task waits for, and wakes the task if a try may help."""
        try:
            may, held = self.queue._mark(self.room)
        except Exception:
            may = held = True  # The task will get the same error from its own try.
        # An item may have been put and taken since the task looked. The task has to know, for the taker may die.
        may = may or (held and not self.room and not self.polls)
        if may:
            self.wake()
        return may


# The numbers of the entries of tasks. 0 is that of an entry without `async`.
_entries = itertools.count(1)

# The processes and the ids of the segments for which a thread ends holds.
_ending: set[tuple[int, bytes]] = set()

# By the id of the loop, the id of the segment, the name of the queue, and its maximum where room is waited for.
_lines: WeakValueDictionary[tuple[int, bytes, int | str, int | None], asyncio.Lock] = WeakValueDictionary()


async def _wait(
    queue: Queue,
    room: bool,
    timeout: float | None,
    attempt: Callable[[bool, float | None], _T | None],
    before: Callable[[], None] | None = None,
) -> _T:
    """What `attempt` returns as soon as that is not None.

    The last attempt, after `timeout` seconds, is told that it is the last: it raises the error of the queue. `before`
    is called before the task lets others run.
    """
    loop = asyncio.get_running_loop()
    # A line holds its loop while tasks wait in it, so no other loop can have the same id meanwhile.
    name = (id(loop), *queue._what(), queue.maxsize if room else None)
    line = _lines.get(name)
    if line is None:
        # Nobody came before.
        if (got := attempt(False, timeout)) is not None:
            return got
        line = _lines.setdefault(name, asyncio.Lock())
    if before is not None:
        before()
    got = None
    timer = asyncio.timeout(timeout)
    try:
        async with timer, line:
            with _QueueWaiter(queue, room) as waiter:
                while True:
                    # First armed, then marked, then tried: what comes after the try wakes the task.
                    waiter.arm()
                    _, waiter.polls = queue._mark(room)
                    if (got := attempt(False, timeout)) is not None:
                        return got
                    await waiter.sleep(_ROOM_POLL if room else _HELD_POLL if waiter.polls else None)
    except Exception as error:
        # What was got must not be lost because the end of the wait failed.
        if got is not None:
            return got
        if not isinstance(error, TimeoutError) or not timer.expired():
            raise
    # The last try, as in the calls that block: also of a task that was never the first.
    if (got := attempt(True, timeout)) is None:
        raise AssertionError("the last attempt raises")
    return got


async def put(queue: Queue, value: Any, timeout: float | None) -> None:
    """`Queue.aput`."""
    pickle: bytes | None = None

    def keep() -> None:
        nonlocal pickle
        pickle = queue._encode(value)

    def attempt(last: bool, seconds: float | None) -> bool | None:
        if pickle is None:
            return queue._try_put(value, last, seconds) or None
        return queue._try_put_pickle(pickle, last, seconds) or None

    await _wait(queue, True, timeout, attempt, keep)


async def get(queue: Queue, timeout: float | None) -> Any:
    """`Queue.aget`."""
    (value,) = await _wait(queue, False, timeout, queue._try_get)
    return value


async def enter(item: TakenItem, timeout: float | None) -> Any:
    """The start of `async with queue.take()`."""
    entry = next(_entries)
    try:
        (value,) = await _wait(item.queue, False, timeout, lambda last, seconds: item._try(last, seconds, entry))
        return value
    except BaseException:
        # Ctrl-C, say, between the taking and the block: there is no block that could give the item back. What another
        # task took through the same object is not this one's to give back.
        if item._held(entry):
            item._leave(True)
        raise


async def leave(item: TakenItem, reason: type[BaseException] | None) -> None:
    """The end of `async with queue.take()`. `reason`: the type of the exception that ends the block."""
    if reason is GeneratorExit:
        # A coroutine that is closed, or collected, before its end. It can wait for nothing. And it must give no thread
        # anything to do: the collector may have come while this thread did that, and held a lock that is the same for
        # all executors. What cannot be ended soon is put off here.
        item._leave(True)
        return
    failed = reason is not None
    if not item._leave_now(failed):
        # A writer is stopped, or slow: the other tasks are not to wait for it. Or there is an error to raise.
        await asyncio.to_thread(item._leave, failed)


def end_later(segment: Segment, id: bytes) -> None:
    """Starts a thread that ends the holds that this process could not end: it may not do anything else."""
    what = (os.getpid(), id)
    if what not in _ending:
        _ending.add(what)
        try:
            _thread.start_new_thread(_end, (segment, what))
        except BaseException:
            _ending.discard(what)
            raise


def _end(segment: Segment, what: tuple[int, bytes]) -> None:
    try:
        while not segment._end_holds():
            time.sleep(_END_PAUSE)
        _ending.discard(what)
        # A hold that was put off until now may have counted on this thread.
        if not segment._end_holds():
            end_later(segment, what[1])
    except Exception:  # The handle was detached, or the segment is gone.
        _ending.discard(what)
