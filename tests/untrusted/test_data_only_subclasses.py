"""numpy memory maps, record arrays and masked arrays in untrusted values: rebuilt as pickle would, of checked parts."""

import copy
import pickle

import numpy as np
import pytest
from helpers.array_opcodes import BOOL, I8, over
from helpers.data_only_values import PROTOCOLS, agree_or_refuse, edits, mutated
from helpers.value_comparison import same
from hypothesis import given, settings
from hypothesis import strategies as st

import shmvar
from shmvar import CorruptSegmentError, UntrustedValueError
from shmvar._core import _decode_data_only as decode

RECORD = np.rec.fromarrays([np.arange(3), np.arange(3.0)], names="x,y")
STRUCT = [("a", "i4", (2,)), ("b", [("c", "f8"), ("d", "U2")])]
VALUES = {
    "record": RECORD,
    "record of records": np.zeros(2, [("a", RECORD.dtype), ("b", "M8[s]")]).view(np.recarray),
    "struct of records": np.zeros(2, RECORD.dtype),
    "empty record": np.rec.array(np.zeros((0, 2), [("a", "i4")])),
    "record without fields": np.arange(3).view(np.recarray),
    "one record": RECORD[1],
    "dtype": RECORD.dtype,
    "masked": np.ma.array(np.arange(4.0), mask=[0, 1, 0, 1]),
    "masked dates": np.ma.array(np.arange(4).astype("M8[s]"), mask=[0, 1, 0, 1], fill_value=np.datetime64("2020", "s")),
    "masked swapped": np.ma.array(np.arange(4, dtype=">i4"), mask=[0, 1, 0, 1]),
    "masked in Fortran's order": np.ma.array(np.asfortranarray(np.eye(3)), mask=np.eye(3)),
    "masked struct": np.ma.array(np.zeros(2, STRUCT), mask=[(1, (0, 1)), (0, (1, 0))]),
    "masked records": np.ma.array(RECORD, mask=[(1, 0), (0, 1), (0, 0)]),
    "masked empty": np.ma.array(np.zeros((0, 3))),
    "masked single": np.ma.array(5.0, mask=True),
    "masked without a mask": np.ma.array(np.arange(4)),
    "shared": [RECORD, RECORD, {"a": (RECORD,)}],
}


@pytest.fixture
def stored(key):
    """Stores a value; returns its pickle and the buffers beside it."""
    with shmvar.attach(key, 64 << 20) as segment:

        def store(value):
            segment["value"] = value
            return shmvar._core._get_pickle(segment, "value")

        yield store


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", VALUES)
def test_what_numpy_pickles_comes_back(protocol, name):
    value = VALUES[name]
    data = pickle.dumps(value, protocol)
    assert same(decode(data), pickle.loads(data))


@pytest.mark.parametrize("name", VALUES)
def test_what_a_segment_stores_of_them_beside_the_pickle_comes_back(stored, name):
    value = VALUES[name]
    if isinstance(value, (np.ndarray, list)):
        value = value[0] if isinstance(value, list) else value
        large = (
            np.ma.resize(value, (2_000, 5)) if isinstance(value, np.ma.MaskedArray) else np.resize(value, (2_000, 5))
        )
        large = large if type(large) is type(value) else large.view(type(value))
        data = stored(large)
        assert b"_frombuffer" in data or b"getattr" in data or large.nbytes < 16_384
        assert same(decode(data), pickle.loads(data))


def test_a_memory_map_comes_back_as_one(stored, tmp_path):
    np.save(tmp_path / "file.npy", np.arange(30_000.0))
    mapped = np.load(tmp_path / "file.npy", mmap_mode="r")
    for value in (mapped, mapped[:10], mapped[::2], np.ma.masked_less(mapped, 5)):
        data = stored(value)
        found = decode(data)
        assert type(found) is type(value) and np.array_equal(found, value) and found.flags.writeable
        assert same(found, pickle.loads(data))
    assert found.data.filename is None


SMALL = [
    copy.deepcopy(VALUES[name]) for name in ("record", "masked", "masked struct", "masked records", "struct of records")
]


