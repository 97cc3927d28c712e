"""The bytes of a segment: what Python makes is what PHP makes, and what either made the other goes on with."""

import random

import helpers
import pytest
from helpers import php_values as drawn
from helpers import system_v
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import shmvar
from shmvar import php

pytestmark = helpers.needs_php

indexes = st.one_of(st.integers(-3, 6), st.sampled_from([drawn.INT_MIN, drawn.INT_MAX, 2**32]))


def test_the_same_new_variables_make_the_same_bytes(new_php_key, in_php):
    @hypothesis_settings(max_examples=100)
    @given(st.dictionaries(indexes, drawn.values, max_size=8), st.integers(40, 20_000))
    def check(variables, size):
        ours, theirs = new_php_key(), new_php_key()
        segment = php.attach(ours, size)
        in_php("$s = shm_attach($a[0], $a[1]);", theirs, size)
        try:
            for index, value in variables.items():
                stored, _ = in_php.warned("return shm_put_var($s, $a[0], $a[1]);", index, value)
                if stored:
                    segment.put(index, value)
                else:
                    with pytest.raises(shmvar.SegmentFullError):
                        segment.put(index, value)
            with system_v.RawSegment(ours) as mine, system_v.RawSegment(theirs) as its:
                assert mine[:] == its[:]
        finally:
            segment.destroy()
            segment.detach()
            in_php("shm_remove($s); unset($s);")

    check()


operations = st.lists(
    st.tuples(
        st.sampled_from(["python", "php"]),
        st.sampled_from(["put", "put", "put", "remove"]),
        st.integers(-1, 3),
        st.one_of(drawn.values, st.integers(0, 300).map("x".__mul__), st.integers(-9, 9)),
    ),
    min_size=1,
    max_size=40,
)


@pytest.mark.parametrize("locked", [False, True])
def test_python_and_php_take_turns_at_one_segment(new_php_key, in_php, locked):
    """A dict tells what must be there; what does not fit follows from the bytes before the call."""

    @hypothesis_settings(max_examples=100)
    @given(operations, st.integers(200, 2000))
    def check(operations, size):
        key = new_php_key()
        lock = php.Semaphore(key) if locked else None
        segment = php.attach(key, size, lock=lock)
        in_php("$s = shm_attach($a[0]);", key)
        model = {}
        try:
            with system_v.RawSegment(key) as raw:
                for who, what, index, value in operations:
                    step(who, what, index, value, segment, in_php, raw, model)
                    texts = raw.texts()
                    assert texts == {at: php.dumps(content) for at, content in model.items()}
                    assert drawn.same(dict(segment), {at: drawn.comes_back(model[at]) for at in texts})
                    assert system_v.newer_php_accepts(raw) and raw.free + raw.end == raw.total
                    assert not raw.prepared() and raw[7] == 0 and raw.start == 40
                segment.detach()
                read = "return shm_get_var($s, $a[0]);"
                assert all(drawn.same(drawn.comes_back(in_php(read, at)), drawn.comes_back(model[at])) for at in model)
        finally:
            in_php("shm_remove($s); unset($s);")
            segment.detach()
            if lock is not None:
                lock.remove()

    check()


def step(who, what, index, value, segment, in_php, raw, model):
    """One operation in one of the two, and in the model."""
    if what == "remove":
        if who == "php":
            assert in_php.warned("return shm_remove_var($s, $a[0]);", index)[0] == (index in model)
        elif index in model:
            segment.remove(index)
        else:
            with pytest.raises(KeyError):
                segment.remove(index)
        model.pop(index, None)
        return
    size = system_v.own_size(php.dumps(value))
    if who == "php":
        freed = [own for own in [raw.number(at + 16) for at, key, _ in raw.chunks() if key == index]]
        fits = size <= raw.free + sum(freed)
        assert in_php.warned("return shm_put_var($s, $a[0], $a[1]);", index, value)[0] == fits
        model.pop(index, None)
        if fits:
            model[index] = value
        return
    room, before = system_v.room_for(raw, index), raw[:]
    try:
        segment.put(index, value)
    except shmvar.SegmentFullError as error:
        assert raw[:] == before
        assert size > room - 24, "what is free and all gaps would have been enough"
        assert error.needed == size and error.free < size and error.size == raw.size
    else:
        assert size <= room
        model[index] = value


def test_an_empty_segment_holds_9918_characters_or_249_numbers(new_php_key, in_php):
    for fill in ("python", "php"):
        one, many = new_php_key(), new_php_key()
        with php.attach(one) as segment, php.attach(many) as numbers:
            in_php("$one = shm_attach($a[0]); $many = shm_attach($a[1]);", one, many)
            if fill == "python":
                with pytest.raises(shmvar.SegmentFullError):
                    segment[1] = "x" * 9919
                assert len(segment) == 0
                segment[1] = "x" * 9918
                for number in range(249):
                    numbers[number] = number
            else:
                assert in_php.warned("return shm_put_var($one, 1, str_repeat('x', 9919));")[0] is False
                in_php("shm_put_var($one, 1, str_repeat('x', 9918));")
                in_php("for ($i = 0; $i < 249; $i++) shm_put_var($many, $i, $i);")
            assert segment[1] == "x" * 9918 == in_php("return shm_get_var($one, 1);")
            assert dict(numbers) == {number: number for number in range(249)}
            warning = ["shm_put_var(): Not enough shared memory left"]
            assert in_php.warned("return shm_put_var($many, 249, 1);") == (False, warning)
            for full, index in ((segment, 2), (numbers, 249)):
                with pytest.raises(shmvar.SegmentFullError) as caught:
                    full[index] = 1
                assert (caught.value.needed, caught.value.size) == (40, 10_000) and caught.value.free < 40
            # Each may still be replaced by one of its size, by either.
            numbers[7] = 70
            in_php("shm_put_var($many, 8, 80);")
            assert (numbers[7], numbers[8], len(numbers)) == (70, 80, 249)
            segment[1] = "y" * 9918
            assert in_php("return trim(shm_get_var($one, 1), 'y');") == ""


