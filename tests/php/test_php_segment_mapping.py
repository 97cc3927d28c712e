"""A segment of PHP's is a mapping: it behaves as a dict does, in the order of its chain."""

import collections
import collections.abc
import operator
from enum import IntEnum

import numpy
import pytest
from helpers import system_v
from helpers.indexes import Indexed
from hypothesis import given
from hypothesis import strategies as st

import shmvar
from shmvar import php

ITEMS = {1: "one", -5: None, 2**63 - 1: 2.5, -(2**63): b"\xff", 0: [0], 7: {"a": [1, 2]}, 2**32: False}


@pytest.fixture
def segment(php_key):
    with php.attach(php_key, 20_000) as made:
        yield made


@pytest.fixture
def full(segment):
    segment.update(ITEMS)
    return segment


def test_it_is_a_mutable_mapping(segment):
    assert isinstance(segment, collections.abc.MutableMapping)
    assert issubclass(php.Segment, collections.abc.Mapping)
    names = [name for name in dir(collections.abc.MutableMapping) if not name.startswith("_")]
    assert all(hasattr(php.Segment, name) for name in names)
    with pytest.raises(TypeError, match=r"opened with shmvar\.php\.attach"):
        php.Segment()
    with pytest.raises(TypeError):
        type("Own", (php.Segment,), {})


def test_it_matches_a_mapping_pattern(full):
    match full:
        case {1: "one", 7: {"a": [1, second]}, **rest}:
            assert second == 2 and set(rest) == set(ITEMS) - {1, 7}
        case _:
            pytest.fail("no match")
    match full:
        case {3: _}:
            pytest.fail("matched")


def test_every_index_of_64_bits_comes_back(full):
    assert dict(full) == ITEMS and list(full) == list(ITEMS) and len(full) == len(ITEMS)
    for index, value in ITEMS.items():
        assert full[index] == value and type(full[index]) is type(value)
        assert index in full and full.has(index)


def test_what_is_replaced_by_another_size_goes_to_the_end_as_in_php(full):
    full[1] = "a longer text than before"
    assert list(full) == [*list(ITEMS)[1:], 1]


def test_iteration_is_a_snapshot_of_its_beginning(full):
    seen = []
    for index in full:
        seen.append(index)
        del full[index]
        full[100 + len(seen)] = 1
    assert seen == list(ITEMS)
    assert list(full) == [101 + number for number in range(len(ITEMS))]


def test_keys_values_and_items_are_views_as_a_dict_has_them(full):
    assert isinstance(full.keys(), collections.abc.KeysView) and isinstance(full.items(), collections.abc.ItemsView)
    assert isinstance(full.values(), collections.abc.ValuesView)
    assert list(full.keys()) == list(ITEMS) and full.keys() == set(ITEMS)
    assert list(full.items()) == list(ITEMS.items()) and list(full.values()) == list(ITEMS.values())
    assert len(full.keys()) == len(full.items()) == len(full.values()) == len(ITEMS)
    assert 1 in full.keys() and (1, "one") in full.items() and "one" in full.values() and "two" not in full.values()  # noqa: SIM118
    assert (1, "two") not in full.items() and (3, 1) not in full.items() and full.keys() & {1, 2} == {1}
    keys = full.keys()
    full[8] = "later"
    assert 8 in keys and len(keys) == len(ITEMS) + 1


def test_items_and_values_pass_over_what_vanishes_meanwhile(full):
    items = iter(full.items())
    assert next(items) == (1, "one")
    full.clear()
    assert list(items) == [] and list(full.values()) == []


def test_equality_is_a_dicts(full, new_php_key):
    assert full == ITEMS and full == ITEMS and full == collections.UserDict(ITEMS)
    assert full == full and full != {1: "one"} and full != 5 and full != [] and full != None  # noqa: E711
    with php.attach(new_php_key()) as other:
        assert other == {} and other != full
        other.update(full)
        assert other == full and full == other
        other[1] = "other"
        assert other != full
    for wrong in (hash, lambda each: operator.lt(each, ITEMS)):
        with pytest.raises(TypeError):
            wrong(full)


