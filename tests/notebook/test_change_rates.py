"""How often each index changed in the last minute: counts alone, without a segment."""

import sys

import pytest

from shmvar.notebook._rates import HALF, MOST, RECENT, WINDOW, Counts, Rates


def test_each_second_has_its_own_count_and_a_minute_later_it_is_gone():
    counts = Counts(100)
    counts.add(100)
    counts.add(100)
    counts.add(103, 5)
    assert counts.until(103) == [2, 0, 0, 5]
    assert counts.until(105) == [2, 0, 0, 5, 0, 0]
    assert counts.until(100 + WINDOW - 1)[:4] == [2, 0, 0, 5]
    assert counts.until(100 + WINDOW) == [5, *[0] * (WINDOW - 3)]
    assert counts.until(103 + WINDOW) == []


def test_seconds_without_a_look_are_zeros_however_many_they_are():
    counts = Counts(0)
    for second in range(WINDOW):
        counts.add(second, second + 1)
    assert counts.until(WINDOW - 1) == list(range(1, WINDOW + 1))
    counts.add(10**9)
    assert counts.until(10**9) == [1]
    counts.add(10**9 + WINDOW + 7)
    assert counts.until(10**9 + WINDOW + 7) == [1]


def test_what_was_told_and_the_versions_that_were_given_are_counted_apart():
    rates = Rates(0.0)
    for version, index in ((10, "a"), (11, "b"), (20, "a")):
        rates.note(index, version, 1.0)
    assert rates.total.until(1) == [3]
    assert rates.made.until(1) == [1 + 1 + 9]  # of the first it is not known how many came before


def test_a_removal_has_a_version_that_is_counted_once():
    rates = Rates(0.0)
    rates.note("a", 10, 1.0)
    rates.note("a", 0, 1.0)  # its version, 11, is not told
    rates.note("b", 12, 1.0)
    assert rates.total.until(1) == rates.made.until(1) == [3]


def test_a_million_indexes_take_no_more_memory_than_those_that_are_kept():
    rates = Rates(0.0)
    for number in range(20 * MOST):
        rates.note(number, number + 1, 1.0)
    assert len(rates) == MOST
    assert rates.get(0) is None and rates.get(20 * MOST - 1).version == 20 * MOST
    assert sys.getsizeof(rates._busy) < 1 << 18
    assert rates.total.until(1) == [20 * MOST]


def test_the_busiest_comes_first_and_of_the_others_the_latest():
    rates = Rates(0.0)
    version = 0
    for at, index in [(1.0, "early"), *[(2.0, "busy")] * 9, (3.0, "late")]:
        version += 1
        rates.note(index, version, at)
    assert rates.top(2, 3.0) == ["busy", "late"]
    assert rates.top(9, 3.0) == ["busy", "late", "early"]
    for turn in range(3):
        rates.note("late", version + turn + 1, 3.0 + 6 * HALF)
    assert rates.top(1, 3.0 + 6 * HALF) == ["late"]


def test_what_is_shown_stays_while_another_index_is_about_as_busy():
    rates = Rates(0.0)
    for turn in range(20):
        rates.note("shown", 2 * turn + 1, 1.0)
        rates.note("new", 2 * turn + 2, 1.0)
    rates.note("new", 99, 1.0)
    assert rates.top(1, 1.0) == ["new"]
    assert rates.top(1, 1.0, {"shown"}) == ["shown"]


def test_a_removed_index_is_there_for_a_minute():
    rates = Rates(0.0)
    rates.note("gone", 1, 1.0)
    rates.note("gone", 0, 2.0)
    rates.note("there", 3, 2.0)
    assert set(rates.top(9, 2.0 + WINDOW - 1)) == {"gone", "there"}
    assert rates.top(9, 2.0 + WINDOW) == ["there"]


def test_only_what_is_told_at_each_look_with_versions_missing_may_have_changed_more_often():
    rates = Rates(0.0)
    version = 0
    for turn in range(50):
        version += 100  # the others are of "fast", which a look finds changed once
        rates.note("fast", version, turn * 0.02)
        if turn % 25 == 0:
            version += 1
            rates.note("slow", version, turn * 0.02)
    assert rates.get("fast").at_least_until > 49 * 0.02
    assert rates.get("slow").at_least_until == 0.0
    assert rates.get("fast").at_least_until <= 49 * 0.02 + RECENT


@pytest.mark.parametrize("indexes", [["a"], ["a", "b", "c"]], ids=["one", "three"])
def test_where_each_version_was_told_the_counts_are_exact(indexes):
    rates = Rates(0.0)
    for version in range(1, 301):
        rates.note(indexes[version % len(indexes)], version, version / 100)
    assert all(rates.get(index).at_least_until == 0.0 for index in indexes)
    assert sum(rates.made.until(3)) == sum(rates.total.until(3)) == 300
