"""Values as they are stored on the server, and back: docs/remote-format.md.

Whoever reaches the server may have written a record: everything in it is checked before it is used.
"""

from __future__ import annotations

import os
import secrets
from itertools import starmap
from struct import Struct

from shmvar._core import _decode_apart, _decode_value, _encode_parts, _value_type
from shmvar._errors import CorruptSegmentError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    _Apart = tuple[bytes, list[bytearray]]

INLINE = 16 << 10
"""A longer value goes into a blob: its bytes need not pass through the server's scripts then."""
CHUNK = 4 << 20
"""Bytes of a chunk of a blob."""
_DIGITS = 600
"""Longer ints are stored as pickles: a process may have set 640 digits as the most that CPython reads."""
_LIMIT = 10**_DIGITS
_STUB = Struct(">c8sIQ")
"""Of a blob: how its bytes are to be read, id, count of chunks, length."""


class Stored:
    """A value that is ready to be sent: what its record says, and the bytes of its blob if it has one."""

    __slots__ = ("blob", "kind", "named_in", "parts", "payload", "total")

    def __init__(self, value: Any) -> None:
        self.blob = b""
        self.parts: Sequence[bytes | memoryview] = ()
        """The bytes of the blob, one after the other. Those of a `bytes` or of an array are the caller's own."""
        self.total = 0
        """Their length; 0: all is in the record."""
        kind = type(value)
        if kind is int and -_LIMIT < value < _LIMIT:
            self.kind, self.payload = b"i", b"%d" % value
        elif kind is float:
            self.kind, self.payload = b"f", repr(value).encode()
        else:
            beside, body, parts = _encode_parts(value, INLINE)
            self._store(b"o" if beside else b"p", body, parts)

    @classmethod
    def of_pickle(cls, pickle: bytes) -> Stored:
        """A value that is a whole pickle already. Small ints and floats become numbers, to which `add` may add."""
        if len(pickle) < 32 and _value_type(False, pickle) in ("int", "float"):
            return cls(_decode_value(0, False, pickle, False, False, False))
        return cls.of_body(b"p", pickle)

    @classmethod
    def of_body(cls, kind: bytes, body: bytes) -> Stored:
        """A value of which the kind and the bytes are known."""
        stored = cls.__new__(cls)
        stored.blob, stored.parts, stored.total = b"", (), 0
        stored._store(kind, body)
        return stored

    def _store(self, kind: bytes, body: bytes, parts: Sequence[bytes | memoryview] | None = None) -> None:
        self.kind, self.payload = kind, body
        if parts is not None or len(body) > INLINE:
            self.parts = (body,) if parts is None else parts
            self.total = sum(map(len, self.parts))
            self.renew()

    @property
    def body(self) -> bytes:
        """The bytes of the blob; empty: it has none."""
        return b"".join(self.parts)

    def keep(self) -> None:
        """Copies what is the caller's own: the call returns to the caller, or waits, before all is sent."""
        if self.total:
            self.parts = (self.body,)

    def renew(self) -> None:
        """Gives the blob a new id: the chunks under the old one may be gone."""
        kind = self.kind if self.kind != b"b" else self.payload[:1]
        self.blob = secrets.token_bytes(8)
        self.named_in = os.getpid()
        count = -(-self.total // CHUNK)
        self.kind, self.payload = b"b", _STUB.pack(kind, self.blob, count, self.total)


class Record:
    """A record that was read from the server, taken apart."""

    __slots__ = ("data", "deadline", "kind", "payload", "version")

    def __init__(self, index: int | str, data: bytes) -> None:
        self.data = data
        kind = data[:1]
        self.deadline: int | None = None
        at = 9
        if kind.isupper():
            self.deadline = int.from_bytes(data[9:17], "big")
            kind, at = kind.lower(), 17
        if len(data) < at or kind not in (b"i", b"f", b"p", b"o", b"b"):
            raise _corrupt(index, f"its record of {len(data)} bytes is none")
        self.kind = kind
        self.version = int.from_bytes(data[1:9], "big")
        # The server's scripts count exactly up to this number.
        if self.version >= 1 << 53 or (self.deadline or 0) > 1 << 53:
            raise _corrupt(index, f"its version {self.version} or its deadline {self.deadline} cannot be")
        self.payload = data[at:]

    def value(self, index: int | str, trusted: bool, view: bool = False) -> Any:
        """The value, unless it is a blob."""
        return decode(index, self.kind, self.payload, trusted, view)

    def stub(self, index: int | str, size: int) -> Stub:
        """Where its blob is; nothing larger than the segment is believed."""
        if len(self.payload) != _STUB.size:
            raise _corrupt(index, "its blob is not named")
        kind, blob, count, total = _STUB.unpack(self.payload)
        if total > size or count != -(-total // CHUNK) or kind not in (b"p", b"o"):
            raise _corrupt(index, f"its blob of {total} bytes in {count} chunks cannot be")
        return Stub(kind, blob, count, total)

    def charged(self, index: int | str) -> int:
        """What the variable is charged."""
        total = 0
        if self.kind == b"b" and len(self.payload) == _STUB.size:
            total = _STUB.unpack(self.payload)[3]
        return 32 + (len(index.encode()) if isinstance(index, str) else 0) + len(self.data) + total


class Stub:
    """Where a blob is."""

    __slots__ = ("blob", "count", "kind", "total")

    def __init__(self, kind: bytes, blob: bytes, count: int, total: int) -> None:
        self.kind, self.blob, self.count, self.total = kind, blob, count, total


def small_int(data: bytes) -> int | None:
    """The value of a record without a ttl that is an int of up to 19 characters. None: it is another record.

    Most counters are: this takes a third of the time of what it saves, `Record` and `decode`.
    """
    # The first bytes of a version below 2^53.
    if data[:2] != b"i\0" or not 9 < len(data) < 29 or data[2] > 31:
        return None
    digits = data[9:]
    # `int` takes more than digits.
    return int(digits) if digits.isdigit() or (digits[:1] == b"-" and digits[1:].isdigit()) else None


def decode(index: int | str, kind: bytes, body: bytes, trusted: bool, view: bool = False) -> Any:
    """The value of these bytes."""
    if kind == b"i":
        digits = body.removeprefix(b"-")
        # `int` takes more than digits, and takes long for many of them.
        if not digits.isdigit() or len(digits) > _DIGITS:
            raise _corrupt(index, "its int is none")
        return int(body)
    if kind == b"f":
        try:
            return float(body)
        except ValueError:
            raise _corrupt(index, "its float is none") from None
    return _decode_value(index, kind == b"o", body, trusted, view, False)


def decode_apart(index: int | str, apart: _Apart, trusted: bool, view: bool) -> Any:
    """The value of a pickle and its buffers, which become part of it."""
    return _decode_apart(index, *apart, trusted, view)


def decode_into(found: list[Any], index: int | str, kind: bytes, body: _Apart | bytes, trusted: bool) -> None:
    """Appends the value of these bytes to a list, in the instant in which it is there.

    No signal handler runs in between. So what is raised when the list has the value was not raised by the value.
    """
    if kind in (b"i", b"f"):
        found.append(decode(index, kind, body, trusted))  # type: ignore[arg-type]
    elif isinstance(body, bytes):
        found.extend(starmap(_decode_value, ((index, kind == b"o", body, trusted, False, False),)))
    else:
        found.extend(starmap(_decode_apart, ((index, *body, trusted, False),)))


def type_of(kind: bytes, body: bytes) -> str:
    """The name of the type of a value, found without running code."""
    if kind in (b"i", b"f"):
        return "int" if kind == b"i" else "float"
    name = _value_type(kind == b"o", body)
    # All of the value is one buffer beside its pickle, and it is read as this.
    return "memoryview" if name == "buffer" else name


def _corrupt(index: int | str, why: str) -> CorruptSegmentError:
    return CorruptSegmentError(f"index {index!r}: {why}")
