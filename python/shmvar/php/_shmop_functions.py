"""PHP's functions for raw segments, with their names and argument order. They raise an error where PHP warns."""

from __future__ import annotations

from shmvar.php._native import Shmop

TYPE_CHECKING = False  # not from `typing`, whose import costs more than this package
if TYPE_CHECKING:
    from typing import Literal, SupportsIndex


def shmop_open(
    key: SupportsIndex, mode: Literal["a", "c", "n", "w"], permissions: SupportsIndex, size: SupportsIndex
) -> Shmop:
    """Open a segment as plain bytes, or make one: `Shmop(key, mode, permissions, size)`."""
    return Shmop(key, mode, permissions, size)


def shmop_read(shmop: Shmop, offset: SupportsIndex, size: SupportsIndex) -> bytes:
    """Return `size` bytes from `offset` on; 0: all up to the end. Raises `ValueError` beyond the segment."""
    return Shmop.read(shmop, offset, size)


def shmop_write(shmop: Shmop, data: bytes | bytearray | memoryview | str, offset: SupportsIndex) -> int:
    """Write bytes at `offset`, and return how many.

    Raises `ValueError` if they reach beyond the segment, where PHP would write a part of them.
    """
    return Shmop.write(shmop, data, offset)


def shmop_size(shmop: Shmop) -> int:
    """Return the size of the segment."""
    return Shmop.__len__(shmop)


def shmop_delete(shmop: Shmop) -> Literal[True]:
    """Remove the segment: its key is free at once, its memory when the last handle on it is closed."""
    Shmop.delete(shmop)
    return True


def shmop_close(shmop: Shmop) -> None:
    """Close the handle. (In PHP 8 this does nothing: there the handle closes itself.)"""
    Shmop.close(shmop)
