"""What numpy has to say about arrays in place: their shape, their dtype, and what they begin with.

`Segment.array` calls `make` where there is no array yet, and `compare` where the one that is there may not be the one
that the caller asks for. numpy is imported here and nowhere else in this package.
"""

from __future__ import annotations

import math
import operator
import pickle
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from shmvar._core import Segment

# Flags of dtypes whose items are not bytes that mean the same in every process: references and pointers; and of those
# that must be constructed. numpy 2.5 gives the last to structs with bytes between their fields, too.
_REFERENCES = 0x7
_CONSTRUCTED = 0x100


class _Description:
    """Pickles as the array that it describes, with a buffer for its memory."""

    def __init__(self, dtype: np.dtype[Any], shape: tuple[int, ...], order: str) -> None:
        self._arguments = (dtype, shape, order)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        # The function by which numpy itself makes an array of a buffer.
        over_buffer = np.empty(0).__reduce_ex__(5)[0]
        return over_buffer, (pickle.PickleBuffer(bytearray()), *self._arguments)

    @classmethod
    def pickle(cls, dtype: np.dtype[Any], shape: tuple[int, ...], order: str) -> bytes:
        beside: list[pickle.PickleBuffer] = []
        return pickle.dumps(cls(dtype, shape, order), 5, buffer_callback=beside.append)


def make(segment: Segment, index: Any, shape: Any, dtype: Any, initial: Any, order: str) -> None:
    """Make an array of this shape and dtype, unless there is a variable `index` by then."""
    lens, of = _normalized(shape, dtype)
    if of is not None and initial is None and of.kind in "Mm" and _is_open(of):
        raise ValueError(f"the dtype {of} has no unit: say which, as in {of.kind}8[ns]")
    source = np.zeros((), of) if initial is None else _converted(initial, of)
    _refuse_objects(source.dtype, index)
    if lens is not None and (size := math.prod(lens) * source.itemsize) >= 1 << 63:
        raise ValueError(f"shape {lens} and dtype {source.dtype}: {size:,} bytes are more than an array can have")
    while lens is not None and source.ndim > len(lens) and source.shape[0] == 1:
        source = source.reshape(source.shape[1:])
    try:
        whole = np.broadcast_to(source, source.shape if lens is None else lens)
    except ValueError:
        if initial is None or source.ndim == 0:
            raise  # numpy has no array of this shape, and says why
        raise ValueError(f"initial of shape {source.shape} cannot be broadcast to shape {lens}") from None
    size = math.prod(whole.shape) * source.itemsize
    segment._refuse_in_place(index, _Description.pickle(source.dtype, (0,), "C"), size)
    pattern = np.empty(0, np.uint8) if initial is None else _pattern(source, whole, order)
    stream = _Description.pickle(source.dtype, whole.shape, order)
    segment._make_in_place(index, stream, size, pattern)


def _converted(initial: Any, of: np.dtype[Any] | None) -> np.ndarray[Any, Any]:
    """Return `initial` as an array of a dtype, converted as `numpy.full` does."""
    # Only the values themselves tell the length of texts and the unit of dates, and a tuple is one item of a struct.
    if of is None or _is_open(of) or of.kind == "V":
        return np.asarray(initial, of)
    found = np.asarray(initial)
    if found.ndim == 0 and not isinstance(initial, (np.ndarray, np.generic)):
        return np.full((), initial, of)  # an int that the dtype does not hold is an error there
    return found if found.dtype == of else found.astype(of, casting="unsafe")


def compare(found: np.ndarray[Any, Any], name: str, shape: Any, dtype: Any) -> None:
    """Raise `ValueError` if an array is not of this shape and this dtype. `name` is its index as errors say it."""
    lens, of = _normalized(shape, dtype)
    of_that_kind = of is None or found.dtype == of or (_is_open(of) and found.dtype.kind == of.kind)
    if not of_that_kind or lens not in (None, found.shape):
        asked = [] if lens is None else [f"shape {lens}"]
        asked += [] if of is None else [f"dtype {of}"]
        raise ValueError(
            f"index {name} is an array in place of shape {found.shape} and dtype {found.dtype}, not of "
            f"{' and '.join(asked)}: open it without shape and dtype, or remove it first"
        )


def _normalized(shape: Any, dtype: Any) -> tuple[tuple[int, ...] | None, np.dtype[Any] | None]:
    """Return shape and dtype as an array has them: a tuple, and a dtype whose dimensions are part of the shape."""
    of = None if dtype is None else np.dtype(dtype)
    if of is not None and of.metadata is not None and of.names is None and of.subdtype is None:
        of = np.dtype(of.str)  # what a program attaches to a dtype is that program's
    lens = None
    if shape is not None:
        lens = _lengths(shape)
    if of is not None and of.subdtype is not None:
        of, axes = of.subdtype
        lens = None if lens is None else lens + axes
    return lens, of


def _lengths(shape: Any) -> tuple[int, ...]:
    # An iterator is used up by the first look, and a set has no order.
    sequence = isinstance(shape, Sequence) or (isinstance(shape, np.ndarray) and shape.ndim == 1)
    try:
        lens = tuple(map(operator.index, shape)) if sequence else (operator.index(shape),)
    except TypeError:
        raise TypeError(f"shape must be an int or a tuple of ints, not {shape!r}") from None
    if any(length < 0 for length in lens):
        raise ValueError(f"shape {lens}: no axis has a negative length")
    return lens


def _is_open(dtype: np.dtype[Any]) -> bool:
    """Return whether a dtype leaves the length of its texts, or the unit of its dates, to the values."""
    return dtype.itemsize == 0 or (dtype.kind in "Mm" and np.datetime_data(dtype)[0] == "generic")


def _is_bytes(dtype: np.dtype[Any]) -> bool:
    """Return whether the items of a dtype are bytes that mean the same in every process."""
    # numpy 1 gives the flags as a byte with a sign.
    flags = dtype.flags & 0xFF if dtype.flags < 0 else dtype.flags
    if dtype.hasobject or dtype.kind == "T" or flags & _REFERENCES:
        return False
    if not flags & _CONSTRUCTED:
        return True
    return dtype.names is not None and all(_is_bytes(dtype[name].base) for name in dtype.names)


def _refuse_objects(dtype: np.dtype[Any], index: Any) -> None:
    if not _is_bytes(dtype):
        raise TypeError(
            f"an array in place cannot have the dtype {dtype}, whose items are objects of one process: store it as a "
            f"plain value, segment[{index!r}] = ..."
        )
    if dtype.itemsize == 0:
        raise ValueError(f"an array in place cannot have the dtype {dtype}, whose items have no bytes")


def _pattern(source: np.ndarray[Any, Any], whole: np.ndarray[Any, Any], order: str) -> np.ndarray[Any, Any]:
    """Return bytes that, again and again, are those of `whole`, which is `source` broadcast to some shape."""
    # Axes of one item in front do not matter. If the others are the last ones of `whole`, it repeats them.
    lens = source.shape
    while lens and lens[0] == 1:
        lens = lens[1:]
    if not lens or (order == "C" and whole.shape[whole.ndim - len(lens) :] == lens):
        return np.ascontiguousarray(source).reshape(-1).view(np.uint8)
    whole = np.asarray(whole, order="F" if order == "F" else "C")
    return (whole.T if order == "F" else whole).reshape(-1).view(np.uint8)
