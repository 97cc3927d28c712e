"""Versions, exchanges, `modify`: changes that depend on what is there."""

import contextlib
import pickle
import threading
import time

import helpers
import numpy
import pytest

import shmvar

INDEXES = [0, -5, 2**63 - 1, "text", "ключ", "k" * 1024]
LONG = 10**9


# --- version


@pytest.mark.parametrize("index", INDEXES)
def test_a_version_is_0_when_missing_and_grows_with_every_change_of_that_index(seg, index):
    assert seg.version(index) == 0
    seen = [0]
    for change in (
        lambda: seg.put(index, 1),
        lambda: seg.put(index, 1),
        lambda: seg.put(index, "long" * 9000),
        lambda: seg.put(index, b"x" * 300_000),
        lambda: seg.put(index, 5, ttl=LONG),
        lambda: seg.add(index),
        lambda: seg.swap(index, 3),
        lambda: seg.modify(index, lambda old: old),
        lambda: seg.compare_and_put(index, seg.version(index), 4),
        lambda: seg.put_many({index: 5}),
        lambda: seg.update({index: 5}),
        lambda: (seg.remove(index), seg.put(index, 6)),
        lambda: (seg.pop(index), seg.setdefault(index, 7)),
        lambda: (seg.clear(), seg.put(index, 8)),
    ):
        change()
        seen.append(seg.version(index))
    assert seen == sorted(set(seen)) and all(type(version) is int for version in seen)
    assert seg.remove(index) and seg.version(index) == 0


