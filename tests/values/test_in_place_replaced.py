"""What is written in place is replaced and removed like any variable, and may stay beside what expires."""

import helpers
import numpy as np
import pytest
from helpers.in_place import is_a_copy, is_plain

import shmvar


@pytest.fixture
def field(seg):
    """Four numbers under the index "field"."""
    made = seg.array("field", initial=np.arange(4.0))
    yield made
    assert np.array_equal(made[:2], [0, 1]), "somebody else wrote to its memory"


# --- replacing and removing


def replaced(seg, value):
    """Each way to replace the variable "field" by `value`; some return what they were given of it."""

    def versioned():
        got, version = seg.get_versioned("field")
        assert seg.compare_and_put("field", version, value)
        return got

    def modified():
        seen = []
        seg.modify("field", lambda old: (seen.append(old), value)[1])
        return seen[0]

    return {
        "[]=": lambda: seg.__setitem__("field", value),
        "put": lambda: seg.put("field", value),
        "put_many": lambda: seg.put_many({"field": value, "beside": 1}),
        "put many": lambda: seg.put_many({"field": value} | {n: n for n in range(100)}),
        "update": lambda: seg.update(field=value),
        "swap": lambda: seg.swap("field", value),
        "compare_and_put": versioned,
        "modify": modified,
    }


@pytest.mark.parametrize("value", [5, "x" * 100, np.arange(30_000.0)], ids=["number", "text", "array"])
@pytest.mark.parametrize("how", replaced(None, None))
def test_what_stores_a_value_replaces_it_and_who_holds_the_old_one_keeps_it(seg, field, how, value):
    version = seg.version("field")
    got = replaced(seg, value)[how]()
    if got is not None:
        assert type(got) is np.ndarray and got.tolist() == [0, 1, 2, 3]
        got[:] = -1
    assert seg.version("field") > version
    is_plain(seg)
    field[2:] = 8, 9
    assert np.array_equal(seg["field"], value) and field.tolist() == [0, 1, 8, 9]
    assert seg.info().held > 0
    seg.remove("field")
    anew = seg.array("field", 4)
    anew[:] = 6
    assert field.tolist() == [0, 1, 8, 9] and seg["field"].tolist() == [6] * 4


def test_adding_in_python_replaces_it_by_the_sum(seg, field):
    seg["field"] += 1
    is_plain(seg)
    assert seg["field"].tolist() == [1, 2, 3, 4] and field.tolist() == [0, 1, 2, 3]


def test_it_may_be_stored_as_any_array_and_is_copied(seg, field):
    seg["copy"] = field
    seg.put_many({"many": field, "raw": seg.buffer("bytes", 3)})
    seg["in a list"] = [field, seg.view("field")]
    field[3] = 7
    assert seg["copy"].tolist() == [0, 1, 2, 3] == seg["many"].tolist() == seg["in a list"][1].tolist()
    assert not any(seg.stat(index).in_place for index in ("copy", "many", "raw", "in a list"))
    seg["field"] = field
    assert seg["field"].tolist() == [0, 1, 2, 7]
    is_plain(seg)


def test_a_batch_that_names_it_twice_or_fails_is_as_ever(key):
    with shmvar.attach(key, 100_000) as segment:
        field = segment.array("field", 3)
        field[:] = 5
        with pytest.raises(shmvar.SegmentFullError):
            segment.put_many({"field": 1, "large": b"x" * 200_000})
        assert segment.array("field").tolist() == [5, 5, 5] and len(segment) == 1
        segment.put_many([("field", 1), ("field", 2)])
        assert segment["field"] == 2 and field.tolist() == [5, 5, 5]
        segment.check()


def test_add_takes_no_array(seg, field):
    for amount in (1, 0.5):
        with pytest.raises(TypeError):
            seg.add("field", amount)
    assert seg.stat("field").in_place and field.tolist() == [0, 1, 2, 3]


def test_setdefault_leaves_it_and_makes_a_plain_one_where_it_is_missing(seg, field):
    is_a_copy(seg, seg.setdefault("field", 5))
    assert seg.stat("field").in_place
    seg.remove("field")
    assert seg.setdefault("field", 5) == 5
    is_plain(seg)


def test_a_write_in_place_is_no_change_for_compare_and_put_and_a_touch_is(seg, field):
    _, version = seg.get_versioned("field")
    field[3] = 9
    touched = seg.touch("field")
    assert not seg.compare_and_put("field", version, 0)
    field[3] = 3
    assert seg.compare_and_put("field", touched, 0) and seg["field"] == 0


