"""Waiting in asyncio: one watching thread per handle, whatever number of tasks wait."""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
import time
from contextlib import suppress
from weakref import WeakKeyDictionary

from shmvar._errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

    from shmvar._core import Lock, Segment

# A lock whose owner died is let go by nobody: looked at this often, in seconds.
_SLICE = 0.02
# A watcher whose last waiter went waits so long for another before it ends, in seconds.
_LINGER = 0.05
# Woken in vain, it looks again after so long at the earliest, in seconds.
_PAUSE = 0.002
# A watcher that failed waits so long before its tasks start another, in seconds.
_AFTER_FAILURE = 0.02


class _Waiter:
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
        if not self.watcher.has(self):
            self.watcher.add(self)

    async def sleep(self, at_most: float | None) -> None:
        """Until there may be something to see."""
        future = self.future
        assert future is not None
        timer = None if at_most is None else self.loop.call_later(at_most, _done, future)
        try:
            await future
        finally:
            if timer is not None:
                timer.cancel()

    def look(self) -> bool:
        """In the watching thread: marks the index, and wakes the task if there may be something to see."""
        try:
            version, _ = self.segment._mark(self.index, self.seen is None)
        except Exception:
            version = -1  # The task meets it itself.
        if self.seen is not None and version == self.seen:
            return False
        self.wake()
        return True

    def wake(self) -> None:
        """From another thread."""
        future = self.future
        if future is not None:
            try:
                self.loop.call_soon_threadsafe(_done, future)
            except RuntimeError:  # Its loop is closed.
                self.watcher.drop(self)


def _done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Watcher:
    """Wakes the tasks that wait on one handle. Its thread lives while there are any."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._some = threading.Condition(threading.Lock())
        self._waiters: dict[int, _Waiter] = {}
        self._thread: threading.Thread | None = None

    def add(self, waiter: _Waiter) -> None:
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

    def has(self, waiter: _Waiter) -> bool:
        return id(waiter) in self._waiters

    def drop(self, waiter: _Waiter) -> None:
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
            waiters = dict[int, _Waiter]()
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
            if not any([waiter.look() for waiter in waiters]) and rung:
                # For another index of the same word: who changes that all the time shall not keep us busy.
                time.sleep(_PAUSE)
            if self._waiters:  # Else the nudge came already.
                segment._watch(count)
            rung = segment._watch_count() != count


async def changed(segment: Segment, index: int | str, timeout: float | None, seen: int) -> int:
    """The version of `index` as soon as it is not `seen`."""
    loop = asyncio.get_running_loop()
    deadline = None if timeout is None else loop.time() + timeout
    with _Waiter(segment._watcher, segment, index, seen) as waiter:
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


async def enter(lock: Lock) -> Lock:
    """`async with lock`: held by the task."""
    task, turn = _task(), lock._turn()
    if lock._try(task, turn):
        return lock
    loop = asyncio.get_running_loop()
    deadline = None if lock.timeout is None else loop.time() + lock.timeout
    taken = False
    try:
        with _Waiter(lock.segment._watcher, lock.segment, lock.name, None) as waiter:
            while True:
                waiter.arm()
                lock.segment._mark(lock.name, True)
                taken = lock._try(task, turn)
                if taken:
                    return lock
                if deadline is not None and loop.time() >= deadline:
                    lock.segment._late(lock.name, True, lock.timeout)
                rest = _SLICE if deadline is None else min(_SLICE, deadline - loop.time())
                await waiter.sleep(max(rest, 0.0))
    finally:
        if not taken:
            lock._end(turn)


async def leave(lock: Lock, reason: type[BaseException] | None = None) -> None:
    """The end of `async with lock`."""
    # A coroutine that is closed, or collected, unfinished: outside of its task, perhaps of any loop. The lock knows it.
    lock._release(None if reason is GeneratorExit else _task())
