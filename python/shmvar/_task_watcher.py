"""Waiting in asyncio: one thread for each handle watches the segment for all tasks that wait through that handle.

`changed` waits for a variable, `changed_any` for the first of several, `next_change` for any change of a segment. The
queues of tasks that wait for a named lock are in `_task_queue`.
"""

from __future__ import annotations

import asyncio
import math
import os
import threading
import time
from contextlib import suppress

from shmvar._errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from shmvar._core import Changes, Segment

# All times are in seconds.

# Nobody is notified of a lock whose owner died: the watcher looks at the locks this often.
_LOCK_POLL = 0.04
# A watcher without waiters stays for this long, in case there is another waiter soon, then it ends.
_LINGER = 0.05
# After a wake-up in vain the watcher pauses for this long, or for so many times what the look took if that is longer.
_PAUSE = 0.002
_PAUSE_TIMES = 20
# A task is woken if its variable expires so much earlier than the task would look by itself.
_EARLIER = 0.001
# A watcher that failed waits for this long before its tasks may start another one.
_AFTER_FAILURE = 0.02


class Waiter:
    """A task that waits for a variable to change or for a lock to be released; a context manager around the wait."""

    def __init__(self, watcher: Watcher, segment: Segment, index: int | str, seen: int | None) -> None:
        self.loop = asyncio.get_running_loop()
        self.watcher = watcher
        self.segment = segment
        self.index = index  # of a variable, or the name of a lock
        self.seen = seen  # the version that the task knows; None for a lock
        # When the task looks again by itself, by the loop's clock. `expire` may have made the variable expire earlier.
        self.until = math.inf
        self.future: asyncio.Future[None] | None = None

    def __enter__(self) -> Self:
        self.watcher.add(self)
        return self

    def __exit__(self, *_exception: object) -> None:
        self.watcher.drop(self)

    def arm(self) -> None:
        """To be called before the task looks at the index: whatever happens from now on ends the next `sleep`."""
        self.future = self.loop.create_future()
        # Until the task has looked, the watcher cannot know by which expiry it will go.
        self.until = math.inf
        # In this order: a watcher that fails first takes all waiters off its list, then completes their futures.
        self.watch()

    def watch(self) -> None:
        """Makes sure that the watcher has this waiter on its list."""
        if not self.watcher.has(self):
            self.watcher.add(self)

    async def sleep(self, at_most: float | None) -> None:
        """Sleeps until there may be something to see, or for `at_most` seconds."""
        future = self.future
        assert future is not None
        timer = None
        if at_most is not None:
            # Of a clock that any thread may read: the loop's may stand still while the loop sleeps.
            self.until = time.monotonic() + at_most
            timer = self.loop.call_later(at_most, complete, future)
        try:
            await future
        finally:
            if timer is not None:
                timer.cancel()

    def look(self) -> bool:
        """Called in the watcher's thread: marks the index as watched, and wakes the task if its version has changed."""
        try:
            version, expires_in = self.segment._mark(self.index, False)
        except Exception:
            version, expires_in = -1, None  # The task will get the same error from its own look.
        if version == self.seen and not self.expires_earlier(expires_in):
            return False
        self.wake()
        return True

    def expires_earlier(self, expires_in: float | None) -> bool:
        """Whether what the task waits for is gone before the task would look by itself."""
        return expires_in is not None and time.monotonic() + expires_in < self.until - _EARLIER

    def wake(self) -> None:
        """Ends the task's `sleep`. To be called from another thread than the loop's."""
        future = self.future
        if future is not None:
            try:
                self.loop.call_soon_threadsafe(complete, future)
            except RuntimeError:  # The loop is closed.
                self.watcher.drop(self)


