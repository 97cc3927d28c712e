"""A segment is a mapping: it behaves as a dict does."""

import collections.abc
import operator

import helpers
import numpy as np
import pytest
from helpers.indexes import Indexed

import shmvar

ITEMS = {
    1: "one",
    -5: None,
    2**63 - 1: 2.5,
    -(2**63): b"min",
    0: [0],
    "": "empty",
    "text": {"a": (1, 2)},
    "x\x00y": False,
}


class Text(str):
    pass


@pytest.fixture
def full(seg):
    seg.update(ITEMS)
    return seg


def test_a_segment_is_a_mutable_mapping(seg):
    assert isinstance(seg, collections.abc.MutableMapping) and issubclass(shmvar.Segment, collections.abc.Mapping)
    assert all(
        hasattr(shmvar.Segment, name) for name in dir(collections.abc.MutableMapping) if not name.startswith("_")
    )
    with pytest.raises(TypeError):
        shmvar.Segment()


def test_a_segment_matches_a_mapping_pattern(full):
    match full:
        case {1: "one", "text": {"a": (1, second)}}:
            assert second == 2
        case _:
            pytest.fail("no match")
    match full:
        case {"missing": _}:
            pytest.fail("matched")
        case {0: [zero], **rest}:
            assert zero == 0 and set(rest) == set(ITEMS) - {0}


def test_f47_every_index_of_64_bits_and_every_text_round_trips(full):
    assert dict(full) == ITEMS and len(full) == len(ITEMS)
    for index, value in ITEMS.items():
        assert full[index] == value and type(full[index]) is type(value)
        assert index in full and full.has(index)


def test_iteration_is_a_snapshot_of_its_beginning(full):
    seen = []
    for index in full:
        seen.append(index)
        del full[index]
        full[f"new{len(seen)}"] = 1
    assert set(seen) == set(ITEMS) and len(seen) == len(ITEMS)
    assert set(full) == {f"new{n}" for n in range(1, len(seen) + 1)}


def test_keys_values_and_items_are_views_as_a_dict_has_them(full):
    assert isinstance(full.keys(), collections.abc.KeysView) and isinstance(full.items(), collections.abc.ItemsView)
    assert isinstance(full.values(), collections.abc.ValuesView)
    assert set(full.keys()) == set(ITEMS) == full.keys() and len(full.items()) == len(ITEMS) == len(full.values())
    assert dict(full.items()) == ITEMS
    assert sorted(map(repr, full.values())) == sorted(map(repr, ITEMS.values()))
    keys = full.keys()
    assert 1 in keys and (1, "one") in full.items() and "one" in full.values() and "none" not in full.values()
    assert (1, "two") not in full.items() and ("no", 1) not in full.items()
    assert full.keys() & {1, 2} == {1}
    keys = full.keys()
    full["later"] = 1
    assert "later" in keys and len(keys) == len(ITEMS) + 1


@pytest.mark.parametrize("other", [1.5, None, (1,), [], b"x", 2**63, -(2**63) - 1, "x" * 1025, "\udc00"], ids=repr)
def test_views_say_that_what_is_no_index_is_not_in_them(full, other):
    keys, items = full.keys(), full.items()
    assert other not in keys and (other, 1) not in items and other not in full.keys("")
    assert keys.isdisjoint([other])
    with pytest.raises((TypeError, OverflowError, UnicodeEncodeError)):
        assert other not in full
    if not isinstance(other, list):
        known = next(iter(full))
        assert keys & {other, known} == {known} and {other, known} - keys == {other} and keys != {other}


def test_items_that_are_no_pairs_are_not_in_a_view(full):
    for wrong in (5, (), (1,), (1, 2, 3), "ab", [next(iter(full)), next(iter(full.values()))]):
        assert wrong not in full.items()


def test_items_and_values_pass_over_what_vanishes_meanwhile(full):
    items = iter(full.items())
    first = next(items)
    full.clear()
    assert first[0] in ITEMS and list(items) == [] and list(full.values()) == []


