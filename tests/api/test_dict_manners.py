"""Copies of a segment, `|`, `|=`, `keys(prefix)`: as a dict has them, also while variables vanish."""

import collections
import copy
import threading
import time
import types

import helpers
import numpy
import pytest
from helpers.indexes import Indexed

import shmvar


@pytest.fixture
def other(new_key):
    with shmvar.attach(new_key()) as segment:
        yield segment
        segment.destroy()


@pytest.fixture
def vanishing(seg):
    """A segment of which some variables vanish all the time, between the listing of indexes and the reading."""
    stop = threading.Event()

    def put_and_remove():
        number = 0
        while not stop.is_set():
            number += 1
            seg.put(number, number, ttl=0.0005)
            seg[f"text {number % 50}"] = number
            seg.remove(f"text {(number + 25) % 50}")

    writer = threading.Thread(target=put_and_remove)
    writer.start()
    yield seg
    stop.set()
    writer.join()


#: Each reads all of the segment, with another one or a dict beside it.
READS = {
    "update": lambda seg, other: other.update(seg),
    "update of itself": lambda seg, other: seg.update(seg),
    "put_many": lambda seg, other: other.put_many(seg),
    "copy": lambda seg, other: seg.copy(),
    "|": lambda seg, other: seg | {1: 1},
    "| of segments": lambda seg, other: other | seg,
    "dict |": lambda seg, other: {1: 1} | seg,
    "|=": lambda seg, other: other.__ior__(seg),
    "==": lambda seg, other: other == seg,
    "== of a dict": lambda seg, other: seg == {1: 1},
}


@pytest.mark.parametrize("how", READS)
def test_what_vanishes_meanwhile_is_left_out(vanishing, other, how):
    end = time.monotonic() + 1
    while time.monotonic() < end:
        READS[how](vanishing, other)
        other.clear()


@pytest.mark.parametrize("how", READS)
def test_a_variable_that_was_listed_and_is_gone_is_left_out(seg, other, how):
    class Removes:
        """Removes another variable while it is unpickled, so one that was listed before is gone for certain."""

        def __init__(self, key):
            self.key = key

        def __reduce__(self):
            return _remove_rest, (self.key,)

    seg.update({number: Removes(seg.key) for number in range(4)})
    READS[how](seg, other)
    assert len(seg) == (how == "update of itself")


def _remove_rest(key):
    with shmvar.attach(key, create=False) as again:
        again.clear()
    return "one"


def test_an_error_of_another_mapping_comes_through(seg):
    class Lies(collections.UserDict):
        def __getitem__(self, index):
            raise KeyError(index)

    with pytest.raises(KeyError, match="7"):
        seg.update(Lies({7: 7}))
    with pytest.raises(KeyError, match="7"):
        seg | Lies({7: 7})


def test_a_value_that_cannot_be_read_is_an_error_of_the_copy(key, seg, other):
    seg.update({1: 1, 2: types.SimpleNamespace(a=1)})
    with shmvar.attach(key, trust=False) as untrusted:
        for call in (untrusted.copy, lambda: other.update(untrusted), lambda: untrusted | {}, lambda: {} | untrusted):
            with pytest.raises(shmvar.UntrustedValueError):
                call()
    assert len(other) == 0


# --- copy


def test_copy_is_a_dict_of_independent_values(seg):
    items = {1: [1], "text": {"a": 1}, -5: None, "array": numpy.arange(100_000)}
    seg.update(items)
    got = seg.copy()
    assert type(got) is dict and set(map(type, got)) == {int, str}
    assert got.pop("array").tolist() == items["array"].tolist()
    got[1].append(2)
    got["new"] = 1
    assert got == {1: [1, 2], "text": {"a": 1}, -5: None, "new": 1} and seg[1] == [1] and "new" not in seg
    seg.clear()
    assert got[1] == [1, 2] and seg.copy() == {}


def test_copy_of_a_detached_or_readonly_handle(seg, key):
    seg[1] = 1
    with shmvar.attach(key, readonly=True) as readonly:
        assert readonly.copy() == {1: 1} == readonly | {} == {} | readonly
    for call in (readonly.copy, lambda: readonly | {}, lambda: {} | readonly, lambda: seg.update(readonly)):
        with pytest.raises(shmvar.DetachedError):
            call()


def test_copy_copy_is_another_handle_on_the_same_segment(seg):
    for again in (copy.copy(seg), copy.deepcopy(seg)):
        with again:
            again[1] = "seen"
            assert type(again) is shmvar.Segment and seg.pop(1) == "seen"
        assert not seg.detached


# --- |


def test_or_gives_a_dict_of_both_and_the_right_one_wins(seg, other):
    seg.update({1: "ours", "x": "ours"})
    other.update({1: "other", "y": "other"})
    for theirs in (other, {1: "other", "y": "other"}, types.MappingProxyType({1: "other", "y": "other"})):
        assert type(seg | theirs) is dict and seg | theirs == {1: "other", "x": "ours", "y": "other"}
        assert type(theirs | seg) is dict and theirs | seg == {1: "ours", "x": "ours", "y": "other"}
    assert list({3: 0, "x": 0} | seg)[:2] == [3, "x"]
    assert seg.copy() == {1: "ours", "x": "ours"} and other.copy() == {1: "other", "y": "other"}


