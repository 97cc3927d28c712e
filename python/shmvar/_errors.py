"""The package's error classes. Each also derives from the built-in error that people catch for such a failure.

Classes that derive from `OSError` have the `errno` that belongs to them. `UntrustedValueError` is in
`_untrusted_error`, because it needs pickle.
"""

from __future__ import annotations

import io
from errno import EACCES, EEXIST, ENOENT, ENOTSUP, ETIMEDOUT

ANOTHER_INTERPRETER = (
    "shmvar works in one interpreter of a process, the first that imports it, and this is another one: a "
    "sub-interpreter, or Python that was started again after Py_FinalizeEx. Remedies: in uWSGI, `single-interpreter = "
    "true`; in mod_wsgi, `WSGIApplicationGroup %{GLOBAL}`; elsewhere, use a process for each application (they share "
    "segments all the same), and one Py_Initialize in each"
)
"""The text of the `ImportError` that a second interpreter of a process gets."""


class Error(Exception):
    """The base of all errors of the package."""


class SegmentNotFoundError(Error, FileNotFoundError):
    """There is no segment with this key."""

    errno = ENOENT


class SegmentExistsError(Error, FileExistsError):
    """There is a segment with this key already."""

    errno = EEXIST


class SegmentAccessError(Error, PermissionError):
    """The system refuses access, or the segment belongs to another user. The text names key, owner and mode."""

    errno = EACCES


class SegmentBusyError(Error, TimeoutError):
    """A living process blocks the segment, or the segment has no place for one more process."""

    errno = ETIMEDOUT


class SegmentSystemError(Error, OSError):
    """The system refused for a reason of its own: no free descriptor, no tmpfs. `errno` says which; nothing changed."""


class SegmentUnavailableError(Error, ConnectionError):
    """The server of the segment does not answer.

    Attributes:
        maybe_applied: whether the change may have been carried out, or may yet be.
    """

    def __init__(self, message: str = "", maybe_applied: bool = False) -> None:
        super().__init__(message)
        self.maybe_applied = maybe_applied

    def __reduce__(self) -> tuple[type[SegmentUnavailableError], tuple[str, bool]]:
        return type(self), (str(self), self.maybe_applied)


class UnsupportedError(Error, io.UnsupportedOperation):
    """This kind of segment cannot do that. The text names what to use instead."""

    errno = ENOTSUP


class ReadOnlyError(Error, PermissionError):
    """A change was asked for through a read-only handle."""

    errno = EACCES


class SegmentFullError(Error, MemoryError):
    """There is not enough room; nothing has changed.

    Attributes:
        needed: bytes that the change needs: those that it would be charged, or those of the pages that it would take.
        free: bytes that are left for the change.
        size: the limit in bytes: that of the segment; the size that `resize` was asked for, where that is below what is
            used; or the size of the memory file system, where that is what is full.
    """

    def __init__(self, message: str = "", needed: int = 0, free: int = 0, size: int = 0) -> None:
        super().__init__(message)
        self.needed = needed
        self.free = free
        self.size = size

    def __reduce__(self) -> tuple[type[SegmentFullError], tuple[str, int, int, int]]:
        return type(self), (str(self), self.needed, self.free, self.size)


class IncompatibleSegmentError(Error, ValueError):
    """The object with this name is no segment of this package, or one of another format version. It was not changed."""


class DumpError(Error, ValueError):
    """The file is no dump, or a damaged one. The text names the place. Nothing was loaded."""


class CorruptSegmentError(Error, ValueError):
    """The contents of the segment are damaged. The text names the place."""


class DetachedError(Error, ValueError):
    """The handle was detached before this call."""


class LockLostError(Error, TimeoutError):
    """A named lock on a server that the caller holds is no longer the caller's: its lease has ended meanwhile.

    Whoever gets it from a change has changed nothing.
    """

    errno = ETIMEDOUT


class WaitTimeoutError(Error, TimeoutError):
    """The time that the caller allowed for waiting is over."""

    errno = ETIMEDOUT


for _class in list(globals().values()):
    if isinstance(_class, type) and issubclass(_class, Error):
        _class.__module__ = "shmvar"
del _class
