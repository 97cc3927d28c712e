"""The memory of what is written in place is held while anything is over it, and freed with the last of it."""

import copy
import ctypes
import gc
import pickle
import struct

import numpy as np
import pytest
from helpers.arrays import MIB
from helpers.in_place import SIZE, freed, held

import shmvar

# --- who keeps it


def frame_of(array):
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame(array.reshape(-1, 4), copy=False)


def series_of(array):
    return pytest.importorskip("pandas").Series(array, copy=False)


def arrow_of(array):
    arrow = pytest.importorskip("pyarrow")
    return arrow.Array.from_buffers(arrow.float64(), len(array), [None, arrow.py_buffer(array)])


DERIVED = {
    "itself": lambda array: array,
    "slice": lambda array: array[5:9],
    "every second": lambda array: array[::2],
    "backwards": lambda array: array[::-1],
    "one item": lambda array: array[7:8].reshape(()),
    "no item": lambda array: array[:0],
    "other shape": lambda array: array.reshape(100, -1).T,
    "other dtype": lambda array: array.view("u1"),
    "slice of a slice": lambda array: array[10:][::3],
    "strides": lambda array: np.lib.stride_tricks.as_strided(array, (3,), (16,)),
    "windows": lambda array: np.lib.stride_tricks.sliding_window_view(array, 5),
    "real part": lambda array: array.view("c16").real,
    "iterator": lambda array: array.flat,
    "nditer": lambda array: np.nditer(array),
    "subclass": lambda array: array.view(Sub),
    "masked": lambda array: np.ma.array(array, copy=False),
    "dlpack": lambda array: np.from_dlpack(array),
    "interface": lambda array: np.asarray(Interface(array)),
    "base": lambda array: array.base if array.base is not None else array,
    "memoryview": lambda array: memoryview(array),
    "slice of a memoryview": lambda array: memoryview(array)[3:5],
    "cast": lambda array: memoryview(array).cast("B"),
    "array over a memoryview": lambda array: np.frombuffer(memoryview(array), "u1", 16, offset=800),
    "pickle buffer": lambda array: pickle.PickleBuffer(array),
    "ctypes": lambda array: (ctypes.c_double * len(array)).from_buffer(array),
    "ctypes pointer": lambda array: array.ctypes.data_as(ctypes.POINTER(ctypes.c_double)),
    "exported": lambda array: pickle_beside(array),
    "series": series_of,
    "frame": frame_of,
    "arrow": arrow_of,
}


class Sub(np.ndarray):
    pass


class Interface:
    def __init__(self, array):
        self.array, self.__array_interface__ = array, array.__array_interface__


def pickle_beside(array):
    """An array that is unpickled over the memory of the first one, out of band."""
    buffers = []
    data = pickle.dumps(array, 5, buffer_callback=buffers.append)
    return pickle.loads(data, buffers=buffers)


@pytest.mark.parametrize("name", DERIVED)
def test_whatever_is_over_it_keeps_it_and_the_last_frees_it(key, name):
    segment = shmvar.attach(key)
    made = segment.array("field", initial=np.arange(float(SIZE)))
    derived = DERIVED[name](made)
    address = made.ctypes.data
    del made
    gc.collect()
    segment.array("field")[7] = -7.0
    segment.remove("field")
    for turn in range(3):
        segment[turn] = b"\xff" * (8 * SIZE)
    segment.clear()
    segment.trim()
    assert held(segment) >= 8 * SIZE, "freed under it"
    like = np.arange(float(SIZE))
    like[7] = -7
    assert ctypes.string_at(address, 8 * SIZE) == like.tobytes(), "its memory was given to somebody else"
    ctypes.memset(address, 0x55, 8 * SIZE)
    segment.check()
    del derived
    freed(segment)
    segment.detach()


