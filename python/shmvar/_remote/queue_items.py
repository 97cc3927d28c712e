"""Items of queues: what the server keeps of one, and its value. An item is a record whose version is its ticket."""

from __future__ import annotations

from contextlib import contextmanager
from itertools import starmap

from shmvar._core import _decode_value, _encode_value, _value_pickle
from shmvar._errors import CorruptSegmentError
from shmvar._remote.names import index_of, shown
from shmvar._remote.records import Record, decode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


@contextmanager
def as_item(name: int | str) -> Iterator[None]:
    """Errors of records name an index; here that is the queue's name."""
    try:
        yield
    except CorruptSegmentError as error:
        text = str(error)
        start = f"index {name!r}"
        text = text.replace(start, f"an item of queue {shown(name)}", 1) if text.startswith(start) else text
        raise CorruptSegmentError(text) from None


class Item:
    """An item that was read from the server. Whoever reaches the server may have written it."""

    __slots__ = ("attempts", "name", "record", "ticket")

    def __init__(self, name: int | str, data: bytes, attempts: int = 0) -> None:
        with as_item(name):
            record = Record(name, data)
            if record.deadline is not None:
                raise CorruptSegmentError(f"index {name!r}: its record of {len(data)} bytes is none")
        self.name = name
        self.record = record
        self.attempts = attempts
        """How often it was taken."""
        self.ticket = record.version

    @property
    def is_large(self) -> bool:
        return self.record.kind == b"b"

    def value(self, kind: bytes, body: bytes, trusted: bool) -> Any:
        """The value of these bytes, which are the record's own or those of its chunks."""
        if kind in (b"i", b"f"):
            with as_item(self.name):
                return decode(self.name, kind, body, trusted)
        return _decode_value(self.name, kind == b"o", body, trusted, False, True)

    def value_into(self, found: list[Any], kind: bytes, body: bytes, trusted: bool) -> None:
        """Appends the value to a list, in the instant in which it is there: see `records.decode_into`."""
        if kind in (b"i", b"f"):
            found.append(self.value(kind, body, trusted))
        else:
            found.extend(starmap(_decode_value, ((self.name, kind == b"o", body, trusted, False, True),)))

    def pickle(self, kind: bytes, body: bytes) -> bytes:
        """The same as a pickle, with its buffers in it."""
        if kind in (b"i", b"f"):
            kind, body = b"p", _encode_value(self.value(kind, body, False))[1]
        pickle = _value_pickle(kind == b"o", body)
        if pickle is None:
            raise CorruptSegmentError(f"an item of queue {shown(self.name)}: its table of buffers is damaged")
        return pickle


def taken(name: int | str, answer: bytes) -> Item:
    """The item in the answer of `take`: `h<attempts> <ticket> <record>`."""
    attempts, _, data = answer[1:].split(b" ", 2)
    return Item(name, data, int(attempts))


def queues_of(answer: list[Any]) -> list[tuple[int | str, int, int, int]]:
    """Name, waiting, held and charge of each queue, of what queues.lua returns."""
    found = []
    for at in range(0, len(answer), 4):
        waiting, held, charge = (min(max(int(number), 0), 1 << 53) for number in answer[at + 1 : at + 4])
        found.append((index_of(answer[at]), waiting, held, charge))
    return found


def within(seconds: float | None) -> str:
    return f" within {seconds:g} s" if seconds else ""
