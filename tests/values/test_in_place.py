"""Arrays and buffers that are written in place: making them, opening them, and what is refused."""

import array as standard
import contextlib
import datetime
import decimal
import fractions

import helpers
import numpy as np
import pytest
from helpers.arrays import MIB, matrix
from helpers.indexes import Indexed

import shmvar

STRUCT = [("x", "f8"), ("y", "i2"), ("when", "M8[s]"), ("name", "U3"), ("raw", "S2"), ("inner", [("z", ">i4", (2, 2))])]
DTYPES = {
    **{code: code for code in ("f8", "f4", "f2", "i1", "u1", "i2", "u8", "?", "c8", "c16", "g", "G")},
    **{code: code for code in (">f8", ">i4", ">c16", "S5", "U3", ">U3", "V7", "M8[ns]", "m8[D]", ">M8[s]")},
    "class": np.float32,
    "python": int,
    "struct": STRUCT,
    "aligned": np.dtype([("a", "i1"), ("b", "f8"), ("c", "i1")], align=True),
    "titled": np.dtype({"names": ["x"], "formats": ["i4"], "titles": ["T"], "offsets": [4], "itemsize": 16}),
    "overlapping": np.dtype({"names": ["a", "b"], "formats": ["i4", "i2"], "offsets": [0, 2], "itemsize": 6}),
    "comma": "i4,f8,S3",
    "subarray": ("f4", (2, 3)),
    "record": (np.record, [("x", "i4")]),
    # numpy takes one byte for an item where no length is given.
    "S": "S",
    "U": "U",
}  # fmt: skip

SHAPES = {
    "0-d": (),
    "number": 7,
    "numpy number": np.int64(7),
    "like a number": Indexed(7),
    "empty": 0,
    "empty rows": (0, 5),
    "empty middle": (5, 0, 3),
    "list": [2, 3],
    "range": range(1, 4),
    "numpy numbers": (np.int32(2), np.uint8(3)),
    "array": np.array([2, 3]),
    "one": (1, 1, 1),
    "long": 300_001,
    "32 axes": (1,) * 31 + (2,),
    "64 axes": (1,) * 63 + (3,),
}


def supported(shape):
    """Whether numpy makes arrays of such a shape: version 1 had at most 32 axes."""
    try:
        np.zeros(shape)
    except ValueError:
        return False
    return True


def is_in_place(found, like, order="C"):
    """Fails unless it is an exact, writable, aligned array as `like`, over memory that is not its own."""
    assert type(found) is np.ndarray and found.dtype == like.dtype and found.shape == like.shape
    assert found.flags.writeable and found.flags.aligned and not found.flags.owndata
    assert found.flags.f_contiguous if order == "F" else found.flags.c_contiguous
    assert found.ctypes.data % 64 == 0
    assert found.tobytes() == np.ascontiguousarray(like).tobytes()


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("name", SHAPES)
def test_zeros_of_every_shape_are_made_once_and_found_by_the_same_call(seg, key, name, order):
    shape = SHAPES[name]
    if not supported(shape):
        pytest.skip("this numpy has fewer axes")
    made = seg.array(1, shape, order=order)
    is_in_place(made, np.zeros(shape), order)
    with shmvar.attach(key) as other:
        for found in (
            seg.array(1, shape, order=order),
            other.array(1),
            other.array(1, dtype=float),
            seg.array(1, shape),
        ):
            is_in_place(found, made, order)
            made[...] = made + 1
            assert np.array_equal(found, made)


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("shape", [(), (3, 5)], ids=str)
def test_zeros_of_every_dtype_are_made_once_and_found_by_the_same_call(seg, key, name, shape):
    dtype = DTYPES[name]
    like = np.zeros(shape, dtype)
    made = seg.array("it", shape, dtype)
    is_in_place(made, like)
    raw = np.resize(np.arange(1, 60, dtype="u1"), like.nbytes)
    if like.dtype.kind in "bU":
        raw[:] = 0
    made.reshape(-1).view("u1")[:] = raw
    with shmvar.attach(key) as other:
        for found in (seg.array("it", shape, dtype), other.array("it"), other.array("it", dtype=like.dtype)):
            assert found.dtype == like.dtype and found.shape == like.shape and found.tobytes() == made.tobytes()
    assert seg["it"].dtype == like.dtype and seg["it"].tobytes() == made.tobytes()
    assert seg.stat("it").type == "numpy.ndarray" and seg.stat("it").in_place


