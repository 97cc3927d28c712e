"""Tells the error of a value, or of another object of the caller, from what a signal handler raised meanwhile.

A value runs code of its own while it is pickled and unpickled. A signal handler may run in the middle of it, and what
the handler raises (a deadline, say) comes out of the call as an error of the value does. So the same is done once more:
an error of the value comes again, and that of a handler does not. For segments of this machine `src/py/errors.rs` does
so.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def comes_again(error: Exception, action: Callable[[], Any]) -> bool:
    """Whether `action`, which has raised this error, raises one of the same class again. An interrupt is raised.

    Texts are not compared: those of the same error may have another address, time or file name in them each time.
    """
    try:
        action()
    except Exception as again:
        return type(again) is type(error)
    return False
