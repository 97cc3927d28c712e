"""Values come back equal and of equal type; a value that cannot be stored changes nothing."""

import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import math
import pathlib
import pickle
import signal
import struct
import sys
import threading
import time
import types
import uuid

import helpers
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import shmvar


class Color(enum.Enum):
    RED = 1
    BLUE = "blue"


class Flags(enum.IntFlag):
    A = 1
    B = 2


@dataclasses.dataclass
class Point:
    x: int
    y: list = dataclasses.field(default_factory=list)


class Slotted:
    __slots__ = ("a",)

    def __eq__(self, other):
        return type(other) is Slotted and self.a == other.a


class IntChild(int):
    pass


class StrChild(str):
    pass


Pair = collections.namedtuple("Pair", "a b")

INTS = [
    0,
    1,
    -1,
    255,
    256,
    65535,
    65536,
    2**31 - 1,
    2**31,
    -(2**31),
    -(2**31) - 1,
    2**63 - 1,
    -(2**63),
    2**63,
    2**64,
    10**100,
]
TEXTS = [
    "",
    "a",
    "\x00",
    "a\x00",
    "\x00a\x00",
    "é",
    "日本語",
    "😀",
    "\U0010ffff",
    "\ud800",
    "a\udcffb",
    "x" * 255,
    "x" * 256,
]
BYTES = [b"", b"\x00", b"a\x00", b"\x00" * 3, bytes(range(256)), b"x" * 255, b"x" * 256, b"x" * 65536]
FLOATS = [0.0, -0.0, 1.5, 5e-324, 1.7e308, math.inf, -math.inf]
SCALARS = [None, True, False, *INTS, *TEXTS, *BYTES, *FLOATS]
OBJECTS = [
    1j, bytearray(b"ab\x00"), (), [], {}, set(), frozenset({1, "a"}), (1,), (1, 2, 3, 4),
    [[[]]], {"a": {1: {None: []}}},
    range(5), slice(1, 2), ..., NotImplemented, int, len, Color.RED, Color.BLUE, Flags.A | Flags.B,
    Point(1, [2]), Pair(1, "b"),
    IntChild(5), StrChild("s"), datetime.datetime(2020, 1, 2, 3, 4, 5, 6, datetime.UTC), datetime.timedelta(1),
    uuid.UUID(int=5),
    decimal.Decimal("1.10"), fractions.Fraction(1, 3), pathlib.PurePosixPath("/a"), collections.OrderedDict(b=1, a=2),
    collections.Counter("abca"), collections.deque([1, 2], 5), np.float32(1.5), np.int64(-1), np.dtype("f4"),
]  # fmt: skip


def stored(segment, value, index=1):
    segment[index] = value
    return segment[index]


@pytest.mark.parametrize("value", SCALARS + OBJECTS, ids=lambda value: type(value).__name__)
def test_f48_a_value_comes_back_equal_and_of_equal_type(seg, value):
    for index in (1, "text", "a longer text index that is never inline"):
        got = stored(seg, value, index)
        assert type(got) is type(value) and got == value and repr(got) == repr(value)


def test_f48_nan_comes_back_with_its_bits(seg):
    for bits in (0x7FF8000000000000, 0xFFF8000000000001, 0x7FF0000000000001):
        (value,) = struct.unpack("<d", struct.pack("<Q", bits))
        (again,) = struct.unpack("<Q", struct.pack("<d", stored(seg, value)))
        assert again in (bits, bits | 1 << 51) and math.isnan(stored(seg, value))


