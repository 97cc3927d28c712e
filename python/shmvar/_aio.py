"""Waiting in asyncio: one watching thread per handle, whatever number of tasks wait. The queues are in `_line`."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from contextlib import suppress

from shmvar._errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from shmvar._core import Segment

# A lock whose owner died is let go by nobody: looked at this often, in seconds.
_SLICE = 0.04
# A watcher whose last waiter went waits so long for another before it ends, in seconds.
_LINGER = 0.05
# Woken in vain, it looks again after so long at the earliest, in seconds; or after so many times what a look took.
_PAUSE = 0.002
_TIMES = 20
# A watcher that failed waits so long before its tasks start another, in seconds.
_AFTER_FAILURE = 0.02


class Waiter:
    """One task that waits for an index to change, or for a lock."""

    def __init__(self, watcher: Watcher, segment: Segment, index: int | str, seen: int | None) -> None:
        self.loop = asyncio.get_running_loop()
        self.watcher = watcher
        self.segment = segment
        self.index = index
        self.seen = seen  # of a lock, None
        self.future: asyncio.Future[None] | None = None

    def __enter__(self) -> Self:
        self.watcher.add(self)
        return self

    def __exit__(self, *_exception: object) -> None:
        self.watcher.drop(self)

    def arm(self) -> None:
        """Before the look: what comes from now on ends the next `sleep`."""
        self.future = self.loop.create_future()
        # After that: a watcher that fails takes all from its list, then wakes what they sleep on.
        self.watch()

    def watch(self) -> None:
        """From now on the watcher looks for it."""
        if not self.watcher.has(self):
            self.watcher.add(self)

    async def sleep(self, at_most: float | None) -> None:
        """Until there may be something to see."""
        future = self.future
        assert future is not None
        timer = None if at_most is None else self.loop.call_later(at_most, done, future)
        try:
            await future
        finally:
            if timer is not None:
                timer.cancel()

    def look(self) -> bool:
        """In the watching thread: marks the index, and wakes the task if there may be something to see."""
        try:
            version, _ = self.segment._mark(self.index, False)
        except Exception:
            version = -1  # The task meets it itself.
        if version == self.seen:
            return False
        self.wake()
        return True

    def wake(self) -> None:
        """From another thread."""
        future = self.future
        if future is not None:
            try:
                self.loop.call_soon_threadsafe(done, future)
            except RuntimeError:  # Its loop is closed.
                self.watcher.drop(self)


def done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Watcher:
    """Wakes the tasks that wait on one handle. Its thread lives while there are any."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._some = threading.Condition(threading.Lock())
        self._waiters: dict[int, Waiter] = {}
        self._thread: threading.Thread | None = None

    def add(self, waiter: Waiter) -> None:
        if self._pid != os.getpid():  # A forked child has neither the thread nor the tasks.
            self._reset()
        with self._some:
            self._waiters[id(waiter)] = waiter
            self._some.notify()
            if self._thread is None:
                thread = threading.Thread(target=self._run, args=(waiter.segment,), name="shmvar-watcher")
                try:
                    thread.start()
                except BaseException:  # No more threads: the next waiter tries again.
                    del self._waiters[id(waiter)]
                    raise
                self._thread = thread

    def has(self, waiter: Waiter) -> bool:
        return id(waiter) in self._waiters

    def drop(self, waiter: Waiter) -> None:
        if self._pid != os.getpid():  # Of the parent; its thread may have held the lock when this child was forked.
            return
        with self._some:
            if self._waiters.pop(id(waiter), None) is None or self._waiters:
                return
        with suppress(Error):
            waiter.segment._nudge()

    def _run(self, segment: Segment) -> None:
        try:
            self._watch(segment)
        except Error:  # Detached: each task meets it itself.
            pass
        except Exception:  # A task that does not meet it begins anew, with another thread.
            time.sleep(_AFTER_FAILURE)
        finally:
            waiters = dict[int, Waiter]()
            with self._some:
                if self._thread is threading.current_thread():
                    self._thread = None
                    waiters, self._waiters = self._waiters, waiters
            for waiter in waiters.values():
                with suppress(Exception):  # The others shall be woken all the same.
                    waiter.wake()

    def _watch(self, segment: Segment) -> None:
        """Until there is nobody to watch for."""
        rung = False
        while True:
            # Before the list: who comes later is woken by the count, which moves only after that.
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
            if not _look(segment, waiters, locks) and rung:
                # For another index of the same word: who changes that all the time shall not keep us busy.
                time.sleep(max(_PAUSE, _TIMES * (time.monotonic() - began)))
            if self._waiters:  # Else the nudge came already.
                segment._watch(count, _SLICE if locks else None)
            rung = segment._watch_count() != count


def _look(segment: Segment, waiters: list[Waiter], locks: list[Waiter]) -> bool:
    """Marks what they wait for, and wakes those who may have something to see. Is there one?"""
    found = any([waiter.look() for waiter in waiters if waiter.seen is not None])
    # All of them in one call: there may be thousands, and what ends a wait may be a death, which nobody is told of.
    for waiter, may in zip(locks, segment._may_try([waiter.index for waiter in locks]) if locks else (), strict=True):
        if may:
            waiter.wake()
            found = True
    return found


async def changed(segment: Segment, index: int | str, timeout: float | None, seen: int) -> int:
    """The version of `index` as soon as it is not `seen`."""
    loop = asyncio.get_running_loop()
    deadline = None if timeout is None else loop.time() + timeout
    with Waiter(segment._watcher, segment, index, seen) as waiter:
        while True:
            # Armed, then marked, then looked at: what comes after the look wakes.
            waiter.arm()
            version, left = segment._mark(index, False)
            if version != seen:
                return version
            if deadline is not None:
                rest = deadline - loop.time()
                if rest <= 0:
                    segment._late(index, False, timeout)
                left = rest if left is None else min(rest, left)
            await waiter.sleep(left)
