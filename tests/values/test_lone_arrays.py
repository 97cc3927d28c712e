"""One array as a value is written without the pickler and made without the unpickler; nobody sees a difference."""

import os
import pickle
import pickletools
import subprocess
import sys
import threading

import numpy as np
import pytest
from helpers.segment_file import ZONE, Raw
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import shmvar

KIB = 1024
DTYPES = [
    "?",
    "i1",
    "u1",
    "<i2",
    ">i2",
    "<u4",
    ">i8",
    "<f2",
    "<f4",
    "<f8",
    ">f8",
    "<c8",
    "<c16",
    "g",
    "S1",
    "S7",
    "<U3",
    ">U5",
]


def opcodes(stream):
    """Frames count bytes, and a pickle with its buffers in it has none."""
    ops = ((op.name, argument) for op, argument, _ in pickletools.genops(stream))
    return [(name, argument) for name, argument in ops if name != "FRAME"]


def as_the_pickler_writes(array):
    """The opcodes of a writable array, with its memory in them."""
    memory = array.tobytes(order="A")
    ops = opcodes(pickle.dumps(array.copy(order="A"), 5, buffer_callback=lambda buffer: None))
    return [("BYTEARRAY8", memory) if name == "NEXT_BUFFER" else (name, argument) for name, argument in ops]


def array_of(dtype, shape, order="C"):
    """An array of at least 16 KiB, of all kinds of items."""
    dtype = np.dtype(dtype)
    count = int(np.prod(shape, dtype=np.int64))
    items = np.arange(count) % 100
    return np.asarray(items.astype(dtype).reshape(shape), order=order)


def assert_same(got, expected):
    assert type(got) is np.ndarray and got.dtype == expected.dtype and got.dtype.str == expected.dtype.str
    assert got.shape == expected.shape and got.strides == expected.strides and got.flags.fnc == expected.flags.fnc
    assert got.flags.aligned and np.array_equal(got, expected)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    dtype=st.sampled_from(DTYPES),
    shape=st.lists(st.integers(1, 3), max_size=9).map(lambda axes: (*axes, 16_400)),
    order=st.sampled_from("CF"),
    read_only=st.booleans(),
)
def test_it_is_stored_as_the_pickler_stores_it_and_comes_back_as_it_was(big, dtype, shape, order, read_only):
    while np.prod(shape) > 400_000:
        shape = (1, *shape[2:])
    array = array_of(dtype, shape, order)
    array.flags.writeable = not read_only
    expected = as_the_pickler_writes(array)
    # The first time the dtype is met the pickler writes it.
    for _ in range(2):
        big[1] = array
        assert opcodes(shmvar._core._get_pickle(big, 1)) == expected
        assert_same(pickle.loads(shmvar._core._get_pickle(big, 1)), array)
        own, view = big[1], big.view(1)
        assert_same(own, array)
        assert_same(view, array)
        assert own.flags.writeable and not view.flags.writeable and not np.shares_memory(own, view)
        own[...] = own[::-1].copy()
        assert np.array_equal(view, array)


@pytest.mark.parametrize("kib", [16, 64, 255, 511, 512, 513, 1024, 3000])
def test_every_size_is_private_and_writable_and_outlives_the_variable(big, kib):
    array = np.random.default_rng(kib).random(kib * 128)
    expected = array.copy()
    for _ in range(3):
        big["x"] = array
    own, view = big["x"], big.view("x")
    big["x"] = np.zeros_like(array)
    assert np.array_equal(own, expected) and np.array_equal(view, expected)
    own[:] = 1
    assert np.array_equal(view, expected) and not big["x"].any()
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        view.flags.writeable = True


def test_more_dtypes_than_are_remembered_and_every_form_of_a_number_of_items(big):
    for turn in range(2):
        for width in range(1, 25):
            array = np.full(17_000, "x" * (width - turn), f"U{width}")
            big[width] = array
            assert_same(big[width], array)
            assert_same(big.view(width), array)
    for shape in [(255, 256), (256, 255), (65_535, 1), (65_536, 1), (1, 1, 70_000), (2, 2, 2, 20_000)]:
        array = np.ones(shape, "f4")
        big["shape"] = array
        assert_same(big["shape"], array)
        assert opcodes(shmvar._core._get_pickle(big, "shape")) == as_the_pickler_writes(array)


def test_arrays_that_are_not_the_value_or_no_plain_ones_go_the_usual_way(big):
    array = np.arange(9000.0)
    others = [array.view(np.recarray), np.ma.array(array), array.astype("M8[s]"), array.view("f8,f8")]
    for _ in range(2):
        for value in [[array], {"a": array, "b": array}, *others]:
            big[1] = value
            got = big[1]
            assert type(got) is type(value) and repr(got) == repr(value)


def test_threads_store_and_read_arrays_of_several_dtypes(big):
    failures = []

    def work(number):
        try:
            for turn in range(200):
                array = np.full(3000 + number * 7, turn % 90, DTYPES[(number + turn) % 14]).repeat(16)
                big[number] = array
                assert_same(big[number], array)
                assert_same(big.view(number), array)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not failures


def test_a_program_that_has_not_imported_numpy_gets_the_array(big):
    array = np.arange(20_000, dtype=">i4").reshape(100, 200)
    big[1] = array
    program = """if 1:
        import shmvar, sys
        segment = shmvar.attach(sys.argv[1])
        assert "numpy" not in sys.modules
        for read in (segment.view, segment.get):
            array = read(1)
            print(array.dtype.str, array.shape, int(array.sum()), array.flags.writeable)
    """
    done = subprocess.run([sys.executable, "-c", program, big.key], capture_output=True, text=True, timeout=60)
    expected = f">i4 (100, 200) {array.sum()}"
    assert done.stdout.splitlines() == [f"{expected} False", f"{expected} True"], done.stderr


