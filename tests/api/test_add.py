"""Counters: `add` on every kind of number, and totals of many processes that are exact (F53)."""

import math
import pickle
from http import HTTPStatus

import helpers
import numpy
import pytest

import shmvar

INDEXES = [0, -5, 2**63 - 1, "text", "ключ", "k" * 1024]


class Count(int):
    pass


class Weight(float):
    pass


@pytest.mark.parametrize("index", INDEXES)
def test_add_counts_from_0_where_it_is_missing(seg, index):
    assert seg.add(index) == 1 and seg.add(index, 5) == 6 and seg.add(index, -10) == -4
    assert seg[index] == -4 and type(seg[index]) is int
    seg.remove(index)
    assert seg.add(index, 0) == 0 and index in seg


@pytest.mark.parametrize("bits", [15, 31, 32, 62, 63, 64, 65, 127, 128, 2000])
@pytest.mark.parametrize("sign", [1, -1])
def test_ints_never_wrap(seg, bits, sign):
    edge = sign * 2**bits
    for start in range(-2, 3):
        for amount in (-3, -1, 0, 1, 2, sign * 2**62, sign * (2**63 - 1), -(2**63), edge, -edge):
            seg[1] = edge + start
            total = seg.add(1, amount)
            assert total == edge + start + amount == seg[1] and type(total) is type(seg[1]) is int


def test_ints_come_back_below_64_bits_and_go_on(seg):
    seg[1] = 2**63 - 1
    assert [seg.add(1), seg.add(1), seg.add(1, -2), seg.add(1)] == [2**63, 2**63 + 1, 2**63 - 1, 2**63]
    assert seg.add(1, -(2**64)) == -(2**63) and seg.add(1, -1) == -(2**63) - 1


@pytest.mark.parametrize(
    ("start", "amount"),
    [
        (1.5, 1),
        (1, 0.5),
        (0.1, 0.2),
        (0.0, -0.0),
        (-0.0, -0.0),
        (1e308, 1e308),
        (math.inf, -math.inf),
        (math.nan, 1),
        (1, math.inf),
        (2**53, 1.0),
        (2**70, 0.5),
        (0.5, 2**70),
        (5e-324, 5e-324),
        (1.0, 10**300),
        (-(10**300), 1.0),
    ],
)
def test_floats_are_added_as_python_adds_them(seg, start, amount):
    seg["f"] = start
    total, expected = seg.add("f", amount), start + amount
    assert type(total) is type(expected) is float is type(seg["f"])
    assert repr(total) == repr(expected) == repr(seg["f"])


def test_an_int_too_large_for_a_float_is_an_error_and_nothing_is_changed(seg):
    seg[1], seg[2] = 10**400, 0.5
    for index, amount in ((1, 0.5), (2, 10**400)):
        before = seg.get_versioned(index)
        with pytest.raises(OverflowError):
            seg.add(index, amount)
        assert seg.get_versioned(index) == before


@pytest.mark.parametrize(
    "value", [True, False, None, "1", b"1", [1], (1,), {1: 1}, 1j, {1}, bytearray(9), b"x" * 300_000, "x" * 5000]
)
def test_add_to_another_type_is_a_type_error_and_nothing_is_changed(seg, value):
    seg[1] = value
    before = seg.get_versioned(1)
    with pytest.raises(TypeError):
        seg.add(1, 1)
    assert seg.get_versioned(1) == before


@pytest.mark.parametrize("amount", [True, None, "1", b"1", [1], 1j, numpy.bool_(True), numpy.arange(2), object()])
@pytest.mark.parametrize("there", [False, True])
def test_add_of_another_type_is_a_type_error_and_nothing_is_changed(seg, amount, there):
    if there:
        seg[1] = 1
    with pytest.raises(TypeError):
        seg.add(1, amount)
    assert dict(seg) == ({1: 1} if there else {})


@pytest.mark.parametrize("amount", [numpy.int8(3), numpy.uint64(2**64 - 1), numpy.int64(-5), numpy.float64(0.5)])
def test_numpy_numbers_are_amounts_and_the_sum_is_pythons_own(seg, amount):
    seg[1] = 1
    total = seg.add(1, amount)
    assert total == 1 + amount.item() == seg[1] and type(total) is type(seg[1]) is type(1 + amount.item())