@pytest.mark.parametrize("dtype", ["V0", []], ids=str)
def test_items_without_bytes_are_an_array_or_a_typed_error(seg, dtype):
    try:
        made = seg.array(1, 3, dtype)
    except (TypeError, ValueError):
        assert len(seg) == 0
    else:
        assert made.shape == (3,) and made.dtype == np.zeros(3, dtype).dtype and seg.array(1).shape == (3,)


def frozen(value):
    value.flags.writeable = False
    return value


class Sub(np.ndarray):
    pass


class Converts:
    def __array__(self, dtype=None, copy=None):
        return np.arange(4.0) if dtype is None else np.arange(4.0).astype(dtype)


INITIAL = {
    "array": {"initial": np.arange(6.0)},
    "two axes": {"initial": np.arange(6, dtype="i2").reshape(2, 3)},
    "strides": {"initial": np.arange(20)[::3]},
    "backwards": {"initial": np.arange(20)[::-1]},
    "fortran": {"initial": np.asfortranarray(np.arange(6.0).reshape(2, 3))},
    "axes": {"initial": np.arange(24.0).reshape(2, 3, 4).transpose(1, 2, 0)},
    "read-only": {"initial": frozen(np.arange(5))},
    "not aligned": {"initial": np.frombuffer(bytes(range(41)), "f8", offset=1)},
    "repeated": {"initial": np.broadcast_to(np.arange(3), (5, 3))},
    "large": {"initial": np.arange(300_000.0)},
    "large transposed": {"initial": np.arange(300_000.0).reshape(500, 600).T},
    "empty": {"initial": np.zeros((0, 3), "i4")},
    "nothing": {"initial": []},
    "list": {"initial": [1, 2, 3]},
    "lists": {"initial": [[1.5, 2], [3, 4]]},
    "tuple": {"initial": (True, False)},
    "range": {"initial": range(5)},
    "texts": {"initial": ["ab", "é😀c"]},
    "text": {"initial": "abc"},
    "bytes": {"initial": b"abc"},
    "bytearray": {"initial": bytearray(b"abc")},
    "memoryview": {"initial": memoryview(b"abcdefgh").cast("H")},
    "standard array": {"initial": standard.array("d", [1, 2])},
    "number": {"initial": 7},
    "float": {"initial": 0.5},
    "bool": {"initial": True},
    "complex": {"initial": 1 + 2j},
    "zero": {"initial": 0},
    "numpy number": {"initial": np.float32(1.5)},
    "date": {"initial": np.datetime64("2026-11-29")},
    "0-d": {"initial": np.array(5, "i2")},
    "number for all": {"shape": (4, 3), "initial": 5},
    "nan for all": {"shape": 4, "dtype": "f4", "initial": float("nan")},
    "date for all": {"shape": 4, "initial": np.datetime64("NaT", "s")},
    "text for all": {"shape": 3, "initial": "abc"},
    "row": {"shape": (4, 3), "initial": [1, 2, 3]},
    "column": {"shape": (4, 3), "initial": np.arange(4)[:, None]},
    "row of many": {"shape": (2, 4, 3), "initial": np.arange(12.0).reshape(4, 3)},
    "longer than one": {"shape": (4,), "initial": [9]},
    "none of many": {"shape": (0, 4), "initial": 1},
    "the same shape": {"shape": (2, 3), "initial": np.arange(6).reshape(2, 3)},
    "shape of a number": {"shape": np.int32(3), "initial": 1},
    "cut off": {"dtype": "i4", "initial": np.array([1.7, -2.2])},
    "cut off for all": {"shape": 3, "dtype": "i2", "initial": 2.9},
    "less bits": {"dtype": "f4", "initial": np.arange(5) / 3},
    "less bits of ints": {"dtype": "u1", "initial": np.arange(300)},
    "byte order": {"dtype": ">f8", "initial": np.arange(5.0)},
    "shorter texts": {"shape": 2, "dtype": "S2", "initial": b"abc"},
    "to text": {"shape": 2, "dtype": "U5", "initial": 12},
    "dtype of a number": {"dtype": "f2", "initial": 3},
    "dates of texts": {"shape": 2, "dtype": "M8[D]", "initial": "2026-11-29"},
    "structs": {"initial": np.array([(1, 2.5), (3, 4.5)], "i4,f8")},
    "struct for all": {"shape": 3, "initial": np.array((1, 2.5), "i4,f8")},
    "one into a struct": {"shape": 3, "dtype": "i4,f8", "initial": 1},
    "masked": {"initial": np.ma.array([1, 2, 3], mask=[0, 1, 0])},
    "matrix": {"initial": matrix([1, 2, 3])},
    "record array": {"initial": np.rec.array([(1, 2.5)], dtype="i4,f8")},
    "subclass": {"initial": np.arange(3.0).view(Sub)},
    "converts": {"initial": Converts()},
    "converts for all": {"shape": (2, 4), "dtype": "i8", "initial": Converts()},
}


