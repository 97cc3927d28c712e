"""Large values without a copy: real numpy arrays, views and copy-on-write values, whatever happens to the variable."""

import array as standard
import contextlib
import gc
import mmap
import os
import pickle

import helpers
import numpy as np
import pytest
from helpers.arrays import MIB, array

import shmvar

ARRAYS = [
    np.arange(100_000.0),
    np.arange(120_000.0).reshape(300, 400),
    np.arange(120_000.0).reshape(300, 400).T,
    np.asfortranarray(np.arange(120_000.0).reshape(300, 400)),
    np.arange(200_000, dtype=">i4"),
    np.zeros(30_000, dtype=[("x", "f8"), ("y", "i2")]),
    np.array(["text"] * 20_000),
    np.array(3.5),
    np.zeros(0),
    np.zeros((0, 5)),
    np.arange(100_000.0)[::2],
    np.ones(50_000, dtype=bool),
    np.arange(10_000).astype("datetime64[s]"),
    np.array([1, "x", None], dtype=object),
]


@pytest.mark.parametrize("value", ARRAYS, ids=lambda a: f"{a.dtype}{a.shape}")
@pytest.mark.parametrize("index", [1, "text", "t" * 1024])
def test_f48_arrays_of_every_layout_come_back_writable_and_are_viewed_read_only(big, value, index):
    big[index] = value
    got, view = big[index], big.view(index)
    for found in (got, view):
        assert type(found) is np.ndarray and found.dtype == value.dtype and found.shape == value.shape
        assert np.array_equal(found, value)
    assert got.flags.writeable and got.flags.aligned and not view.flags.writeable
    if value.size and value.dtype != object:
        got.flat[0] = got.flat[-1]
        assert np.array_equal(big[index], value), "a change of a value that was read is seen by others"
    if (
        value.nbytes > 10_000
        and value.dtype.kind not in "MO"
        and (value.flags.c_contiguous or value.flags.f_contiguous)
    ):
        assert view.ctypes.data % 64 == 0
    big.check()


@pytest.mark.parametrize("size", [0, 10, 9_000, 20_000, 3 * MIB])
def test_bytes_come_back_as_bytes_and_are_viewed_as_a_memoryview(big, size):
    for value in (os.urandom(size), bytearray(os.urandom(size))):
        big[1] = value
        got, view = big[1], big.view(1)
        assert type(got) is type(value) and got == value
        assert type(view) is memoryview and view.readonly and view == value
        with pytest.raises(TypeError):
            view[:1] = b"x"[: len(view)]
    window = memoryview(os.urandom(size))
    big[2] = window
    assert type(big[2]) is memoryview and big[2] == window and not big[2].readonly
    assert big.view(2) == window and big.view(2).readonly


@pytest.mark.parametrize("code", "bBhHiIlLqQfd")
def test_arrays_of_the_standard_library_are_stored_beside_their_pickle(big, code):
    value = standard.array(code, range(100)) * 1000
    big[1] = value
    assert type(big[1]) is standard.array and big[1] == value and big[1].typecode == code
    view = big.view(1)
    assert type(view) is memoryview and view.readonly and view.format == code and view.tolist() == value.tolist()
    assert big.stat(1).type == "array.array"
    big[2] = standard.array(code, [1, 2])
    assert big[2] == standard.array(code, [1, 2])


def test_a_memory_map_is_stored_as_its_bytes(big, tmp_path):
    (tmp_path / "file").write_bytes(os.urandom(MIB))
    with open(tmp_path / "file", "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        big[1] = mapped
        assert big[1] == mapped[:] and big.view(1) == mapped[:]


def test_frames_keep_their_values_and_stay_valid(big):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {
            "a": np.arange(50_000.0),
            "b": np.arange(50_000.0) * 2,
            "n": np.arange(50_000),
            "when": pandas.date_range("2026-01-01", periods=50_000, freq="s"),
            "kind": pandas.Categorical(["x", "y"] * 25_000),
            "text": ["some text"] * 50_000,
        }
    )
    big["frame"] = frame
    got, view = big["frame"], big.view("frame")
    pandas.testing.assert_frame_equal(got, frame)
    pandas.testing.assert_frame_equal(view, frame)
    got.iloc[0, 0] = -1.0
    assert big["frame"].iloc[0, 0] == 0 and view["a"].sum() == frame["a"].sum()
    with pytest.raises(ValueError, match="read-only"):
        view["a"].to_numpy()[0] = 1
    big["frame"] = 0
    for _ in range(5):
        big["other"] = b"\xff" * (8 * MIB)
    pandas.testing.assert_frame_equal(view, frame)
    assert view.groupby("kind", observed=True)["a"].sum().loc["x"] == frame["a"][::2].sum()


def test_containers_keep_shared_identity(big):
    one = array(1)
    big[1] = {"a": one, "b": [one, one], "c": b"k" * 100_000, "d": array(2, 100)}
    for found in (big[1], big.view(1)):
        assert found["b"][0] is found["b"][1] is found["a"]
        assert np.array_equal(found["a"], one) and found["c"] == b"k" * 100_000
        assert np.array_equal(found["d"], array(2, 100))
    assert big[1]["a"].flags.writeable and not big.view(1)["a"].flags.writeable


