"""numpy arrays in untrusted values: decoded as pickle would, without numpy's own unpickling."""

import pickle
import pickletools

import numpy as np
import pytest
from helpers.data_only_values import PROTOCOLS, agree_or_refuse, arrays, dtypes, edits, mutated
from helpers.value_comparison import same
from hypothesis import given, settings
from hypothesis import strategies as st

from shmvar import UntrustedValueError
from shmvar._core import _decode_data_only as decode

STRUCT = np.dtype([("a", "<i4"), ("b", ">U3"), ("c", "f8", (2, 3)), ("d", [("x", "?"), ("y", "M8[25us]")])], align=True)
TITLED = np.dtype({"names": ["x"], "formats": ["i4"], "titles": ["T"], "offsets": [4], "itemsize": 16})
ARRAYS = [
    np.arange(6).reshape(2, 3),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2),
    np.arange(10)[::3],
    np.zeros((0, 3)),
    np.zeros((3, 0, 2), "S5"),
    np.array(5.0),
    np.arange(3, dtype=">i2"),
    np.array(["ab", "é😀"]),
    np.array(["ab"], ">U2"),
    np.array([b"ab\0", b""]),
    np.array([1, -(2**63)], "m8[25us]"),
    np.array(["2020", "NaT"], "M8[ns]"),
    np.zeros(1, "M8"),
    np.zeros(2, "V3"),
    np.array([True, False]),
    np.zeros((2, 2), STRUCT),
    np.ones(1, TITLED),
    np.arange(3, dtype="f2"),
    np.arange(3, dtype="c16"),
    np.array([1], np.longdouble),
]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("value", ARRAYS, ids=lambda value: f"{value.dtype.str}{value.shape}")
def test_arrays_come_back_writable_and_as_pickle_has_them(protocol, value):
    buffers = []
    beside = pickle.dumps(value, protocol, buffer_callback=buffers.append if protocol == 5 else None)
    for data, held in ((beside, buffers), (pickle.dumps(value, protocol), [])):
        copies = [bytearray(buffer.raw()) for buffer in held]
        result, normal = decode(data, copies), pickle.loads(data, buffers=[bytearray(buffer.raw()) for buffer in held])
        assert same(result, normal)
        assert type(result) is np.ndarray and result.flags.writeable and result.flags.aligned == normal.flags.aligned
        assert result.tobytes() == value.tobytes() and result.dtype == value.dtype
        result[...] = np.zeros((), value.dtype)


def test_an_array_that_was_read_only_is_ones_own_and_writable():
    value = np.arange(3)
    value.flags.writeable = False
    buffers = []
    beside = pickle.dumps(value, 5, buffer_callback=buffers.append)
    for result in (decode(pickle.dumps(value, 5)), decode(beside, [bytearray(buffer.raw()) for buffer in buffers])):
        assert result.flags.writeable and np.array_equal(result, value)


@given(value=st.one_of(arrays, dtypes), protocol=st.sampled_from(PROTOCOLS), edits=edits)
@settings(max_examples=1000)
def test_a_mutated_array_is_an_array_or_an_error(value, protocol, edits):
    agree_or_refuse(mutated(pickle.dumps(value, protocol), edits))


@pytest.mark.parametrize("order", "<>=|")
def test_a_dtype_in_another_byte_order_is_what_pickle_makes_of_it_or_an_error(order):
    for value in ARRAYS:
        for protocol in PROTOCOLS:
            data = pickle.dumps(value, protocol)
            for _, argument, place in pickletools.genops(data):
                if argument in ("<", ">", "|"):
                    at = data.index(argument.encode(), place)
                    agree_or_refuse(data[:at] + order.encode() + data[at + 1 :])


class Own(np.ndarray):
    pass


class Masked(np.ma.MaskedArray):
    pass


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (np.array([None]), "objects"),
        (np.zeros(1, [("a", "i4"), ("b", "O")]), "objects"),
        (np.zeros(1, [("a", "O", (2,))]), "objects"),
        (np.dtype([("a", [("b", "O")])]), "objects"),
        (np.arange(3).view(Own), "Own"),
        (np.ma.array([1]).view(Masked), "Masked"),
        (np.ma.array([None]), "objects"),
        (np.char.array(["a"]), "chararray"),
        (np.array(["a"], getattr(np.dtypes, "StringDType", lambda: "O")()), "stringdtype|objects"),
        (np.dtype("i4", metadata={"a": 1}), "metadata"),
        (np.random.default_rng(), "numpy.random"),
        (np.zeros(3, []), "items without bytes"),
        (np.dtype(("i4", [("a", "i2"), ("b", "i2")])), "two kinds"),
        (np.float64, "numpy.float64"),
        (np.add, "numpy"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_is_no_plain_array_is_refused_by_name(protocol, value, name):
    with pytest.raises(UntrustedValueError, match=name):
        decode(pickle.dumps(value, protocol))
