"""Values that the decoder of untrusted values takes, what pickle makes of their streams, and whether two are alike."""

import array
import collections
import datetime
import decimal
import pathlib
import pickle
import struct
import uuid

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from shmvar._core import _decode_plain as decode
from shmvar._errors import CorruptSegmentError, UntrustedValueError

PROTOCOLS = [2, 3, 4, 5]
DUMPS = [pickle.dumps, pickle._dumps]
MUTABLE = (list, dict, set, bytearray, collections.deque, array.array, np.ndarray)


# --- equal in value, type, order and sharing


def canon(value):
    """A text that orders the members of a set by value and type."""
    if type(value) in (tuple, frozenset):
        parts = [canon(item) for item in value]
        return repr((type(value).__name__, parts if type(value) is tuple else sorted(parts)))
    return repr((type(value).__name__, repr(value)))


def same(one, other):
    """Whether two values are alike down to types, bits of floats and which objects are one; no recursion."""
    partner, todo = {}, [(one, other)]
    while todo:
        a, b = todo.pop()
        if type(a) is not type(b):
            return False
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
            if sorted(map(canon, a)) != sorted(map(canon, b)):
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
            if repr(a) != repr(b):  # NaNs, folds and zones too
                return False
        elif isinstance(a, uuid.UUID):
            if a != b or a.is_safe is not b.is_safe:
                return False
        elif a != b:
            return False
    return True


def same_array(a, b):
    """numpy's own unpickling turns some arrays into the machine's byte order, and the decoder does not."""
    if a.dtype.kind in "V":
        alike = a.dtype == b.dtype and a.tobytes() == b.tobytes()
    else:
        alike = a.dtype.newbyteorder("=") == b.dtype.newbyteorder("=") and (
            a.tobytes() == b.astype(a.dtype).tobytes() or np.array_equal(a, b, equal_nan=a.dtype.kind in "fcmM")
        )
    return alike and (a.shape, a.strides, a.flags.writeable) == (b.shape, b.strides, b.flags.writeable)


# --- what is drawn

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**200), 2**200),
    st.floats(),
    st.complex_numbers(),
    st.text(st.characters(exclude_categories=())),
    st.binary(),
)
zones = st.one_of(
    st.none(),
    st.just(datetime.UTC),
    st.builds(
        datetime.timezone,
        st.timedeltas(datetime.timedelta(hours=-23), datetime.timedelta(hours=23)),
        st.text(max_size=3),
    ),
)
parts = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), max_size=4)
standard = st.one_of(
    st.dates(),
    st.times(timezones=zones),
    st.datetimes(timezones=zones),
    st.timedeltas(),
    zones,
    st.decimals(),
    st.fractions(),
    st.uuids(allow_nil=True),
    st.builds(range, st.integers(), st.integers(), st.integers(1)),
    st.builds(range, st.integers(), st.integers(), st.integers(max_value=-1)),
    parts.map(lambda each: pathlib.PurePosixPath(*each)),
    parts.map(lambda each: pathlib.PosixPath(*each)),
    parts.map(lambda each: pathlib.PureWindowsPath(*each)),
)
dtypes = st.one_of(
    npst.scalar_dtypes(),
    npst.byte_string_dtypes(),
    npst.unicode_string_dtypes(),
    npst.datetime64_dtypes(endianness="<"),
    npst.nested_dtypes(),
    npst.array_dtypes(),
).filter(lambda dtype: not dtype.hasobject and dtype.itemsize)
arrays = dtypes.flatmap(
    lambda dtype: npst.arrays(dtype, npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
).flatmap(lambda made: st.sampled_from([made, made.T, np.asfortranarray(made), made[..., ::2] if made.ndim else made]))
numpy_scalars = st.one_of(
    npst.from_dtype(np.dtype(code)) for code in ["f4", "f8", "i1", "u8", "c16", "?", "M8[us]", "U3", "S3"]
).filter(lambda made: isinstance(made, np.generic))


def nested(leaves, hashable, buffers):
    keys = st.recursive(
        hashable,
        lambda inner: st.one_of(st.lists(inner, max_size=3).map(tuple), st.frozensets(inner, max_size=3)),
        max_leaves=5,
    )
    return st.recursive(
        st.one_of(leaves, hashable, buffers),
        lambda inner: st.one_of(
            st.lists(inner, max_size=5),
            st.lists(inner, max_size=5).map(tuple),
            st.dictionaries(keys, inner, max_size=5),
            st.dictionaries(keys, inner, max_size=5).map(collections.OrderedDict),
            st.builds(collections.deque, st.lists(inner, max_size=5), st.none() | st.integers(0, 9)),
            st.sets(keys, max_size=5),
            st.frozensets(keys, max_size=5),
            inner.map(lambda shared: [shared, shared, (shared,)]),
        ),
        max_leaves=20,
    )


plain = nested(st.none(), scalars, st.binary().map(bytearray))
typed = nested(
    st.one_of(arrays, dtypes, numpy_scalars, st.lists(st.floats()).map(lambda items: array.array("d", items))),
    st.one_of(scalars, standard.filter(lambda made: not (isinstance(made, decimal.Decimal) and made.is_snan()))),
    st.binary().map(bytearray),
)

# --- the oracle


def agree_or_refuse(data, buffers=()):
    """What decodes is what pickle makes of it; the rest is a typed error. True: it decoded."""
    try:
        result = decode(data, [bytearray(buffer) for buffer in buffers])
    except (CorruptSegmentError, UntrustedValueError):
        return False
    # What decoded names nothing but the table's rows, so pickle may have it too. (Not through a file: there the C
    # unpickler loses bytes where an opcode crosses the end of a frame.)
    assert same(result, pickle.loads(data, buffers=[bytearray(buffer) for buffer in buffers])), data
    return True


def mutated(data, edits):
    """With bytes changed, put in, taken out, or a piece from elsewhere put in."""
    data = bytearray(data)
    for place, byte, how in edits:
        at = place % (len(data) or 1)
        if how == 0:
            data[at : at + 1] = [byte]
        elif how == 1:
            data.insert(at, byte)
        elif how == 2:
            del data[at : at + 1]
        else:
            data[at:at] = data[byte % (len(data) or 1) :][:5]
    return bytes(data)


edits = st.lists(st.tuples(st.integers(0), st.integers(0, 255), st.integers(0, 3)), min_size=1, max_size=4)
