"""Functions that are called again and again while somebody needs it: leases are renewed so."""

from __future__ import annotations

import contextlib
import threading

from shmvar._remote import threads
from shmvar._remote.connections import generation, now

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

_LINGER = 5.0
"""Seconds for which the thread stays without anything to do."""


class Task:
    """A function that is called every so many seconds, until `close`. In a forked child there is none."""

    def __init__(self, seconds: float, function: Callable[[], object]) -> None:
        self.seconds = seconds
        self.function = function
        self.due = now() + seconds
        self.closed = False

    def close(self) -> None:
        self.closed = True
        _renewals.tasks.pop(self, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


def every(seconds: float, function: Callable[[], object]) -> Task:
    """Calls a function every so many seconds, for the first time after the first of them.

    It is called in a thread that all of these functions share: it must not wait for anything but a server. What it
    raises is ignored.
    """
    task = Task(seconds, function)
    while not _renewals.takes(task):
        _restart()
    return task


class Renewals:
    """The thread. It takes no lock: see `listener`."""

    def __init__(self) -> None:
        self.made_in = generation()
        self.tasks: dict[Task, None] = {}
        """Changed by any thread, one item at a time."""
        self.ended = False
        self._starts: list[None] = [None]
        self._alarm = threading.Lock()
        self._alarm.acquire()

    def takes(self, task: Task) -> bool:
        """Whether this thread will call it. False: it has ended."""
        self.tasks[task] = None
        # `_run` sets `ended` and looks at the tasks afterwards: one of the two sees the other.
        if self.ended or self.made_in != generation():
            self.tasks.pop(task, None)
            return False
        with contextlib.suppress(IndexError):
            self._starts.pop()
            try:
                threads.start(self._run, "shmvar-renewals")
            except BaseException:
                self.ended = True
                raise
        with contextlib.suppress(RuntimeError):
            self._alarm.release()
        return True

    def _run(self) -> None:
        try:
            idle_at = now() + _LINGER
            while self.made_in == generation():
                tasks = list(self.tasks)
                if tasks:
                    idle_at = now() + _LINGER
                left = min((task.due for task in tasks), default=idle_at) - now()
                if left > 0:
                    self._alarm.acquire(timeout=min(left, 60.0))
                    continue
                if not tasks:
                    self.ended = True
                    if not self.tasks:
                        return
                    self.ended = False
                for task in tasks:
                    if task.closed:
                        self.tasks.pop(task, None)
                    elif task.due <= now():
                        # What was missed is not made up for.
                        task.due = now() + task.seconds
                        with contextlib.suppress(Exception):
                            task.function()
        finally:
            self.ended = True


_renewals = Renewals()


def _restart() -> None:
    global _renewals
    if _renewals.ended or _renewals.made_in != generation():
        _renewals = Renewals()
