"""Named locks in asyncio: the tasks of one loop that wait for one lock queue up, and only the first of them tries.

`enter` and `leave` are what `async with lock` calls. The thread that watches the lock is in `_task_watcher`.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import OrderedDict
from weakref import WeakKeyDictionary, WeakValueDictionary

from shmvar._task_watcher import Waiter, complete

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from shmvar._core import Lock

# All times are in seconds.

# The first task relies on the tasks of its own loop for this long; then it has the watcher look at the lock.
_UNWATCHED = 0.002
# This often the tasks behind the first one learn whether their handle was detached.
_DETACHED_POLL = 0.25

_numbers = itertools.count(1)
_tasks: WeakKeyDictionary[asyncio.Task[Any], int] = WeakKeyDictionary()


def _task() -> int:
    """A number that belongs to the running task alone."""
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("async with lock: there is no running task")
    number = _tasks.get(task)
    if number is None:
        number = _tasks[task] = next(_numbers)
    return number


class _Place(Waiter):
    """A task's place in a queue."""

    def __init__(self, lock: Lock) -> None:
        super().__init__(lock.segment._watcher, lock.segment, lock.name, None)
        # Whether the lock may be free if this is the first task: not if the task that was first before has taken it.
        self.hopeful = False
        self.was_first = False  # when it left the queue

    def arm_unwatched(self) -> None:
        """Like `arm`, but nobody watches the lock yet: only `tell` ends the next `sleep`."""
        self.future = self.loop.create_future()

    def tell(self) -> None:
        """Wakes the task. Mostly called from a task of the same loop."""
        try:
            here = asyncio.get_running_loop() is self.loop
        except RuntimeError:  # A coroutine that is closed outside of any loop.
            here = False
        if not here:
            self.wake()
        elif self.future is not None:
            complete(self.future)


class _Queue:
    """The tasks of one loop that wait for one lock, in the order in which they came.

    Each loop has queues of its own, so that a loop that is blocked holds up nobody else's tasks. A queue lives while
    there are tasks in it: they hold the only references.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.places: OrderedDict[_Place, None] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None

    def first(self) -> _Place | None:
        """The task whose turn it is to try."""
        return next(iter(self.places), None)

    def join(self, place: _Place) -> None:
        """Puts a task at the end."""
        place.hopeful = False
        self.places[place] = None
        if self._timer is None and len(self.places) > 1:
            self._tell_detached()

    def leave(self, place: _Place, taken: bool) -> None:
        """Takes a task out; if it was the first one, the next one is woken. `taken`: it leaves with the lock.

        A second call does what an exception kept the first one from doing.
        """
        # Kept before the place is taken out: by then nothing else tells a second call that the next one must be woken.
        place.was_first = place.was_first or self.first() is place
        self.places.pop(place, None)  # It may never have come in: `join` was interrupted.
        if place.was_first:
            self._tell_first(hopeful=not taken)

    def released(self) -> None:
        """Wakes the first task, after a task of this loop has released the lock."""
        self._tell_first(hopeful=True)

    def _tell_first(self, hopeful: bool) -> None:
        if (first := self.first()) is not None:
            first.hopeful = hopeful
            first.tell()

    def _tell_detached(self) -> None:
        """Wakes the tasks whose handle was detached, now and then again: nothing else tells them."""
        for place in self.places:
            if place.segment.detached:
                place.tell()
        again = len(self.places) > 1
        self._timer = self.loop.call_later(_DETACHED_POLL, self._tell_detached) if again else None


# By the id of the loop, the id of the segment and the name of the lock.
_queues: WeakValueDictionary[tuple[int, bytes, int | str], _Queue] = WeakValueDictionary()


def _queue(lock: Lock, loop: asyncio.AbstractEventLoop) -> tuple[tuple[int, bytes, int | str], _Queue | None]:
    """The name of the queue for a lock, and the queue if there are tasks in it."""
    # A queue holds its loop, so no other loop can have the same id meanwhile.
    name = (id(loop), *lock._what())
    return name, _queues.get(name)


async def enter(lock: Lock) -> Lock:
    """The start of `async with lock`: returns when the running task holds the lock.

    Raises `WaitTimeoutError` after the lock's timeout.
    """
    task, turn, loop = _task(), lock._turn(), asyncio.get_running_loop()
    deadline = None if lock.timeout is None else loop.time() + lock.timeout
    name, queue = _queue(lock, loop)
    # If other tasks came before, this try succeeds only if the running task holds the lock already.
    if lock._try(task, turn, queue is not None):
        return lock
    if queue is None:
        queue = _queues[name] = _Queue(loop)
    place, taken, watched = _Place(lock), False, False
    # A signal handler may raise at any moment. A place that stayed in the queue would be the first one for ever, and
    # the others would wait behind it though the lock is free.
    try:
        queue.join(place)
        while True:
            place.arm_unwatched()
            first = queue.first() is place
            if first and watched:
                # First watched, then marked, then tried: a release that comes after the try wakes the task.
                place.watch()
                lock.segment._mark(lock.name, True)
            late = deadline is not None and loop.time() >= deadline
            if late or watched or (first and place.hopeful) or lock.segment.detached:
                taken = lock._try(task, turn)
                if taken:
                    return lock
            if late:
                lock.segment._late(lock.name, True, lock.timeout)
            left = None if deadline is None else deadline - loop.time()
            if first and not watched:
                left = _UNWATCHED if left is None else min(_UNWATCHED, left)
                watched = True
            await place.sleep(None if left is None else max(left, 0.0))
    finally:
        try:
            try:
                if watched:
                    place.watcher.drop(place)
            finally:
                queue.leave(place, taken)
        except BaseException:
            queue.leave(place, taken)
            if taken:  # The task does not come into its block, whose end would release the lock.
                lock._release(task)
                queue.released()
            raise
        finally:
            if not taken:
                lock._end(turn)


async def leave(lock: Lock, reason: type[BaseException] | None = None) -> None:
    """The end of `async with lock`: releases the lock. `reason`: the type of the exception that ends the block."""
    if reason is GeneratorExit:
        # A coroutine that is closed, or collected, before its end: this may run outside of its task and of any loop.
        # The lock knows which task took it.
        lock._release(None)
        return
    _, queue = _queue(lock, asyncio.get_running_loop())
    lock._release(_task())
    if queue is not None:
        queue.released()
