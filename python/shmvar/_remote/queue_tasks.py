"""Queues in asyncio. The tasks of one loop that wait for the same stand in line, and only the first of them tries.

A try asks the server, in a thread of its own, so that other tasks run meanwhile. A task that is cancelled waits for the
end of its try, and undoes what that has got. If it cannot, that is the error: what `aget` had removed is gone then.
"""

from __future__ import annotations

import asyncio
import math
from concurrent.futures import ThreadPoolExecutor
from weakref import WeakValueDictionary

from shmvar._errors import SegmentUnavailableError
from shmvar._remote.link import generation, now
from shmvar._remote.owners import bound
from shmvar._remote.queue_waiting import HELD_POLL, LONGEST, Silence, nap_while, subscribed, tell
from shmvar._remote.subscription import TaskSignal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from shmvar._remote.queue_base import ServerQueue
    from shmvar._remote.queue_waiting import _Attempt
    from shmvar._remote.subscription import Subscription

    _T = TypeVar("_T")

_THREADS = 32
"""So many tries of all loops of a process are under way at once, at most: others wait for their turn."""


class _Line(asyncio.Lock):
    """The tasks of one loop that wait for the same."""

    away = False
    """The last one that tried has waited for the server in vain."""


# By the id of the loop, the name of the segment on the server, the field of the queue, and its maximum where room is
# waited for.
_lines: WeakValueDictionary[tuple[int, bytes, bytes, int | None], _Line] = WeakValueDictionary()
_pool: tuple[int, ThreadPoolExecutor] | None = None


def _threads() -> ThreadPoolExecutor:
    """Threads of this process. Those of asyncio may all be taken by calls that wait for what a task is to put."""
    global _pool
    if _pool is None or _pool[0] != generation():
        _pool = generation(), ThreadPoolExecutor(_THREADS, "shmvar-queue")
    return _pool[1]


async def tried(call: Callable[[], _T], undo: Callable[[], object] | None = None) -> _T:
    """What `call` returns in a thread. A task that is cancelled meanwhile undoes it."""
    loop = asyncio.get_running_loop()
    future = loop.run_in_executor(_threads(), bound(call))
    try:
        await asyncio.wait([future])
    except asyncio.CancelledError as cancelled:
        await _to_its_end(future)
        # Ctrl-C, say, in the thread: what it raises is the reason then.
        if future.exception() is None and future.result() is not None and undo is not None:
            await _to_its_end(loop.run_in_executor(_threads(), bound(undo)), True)
        raise cancelled
    return future.result()


async def _to_its_end(future: asyncio.Future[Any], raises: bool = False) -> None:
    """Waits for a thread, however often this task is cancelled."""
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            continue
    if raises:
        future.result()


async def wait(
    queue: ServerQueue,
    room: bool,
    seconds: float | None,
    attempt: _Attempt[_T],
    undo: Callable[[], object] | None = None,
) -> _T | None:
    """What `attempt` returns as soon as that is not None. None: it never was for so many seconds."""
    began = now()
    until = math.inf if seconds is None else began + seconds
    loop = asyncio.get_running_loop()
    # A line holds its loop while tasks wait in it, so no other loop can have the same id meanwhile.
    name = (id(loop), queue.segment._requests.data, queue._field, queue.maxsize if room else None)
    line = _lines.get(name)
    if line is None:
        line = _lines.setdefault(name, _Line())
    try:
        async with asyncio.timeout(seconds):
            await line.acquire()
    except TimeoutError:
        # The last try, also of a task that was never the first.
        return await tried(attempt, undo)
    try:
        server = queue.segment._open.server
        if line.away and now() - began > server.timeout:
            # It would be one more, and the next ones would wait for it.
            raise SegmentUnavailableError(
                f"{server.place} has not answered for {server.timeout:g} s; the call was not begun", False
            )
        got = await tried(attempt, undo)
        line.away = False
        if got is not None or seconds == 0:
            return got
        signal = TaskSignal(loop)
        with subscribed(queue, room, signal) as subscription:
            silence = Silence(queue)
            while now() < until:
                queue.segment._open  # noqa: B018 - it raises DetachedError
                if not subscription.ready():
                    if silence.is_long():
                        await tried(silence.ask)
                        # No message tells of what there is.
                        got = await tried(attempt, undo)
                        if got is not None:
                            return got
                    await signal.wait(min(until - now(), HELD_POLL))
                    continue
                got = await tried(attempt, undo)
                if got is not None:
                    return got
                await _sleep(queue, room, subscription, signal, attempt.nap, until)
                silence = Silence(queue)
        return await tried(attempt, undo)
    except SegmentUnavailableError:
        line.away = True
        raise
    finally:
        line.release()


async def _sleep(
    queue: ServerQueue, room: bool, subscription: Subscription, signal: TaskSignal, nap: float, until: float
) -> None:
    """Sleeps until a try may help."""
    end = min(until, now() + nap)
    while True:
        # A handle may be detached, which sends no signal.
        await signal.wait(min(end - now(), HELD_POLL))
        if tell(subscription.poll()):
            return
        queue.segment._open  # noqa: B018 - it raises DetachedError
        if now() < end:
            continue
        if room or nap == LONGEST or now() >= until:
            return
        waiting, held, dying = await tried(queue._look)
        if waiting:
            return
        nap = nap_while(held, dying)
        end = min(until, now() + nap)