def test_a_touch_while_modify_runs_makes_it_run_again(seg, field):
    calls = []

    def function(old):
        calls.append(old.tolist())
        if len(calls) == 1:
            field[3] = 7
            seg.touch("field")
        return old * 2

    assert seg.modify("field", function).tolist() == [0, 2, 4, 14]
    assert calls == [[0, 1, 2, 3], [0, 1, 2, 7]]
    is_plain(seg)


ENDS = {
    "remove": lambda seg: seg.remove("field") and None,
    "del": lambda seg: seg.__delitem__("field"),
    "pop": lambda seg: seg.pop("field"),
    "pop with default": lambda seg: seg.pop("field", None),
    "popitem": lambda seg: seg.popitem()[1],
    "clear": lambda seg: seg.clear(),
}


@pytest.mark.parametrize("how", ENDS)
def test_removed_it_is_gone_and_who_holds_it_keeps_it(seg, field, how):
    version = seg.version("field")
    got = ENDS[how](seg)
    if got is not None:
        is_a_copy(seg, got)
    assert "field" not in seg and len(seg) == 0 and seg.info().used == 0 and seg.version("field") == 0
    assert seg.touch("field") == 0
    with pytest.raises(KeyError):
        seg.array("field")
    field[3] = 5
    anew = seg.array("field", 2, "i4")
    anew[:] = 1
    assert field.tolist() == [0, 1, 2, 5] and seg.version("field") > version


def test_what_is_removed_may_be_made_as_another_kind(seg):
    for _ in range(30):
        field = seg.array(1, (3, 4), "f4", initial=2)
        assert field.sum() == 24 and seg.remove(1)
        raw = seg.buffer(1, 48)
        assert raw == bytes(48), "zeros are what another one left"
        raw[:] = b"\xff" * 48
        assert seg.pop(1) == b"\xff" * 48
        seg[1] = b"\xff" * 100_000
        seg.remove(1)
        del field, raw


def test_popitem_takes_all_of_them(seg):
    for index in range(5):
        seg.array(index, 3, initial=index)
    seg.buffer("raw", 2)
    taken = dict(seg.popitem() for _ in range(6))
    assert len(seg) == 0 and set(taken) == {0, 1, 2, 3, 4, "raw"}
    assert all(taken[index].tolist() == [index] * 3 for index in range(5)) and taken["raw"] == bytes(2)
    with pytest.raises(KeyError):
        seg.popitem()


# --- time to live


def expired(seg, index):
    helpers.until(lambda: index not in seg, what="the end of its time")


def test_it_stays_and_a_value_that_replaces_it_may_expire(seg, field):
    assert seg.stat("field").expires_in is None
    seg.put("field", 5, ttl=0.05)
    expired(seg, "field")
    with pytest.raises(KeyError):
        seg.array("field")
    anew = seg.array("field", 3, initial=1)
    assert seg.stat("field").expires_in is None and seg.stat("field").in_place
    seg.put("other", 1, ttl=0.05)
    expired(seg, "other")
    seg["more"] = 1
    assert anew.tolist() == [1, 1, 1] == seg["field"].tolist()


def test_one_is_made_where_a_plain_variable_has_expired(seg):
    for make in (lambda: seg.array(1, 4000), lambda: memoryview(seg.buffer(1, 5)), lambda: seg.array(1, initial=0)):
        for value in (5, "x" * 3000, b"x" * 100_000):
            seg.put(1, value, ttl=0.02)
            expired(seg, 1)
            assert not np.any(make()) and seg.stat(1).in_place and seg.stat(1).expires_in is None
            assert seg.info().used == seg.stat(1).size and seg.check().variables == 1
            seg.remove(1)


def test_it_stays_beside_many_that_expire(seg):
    fields = {index: seg.array(index, 600, initial=index) for index in range(0, 300, 10)}
    for index in range(300):
        if index not in fields:
            seg.put(index, b"x" * (index * 20), ttl=0.02)
    expired(seg, 299)
    for index in range(300, 900):
        seg[index] = b"y" * (index * 10)
    seg.trim()
    for index, field in fields.items():
        field[0] = -1
        assert seg.array(index)[0] == -1 and (field[1:] == index).all()
    seg.check()


def test_a_value_that_expires_is_touched_and_keeps_its_time(seg):
    for value in (5, "text" * 100, b"x" * 100_000):
        seg.put(1, value, ttl=1000)
        before, version = seg.stat(1).expires_in, seg.version(1)
        touched = seg.touch(1)
        assert version < touched == seg.version(1) and seg[1] == value
        assert 0 < seg.stat(1).expires_in <= before
    seg.put(1, 5, ttl=0.02)
    expired(seg, 1)
    assert seg.touch(1) == 0 and 1 not in seg and seg.info().count == 0
    seg.put(2, 5, ttl=0.05)
    seg.touch(2)
    expired(seg, 2)
