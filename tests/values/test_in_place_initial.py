"""What an array in place begins with: as numpy would convert it, and values that run code meanwhile."""

import array as standard
import contextlib
import datetime
import decimal
import fractions

import helpers
import numpy as np
import pytest
from helpers.arrays import matrix
from helpers.in_place import is_in_place

import shmvar


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
