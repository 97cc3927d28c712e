"""The names and argument order of PHP's System V shared memory functions, over the same segments as `attach`.

They raise where PHP warns and returns false. (PHP's own segments are another format.)
"""

from __future__ import annotations

from shmvar._core import Segment, attach

TYPE_CHECKING = False  # of `typing`, whose import costs more than the rest of the package
if TYPE_CHECKING:
    from typing import Any, Literal


def shm_attach(key: int | str, size: int = 10000, permissions: int = 0o666) -> Segment:
    """Open the segment `key`, or create it with a limit of `size` bytes and exactly these `permissions`."""
    return attach(key, size, perm=permissions)


def shm_put_var(segment: Segment, index: int | str, value: Any) -> Literal[True]:
    """Store `value` under `index`. Raises `SegmentFullError`, with the old value still there, when it does not fit."""
    segment.put(index, value)
    return True


def shm_get_var(segment: Segment, index: int | str) -> Any:
    """The value under `index`. Raises `KeyError` when there is none."""
    return segment[index]


def shm_has_var(segment: Segment, index: int | str) -> bool:
    """Is there a variable `index`?"""
    return segment.has(index)


def shm_remove_var(segment: Segment, index: int | str) -> Literal[True]:
    """Remove the variable `index`. Raises `KeyError` when there is none."""
    del segment[index]
    return True


def shm_remove(segment: Segment) -> Literal[True]:
    """Unlink the segment: its key is free from now on. Handles on it go on working until they are detached."""
    segment.destroy()
    return True


def shm_detach(segment: Segment) -> Literal[True]:
    """Let go of the handle. The segment and its variables stay."""
    segment.detach()
    return True