def test_numpy_ma_is_not_imported_for_it(key):
    program = """if 1:
        import numpy, shmvar, sys
        before = {name for name in sys.modules if name.startswith("numpy")}
        with shmvar.attach(sys.argv[1], 1 << 20) as segment:
            for value in (numpy.zeros(3000), {"a": 1}, [object]):
                segment[1] = value
                segment[1], segment.view(1)
            segment.destroy()
        print({name for name in sys.modules if name.startswith("numpy")} - before)
    """
    done = subprocess.run([sys.executable, "-c", program, key], capture_output=True, text=True, timeout=60)
    assert done.stdout == "set()\n", (done.stdout, done.stderr)


def calls(read_or_write):
    """How often this process has read or written by a system call."""
    with open("/proc/self/io") as file:
        return int(dict(line.split(": ") for line in file.read().splitlines())[read_or_write])


@pytest.mark.skipif(not os.path.exists("/proc/self/io"), reason="the kernel does not count them")
@pytest.mark.parametrize("kib", [16, 32, 64, 300, 3000])
def test_no_system_call_copies_what_is_present_and_was_mapped(big, kib):
    data, array = os.urandom(kib * KIB), np.arange(kib * 128.0)
    for _ in range(4):
        big[1], big[2] = data, array
        big[1], big[2], big.view(2)
    before = calls("syscr"), calls("syscw")
    for _ in range(100):
        big[1], big[2] = data, array
        assert big[1] == data and big[2][-1] == array[-1] == big.view(2)[-1]
    # The file that says so is read, too.
    assert calls("syscr") - before[0] < 10 and calls("syscw") - before[1] < 10


def test_what_is_said_to_be_absent_is_not_touched(big):
    """To touch an absent page would make one, or be a signal where the file system is full."""
    data, array = os.urandom(300 * KIB), np.arange(300.0 * 128)
    big[1], big[2] = data, array
    raw = Raw(big)
    os.pwrite(raw.fd, bytes(ZONE // 8), raw.zone_meta + Raw.PRESENT)
    assert big[1] == data and np.array_equal(big[2], array)
    before = calls("syscr")
    assert big[1] == data and np.array_equal(big[2], array)
    assert calls("syscr") > before + 1


LAZY = """
import importlib.util, sys
spec = importlib.util.find_spec("numpy")
spec.loader = importlib.util.LazyLoader(spec.loader)
module = importlib.util.module_from_spec(spec)
sys.modules["numpy"] = module
spec.loader.exec_module(module)
import shmvar
print("numpy._core" in sys.modules or "numpy.core" in sys.modules)
"""
STUB = """
import sys, types
stub = types.ModuleType("numpy")
stub.ndarray = type("ndarray", (), {})
sys.modules["numpy"] = stub
import shmvar
segment = shmvar.attach(sys.argv[1])
try:
    segment[1]
except Exception:
    pass
del sys.modules["numpy"]
import numpy
print(isinstance(segment[1], numpy.ndarray), isinstance(segment.view(1), numpy.ndarray))
"""


@pytest.mark.parametrize(("code", "shown"), [(LAZY, "False"), (STUB, "True True")], ids=["lazy", "stub"])
def test_a_module_in_the_place_of_numpy_is_left_alone(seg, code, shown):
    seg[1] = np.arange(50_000.0)
    done = subprocess.run([sys.executable, "-c", code, seg.key], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == shown.split()


INTERRUPTED = """
import sys
import numpy, shmvar
_, key, place, raised = sys.argv
raised, hit = getattr(__builtins__, raised), []
def interrupt():
    if not hit:
        hit.append(1)
        raise raised("once")
def hook(event, arguments):
    if event == "pickle.find_class" and place == "dtype": interrupt()
class Module(type(sys)):
    def __getattribute__(self, name):
        if name == "_frombuffer" and place == "numpy": interrupt()
        return getattr(numeric, name)
names = [name for name in ("numpy._core.numeric", "numpy.core.numeric") if name in sys.modules]
numeric = sys.modules[names[0]]
sys.modules[names[0]] = Module(names[0])
sys.addaudithook(hook)
segment = shmvar.attach(key)
def call():
    if place == "dtype":
        return segment["x"].dtype.str
    segment["y"] = numpy.zeros(50_000)
    return "stored"
for _ in range(2):
    try: print(call(), len(hit), "y" in segment)
    except BaseException as error: print(type(error).__name__, error, len(hit), "y" in segment)
"""


@pytest.mark.parametrize("raised", ["KeyboardInterrupt", "TimeoutError"])
@pytest.mark.parametrize(("place", "then"), [("dtype", "<U10 1 False"), ("numpy", "stored 1 True")])
def test_what_interrupts_the_making_of_a_dtype_or_the_look_at_numpy_comes_through(seg, place, then, raised):
    seg["x"] = np.zeros(50_000, "U10")
    code = [sys.executable, "-c", INTERRUPTED, seg.key, place, raised]
    done = subprocess.run(code, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == [f"{raised} once 1 False", then]


def test_a_dtype_that_is_refused_each_time_is_refused_in_the_unpicklers_words(seg):
    seg["x"] = np.zeros(50_000, "U10")
    code = """
import sys, numpy, shmvar
def hook(event, arguments):
    if event == "pickle.find_class": raise LookupError("never")
sys.addaudithook(hook)
try: shmvar.attach(sys.argv[1])["x"]
except LookupError as error: print(error, error.__notes__)
"""
    done = subprocess.run([sys.executable, "-c", code, seg.key], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith('never [\'while reading index "x"')
