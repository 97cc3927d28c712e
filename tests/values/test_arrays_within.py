"""Arrays within values and of classes that pickle themselves: which are stored beside the pickle, and which not."""

import copyreg
import datetime
import pickle
import threading

import helpers
import numpy as np
import pytest
from helpers.array_kinds import BASE, Finalized, Holder, Plain, assert_alike
from helpers.arrays import MIB

import shmvar


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
