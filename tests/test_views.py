"""Large values without a copy: real numpy arrays, views and copy-on-write values, whatever happens to the variable."""

import array as standard
import contextlib
import ctypes
import gc
import mmap
import os
import pickle
import subprocess
import sys
import threading

import helpers
import numpy as np
import pytest

import shmvar

MIB = 1 << 20


def array(seed: int, size: int = MIB // 8) -> np.ndarray:
    return np.random.default_rng(seed).random(size)


@pytest.fixture
def big(key):
    segment = shmvar.attach(key, 2 << 30)
    yield segment
    gc.collect()
    segment.detach()


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
    big._check()


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
    held = other.info().held
    assert held >= 4 * MIB if end != "forget" or held else True
    del views, copies, view, copy
    gc.collect()
    other.clear()
    other.trim()
    assert other.info().held == 0 and other.info().used == 0
    other._check()
    assert other.info().resident < MIB
    other.detach()


@pytest.mark.parametrize("how", ["os.fork", "_Fork"])
def test_c11_a_forked_child_keeps_its_views_when_the_parent_drops_its_own(key, how):
    segment = shmvar.attach(key, 1 << 30)
    value = array(7)
    segment[1] = value
    view, copy = segment.view(1), segment[1]
    go_r, go_w = os.pipe()
    pid = os.fork() if how == "os.fork" else ctypes.CDLL(None)._Fork()
    if pid == 0:
        status = 1
        try:
            os.read(go_r, 1)
            same = how == "_Fork" or (np.array_equal(value, view) and np.array_equal(value, copy))
            segment[2] = array(8)
            same = same and np.array_equal(segment.view(2), array(8)) and len(segment) == 3
            del view, copy
            gc.collect()
            status = 0 if same else 2
        finally:
            os._exit(status)
    del view, copy
    gc.collect()
    for round_ in range(30):
        segment[1] = array(100 + round_)
    segment[3] = 3
    os.write(go_w, b"x")
    assert os.waitpid(pid, 0)[1] == 0
    segment.clear()
    segment.trim()
    assert segment.info().held == 0 and segment.info().attached == 1
    segment._check()


def test_c11_threads_that_pin_while_another_forks(big):
    big[1] = array(1, 40_000)
    kept = [big.view(1)]
    stop = threading.Event()

    def read():
        while not stop.is_set():
            assert big.view(1)[0] == kept[0][0] == big[1][0]

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(40):
        pid = os.fork()
        if pid == 0:
            os._exit(0 if np.array_equal(kept[0], big[1]) and np.array_equal(big.view(1), kept[0]) else 1)
        assert os.waitpid(pid, 0)[1] == 0
    stop.set()
    for thread in threads:
        thread.join()
    kept.clear()
    gc.collect()
    big.clear()
    big.trim()
    assert big.info().held == 0
    big._check()


def test_f2_a_process_killed_with_views_open_leaves_no_span_behind(key):
    segment = shmvar.attach(key, 1 << 30)
    for index in range(8):
        segment[index] = array(index)
    code = "import sys, shmvar, time; s = shmvar.attach(sys.argv[1]); v = [s.view(i) for i in range(8)]; c = s[0]; "
    child = subprocess.Popen(
        [sys.executable, "-c", code + "print('ready', flush=True); time.sleep(60)", key], stdout=subprocess.PIPE
    )
    child.stdout.readline()
    segment.clear()
    assert segment.info().held >= 8 * MIB
    child.kill()
    child.wait()
    child.stdout.close()
    segment.trim()
    assert segment.info().held == 0 and segment.info().resident < MIB
    segment._check()


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


def test_where_the_system_runs_out_of_maps_get_copies(key):
    code = """
import sys, numpy, shmvar
segment = shmvar.attach(sys.argv[1], 1 << 30)
segment[1] = numpy.arange(20_000.0)
kept = [segment[1] for _ in range(66_000)]
assert all(a[-1] == 19_999 for a in kept[::1000]) and kept[-1].flags.writeable
kept[-1][0] = 5
assert segment[1][0] == 0
"""
    subprocess.run([sys.executable, "-c", code, key], check=True, timeout=100)


def test_f54_no_mixed_value_is_ever_seen_of_two_alternating_arrays(key):
    segment = shmvar.attach(key, 1 << 30)
    values = [np.full(8 * MIB, fill, dtype="f8") for fill in (1.0, 2.0)]
    segment[1] = values[0]
    code = """
import sys, shmvar, numpy
segment = shmvar.attach(sys.argv[1], create=False)
values = [numpy.full(8 << 20, fill, dtype="f8") for fill in (1.0, 2.0)]
print("ready", flush=True)
for round_ in range(200):
    segment[1] = values[round_ % 2]
"""
    child = subprocess.Popen([sys.executable, "-c", code, key], stdout=subprocess.PIPE)
    child.stdout.readline()
    seen = 0
    while child.poll() is None:
        for found in (segment.view(1), segment[1]):
            assert found[0] in (1.0, 2.0) and (found == found[0]).all(), "a mixed value"
            seen += 1
    child.stdout.close()
    assert child.returncode == 0 and seen > 5
    with shmvar.attach(key, readonly=True) as reader:
        assert (reader[1] == reader[1][0]).all()
    segment._check()


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
    segment._check()
    segment.clear()
    assert segment.info().largest_put == most and segment.info().used == 0
    segment[0] = bytes(most)
    with pytest.raises(shmvar.SegmentFullError):
        segment[1] = 1
    segment._check()


def test_freed_memory_is_kept_warm_within_bounds(key):
    segment = shmvar.attach(key, 2 << 30)
    for _ in range(6):
        segment[1] = bytes(300 * MIB)
    segment.remove(1)
    assert segment.info().resident < 400 * MIB
    segment.trim()
    # The metadata of the zones that were in use stays: a thousandth.
    assert segment.info().resident < 3 * MIB


def test_a_value_that_is_being_filled_by_a_stopped_process_blocks_nobody(key):
    segment = shmvar.attach(key, 2 << 30)
    code = "import sys, shmvar; s = shmvar.attach(sys.argv[1]); print('ready', flush=True)\n"
    code += "while True: s[1] = bytes(64 << 20)"
    child = subprocess.Popen([sys.executable, "-c", code, key], stdout=subprocess.PIPE)
    try:
        child.stdout.readline()
        for round_ in range(20):
            os.kill(child.pid, 19)
            try:
                segment[2] = array(round_)
                assert np.array_equal(segment.view(2), array(round_))
            except shmvar.SegmentBusyError:
                pass  # stopped in the instant in which it held the writer lock
            finally:
                os.kill(child.pid, 18)
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    segment.clear()
    segment.trim()
    segment._check()
    assert segment.info().resident < MIB


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
        with pytest.raises(shmvar.UntrustedValueError, match="numpy"):
            careful.view(1)
    segment[1] = segment[2] = 0
    assert segment.info().held == 0
    assert np.array_equal(view, array(1)) and data == b"x" * MIB


def test_any_pickle_reader_can_read_what_is_beside(big):
    values = [array(1), [array(1), b"y" * MIB], bytearray(50_000)]
    for value in values:
        stored = pickle.dumps(value, 5)
        big[1] = value
        assert type(pickle.loads(stored)) is type(big[1])
        assert big.stat(1).type == {list: "list", bytearray: "bytearray"}.get(type(value), "numpy.ndarray")


def test_c11_children_that_end_without_a_word_use_nothing_up(key):
    segment = shmvar.attach(key, 64 * MIB)
    for round_ in range(1_100):
        if round_ % 50 == 0:
            value = np.full(MIB, round_, dtype="f8")
            segment[1] = value
            view = segment.view(1)
        pid = os.fork()
        if pid == 0:
            os._exit(0 if view[0] == view[-1] == round_ // 50 * 50 else 1)
        assert os.waitpid(pid, 0)[1] == 0, round_
    held = segment.info().held
    assert held <= 80 * MIB, "the dead hold what they saw"
    del view
    gc.collect()
    segment.clear()
    segment.trim()
    assert segment.info().held == 0 and segment.info().attached == 1
    segment._check()


def test_f60_a_reader_that_cannot_hold_a_value_still_can_be_interrupted(key):
    segment = shmvar.attach(key, 2 << 30)
    segment[1] = bytes(64 * MIB)
    code = """
import signal, sys, time, shmvar
reader = shmvar.attach(sys.argv[1], readonly=True)
def stop(*_):
    raise InterruptedError
signal.signal(signal.SIGALRM, stop)
signal.setitimer(signal.ITIMER_REAL, 1.0)
began = time.monotonic()
try:
    while True:
        reader[1]
except InterruptedError:
    print(time.monotonic() - began < 4)
"""
    child = subprocess.Popen([sys.executable, "-c", code, key], stdout=subprocess.PIPE, text=True)
    value = bytes(64 * MIB)
    while child.poll() is None:
        segment[1] = value
    assert child.communicate()[0] == "True\n"


def test_a_value_that_memory_cannot_hold_is_a_memory_error(key):
    code = """
import resource, sys, shmvar
segment = shmvar.attach(sys.argv[1], 2 << 30, trust=False)
segment[1] = bytearray(512 << 20)
used = int(open("/proc/self/statm").read().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (used + (300 << 20),) * 2)
try:
    segment[1]
except MemoryError:
    print("refused")
"""
    done = subprocess.run([sys.executable, "-c", code, key], capture_output=True, text=True, timeout=60)
    assert done.stdout == "refused\n", done.stderr


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
                    # Whether a buffer of another length suits an array is numpy's to say: ValueError.
                    with contextlib.suppress(ValueError, EOFError, pickle.UnpicklingError, MemoryError):
                        call(1)
                assert segment[2] == "intact"
            raw.write(record, sound)
    gc.collect()
    assert segment[2] == "intact" and np.array_equal(segment[1], value)
    segment._check()
