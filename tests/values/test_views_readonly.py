"""In a view every array is read-only, and in a copy every array is writable: of any size, anywhere in the value, and
whether it was writable or not when it was stored."""

import array as standard
import collections
import dataclasses
import gc
import pickle

import numpy as np
import pytest
from helpers.arrays import matrix

import shmvar
from shmvar._core import _get_pickle

SMALL, LARGE = 10, 20_000


class Sub(np.ndarray):
    def setflags(self, *arguments, **named):
        raise AssertionError("code of the value")


class Bytes(bytes):
    pass


class ByteArray(bytearray):
    pass


class Array(standard.array):
    pass


@dataclasses.dataclass
class Holder:
    array: np.ndarray


def arrays_in(value):
    """Yields every array in a value of these tests, once."""
    if isinstance(value, np.ndarray):
        inner = arrays_in(value.tolist()) if value.dtype == object else []
        mask = [value._mask] if isinstance(value, np.ma.MaskedArray) else []
        return [value, *mask, *inner]
    if isinstance(value, Holder):
        return arrays_in(value.array)
    items = (
        value.values()
        if isinstance(value, dict)
        else value
        if isinstance(value, (list, tuple, collections.deque))
        else ()
    )
    return [found for item in items for found in arrays_in(item)]


def plain(size):
    """The value in each kind of container that is decoded without trust, too."""
    made = np.arange(float(size))
    return {
        "bare": made,
        "dict": {"a": made},
        "several": [made, made * 2, {"a": (np.arange(size, dtype="i2"),)}],
        "fortran": [np.asfortranarray(np.arange(2.0 * size).reshape(2, size))],
        "strides": [np.arange(2 * size)[::2]],
        "bare strides": np.arange(2 * size)[::2],
        "dates": [np.zeros(size, "M8[s]")],
        "bare dates": np.zeros(size, "M8[s]"),
        "1 tuple": (made,),
        "2 tuple": (made, np.arange(5)),
        "3 tuple": (np.zeros(1), "middle", made),
        "tuples": ((made, made + 1), (np.zeros(3, "M8[s]"), 1), made + 2),
        "dates first": (np.zeros(size, "M8[s]"), made),
        "dates and no more": (np.zeros(size, "M8[s]"), "text"),
        "dates last": (made, np.zeros(size, "M8[s]"), np.arange(2 * size)[::2]),
        "structs": collections.deque([np.zeros(size, [("x", "f8"), ("y", "i2")])]),
        "mixed": [np.zeros(SMALL), np.zeros(LARGE), np.zeros(SMALL, "M8[s]")],
        "empty": [np.zeros(0), np.zeros((0, 5)), np.array(5.0)],
    }


def special(size):
    inner = np.empty(2, object)
    inner[:] = [np.arange(size), [np.zeros(size).view(Sub)]]
    return {
        "object": np.array([1, "x", None] * size, object),
        "arrays in an object array": inner,
        "attribute": Holder(np.arange(size)),
        "sub": np.arange(size).view(Sub),
        "record": np.rec.array(np.zeros(size, [("x", "f8"), ("y", "i2")])),
        "matrix": matrix(np.arange(size)),
        "masked": np.ma.array(np.arange(size), mask=np.arange(size) % 2),
        "text": np.char.array(["a"] * size),
        "all": [np.arange(size), np.arange(size).view(Sub), {"m": np.ma.array([1, 2], mask=[0, 1])}],
        "words": ["_frombuffer", "numpy._core.numeric", np.arange(size), "_reconstruct", np.zeros(size, "M8[s]")],
    }


def cases(make):
    return [pytest.param(value, id=f"{name}-{size}") for size in (SMALL, LARGE) for name, value in make(size).items()]


def alike(found, value):
    found, value = arrays_in(found), arrays_in(value)
    assert len(found) == len(value) > 0
    for one, other in zip(found, value, strict=True):
        assert type(one) is type(other) and one.dtype == other.dtype and one.strides is not None
        assert one.dtype == object or np.array_equal(np.asarray(one), np.asarray(other))


def assert_read_only(value):
    for found in arrays_in(value):
        assert not found.flags.writeable
        if found.size:
            with pytest.raises(ValueError, match=r"read-only|not writeable"):
                found.flat[0] = found.flat[0]


@pytest.mark.parametrize("value", cases(plain))
def test_every_array_of_a_view_is_read_only_through_every_handle(key, value):
    with shmvar.attach(key, 1 << 28) as segment:
        segment[1] = value
        for how in ({}, {"readonly": True}, {"trust": False}, {"trust": False, "readonly": True}):
            with shmvar.attach(key, **how) as handle:
                view, own = handle.view(1), handle[1]
                alike(view, value)
                alike(own, value)
                assert_read_only(view)
                assert all(found.flags.writeable for found in arrays_in(own))


