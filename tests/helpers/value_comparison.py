"""Compares what the data-only decoder made with what pickle makes of the same bytes. For tests and the fuzz target."""

import array
import collections
import datetime
import decimal
import pickle
import struct
import uuid

import numpy as np

PLAIN = {int, str, bytes, bool, type(None)}
MUTABLE = (list, dict, set, bytearray, collections.deque, array.array, np.ndarray)


def canon(value):
    """A text by which the members of a set can be sorted: type and value."""
    if type(value) in (tuple, frozenset):
        parts = [canon(item) for item in value]
        # Each with its length: `repr` of texts within texts would double its escapes at every level.
        joined = ",".join(f"{len(part)}:{part}" for part in (parts if type(value) is tuple else sorted(parts)))
        return f"{type(value).__name__}({joined})"
    return repr((type(value).__name__, repr(value)))


def same(one, other):
    """Are two values the same, down to types, bits of floats and shared objects? Works without recursion."""
    partner, todo = {}, [(one, other)]
    while todo:
        a, b = todo.pop()
        if type(a) is not type(b):
            return False
        if type(a) in PLAIN:
            if a != b:
                return False
            continue
        if isinstance(a, MUTABLE):
            if id(a) in partner:
                if partner[id(a)] != id(b):
                    return False
                continue
            partner[id(a)] = id(b)
        if isinstance(a, (list, tuple, collections.deque)):
            if len(a) != len(b) or getattr(a, "maxlen", None) != getattr(b, "maxlen", None):
                return False
            todo.extend(zip(a, b, strict=True))
        elif isinstance(a, dict):
            if len(a) != len(b):
                return False
            todo.extend(zip(a.keys(), b.keys(), strict=True))
            todo.extend(zip(a.values(), b.values(), strict=True))
        elif isinstance(a, (set, frozenset)):
            if PLAIN.issuperset(map(type, a)):
                if {(type(item), item) for item in a} != {(type(item), item) for item in b}:
                    return False
            elif sorted(map(canon, a)) != sorted(map(canon, b)):
                return False
        elif isinstance(a, np.ndarray):
            if not same_array(a, b):
                return False
        elif isinstance(a, np.generic):
            if a.dtype != b.dtype or a.tobytes() != b.tobytes():
                return False
        elif isinstance(a, float):
            if struct.pack("d", a) != struct.pack("d", b):
                return False
        elif isinstance(a, complex):
            todo.extend([(a.real, b.real), (a.imag, b.imag)])
        elif isinstance(a, (decimal.Decimal, datetime.time, datetime.datetime, array.array)):
            if repr(a) != repr(b):  # covers NaNs, folds and zones, too
                return False
        elif isinstance(a, uuid.UUID):
            if a != b or a.is_safe is not b.is_safe:
                return False
        elif a != b:
            return False
    return True


def same_bits(dtype, *values):
    one, other = (np.asarray(value).astype(dtype).tobytes() for value in values)
    return one == other


def same_array(a, b):
    """The same for arrays. numpy's unpickling changes some to the machine's byte order and leaves read-only arrays
    read-only; the decoder does neither."""
    if isinstance(a, np.ma.MaskedArray):
        if type(a.data) is not type(b.data) or a.mask.shape != b.mask.shape or not np.array_equal(a.mask, b.mask):
            return False
        if a.hardmask != b.hardmask or not same_bits(a.dtype, a.fill_value, b.fill_value):
            return False
        a, b = a.data, b.data
    if a.dtype.type is not b.dtype.type:
        return False
    if a.dtype.kind in "V":
        alike = a.dtype == b.dtype and a.tobytes() == b.tobytes()
    else:
        alike = a.dtype.newbyteorder("=") == b.dtype.newbyteorder("=") and (
            a.tobytes() == b.astype(a.dtype).tobytes() or np.array_equal(a, b, equal_nan=a.dtype.kind in "fcmM")
        )
    return alike and a.flags.writeable and (a.shape, a.strides) == (b.shape, b.strides)


def same_as_pickle(result, data, buffers):
    """Fails unless the result is what pickle makes of the data.

    What the decoder took names only types of its table, so it is safe to unpickle. (Not through a file: there the C
    unpickler loses bytes where an opcode crosses the end of a frame.)
    """
    assert same(result, pickle.loads(data, buffers=buffers)), bytes(data)