def as_numpy(initial, shape=None, dtype=None):
    if shape is None:
        return np.asarray(initial, dtype)
    return np.full(shape, initial, dtype)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("name", INITIAL)
def test_it_begins_as_numpy_would_fill_it(seg, name, order):
    given = INITIAL[name]
    like = as_numpy(**given)
    made = seg.array(1, order=order, **given)
    is_in_place(made, like, order)
    if like.ndim > 1 and like.size > max(like.shape):
        assert made.flags.f_contiguous is (order == "F")
    is_in_place(seg.array(1), like, order)
    is_in_place(seg.array(1, like.shape, like.dtype, initial=given["initial"]), like, order)
    initial = given["initial"]
    if isinstance(initial, np.ndarray) and made.size:
        before = initial.tobytes()
        made.reshape(-1, order="A").view("u1")[:] = 0
        assert initial.tobytes() == before, "it is over memory of the one who gave it"


def test_it_begins_as_what_pandas_has(seg):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": np.arange(50.0), "b": np.arange(50.0) * 2})
    for index, value in enumerate((frame, frame["a"], frame.index, frame[::3], frame.T)):
        is_in_place(seg.array(index, initial=value), np.asarray(value))
    is_in_place(seg.array("wide", (3, 50), "f4", initial=frame["b"]), np.full((3, 50), frame["b"], "f4"))


def test_none_given_to_begin_with_is_zeros(seg):
    is_in_place(seg.array(1, 3, initial=None), np.zeros(3))
    with pytest.raises(KeyError):
        seg.array(2, initial=None)


def test_what_is_there_is_taken_as_it_is_whatever_it_would_have_begun_with(seg):
    made = seg.array(1, initial=[1.0, 2.0])
    version = seg.version(1)
    made[:] = 5, 6
    for found in (
        seg.array(1, initial=[7.0, 8.0]),
        seg.array(1, 2, initial=9),
        seg.array(1, 2),
        seg.array(1, dtype="f8"),
    ):
        is_in_place(found, made)
    assert made.tolist() == [5, 6] and seg.version(1) == version
    raw = seg.buffer(2, 3)
    raw[:] = b"abc"
    assert seg.buffer(2, 3) == seg.buffer(2) == b"abc"


@pytest.mark.parametrize("size", [1, 63, 4096, np.int64(5000), Indexed(16_384), MIB + 1])
def test_a_buffer_is_a_writable_memoryview_of_zeros(seg, key, size):
    made = seg.buffer("ring", size)
    length = size.__index__()
    for found in (made, seg.buffer("ring"), seg.buffer("ring", size), seg.buffer("ring", size=length)):
        assert type(found) is memoryview and not found.readonly and found.format == "B" and found.itemsize == 1
        assert found.shape == (length,) and found.c_contiguous and found.nbytes == len(found) == length
        assert found == bytes(length)
    made[-1], made[0] = 7, 8
    with shmvar.attach(key) as other:
        again = other.buffer("ring")
        assert (again[-1], again[0]) == ((8, 8) if length == 1 else (7, 8))
        again[:1] = b"x"
    assert made[:1] == b"x" and seg["ring"][:1] == b"x"
    assert seg.stat("ring").type == "memoryview" and seg.stat("ring").in_place