class AnyWaiter(Waiter):
    """A task that waits for any of several variables to change."""

    def __init__(self, watcher: Watcher, segment: Segment, indices: list[int | str], seen: list[int]) -> None:
        super().__init__(watcher, segment, indices[0], seen[0])
        self.all = indices
        self.all_seen = seen  # the version of each that the task knows

    def look(self) -> bool:
        """The same as of one variable; one call looks at all of them."""
        try:
            place, _, expires_in = self.segment._mark_any(self.all, self.all_seen)
        except Exception:
            place, expires_in = -1, None  # The task will get the same error from its own look.
        if place is None and not self.expires_earlier(expires_in):
            return False
        self.wake()
        return True


class AllWaiter(Waiter):
    """A task that waits for any change of a segment."""

    def __init__(self, changes: Changes) -> None:
        segment = changes.segment
        super().__init__(segment._watcher, segment, 0, 0)
        self.changes = changes

    def look(self) -> bool:
        """The same as of one variable; what the task then looks at is the whole segment."""
        try:
            may = self.changes._may_step()
        except Exception:
            may = True  # The task will get the same error from its own step.
        if may:
            self.wake()
        return may


def complete(future: asyncio.Future[None]) -> None:
    """Gives `future` its result, unless it has one."""
    if not future.done():
        future.set_result(None)


