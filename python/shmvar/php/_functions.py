"""PHP's functions for segments, with their names and argument order, and its `ftok`.

They raise an error where PHP warns and returns false.
"""

from __future__ import annotations

import os

from shmvar._core import Segment as OurSegment
from shmvar._errors import DetachedError
from shmvar.php._native import Segment, attach

TYPE_CHECKING = False  # not from `typing`, whose import costs more than this package
if TYPE_CHECKING:
    from typing import Any, Literal, SupportsIndex


def shm_attach(key: SupportsIndex, size: SupportsIndex | None = None, permissions: SupportsIndex = 0o666) -> Segment:
    """Open the segment `key`, or create it with `size` bytes (None: 10000) and exactly these `permissions`.

    Of an existing segment, size and permissions stay what they are. Raises what `attach` raises.
    """
    return attach(key, 10000 if size is None else size, permissions)


def shm_detach(shm: Segment) -> Literal[True]:
    """Detach the handle. The segment and its variables stay. Raises `DetachedError` if it was detached before."""
    if _segment(shm, "shm_detach").detached:
        raise DetachedError(f"key 0x{shm.key & 0xFFFFFFFF:08x}: the handle is detached: attach again")
    shm.detach()
    return True


def shm_remove(shm: Segment) -> Literal[True]:
    """Remove the segment: its key is free from now on. Handles on it work until they are detached."""
    _segment(shm, "shm_remove").destroy()
    return True


def shm_has_var(shm: Segment, key: SupportsIndex) -> bool:
    """Return whether there is a variable `key`."""
    return _segment(shm, "shm_has_var").has(key)


def shm_put_var(shm: Segment, key: SupportsIndex, value: Any) -> Literal[True]:
    """Store `value` under `key`.

    Raises `SegmentFullError` when the value does not fit, and `SerializeError` when PHP cannot hold it; the old value
    is still there then, which PHP would have removed.
    """
    _segment(shm, "shm_put_var").put(key, value)
    return True


def shm_get_var(shm: Segment, key: SupportsIndex) -> Any:
    """Return the value under `key`. Raises `KeyError` when there is none."""
    return _segment(shm, "shm_get_var")[key]


def shm_remove_var(shm: Segment, key: SupportsIndex) -> Literal[True]:
    """Remove the variable `key`. Raises `KeyError` when there is none."""
    _segment(shm, "shm_remove_var").remove(key)
    return True


def ftok(filename: str | bytes | os.PathLike[str] | os.PathLike[bytes], project_id: str | bytes) -> int:
    """Return the key that PHP's `ftok` makes of an existing file and a project.

    Only the low 16 bits of the file's inode and the low 8 bits of its device are in the key: two files may well have
    the same one, and a file that is replaced gets another one.

    Args:
        filename: of the file.
        project_id: one byte, as `b"t"`, or one character of ASCII.

    Returns:
        A signed number of 32 bits. It may be 0, which `attach` refuses.

    Raises:
        FileNotFoundError, OSError: there is no such file, or it cannot be looked at. (PHP returns -1.)
        ValueError: the file name is empty, or the project is not one byte.
    """
    name = os.fspath(filename)
    if not isinstance(project_id, str | bytes):
        raise TypeError(f"project_id must be a str or bytes, not {type(project_id).__name__}")
    project = os.fsencode(project_id)
    if not name:
        raise ValueError("filename must not be empty")
    if len(project) != 1:
        raise ValueError(f"project_id must be one byte, not {len(project)}: {project_id!r}")
    found = os.stat(name)
    number = project[0] << 24 | (found.st_dev & 0xFF) << 16 | found.st_ino & 0xFFFF
    return number - (1 << 32) if number >> 31 else number


def _segment(shm: Segment, function: str) -> Segment:
    """The handle, once it is known to be one."""
    if not isinstance(shm, Segment):
        of, other = type(shm).__module__, isinstance(shm, OurSegment)
        text = f"shmvar.php.{function} takes a shmvar.php.Segment, not {of}.{type(shm).__qualname__}"
        raise TypeError(f"{text}: call shmvar.{function}" if other or of.startswith("shmvar._remote") else text)
    return shm