@pytest.mark.parametrize("index", [0, 1, -(2**63), 2**63 - 1, Indexed(5), "", "field", "é\0", "t" * 1024, "é" * 512])
def test_any_index_may_be_one_in_place(seg, index):
    field = seg.array(index, (2, 2), "i4", initial=3)
    field[0, 0] = 4
    assert seg.array(index).tolist() == [[4, 3], [3, 3]] == seg[index].tolist() and field.ctypes.data % 64 == 0
    assert seg.remove(index)
    raw = seg.buffer(index, 100)
    raw[99] = 1
    assert seg.buffer(index)[99] == 1 and index in seg and len(seg) == 1


def test_text_and_number_of_the_same_look_are_two(seg):
    one, other = seg.array(5, 3), seg.array("5", 3)
    one[:], other[:] = 1, 2
    assert seg[5].tolist() == [1, 1, 1] and seg["5"].tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    "call",
    [
        lambda seg: seg.array("missing"),
        lambda seg: seg.array("missing", None, None),
        lambda seg: seg.array("missing", dtype="f8"),
        lambda seg: seg.array("missing", order="F"),
        lambda seg: seg.buffer("missing"),
        lambda seg: seg.buffer("missing", None),
    ],
)
def test_where_nothing_says_what_to_make_a_missing_one_is_a_key_error(seg, call):
    with pytest.raises(KeyError) as caught:
        call(seg)
    assert caught.value.args == ("missing",) and len(seg) == 0 and seg.info().used == 0


def both(error, one, other):
    """Fails unless the text has both; each is a tuple of spellings of which one is enough."""
    text = str(error.value)
    assert not isinstance(error.value, shmvar.Error), "of damage, say, which is a ValueError, too"
    for spellings in (one, other):
        assert any(spelling in text for spelling in spellings), (spellings, text)


@pytest.mark.parametrize("index", [4711, "field"])
def test_another_shape_dtype_or_kind_than_is_there_is_an_error_that_names_both(seg, index):
    made = seg.array(index, (30, 4), "f4")
    made[:] = 1
    version = seg.version(index)
    for shape in (30, (30,), (4, 30), (30, 4, 1), (), (30, 5), 120):
        with pytest.raises(ValueError, match=str(index)) as caught:
            seg.array(index, shape)
        both(caught, ("(30, 4)",), (str(shape), f"({shape},)"))
    for dtype, spellings in [
        ("f8", ("float64", "f8")),
        (">f4", (">f4",)),
        ("i4", ("int32", "i4")),
        ("f4,f4", ("f0",)),
        ("S4", ("S4",)),
    ]:
        for call in (
            lambda dtype=dtype: seg.array(index, (30, 4), dtype),
            lambda dtype=dtype: seg.array(index, dtype=dtype),
        ):
            with pytest.raises(ValueError, match=str(index)) as caught:
                call()
            both(caught, ("float32", "<f4", "'f4'"), spellings)
    for call in (lambda: seg.buffer(index), lambda: seg.buffer(index, 480), lambda: seg.buffer(index, 5)):
        with pytest.raises(ValueError, match=str(index)) as caught:
            call()
        both(caught, ("array",), ("memoryview", "buffer"))
    assert (made == 1).all() and seg.version(index) == version and seg.stat(index).in_place
    seg.remove(index)
    raw = seg.buffer(index, 480)
    for size in (1, 481, 5):
        with pytest.raises(ValueError, match=str(index)) as caught:
            seg.buffer(index, size)
        both(caught, ("480",), (str(size),))
    for call in (
        lambda: seg.array(index),
        lambda: seg.array(index, 480, "u1"),
        lambda: seg.array(index, dtype="u1"),
        lambda: seg.array(index, initial=1),
    ):
        with pytest.raises(ValueError, match=str(index)) as caught:
            call()
        both(caught, ("array",), ("memoryview", "buffer"))
    assert raw == bytes(480) == seg.buffer(index)