def test_equality_is_a_dicts(full, new_key):
    assert full == ITEMS and full == ITEMS
    assert full == full and full != {1: "one"} and full != 5 and full != []
    with shmvar.attach(new_key()) as other:
        assert other == {} and other != full
        other.update(full)
        assert other == full and full == other
        other[1] = "other"
        assert other != full
    with pytest.raises(TypeError):
        hash(full)
    with pytest.raises(TypeError):
        operator.lt(full, ITEMS)


def test_a_segment_is_true_when_it_holds_something(seg):
    assert not seg
    seg[1] = None
    assert seg and len(seg) == 1


def test_get_put_has_remove_are_the_same_by_name(seg):
    assert seg.put(1, "x") is None and seg.get(1) == "x" and seg.has(1) is True
    assert seg.get(2) is None and seg.get(2, 5) == 5 and seg.get(2, default=6) == 6 and seg.has(2) is False
    assert seg.remove(1) is True and seg.remove(1) is False and 1 not in seg


def test_f49_a_missing_index_is_a_key_error_with_the_index_itself(seg):
    seg.update({1: None, 2: False})
    assert seg[1] is None and seg[2] is False and seg.get(1, "default") is None and seg.has(1)
    for missing in (3, -1, "text", "", 2**63 - 1, "é" * 500):
        for call in (seg.__getitem__, seg.__delitem__, seg.pop, seg.stat):
            with pytest.raises(KeyError) as caught:
                call(missing)
            assert caught.value.args == (missing,)
    assert len(seg) == 2


def test_pop_gives_and_removes(full):
    assert full.pop(1) == "one" and 1 not in full and full.pop(1, "gone") == "gone" and full.pop(1, None) is None
    assert full.pop(-5, "default") is None and -5 not in full
    with pytest.raises(TypeError):
        full.pop()
    with pytest.raises(TypeError):
        full.pop(1, 2, 3)


def test_popitem_empties_the_segment_one_by_one(full):
    popped = dict(full.popitem() for _ in range(len(ITEMS)))
    assert popped == ITEMS and len(full) == 0
    with pytest.raises(KeyError):
        full.popitem()


def test_setdefault_stores_only_what_is_missing(seg):
    assert seg.setdefault(1, [1]) == [1] and seg.setdefault(1, [2]) == [1] and seg[1] == [1]
    assert seg.setdefault(2) is None and 2 in seg and seg.setdefault(2, 5) is None


def test_update_takes_what_a_dict_takes(seg):
    class Keyed:
        def keys(self):
            return iter([7, 8])

        def __getitem__(self, index):
            return index * 2

    seg.update({1: 1, "a": 2})
    seg.update([(2, "two"), ["b", "bee"]])
    seg.update(iter([(3, 3)]), c=4)
    seg.update(d=5)
    seg.update()
    seg.update(Keyed())
    assert dict(seg) == {1: 1, "a": 2, 2: "two", "b": "bee", 3: 3, "c": 4, "d": 5, 7: 14, 8: 16}
    for wrong in (5, [5], [(1, 2, 3)], [(1,)]):
        with pytest.raises((TypeError, ValueError)) as ours:
            seg.update(wrong)
        with pytest.raises((TypeError, ValueError)) as dicts:
            {}.update(wrong)
        assert ours.type is dicts.type


def test_clear_empties_and_gives_the_room_back(full):
    assert full.clear() is None
    assert len(full) == 0 and dict(full) == {} and full.info().used == 0 and full.info().count == 0
    full.clear()


def test_a_value_is_independent_of_the_stored_one(seg):
    original = [1, {"a": [2]}]
    seg[1] = original
    original[1]["a"].append(3)
    got = seg[1]
    got.append("mine")
    assert seg[1] == [1, {"a": [2]}] and seg[1] is not seg[1]


# --- indexes

WRONG = [None, 1.0, b"bytes", (1,), [1], object(), 1j, float("nan")]
RANGE = [2**63, -(2**63) - 1, 2**64, 10**30, "x" * 1025, "é" * 513]


