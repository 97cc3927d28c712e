"""Tells the error of a value, or of another object of the caller, from what a signal handler raised meanwhile.

A value runs code of its own while it is pickled and unpickled. A signal handler may run in the middle of it, and what
the handler raises (a deadline, say) comes out of the call as an error of the value does. So the same is done once more:
an error of the value comes again, and that of a handler does not. For segments of this machine `src/py/errors.rs` does
so.
"""

from __future__ import annotations

import contextlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_VERSION = "_shmvar_version"


def comes_again(error: Exception, action: Callable[[], Any]) -> bool:
    """Whether `action`, which has raised this error, raises one of the same class again. An interrupt is raised.

    Texts are not compared: those of the same error may have another address, time or file name in them each time.
    """
    try:
        action()
    except Exception as again:
        return type(again) is type(error)
    return False


def set_version(error: Exception, version: int) -> None:
    """Notes which version of a variable was being decoded. Classes without room for it are left as they are."""
    with contextlib.suppress(Exception):
        setattr(error, _VERSION, version)


def version_of(error: Exception) -> int | None:
    """The version of a variable that was being decoded when this was raised. None: that is not known."""
    version = getattr(error, _VERSION, None)
    return version if isinstance(version, int) else None