def test_dtypes_are_the_same_where_numpy_says_so(seg):
    seg.array(1, 3, "i8")
    for dtype in ("i8", "<i8", int, np.int64, np.dtype("q")):
        assert seg.array(1, dtype=dtype).shape == (3,)
    made = seg.array(2, 3, "f8", initial=1)
    seg.array(2, [3], float)[0] = 5
    assert made.tolist() == [5, 1, 1]


PLAIN = {
    "int": 5,
    "text": "text",
    "large": b"x" * 100_000,
    "array": np.arange(3.0),
    "large array": np.arange(100_000.0),
    "memoryview": memoryview(bytes(100_000)),
    "none": None,
}


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_variable_is_left_alone_and_the_error_says_what_to_do(seg, name):
    value = PLAIN[name]
    seg["it"] = value
    version, used = seg.version("it"), seg.info().used
    for call in (
        lambda: seg.array("it"),
        lambda: seg.array("it", 3),
        lambda: seg.array("it", (3,), "f8", initial=1),
        lambda: seg.array("it", dtype="f8"),
        lambda: seg.buffer("it"),
        lambda: seg.buffer("it", 100_000),
    ):
        with pytest.raises(ValueError, match="it") as caught:
            call()
        assert any(word in str(caught.value) for word in ("remove", "del ", "pop", "another index")), caught.value
        assert not isinstance(caught.value, shmvar.Error)
    assert seg.version("it") == version and seg.info().used == used and not seg.stat("it").in_place
    seg.remove("it")
    assert seg.array("it", 3).tolist() == [0, 0, 0]


FIELDS = [(f"field {number:03}", ("f8", "i2", "S5", "M8[s]")[number % 4]) for number in range(500)]


@pytest.mark.parametrize("trust", [True, False])
def test_a_dtype_of_many_fields_is_as_any(key, trust):
    """Its description takes more than a page."""
    with shmvar.attach(key, trust=trust) as segment:
        made = segment.array("it", 20, FIELDS)
        made["field 499"][3], made["field 002"] = 5, b"abc"
        assert segment.array("it", (20,), FIELDS).tobytes() == made.tobytes() == segment["it"].tobytes()
        assert segment.array("it")["field 499"][3] == np.datetime64(5, "s") and made.dtype == np.dtype(FIELDS)
        with pytest.raises(ValueError, match="it"):
            segment.array("it", 20, FIELDS[:-1])


# --- what is refused

OBJECTS = {
    "objects": (3, "O"),
    "python": (3, object),
    "field": (3, [("a", "f8"), ("b", "O")]),
    "field of many": (3, [("a", "O", (2,))]),
    "inner field": (3, [("a", [("b", "O")])]),
    "subarray": (3, (object, (2,))),
}


@pytest.mark.parametrize("name", OBJECTS)
def test_objects_are_refused(seg, name):
    for more in ({}, {"initial": 0}):
        with pytest.raises(TypeError, match=r"object|\bO\b"):
            seg.array(1, *OBJECTS[name], **more)
    assert len(seg) == 0 and seg.info().used == 0


@pytest.mark.parametrize(
    "initial",
    [np.array([None]), [{}], [1, None], object(), np.zeros(2, [("a", "O")])],
    ids=["array", "dicts", "none in a list", "object", "struct"],
)
def test_what_is_made_of_objects_cannot_be_begun_with(seg, initial):
    with pytest.raises(TypeError, match="object"):
        seg.array(1, initial=initial)
    assert len(seg) == 0


@pytest.mark.skipif(not hasattr(np.dtypes, "StringDType"), reason="needs numpy 2")
def test_texts_of_any_length_are_refused(seg):
    dtype = np.dtypes.StringDType()
    for call in (
        lambda: seg.array(1, 3, dtype),
        lambda: seg.array(1, initial=np.array(["a", "b"], dtype)),
        lambda: seg.array(1, 3, "T"),
    ):
        with pytest.raises(TypeError, match="StringDType"):
            call()
    assert len(seg) == 0
    # Of another dtype they may be what it begins with.
    assert seg.array(1, dtype="U2", initial=np.array(["a", "bcd"], dtype)).tolist() == ["a", "bc"]


