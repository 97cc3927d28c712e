"""Where a program's threads are greenlets: what lets the others of a thread run while one of them waits."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# Patched, either of them says that who waits shall let others run.
_PATCHED = ("threading", "time")
_EVENTLETS = ("thread", "time")


def sleeper(strictly: bool) -> Callable[[float], object] | None:
    """The library's `sleep`. None: nothing is patched, or this thread has no hub, or is in it.

    What is called in the hub itself cannot let it run. `strictly`: there `sleep`, too, which raises what says so.
    """
    return _gevent(strictly) or _eventlet(strictly)


def _gevent(strictly: bool) -> Callable[[float], object] | None:
    monkey: Any = sys.modules.get("gevent.monkey")
    if monkey is None or not any(map(monkey.is_module_patched, _PATCHED)):
        return None
    gevent: Any = sys.modules["gevent"]
    # A thread without a hub has no other greenlets, and shall not be given a hub that nobody would end.
    hub = sys.modules["gevent._hub_local"].get_hub_if_exists()
    return gevent.sleep if hub is not None and (strictly or hub is not gevent.getcurrent()) else None


def _eventlet(strictly: bool) -> Callable[[float], object] | None:
    patcher: Any = sys.modules.get("eventlet.patcher")
    if patcher is None or not any(map(patcher.is_monkey_patched, _EVENTLETS)):
        return None
    greenthread: Any = sys.modules["eventlet.greenthread"]
    hub = getattr(sys.modules["eventlet.hubs"]._threadlocal, "hub", None)
    return greenthread.sleep if hub is not None and (strictly or hub.greenlet is not greenthread.getcurrent()) else None
