"""Errors of `shmvar.php` that the package does not have elsewhere."""

from __future__ import annotations

from shmvar._errors import Error

TYPE_CHECKING = False  # not from `typing`, whose import costs more than this package
if TYPE_CHECKING:
    from typing import Any


class SerializeError(Error, ValueError):
    """PHP cannot hold a value, or not so that it comes back. The text names the place in the value and a remedy.

    Attributes:
        place: where, as `value[3]['a']`.
    """

    def __init__(self, message: str = "", place: str = "value") -> None:
        super().__init__(message)
        self.place = place

    def __reduce__(self) -> tuple[type[SerializeError], tuple[str, str]]:
        return type(self), (str(self), self.place)


class UnserializeError(Error, ValueError):
    """A text is not what PHP's `serialize` writes, or asks for more than the limits allow.

    Attributes:
        offset: where, in bytes from the beginning of the text.
        message: the type and the bytes of a message that was taken from its queue and could not be read. None for any
            other text.
    """

    message: tuple[int, bytes] | None

    def __init__(self, message: str = "", offset: int = 0) -> None:
        super().__init__(message)
        self.offset = offset
        self.message = None

    def __reduce__(self) -> tuple[type[UnserializeError], tuple[str, int], dict[str, Any]]:
        return type(self), (str(self), self.offset), {"message": self.message}


for _class in (SerializeError, UnserializeError):
    _class.__module__ = "shmvar.php"
