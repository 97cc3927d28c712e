"""`shmvar.copy` between PHP's segments and those of the package: what goes over, and what an error leaves."""

import pytest
from helpers.marks import needs_php

import shmvar
from shmvar import php

VALUES = {
    1: None,
    2: True,
    -3: -(2**63),
    4: 0.1,
    5: "é",
    6: b"\xff\x00",
    7: [1, [2.5, "x"], {"a": 1, 7: None}],
    2**63 - 1: {"5x": [], "list": [0] * 100},
}
OBJECT = php.PhpObject("Basket", {"items": [1], "\0*\0total": php.PhpEnum("Money", "None")})


@pytest.fixture
def segment(php_key):
    """A segment of PHP's."""
    with php.attach(php_key, 1 << 20, create=True) as segment:
        yield segment


@pytest.fixture
def another(new_php_key):
    """A second one."""
    with php.attach(new_php_key(), 1 << 20, create=True) as segment:
        yield segment


def test_values_go_to_php_and_come_back_equal(segment, seg, new_key):
    seg.put_many(VALUES)
    segment[5] = "old"
    assert shmvar.copy(seg, segment) == len(VALUES) == len(segment)
    assert dict(segment) == VALUES
    with shmvar.attach(new_key()) as back:
        back.put(5, "old", ttl=1000)
        assert shmvar.copy(segment, back) == len(VALUES)
        assert dict(back) == VALUES and back.stat(5).expires_in is None
        assert [type(back[index]) for index in VALUES] == [type(value) for value in VALUES.values()]


@needs_php
def test_php_reads_what_was_copied_and_what_it_stored_is_copied(segment, seg, in_php):
    seg[1] = {"list": [1, 2.5], "text": "é"}
    shmvar.copy(seg, segment)
    read = "return shm_get_var($s = shm_attach($a[0]), 1);"
    assert in_php(read, segment.key) == {"list": [1, 2.5], "text": "é"}
    in_php("shm_put_var($s, 2, ['new' => [true, null]]);")
    assert shmvar.copy(segment, seg) == 2 and seg[2] == {"new": [True, None]}
    in_php("unset($s);")


def test_only_what_is_asked_for_is_copied_and_what_is_missing_is_left_out(segment, seg):
    seg.update({1: 1, 2: 2, "text": 3})
    assert shmvar.copy(seg, segment, [2, 9]) == 1 and dict(segment) == {2: 2}
    assert shmvar.copy(seg, segment, (index for index in seg if isinstance(index, int))) == 2
    seg.clear()
    assert shmvar.copy(segment, seg, [1, 9]) == 1 and dict(seg) == {1: 1}
    with pytest.raises(TypeError, match="one index"):
        shmvar.copy(segment, seg, "1")


def test_texts_are_no_indexes_of_php_and_nothing_is_copied(segment, seg):
    seg.update({1: 1, "name": 2})
    for indices in (None, [1, "name"], ["name"]):
        with pytest.raises(shmvar.UnsupportedError, match=r"'name'.*nothing was copied.*isinstance\(index, int\)"):
            shmvar.copy(seg, segment, indices)
    assert len(segment) == 0


def test_an_empty_array_comes_back_as_a_list(segment, seg):
    seg.update({1: [], 2: {}, 3: {"a": {}}})
    shmvar.copy(seg, segment)
    shmvar.copy(segment, seg)
    assert dict(seg) == {1: [], 2: [], 3: {"a": []}}
    with php.attach(segment.key, create=False, arrays="dict") as as_dicts:
        shmvar.copy(as_dicts, seg)
    assert dict(seg) == {1: {}, 2: {}, 3: {"a": {}}}


@pytest.mark.parametrize("wrong", [2**63, {1: "a", "1": "b"}, {1, 2}, 1j, [{"deep": [2**64]}]], ids=repr)
def test_a_value_that_php_cannot_hold_is_named_and_those_before_it_are_there(segment, new_key, wrong):
    with shmvar.attach(new_key()) as source:
        source.update({1: "before", 2: wrong, 3: "after"})
        segment[2] = "old"
        with pytest.raises(php.SerializeError, match=r"variable 2 .*those before it were copied"):
            shmvar.copy(source, segment, [1, 2, 3])
        assert dict(segment) == {1: "before", 2: "old"}


def test_a_value_that_does_not_fit_leaves_the_old_one(seg, new_php_key):
    with php.attach(new_php_key(), 200, create=True) as small:
        small[2] = "old"
        seg.update({1: 1, 2: "x" * 200})
        with pytest.raises(shmvar.SegmentFullError):
            shmvar.copy(seg, small, [1, 2])
        assert dict(small) == {1: 1, 2: "old"}


def test_between_two_of_php_the_text_goes_as_it_is(segment, another):
    segment[1] = [1, OBJECT]
    segment[2] = php.PhpCustom("Old", b"\x00opaque")
    segment[3] = {"b": 1, "a": 2}
    assert shmvar.copy(segment, another) == 3
    assert [another._get_text(index) for index in (1, 2, 3)] == [segment._get_text(index) for index in (1, 2, 3)]
    assert shmvar.copy(another, segment, [2, 9]) == 1 and another[1] == [1, OBJECT]


def test_objects_go_into_ones_own_segment_and_back(segment, seg):
    segment[1] = OBJECT
    assert seg.trusted and shmvar.copy(segment, seg) == 1
    assert seg[1] == OBJECT and type(seg[1]) is php.PhpObject
    segment.clear()
    assert shmvar.copy(seg, segment) == 1 and segment[1] == OBJECT


def test_of_a_segment_that_is_not_trusted_only_data_goes_to_php(segment, new_key):
    key = new_key()
    with shmvar.attach(key) as writer:
        writer.update({1: {"data": [1]}, 2: OBJECT, 3: Bomb()})
    with shmvar.attach(key, trust=False) as source:
        for index in (2, 3):
            with pytest.raises(shmvar.UntrustedValueError, match=rf"variable {index} .*trust=True.*indices"):
                shmvar.copy(source, segment, [1, index])
        assert dict(segment) == {1: {"data": [1]}}


class Bomb:
    """Unpickling it is an error of another kind."""

    def __reduce__(self):
        return (int, ("it was unpickled",))


def test_a_damaged_text_is_an_error_that_names_its_index(segment, seg):
    segment[1] = "before"
    segment._put_text(2, b'a:1:{i:0;s:9:"x";}')
    with pytest.raises(shmvar.CorruptSegmentError, match=r"\b2\b"):
        shmvar.copy(segment, seg)
    assert dict(seg) == {1: "before"}


def test_a_lock_is_taken_around_each_call_and_may_be_around_all(segment, seg, new_php_key):
    lock = php.Semaphore(new_php_key())
    seg[1] = 1
    with php.attach(segment.key, create=False, lock=lock) as locked:
        assert shmvar.copy(seg, locked) == 1
        with lock:
            assert shmvar.copy(locked, seg) == 1
    lock.close()