def test_f48_bytes_and_text_of_every_length_around_the_bounds(seg):
    lengths = [
        *range(0, 20),
        *(n + d for n in (*helpers.CLASSES, 4096, 8192, 16384, 24576, 32768, 65536) for d in range(-24, 4)),
    ]
    for length in lengths:
        for value in (bytes(range(256)) * (length // 256 + 1), "añb" * length):
            value = value[:length]
            assert stored(seg, value) == value
            assert stored(seg, value, "t") == value
            assert stored(seg, [value]) == [value]
    seg.check()


def test_f48_recursive_and_shared_objects_keep_their_shape(seg):
    ring = [1]
    ring.append(ring)
    got = stored(seg, ring)
    assert got[1] is got and got[0] == 1
    twin = []
    got = stored(seg, {"a": twin, "b": twin})
    assert got["a"] is got["b"] and got["a"] == []


def test_f48_a_deep_nest_that_pickle_bears_comes_back_and_a_deeper_one_changes_nothing(seg):
    deep = []
    for _ in range(10_000):
        deep = [deep]
    seg[1] = "old"
    limit = sys.getrecursionlimit()
    try:
        sys.setrecursionlimit(200_000)
        outcome = []

        def work():
            try:
                got, depth = stored(seg, deep), 0
                while got:
                    (got,) = got
                    depth += 1
                outcome.append(depth)
            except RecursionError:
                outcome.append("too deep for the pickler")

        threading.stack_size(256 << 20)
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(0)
        sys.setrecursionlimit(limit)
    assert outcome == [10_000] or (outcome == ["too deep for the pickler"] and seg[1] == "old")
    seg[1] = "old"
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(RecursionError):
        seg[1] = deep
    assert seg[1] == "old"
    while deep:
        (deep,) = deep


ARRAYS = [
    np.arange(10), np.zeros((0, 3)), np.array(5.0), np.arange(24.0).reshape(2, 3, 4), np.asfortranarray(np.eye(300)),
    np.arange(100)[::3], np.array([True, False]), np.array(["a", "bcd"]), np.array([b"x"]), np.array([1 + 2j]),
    np.array([1, "a", None], dtype=object), np.array([(1, 2.5)], dtype=[("a", "i4"), ("b", "f8")]),
    np.array(["2020-01-01"], dtype="M8[D]"), np.arange(5, dtype=">i4"), np.random.default_rng(1).random((500, 500)),
]  # fmt: skip


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}-{array.shape}")
def test_f48_an_array_comes_back_with_type_shape_order_and_is_writable(seg, array):
    got = stored(seg, array)
    assert type(got) is np.ndarray and (got.dtype, got.shape) == (array.dtype, array.shape)
    assert got.flags.f_contiguous == array.flags.f_contiguous or not array.flags.c_contiguous
    assert np.array_equal(got, array) and got.flags.writeable
    if got.size:
        got.flat[0] = array.flat[-1]
        assert np.array_equal(seg[1], array)
    assert np.array_equal(stored(seg, {"a": [array]})["a"][0], array)


def test_f48_a_100_megabyte_bytes_object_comes_back(seg):
    value = bytes(range(256)) * (100_000_000 // 256)
    assert stored(seg, value) == value
    assert stored(seg, [value, 1]) == [value, 1]


@pytest.mark.slow
def test_f48_a_gibibyte_of_bytes_comes_back(key):
    value = b"0123456789abcdef" * (1 << 26)
    with shmvar.attach(key, (1 << 30) + 100) as segment:
        segment[1] = value
        assert segment[1] == value and len(segment) == 1
        with pytest.raises(shmvar.SegmentFullError):
            segment[2] = b"x" * 100
        segment[1] = "small"
        assert segment[1] == "small" and segment.check().variables == 1
        segment.destroy()


# --- protocols


def test_a_pickle_of_any_protocol_can_be_kept_as_bytes_and_of_a_value_as_it_is(seg):
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        data = pickle.dumps(SCALARS[:40], protocol)
        assert pickle.loads(stored(seg, data)) == SCALARS[:40]


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False),
    st.binary(max_size=5000),
    st.text(max_size=3000), st.text(st.characters(codec=None), max_size=20),
)  # fmt: skip
plain = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.dictionaries(st.one_of(st.text(), st.integers()), inner, max_size=5),
        st.tuples(inner, inner),
    ),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(value=plain, index=st.one_of(st.integers(-(2**63), 2**63 - 1), st.text(max_size=100)))
