"""Every change of a segment on a server, for `for` and `async for`. docs/remote.md, "Waiting".

What there is to tell is in `heard`: this file sleeps, and keeps several threads and tasks apart.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading

from shmvar._errors import WaitTimeoutError
from shmvar._remote.connections import generation, now
from shmvar._remote.handle import Handle
from shmvar._remote.heard import CATCH_UP, Heard
from shmvar._remote.subscription import TaskSignal, ThreadSignal
from shmvar._remote.waiting import timeout_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Mapping
    from typing import Any, NoReturn, Self

    from shmvar._remote.subscription import _Signal

    _Change = tuple[int | str, int]

_BEHIND = 0.001
"""Seconds after which a thread that finds another one at the iterator looks again."""


class Signals:
    """Wakes all that sleep in one iterator. It does not know the iterator, which would never be collected then."""

    def __init__(self) -> None:
        self.sleepers: dict[_Signal, None] = {}

    def set(self) -> None:
        for signal in list(self.sleepers):
            signal.set()


class _Step:
    """How far one step has come."""

    def __init__(self, timeout: float | None) -> None:
        self.began = now()
        self.end = math.inf if timeout is None else self.began + timeout
        # All that changed before the step was made has to be heard of before anything is told, so that of several
        # changes of an index only the last one is. Unless there was something to tell already: the reader is behind.
        self.caught_up: bool | None = None
        self.version: int | None = None
        self.until = 0.0

    def told(self, heard: Heard) -> _Change | None:
        if self.caught_up is None:
            self.caught_up = heard.has_some()
        heard.listen()
        if self.version is not None and not self.caught_up:
            self.caught_up = heard.has_heard_of(self.version)
            if not self.caught_up and heard.is_sure and now() >= self.until:
                heard.doubt()
        return heard.next() if self.caught_up else None

    def needs_work(self, heard: Heard) -> bool:
        return (self.version is None and not self.caught_up) or heard.needs_work(now() >= self.end)

    def work(self, heard: Heard) -> None:
        """Asks the server for what is needed."""
        if self.version is None and not self.caught_up:
            self.version = heard.last_version()
            self.until = now() + CATCH_UP
        else:
            heard.work(now() >= self.end)

    def is_over(self, heard: Heard) -> bool:
        """Whether the time is over, and there was nothing to tell."""
        return bool(self.caught_up) and now() >= self.end and heard.is_sure and not heard.has_some()

    def is_shut_out(self) -> bool:
        """Whether the time is over for one that was not let in all the time. Who has none gets a moment."""
        return now() >= max(self.end, self.began + CATCH_UP)

    def pause(self, heard: Heard, entered: bool) -> float:
        """For how long to sleep."""
        if not entered:
            return _BEHIND
        at = heard.wakes_at()
        if self.caught_up:
            at = min(at, max(self.end, now() + _BEHIND))
        elif heard.is_sure:
            at = min(at, self.until)
        return at - now()


class _Visit:
    """One look of a thread or task at the iterator."""

    __slots__ = ("over", "thread")

    def __init__(self, over: bool = False) -> None:
        self.thread = threading.get_ident()
        self.over = over
        """Set by an assignment: no signal handler runs between the end of a `try` and one in its `finally`."""


class RemoteChanges:
    """Every change of a segment, from `RemoteSegment.changes`: the interface of `Changes`."""

    # Until the first look is made nobody else has this. What it has by an interrupt then, `Heard` ends itself.
    _closed = True

    def __init__(self, segment: Handle, newer_than: Any, prefix: str | None, timeout: float | None) -> None:
        self._segment = segment
        self._timeout = timeout
        self._made_in = generation()
        self._signals = Signals()
        # Whose look goes on: no lock, which a signal handler that raises could leave locked.
        self._inside = _Visit(over=True)
        # For an instant. A signal handler may come within it, and looks, too.
        self._entering = threading.RLock()
        with self._sleeping(signal := ThreadSignal()):
            self._heard = Heard(segment, newer_than, prefix, self._signals, signal)
        self._closed = False

    @property
    def segment(self) -> Handle:
        """The handle that it was made from."""
        return self._segment

    @property
    def timeout(self) -> float | None:
        """For how many seconds a step waits. None: without end."""
        return self._timeout

    def close(self) -> None:
        """End the iteration, also for a thread or task that waits in it. Again is a no-op."""
        if not self._closed:
            self._closed = True
            self._heard.close()
            # SYNC: a sleeper is on the list before it looks whether this is closed.
            self._signals.set()

    def __del__(self) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        # A copy would take what the other one is to be told, and end it with itself.
        raise TypeError("cannot pickle 'shmvar.RemoteChanges' object")

    def __repr__(self) -> str:
        return f"<shmvar.Changes of segment {self._segment._url.key!r}{', closed' if self._has_ended() else ''}>"

    def __iter__(self) -> Self:
        return self

    def __aiter__(self) -> Self:
        return self

    def __next__(self) -> _Change:
        step, visit = _Step(self._timeout), _Visit(over=True)
        try:
            with self._sleeping(signal := ThreadSignal()):
                while True:
                    visit = _Visit()
                    entered = self._enters(visit)
                    change = self._told(step) if entered else None
                    if change is not None:
                        break
                    work = entered and step.needs_work(self._heard)
                    if work:
                        step.work(self._heard)
                    visit.over = True
                    if not entered and step.is_shut_out():
                        raise self._late()
                    if not work:
                        signal.wait(step.pause(self._heard, entered))
            # Until here a signal handler that raises leaves the change to the next step.
            self._heard.tell()
            return change
        finally:
            visit.over = True

    def __anext__(self) -> Coroutine[Any, Any, _Change]:
        return self._next_in_task()

    async def _next_in_task(self) -> _Change:
        loop = asyncio.get_running_loop()
        step, visit = _Step(self._timeout), _Visit(over=True)
        try:
            with self._sleeping(signal := TaskSignal(loop)):
                while True:
                    visit = _Visit()
                    entered = self._enters(visit)
                    change = self._told(step) if entered else None
                    if change is not None:
                        break
                    work = entered and step.needs_work(self._heard)
                    visit.over = True
                    if not entered and step.is_shut_out():
                        raise self._late()
                    if work:
                        # The loop must not stand still for the server.
                        await loop.run_in_executor(None, self._work_elsewhere, step)
                    else:
                        await signal.wait(step.pause(self._heard, entered))
            self._heard.tell()
            return change
        except StopIteration:
            raise StopAsyncIteration from None
        finally:
            visit.over = True

    def _work_elsewhere(self, step: _Step) -> None:
        visit = _Visit()
        try:
            if self._enters(visit) and not self._has_ended() and step.needs_work(self._heard):
                step.work(self._heard)
        finally:
            visit.over = True

    def _told(self, step: _Step) -> _Change | None:
        """The next change, if there is one: `tell` follows. Raises StopIteration at the end, and WaitTimeoutError."""
        if self._has_ended():
            raise StopIteration
        self._segment._open  # noqa: B018 - it raises DetachedError
        change = step.told(self._heard)
        near = self._segment._near
        if change is not None and near is not None:
            # Whoever is told of a version reads nothing older.
            near.told(*change)
        if change is None and step.is_over(self._heard):
            raise self._late()
        return change

    def _late(self) -> WaitTimeoutError:
        return WaitTimeoutError(f"nothing changed within {self._timeout or 0:g} s")

    def _has_ended(self) -> bool:
        return self._closed or self._made_in != generation()

    @contextlib.contextmanager
    def _sleeping(self, signal: _Signal) -> Iterator[None]:
        self._signals.sleepers[signal] = None
        try:
            yield
        finally:
            self._signals.sleepers.pop(signal, None)
            # What woke this one may have been for another.
            self._signals.set()

    def _enters(self, visit: _Visit) -> bool:
        """Whether this look may begin: no other one goes on. Whoever asks ends it by `over`, whatever is raised."""
        # In a forked child a thread of the parent may have been within.
        if self._has_ended():
            return True
        with self._entering:
            inside = self._inside
            if inside.over:
                self._inside = visit
                return True
        if inside.thread == visit.thread:
            # In a signal handler, say: the thread would wait for itself.
            raise RuntimeError("this thread is looking for changes already")
        return False


class Changing(Handle):
    """The part of `RemoteSegment` that tells of changes."""

    __slots__ = ()

    def changes(
        self,
        *,
        newer_than: Mapping[Any, int | None] | None = None,
        prefix: str | None = None,
        timeout: float | None = None,
    ) -> RemoteChanges:
        return RemoteChanges(self, newer_than, prefix, timeout_of(timeout))
