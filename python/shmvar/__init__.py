"""Python values shared between processes, by number, through memory.

>>> import shmvar
>>> segment = shmvar.attach(4711)       # any process, any user's choice of number or text
>>> segment[1] = {"answer": 42}         # any value that pickles
>>> segment[1]                          # in another process, too
{'answer': 42}
>>> segment.destroy()                   # nothing else destroys it, no exit and no kill

The rest is in `help(shmvar.attach)`, `help(shmvar.Segment)` and `help(shmvar.Lock)`; every error is a `shmvar.Error`.
"""

from _collections_abc import MutableMapping as _MutableMapping

from shmvar import _views as _views  # now: later there may be no permission left to read it

try:
    from shmvar._core import (
        CheckReport,
        Lock,
        Segment,
        SegmentInfo,
        VariableInfo,
        __version__,
        attach,
        destroy,
        exists,
        ftok,
        segments,
    )
except ImportError as _error:
    # An interpreter with a lock of its own is refused by CPython, which says no more than that.
    if "does not support loading in subinterpreters" not in str(_error):
        raise
    from shmvar._errors import ANOTHER_INTERPRETER as _TEXT

    raise ImportError(_TEXT, name=_error.name, path=_error.path) from None

from shmvar._errors import (
    CorruptSegmentError,
    DetachedError,
    Error,
    IncompatibleSegmentError,
    ReadOnlyError,
    SegmentAccessError,
    SegmentBusyError,
    SegmentExistsError,
    SegmentFullError,
    SegmentNotFoundError,
    SegmentSystemError,
    WaitTimeoutError,
)
from shmvar._functions import (
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
    from shmvar._untrusted import UntrustedValueError as UntrustedValueError

_MutableMapping.register(Segment)


def __getattr__(name: str) -> type[Error]:
    if name == "UntrustedValueError":
        from shmvar._untrusted import UntrustedValueError

        return UntrustedValueError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _never_called() -> None:
    """For tools that look for imports in code, as PyInstaller does, and see none in the extension module."""
    from shmvar import _by_name as _by_name


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})  # `UntrustedValueError` is not there before somebody asks for it


__all__ = [
    "CheckReport",
    "CorruptSegmentError",
    "DetachedError",
    "Error",
    "IncompatibleSegmentError",
    "Lock",
    "ReadOnlyError",
    "Segment",
    "SegmentAccessError",
    "SegmentBusyError",
    "SegmentExistsError",
    "SegmentFullError",
    "SegmentInfo",
    "SegmentNotFoundError",
    "SegmentSystemError",
    "UntrustedValueError",
    "VariableInfo",
    "WaitTimeoutError",
    "__version__",
    "attach",
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