def stand_ins():
    """A segment writes the same calls for large and for small ones."""
    new = np.ndarray.__new__

    class Call:
        def __init__(self, function, *arguments):
            self.function, self.arguments = function, arguments

        def __reduce__(self):
            return self.function, self.arguments

    record = RECORD.dtype
    made = Call(new, np.recarray, (3,), record, bytearray(48), 0, None, "C")
    mapped = Call(new, np.memmap, (2, 2), np.dtype("M8[s]"), bytearray(32), 0, None, "F")
    mask = np.array([[True, False], [False, True]])
    fill = np.array(np.datetime64("2020", "s"))
    masked = Call(np.ma.MaskedArray, mapped, mask, None, False, True, 0, fill, False, True)
    bare = Call(np.ma.MaskedArray, np.arange(3), np.ma.nomask, None, False, True, 0, None, False, False)
    return [pickle.dumps(call, 5) for call in (made, mapped, masked, bare)]


@pytest.mark.parametrize("data", stand_ins())
def test_the_calls_that_a_segment_writes_are_read(data):
    assert agree_or_refuse(data) and agree_or_refuse(pickle.dumps([1], 5))


@given(
    data=st.sampled_from([*stand_ins(), *(pickle.dumps(value, protocol) for value in SMALL for protocol in PROTOCOLS)]),
    edits=edits,
)
@settings(max_examples=1500)
def test_a_mutated_one_is_one_or_an_error(data, edits):
    agree_or_refuse(mutated(data, edits))


GETATTR = b"cbuiltins\ngetattr\n"
NEW = GETATTR + b"cnumpy\nndarray\nX\x07\x00\x00\x00__new__\x86R"


def made(class_, shape, kind, data=bytes(8), rest=b"K\x00NX\x01\x00\x00\x00C"):
    buffer = b"\x96" + len(data).to_bytes(8, "little") + data
    return NEW + b"(c" + class_ + b"\n" + shape + kind + buffer + rest + b"tR."


ONE = over(bytes(8), I8, b"K\x01\x85")
MASK = over(b"\x00", BOOL, b"K\x01\x85")


def masked(data=ONE, mask=MASK, fill=b"N", hard=b"\x89"):
    return b"cnumpy.ma\nMaskedArray\n(" + data[:-1] + mask[:-1] + b"N\x89\x88K\x00" + fill + b"\x89" + hard + b"tR."


def remade(class_, base, state=b""):
    classes = b"c" + class_ + b"\nc" + base + b"\n"
    return b"cnumpy.ma.core\n_mareconstruct\n(" + classes + b"K\x00\x85C\x01btR" + state + b"."


