"""What segments and variables are called on the server: docs/remote-format.md."""

from __future__ import annotations

import contextlib
from operator import index as _int_of

from shmvar._errors import CorruptSegmentError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~-")
PREFIX = b"shmvar:{"
_SHORT = {"\0": "\\0", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
"""Escapes of characters that have one of their own."""
_LEAST, _MOST = -(2**63), 2**63 - 1


def checked_key(key: int | str) -> int | str:
    """The key itself, if it is one that a segment of this machine could have, too."""
    if isinstance(key, str):
        length = len(key.encode())
        if not 1 <= length <= 128:
            raise OverflowError(f"a key must have 1 to 128 bytes of UTF-8, not {length}")
    elif not _LEAST <= key <= _MOST:
        raise OverflowError(f"key {str(key)[:40]} is outside of -2**63 .. 2**63 - 1")
    return key


def prefix_of(key: int | str) -> bytes:
    """P: the name of the segment's own hash, and the beginning of all other names. The braces are the hash tag."""
    if isinstance(key, int):
        return b"%bi%d}" % (PREFIX, key)
    # A brace in the key would end the hash tag.
    return PREFIX + b"s" + b"".join(b"%c" % c if c in _PLAIN else b"%%%02x" % c for c in key.encode()) + b"}"


def key_of(prefix: bytes) -> int | str | None:
    """The key of a P; None for a name that no key has."""
    inner = prefix.removeprefix(PREFIX).removesuffix(b"}")
    try:
        if inner[:1] == b"i":
            key: int | str = int(inner[1:])
        else:
            import urllib.parse

            key = urllib.parse.unquote_to_bytes(inner[1:]).decode()
        return key if prefix_of(checked_key(key)) == prefix else None
    except (ValueError, OverflowError):
        return None


def shown(name: int | str) -> str:
    """The name of a variable, lock or queue in an error, as errors of segments of this machine have it.

    What commands a terminal, cannot be seen, or turns the text around is escaped: anybody may have chosen the name.
    """
    if isinstance(name, int):
        return str(name)
    return '"' + "".join(map(_shown, name)) + '"'


def _shown(character: str) -> str:
    if character.isascii():
        short = _SHORT.get(character)
        if short is not None:
            return short
    else:
        import unicodedata

        # A mark is drawn over the character before it.
        if unicodedata.category(character) in ("Mn", "Me"):
            return f"\\u{{{ord(character):x}}}"
    return character if character.isprintable() else f"\\u{{{ord(character):x}}}"


def plain_index(index: Any) -> int | str:
    """The exact int or str that stands for an index. Raises what a segment of this machine raises."""
    kind = type(index)
    if kind is str:
        # A character has 4 bytes at most.
        if len(index) > 256 and (length := len(index.encode())) > 1024:
            raise OverflowError(f"a text index has at most 1024 bytes of UTF-8, this one {length}")
        return index  # type: ignore[no-any-return]
    if kind is int:
        if not _LEAST <= index <= _MOST:
            raise OverflowError(f"index {str(index)[:40]} is outside of -2**63 .. 2**63 - 1")
        return index  # type: ignore[no-any-return]
    if isinstance(index, str):
        return plain_index(str.__str__(index))
    if not hasattr(kind, "__index__"):
        raise TypeError(f"an index must be an int or a str, not {kind.__name__}")
    return plain_index(int(_int_of(index)))


def field_of(index: int | str) -> bytes:
    """The field of a variable in the hash of all of them."""
    if type(index) is int:
        return b"i%d" % index
    return b"s" + index.encode()  # type: ignore[union-attr]


def index_of(field: bytes) -> int | str:
    """The index of a field. Raises CorruptSegmentError for what is none."""
    # Anything else is no ValueError but what it has to be: somebody has written it.
    with contextlib.suppress(ValueError):
        if field[:1] == b"i" and len(field) <= 21:
            index = int(field[1:])
            if b"i%d" % index == field and _LEAST <= index <= _MOST:
                return index
        elif field[:1] == b"s" and len(field) <= 1025:
            return field[1:].decode()
    raise CorruptSegmentError(f"{field[:40]!r} is no field of a variable")
