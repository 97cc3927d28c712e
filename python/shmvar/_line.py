"""Locks in asyncio: the tasks of one loop that wait for one lock stand in line, and only the first one tries for it."""

from __future__ import annotations

import asyncio
import itertools
from collections import OrderedDict
from weakref import WeakKeyDictionary, WeakValueDictionary

from shmvar._aio import Waiter, done

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from shmvar._core import Lock

# The first one leaves it to the tasks of its own loop for so long, then has the lock watched for, in seconds.
_SOON = 0.002
# Those behind the first one are told so often of a handle that was detached, in seconds.
_DETACHED = 0.25

_numbers = itertools.count(1)
_tasks: WeakKeyDictionary[asyncio.Task[Any], int] = WeakKeyDictionary()


def _task() -> int:
    """A number that is the running task's own."""
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("async with lock: there is no running task")
    number = _tasks.get(task)
    if number is None:
        number = _tasks[task] = next(_numbers)
    return number


class _Place(Waiter):
    """A task's place in a line."""

    def __init__(self, lock: Lock) -> None:
        super().__init__(lock.segment._watcher, lock.segment, lock.name, None)
        # The first one may find the lock free; not while it was just taken by who was first before.
        self.hopeful = False

    def wait(self) -> None:
        """Before the look: what comes from now on ends the next `sleep`. Nobody watches yet."""
        self.future = self.loop.create_future()

    def tell(self) -> None:
        """Wakes it: mostly from a task of its own loop."""
        try:
            here = asyncio.get_running_loop() is self.loop
        except RuntimeError:  # A coroutine that is closed outside of any loop.
            here = False
        if not here:
            self.wake()
        elif self.future is not None:
            done(self.future)


class _Line:
    """Those who wait for one lock in one loop, in the order in which they came.

    Each loop has lines of its own: one that stands still stops nobody else's tasks. Kept by those who stand in it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.places: OrderedDict[_Place, None] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None

    def first(self) -> _Place | None:
        return next(iter(self.places), None)

    def join(self, place: _Place) -> None:
        place.hopeful = False
        self.places[place] = None
        if self._timer is None and len(self.places) > 1:
            self._look()

    def leave(self, place: _Place, taken: bool) -> None:
        was_first = self.first() is place
        del self.places[place]
        if was_first and (first := self.first()) is not None:
            first.hopeful = not taken
            first.tell()

    def released(self) -> None:
        """By a task of this loop."""
        if (first := self.first()) is not None:
            first.hopeful = True
            first.tell()

    def _look(self) -> None:
        """Wakes those whose handle was detached: nobody else tells them."""
        for place in self.places:
            if place.segment.detached:
                place.tell()
        self._timer = self.loop.call_later(_DETACHED, self._look) if len(self.places) > 1 else None


_lines: WeakValueDictionary[tuple[int, bytes, int | str], _Line] = WeakValueDictionary()


def _line(lock: Lock, loop: asyncio.AbstractEventLoop) -> tuple[tuple[int, bytes, int | str], _Line | None]:
    """The name of a lock's line, and the line, if somebody stands in it."""
    # A line keeps its loop, so no other one has its number meanwhile.
    name = (id(loop), *lock._what())
    return name, _lines.get(name)


async def enter(lock: Lock) -> Lock:
    """`async with lock`: held by the task."""
    task, turn, loop = _task(), lock._turn(), asyncio.get_running_loop()
    deadline = None if lock.timeout is None else loop.time() + lock.timeout
    name, line = _line(lock, loop)
    # Behind those who came before, unless it holds the lock already.
    if lock._try(task, turn, line is not None):
        return lock
    if line is None:
        line = _lines[name] = _Line(loop)
    place, taken = _Place(lock), False
    line.join(place)
    try:
        watched = False
        while True:
            place.wait()
            first = line.first() is place
            if first and watched:
                # Watched for, then marked, then tried for: what comes after the try wakes.
                place.watch()
                lock.segment._mark(lock.name, True)
            late = deadline is not None and loop.time() >= deadline
            if late or watched or (first and place.hopeful) or lock.segment.detached:
                taken = lock._try(task, turn)
                if taken:
                    return lock
            if late:
                lock.segment._late(lock.name, True, lock.timeout)
            rest = None if deadline is None else deadline - loop.time()
            if first and not watched:
                rest = _SOON if rest is None else min(_SOON, rest)
                watched = True
            await place.sleep(None if rest is None else max(rest, 0.0))
    finally:
        if watched:
            place.watcher.drop(place)
        line.leave(place, taken)
        if not taken:
            lock._end(turn)


async def leave(lock: Lock, reason: type[BaseException] | None = None) -> None:
    """The end of `async with lock`."""
    if reason is GeneratorExit:
        # A coroutine that is closed, or collected, unfinished: outside of its task, perhaps of any loop. The lock knows
        # the task.
        lock._release(None)
        return
    _, line = _line(lock, asyncio.get_running_loop())
    lock._release(_task())
    if line is not None:
        line.released()
