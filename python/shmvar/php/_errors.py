"""Errors of `shmvar.php` that the package does not have elsewhere."""

from __future__ import annotations

from shmvar._errors import Error


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
    """

    def __init__(self, message: str = "", offset: int = 0) -> None:
        super().__init__(message)
        self.offset = offset

    def __reduce__(self) -> tuple[type[UnserializeError], tuple[str, int]]:
        return type(self), (str(self), self.offset)


for _class in (SerializeError, UnserializeError):
    _class.__module__ = "shmvar.php"
