"""What `shmvar.php` has in the extension module."""

from typing import Self, SupportsIndex, final

__all__ = ["Semaphore"]

@final
class Semaphore:
    """One of PHP's semaphores."""

    def __new__(
        cls, key: SupportsIndex, max_acquire: SupportsIndex = 1, permissions: SupportsIndex = 0o666
    ) -> Self: ...