@pytest.mark.parametrize("name", ["itself", "slice", "cast", "array", "ctypes"])
def test_whatever_is_over_a_buffer_keeps_it_too(key, name):
    derive = {
        "itself": lambda raw: raw,
        "slice": lambda raw: raw[5:9],
        "cast": lambda raw: raw.cast("d"),
        "array": lambda raw: np.frombuffer(raw, "u1", 3),
        "ctypes": lambda raw: (ctypes.c_char * len(raw)).from_buffer(raw),
    }[name]
    with shmvar.attach(key) as segment:
        raw = segment.buffer("raw", 8 * SIZE)
        raw[5:9] = b"abcd"
        derived = derive(raw)
        del raw
        segment.remove("raw")
        segment[1] = b"\xff" * (8 * SIZE)
        segment.clear()
        assert held(segment) >= 8 * SIZE
        del derived
        freed(segment)


ENDS = ["remove", "replace", "another kind", "pop", "clear", "trim", "destroy", "detach", "forget"]


@pytest.mark.parametrize("kind", ["array", "buffer"])
@pytest.mark.parametrize("end", ENDS)
def test_it_stays_valid_and_writable_whatever_happens(key, end, kind):
    segment = shmvar.attach(key, 1 << 30)
    if kind == "array":
        made = [segment.array(index, SIZE, "f8", initial=index) for index in range(4)]
    else:
        made = [np.frombuffer(segment.buffer(index, 8 * SIZE), "f8") for index in range(4)]
        for index, field in enumerate(made):
            field[:] = index
    windows = [segment.view(index) for index in range(4)]
    other = shmvar.attach(key)
    if end == "remove":
        assert all(segment.remove(index) for index in range(4))
    elif end == "replace":
        for turn in range(10):
            segment.update({index: np.full(SIZE, 100.0 + turn) for index in range(4)})
    elif end == "another kind":
        for index in range(4):
            segment.remove(index)
            segment.buffer(index, 8 * SIZE)[:] = b"\xff" * (8 * SIZE)
    elif end == "pop":
        for index in range(4):
            segment.pop(index)
    elif end in ("clear", "trim"):
        segment.clear()
        if end == "trim":
            segment.trim()
    elif end == "destroy":
        segment.destroy()
        segment.clear()
    elif end == "detach":
        segment.detach()
        assert all((field == index).all() for index, field in enumerate(made))
        assert np.array_equal(other.array(3) if kind == "array" else np.frombuffer(other.buffer(3)), made[3])
        made[3][0] = 9
        assert np.frombuffer(memoryview(other[3]).cast("B"))[0] == 9
        made[3][0] = 3
        other.clear()
    else:
        del segment
        gc.collect()
        other.clear()
    other["large"] = b"\xff" * (16 * MIB)
    for index, (field, window) in enumerate(zip(made, windows, strict=True)):
        assert (field == index).all(), "its memory was given to somebody else"
        field += 1
        assert np.frombuffer(window)[0] == index + 1
    assert other["large"] == b"\xff" * (16 * MIB)
    assert held(other) >= 4 * 8 * SIZE
    del made, field
    assert held(other) >= 4 * 8 * SIZE, "the windows hold it, too"
    del windows, window
    other.clear()
    freed(other)
    other.detach()


def test_many_objects_over_one_hold_it_together(big):
    big.array(1, SIZE)
    objects = [big.array(1) for _ in range(3000)] + [big.view(1) for _ in range(3000)]
    objects[0][5] = 5
    assert all(each[5] == 5 for each in objects)
    big.remove(1)
    assert held(big) >= 8 * SIZE
    del objects[1:]
    assert held(big) >= 8 * SIZE and objects[0][5] == 5
    objects.clear()
    freed(big)


def test_it_is_let_go_of_with_the_last_object_and_not_later(big):
    gc.collect()
    gc.disable()
    try:
        field, raw = big.array(1, SIZE), big.buffer(2, SIZE)
        piece = field[3:5]
        big.clear()
        del field
        big[3] = 0
        assert big.info().held >= 9 * SIZE
        del piece
        big[3] = 0
        assert SIZE <= big.info().held < 2 * SIZE
        raw.release()
        big[3] = 0
        assert big.info().held == 0
    finally:
        gc.enable()


def test_an_array_that_is_dropped_while_its_variable_is_there_frees_nothing(seg):
    for turn in range(50):
        field = seg.array(1, SIZE)
        assert field[0] == turn and field[-1] == turn
        field += 1
        del field
    assert seg.info().held == 0 and seg.info().resident < 2 * 8 * SIZE + MIB
    assert (seg[1] == 50).all()