def test_what_changes_nothing_leaves_the_version(seg):
    seg[1] = 1
    before = seg.version(1)
    seg[2] = 2
    seg.get(1), seg.view(1), seg.stat(1), seg.get_many([1]), seg.get_versioned(1), seg.setdefault(1, 9)
    assert not seg.compare_and_put(1, before + 1, 5) and not seg.compare_and_put(1, 0, 5)
    with pytest.raises(ZeroDivisionError):
        seg.modify(1, lambda old: 1 // 0)
    with pytest.raises(TypeError):
        seg.add(1, "1")
    with pytest.raises(Exception) as expected:
        pickle.dumps(lambda: None)  # from 3.14 on a PicklingError, before an AttributeError
    with pytest.raises(expected.type):
        seg[1] = lambda: None
    seg.trim()
    seg.resize(5 << 20)
    assert seg.version(1) == before == seg.stat(1).version and seg[1] == 1


def test_a_version_survives_the_growth_of_the_table(seg):
    seg["kept"] = "value"
    version = seg.version("kept")
    for number in range(20_000):
        seg[number] = number
    assert seg.get_versioned("kept") == ("value", version)


def test_versions_never_come_again_after_the_tables_were_rebuilt_for_tombstones(seg):
    seg["it"] = 1
    first = seg.version("it")
    del seg["it"]
    for number in range(5000):
        seg[number] = 1
        del seg[number]
    seg["it"] = 1
    assert seg.version("it") > first


@pytest.mark.parametrize("value", [7, "short", "x" * 5000, b"x" * 400_000, numpy.arange(100_000)])
def test_get_versioned_gives_value_and_version(seg, value):
    seg["i"] = value
    got, version = seg.get_versioned("i")
    assert numpy.array_equal(got, value) and version == seg.version("i") > 0
    with pytest.raises(KeyError, match="missing"):
        seg.get_versioned("missing")


def test_value_and_version_are_from_one_instant(seg, key, children):
    code = """
    s = shmvar.attach(key)
    s["pair"] = [0, b""]
    print("go", flush=True)
    while True:
        version = s.version("pair")
        assert s.compare_and_put("pair", version, [version, b"x" * (version % 3 * 9000)])
    """
    children.append(helpers.start(code, key))
    last, until = 0, time.monotonic() + 2
    with shmvar.attach(key, readonly=True) as reader:
        while time.monotonic() < until:
            for handle in (seg, reader):
                (before, _), version = handle.get_versioned("pair")
                # Stored only where the version was still `before`: no other change of this index came between.
                assert before < version and version >= last
                assert version == last or before >= last
                last = version
    helpers.end(children[0])


# --- compare_and_put, swap


@pytest.mark.parametrize("index", INDEXES)
def test_compare_and_put_stores_only_over_that_version(seg, index):
    assert seg.compare_and_put(index, 0, "first") is True
    assert seg.compare_and_put(index, 0, "second") is False and seg[index] == "first"
    version = seg.version(index)
    assert seg.compare_and_put(index, version, b"y" * 100_000) is True
    assert seg.compare_and_put(index, version, "stale") is False and seg[index] == b"y" * 100_000
    version = seg.version(index)
    seg.remove(index)
    assert seg.compare_and_put(index, version, "gone") is False and index not in seg
    seg[index] = "again"
    assert seg.compare_and_put(index, version, "aba") is False and seg[index] == "again"


def test_compare_and_put_ends_a_time_to_live_as_put_does(seg):
    seg.put(1, 1, ttl=LONG)
    assert seg.compare_and_put(1, seg.version(1), 2) and seg.stat(1).expires_in is None


@pytest.mark.parametrize("version", [-1, 2**64, "1", None, 1.0])
def test_compare_and_put_of_an_impossible_version_stores_nothing(seg, version):
    seg[1] = "old"
    with contextlib.suppress(TypeError, OverflowError, ValueError):
        assert seg.compare_and_put(1, version, "new") is False
    assert seg[1] == "old"


@pytest.mark.parametrize("index", INDEXES)
def test_swap_gives_back_what_was_there(seg, index):
    assert seg.swap(index, [1]) is None and seg[index] == [1]
    assert seg.swap(index, b"z" * 300_000, "unused") == [1]
    assert seg.swap(index, None) == b"z" * 300_000
    assert seg.swap(index, 5, "unused") is None  # the stored None, not the default
    seg.remove(index)
    default = object()
    assert seg.swap(index, 6, default) is default and seg.swap(index, 7, default=1) == 6


def test_swap_hands_each_value_to_one_process(seg, key):
    code = """
    s = shmvar.attach(key)
    me = int(sys.argv[2])
    print(*[s.swap("token", (me, turn)) for turn in range(3000)], sep=";")
    """
    seg["token"] = "first"
    printed = helpers.run_in_processes(code, key, count=3)
    got = [value for text in printed for value in text.strip().split(";")]
    got.append(str(seg["token"]))
    assert sorted(got) == sorted(["first", *(str((me, turn)) for me in range(3) for turn in range(3000))])


# --- modify


def test_modify_stores_and_returns_the_new_value(seg):
    seg["list"] = [1]
    assert seg.modify("list", lambda old: [*old, 2]) == [1, 2] == seg["list"]
    assert seg.modify("list", lambda old: b"x" * 300_000) == b"x" * 300_000 == seg["list"]
    assert seg.modify("list", len) == 300_000 and seg.modify("list", lambda old: None) is None
    assert seg["list"] is None and "list" in seg


def test_modify_of_a_missing_index_is_a_key_error_or_takes_the_default(seg):
    with pytest.raises(KeyError, match="missing"):
        seg.modify("missing", lambda old: pytest.fail("ran"))
    assert "missing" not in seg
    for number, default in enumerate((5, None, [], ...)):
        assert seg.modify(number, lambda old: [old], default) == [default] == seg[number]
        assert seg.modify(number, lambda old: 2, default="unused") == 2
    assert seg[0] == 2


def test_where_the_function_raises_nothing_has_changed(seg):
    seg[1] = [1]

    def spoil(old):
        old.append(2)
        raise KeyboardInterrupt

    before = seg.get_versioned(1)
    with pytest.raises(KeyboardInterrupt):
        seg.modify(1, spoil)
    with pytest.raises((AttributeError, TypeError)):
        seg.modify(1, lambda old: threading.Lock())
    with pytest.raises(ZeroDivisionError):
        seg.modify(2, lambda old: 1 // old, 0)
    assert seg.get_versioned(1) == before and dict(seg) == {1: [1]}


def test_modify_runs_again_when_another_writer_came_between(seg, key):
    seg[1], seen = 10, []
    with shmvar.attach(key) as other:

        def function(old):
            seen.append(old)
            if len(seen) == 1:
                other[1] = 20
            elif len(seen) == 2:
                other.remove(1)
            elif len(seen) == 3:
                other[1] = 40
            return old + 1

        assert seg.modify(1, function, 30) == 41 == seg[1]
    assert seen == [10, 20, 30, 40]


def test_modify_without_default_is_a_key_error_when_it_was_removed_meanwhile(seg):
    seg[1] = 1
    with pytest.raises(KeyError):
        seg.modify(1, lambda old: seg.remove(1))
    assert 1 not in seg


def test_modify_does_not_run_again_for_changes_of_other_indexes(seg):
    seg[1], runs = 1, []

    def function(old):
        runs.append(old)
        for number in range(2, 3000):
            seg[number] = number
        return old + 1

    assert seg.modify(1, function) == 2 and runs == [1]


def test_another_process_changes_the_segment_while_the_function_runs(seg, key):
    seg[1] = "old"

    def function(old):
        code = "s = shmvar.attach(key); s[2] = s[1]; s.add('n'); s.put_many({3: 3}); s[4] = b'x' * 100_000; s.trim()"
        helpers.run(code, key)
        return "new"

    assert seg.modify(1, function) == "new"
    assert seg[2] == "old" and seg["n"] == 1 and seg[3] == 3


def test_modify_keeps_a_time_to_live_and_gives_a_missing_one_none(seg):
    seg.put(1, 1, ttl=1000)
    for new in (2, "x" * 100, b"y" * 300_000, 3):
        seg.modify(1, lambda old, new=new: new)
        assert 900 < seg.stat(1).expires_in <= 1000 and seg[1] == new
    seg.modify(2, lambda old: old, 0)
    assert seg.stat(2).expires_in is None


def test_modify_of_something_not_callable_is_a_type_error(seg):
    seg[1] = 1
    with pytest.raises(TypeError):
        seg.modify(1, 5)
    assert seg[1] == 1


def test_changes_by_a_forked_child_are_seen(seg):
    seg[1] = 5
    helpers.in_child(lambda: (seg.add(1), seg.modify(1, lambda old: old * 2), seg.compare_and_put(2, 0, "child")))
    assert dict(seg) == {1: 12, 2: "child"}


class Unreadable:
    """Is pickled, and cannot be rebuilt."""

    def __reduce__(self):
        return int, ("no number",)


def test_setdefault_that_stores_returns_the_default_itself(seg):
    for value in ([1], {"a": [2]}, b"x" * 100_000, Unreadable()):
        assert seg.setdefault("n", value) is value and seg.version("n")
        if not isinstance(value, Unreadable):
            there = seg.setdefault("n", None)
            assert there == value and there is not value
        seg.remove("n")
