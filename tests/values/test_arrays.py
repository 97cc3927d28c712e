"""Arrays that numpy would copy into the pickle are stored beside it, can be viewed, and come back equal."""

import copyreg
import dataclasses
import datetime
import gc
import pickle
import pickletools
import subprocess
import sys
import threading
import tracemalloc

import helpers
import numpy as np
import pytest
from helpers.arrays import MIB, matrix

import shmvar

SIZE = 4 * MIB
COUNT = SIZE // 8


class Plain(np.ndarray):
    """A subclass that leaves everything to numpy."""


class Finalized(np.ndarray):
    """It has its attribute only if it was made from another array: a pickle of numpy's does not carry it."""

    def __new__(cls, values):
        made = np.asarray(values).view(cls)
        made.source = "constructor"
        return made

    def __array_finalize__(self, other):
        if other is not None:
            self.source = getattr(other, "source", "view")


class Reduced(np.ndarray):
    """Pickles its attribute, too."""

    def __reduce__(self):
        return _reduced, (np.asarray(self), self.note)


def _reduced(values, note):
    made = values.view(Reduced)
    made.note = note
    return made


class WithState(np.ndarray):
    def __reduce__(self):
        function, arguments, state = super().__reduce__()
        return function, arguments, (state, self.__dict__)

    def __setstate__(self, state):
        super().__setstate__(state[0])
        self.__dict__.update(state[1])


@dataclasses.dataclass
class Holder:
    values: object
    name: str = "x"


def filled(dtype, count=COUNT):
    bits = np.random.default_rng(5).integers(0, 250, count * np.dtype(dtype).itemsize, np.uint8)
    return bits.view(dtype)


