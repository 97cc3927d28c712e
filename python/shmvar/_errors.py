"""The package's own errors. Each is also the built-in error that people catch for such a thing, with its `errno`."""

from __future__ import annotations

from errno import EACCES, EEXIST, ENOENT, ETIMEDOUT

TYPE_CHECKING = False  # of `typing`, whose import costs more than the rest of the package
if TYPE_CHECKING:
    from shmvar._untrusted import UntrustedValueError as UntrustedValueError

ANOTHER_INTERPRETER = (
    "shmvar works in one interpreter of a process, the first that imports it, and this is another one: a "
    "sub-interpreter, or Python begun anew after Py_FinalizeEx. Remedies: in uWSGI, `single-interpreter = true`; in "
    "mod_wsgi, `WSGIApplicationGroup %{GLOBAL}`; elsewhere, a process for each application (they share segments all "
    "the same), and one Py_Initialize in each"
)
"""Of the `ImportError` there."""


class Error(Exception):
    """Base of every error that is the package's own."""


class SegmentNotFoundError(Error, FileNotFoundError):
    """There is no segment of this key."""

    errno = ENOENT


class SegmentExistsError(Error, FileExistsError):
    """There is a segment of this key already."""

    errno = EEXIST


class SegmentAccessError(Error, PermissionError):
    """The system refuses, or the segment is another user's. Names key, owner and mode."""

    errno = EACCES


class SegmentBusyError(Error, TimeoutError):
    """A living process holds the segment up, or there is no room for one more process."""

    errno = ETIMEDOUT


class SegmentSystemError(Error, OSError):
    """The system refused for a reason of its own, which `errno` says: no descriptors, no tmpfs. Nothing has changed."""


class ReadOnlyError(Error, PermissionError):
    """A change through a read-only handle."""

    errno = EACCES


class SegmentFullError(Error, MemoryError):
    """It does not fit; nothing has changed.

    Attributes:
        needed: bytes that the change would have been charged, or pages that it would have taken.
        free: bytes left for it.
        size: the limit (of `resize` below what is used, the one asked for), or the size of the memory file system where
            that is what is full.
    """

    def __init__(self, message: str = "", needed: int = 0, free: int = 0, size: int = 0) -> None:
        super().__init__(message)
        self.needed = needed
        self.free = free
        self.size = size

    def __reduce__(self) -> tuple[type[SegmentFullError], tuple[str, int, int, int]]:
        return type(self), (str(self), self.needed, self.free, self.size)


class IncompatibleSegmentError(Error, ValueError):
    """Not a segment of ours, or of another format version. Nothing was written to it."""


class CorruptSegmentError(Error, ValueError):
    """Damaged contents. Names the place."""


class DetachedError(Error, ValueError):
    """The handle was detached."""


class WaitTimeoutError(Error, TimeoutError):
    """Time is up."""

    errno = ETIMEDOUT


for _class in list(globals().values()):
    if isinstance(_class, type) and issubclass(_class, Error):
        _class.__module__ = "shmvar"
del _class


def __getattr__(name: str) -> type[Error]:
    """`UntrustedValueError` derives from one of pickle's errors: pickle is imported when somebody asks for it."""
    if name == "UntrustedValueError":
        from shmvar._untrusted import UntrustedValueError

        return UntrustedValueError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
