"""PHP's functions for semaphores, with their names and argument order. They raise an error where PHP warns."""

from __future__ import annotations

from shmvar.php._native import Semaphore

TYPE_CHECKING = False  # not from `typing`, whose import costs more than this package
if TYPE_CHECKING:
    from typing import Literal, SupportsIndex

# The handles that stay open until the process ends.
_kept: list[Semaphore] = []


def sem_get(
    key: SupportsIndex,
    max_acquire: SupportsIndex = 1,
    permissions: SupportsIndex = 0o666,
    auto_release: bool = True,
) -> Semaphore:
    """Open the semaphore `key`, or make it: `Semaphore(key, max_acquire, permissions)`.

    Args:
        key: a number of 32 bits, not 0.
        max_acquire: how many may hold it at once. PHP takes 0, too: then nobody ever gets in.
        permissions: of a new semaphore.
        auto_release: False keeps the handle, and what is held through it, until the process ends, even if nobody
            refers to it any more.

    Raises:
        ValueError, IncompatibleSegmentError, SegmentAccessError, SegmentBusyError: as `Semaphore`.
    """
    semaphore = Semaphore(key, max_acquire, permissions)
    if not auto_release:
        _kept.append(semaphore)
    return semaphore


def sem_acquire(semaphore: Semaphore, non_blocking: bool = False) -> bool:
    """Acquire the semaphore. Returns False if that would have to wait, and `non_blocking` is true.

    A thread that holds it already acquires it once more; PHP would wait for itself.
    """
    return Semaphore.acquire(semaphore, 0 if non_blocking else None)


def sem_release(semaphore: Semaphore) -> Literal[True]:
    """Release the semaphore. Raises `RuntimeError` if this thread does not hold it."""
    Semaphore.release(semaphore)
    return True


def sem_remove(semaphore: Semaphore) -> Literal[True]:
    """Remove the semaphore. Raises `SegmentNotFoundError` if it was removed before."""
    Semaphore.remove(semaphore)
    return True