class Watcher:
    """Wakes the tasks that wait through one handle. It has a thread while there are such tasks."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._some = threading.Condition(threading.Lock())
        self._waiters: dict[int, Waiter] = {}
        self._thread: threading.Thread | None = None

    def add(self, waiter: Waiter) -> None:
        """Puts `waiter` on the list, and starts the thread if there is none."""
        if self._pid != os.getpid():  # A forked child has neither the thread nor the tasks of its parent.
            self._reset()
        with self._some:
            self._waiters[id(waiter)] = waiter
            self._some.notify()
            if self._thread is None:
                thread = threading.Thread(target=self._run, args=(waiter.segment,), name="shmvar-watcher")
                try:
                    thread.start()
                except BaseException:  # The system has no more threads: the next waiter tries again.
                    del self._waiters[id(waiter)]
                    raise
                self._thread = thread

    def has(self, waiter: Waiter) -> bool:
        """Whether `waiter` is on the list."""
        return id(waiter) in self._waiters

    def drop(self, waiter: Waiter) -> None:
        """Takes `waiter` off the list; the thread ends soon after the last one."""
        # The list is the parent's, and so is the thread that would be told.
        if self._pid != os.getpid():
            return
        # SYNC: without the lock, because the collector closes forgotten coroutines, and may run in the middle of
        # anything: in this thread while it holds the lock, or in a thread that is starting while `add` holds the lock
        # and waits for the start. `pop` is atomic, and who waits for the lock waits for no waiter to go.
        if self._waiters.pop(id(waiter), None) is None or self._waiters:
            return
        with suppress(Error):
            waiter.segment._nudge()

    def _run(self, segment: Segment) -> None:
        try:
            self._watch(segment)
        except Error:  # The handle was detached, say: each task gets the same error from its own look.
            pass
        except Exception:  # A task whose own look does not fail waits again, with another thread.
            time.sleep(_AFTER_FAILURE)
        finally:
            waiters = dict[int, Waiter]()
            with self._some:
                if self._thread is threading.current_thread():
                    self._thread = None
                    waiters, self._waiters = self._waiters, waiters
            # SYNC: a copy, for a `drop` that has found this list may take its waiter off now.
            for waiter in list(waiters.values()):
                with suppress(Exception):  # All the others must be woken in any case.
                    waiter.wake()

    def _watch(self, segment: Segment) -> None:
        """Watches until there are no more waiters."""
        notified = False
        while True:
            # Read before the list: the count moves only after a later waiter is on the list, and so wakes this thread.
            count = segment._watch_count()
            with self._some:
                if not self._waiters:
                    self._some.wait(_LINGER)
                if not self._waiters or not threading.main_thread().is_alive():
                    self._thread = None
                    return
                waiters = list(self._waiters.values())
            locks = [waiter for waiter in waiters if waiter.seen is None]
            began = time.monotonic()
            if not _look(segment, waiters, locks) and notified:
                # The change was of another index that shares the wake word. A process that changes such an index all
                # the time must not keep this thread busy.
                time.sleep(max(_PAUSE, _PAUSE_TIMES * (time.monotonic() - began)))
            if self._waiters:  # Otherwise `drop` has nudged already.
                segment._watch(count, _LOCK_POLL if locks else None)
            notified = segment._watch_count() != count


def _look(segment: Segment, waiters: list[Waiter], locks: list[Waiter]) -> bool:
    """Marks what the tasks wait for, and wakes those that may have something to see. Returns whether it woke any."""
    found = any([waiter.look() for waiter in waiters if waiter.seen is not None])
    # One call for all locks: there may be thousands, and a wait may end by a death, of which nobody is notified.
    for waiter, may in zip(locks, segment._may_try([waiter.index for waiter in locks]) if locks else (), strict=True):
        if may:
            waiter.wake()
            found = True
    return found


async def changed(segment: Segment, index: int | str, timeout: float | None, seen: int) -> int:
    """The version of `index` as soon as it is not `seen`. Raises `WaitTimeoutError` after `timeout` seconds."""
    end_at = _end_at(timeout)
    with Waiter(segment._watcher, segment, index, seen) as waiter:
        while True:
            # First armed, then marked, then looked at: a change that comes after the look wakes the task.
            waiter.arm()
            version, expires_in = segment._mark(index, False)
            if version != seen:
                return version
            if _is_late(end_at):
                segment._late(index, False, timeout)
            await waiter.sleep(_at_most(end_at, expires_in))


async def changed_any(
    segment: Segment, indices: list[int | str], timeout: float | None, seen: list[int]
) -> tuple[int | str, int]:
    """The first of `indices` whose version is not the one of `seen`, as soon as there is one, and this version.

    Raises `WaitTimeoutError` after `timeout` seconds.
    """
    end_at = _end_at(timeout)
    with AnyWaiter(segment._watcher, segment, indices, seen) as waiter:
        while True:
            waiter.arm()  # in the order of `changed`
            place, version, expires_in = segment._mark_any(indices, seen)
            if place is not None:
                return indices[place], version
            if _is_late(end_at):
                segment._late_any(indices, timeout)
            await waiter.sleep(_at_most(end_at, expires_in))


async def next_change(changes: Changes) -> tuple[int | str, int]:
    """The next change that `changes` has to tell. Raises `WaitTimeoutError` after its timeout without any."""
    end_at = _end_at(changes.timeout)
    late = looked = False
    with AllWaiter(changes) as waiter:
        while True:
            waiter.arm()  # in the order of `changed`
            change, seconds, woken = changes._step(late)
            if change is not None:
                return change
            if woken is None:
                raise StopAsyncIteration
            if late and (woken or looked):
                changes._late()
            if seconds is None:
                # The loop must not stand still while a large segment is looked at.
                await waiter.loop.run_in_executor(None, changes._round)
                looked = late = late or _is_late(end_at)
                continue
            late = _is_late(end_at)
            if late and woken:
                continue
            if woken:
                await waiter.sleep(_at_most(end_at, seconds))
            else:
                await asyncio.sleep(seconds if late else _at_most(end_at, seconds) or 0)


def _end_at(timeout: float | None) -> float | None:
    """When a timeout that begins now is over, on the clock of the running loop."""
    return None if timeout is None else asyncio.get_running_loop().time() + timeout


def _is_late(end_at: float | None) -> bool:
    return end_at is not None and end_at <= asyncio.get_running_loop().time()


def _at_most(end_at: float | None, expires_in: float | None) -> float | None:
    """How long a task may sleep: until `end_at`, or until what it waits for expires."""
    if end_at is None:
        return expires_in
    left = end_at - asyncio.get_running_loop().time()
    return left if expires_in is None else min(left, expires_in)