def test_what_was_removed_while_nobody_held_it_is_free_at_once(seg):
    for _ in range(200):
        seg.array(1, SIZE)
        seg.buffer(2, SIZE)
        assert seg.remove(1) and seg.pop(2) == bytes(SIZE)
    assert seg.info().resident < 4 * 8 * SIZE + MIB
    seg.trim()
    freed(seg)


# --- copies


def test_its_pickle_and_its_copies_are_of_their_own_memory(seg):
    field = seg.array(1, initial=np.arange(5.0))
    made = [pickle.loads(pickle.dumps(field, protocol)) for protocol in range(2, 6)]
    made += [copy.copy(field), copy.deepcopy(field), field.copy(), np.array(field)]
    field[0] = 9
    for each in made:
        assert type(each) is np.ndarray and each.tolist() == [0, 1, 2, 3, 4] and each.flags.writeable
        each[:] = -1
    assert field.tolist() == [9, 1, 2, 3, 4] == seg[1].tolist()
    with pytest.raises(TypeError):
        pickle.dumps(seg.buffer(2, 3))


def test_the_flags_of_one_object_are_not_those_of_another(seg):
    field, other = seg.array(1, 3), seg.array(1)
    field.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        field[0] = 1
    other[0] = 2
    assert field[0] == 2 and seg.array(1).flags.writeable
    with pytest.raises(ValueError):
        other.resize(10_000)
    raw = seg.buffer(2, 3)
    raw.release()
    assert seg.buffer(2) == bytes(3)


# --- consumers


def test_numpy_ctypes_struct_and_files_write_into_it(seg, tmp_path):
    field, raw = seg.array(1, (100, 4)), seg.buffer(2, 400)
    np.add.accumulate(np.ones((100, 4)), out=field)
    field[::2] *= 2
    np.copyto(field[1], 7)
    field.T.sort()
    (ctypes.c_double * 400).from_buffer(field)[399] = -1.0
    struct.pack_into("<4i", raw, 16, 1, 2, 3, 4)
    raw[100:104] = b"\1\2\3\4"
    raw.cast("I")[50] = 77
    (tmp_path / "file").write_bytes(b"x" * 50)
    with open(tmp_path / "file", "rb", buffering=0) as file:
        assert file.readinto(raw[300:350]) == 50
    with open(tmp_path / "out", "wb") as file:
        field.tofile(file)
        file.write(raw)
    assert (tmp_path / "out").read_bytes() == field.tobytes() + bytes(raw)
    assert np.array_equal(seg[1], field) and seg[1][99, 3] == -1 and seg[2] == raw
    assert struct.unpack_from("<4i", seg[2], 16) == (1, 2, 3, 4) and struct.unpack_from("I", seg[2], 200) == (77,)


def test_frames_over_it_see_what_is_written(seg):
    pandas = pytest.importorskip("pandas")
    field = seg.array(1, (50, 3))
    frame = pandas.DataFrame(field, columns=["a", "b", "c"], copy=False)
    field[:, 1] = 5
    assert frame["b"].sum() == 250 and frame.mean()["b"] == 5
    seg.remove(1)
    seg[2] = b"\xff" * 100_000
    field[0, 0] = 3
    assert frame.loc[0, "a"] == 3


def test_arrow_over_it_sees_what_is_written(seg):
    arrow = pytest.importorskip("pyarrow")
    field = seg.array(1, 1000)
    column = arrow_of(field)
    field[:] = 2
    assert column.sum().as_py() == 2000
    seg.remove(1)
    del field
    seg[2] = b"\xff" * 100_000
    assert column.sum().as_py() == 2000
    view = arrow.py_buffer(seg.buffer(3, 100))
    assert view.is_mutable and view.size == 100


def test_whole_array_arithmetic_is_on_the_memory_itself(seg):
    field, other = seg.array(1, SIZE), seg.array(2, SIZE, "i4")
    field += np.arange(SIZE)
    np.multiply(field, 2, out=field)
    other[...] = field
    field -= other
    assert not field.any() and (seg[2] == np.arange(SIZE) * 2).all()
    assert seg.array(1).ctypes.data == field.ctypes.data
