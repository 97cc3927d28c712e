"""What displays show of variables: facts, and a short text of the value. Nothing that is stored runs code here.

That holds for a trusted segment, too: looking at a list of variables must not do what the values' classes do when they
are rebuilt.
"""

import reprlib
from itertools import islice

from shmvar._array_head import dtype_and_shape
from shmvar._core import Segment, _activity, _decode_data_only, _first, _get_pickle
from shmvar._errors import CorruptSegmentError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Iterable, Iterator
    from typing import Any

_STAT_FIELDS = ("index", "size", "version", "expires_in", "type", "viewable", "in_place")
VARIABLE_FIELDS = (*_STAT_FIELDS, "dtype", "shape", "repr", "error")
"""What `variables` says of each. An array in place has a dtype and a shape."""

LARGEST_SHOWN = 64 << 10
"""In bytes: a larger value is not read for the sake of its first characters."""

WIDTH = 60
"""Characters of the text of a value, if the caller does not say."""


def first(segment: Segment, count: int) -> "tuple[list[int | str], int, int]":
    """Return at most `count` indexes, numbers first, how many variables there are, and how many are half changed.

    Where there are more, these are any of them: to find the first ones in order, all would have to be looked at. Those
    that are half changed, by somebody who was stopped or by damage, are not among the indexes.
    """
    half_changed = 0
    if isinstance(segment, Segment):
        indexes, half_changed = _first(segment, count)
        # Not `len`, which looks at all variables for those that have expired.
        there: int = _activity(segment)["count"] if len(indexes) == count else len(indexes) + half_changed
    else:
        indexes = list(segment)
        there = len(indexes)
    # One that moves while the table grows may come twice.
    indexes = sorted(set(indexes), key=order)[:count]
    return indexes, max(there, len(indexes)), half_changed


def order(index: "int | str") -> "tuple[bool, int | str]":
    """A key for sorting indexes: numbers first, then texts."""
    return isinstance(index, str), index


def variables(segment: Segment, indexes: "Iterable[int | str]", width: int = WIDTH) -> "Iterator[dict[str, Any]]":
    """Yield the `VARIABLE_FIELDS` of each of these variables: what `stat` says, and a short text of the value.

    `repr` is None where the value is large, or needs code to be rebuilt. One that vanishes meanwhile is left out.

    Args:
        segment: of this machine or on a server.
        indexes: of the variables.
        width: characters of `repr`, at most.
    """
    for index in indexes:
        try:
            found = segment.stat(index)
            head = dtype_and_shape(segment._stream(index)) if found.in_place else (None, None)
        except KeyError:
            continue  # it vanished meanwhile
        except CorruptSegmentError as error:
            yield dict.fromkeys(VARIABLE_FIELDS) | {"index": index, "error": str(error)}
            continue
        text, error_text = _short(segment, index, width) if found.size <= LARGEST_SHOWN else (None, None)
        facts = {"index": index, **found._asdict(), "dtype": head[0], "shape": head[1]}
        yield facts | {"repr": text, "error": error_text}


def _short(segment: Segment, index: "int | str", width: int) -> "tuple[str | None, str | None]":
    """A short text of a value, and an error; either is None."""
    from shmvar._untrusted_error import UntrustedValueError

    try:
        pickle = _get_pickle(segment, index) if isinstance(segment, Segment) else _of_server(segment, index)
        if pickle is None:
            return None, "it was removed meanwhile"
        value = _decode_data_only(pickle, preview=True)
    except UntrustedValueError:
        return None, None
    except Exception as error:  # decoding a damaged value may raise anything
        return None, f"{type(error).__name__}: {error}"
    return cut(value, width), None


def _of_server(segment: "Any", index: "int | str") -> bytes | None:
    found: tuple[bytes, float | None] | None = segment._pickled(index)
    return None if found is None else found[0]


def cut(value: "Any", width: int = WIDTH) -> str:
    """Return the `repr` of a value that is plain data, at most `width` characters of it."""
    return shortened(ShortRepr(width).repr(value), width)


def shortened(text: str, width: int) -> str:
    """Return `text`, or its beginning and `…` where it has more than `width` characters."""
    return text if len(text) <= width else text[: max(width - 1, 0)] + "…"


class ShortRepr(reprlib.Repr):
    """Makes the text; a subclass may know more types."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.maxstring = self.maxother = width
        self.maxlevel = 3

    def repr1(self, x: "Any", level: int) -> str:
        # The time that the digits of a large int take grows with the square of their number.
        if isinstance(x, int) and x.bit_length() > 4096:
            return f"<int of {x.bit_length()} bits>"
        return super().repr1(x, level)

    def repr_dict(self, x: "dict[Any, Any]", level: int) -> str:
        # `reprlib` sorts the keys, but the order of a dict is part of what was stored.
        if not x:
            return "{}"
        if level <= 0:
            return "{" + self.fillvalue + "}"
        first = islice(x.items(), self.maxdict)
        parts = [f"{self.repr1(key, level - 1)}: {self.repr1(value, level - 1)}" for key, value in first]
        if len(x) > self.maxdict:
            parts.append(self.fillvalue)
        return "{" + ", ".join(parts) + "}"

    def repr_deque(self, x: "deque[Any]", level: int) -> str:
        text = super().repr_deque(x, level)
        return text if x.maxlen is None else f"{text[:-1]}, maxlen={x.maxlen})"
