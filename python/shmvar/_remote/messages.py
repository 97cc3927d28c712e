"""What a server says on a subscriber's connection, taken apart: RESP2, bounded.

Whatever comes from the server is hostile until it is parsed: nothing is kept that no subscriber can be sent.
"""

from __future__ import annotations

_LINE, _TEXT, _ITEMS = 512, 64 << 10, 3
"""The longest line, text, and the most items of an array. A channel and an error are shorter than a text."""

Message = bytes | int | None | list["bytes | int | None"] | Exception


class Refusal(Exception):
    """An error of the server. Its text is what it said."""


class BadMessage(Exception):
    """These bytes are no message that a subscriber is sent."""


class Parser:
    """Takes bytes as they come, and gives whole messages."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._at = 0

    def feed(self, data: bytes) -> list[Message]:
        """The messages that are complete with these bytes."""
        self._data += data
        found: list[Message] = []
        self._at = 0
        while self._at < len(self._data):
            began = self._at
            try:
                found.append(self._message())
            except _NotYet:
                self._at = began
                break
        del self._data[: self._at]
        return found

    def _message(self) -> Message:
        kind, line = self._line()
        if kind == b"*":
            count = _number(line, _ITEMS)
            items: list[bytes | int | None] = []
            for _ in range(count):
                item = self._simple(*self._line())
                if isinstance(item, Exception):
                    raise BadMessage("an error within an array")
                items.append(item)
            return items
        return self._simple(kind, line)

    def _simple(self, kind: bytes, line: bytes) -> bytes | int | Refusal | None:
        if kind == b"$":
            if line == b"-1":
                return None
            end = self._at + _number(line, _TEXT)
            if len(self._data) < end + 2:
                raise _NotYet
            text = bytes(self._data[self._at : end])
            if self._data[end : end + 2] != b"\r\n":
                raise BadMessage("a text that does not end")
            self._at = end + 2
            return text
        if kind == b"+":
            return line
        if kind == b":":
            return _number(line, 1 << 53)
        if kind == b"-":
            return Refusal(line.decode(errors="replace"))
        raise BadMessage(f"a message of the kind {kind!r}")

    def _line(self) -> tuple[bytes, bytes]:
        end = self._data.find(b"\r\n", self._at, self._at + _LINE)
        if end < 0:
            if len(self._data) - self._at >= _LINE:
                raise BadMessage("a line that does not end")
            raise _NotYet
        line = bytes(self._data[self._at : end])
        self._at = end + 2
        return line[:1], line[1:]


class _NotYet(Exception):
    """The rest of the message has not come yet."""


def _number(digits: bytes, most: int) -> int:
    # `int` takes more than digits, and takes long for many of them.
    if not digits.isdigit() or len(digits) > 16 or int(digits) > most:
        raise BadMessage(f"{digits[:20]!r} is no number up to {most}")
    return int(digits)