def calls(segment, index):
    return [
        lambda: segment[index],
        lambda: segment.__setitem__(index, 1),
        lambda: segment.__delitem__(index),
        lambda: index in segment,
        lambda: segment.put(index, 1),
        lambda: segment.get(index),
        lambda: segment.get(index, 5),
        lambda: segment.has(index),
        lambda: segment.remove(index),
        lambda: segment.pop(index),
        lambda: segment.pop(index, None),
        lambda: segment.setdefault(index, 1),
        lambda: segment.update([(index, 1)]),
        lambda: segment.stat(index),
    ]


@pytest.mark.parametrize("index", WRONG, ids=lambda index: type(index).__name__)
def test_f44_an_index_of_another_type_is_a_type_error_in_every_call(seg, index):
    for call in calls(seg, index):
        with pytest.raises(TypeError):
            call()
    assert len(seg) == 0


@pytest.mark.parametrize("index", RANGE, ids=lambda index: repr(index)[:20])
def test_f45_an_index_out_of_range_is_an_overflow_error_in_every_call(seg, index):
    for call in calls(seg, index):
        with pytest.raises(OverflowError):
            call()
    assert len(seg) == 0


def test_an_index_that_is_no_text_is_a_unicode_error_in_every_call(seg):
    for call in calls(seg, "\ud800"):
        with pytest.raises(UnicodeError):
            call()


def test_f44_whatever_has_an_index_is_that_integer_in_every_call(seg):
    for same in (5, np.int64(5), np.uint8(5), Indexed(5)):
        for call in calls(seg, same):
            seg[5] = "five"
            call()
        seg[same] = "stored"
        assert seg[5] == "stored" and seg[same] == "stored"
        assert seg.pop(same) == "stored" and list(seg) == []
    seg[True] = "true"
    assert seg[1] == "true" and list(map(type, seg)) == [int]
    seg[Text("t")] = 1
    assert seg["t"] == 1 and set(map(type, seg)) == {int, str}


def test_an_error_inside_index_comes_through_or_is_a_type_error(seg):
    class Bad:
        def __index__(self):
            raise ZeroDivisionError

    for call in calls(seg, Bad()):
        with pytest.raises((ZeroDivisionError, TypeError)):
            call()


def test_integers_and_their_digits_are_different_indexes(seg):
    seg.update({5: "int", "5": "str", -5: "neg", "-5": "text", 0: "zero", "": "none"})
    assert (seg[5], seg["5"], seg[-5], seg["-5"], seg[0], seg[""]) == ("int", "str", "neg", "text", "zero", "none")


def test_an_index_of_1024_bytes_is_one_and_all_its_prefixes_are_others(seg):
    texts = ["x" * n for n in (0, 1, 13, 14, 15, 100, 1023, 1024)] + ["é" * 512, "😀" * 256, "é" * 256 + "x" * 512]
    for text in texts:
        seg[text] = text
    assert {text: seg[text] for text in texts} == {text: text for text in texts} == dict(seg)
    for text in texts:
        seg[text] = 1
    assert set(seg.values()) == {1} and len(seg) == len(texts)


def test_ten_thousand_indexes_of_both_kinds_agree_with_a_dict(seg):
    model = {}
    for number in range(10_000):
        for index in (number * 7919 - 5000, f"index {number % 3000}"):
            model[index] = seg[index] = number
        if number % 3 == 0:
            gone = (number // 2) * 7919 - 5000
            assert (seg.pop(gone, None), seg.has(gone)) == (model.pop(gone, None), False)
    assert dict(seg) == model and len(seg) == len(model) == seg.check().variables
    assert seg.info().count == len(model)


def test_another_process_sees_the_same_mapping(full, key):
    code = """
    segment = shmvar.attach(key, create=False)
    print(sorted(map(repr, segment.items())))
    segment["from child"] = {"pid": os.getpid()}
    del segment[1]
    """
    done = helpers.run(code, key)
    assert done.stdout.strip() == repr(sorted(map(repr, ITEMS.items())))
    assert full["from child"]["pid"] > 0 and 1 not in full
