"""PHP's System V shared memory functions, with their names and argument order, over the segments of `shmvar.attach`.

They raise an error where PHP warns and returns false. PHP's own segments have another format and cannot be opened here:
`shmvar.php` has functions of the same names for those.
"""

from __future__ import annotations

from shmvar._copying import is_php
from shmvar._core import Segment, attach

TYPE_CHECKING = False  # not from `typing`, whose import costs more than the rest of the package
if TYPE_CHECKING:
    from datetime import timedelta
    from typing import Any, Literal


def shm_attach(key: int | str, size: int = 10000, permissions: int = 0o666) -> Segment:
    """Open the segment `key`, or create it with a limit of `size` bytes and exactly these `permissions`.

    `key` may be a URL: then the default of `permissions` does not count, for a server has users of its own. Raises what
    `shmvar.attach` raises.
    """
    if isinstance(key, str) and "://" in key and permissions == 0o666:
        permissions = 0o600
    return attach(key, size, perm=permissions)


def shm_put_var(
    segment: Segment, index: int | str, value: Any, *, ttl: float | timedelta | None = None
) -> Literal[True]:
    """Store `value` under `index`. PHP has no `ttl`: after so many seconds the variable is gone.

    Raises `SegmentFullError` when the value does not fit; the old value is still there then.
    """
    _ours(segment, "shm_put_var").put(index, value, ttl=ttl)
    return True


def shm_get_var(segment: Segment, index: int | str) -> Any:
    """Return the value under `index`. Raises `KeyError` when there is none."""
    return _ours(segment, "shm_get_var")[index]


def shm_has_var(segment: Segment, index: int | str) -> bool:
    """Return whether there is a variable `index`."""
    return _ours(segment, "shm_has_var").has(index)


def shm_remove_var(segment: Segment, index: int | str) -> Literal[True]:
    """Remove the variable `index`. Raises `KeyError` when there is none."""
    del _ours(segment, "shm_remove_var")[index]
    return True


def shm_remove(segment: Segment) -> Literal[True]:
    """Unlink the segment: its key is free from now on. Handles on it work until they are detached."""
    _ours(segment, "shm_remove").destroy()
    return True


def shm_detach(segment: Segment) -> Literal[True]:
    """Detach the handle. The segment and its variables stay."""
    _ours(segment, "shm_detach").detach()
    return True


def _ours(segment: Segment, function: str) -> Segment:
    """The handle, once it is known to be none of PHP's."""
    if type(segment) is not Segment and is_php(segment):
        raise TypeError(
            f"shmvar.{function} takes a segment of shmvar.attach, not a shmvar.php.Segment: call shmvar.php.{function}"
        )
    return segment