@pytest.mark.parametrize("value", ["y" * 9919, "y" * 9926, "y" * 100_000])
def test_a_replacement_that_does_not_fit_leaves_the_old_value(php_key, in_php, value):
    with php.attach(php_key) as segment, system_v.RawSegment(php_key) as raw:
        segment[1], segment[2] = "a", "b"
        before = raw[:]
        with pytest.raises(shmvar.SegmentFullError) as caught:
            segment[1] = value
        needed = system_v.own_size(php.dumps(value))
        assert caught.value.needed == needed and system_v.names(caught.value, php_key, needed)
        with pytest.raises(shmvar.SegmentFullError):
            segment.update({1: value})
        assert raw[:] == before
        in_php("$s = shm_attach($a[0]);", php_key)
        assert in_php("return [shm_get_var($s, 1), shm_get_var($s, 2)];") == ["a", "b"]


def test_the_order_of_python_is_the_order_of_the_chain(php_key, in_php):
    with php.attach(php_key) as segment, system_v.RawSegment(php_key) as raw:
        for index in range(5):
            segment[index] = f"value {index}"
        assert list(segment) == [0, 1, 2, 3, 4]
        in_php("$s = shm_attach($a[0]); shm_put_var($s, 0, 'value 0');", php_key)
        assert list(segment) == [1, 2, 3, 4, 0]
        for number in range(100):
            segment[number * 7 % 5] = "x" * (number * 5 % 23)
            order = [key for _, key, _ in raw.chunks()]
            assert list(segment) == list(segment.keys()) == order and sorted(order) == [0, 1, 2, 3, 4]
            assert [index for index, _ in segment.items()] == order


def test_the_two_reserved_indexes_are_refused(php_key, in_php):
    with php.attach(php_key) as segment, system_v.RawSegment(php_key) as raw:
        segment[1] = 1
        before = raw[:]
        for index in (system_v.FREE, system_v.PREPARED):
            with pytest.raises((ValueError, OverflowError)):
                segment[index] = 1
            with pytest.raises((ValueError, OverflowError)):
                segment.put(index, 1)
            with pytest.raises((ValueError, OverflowError)):
                segment.update({index: 1})
            assert index not in segment and segment.get(index, "none") == "none"
            with pytest.raises((KeyError, ValueError, OverflowError)):
                del segment[index]
        assert raw[:] == before
        for index in (drawn.INT_MIN, system_v.PREPARED + 1, drawn.INT_MAX):
            segment[index] = index
            in_php("$s = shm_attach($a[0]);", php_key)
            assert in_php("return shm_get_var($s, $a[0]);", index) == index
        for index in (drawn.INT_MIN - 1, drawn.INT_MAX + 1, 1 << 100):
            with pytest.raises(OverflowError):
                segment[index] = 1
        for index in ("1", 1.0, None, b"1"):
            with pytest.raises(TypeError):
                segment[index] = 1


@pytest.mark.parametrize("closes", ["detaching", "a put of another handle", "a removal by another handle"])
def test_after_many_replacements_php_can_use_all_the_room_but_for_a_32nd_and_all_after_a_removal(
    php_key, in_php, closes
):
    in_php("$s = shm_attach($a[0], 65536);", php_key)
    segment = php.attach(php_key)
    with system_v.RawSegment(php_key) as raw:
        draw = random.Random(5)
        for number in range(3000):
            segment[number % 5] = "x" * draw.choice([1, 7, 100, 200])
            assert system_v.newer_php_accepts(raw)
            # What PHP cannot use of the room that is not taken is little, at each moment.
            assert system_v.gaps(raw) <= raw.total // 32 + 256
        last = dict(segment)
        if closes == "detaching":
            segment.detach()
        else:
            with php.attach(php_key) as other:
                if closes.startswith("a put"):
                    other[9] = 0
                    last[9] = 0
                else:
                    del other[4]
                    del last[4]
            segment.detach()
        assert system_v.gaps(raw) < (32 if closes == "a removal by another handle" else raw.total // 32 + 1)
        assert raw.start == 40 and raw.end + raw.free == raw.total == 65536
        assert {key: php.loads(text) for key, text in raw.texts().items()} == last
        unused = system_v.gaps(raw)
        count = in_php("for ($n = 0; @shm_put_var($s, 100 + $n, 5); $n++); return $n;")
        assert (
            count == (65536 - 40 - unused - sum(system_v.own_size(php.dumps(value)) for value in last.values())) // 40
        )


def test_padding_is_zero_whatever_lay_there_before(php_key, in_php):
    """PHP's parser looks a few bytes past a text."""
    with php.attach(php_key, 4000) as segment, system_v.RawSegment(php_key) as raw:
        in_php("$s = shm_attach($a[0]);", php_key)
        draw = random.Random(6)
        for number in range(300):
            in_php("shm_put_var($s, 1, str_repeat(';', $a[0])); shm_remove_var($s, 1);", draw.randrange(900))
            segment[2 + number % 4] = "x" * draw.randrange(60)
            chunks = {key: (at, text) for at, key, text in raw.chunks()}
            at, text = chunks[2 + number % 4]
            behind = raw[at + 24 + len(text) : at + system_v.own_size(text)]
            assert 8 <= len(behind) <= 15 and not any(behind)
