"""What displays show of variables: nothing that is stored runs code for it, not in a trusted segment either."""

import collections
import os
import pickle
import time

import pytest

import shmvar
from shmvar import _preview
from shmvar._core import _decode_data_only

RAN = []


class Runs:
    def __reduce__(self):
        return (RAN.append, (1,))


class Own:
    def __repr__(self):
        RAN.append(2)
        return "own"


@pytest.fixture(autouse=True)
def nothing_ran():
    RAN.clear()
    yield
    assert not RAN


def texts(segment, **options):
    return {
        row["index"]: row["repr"] for row in _preview.variables(segment, sorted(segment, key=_preview.order), **options)
    }


def test_no_code_of_a_value_runs_though_the_segment_is_trusted(seg):
    assert seg.trusted
    seg.update({1: Runs(), 2: Own(), 3: [Own()], 4: [1, "a"], 5: os.getcwd})
    assert texts(seg) == {1: None, 2: None, 3: None, 4: "[1, 'a']", 5: None}
    kinds = {row["index"]: row["type"] for row in _preview.variables(seg, seg)}
    assert "Own" in kinds[2] and kinds[4] == "list"


def test_a_text_is_short_and_a_large_value_is_not_read(seg, monkeypatch):
    seg.update({1: "x" * 60_000, 2: b"y" * 70_000, 3: list(range(1000)), 4: 10**30_000, 5: {"a": [[[[[1]]]]]}})
    for width in (5, 20, 60):
        shown = texts(seg, width=width)
        assert shown.pop(2) is None and all(len(text) <= width for text in shown.values())
    read = []
    monkeypatch.setattr(_preview, "_get_pickle", lambda _segment, index: read.append(index))
    list(_preview.variables(seg, seg))
    assert sorted(read) == [1, 3, 4, 5]


def test_facts_of_each(seg):
    seg.put("a", 1, ttl=1000)
    seg.array("b", (2, 3), "f4")
    rows = {row["index"]: row for row in _preview.variables(seg, ["a", "b", "gone"])}
    assert list(rows) == ["a", "b"] and tuple(rows["a"]) == _preview.VARIABLE_FIELDS
    assert rows["a"]["expires_in"] > 900 and rows["a"]["repr"] == "1" and not rows["a"]["in_place"]
    assert rows["b"]["in_place"] and (rows["b"]["dtype"], rows["b"]["shape"]) == ("<f4", [2, 3])


def test_ints_that_collide_take_a_preview_some_milliseconds_and_not_seconds():
    # Multiples of 2^61 - 1 have the hash 0, each of them.
    chosen = {n * (2**61 - 1): None for n in range(4_000)}
    data = pickle.dumps(chosen)
    before = time.thread_time()
    with pytest.raises(pickle.UnpicklingError, match="processor time"):
        _decode_data_only(data, preview=True)
    spent = time.thread_time() - before
    before = time.thread_time()
    _decode_data_only(data)
    assert spent < (time.thread_time() - before) / 2


@pytest.mark.parametrize("count", [1, 10, 100])
def test_the_first_of_many(seg, count):
    seg.update({index: 1 for n in range(300) for index in (n, f"t{n}")})
    indexes, there, _ = _preview.first(seg, count)
    assert there == 600 and len(indexes) == count == len(set(indexes)) and set(indexes) <= set(seg)
    assert indexes == sorted(indexes, key=_preview.order)
    assert _preview.first(seg, 1000) == (sorted(seg, key=_preview.order), 600, 0)


def test_the_first_of_many_do_not_read_the_others(seg, monkeypatch):
    seg.update({n: n for n in range(5_000)})
    seg.put("short", 1, ttl=1e-9)
    monkeypatch.setattr(shmvar.Segment, "__len__", None, raising=False)
    time.sleep(0.01)
    indexes, there, _ = _preview.first(seg, 6_000)
    assert len(indexes) == there == 5_000  # what has expired is not shown
    assert _preview.first(seg, 10)[1] >= 5_000


def test_a_dict_has_the_order_in_which_it_was_stored(seg):
    seg.update({1: {"zeta": 1, "alpha": {2: 3, 1: {}}}, 2: dict.fromkeys("fedcba"), 3: {}, 4: [[[{2: 1}]]]})
    few = "{'f': None, 'e': None, 'd': None, 'c': None, ...}"
    assert texts(seg) == {1: "{'zeta': 1, 'alpha': {2: 3, 1: {}}}", 2: few, 3: "{}", 4: "[[[{...}]]]"}


def test_a_set_is_sorted_because_it_has_no_order(seg):
    seg.update({1: {"b", "a", "c"}, 2: frozenset(["b", "a"]), 3: {"b", 1}})
    shown = texts(seg)
    assert shown.pop(3) in ("{'b', 1}", "{1, 'b'}") and shown == {1: "{'a', 'b', 'c'}", 2: "frozenset({'a', 'b'})"}


def test_a_deque_says_how_long_it_may_get(seg):
    for value in (collections.deque([1, 2], 5), collections.deque(maxlen=0), collections.deque([1])):
        seg[1] = value
        assert texts(seg) == {1: repr(value)}
    seg.update({1: [[[collections.deque([1], 3)]]], 2: collections.deque(range(9), 20)})
    assert texts(seg) == {1: "[[[deque([...], maxlen=3)]]]", 2: "deque([0, 1, 2, 3, 4, 5, ...], maxlen=20)"}