@pytest.mark.parametrize("value", cases(special))
def test_every_array_of_a_view_is_read_only_whatever_its_class(key, value):
    with shmvar.attach(key, 1 << 28) as segment:
        segment[1] = value
        for how in ({}, {"readonly": True}):
            with shmvar.attach(key, **how) as handle:
                view, own = handle.view(1), handle[1]
                alike(view, value)
                assert_read_only(view)
                assert all(found.flags.writeable for found in arrays_in(own))


def test_a_masked_array_of_a_view_takes_no_item_and_no_mask(big):
    big[1] = [np.ma.array([1, 2, 3], mask=[0, 1, 0])]
    (view,) = big.view(1)
    for change in (5, np.ma.masked):
        with pytest.raises(ValueError, match="read-only"):
            view[0] = change
    assert view.tolist() == [1, None, 3]


@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize("kind", [np.ndarray, Sub])
def test_what_is_one_array_in_the_value_is_one_in_the_view(big, kind, size):
    one = frozen(np.arange(size).view(kind))
    big[1] = [one, {"again": one}, one]
    for found, writable in ((big.view(1), False), (big[1], True)):
        assert found[0] is found[1]["again"] is found[2] and type(found[0]) is kind
        assert found[0].flags.writeable is writable


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_small_and_large_frames_are_viewed_read_only(big, size):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {
            "a": np.arange(float(size)),
            "n": np.arange(size),
            "when": pandas.date_range("2026-01-01", periods=size, freq="s"),
            "zone": pandas.date_range("2026-01-01", periods=size, freq="s", tz="UTC"),
            "kind": pandas.Categorical(["x", "y"] * (size // 2)),
            "text": ["some text"] * size,
            "object": pandas.Series([1, "x"] * (size // 2), dtype=object),
            "some": pandas.array([1, None] * (size // 2), dtype="Int64"),
            "span": pandas.interval_range(0, size),
        },
        index=pandas.MultiIndex.from_product([["u", "v"], range(size // 2)]),
    )
    frames = [frame, frame["a"], frame.reset_index(drop=True)]
    big[1] = frames
    for found in (big.view(1), big[1]):
        for one, other in zip(found[::2], frames[::2], strict=True):
            pandas.testing.assert_frame_equal(one, other)
    view = big.view(1)[0]
    for block in view._mgr.blocks:
        for name in ("", "_ndarray", "_codes", "_data", "_mask"):
            made = getattr(block.values, name, None) if name else block.values
            assert not isinstance(made, np.ndarray) or not made.flags.writeable, (block, name)
    own = big[1][0]
    own.iloc[0, 0] = -1.0
    own.loc[own.index[0], "object"] = "changed"
    assert big[1][0].iloc[0, 0] == 0.0


class Counts:
    """Counts how often it was pickled and unpickled."""

    pickled = unpickled = 0

    def __init__(self, *arrays):
        self.arrays = arrays

    def __reduce__(self):
        Counts.pickled += 1
        return made, self.arrays


def made(*arrays):
    Counts.unpickled += 1
    return Counts(*arrays)


@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize("kind", [np.ndarray, Sub])
def test_code_of_the_value_runs_once_for_a_put_and_once_for_a_view(big, kind, size):
    one, other = np.arange(size).view(kind), np.frombuffer(bytes(8 * size))
    Counts.pickled = Counts.unpickled = 0
    big[1] = [Counts(one, other), other]
    assert Counts.pickled == 1
    view = big.view(1)
    assert Counts.unpickled == 1 and view[0].arrays[1] is view[1]
    assert not any(found.flags.writeable for found in view[0].arrays)


def test_memory_is_let_go_of_with_the_view_and_not_later(big):
    big[1] = [np.arange(LARGE), np.arange(SMALL).view(Sub), np.ma.array([1])]
    gc.collect()
    gc.disable()
    try:
        view = big.view(1)
        big.remove(1)
        assert big.info().held > 0
        del view
        big[2] = 0
        assert big.info().held == 0
    finally:
        gc.enable()


@pytest.mark.parametrize("size", [0, 3, 5_000, 50_000])
def test_whatever_is_like_bytes_is_viewed_as_a_read_only_memoryview(key, size):
    data = bytes(range(256)) * size
    data = data[:size]
    values = [
        Bytes(data),
        ByteArray(data),
        standard.array("b", data and [1] * size),
        standard.array("d", [1.5] * size),
        standard.array("u", "x" * size),
        Array("i", [7] * size),
    ]
    with shmvar.attach(key, 1 << 28) as segment, shmvar.attach(key, readonly=True) as reader:
        for value in values:
            segment[1] = value
            for handle in (segment, reader):
                view = handle.view(1)
                assert type(view) is memoryview and view.readonly
                assert view.tobytes() == memoryview(value).tobytes() and view.format == memoryview(value).format
                own = handle[1]
                assert type(own) is type(value) and own == value
    with shmvar.attach(key, trust=False) as careful:
        for value in [data, bytearray(data), standard.array("d", [1.5] * size), memoryview(data)]:
            careful[1] = value
            view = careful.view(1)
            assert type(view) is memoryview and view.readonly and view.tobytes() == memoryview(value).tobytes()


def frozen(value):
    np.ndarray.setflags(value, write=False)
    return value


def read_only(size):
    return {
        "frombuffer": np.frombuffer(bytes(8 * size)),
        "flag": frozen(np.arange(size)),
        "fortran": frozen(np.asfortranarray(np.arange(2.0 * size).reshape(2, size))),
        "axes": frozen(np.arange(4.0 * size).reshape(2, size, 2).transpose(1, 0, 2)),
        "strides": frozen(np.arange(2 * size)[::2]),
        "dates": frozen(np.zeros(size, "M8[s]")),
        "bytes order": frozen(np.arange(size, dtype=">i4")),
        "broadcast": np.broadcast_to(np.arange(3), (size, 3)),
        "list": [frozen(np.arange(size)), np.zeros(size), b"bytes" * size, frozen(np.zeros(size))],
        "mixed": [{"a": frozen(np.arange(SMALL))}, frozen(np.arange(LARGE)), frozen(np.arange(300))],
        "zero": [frozen(np.zeros(0)), frozen(np.array(1.5))],
    }


@pytest.mark.parametrize("trust", [True, False])
@pytest.mark.parametrize("value", cases(read_only))
def test_what_was_read_only_when_it_was_stored_is_ones_own_and_writable(key, value, trust):
    with shmvar.attach(key, 1 << 28, trust=trust) as segment:
        segment[1] = value
        assert_read_only(segment.view(1))
        seen = []

        def note(found):
            seen.append(found)
            return found

        segment.modify(1, note)
        for found in (
            segment[1],
            segment.get(1),
            segment.get_many([1])[1],
            segment.get_versioned(1)[0],
            *segment.values(),
            *seen,
            segment.swap(1, value),
            segment.pop(1),
        ):
            alike(found, value)
            for one, other in zip(arrays_in(found), arrays_in(value), strict=True):
                assert one.flags.writeable
                if 0 not in other.strides and one.flags.forc:
                    assert one.strides == pickle.loads(pickle.dumps(other)).strides
                if one.size:
                    one.flat[0] = one.flat[-1]


@pytest.mark.parametrize("kind", [Sub, np.matrix, np.ma.MaskedArray])
@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_a_read_only_array_of_another_class_comes_back_writable(big, kind, size):
    big[1] = [frozen(np.arange(size).view(kind))]
    assert type(big[1][0]) is kind and big[1][0].flags.writeable


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_a_view_that_is_stored_again_is_a_value_as_any(big, size):
    for value in (np.arange(size), {"a": [np.arange(size)] * 2}):
        big[1] = value
        big[2] = big.view(1)
        big[3] = big.view(2)
        for index in (2, 3):
            alike(big[index], value)
            assert all(found.flags.writeable for found in arrays_in(big[index]))
            assert_read_only(big.view(index))
            alike(pickle.loads(_get_pickle(big, index)), value)


class Window:
    """Hands its memory to the pickler itself, unlike a numpy array."""

    def __init__(self, memory):
        self.memory = memory

    def __reduce_ex__(self, protocol):
        return Window, (pickle.PickleBuffer(self.memory),)


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_buffers_that_are_no_arrays_come_back_as_pickle_has_them(big, size):
    data = bytes(range(10)) * (size // 10)
    big[1] = [Window(data), frozen(np.arange(size)), Window(bytearray(data)), "_frombuffer", Window(data)]
    first, array, second, _, third = big[1]
    for found, writable in ((first, False), (second, True), (third, False)):
        window = memoryview(found.memory)
        assert window == data and window.readonly is not writable
    assert array.flags.writeable
    assert all(memoryview(found.memory).readonly for found in big.view(1)[::4])


def test_a_tuple_that_is_in_itself_is_no_array_though_it_begins_with_one(seg):
    for first in (np.zeros(3, "M8[s]"), np.arange(3), np.arange(LARGE), np.arange(6)[::2]):
        inner = []
        value = (first, inner)
        inner.append(value)
        seg["loop"] = value
        view = seg.view("loop")
        assert view[1][0] is view and not view[0].flags.writeable
        assert seg["loop"][0].flags.writeable