NUMPY_INTS = [numpy.int8, numpy.uint8, numpy.int16, numpy.uint32, numpy.int64, numpy.uint64, numpy.longlong]
NUMPY_FLOATS = [numpy.float16, numpy.float32, numpy.float64, numpy.longdouble]


@pytest.mark.parametrize("kind", NUMPY_INTS + NUMPY_FLOATS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("start", [None, 5, 0.25, 2**70, -(2**70)])
def test_every_int_and_float_of_numpy_is_an_amount(seg, kind, start):
    if start is not None:
        seg[1] = start
    expected = (start or 0) + (3 if kind in NUMPY_INTS else 3.0)
    total = seg.add(1, kind(3))
    assert total == expected == seg[1] and type(total) is type(seg[1]) is type(expected)


@pytest.mark.parametrize("kind", NUMPY_INTS + NUMPY_FLOATS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("amount", [3, 0.5, 2**70, numpy.int8(3), numpy.float32(0.5), Count(3), Weight(0.5)], ids=repr)
def test_every_int_and_float_of_numpy_is_a_value_to_add_to(seg, kind, amount):
    seg.put(1, kind(5), ttl=1000)
    plain = amount.item() if isinstance(amount, numpy.generic) else amount
    expected = (5 if kind in NUMPY_INTS else 5.0) + plain
    total = seg.add(1, amount)
    assert total == expected == seg[1] and type(total) is type(seg[1]) is type(expected)
    assert seg.stat(1).expires_in > 900


def test_the_largest_uint64_does_not_wrap(seg):
    seg[1] = numpy.uint64(2**64 - 1)
    assert seg.add(1, numpy.uint64(2**64 - 1)) == 2**65 - 2 == seg[1]


NOT_NUMBERS = [
    numpy.bool_(True),
    numpy.timedelta64(3, "s"),
    numpy.datetime64(3, "s"),
    numpy.complex64(1),
    numpy.str_("1"),
]


class OldBool:
    """As numpy's bools up to 2.2, which have an `__index__`."""

    def __index__(self):
        return 1


def test_a_bool_of_numpy_that_has_an_index_is_no_amount(seg, monkeypatch):
    seg[1] = 5
    assert seg.add(1, OldBool()) == 6
    monkeypatch.setattr(numpy, "bool_", OldBool)
    with pytest.raises(TypeError, match="the amount is OldBool"):
        seg.add(1, OldBool())
    assert seg[1] == 6


@pytest.mark.parametrize("wrong", [*NOT_NUMBERS, numpy.zeros(3), numpy.array(1.5)], ids=repr)
def test_other_scalars_of_numpy_are_refused(seg, wrong):
    seg[1], seg[2] = wrong, 5
    before = seg.version(1), seg.version(2)
    for call in (lambda: seg.add(1, 1), lambda: seg.add(2, wrong), lambda: seg.add(3, wrong)):
        with pytest.raises(TypeError):
            call()
    assert (seg.version(1), seg.version(2)) == before and 3 not in seg


@pytest.mark.parametrize("amount", [1, 0.5, 2**70])
@pytest.mark.parametrize("index", [5, "na'me"])
def test_the_error_of_a_value_that_is_no_number_names_the_index_and_the_type(seg, index, amount):
    seg[index] = "text"
    with pytest.raises(TypeError) as caught:
        seg.add(index, amount)
    name = 5 if index == 5 else '"na\'me"'
    assert str(caught.value) == f"add: the value of index {name} is str, not an int or a float"


def test_add_does_not_import_numpy(seg, key):
    seg[1], seg[2] = 1, 2**70
    code = """
    segment = shmvar.attach(key)
    for amount in (1, 0.5, 2**70):
        segment.add(1, amount), segment.add(2, amount)
    try:
        segment.add(1, "x")
    except TypeError:
        pass
    print("numpy" in sys.modules)
    """
    assert helpers.run(code, key).stdout == "False\n"


def test_amounts_of_subclasses_count_as_numbers(seg):
    assert seg.add(1, Count(4)) == 4 and type(seg[1]) is int
    assert seg.add(1, Weight(0.5)) == 4.5 and type(seg[1]) is float


@pytest.mark.parametrize("value", [Count(4), Weight(4)])
def test_a_value_of_a_subclass_is_added_to_as_a_number_or_refused_whole(seg, value):
    seg[1] = value
    before = seg.get_versioned(1)
    try:
        assert seg.add(1, 1) == 5 == seg[1]
    except TypeError:
        assert seg.get_versioned(1) == before and type(seg[1]) is type(value)


@pytest.mark.parametrize("value", [Count(4), Weight(4), HTTPStatus.OK, numpy.timedelta64(3, "s")], ids=repr)
@pytest.mark.parametrize("amount", [1, 0.5, 2**70])
def test_a_value_of_a_subclass_that_is_read_as_one_is_refused(key, value, amount):
    with shmvar.attach(key, trust=True) as segment:
        segment[1] = value
        before = segment.get_versioned(1)
        with pytest.raises(TypeError, match=f"index 1 is {type(value).__name__}, not an int"):
            segment.add(1, amount)
        assert segment.get_versioned(1) == before and type(segment[1]) is type(value)


@pytest.mark.parametrize("start", [None, 5, 0.5, 2**70])
def test_an_array_of_one_int_without_dimensions_is_an_amount_and_no_other_array_is(seg, start):
    if start is not None:
        seg[1] = start
    for array in (numpy.array(5), numpy.array(2**64 - 1, numpy.uint64)):
        total = (start or 0) + int(array)
        assert seg.add(1, array) == total == seg[1] and type(seg[1]) is type(total)
        start = total
    for wrong in (numpy.array([5]), numpy.array(5.0), numpy.array(True)):
        with pytest.raises(TypeError):
            seg.add(1, wrong)
    assert seg[1] == start


def test_add_keeps_a_time_to_live(seg):
    for index, value in ((1, 5), (2, 2**63 - 1), ("f", 1.5), ("big", 2**3000)):
        seg.put(index, value, ttl=1000)
        for _ in range(3):
            seg.add(index)
        assert 900 < seg.stat(index).expires_in <= 1000 and seg[index] == value + 3


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_number_in_any_pickle_protocol_is_added_to(seg, protocol):
    for value in (0, 5, -1, 300, 70_000, 2**31, 2**40, -(2**40), 2**63 - 1, 2**70, 1.5, -0.25):
        shmvar._core._put_pickle(seg, 1, pickle.dumps(value, protocol))
        assert seg.add(1, 3) == value + 3 == seg[1]
        shmvar._core._put_pickle(seg, 1, pickle.dumps(True, protocol))
        with pytest.raises(TypeError):
            seg.add(1, 3)


# --- totals


UPDATES = {
    "add": "s.add('n')",
    "modify": "s.modify('n', lambda old: old + 1)",
    "modify of a large value": "s.modify('n', lambda old: [old[0] + 1, old[1]])",
    "compare_and_put": """
            while True:
                value, version = s.get_versioned('n')
                if s.compare_and_put('n', version, value + 1): break""",
}


@pytest.mark.parametrize("how", UPDATES)
def test_f53_the_total_is_exact_with_8_processes_of_4_threads(seg, key, how):
    large = "large" in how
    seg["n"] = [0, b"x" * 40_000] if large else 0
    each = 1000 if how == "add" else 30 if large else 100
    code = f"""
    import threading
    s = shmvar.attach(key)
    def work():
        for _ in range({each}):
            {UPDATES[how]}
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    """
    helpers.run_in_processes(code, key, count=8)
    assert (seg["n"][0] if large else seg["n"]) == 32 * each


def test_floats_and_ints_beyond_64_bits_are_added_exactly_by_many_processes(seg, key):
    seg["big"] = 2**63 - 500
    code = "s = shmvar.attach(key)\nfor _ in range(1000):\n  s.add('big'); s.add('half', 0.5)"
    helpers.run_in_processes(code, key, count=3)
    assert seg["big"] == 2**63 + 2500 and seg["half"] == 1500.0