def test_or_does_not_change_the_dict(seg):
    seg[1] = "ours"
    plain = {1: "dict", 2.5: "any key", (1, 2): "of a dict"}
    assert plain | seg == {1: "ours", 2.5: "any key", (1, 2): "of a dict"}
    assert seg | plain == plain and plain[1] == "dict" and len(plain) == 3
    ordered = collections.OrderedDict(plain)
    assert ordered | seg == {1: "ours", 2.5: "any key", (1, 2): "of a dict"} and ordered == plain


@pytest.mark.parametrize("wrong", [5, None, [(1, 1)], "text", {1, 2}, iter(())], ids=lambda wrong: type(wrong).__name__)
def test_or_with_what_is_no_mapping_is_a_type_error_as_of_dict(seg, wrong):
    for call in (lambda one: one | wrong, lambda one: wrong | one):
        with pytest.raises(TypeError):
            call({})
        with pytest.raises(TypeError):
            call(seg)


class Answers:
    def __or__(self, other):
        return "left"

    def __ror__(self, other):
        return "right"


def test_or_lets_another_class_answer(seg):
    assert (seg | Answers(), Answers() | seg) == ("right", "left")


def test_ior_is_put_many_and_the_segment_stays_itself(seg, key, other):
    same = seg
    seg |= {1: 1, "x": b"x" * 100_000}
    assert seg is same and type(seg) is shmvar.Segment
    seg |= [(2, "two"), (Indexed(3), "three")]
    other[4] = "four"
    seg |= other
    assert seg.copy() == {1: 1, "x": b"x" * 100_000, 2: "two", 3: "three", 4: "four"}
    before = seg.version(1), len(seg)
    for wrong in (5, [1], {1: 5, 2.5: 1}, {1: 5, "new": b"x" * (seg.size + 1)}):
        with pytest.raises((TypeError, shmvar.SegmentFullError)):
            seg |= wrong
    assert (seg.version(1), len(seg)) == before and seg is same
    with shmvar.attach(key, readonly=True) as readonly, pytest.raises(shmvar.ReadOnlyError):
        readonly |= {1: 2}


def test_ior_is_one_instant(seg, key, children):
    code = """
    segment, number = shmvar.attach(key), 0
    print("go", flush=True)
    while True:
        number += 1
        segment |= dict.fromkeys("abc", number)
    """
    children.append(helpers.start(code, key))
    end, seen = time.monotonic() + 1, set()
    while time.monotonic() < end or len(seen) < 3:
        values = set(seg.get_many(["a", "b", "c"]).values())
        assert len(values) <= 1
        seen |= values


# --- keys


def test_keys_with_a_prefix_are_the_texts_that_begin_with_it(seg):
    seg.update(dict.fromkeys(["user:1", "user:2", "user", "users", "", "é", "éa", "e", 5, -5, 0], 1))
    seg["user:é" + "x" * 1000] = 1
    assert set(seg.keys("user:")) == {"user:1", "user:2", "user:é" + "x" * 1000}
    assert set(seg.keys(prefix="é")) == {"é", "éa"}
    assert set(seg.keys("")) == set(seg.keys()) - {5, -5, 0}
    assert set(seg.keys(None)) == set(seg.keys()) == set(seg)
    assert list(seg.keys("none")) == list(seg.keys("x" * 2000)) == []


def test_keys_with_a_prefix_are_a_view_as_keys_are(seg):
    keys = seg.keys("a")
    assert isinstance(keys, collections.abc.KeysView) and len(keys) == 0 and not keys
    seg.update({"a1": 1, "a2": 1, "b": 1, 1: 1})
    assert len(keys) == 2 and "a1" in keys and "b" not in keys and 1 not in keys and "a3" not in keys
    assert object() not in keys and 1.5 not in keys
    assert keys & {"a1", "b"} == {"a1"} and keys | {"c"} == {"a1", "a2", "c"} and keys == {"a1", "a2"}
    assert keys - {"a1"} == {"a2"} and keys.isdisjoint({"b", 1}) and keys <= {"a1", "a2", "b"}
    assert "'a'" in repr(keys) and repr(seg.key) in repr(keys)
    for index in keys:
        del seg[index]
    assert seg.copy() == {"b": 1, 1: 1}


@pytest.mark.parametrize("wrong", [5, b"a", ["a"], 1.5, ("a", "b")], ids=repr)
def test_a_prefix_of_another_type_is_refused_at_once(seg, wrong):
    with pytest.raises(TypeError, match=r"prefix must be a str or None, not"):
        seg.keys(wrong)


# --- get_many


def test_get_many_of_one_text_is_refused_with_what_to_write(seg):
    seg.update({"ab": 1, "a": 2, "b": 3})

    class Text(str):
        pass

    for wrong in ("ab", "", Text("ab"), "x" * 5000):
        with pytest.raises(TypeError, match=r"get_many\(\[index\]\)"):
            seg.get_many(wrong)
    assert seg.get_many(["ab"]) == {"ab": 1} and seg.get_many(("a", "b")) == {"a": 2, "b": 3}
    assert seg.get_many(iter("ab")) == {"a": 2, "b": 3}