TOO_MUCH = (ValueError, OverflowError, MemoryError, shmvar.SegmentFullError)
WRONG = {
    "negative": (lambda seg: seg.array(1, -1), ValueError, "negative|-1"),
    "negative axis": (lambda seg: seg.array(1, (2, -3)), ValueError, "negative|-3"),
    "text": (lambda seg: seg.array(1, "3"), TypeError, ""),
    "float": (lambda seg: seg.array(1, 1.5), TypeError, ""),
    "float axis": (lambda seg: seg.array(1, (2, 1.5)), TypeError, ""),
    "object axis": (lambda seg: seg.array(1, (2, None)), TypeError, ""),
    "65 axes": (lambda seg: seg.array(1, (1,) * 65), ValueError, "dimension|axes"),
    "beyond 64 bits": (lambda seg: seg.array(1, 2**70), TOO_MUCH, ""),
    "beyond all memory": (lambda seg: seg.array(1, 2**62, "u1"), TOO_MUCH, ""),
    "product beyond": (lambda seg: seg.array(1, (2**40, 2**40), "u1"), TOO_MUCH, ""),
    "product that wraps": (lambda seg: seg.array(1, (2**32, 2**32), "f8"), TOO_MUCH, ""),
    "items beyond": (lambda seg: seg.array(1, 2**61, "f8"), TOO_MUCH, ""),
    "dtype": (lambda seg: seg.array(1, 3, "nonsense"), TypeError, ""),
    "date without unit": (lambda seg: seg.array(1, 3, "M8"), ValueError, "unit"),
    "time without unit": (lambda seg: seg.array(1, 3, "m8"), ValueError, "unit"),
    "dtype of a number": (lambda seg: seg.array(1, 3, 5), TypeError, ""),
    "order A": (lambda seg: seg.array(1, 3, order="A"), ValueError, "order|'C'"),
    "order K": (lambda seg: seg.array(1, 3, order="K"), ValueError, "order|'C'"),
    "order X": (lambda seg: seg.array(1, initial=3, order="X"), ValueError, "order|'C'"),
    "no order": (lambda seg: seg.array(1, 3, order=""), ValueError, "order|'C'"),
    "order 5": (lambda seg: seg.array(1, 3, order=5), (TypeError, ValueError), ""),
    "does not fit": (lambda seg: seg.array(1, (2, 3), initial=[1, 2]), ValueError, "broadcast"),
    "more axes": (lambda seg: seg.array(1, 3, initial=[[1, 2, 3], [4, 5, 6]]), ValueError, ""),
    "no number": (lambda seg: seg.array(1, 3, "f8", initial="x"), ValueError, "float|'x'"),
    "ragged": (lambda seg: seg.array(1, initial=[[1], [2, 3]]), ValueError, ""),
    "by position": (lambda seg: seg.array(1, 3, "f8", 0), TypeError, "argument"),
    "no such argument": (lambda seg: seg.array(1, size=3), TypeError, "size"),
    "without index": (lambda seg: seg.array(), TypeError, "index|argument"),
    "float index": (lambda seg: seg.array(1.5, 3), TypeError, ""),
    "none as index": (lambda seg: seg.array(None, 3), TypeError, ""),
    "bytes as index": (lambda seg: seg.buffer(b"x", 3), TypeError, ""),
    "large index": (lambda seg: seg.array(2**63, 3), OverflowError, ""),
    "long index": (lambda seg: seg.array("x" * 1025, 3), OverflowError, ""),
    "large index of a buffer": (lambda seg: seg.buffer(-(2**63) - 1, 3), OverflowError, ""),
    "no bytes": (lambda seg: seg.buffer(1, 0), ValueError, "0|1"),
    "negative size": (lambda seg: seg.buffer(1, -1), (ValueError, OverflowError), "negative|-1"),
    "float size": (lambda seg: seg.buffer(1, 1.5), TypeError, ""),
    "text size": (lambda seg: seg.buffer(1, "3"), TypeError, ""),
    "size beyond 64 bits": (lambda seg: seg.buffer(1, 2**70), TOO_MUCH, ""),
    "size beyond all memory": (lambda seg: seg.buffer(1, 2**63 - 1), TOO_MUCH, ""),
    "index of touch": (lambda seg: seg.touch(1.5), TypeError, ""),
    "large index of touch": (lambda seg: seg.touch(2**63), OverflowError, ""),
    "no index of touch": (lambda seg: seg.touch(), TypeError, "index|argument"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_are_typed_errors_and_change_nothing(seg, name):
    call, error, text = WRONG[name]
    with pytest.raises(error, match=text or None) as caught:
        call(seg)
    assert str(caught.value) and len(seg) == 0 and seg.info().used == 0 and seg.info().held == 0
    assert seg.array(1, 3).tolist() == [0, 0, 0]


@pytest.mark.parametrize("order", ["A", "X", ""])
def test_a_wrong_order_is_wrong_where_one_is_opened_too(seg, order):
    seg.array(1, 3)
    with pytest.raises(ValueError, match=r"order|'C'"):
        seg.array(1, 3, order=order)


VALUES = [0, -1, 5, 300, 2**31, 2**63, 2**64, 2**70, 1.5, -2.7, 1e30, float("nan"), float("inf"), 1j, 2 + 0j, True]
VALUES += ["", "12", "1.5", "abc", "2026-01-01", "NaT", b"", b"12", np.float32(1.5), np.int8(-3), np.uint64(2**64 - 1)]
VALUES += [np.datetime64("2020"), np.timedelta64(3, "s"), datetime.date(2020, 1, 2), datetime.timedelta(3)]
VALUES += [decimal.Decimal("1.5"), fractions.Fraction(1, 2), np.complex64(1 + 2j), np.array(1j), np.array([1.5])]
VALUES += [
    np.array(["1", "2", "3"]),
    [1, 2, 3],
    [[1, 2, 3]],
    [[1], [2], [3]],
    [True, None, 1],
    np.void(b"abc"),
    np.str_("x"),
]
VALUES += [np.array([300, 1e30, -5]), range(3), [[[]]], [1, 2], (1, 2.5)]
TO = ["?", "i1", "u1", "i4", "u8", "f2", "f8", "c8", "S2", "U2", "M8[s]", "m8[s]", ">i4", ">U2"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", [None, *TO], ids=str)
@pytest.mark.parametrize("shape", [(), (3,), (3, 3)], ids=str)
def test_what_it_begins_with_is_converted_and_refused_as_numpy_does(seg, dtype, shape):
    taken = []
    for value in VALUES:
        try:
            like = np.full(shape, value, dtype)
            converted = not like.dtype.hasobject and like.dtype.itemsize > 0
        except (OverflowError, ValueError, TypeError, RuntimeError):
            converted = False
        if converted:
            is_in_place(seg.array(1, shape, dtype, initial=value), like)
        else:
            with contextlib.suppress(OverflowError, ValueError, TypeError, RuntimeError):
                seg.array(1, shape, dtype, initial=value)
                taken.append(value)
        seg.remove(1)
    assert not taken


def test_what_does_not_fit_the_limit_is_refused_with_the_numbers_and_changes_nothing(key):
    with shmvar.attach(key, 100_000) as segment:
        segment[1] = "old"
        field = segment.array("field", 5000)
        field[:] = 3
        before = segment.info()
        for call in (
            lambda: segment.array("new", 10_000),
            lambda: segment.array("new", initial=np.arange(10_000.0)),
            lambda: segment.buffer("new", 70_000),
            lambda: segment.buffer("new", 10**9),
        ):
            with pytest.raises(shmvar.SegmentFullError) as caught:
                call()
            error = caught.value
            assert error.size == 100_000 and error.needed > error.free >= 0
            assert all(str(number) in str(error) for number in (error.needed, error.free, error.size))
            assert (segment.info().used, segment.info().count, segment.info().held) == (before.used, 2, 0)
        assert segment.array("fits", 5000).sum() == 0 and (field == 3).all() and segment[1] == "old"
        with pytest.raises(shmvar.SegmentFullError):
            segment[2] = b"x" * 30_000
        segment.check()


def test_as_much_as_the_largest_put_fits_in_place(key):
    with shmvar.attach(key, MIB) as segment:
        for make in (lambda size: segment.buffer(1, size), lambda size: segment.array(1, size, "u1")):
            raw = make(segment.info().largest_put - 4096)
            raw[0] = raw[-1] = 1
            assert segment.info().used > MIB - 8192
            segment.remove(1)
            del raw
        segment.check()


# --- values that run code while one is made


class Runs:
    def __init__(self, function):
        self.function = function

    def __array__(self, dtype=None, copy=None):
        made = self.function()
        return np.arange(3.0) if made is None else made


def test_what_the_beginning_raises_comes_through_and_nothing_is_stored_or_held(seg):
    for error in (RuntimeError("its own"), KeyboardInterrupt(), shmvar.DetachedError("its own")):

        def fail(error=error):
            raise error

        with pytest.raises(type(error)) as caught:
            seg.array(1, initial=Runs(fail))
        assert caught.value is error and len(seg) == 0
        with helpers.promptly():
            assert seg.array(2, 3).tolist() == [0, 0, 0] and seg.remove(2)


def test_a_beginning_that_makes_the_same_one_itself_finds_it(seg):
    with helpers.promptly():
        made = seg.array(1, initial=Runs(lambda: seg.array(1, initial=[7.0, 8.0, 9.0])))
    made[0] = 5
    assert seg[1].tolist() == [5, 8, 9] and len(seg) == 1


def test_a_beginning_that_stores_a_plain_variable_there_is_told_of_it(seg):
    with helpers.promptly(), pytest.raises(ValueError, match="1"):
        seg.array(1, initial=Runs(lambda: seg.put(1, "plain")))
    assert seg[1] == "plain"


def test_a_beginning_that_detaches_the_handle_ends_in_a_typed_error_or_an_array(key):
    segment = shmvar.attach(key)
    try:
        made = segment.array(1, initial=Runs(segment.detach))
    except shmvar.DetachedError:
        pass
    else:
        assert made.tolist() == [0, 1, 2]
    with shmvar.attach(key) as again:
        again.check()


def test_one_in_place_may_be_what_another_begins_with(seg):
    one = seg.array(1, initial=np.arange(5.0))
    other = seg.array(2, initial=one)
    raw = seg.array(3, initial=seg.buffer("raw", 4))
    one[0] = 9
    assert other.tolist() == [0, 1, 2, 3, 4] and raw.dtype == np.uint8 and raw.shape == (4,)


# --- numpy

WITHOUT = """
segment = shmvar.attach(key, create=False)
raw = segment.buffer("raw", 1000)
raw[5] = 5
assert segment.buffer("raw")[5] == segment["raw"][5] == segment.view("raw")[5] == 5
assert segment.touch("raw") > 0 < segment.touch("field") and segment.stat("field").in_place
assert segment.stat("field").type == "numpy.ndarray" and segment.stat("raw").type == "memoryview"
assert "field" in segment and len(segment) == 2
print([name for name in sys.modules if name.partition(".")[0] == "numpy"])
try:
    segment.array("field") if sys.argv[2] == "open" else segment.array("new", 3)
except ImportError as error:
    print("numpy" in str(error))
else:
    print("numpy" in sys.modules)
"""


@pytest.mark.parametrize("what", ["open", "make"])
@pytest.mark.parametrize("numpy", ["installed", "not installed"])
def test_numpy_is_imported_by_the_first_array_and_by_nothing_else(seg, key, what, numpy):
    seg.array("field", 3)
    code = WITHOUT if numpy == "installed" else "sys.modules['numpy'] = None\n" + WITHOUT
    done = helpers.run(code, key, what)
    imported = "[]" if numpy == "installed" else "['numpy']"
    assert done.stdout.split("\n") == [imported, "True", ""]
    assert set(seg) - {"new"} == {"field", "raw"} and ("new" in seg) is (what == "make" and numpy == "installed")
