"""Threads that belong to nobody's call, though a call may start them."""

from __future__ import annotations

import contextvars
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def start(target: Callable[[], object], name: str) -> None:
    """Starts a thread that does not keep the program alive.

    Its context is empty: from Python 3.14 on a thread may get a copy of that of its starter, and would keep the task of
    that, and the locks of the task, for its own life.

    Raises:
        RuntimeError: the system has no more threads.
    """
    thread = threading.Thread(target=target, name=name, daemon=True)
    contextvars.Context().run(thread.start)
