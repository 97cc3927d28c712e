"""Waiting in programs whose threads are divided into greenlets by gevent or eventlet.

While one greenlet waits in a call of this package, the other greenlets of its thread must run. For that the extension
module asks here for the library's `sleep`, and lets the greenlets that wait for one named lock stand in a queue.
"""

from __future__ import annotations

import importlib
import sys
from collections import OrderedDict
from typing import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# A program that has the library patch either of these modules expects that a call that waits lets other greenlets run.
_GEVENT = ("threading", "time")
_EVENTLET = ("thread", "time")


class _Library(NamedTuple):
    """The library that makes the greenlets of the running thread."""

    hub: Any
    sleep: Callable[[float], object]
    semaphores: str  # the module that has `Semaphore`


def _library(strictly: bool) -> _Library | None:
    """The library of the running thread. None if nothing is patched, if the thread has no hub, or if this is the hub.

    A thread without a hub has no other greenlets, and must not be given a hub that nobody would end. A call that is
    made in the hub itself cannot let the hub run: it gets None or, with `strictly`, the library, whose functions then
    raise an error that says so.
    """
    monkey: Any = sys.modules.get("gevent.monkey")
    if monkey is not None and any(map(monkey.is_module_patched, _GEVENT)):
        gevent: Any = sys.modules["gevent"]
        hub = sys.modules["gevent._hub_local"].get_hub_if_exists()
        if hub is not None and (strictly or hub is not gevent.getcurrent()):
            return _Library(hub, gevent.sleep, "gevent.lock")
    patcher: Any = sys.modules.get("eventlet.patcher")
    if patcher is not None and any(map(patcher.is_monkey_patched, _EVENTLET)):
        greenthread: Any = sys.modules["eventlet.greenthread"]
        hub = getattr(sys.modules["eventlet.hubs"]._threadlocal, "hub", None)
        if hub is not None and (strictly or hub.greenlet is not greenthread.getcurrent()):
            return _Library(hub, greenthread.sleep, "eventlet.semaphore")
    return None


def sleeper(strictly: bool) -> Callable[[float], object] | None:
    """The library's `sleep`, which takes seconds. None if the caller has to wait in another way: see `_library`."""
    library = _library(strictly)
    return None if library is None else library.sleep


class Place:
    """A greenlet's place in the queue of the greenlets of its thread that wait for one lock: first come, first served.

    Only the first greenlet of a queue tries to take the lock. When it leaves, with the lock or without, it wakes the
    next one.
    """

    def __init__(self, name: tuple[int, bytes, int | str], library: _Library) -> None:
        self._name = name
        self._hub = library.hub  # kept alive: no other hub can have its id, which is in `name`
        self._wake_up: Any = importlib.import_module(library.semaphores).Semaphore(0)
        self._queue: OrderedDict[Place, None] = OrderedDict()
        self._was_first = False  # by the time `leave` was called

    def join(self) -> None:
        """Enters the queue at its end. If an exception interrupts this, `leave` takes out what has entered."""
        self._queue = _queues.setdefault(self._name, self._queue)
        self._queue[self] = None

    def first(self) -> bool:
        """Whether it is this greenlet's turn to try."""
        return next(iter(self._queue), None) is self

    def wait(self, pause: float, at_most: float) -> bool:
        """Sleeps until `wake` is called, and returns whether it was.

        The first greenlet sleeps for `pause` seconds at most, the others for `at_most` seconds.
        """
        return bool(self._wake_up.acquire(timeout=pause if self.first() else at_most))

    def wake(self) -> None:
        """Ends the current or next `wait`."""
        if self._wake_up.locked():
            self._wake_up.release()

    def leave(self) -> None:
        """Leaves the queue. A second call does what an exception kept the first one from doing."""
        # Kept before the place is taken out: by then nothing else tells a second call that the next one must be woken.
        self._was_first = self._was_first or self.first()
        self._queue.pop(self, None)
        if self._queue:
            if self._was_first:
                next(iter(self._queue)).wake()
        elif _queues.get(self._name) is self._queue:
            del _queues[self._name]


# By the id of the hub, the id of the segment and the name of the lock.
_queues: dict[tuple[int, bytes, int | str], OrderedDict[Place, None]] = {}


def place(segment: bytes, lock: int | str) -> Place | None:
    """A place for the queue for a lock, not yet in it. None if the caller has to wait in another way: see `_library`.

    The caller notes the place before `join`: so there is no moment at which an exception, of a signal handler say,
    leaves a place in the queue of which nobody knows.
    """
    library = _library(True)
    return None if library is None else Place((id(library.hub), segment, lock), library)


def released(segment: bytes, lock: int | str) -> None:
    """Wakes the first greenlet of the queue for a lock, after a greenlet of this thread has released that lock."""
    if _queues and (library := _library(True)) is not None:
        queue = _queues.get((id(library.hub), segment, lock))
        if queue:
            next(iter(queue)).wake()
