"""Tells what the caller's own code raised during a request from what the network did."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

_LIBRARIES = {"redis", "hiredis", "shmvar", "socket", "ssl", "selectors", "encodings", "gevent", "eventlet"}
"""What raises the errors of a connection."""


def callers_own(error: BaseException) -> BaseException | None:
    """What a signal handler of the caller raised during a request, though it looks like a lost connection.

    A `TimeoutError` of the caller's own deadline is an `OSError` as those of sockets are, and the library makes an
    error of its own of it. It was raised in the caller's code, which a library called: the traceback says so.
    """
    seen: BaseException | None = error
    while seen is not None and seen.__traceback__ is not None:
        trace = seen.__traceback__
        if not _of_library(trace):
            # What the caller was handling when it called.
            return None
        while trace.tb_next is not None:
            trace = trace.tb_next
        if not _of_library(trace):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None


def _of_library(trace: TracebackType) -> bool:
    return str(trace.tb_frame.f_globals.get("__name__", "")).partition(".")[0] in _LIBRARIES
