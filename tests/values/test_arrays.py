"""Arrays that numpy would copy into the pickle are stored beside it, can be viewed, and come back equal."""

import gc
import pickle
import pickletools
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from helpers.array_kinds import BASE, KINDS, STRUCT, Finalized, Plain, assert_alike, assert_sealed
from helpers.arrays import MIB

import shmvar


def private_mib():
    with open("/proc/self/smaps_rollup") as lines:
        return sum(int(line.split()[1]) for line in lines if line.startswith(("Private", "Anonymous"))) / 1024


@pytest.mark.parametrize("count", [4096, 8192, 32_766, 40_000])
@pytest.mark.parametrize("part", [np.s_[::2], np.s_[::-1], np.s_[1:-1:3]])
def test_the_mask_of_a_view_is_read_only_however_short_it_is(big, count, part):
    """The data is in the segment, the mask in the pickle; and both with steps."""
    big[1] = value = np.ma.masked_array(np.arange(float(count)), np.arange(count) % 3 == 0)[part]
    for reader in (big, shmvar.attach(big.key, readonly=True), shmvar.attach(big.key, trust=False)):
        view = reader.view(1)
        assert_alike(view, value)
        with pytest.raises(ValueError, match="read-only"):
            view._mask[1] = True
        if reader.trusted:
            assert_sealed(view)
        assert_alike(reader[1], value)


@pytest.mark.parametrize("name", KINDS)
def test_f48_an_array_of_any_kind_is_viewed_in_the_segment_and_equal(big, name):
    value = KINDS[name]()
    before = value.tobytes(), value.flags.writeable
    big[1] = value
    assert (value.tobytes(), value.flags.writeable) == before
    assert big.stat(1).viewable and big.stat(1).type == name_of(value)
    gc.collect()
    before = private_mib()
    view = big.view(1)
    assert private_mib() - before < value.nbytes / MIB / 4
    assert_alike(view, value)
    assert_sealed(view)
    got = big[1]
    assert_alike(got, value)
    assert got.flags.writeable and got.flags.aligned
    normal = pickle.loads(pickle.dumps(value, 5))
    assert type(got) is type(normal) and got.flags.fnc == normal.flags.fnc
    assert got.flags.c_contiguous == normal.flags.c_contiguous
    if not isinstance(value, np.ma.MaskedArray):  # numpy keeps things of its own in `__dict__`
        assert getattr(got, "__dict__", None) == getattr(normal, "__dict__", None) == getattr(view, "__dict__", None)
    got[...] = got[..., ::-1] if got.ndim else got
    assert_alike(big[1], value)
    del view, got
    big.check()


@pytest.mark.parametrize("name", KINDS)
def test_a_put_takes_a_contiguous_copy_at_most_beside_the_value(big, name):
    """The peak of what Python and numpy allocate, in bytes."""
    value = KINDS[name]()
    big[1] = value
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        big[1] = value
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    whole = value.nbytes + np.ma.getmask(value).nbytes
    assert peak < (0 if value.flags.forc else whole) + 100_000


def name_of(value):
    class_ = type(value)
    return f"{class_.__module__}.{class_.__qualname__}"


@pytest.mark.parametrize("name", KINDS)
def test_what_is_stored_is_a_pickle_that_needs_numpy_alone(big, name):
    big[1] = value = KINDS[name]()
    data = shmvar._core._get_pickle(big, 1)
    names = {str(argument) for _, argument, _ in pickletools.genops(data) if isinstance(argument, str)}
    assert not any("shmvar" in each for each in names)
    code = "import sys, pickle; assert 'shmvar' not in sys.modules; v = pickle.load(sys.stdin.buffer)"
    if isinstance(value, (Plain, Finalized)) or "subclass" in name:
        assert_alike(pickle.loads(data), value)
        return
    code += "; print(type(v).__name__, v.dtype.str, v.shape, 'shmvar' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, timeout=60)
    value = KINDS[name]()
    assert run.stdout.decode().split() == f"{type(value).__name__} {value.dtype.str} {value.shape} False".split(), run


def test_a_memory_map_and_slices_of_it_are_memory_maps_without_a_file(big, tmp_path):
    np.save(tmp_path / "file.npy", BASE)
    for mode in ("r", "c", "r+"):
        mapped = np.load(tmp_path / "file.npy", mmap_mode=mode)
        for value in (mapped, mapped[:], mapped[1:-1], mapped[::2], mapped.reshape(512, -1).T):
            big[1] = value
            assert big.stat(1).viewable and big.stat(1).type == "numpy.memmap"
            view, got = big.view(1), big[1]
            for found in (view, got):
                assert_alike(found, value)
                assert found.filename is None and found._mmap is None
                found.flush()
            assert_sealed(view)
            assert got.flags.writeable
    assert np.array_equal(np.load(tmp_path / "file.npy"), BASE)


