"""Arrays and buffers that are written in place: they are made by the first call, and opened by the same one."""

import helpers
import numpy as np
import pytest
from helpers.arrays import MIB
from helpers.in_place import is_in_place
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