STRUCT = np.dtype([("when", "M8[us]"), ("n", ">i4"), ("nested", [("x", "f4", (2, 3)), ("y", "U2")])])
BASE = np.arange(float(COUNT))
TEXT = np.zeros(COUNT // 4, "U8")
TEXT[:] = ["text", "é😀", "", "longer"] * (len(TEXT) // 4)
KINDS = {
    "datetime64": lambda: BASE.astype("M8[s]"),
    "timedelta64": lambda: BASE.astype("m8[25us]"),
    "dates in Fortran's order": lambda: np.asfortranarray(BASE.astype("M8[ns]").reshape(512, -1)),
    "dates with steps": lambda: BASE.astype("M8[ms]")[::3],
    "swapped dates": lambda: BASE.astype(">M8[D]"),
    "every second column": lambda: BASE.reshape(-1, 4)[:, ::2],
    "reversed": lambda: BASE[::-1],
    "reversed twice": lambda: BASE.reshape(512, -1)[::-1, ::-1],
    "transposed part": lambda: BASE.reshape(64, 64, -1)[:, :50].transpose(2, 0, 1),
    "broadcast": lambda: np.broadcast_to(np.arange(3.0), (COUNT // 3, 3)),
    "broadcast of one": lambda: np.broadcast_to(np.float32(7), (512, COUNT // 256)),
    "swapped with steps": lambda: BASE.astype(">f4")[::2],
    "half with steps": lambda: (BASE % 2000).astype("f2")[::2],
    "complex with steps": lambda: BASE.astype("c16")[::2],
    "bool with steps": lambda: (BASE % 3 == 0)[::2],
    "bytes with steps": lambda: np.array([b"ab", b""] * (COUNT // 4), "S8")[::2],
    "text with steps": lambda: TEXT[::2],
    "void with steps": lambda: filled("V12")[::2],
    "struct with dates": lambda: filled(STRUCT, 1000).repeat(90),
    "field of a struct": lambda: np.zeros(COUNT // 8, [("a", "f8"), ("b", "i4")])["a"],
    "read-only": lambda: np.frombuffer(BASE.tobytes(), "M8[s]"),
    "subclass": lambda: BASE.view(Plain),
    "subclass with steps": lambda: BASE.view(Plain)[::2],
    "subclass of dates in Fortran's order": lambda: np.asfortranarray(BASE.astype("M8[s]").reshape(512, -1)).view(
        Plain
    ),
    "subclass with an attribute": lambda: Finalized(BASE),
    "matrix": lambda: matrix(BASE.reshape(512, -1)),
    "recarray": lambda: np.rec.fromarrays([BASE, BASE.astype("i4")], names="x,y"),
    "recarray with steps": lambda: np.rec.fromarrays([BASE, BASE.astype("M8[s]")], names="x,y")[::2],
    "char": lambda: np.char.array(["a", "bc"] * (COUNT // 8)),
    "masked": lambda: np.ma.masked_less(BASE, 5),
    "masked dates": lambda: np.ma.masked_array(
        BASE.astype("M8[s]"), BASE % 2 == 0, fill_value=np.datetime64("2020", "s")
    ),
    "masked with steps": lambda: np.ma.masked_less(BASE.reshape(-1, 4), 5)[:, ::2],
    "masked without a mask": lambda: np.ma.array(BASE),
    "masked hard": lambda: np.ma.array(BASE, mask=BASE > 9, hard_mask=True, fill_value=-1.5),
    "masked struct": lambda: np.ma.array(
        np.zeros(COUNT // 2, "f8,i8"), mask=[(True, False), (False, False)] * (COUNT // 4)
    ),
    "masked subclass of data": lambda: np.ma.array(BASE.view(Plain), mask=BASE > 9),
}
"""Made when they are wanted: each process that runs tests loads this file, and a fork of it copies what it has."""


def arrays_of(value):
    """An array, its parts, and the arrays that it is a view of."""
    found = []
    while isinstance(value, np.ndarray):
        found.append(value)
        if isinstance(value, np.ma.MaskedArray):
            found.extend(each for each in (value.data, value._data, value.mask, value._mask) if np.ndim(each))
        value = value.base
    return found


def assert_sealed(view):
    for array in arrays_of(view):
        assert not array.flags.writeable
        with pytest.raises(ValueError, match="WRITEABLE"):
            np.ndarray.setflags(array, write=True)
        base = array.base
        if base is not None and not isinstance(base, np.ndarray):
            with pytest.raises((TypeError, BufferError)):
                memoryview(base)[:1] = b"x"


def assert_alike(found, value):
    assert type(found) is type(value) and found.dtype == value.dtype and found.shape == value.shape
    if isinstance(value, np.ma.MaskedArray):
        assert found.mask.dtype == value.mask.dtype and np.array_equal(found.mask, value.mask)
        assert type(found.data) is type(value.data) and found.data.tobytes() == value.data.tobytes()
        assert found.hardmask == value.hardmask
        assert found.fill_value == value.fill_value and found.fill_value.dtype == value.fill_value.dtype
    else:
        assert found.tobytes() == value.tobytes()


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


def test_arrays_deep_in_a_value_are_found_whatever_it_is(big):
    dates = BASE.astype("M8[s]")
    shared = BASE[::2]
    values = [
        [[[dates]]],
        ({"a": {"b": (1, 2, [dates])}},),
        Holder(Holder([dates, "text"])),
        {"n": 1, "d": Holder(dates), "when": datetime.datetime(2026, 1, 1)},
        [*range(5_000), dates],
        {index: "x" for index in range(5_000)} | {"d": dates},
    ]
    deep = dates
    for _ in range(30):
        deep = [deep]
    for value in [*values, deep]:
        big[1] = value
        data = shmvar._core._get_pickle(big, 1)
        assert b"_frombuffer" in data and b"_reconstruct" not in data
        assert repr(big[1]) == repr(value) == repr(big.view(1))
    big[1] = {"a": shared, "b": [shared], "c": shared}
    for found in (big[1], big.view(1)):
        assert found["a"] is found["b"][0] is found["c"] and np.array_equal(found["a"], shared)


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


def test_what_cannot_be_viewed_is_stored_as_before_and_said(big):
    objects = np.array([1, "x", None] * 20_000, object)
    values = [
        objects,
        np.zeros(20_000, [("a", "i4"), ("b", "O")]),
        np.ma.array(objects, mask=[0, 1, 0] * 20_000),
        list(range(20_000)),
        ["text"] * 20_000,
        [b"x" * 50_000],
        "x" * 50_000,
    ]
    if hasattr(np.dtypes, "StringDType"):
        values.append(np.array(["a", "text that is longer than a few"] * 10_000, np.dtypes.StringDType()))
    for value in values:
        big[1] = value
        assert not big.stat(1).viewable
        found = big[1]
        if isinstance(value, np.ndarray):
            assert type(found) is type(value) and found.dtype == value.dtype and (found == value).all()
        else:
            assert found == value
    for value in (1, "x", b"x" * 1_000, b"x" * MIB, bytearray(MIB), [1, 2], None, np.zeros(3), BASE, [BASE] * 3):
        big[1] = value
        assert big.stat(1).viewable, type(value)
    big[1] = {str(name): np.arange(5_000.0) + name for name in range(500)}
    assert big.stat(1).viewable


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


def test_classes_that_pickle_themselves_do_so(big):
    one = BASE.view(Reduced)
    one.note = "a note"
    two = BASE.view(WithState)
    two.note = "state"
    plain = BASE.view(Plain)
    plain.note = "numpy drops it"
    for value in (one, two):
        big[1] = [value]
        for found in (big[1][0], big.view(1)[0]):
            assert_alike(found, value)
            assert found.note == value.note
    big[1] = one
    assert big.stat(1).viewable
    big[1] = two
    assert not big.stat(1).viewable
    big[1] = plain
    assert not hasattr(big[1], "note") and not hasattr(pickle.loads(pickle.dumps(plain)), "note")
    big[1] = Finalized(BASE)
    assert not hasattr(big[1], "source") and not hasattr(pickle.loads(pickle.dumps(Finalized(BASE))), "source")


def _registered(text):
    return text


@pytest.mark.parametrize("class_", [np.ndarray, Plain, np.ma.MaskedArray, Holder])
def test_what_is_registered_with_copyreg_wins(big, class_):
    values = {
        np.ndarray: BASE.astype("M8[s]"),
        Plain: BASE.view(Plain),
        np.ma.MaskedArray: np.ma.array(BASE),
        Holder: Holder(BASE.astype("M8[s]")),
    }
    value = values[class_]
    copyreg.pickle(class_, lambda value: (_registered, (f"by {type(value).__name__}",)))
    try:
        big[1], big[2] = value, [value, BASE[::2].view(Plain)]
        assert big[1] == big[2][0] == f"by {class_.__name__}"
    finally:
        del copyreg.dispatch_table[class_]
    big[1] = value
    assert type(big[1]) is class_


@pytest.mark.parametrize("change", ["i8", "f4", None], ids=["other dtype", "shorter", "same dtype"])
@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_what_is_registered_for_arrays_wins_however_often_one_was_stored(big, change, before):
    """Arrays of a dtype that was met are written without the pickler; not where the program reduces arrays itself."""
    array = np.arange(50_000.0)
    expected = array.astype(change) if change else array + 1
    if not before:
        big[1] = big[2] = array
    copyreg.pickle(np.ndarray, lambda value: expected.__reduce_ex__(5))
    try:
        for _ in range(3):
            big[1] = array
            assert big[1].dtype == expected.dtype and (big[1] == expected).all()
    finally:
        del copyreg.dispatch_table[np.ndarray]
    for _ in range(3):
        big[1] = array
        assert big[1].dtype == array.dtype and (big[1] == array).all()


class Storing:
    """Stores into the segment while it is pickled, then fails or not."""

    def __init__(self, segment, error=None):
        self.segment, self.error = segment, error

    def __reduce__(self):
        self.segment["inner"] = [BASE[::2], BASE.astype("M8[s]")]
        if self.error:
            raise self.error
        return list, ((BASE[::4],),)


def test_f51_a_reduce_that_stores_arrays_keeps_to_its_own(big):
    dates = BASE.astype("M8[s]")
    big["outer"] = [dates, Storing(big), BASE[::8]]
    found, inner = big["outer"], big["inner"]
    assert np.array_equal(found[0], dates) and np.array_equal(found[1][0], BASE[::4])
    assert np.array_equal(found[2], BASE[::8])
    assert np.array_equal(inner[0], BASE[::2]) and np.array_equal(inner[1], dates)
    with pytest.raises(LookupError, match="no"):
        big["outer"] = [dates, Storing(big, LookupError("no"))]
    assert np.array_equal(big["outer"][0], dates)
    with pytest.raises(TypeError, match="pickle"):
        big["outer"] = [dates, threading.Lock()]
    assert np.array_equal(big["outer"][0], dates)


def test_threads_store_arrays_of_their_own(big):
    def work(number):
        for turn in range(20):
            value = [(BASE[: 1 << 14] + number * 100 + turn).astype("M8[s]"), np.full(1 << 13, number)[::2]]
            big[number] = value
            found = big[number]
            assert np.array_equal(found[0], value[0]) and np.array_equal(found[1], value[1])

    helpers.in_threads(work, 8)


def test_together_with_others_and_through_other_calls(big):
    dates, steps = BASE.astype("M8[s]"), BASE[::2]
    big.put_many({1: dates, 2: [steps], 3: "x"})
    assert np.array_equal(big[1], dates) and np.array_equal(big[2][0], steps)
    assert np.array_equal(big.setdefault("d", steps), steps)
    old = big.swap(1, np.ma.masked_less(BASE, 9))
    assert np.array_equal(old, dates) and big.view(1).mask[8]
    big.check()


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
