"""Named locks of segments on a server for tasks: what `async with lock` calls.

The server is asked in threads, so that the loop goes on while it stands still. The tasks of one loop that wait for one
lock stand in line, and only the first of them asks.
"""

from __future__ import annotations

import asyncio
import math
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from weakref import WeakValueDictionary, ref

from shmvar._errors import Error
from shmvar._remote import owners
from shmvar._remote.link import now
from shmvar._remote.subscription import TaskSignal
from shmvar._remote.taking import Taking, writable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, TypeVar

    from shmvar._remote.owners import Hold, Owner

    _T = TypeVar("_T")

_THREADS = 8
"""Of this process, for all loops: the default ones of a loop may all wait for somebody who needs the lock."""
_PER_WAITER = 0.002
"""Many tasks that wait for different locks look more rarely: so many seconds for each of them."""

_DETACHED_POLL = 0.25
"""So often the tasks behind the first one see whether their handle was detached."""

_threads: ThreadPoolExecutor | None = None
_waiting = 0
# By the id of the loop, the D of the segment and the field of the lock. A line holds its loop.
_lines: WeakValueDictionary[tuple[int, bytes, bytes], _Line] = WeakValueDictionary()


class _Line:
    """The tasks of one loop that wait for one lock, in the order in which they came."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.turn = asyncio.Lock()

    def leave(self) -> None:
        """Lets the next task try."""
        # The loop is closed: nobody waits any more.
        with suppress(RuntimeError):
            self.turn.release()


async def enter(lock: Any) -> Any:
    """The start of `async with lock`: returns when the running task holds the lock."""
    segment = lock._segment
    writable(segment)
    owner, loop = owners.task(), asyncio.get_running_loop()
    if lock._again(owner):
        return lock
    timeout = lock._timeout
    until = math.inf if timeout is None else now() + timeout
    name = (id(loop), segment._requests.data, lock._field)
    line = _lines.get(name)
    if line is None:
        line = _lines[name] = _Line(loop)
    if line.turn.locked():
        await _turn(line, lock, until)
    else:
        await line.turn.acquire()
    try:
        await _take(lock, owner, until)
    finally:
        line.leave()
    return lock


async def _turn(line: _Line, lock: Any, until: float) -> None:
    """Waits until the tasks that came before have the lock, or have given up."""
    asking = asyncio.ensure_future(line.turn.acquire())
    try:
        while not asking.done():
            left = until - now()
            if left <= 0:
                raise lock._late()
            writable(lock._segment)
            await asyncio.wait([asking], timeout=min(left, _DETACHED_POLL))
        asking.result()
    except BaseException:
        # The loop is closed: nobody waits any more.
        with suppress(RuntimeError):
            # At the end of a program each task is cancelled, this one's own, too.
            if not asking.cancel() and not asking.cancelled():
                line.leave()
        raise


async def _take(lock: Any, owner: Owner, until: float) -> None:
    """Takes the lock for a task. Raises WaitTimeoutError."""
    global _waiting
    taking = Taking(lock._segment, lock._field, owner)
    asking = _Asking()
    _waiting += 1
    try:
        signal = _Signal(asyncio.get_running_loop())
        subscription = None
        try:
            while not await asking.done(owners.bound(taking.attempt)):
                left = until - now()
                if left <= 0:
                    raise lock._late()
                if subscription is None:
                    # A message before it stands is nowhere: until it does, this looks more often.
                    subscription = taking.subscription(_Weakly(signal))
                    await signal.wait(min(left, 0.01))
                else:
                    await signal.wait(min(left, max(taking.pause, _waiting * _PER_WAITER)))
        finally:
            if subscription is not None:
                subscription.close()
        taking.keep(owner)
        lock._last = taking.hold
    except BaseException:
        # A request may be on its way in a thread.
        asking.afterwards(taking.give_up)
        raise
    finally:
        _waiting -= 1


class _Signal(TaskSignal):
    """Wakes a task. The listener knows it weakly: the task of a loop that was closed must not live for ever."""

    __slots__ = ("__weakref__",)


class _Weakly:
    """Wakes a task that is still there."""

    def __init__(self, signal: _Signal) -> None:
        self._signal = ref(signal)

    def set(self) -> None:
        signal = self._signal()
        if signal is not None:
            signal.set()


class _Asking:
    """What one task asks the server, one request after the other."""

    def __init__(self) -> None:
        self._running: Any = None

    async def done(self, call: Callable[[], _T]) -> _T:
        """Makes a call in a thread. It is made, too, where the task is cancelled."""
        self._running = running = _executor().submit(call)
        return await asyncio.shield(asyncio.wrap_future(running))

    def afterwards(self, call: Callable[[], object]) -> None:
        """Makes a call that does not block when the last request has ended."""
        if self._running is None:
            call()
        else:
            self._running.add_done_callback(lambda _: call())


async def leave(lock: Any, *exception: type[BaseException] | BaseException | TracebackType | None) -> None:
    """The end of `async with lock`: releases it once."""
    reason = exception[0] if exception else None
    try:
        if reason is GeneratorExit:
            # A coroutine that is closed, or collected, before its end: perhaps outside of its task and of any loop.
            if lock._last is not None:
                lock._let_go(lock._last, [])
            return
        hold = lock._of((owners.task(),))
        if hold is None:
            lock._segment._open  # noqa: B018 - it raises DetachedError
            raise lock._not_held()
        await _let_go(lock, hold)
    except Error:
        if reason is None:
            raise


async def _let_go(lock: Any, hold: Hold) -> None:
    if hold.count > 1 or hold.lost:
        lock._let_go(hold, [])
    else:
        await _Asking().done(lambda: lock._let_go(hold, []))


def _executor() -> ThreadPoolExecutor:
    global _threads
    if _threads is None:
        _threads = ThreadPoolExecutor(_THREADS, "shmvar-lock-of-a-task")
    return _threads


def _forked() -> None:
    global _threads, _waiting
    _threads, _waiting = None, 0
    _lines.clear()


os.register_at_fork(after_in_child=_forked)
