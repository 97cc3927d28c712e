"""Values that the data-only decoder takes, as hypothesis strategies; and its results compared with pickle's."""

import array
import collections
import datetime
import decimal
import pathlib
import pickle

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from helpers.value_comparison import same_as_pickle
from shmvar import CorruptSegmentError, UntrustedValueError
from shmvar._core import _decode_data_only as decode

PROTOCOLS = [2, 3, 4, 5]
DUMPS = [pickle.dumps, pickle._dumps]

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

# --- comparison with pickle


def agree_or_refuse(data, buffers=()):
    """A stream either decodes to what pickle makes of it (True), or is refused by a typed error (False)."""
    try:
        result = decode(data, [bytearray(buffer) for buffer in buffers])
    except (CorruptSegmentError, UntrustedValueError):
        return False
    same_as_pickle(result, data, [bytearray(buffer) for buffer in buffers])
    return True


def mutated(data, edits):
    """The data with bytes changed, inserted or removed, or with a copied piece inserted."""
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