@pytest.mark.slow
def test_frames_with_dates_are_viewed_in_the_segment(big):
    pandas = pytest.importorskip("pandas")
    rows = 200_000
    when = pandas.date_range("2026-01-01", periods=rows, freq="s")
    frame = pandas.DataFrame(
        {
            "a": np.arange(float(rows)),
            "when": when,
            "zone": when.tz_localize("Europe/Paris", nonexistent="NaT", ambiguous="NaT"),
            "span": pandas.to_timedelta(np.arange(rows), unit="s"),
            "kind": pandas.Categorical(["x", "y"] * (rows // 2)),
            "maybe": pandas.array([1, None] * (rows // 2), dtype="Int64"),
            "truth": pandas.array([True, None] * (rows // 2), dtype="boolean"),
        }
    )
    values = {
        "frame": frame,
        "indexed": frame.set_index("when"),
        "part": frame[["when", "span"]][::2],
        "series": frame["when"],
        "index": pandas.DatetimeIndex(when),
        "dict": {"one": [frame["span"]], "two": frame},
    }
    for value in values.values():
        big[1] = value
        assert big.stat(1).viewable
        gc.collect()
        before = private_mib()
        view = big.view(1)
        assert private_mib() - before < 2
        for found in (view, big[1]):
            if isinstance(value, dict):
                found, expected = found["two"], value["two"]
            else:
                expected = value
            if isinstance(value, pandas.Index):
                pandas.testing.assert_index_equal(found, expected)
            elif isinstance(value, pandas.Series):
                pandas.testing.assert_series_equal(found, expected)
            else:
                pandas.testing.assert_frame_equal(found, expected)
        del view
    big[1] = frame
    with pytest.raises(ValueError, match="read-only"):
        big.view(1)["when"].array._ndarray[0] = np.datetime64("2020", "ns")
    # Arrays of objects are rebuilt, and `stat` says so.
    big[2] = pandas.DataFrame({"o": pandas.Series([object, "x"] * 10_000, dtype=object)})
    assert not big.stat(2).viewable


@pytest.mark.parametrize("dtype", ["M8[s]", "f8", STRUCT], ids=str)
def test_shapes_that_are_special(big, dtype):
    values = [
        np.zeros((), dtype),
        np.zeros(0, dtype),
        np.zeros((0, 5), dtype)[:, ::2],
        np.zeros((3, 0, 2), dtype).view(Plain),
        np.broadcast_to(np.zeros((), dtype), (0, 4)),
        np.zeros((1,) * 20, dtype),
        np.zeros((1, 5_000, 1, 2), dtype)[:, ::2],
        np.zeros(1, dtype)[::-1],
        np.zeros((5_000, 2), dtype).T[::-1],
        np.zeros(5, dtype)[::2].view(Plain),
        np.zeros(3, [])[::2],
    ]
    for value in values:
        big[1] = value
        for found in (big[1], big.view(1)):
            assert_alike(found, value)


OLD = {
    "dates": BASE.astype("M8[s]")[:5_000],
    "steps": BASE[:10_000:2],
    "subclass": BASE[:5_000].view(Plain),
    "record": np.rec.fromarrays([BASE[:5_000], BASE[:5_000]]),
    "masked": np.ma.masked_less(BASE[:5_000], 9),
}


@pytest.mark.parametrize("name", OLD)
def test_values_that_numpy_pickled_are_read_as_before(big, name):
    """Stored as earlier versions stored them."""
    shmvar._core._put_pickle(big, 1, pickle.dumps(OLD[name], 5))
    view = big.view(1)
    assert_alike(big[1], OLD[name])
    assert_alike(view, OLD[name])
    assert not view.flags.writeable and not big.stat(1).viewable


@pytest.mark.parametrize("name", KINDS)
def test_a_pickle_with_the_memory_within_it_is_viewed_read_only(big, name):
    """Stored as `shmvar load` does: the buffers are within the pickle."""
    big[1] = KINDS[name]()
    shmvar._core._put_pickle(big, 2, shmvar._core._get_pickle(big, 1))
    for found in (big[2], big.view(2)):
        assert_alike(found, KINDS[name]())
    assert all(not array.flags.writeable for array in (big.view(2), np.ma.getdata(big.view(2))))
    assert big[2].flags.writeable and not big.stat(2).viewable


def test_info_of_a_variable_says_whether_it_can_be_viewed(big):
    big[1], big[2] = BASE, ["text"] * 50_000
    one, two = big.stat(1), big.stat(2)
    assert one.viewable is True and two.viewable is False
    assert one._asdict()["viewable"] is True and "viewable=False" in repr(two)
    assert pickle.loads(pickle.dumps(one)) == one and pickle.loads(pickle.dumps(two)) == two
    # As earlier versions pickled it.
    assert shmvar._core._variable_info(40, 3, None, "int").viewable is False