@pytest.mark.parametrize("end", ["overwrite", "remove", "clear", "trim", "destroy", "detach", "forget"])
def test_a_view_and_a_copy_stay_valid_and_unchanged_whatever_happens(key, end):
    segment = shmvar.attach(key, 1 << 30)
    values = [array(seed) for seed in range(4)]
    for index, value in enumerate(values):
        segment[index] = value
    views = [segment.view(index) for index in range(4)]
    copies = [segment[index] for index in range(4)]
    other = shmvar.attach(key) if end in ("detach", "forget") else segment
    if end == "overwrite":
        for round_ in range(20):
            for index in range(4):
                segment[index] = array(100 + round_)
    elif end == "remove":
        for index in range(4):
            assert segment.remove(index)
        segment[9] = b"\xff" * (16 * MIB)
    elif end == "clear":
        segment.clear()
        segment[9] = b"\xff" * (16 * MIB)
    elif end == "trim":
        segment.clear()
        segment.trim()
    elif end == "destroy":
        segment.destroy()
        segment.clear()
        segment[9] = b"\xff" * (16 * MIB)
    else:
        if end == "detach":
            segment.detach()
        else:
            del segment
            gc.collect()
        other.clear()
        other[9] = b"\xff" * (16 * MIB)
    for value, view, copy in zip(values, views, copies, strict=True):
        assert np.array_equal(value, view) and np.array_equal(value, copy)
        copy[:] = 0
        assert np.array_equal(value, view)
    assert other.info().held >= 4 * MIB
    del views, copies, view, copy
    gc.collect()
    other.clear()
    other.trim()
    assert other.info().held == 0 and other.info().used == 0
    other.check()
    assert other.info().resident < MIB
    other.detach()


def test_c10_a_hundred_thousand_views_at_once(big):
    big[1] = array(1)
    views = [big.view(1) for _ in range(100_000)]
    assert views[0][0] == views[-1][0]
    assert big.info().held == 0
    big[1] = 0
    assert big.info().held >= MIB
    del views
    gc.collect()
    big[2] = 0
    assert big.info().held == 0


def test_f39_an_hour_of_random_sizes_leaves_the_capacity_as_it_was(key):
    segment = shmvar.attach(key, 64 * MIB)
    most = segment.info().largest_put
    chance = np.random.default_rng(39)
    for _ in range(4_000):
        index = int(chance.integers(40))
        size = int(np.exp(chance.uniform(0, np.log(8 * MIB))))
        if chance.random() < 0.3:
            segment.remove(index)
            continue
        fits = size + 200 < segment.info().free
        try:
            segment[index] = bytes(size)
        except shmvar.SegmentFullError:
            assert not fits, "a value within the limit did not fit"
    segment.check()
    segment.clear()
    assert segment.info().largest_put == most and segment.info().used == 0
    segment[0] = bytes(most)
    with pytest.raises(shmvar.SegmentFullError):
        segment[1] = 1
    segment.check()


def test_freed_memory_is_kept_warm_within_bounds(key):
    segment = shmvar.attach(key, 2 << 30)
    for _ in range(6):
        segment[1] = bytes(300 * MIB)
    segment.remove(1)
    assert segment.info().resident < 400 * MIB
    segment.trim()
    # The metadata of zones that are no longer in use is given back, too.
    assert segment.info().resident < MIB // 4


def test_f51_a_reduce_that_stores_into_the_same_segment_keeps_its_own_buffers(big):
    class Nested:
        def __init__(self, value):
            self.value = value

        def __reduce__(self):
            big["inner"] = self.value * 2
            return list, ((self.value,),)

    outer = [array(1), Nested(array(2)), array(3)]
    big["outer"] = outer
    found = big["outer"]
    assert np.array_equal(found[0], array(1)) and np.array_equal(found[1][0], array(2))
    assert np.array_equal(found[2], array(3)) and np.array_equal(big["inner"], array(2) * 2)


def test_untrusted_and_read_only_handles_get_copies(key):
    segment = shmvar.attach(key, 1 << 30)
    segment[1], segment[2] = array(1), b"x" * MIB
    with shmvar.attach(key, readonly=True) as reader:
        view, data = reader.view(1), reader.view(2)
        assert np.array_equal(view, array(1)) and not view.flags.writeable and data == b"x" * MIB
    with shmvar.attach(key, trust=False) as careful:
        assert careful.view(2) == b"x" * MIB == careful[2]
        copy, own = careful.view(1), careful[1]
        assert np.array_equal(copy, array(1)) and not copy.flags.writeable
        assert np.array_equal(own, array(1)) and own.flags.writeable
    segment[1] = segment[2] = 0
    assert segment.info().held == 0
    assert np.array_equal(view, array(1)) and data == b"x" * MIB


def test_stat_names_the_type_of_a_value_with_its_buffers_beside_it(big):
    for value, name in [
        (array(1), "numpy.ndarray"),
        ([array(1), b"y" * MIB], "list"),
        (bytearray(50_000), "bytearray"),
    ]:
        big[1] = value
        assert big.stat(1).type == name and big.stat(1).size > 50_000


@pytest.mark.parametrize("value", [b"x" * 50_000, [np.ones(20_000), np.ones(20_000)]], ids=["bytes", "arrays"])
def test_f28_a_damaged_table_of_buffers_is_data_or_a_typed_error(key, value):
    segment = shmvar.attach(key, 1 << 30)
    segment[1], segment[2] = value, "intact"
    with helpers.Raw(segment) as raw, shmvar.attach(key, readonly=True) as reader:
        record, _ = raw.record(1)
        sound = raw.read(record, 64)
        words = [0, 1, 2, 63, 64, 2**31, 2**40, 2**60 - 1, 2**63, 2**64 - 1, 2**64 - 64]
        for place in range(0, 48, 8):
            for word in words:
                raw.pack("<Q", record + place, word)
                for call in (segment.get, segment.view, reader.get, segment.stat):
                    # numpy decides whether a buffer of another length suits an array: ValueError.
                    with contextlib.suppress(ValueError, EOFError, pickle.UnpicklingError, MemoryError):
                        call(1)
                assert segment[2] == "intact"
            raw.write(record, sound)
    gc.collect()
    assert segment[2] == "intact" and np.array_equal(segment[1], value)
    segment.check()