def test_it_is_true_when_it_holds_something(segment):
    assert not segment
    segment[1] = None
    assert segment and len(segment) == 1


def test_get_put_has_and_remove_are_the_same_by_name(segment):
    assert segment.put(1, "x") is None and segment.get(1) == "x" and segment.has(1) is True
    assert segment.get(2) is None and segment.get(2, 5) == 5 and segment.get(2, default=6) == 6
    assert segment.get(index=1) == "x" and segment.put(index=1, value="y") is None and segment[1] == "y"
    assert segment.has(2) is False and segment.has(index=1) is True
    assert segment.remove(1) is None and 1 not in segment
    with pytest.raises(KeyError) as caught:
        segment.remove(1)
    assert caught.value.args == (1,)


def test_the_methods_of_a_dict_return_what_a_dict_returns(segment):
    beside = {}
    calls = [
        *(operator.methodcaller("setdefault", number % 3, [number]) for number in range(5)),
        operator.methodcaller("setdefault", 9),
        operator.methodcaller("pop", 0),
        operator.methodcaller("pop", 0, "gone"),
        operator.methodcaller("pop", 0, None),
        operator.methodcaller("pop", 77),
        operator.methodcaller("update", {5: 5, 6: 6}),
        operator.methodcaller("update", [(7, "a"), (8, "b"), (7, "c")]),
        operator.methodcaller("update"),
        operator.methodcaller("popitem"),
        operator.methodcaller("__delitem__", 7),
        operator.methodcaller("__delitem__", 7),
        operator.methodcaller("__contains__", 8),
        operator.methodcaller("clear"),
        operator.methodcaller("popitem"),
        operator.methodcaller("get", 1),
    ]
    for call in calls:
        results = []
        for mapping in (beside, segment):
            try:
                results.append(call(mapping))
            except KeyError as error:
                results.append(("KeyError", *(error.args if error.args[0] in (7, 77) else ())))
        assert results[0] == results[1], call
        assert segment == beside and list(segment.items()) == list(beside.items()), call


def test_update_takes_what_dicts_take(segment, new_php_key):
    class Keyed:
        def keys(self):
            return [1, 2]

        def __getitem__(self, index):
            return index * 10

    segment.update(Keyed())
    segment.update(iter([(3, 30), [4, 40]]))
    segment.update(collections.OrderedDict({5: 50}))
    with php.attach(new_php_key()) as other:
        other[6] = 60
        segment.update(other)
    segment.update(segment)
    assert segment == {number: number * 10 for number in range(1, 7)}
    for wrong, error in [(5, TypeError), ([1], TypeError), ([(1, 2, 3)], ValueError), ({"a": 1}, TypeError)]:
        with pytest.raises(error):
            segment.update(wrong)
    with pytest.raises(TypeError):
        segment.update(a=1)
    assert len(segment) == 6


def test_update_of_what_is_the_same_index_keeps_the_last(segment):
    segment.update([(1, "a"), (True, "b"), (numpy.int64(1), "c"), (Indexed(1), "d"), (2, "e")])
    assert list(segment.items()) == [(1, "d"), (2, "e")]


def test_update_stores_all_or_nothing(segment):
    segment.update({1: 1, 2: "x" * 1000})
    before = segment.copy()
    with pytest.raises(php.SerializeError):
        segment.update({1: 2, 3: 3, 4: object()})
    assert segment == before
    with pytest.raises(shmvar.SegmentFullError) as caught:
        segment.update({1: 2, 3: "a" * 12_000, 4: "b" * 12_000})
    assert caught.value.needed > caught.value.free > 0 and caught.value.size == segment.size
    assert segment == before and list(segment) == list(before)


def test_update_stores_what_fits_only_after_others_have_shrunk(php_key):
    with php.attach(php_key, 10_000) as segment:
        segment.update({1: "x" * 9000, 2: "y"})
        segment.update({2: "y" * 9000, 1: "x"})
        assert segment == {1: "x", 2: "y" * 9000}
        # Nothing larger is there than what it is replaced by, and no room for a second one.
        segment.update({1: "x" * 3, 2: "z" * 9200})
        assert segment == {1: "xxx", 2: "z" * 9200}


