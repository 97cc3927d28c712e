"""The memory of what is written in place: held while anything is over it, freed with the last of it, never moved."""

import copy
import ctypes
import gc
import os
import pickle
import struct
import threading

import helpers
import numpy as np
import pytest
from helpers.arrays import MIB
from helpers.in_place import freed, held

import shmvar

SIZE = 100_000
"""Items of 8 bytes."""


def taken(segment):
    """The bytes of the memory file system that the object takes."""
    return os.stat(helpers.path_of(segment)).st_blocks * 512


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


def test_it_outlives_every_handle_and_the_segment(key):
    segment = shmvar.attach(key)
    field, raw = segment.array(1, SIZE), segment.buffer(2, SIZE)
    segment.destroy()
    segment.detach()
    del segment
    gc.collect()
    with shmvar.attach(key) as anew:
        assert anew.created and len(anew) == 0
        other = anew.array(1, SIZE)
        other[:] = 1
        field[:], raw[:] = 2, b"x" * SIZE
        assert (other == 1).all() and (field == 2).all() and raw == b"x" * SIZE
    maps = helpers.count_mappings()
    del field, raw, other
    gc.collect()
    assert helpers.count_mappings() <= maps


def test_with_the_last_of_it_the_maps_and_descriptors_of_a_detached_segment_are_gone(key):
    def use(number):
        with shmvar.attach(key) as segment:
            field = segment.array(number, SIZE)
            raw = segment.buffer(-1 - number, 100)
        field[:], raw[0] = number, 1
        return float(field[-1])

    use(0)
    descriptors, maps = helpers.count_descriptors(), helpers.count_mappings()
    for number in range(20):
        assert use(number) == number
    gc.collect()
    assert helpers.count_descriptors() <= descriptors and helpers.count_mappings() <= maps + 2


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


def test_info_counts_what_is_held_spare_and_used(seg):
    field = seg.array(1, MIB)
    info = seg.info()
    assert info.used >= 8 * MIB and info.held == 0 and info.resident >= 8 * MIB <= taken(seg)
    seg.remove(1)
    info = seg.info()
    assert info.used == 0 and 8 * MIB <= info.held < 9 * MIB and info.resident >= 8 * MIB
    seg.trim()
    assert seg.info().held >= 8 * MIB and taken(seg) >= 8 * MIB
    del field
    seg["a change"] = 0
    info = seg.info()
    assert info.held == 0 and (info.spare >= 7 * MIB or info.resident < MIB)
    seg.trim()
    assert seg.info().spare <= MIB // 4 and taken(seg) < MIB


# --- trim and moving


def test_trim_and_what_moves_others_never_moves_it(key):
    with shmvar.attach(key, 1 << 30) as segment:
        fields, unheld = {}, {}
        for number in range(60):
            segment[f"large {number}"] = bytes([number]) * (300_000 + 7000 * number)
            segment[f"small {number}"] = bytes([number]) * 300
            if number % 6 == 0:
                fields[number] = segment.array(number, SIZE, initial=number)
            if number % 6 == 3:
                segment.array(number, SIZE, initial=number)
                unheld[number] = bytes([number]) * 100
                segment.buffer(f"raw {number}", 100)[:] = unheld[number]
        addresses = {number: field.ctypes.data for number, field in fields.items()}
        for turn in range(3):
            for number in range(turn, 60, 4):
                segment.remove(f"large {number}")
                segment.remove(f"small {number}")
            segment.trim()
            for number, field in fields.items():
                assert (field == number).all()
                field[turn] = -1.0
                again = segment.array(number)
                assert again[turn] == -1 and again.ctypes.data == addresses[number]
                again[turn] = number
                assert field[turn] == number
            for number, value in unheld.items():
                assert (segment.array(number) == number).all() and segment.buffer(f"raw {number}") == value
            segment.check()
        rest = [number for number in range(60) if number % 4 == 3]
        assert all(segment[f"large {n}"] == bytes([n]) * (300_000 + 7000 * n) for n in rest)
        assert all(segment[f"small {n}"] == bytes([n]) * 300 for n in rest)


def test_trim_gives_back_what_is_free_around_it(key):
    with shmvar.attach(key, 1 << 30) as segment:
        segment["large"] = bytes(64 * MIB)
        field = segment.array("field", SIZE)
        segment["more"] = bytes(64 * MIB)
        del segment["large"], segment["more"]
        segment.trim()
        assert taken(segment) < 3 * 8 * SIZE
        field[:] = 1
        assert (segment["field"] == 1).all()
        segment.check()


def test_writers_trims_and_other_values_at_the_same_time(key):
    with shmvar.attach(key, 1 << 30) as segment:
        fields = [segment.array(number, 20_000) for number in range(3)]
        stop = []

        def write(number):
            turn = 0
            while not stop:
                turn += 1
                fields[number][:] = turn
                assert (fields[number] == turn).all() and segment.array(number)[turn % 20_000] == turn

        def others():
            for turn in range(40):
                for number in range(10, 30):
                    if (turn + number) % 3:
                        segment[number] = bytes([turn]) * (number * 9000)
                    else:
                        segment.remove(number)
                segment.trim()
                for number in range(10, 30):
                    value = segment.get(number, b"")
                    assert value == value[:1] * len(value)
            stop.append(1)

        def work(number):
            try:
                (write if number < 3 else lambda _: others())(number)
            finally:
                stop.append(1)

        helpers.in_threads(work, 4)
        segment.check()


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