@example(value=-0.0, index=0)
@example(value="\ud800", index="")
def test_any_plain_value_comes_back_through_trusted_and_untrusted_handles(segments_both, value, index):
    trusted, untrusted = segments_both
    trusted[index] = value
    for segment in (trusted, untrusted):
        assert repr(segment[index]) == repr(value) and type(segment.get(index)) is type(value)
    untrusted[index] = [value]
    assert repr(trusted[index]) == repr([value])


@pytest.fixture
def segments_both(key):
    with shmvar.attach(key, trust=True) as trusted, shmvar.attach(key, trust=False) as untrusted:
        yield trusted, untrusted
        trusted.check()


# --- errors while pickling


class Unpicklable:
    def __reduce__(self):
        raise ZeroDivisionError("no")


@pytest.mark.parametrize("index", [1, "text"])
@pytest.mark.parametrize(
    "bad", [lambda: None, threading.Lock(), Unpicklable(), (i for i in ())], ids=lambda bad: type(bad).__name__
)
def test_f50_a_pickling_error_comes_through_unchanged_and_the_old_value_remains(seg, bad, index):
    with pytest.raises(Exception) as expected:
        pickle.dumps(bad, 5)
    seg[index] = "old"
    used = seg.info().used
    puts = [
        lambda: seg.put(index, bad),
        lambda: seg.__setitem__(index, [1, bad]),
        lambda: seg.update({index: bad}),
        lambda: seg.setdefault("new", bad),
        lambda: shmvar.shm_put_var(seg, index, {"a": bad}),
    ]
    for put in puts:
        with pytest.raises(expected.type) as caught:
            put()
        assert str(caught.value) == str(expected.value)
    assert seg[index] == "old" and len(seg) == 1 and seg.info().used == used


class Interrupts:
    """Sends Ctrl-C while it is pickled."""

    def __reduce__(self):
        signal.raise_signal(signal.SIGINT)
        time.sleep(0.01)
        return (list, ())


class Exits:
    def __reduce__(self):
        raise SystemExit(3)


def test_f6_an_interrupt_while_pickling_writes_nothing_and_holds_no_lock(seg):
    seg[1] = "old"
    for bad, error in [(Interrupts(), KeyboardInterrupt), (Exits(), SystemExit)]:
        for value in (bad, [b"x" * 1_000_000, bad]):
            with pytest.raises(error):
                seg[1] = value
            assert seg[1] == "old" and len(seg) == 1
            with helpers.promptly():
                seg[2] = b"x" * 100_000
                del seg[2]


# --- a class that is missing


def test_f34_a_value_whose_class_is_missing_names_index_and_class_and_stays(seg, monkeypatch):
    gone = type("GoneClass", (), {"__module__": __name__})
    monkeypatch.setattr(sys.modules[__name__], "GoneClass", gone, raising=False)
    value = gone()
    for index in (4711, "some index"):
        seg[index] = value
        monkeypatch.delattr(sys.modules[__name__], "GoneClass")
        for _ in range(2):
            with pytest.raises((AttributeError, ImportError, shmvar.Error)) as caught:
                seg[index]
            told = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
            assert "GoneClass" in told and str(index) in told
        monkeypatch.setattr(sys.modules[__name__], "GoneClass", gone, raising=False)
        assert type(seg[index]) is gone and "GoneClass" in seg.stat(index).type


def test_f34_a_value_whose_module_is_missing_names_index_and_class_and_stays(seg, monkeypatch):
    gone = types.ModuleType("gone.module")
    gone.Inner = type("Inner", (), {"__module__": "gone.module"})
    for value in (gone.Inner(), [1, {"deep": (gone.Inner(),)}]):
        with monkeypatch.context() as there:
            there.setitem(sys.modules, "gone", types.ModuleType("gone"))
            there.setitem(sys.modules, "gone.module", gone)
            seg["index"] = value
        with pytest.raises(ModuleNotFoundError) as caught:
            seg["index"]
        told = "\n".join([str(caught.value), *caught.value.__notes__])
        assert "needs gone.module.Inner" in told and '"index"' in told
        assert "index" in seg
