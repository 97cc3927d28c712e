"""Python values shared between processes, by number, through memory.

>>> import shmvar
>>> segment = shmvar.attach(4711)       # any process; the key is any number or text
>>> segment[1] = {"answer": 42}         # any value that can be pickled
>>> segment[1]                          # in another process, too
{'answer': 42}
>>> segment.destroy()                   # nothing else destroys a segment, no exit and no kill

`help(shmvar.attach)`, `help(shmvar.Segment)` and `help(shmvar.Lock)` explain the rest. Every error of the package's own
is a `shmvar.Error`.
"""

from _collections_abc import MutableMapping as _MutableMapping

try:
    from shmvar._core import (
        Changes,
        CheckReport,
        Lock,
        Queue,
        Segment,
        SegmentInfo,
        TakenItem,
        VariableInfo,
        __version__,
        attach,
        destroy,
        exists,
        ftok,
        segments,
    )
except ImportError as _error:
    # CPython refuses an interpreter that has a lock of its own, and says no more than that. So this is the first
    # import of it: a module that imports it, too, comes later.
    if "does not support loading in subinterpreters" not in str(_error):
        raise
    from shmvar._errors import ANOTHER_INTERPRETER as _TEXT

    raise ImportError(_TEXT, name=_error.name, path=_error.path) from None

from shmvar._copying import copy
from shmvar._errors import (
    CorruptSegmentError,
    DetachedError,
    DumpError,
    Error,
    IncompatibleSegmentError,
    LockLostError,
    ReadOnlyError,
    SegmentAccessError,
    SegmentBusyError,
    SegmentExistsError,
    SegmentFullError,
    SegmentNotFoundError,
    SegmentSystemError,
    SegmentUnavailableError,
    UnsupportedError,
    WaitTimeoutError,
)

# Imported now: when `keys` is called for the first time, there may be no permission left to read the file.
from shmvar._mapping_views import SegmentKeys as _SegmentKeys  # noqa: F401
from shmvar._php_functions import (
    shm_attach,
    shm_detach,
    shm_get_var,
    shm_has_var,
    shm_put_var,
    shm_remove,
    shm_remove_var,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any as _Any

    from shmvar._queue_errors import QueueEmptyError as QueueEmptyError
    from shmvar._queue_errors import QueueFullError as QueueFullError
    from shmvar._remote.segment import RemoteSegment as RemoteSegment
    from shmvar._untrusted_error import UntrustedValueError as UntrustedValueError

_MutableMapping.register(Segment)


def __getattr__(name: str) -> "_Any":
    if name == "php":
        # By name, because that module stands above this one. Who never asks for it does not pay for it.
        import importlib

        return importlib.import_module("shmvar.php")
    if name == "UntrustedValueError":
        from shmvar._untrusted_error import UntrustedValueError

        return UntrustedValueError
    if name in ("QueueEmptyError", "QueueFullError"):
        from shmvar import _queue_errors

        found: type[Error] = getattr(_queue_errors, name)
        return found
    if name == "RemoteSegment":
        from shmvar._remote.segment import RemoteSegment

        return RemoteSegment
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def load_ipython_extension(ipython: object) -> None:
    """Add the magics `%shm`, `%shm_watch`, `%shm_push` and `%shm_pull` to IPython: `%load_ext shmvar`."""
    _magics().load(ipython)


def unload_ipython_extension(ipython: object) -> None:
    """Take them away again: `%unload_ext shmvar`."""
    _magics().unload(ipython)


def _magics() -> "_Any":
    # By name, because that module stands above this one: it uses the command line's.
    import importlib

    return importlib.import_module("shmvar.notebook._magics")


def _never_called() -> None:
    """For tools that look for imports in code, as PyInstaller does: they see none in the extension module."""
    from shmvar._frozen_imports import Segment  # noqa: F401


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})  # some errors are no globals before somebody asks for them


__all__ = [
    "Changes",
    "CheckReport",
    "CorruptSegmentError",
    "DetachedError",
    "DumpError",
    "Error",
    "IncompatibleSegmentError",
    "Lock",
    "LockLostError",
    "Queue",
    "QueueEmptyError",
    "QueueFullError",
    "ReadOnlyError",
    "Segment",
    "SegmentAccessError",
    "SegmentBusyError",
    "SegmentExistsError",
    "SegmentFullError",
    "SegmentInfo",
    "SegmentNotFoundError",
    "SegmentSystemError",
    "SegmentUnavailableError",
    "TakenItem",
    "UnsupportedError",
    "UntrustedValueError",
    "VariableInfo",
    "WaitTimeoutError",
    "__version__",
    "attach",
    "copy",
    "destroy",
    "exists",
    "ftok",
    "segments",
    "shm_attach",
    "shm_detach",
    "shm_get_var",
    "shm_has_var",
    "shm_put_var",
    "shm_remove",
    "shm_remove_var",
]