# --- ends of programs and of handles

ENDING = """
import gc, threading
import numpy as np
segment = shmvar.attach(key, create=False)
field, raw = segment.array("field", 50_000), segment.buffer("raw", 50_000)
piece, window, seen = field[5:], memoryview(field)[3:], segment.view("field")

class Holder:
    def __init__(self, array):
        self.array, self.itself = array, self
    def __del__(self):
        self.array[0] += 1

holder = Holder(segment.array("field"))
sys.kept = Holder(segment.array("field"))

def work(segment):
    while True:
        segment.array("field")[1] += 1
        segment.buffer(f"new {threading.get_ident()}", 1000)
        segment.remove(f"new {threading.get_ident()}")

for _ in range(2):
    threading.Thread(target=work, args=(segment,), daemon=True).start()
if sys.argv[2] == "replaced":
    raw = segment.array("raw", 3) if segment.remove("raw") else None
if sys.argv[2] == "detached":
    with shmvar.attach(key) as other:
        raw = other.array("raw", 3) if other.remove("raw") else None
if sys.argv[2] == "error":
    raise SystemExit(field[5:8].tolist() == [0, 0, 0] and 7)
time.sleep(0.05)
"""


@pytest.mark.parametrize("how", ["alive", "replaced", "detached", "error"])
def test_a_program_that_ends_with_arrays_prints_nothing_and_leaves_nothing(seg, key, how):
    done = helpers.run(ENDING, key, how, check=False)
    assert (done.returncode, done.stdout) == (7 if how == "error" else 0, ""), done
    assert not done.stderr
    freed(seg)


def test_handles_that_are_detached_while_others_open_arrays_through_them(key):
    with shmvar.attach(key) as segment:
        segment.array("field", 20_000, "i8", initial=7)
        handles, stop = [shmvar.attach(key)], []

        def work(number):
            try:
                turn = 0
                for _ in helpers.looks(seconds=1, turns=100):
                    if stop:
                        break
                    turn += 1
                    if number == 0:
                        handles.append(shmvar.attach(key))
                        handles.pop(0).detach()
                        continue
                    try:
                        found = handles[0].array("field")
                        handles[0].buffer(f"of {number}", 10)[0] = turn % 256
                        handles[0].touch("field")
                        handles[0].remove(f"of {number}")
                    except shmvar.DetachedError:
                        continue
                    assert found[0] == found[-1] == 7 and found.shape == (20_000,)
            finally:
                stop.append(number)

        helpers.in_threads(work, 4)
        for handle in handles:
            handle.detach()
        freed(segment)


# --- threads of one process


@pytest.mark.parametrize("given", ["zeros", "initial"])
def test_threads_that_race_to_make_one_have_one_memory(key, given):
    count, rounds = 8, 40
    meet = threading.Barrier(count)
    winners = [set() for _ in range(rounds)]
    with shmvar.attach(key) as segment:

        def work(number):
            try:
                with shmvar.attach(key) as own:
                    handle = own if number % 2 else segment
                    for turn in range(rounds):
                        meet.wait(300)
                        if given == "zeros":
                            field = handle.array(turn, 5000, "i8")
                        else:
                            field = handle.array(turn, initial=np.full(5000, number + 1))
                        first = int(field[0])
                        assert (field[: 5000 - count] == first).all(), "half made"
                        field[5000 - 1 - number] = -1 - number
                        winners[turn].add(first)
                        meet.wait(300)
                        assert field[: -count - 1 : -1].tolist() == [-1 - n for n in range(count)]
            except BaseException:
                meet.abort()
                raise

        helpers.in_threads(work, count)
        assert all(len(each) == 1 for each in winners) and len(segment) == rounds
        assert held(segment) == 0
        segment.clear()
        freed(segment)


def test_threads_make_remove_replace_and_write_at_the_same_time(key):
    with shmvar.attach(key) as segment:
        stop = []

        def work(number):
            turn = 0
            try:
                while not stop:
                    turn += 1
                    try:
                        field = segment.array(turn % 3, initial=np.full(3000, 5))
                    except ValueError as error:
                        assert not isinstance(error, shmvar.Error), error  # a plain variable is there
                    else:
                        assert (field >= 5).all() and field.shape == (3000,)
                        field[number] += 1
                    if number == 0:
                        segment.remove(turn % 3)
                    elif number == 1:
                        segment[turn % 3] = b"\xff" * 30_000
                    elif number == 2 and turn % 5 == 0:
                        segment.clear()
                    if number == 0 and turn >= 500:
                        break
            finally:
                stop.append(1)

        helpers.in_threads(work, 4)
        segment.clear()
        freed(segment)
