"""Where a program's threads are greenlets: what lets the others of a thread run while one of them waits."""

from __future__ import annotations

import importlib
import sys
from collections import OrderedDict
from typing import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# Patched, either of them says that who waits shall let others run.
_GEVENT = ("threading", "time")
_EVENTLET = ("thread", "time")


class _Library(NamedTuple):
    """What this thread's greenlets are made by."""

    hub: Any
    sleep: Callable[[float], object]
    semaphores: str


def _library(strictly: bool) -> _Library | None:
    """None: nothing is patched, or this thread has no hub, or is in it.

    A thread without a hub has no other greenlets, and shall not be given a hub that nobody would end. What is called in
    the hub itself cannot let it run; `strictly`, it is told so by whatever then waits.
    """
    monkey: Any = sys.modules.get("gevent.monkey")
    if monkey is not None and any(map(monkey.is_module_patched, _GEVENT)):
        gevent: Any = sys.modules["gevent"]
        hub = sys.modules["gevent._hub_local"].get_hub_if_exists()
        if hub is not None and (strictly or hub is not gevent.getcurrent()):
            return _Library(hub, gevent.sleep, "gevent.lock")
    patcher: Any = sys.modules.get("eventlet.patcher")
    if patcher is not None and any(map(patcher.is_monkey_patched, _EVENTLET)):
        green: Any = sys.modules["eventlet.greenthread"]
        hub = getattr(sys.modules["eventlet.hubs"]._threadlocal, "hub", None)
        if hub is not None and (strictly or hub.greenlet is not green.getcurrent()):
            return _Library(hub, green.sleep, "eventlet.semaphore")
    return None


def sleeper(strictly: bool) -> Callable[[float], object] | None:
    """The library's `sleep`."""
    library = _library(strictly)
    return None if library is None else library.sleep


class Place:
    """A greenlet's place in the line of those of its thread that wait for one lock, in the order in which they came.

    Only the first one looks for the lock. Whoever is it leaves with the lock or without, and rings the next one.
    """

    def __init__(self, name: tuple[int, bytes, int | str], library: _Library) -> None:
        self._name = name
        self._hub = library.hub  # While it lives no other one has its number.
        self._bell: Any = importlib.import_module(library.semaphores).Semaphore(0)
        self._line = _lines.setdefault(name, OrderedDict())
        self._line[self] = None

    def first(self) -> bool:
        """Is it the one who looks?"""
        return next(iter(self._line), None) is self

    def wait(self, pause: float, at_most: float) -> bool:
        """Until it is rung, which is True; the first one for a pause."""
        return bool(self._bell.acquire(timeout=pause if self.first() else at_most))

    def ring(self) -> None:
        """It shall look."""
        if self._bell.locked():
            self._bell.release()

    def leave(self) -> None:
        """Again is nothing."""
        was_first = self.first()
        self._line.pop(self, None)
        if not self._line:
            _lines.pop(self._name, None)
        elif was_first:
            next(iter(self._line)).ring()


_lines: dict[tuple[int, bytes, int | str], OrderedDict[Place, None]] = {}


def place(segment: bytes, lock: int | str) -> Place | None:
    """At the end of the line; None where the caller is to wait in another way."""
    library = _library(True)
    return None if library is None else Place((id(library.hub), segment, lock), library)


def released(segment: bytes, lock: int | str) -> None:
    """A greenlet of this thread has let go of a lock: the first one who waits looks now."""
    if _lines and (library := _library(True)) is not None:
        line = _lines.get((id(library.hub), segment, lock))
        if line:
            next(iter(line)).ring()