MASKED, NDARRAY = b"numpy.ma\nMaskedArray", b"numpy\nndarray"
HOSTILE = {
    "another attribute": GETATTR + b"cnumpy\nndarray\nX\x05\x00\x00\x00tofile"[:-1] + b"e\x86R.",
    "an attribute of a value": GETATTR + b"]X\x07\x00\x00\x00__new__\x86R.",
    "an attribute of another class": GETATTR + b"cnumpy\nmemmap\nX\x07\x00\x00\x00__new__\x86R.",
    "three arguments of getattr": GETATTR + b"cnumpy\nndarray\nX\x07\x00\x00\x00__new__N\x87R.",
    "the method itself": NEW + b".",
    "the method in a list": b"]" + NEW + b"a.",
    "a class that is none": NEW + b"(NK\x01\x85" + I8 + b"\x96\x08\0\0\0\0\0\0\0" + bytes(8) + b"K\x00NNtR.",
    "another class": made(b"numpy\nmatrix", b"K\x01\x85", I8),
    "a class of no arrays": made(b"numpy\nrecord", b"K\x01\x85", I8),
    "a shape beyond the buffer": made(b"numpy\nmemmap", b"K\x02\x85", I8),
    "a shape short of the buffer": made(b"numpy\nmemmap", b"K\x01\x85", I8, bytes(16)),
    "a giant shape": made(b"numpy\nmemmap", b"\x8a\x08" + (2**62).to_bytes(8, "little") + b"\x85", I8),
    "an offset": made(b"numpy\nmemmap", b"K\x01\x85", I8, rest=b"K\x08NX\x01\x00\x00\x00C"),
    "strides": made(b"numpy\nmemmap", b"K\x01\x85", I8, rest=b"K\x00K\x08\x85X\x01\x00\x00\x00C"),
    "an order that is none": made(b"numpy\nmemmap", b"K\x01\x85", I8, rest=b"K\x00NX\x01\x00\x00\x00A"),
    "arguments that are missing": NEW + b"(cnumpy\nmemmap\nK\x01\x85" + I8 + b"tR.",
    "objects": made(b"numpy\nmemmap", b"K\x01\x85", I8.replace(b"i8", b"O8")),
    "bools of 2": made(b"numpy\nmemmap", b"K\x01\x85", BOOL, b"\x02"),
    "a record dtype of no struct": b"cnumpy\ndtype\n(cnumpy\nrecord\n\x89\x88tR"
    b"(K\x03X\x01\x00\x00\x00|NNNK\x08K\x01K\x00tb.",
    "a record dtype without its state": b"cnumpy\ndtype\n(cnumpy\nrecord\n\x89\x88tR.",
    "a record dtype of a negative size": b"cnumpy\ndtype\n(cnumpy\nrecord\n\x89\x88tR"
    b"(K\x03X\x01\x00\x00\x00|NNNJ\xff\xff\xff\xffK\x01K\x00tb.",
    "a record": b"cnumpy\nrecord\nK\x01\x85R.",
    "a mask of another shape": masked(mask=over(b"\x00\x00", BOOL, b"K\x02\x85")),
    "a mask that is no mask": masked(mask=over(bytes(8), I8, b"K\x01\x85")),
    "a mask that is a list": masked(mask=b"]K\x00a."),
    "a mask that is True": masked(mask=b"\x88."),
    "data that is a list": masked(data=b"]K\x00a."),
    "a mask of 2": masked(mask=over(b"\x02", BOOL, b"K\x01\x85")),
    "a fill value of another dtype": masked(fill=over(b"\x00", BOOL, b")")[:-1]),
    "a fill value of several": masked(fill=over(bytes(8), I8, b"K\x01\x85")[:-1]),
    "a fill value that is a list": masked(fill=b"]"),
    "a hard mask that is a number": masked(hard=b"K\x01"),
    "a masked array of masked arrays": masked(data=masked()),
    "no data": b"cnumpy.ma\nMaskedArray\n)R.",
    "another base class": remade(MASKED, b"numpy\nmatrix"),
    "another class of masks": remade(NDARRAY, NDARRAY),
    "a mask short of the array": remade(MASKED, NDARRAY, b"(K\x01K\x02\x85" + BOOL + b"\x89C\x02\x00\x00C\x01\x00Ntb"),
    "a state without a mask": remade(MASKED, NDARRAY, b"(K\x01K\x02\x85" + BOOL + b"\x89C\x02\x00\x00tb"),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_no_pickler_writes_this_and_it_is_refused(data):
    with pytest.raises((CorruptSegmentError, UntrustedValueError)):
        decode(data)


def test_the_parts_of_these_are_right_where_they_are_together():
    """Without the fault each decodes, so each of the above is refused for the reason in its name."""
    assert decode(masked()).shape == (1,) and decode(masked(fill=over(bytes(8), I8, b")")[:-1])).fill_value == 0
    state = b"(K\x01K\x02\x85" + BOOL + b"\x89C\x02\x00\x00C\x02\x00\x01Ntb"
    assert decode(remade(MASKED, NDARRAY, state)).mask.tolist() == [False, True]
    assert type(decode(made(b"numpy\nmemmap", b"K\x01\x85", I8))) is np.memmap


def test_a_mask_larger_than_memory_allows_is_refused():
    """A struct of many fields that have no bytes: numpy makes a mask with a byte for each."""
    fields = [(f"f{at}", "V1") for at in range(400)]
    dtype = np.dtype(
        {"names": [name for name, _ in fields], "formats": ["V1"] * 400, "offsets": [0] * 400, "itemsize": 1}
    )
    value = np.zeros(300_000, dtype)
    data = pickle.dumps(value, 5)
    assert len(decode(data)) == 300_000
    call = b"cnumpy.ma\nMaskedArray\n(" + data[2 + 9 : -1] + pickle.dumps(np.ma.nomask, 5)[2 + 9 : -1]
    with pytest.raises(UntrustedValueError, match="bytes of memory"):
        decode(b"\x80\x05" + call + b"N\x89\x88K\x00N\x89\x89tR.")