@pytest.mark.parametrize(
    "index",
    [True, numpy.int32(1), numpy.uint64(1), Indexed(1), IntEnum("Number", "one").one],
    ids=lambda index: type(index).__name__,
)
def test_whatever_has_an_index_is_one(segment, index):
    segment[index] = "x"
    assert segment[1] == segment[index] == "x" and list(segment) == [1] and type(next(iter(segment))) is int
    assert index in segment and segment.pop(index) == "x"
    with pytest.raises(KeyError) as caught:
        segment[index]
    assert caught.value.args[0] is index


#: They stand for gaps and for values that are not published yet: docs/php.md.
RESERVED = (-(2**63) + 1, -(2**63) + 2)


@pytest.mark.parametrize("index", RESERVED)
def test_a_reserved_index_is_refused(segment, index):
    segment[1] = "old"
    for call in (segment.put, segment.setdefault, segment.__setitem__, lambda *pair: segment.update([pair])):
        with pytest.raises(ValueError, match=str(index)):
            call(index, 1)
    with pytest.raises(ValueError, match=str(index)):
        segment.update({1: "new", index: 2})
    assert segment == {1: "old"} and not segment.has(index) and segment.get(index) is None
    with pytest.raises(KeyError):
        del segment[index]


CALLS = {
    "get": lambda segment, index: segment.get(index),
    "[]": lambda segment, index: segment[index],
    "put": lambda segment, index: segment.put(index, 1),
    "[] =": lambda segment, index: segment.__setitem__(index, 1),
    "del": lambda segment, index: segment.__delitem__(index),
    "in": lambda segment, index: index in segment,
    "has": lambda segment, index: segment.has(index),
    "remove": lambda segment, index: segment.remove(index),
    "pop": lambda segment, index: segment.pop(index, None),
    "setdefault": lambda segment, index: segment.setdefault(index, 1),
    "update": lambda segment, index: segment.update([(index, 1)]),
    "raw": lambda segment, index: segment.raw(index),
    "_get_text": lambda segment, index: segment._get_text(index),
    "_put_text": lambda segment, index: segment._put_text(index, b"N;"),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_wrong_index_is_refused(full, call):
    for wrong in ("1", b"1", 1.0, None, [], (1,), 1j):
        with pytest.raises(TypeError, match=f"an index .* must be an int, not {type(wrong).__name__}"):
            CALLS[call](full, wrong)
    for wrong in (2**63, -(2**63) - 1, 10**40):
        with pytest.raises(OverflowError, match=r"index -?\d+ is outside of -2\*\*63 \.\. 2\*\*63 - 1"):
            CALLS[call](full, wrong)
    assert full == ITEMS


def test_an_index_that_raises_is_not_hidden(full):
    class Raises:
        def __index__(self):
            raise LookupError("own")

    class Lies:
        def __index__(self):
            return "1"

    for call in CALLS.values():
        with pytest.raises(LookupError, match="own"):
            call(full, Raises())
        with pytest.raises(TypeError, match="__index__ returned non-int"):
            call(full, Lies())
    assert full == ITEMS


def test_wrong_numbers_of_arguments_are_refused(segment):
    for call in (
        segment.get,
        segment.put,
        lambda: segment.put(1),
        lambda: segment.put(1, 2, 3),
        lambda: segment.get(1, 2, 3),
        segment.pop,
        lambda: segment.pop(1, 2, 3),
        lambda: segment.popitem(1),
        lambda: segment.setdefault(1, 2, 3),
        lambda: segment.update({}, {}),
        lambda: segment.clear(1),
        lambda: segment.keys(1),
        lambda: segment.info(1),
        lambda: segment.detach(1),
        lambda: segment.destroy(1),
        lambda: segment.has(),
        lambda: segment.has(1, 2),
        lambda: segment._put_text(1, "text"),
        lambda: segment._put_text(1, None),
    ):
        with pytest.raises(TypeError):
            call()
    assert segment == {}
    for name in ("key", "id", "size", "created", "detached", "lock", "strings", "arrays", "other"):
        with pytest.raises(AttributeError):
            setattr(segment, name, 1)


def test_a_copy_is_a_dict_of_independent_values(full):
    got = full.copy()
    assert type(got) is dict and got == ITEMS and list(got) == list(ITEMS)
    got[7]["a"].append(3)
    assert full == ITEMS


def test_what_is_read_is_the_callers_own(segment):
    segment[1] = [1]
    segment[1].append(2)
    assert segment[1] == [1]
    segment[1] += [2]
    assert segment[1] == [1, 2]


def test_raw_is_the_text(segment):
    segment[1] = {"a": [1, None]}
    assert segment.raw(1) == segment._get_text(1) == b'a:1:{s:1:"a";a:2:{i:0;i:1;i:1;N;}}'
    assert php.loads(segment.raw(1)) == segment[1]
    assert segment._get_text(2) is None
    with pytest.raises(KeyError):
        segment.raw(2)
    segment._put_text(2, b"b:1;")
    segment._put_text(3, b"i:5;")
    assert segment[2] is True and segment[3] == 5


def test_options_decide_what_values_become(segment):
    segment.update({1: ["a", b"\xff"], 2: {"k": "v"}})
    again = php.attach(segment.key, strings="bytes")
    assert again[1] == [b"a", b"\xff"] and again.strings == "bytes" and again.arrays == "auto"
    again = php.attach(segment.key, arrays="dict")
    assert again[1] == {0: "a", 1: b"\xff"} and again.arrays == "dict" and again.strings == "auto"
    assert (segment.strings, segment.arrays) == ("auto", "auto") and segment[1] == ["a", b"\xff"]


def test_what_the_segment_holds_is_what_the_format_says(segment):
    segment.update({1: "hi", -7: 42, 3: [True, None]})
    with system_v.RawSegment(segment.key) as raw:
        assert raw.texts() == {1: b's:2:"hi";', -7: b"i:42;", 3: b"a:2:{i:0;b:1;i:1;N;}"}
        assert raw.header == (40, 184, segment.size - 184, segment.size)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=6,
)
INDEXES = st.integers(-2, 4) | st.sampled_from([2**63 - 1, -(2**63)])
STEPS = st.one_of(
    st.tuples(st.just("put"), INDEXES, VALUES),
    st.tuples(st.just("remove"), INDEXES),
    st.tuples(st.just("pop"), INDEXES),
    st.tuples(st.just("setdefault"), INDEXES, VALUES),
    st.tuples(st.just("update"), st.dictionaries(INDEXES, VALUES, max_size=4)),
    st.tuples(st.just("popitem")),
    st.tuples(st.just("get"), INDEXES),
)


def test_a_history_of_calls_leaves_what_it_leaves_in_a_dict():
    key = system_v.unused_key()
    segment = php.attach(key, 4000)

    @given(st.lists(STEPS, max_size=30))
    def run(steps):
        segment.clear()
        beside = {}
        for name, *arguments in steps:
            results = []
            for mapping in (segment, beside):
                if name == "put":
                    results.append(mapping.__setitem__(*arguments))
                elif name == "remove":
                    results.append(mapping.pop(*arguments, None) is None)
                elif name == "popitem":
                    results.append(None)
                elif name == "pop":
                    results.append(mapping.pop(*arguments, "none"))
                else:
                    results.append(getattr(mapping, name)(*arguments))
            if name == "popitem" and beside:
                index, value = segment.popitem()
                assert beside.pop(index) == value
            assert results[0] == results[1], (name, arguments)
            assert segment == beside and len(segment) == len(beside) and set(segment) == set(beside)
        with system_v.RawSegment(key) as raw:
            texts = {index: text for _, index, text in raw.chunks() if index not in RESERVED}
            assert texts == {index: segment.raw(index) for index in beside}
            assert raw.free + raw.end == raw.total

    try:
        run()
    finally:
        segment.destroy()
        segment.detach()
