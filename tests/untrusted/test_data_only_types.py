"""Types of the standard library in untrusted values: decoded as pickle would, by names that are only compared."""

import array
import collections
import datetime
import decimal
import fractions
import math
import pathlib
import pickle
import subprocess
import sys
import threading
import uuid

import numpy as np
import pytest
from helpers.data_only_values import PROTOCOLS, agree_or_refuse, edits, mutated, standard, typed
from helpers.value_comparison import same
from hypothesis import given, settings
from hypothesis import strategies as st

from shmvar import UntrustedValueError
from shmvar._core import _decode_data_only as decode

ZONE = datetime.timezone(datetime.timedelta(hours=-3, microseconds=1), "X")
EDGES = [
    datetime.date.min,
    datetime.date.max,
    datetime.datetime.min,
    datetime.datetime.max.replace(tzinfo=ZONE, fold=1),
    datetime.datetime.min.replace(tzinfo=datetime.timezone.max),
    datetime.time.max.replace(fold=1, tzinfo=datetime.UTC),
    datetime.timedelta.min,
    datetime.timedelta.max,
    datetime.UTC,
    datetime.timezone.min,
    ZONE,
    decimal.Decimal("0E-1000"),
    decimal.Decimal("1E+999999999"),
    decimal.Decimal("-0"),
    decimal.Decimal("NaN123"),
    decimal.Decimal("sNaN"),
    decimal.Decimal("-Infinity"),
    decimal.Decimal(10) ** 4_000 + 1,
    fractions.Fraction(-(10**4_900), 7),
    fractions.Fraction(0),
    uuid.UUID(int=0),
    uuid.UUID(int=2**128 - 1),
    uuid.UUID(int=1, is_safe=uuid.SafeUUID.safe),
    uuid.UUID(int=1, is_safe=uuid.SafeUUID.unsafe),
    range(0),
    range(10**500, -(10**500), -3),
    collections.OrderedDict(),
    collections.OrderedDict([((1, "k"), [1]), ("a", {})]),
    collections.deque(),
    collections.deque([1, [2]], 5),
    collections.deque(maxlen=0),
    collections.deque([1], sys.maxsize),
    pathlib.PurePosixPath(),
    pathlib.PosixPath("//a/../b"),
    pathlib.PosixPath("\udcff"),
    pathlib.PurePosixPath("a\0b"),
    pathlib.PureWindowsPath("c:/a", "b"),
    pathlib.PureWindowsPath("//server/share/x"),
    *(array.array(code, [1, 2]) for code in "bBhHiIlLqQ"),
    *(array.array(code, [1.5, math.inf]) for code in "fd"),
    array.array("d"),
]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("value", EDGES, ids=lambda value: type(value).__name__)
def test_edges_of_the_standard_types_come_back(protocol, value):
    data = pickle.dumps(value, protocol)
    assert same(decode(data), pickle.loads(data))
    if protocol > 3:  # earlier protocols lose the fold
        assert same(decode(data), value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@given(value=st.lists(standard))
@settings(max_examples=300)
def test_any_standard_value_comes_back_as_pickle_has_it(protocol, value):
    assert agree_or_refuse(pickle.dumps(value, protocol))


@given(value=typed, protocol=st.sampled_from(PROTOCOLS), beside=st.booleans())
@settings(max_examples=500)
def test_any_nesting_of_all_types_comes_back_as_pickle_has_it(value, protocol, beside):
    buffers = []
    kept = buffers.append if beside and protocol == 5 else None
    data = pickle.dumps(value, protocol, buffer_callback=kept)
    assert agree_or_refuse(data, [buffer.raw() for buffer in buffers])


@given(value=typed, protocol=st.sampled_from(PROTOCOLS), edits=edits)
@settings(max_examples=1000)
def test_a_mutated_pickle_of_these_gives_what_pickle_gives_or_an_error(value, protocol, edits):
    agree_or_refuse(mutated(pickle.dumps(value, protocol), edits))


def test_sharing_and_recursion_through_these_are_kept():
    knot = collections.deque([1])
    table = collections.OrderedDict(knot=knot)
    knot.append(table)
    day, numbers = datetime.date(2020, 1, 1), np.arange(3)
    value = [knot, table, day, day, numbers, numbers, (knot,), {day: knot}]
    for protocol in PROTOCOLS:
        result = decode(pickle.dumps(value, protocol))
        assert same(result, value)
        assert result[2] is result[3] and result[4] is result[5] and result[0][1] is result[1]


def test_many_children_that_refer_to_their_parent_are_not_deep():
    for make in (list, collections.deque):
        parent = make()
        parent.extend([parent, n] for n in range(30_000))
        assert same(decode(pickle.dumps(parent)), parent)


def test_deques_as_deep_as_allowed_decode_and_are_freed_on_a_small_stack():
    def nest(levels):
        return b"ccollections\ndeque\nq\x00" + b"h\x00)R" * levels + b"a" * (levels - 1) + b"."

    done = []
    threading.stack_size(1 << 20)
    try:
        thread = threading.Thread(target=lambda: done.append(len(decode(nest(2_000)))))
        thread.start()
    finally:
        threading.stack_size(0)
    thread.join()
    assert done == [1]
    with pytest.raises(UntrustedValueError, match="deques"):
        decode(nest(2_001))


MANY = [
    collections.deque,
    collections.OrderedDict,
    pathlib.PurePosixPath,
    lambda: range(1, 2),
    lambda: datetime.date(2020, 1, 1),
    lambda: datetime.timedelta(1),
    lambda: decimal.Decimal(1),
    lambda: fractions.Fraction(1),
    lambda: uuid.UUID(int=1),
    lambda: np.float64(1),
    lambda: np.arange(1),
    lambda: array.array("d"),
]


@pytest.mark.parametrize("make", MANY, ids=lambda make: type(make()).__name__)
def test_a_long_list_of_small_objects_is_no_bomb(make):
    value = [make() for _ in range(60_000)]
    data = pickle.dumps(value)
    assert decode(data)[::5_000] == value[::5_000]
    # The buffers beside the list count as part of it.
    assert len(data) < 60_000 * 60


# Written by other versions: paths of CPython 3.13, arrays of numpy 1, a date of Python 2.
@pytest.mark.parametrize(
    ("data", "value"),
    [
        (
            b"\x80\x05\x95,\x00\x00\x00\x00\x00\x00\x00\x8c\x0epathlib._local\x94\x8c\tPosixPath\x94\x93\x94"
            b"\x8c\x01a\x94\x8c\x01b\x94\x86\x94R\x94.",
            pathlib.PosixPath("a/b"),
        ),
        (
            b"\x80\x02cpathlib._local\nPurePosixPath\nq\x00X\x04\x00\x00\x00/a/bq\x01\x85q\x02Rq\x03.",
            pathlib.PurePosixPath("/a/b"),
        ),
        (b"\x80\x02cdatetime\ndate\nX\x05\x00\x00\x00\x07\xc3\xa4\x01\x02\x85R.", datetime.date(2020, 1, 2)),
        (
            b"\x80\x05\x95\x8b\x00\x00\x00\x00\x00\x00\x00\x8c\x12numpy.core.numeric\x94\x8c\x0b_frombuffer\x94\x93\x94"
            b"(\x96\x18\x00\x00\x00\x00\x00\x00\x00" + bytes(8) + b"\x01" + bytes(7) + b"\x02" + bytes(7) + b"\x94"
            b"\x8c\x05numpy\x94\x8c\x05dtype\x94\x93\x94\x8c\x02i8\x94\x89\x88\x87\x94R\x94(K\x03\x8c\x01<\x94NNN"
            b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t\x94bK\x03\x85\x94\x8c\x01C\x94t\x94R\x94.",
            np.arange(3),
        ),
        (
            b"\x80\x05\x95\x7a\x00\x00\x00\x00\x00\x00\x00\x8c\x15numpy.core.multiarray\x94\x8c\x06scalar\x94\x93\x94"
            b"\x8c\x05numpy\x94\x8c\x05dtype\x94\x93\x94\x8c\x02M8\x94\x89\x88\x87\x94R\x94(K\x04\x8c\x01<\x94NNN"
            b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00}\x94(C\x01D\x94K\x01K\x01K\x01t\x94\x86\x94t\x94bC\x08VG"
            + bytes(6)
            + b"\x94\x86\x94R\x94.",
            np.datetime64("2020-01-01"),
        ),
    ],
    ids=["path 3.13", "pure path 3.13", "text date", "numpy 1 array", "numpy 1 scalar"],
)
def test_forms_of_other_versions_are_read(data, value):
    assert same(decode(data), value)


ALONE = """
import sys
from shmvar._core import _decode_data_only as decode
before = set(sys.modules)
decode(bytes.fromhex(sys.argv[1]))
print(*sorted(name for name in set(sys.modules) - before if "." not in name and not name.startswith("_")))
"""


def test_a_module_is_imported_only_for_its_own_types():
    def imported(value):
        command = [sys.executable, "-c", ALONE, pickle.dumps(value).hex()]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split()

    assert imported([1, "a", 1j, {2}, range(3)]) == []
    for value in (datetime.date(2020, 1, 1), uuid.UUID(int=1), decimal.Decimal(1), pathlib.PurePath("a"), np.arange(3)):
        loaded, own = imported(value), {type(value).__module__.partition(".")[0]}
        assert own <= set(loaded) or own <= set(sys.builtin_module_names), (loaded, own)
        assert not {"datetime", "uuid", "decimal", "fractions", "numpy"} & set(loaded) - own or own == {"numpy"}


def test_without_numpy_an_array_is_refused_and_says_so(tmp_path):
    (tmp_path / "numpy.py").write_text("raise ImportError")
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r})" + ALONE
    command = [sys.executable, "-c", program, pickle.dumps(np.arange(3)).hex()]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert "UntrustedValueError" in ran.stderr and "numpy, which is not installed" in ran.stderr
