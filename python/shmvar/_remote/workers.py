"""Threads that make blocking calls for tasks of asyncio.

They are daemons, begin when there is work for them, and are as many as there are calls at once, up to `MOST`. A forked
child has its own.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import contextvars
import os
import threading
import weakref

from shmvar._errors import SegmentUnavailableError
from shmvar._remote import threads
from shmvar._remote.link import now
from shmvar._remote.owners import bound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from shmvar._remote.link import Link

    _T = TypeVar("_T")

MOST = 32
"""Each one that works has a connection of its own."""


class _Job:
    """A call that waits for a thread."""

    __slots__ = ("asked", "call", "context", "future", "link", "loop")

    def __init__(self, link: Link, call: Callable[[], Any]) -> None:
        self.link = link
        self.call = call
        self.asked = now()
        self.context = contextvars.copy_context()
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self.loop.create_future()


class _Workers:
    def __init__(self) -> None:
        self._changes = threading.Condition()
        """Of what follows."""
        self.jobs: collections.deque[_Job] = collections.deque()
        self._idle = 0
        self._threads = 0
        self._away: weakref.WeakKeyDictionary[Link, bool] = weakref.WeakKeyDictionary()
        """Links whose last call waited for its whole time in vain."""

    def take(self, job: _Job) -> None:
        with self._changes:
            self.jobs.append(job)
            # Those that are idle may have been told of the other jobs, and not have woken up yet.
            if len(self.jobs) > self._idle and self._threads < MOST:
                try:
                    threads.start(self._work, "shmvar-aio")
                    self._threads += 1
                except RuntimeError:
                    # The system has no more threads: the job waits for one that there is.
                    if not self._threads:
                        self.jobs.pop()
                        raise
            self._changes.notify()

    def _work(self) -> None:
        while True:
            with self._changes:
                while not self.jobs:
                    self._idle += 1
                    self._changes.wait()
                    self._idle -= 1
                job = self.jobs.popleft()
            result: Any = None
            error: BaseException | None = None
            if not job.future.cancelled():
                try:
                    result = job.context.run(self._carried_out, job)
                except BaseException as raised:
                    error = raised
                # Of a loop that was closed meanwhile nobody awaits anything.
                with contextlib.suppress(RuntimeError):
                    job.loop.call_soon_threadsafe(_finish, job.future, result, error)
            del job, result, error

    def _carried_out(self, job: _Job) -> Any:
        timeout = job.link.server.timeout
        if self._away.get(job.link) and now() - job.asked > timeout:
            # As long as others have waited in vain: it would be one more, and the next ones would wait for it.
            raise SegmentUnavailableError(
                f"{job.link.server.place} has not answered for {timeout:g} s; the call was not begun", False
            )
        try:
            result = job.call()
        except SegmentUnavailableError:
            self._away[job.link] = True
            raise
        self._away.pop(job.link, None)
        return result


def _finish(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if isinstance(error, StopIteration):
        # No future takes it.
        replaced = RuntimeError("the call raised StopIteration")
        replaced.__cause__ = error
        error = replaced
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


async def in_worker(link: Link, call: Callable[[], _T]) -> _T:
    """Makes a call in another thread, as the task that is running now. Cancelled, the call goes on by itself.

    Only a call that has not begun yet is not made.
    """
    job = _Job(link, bound(call))
    _workers.take(job)
    return await job.future  # type: ignore[no-any-return]


_workers = _Workers()


def _forked() -> None:
    global _workers
    _workers = _Workers()


os.register_at_fork(after_in_child=_forked)
