"""Values that hypothesis makes go from Python to PHP and back, and come as they were, down to the bits of floats."""

import math
import random
import struct

import helpers
import pytest
from helpers import php_values as drawn
from helpers import system_v
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import shmvar
from shmvar import php

pytestmark = helpers.needs_php

SIZE = 1 << 20


@pytest.fixture
def shared(php_key, in_php):
    """One segment, attached by both: (Python's handle, PHP, the raw bytes). In PHP its handle is `$s`."""
    with php.attach(php_key, SIZE) as segment:
        in_php("$s = shm_attach($a[0]);", php_key)
        with system_v.RawSegment(php_key) as raw:
            yield segment, in_php, raw


def test_what_python_puts_is_what_php_reads_and_would_have_written(shared):
    segment, in_php, raw = shared

    @hypothesis_settings(max_examples=200)
    @given(drawn.values)
    @example({})
    @example([[], {}, {0: 1}, {1: 0}, {0: {0: {}}}])
    def check(value):
        segment.put(1, value)
        expected = drawn.comes_back(value)
        text = raw.texts()[1]
        assert text == segment.raw(1) == php.dumps(value)
        # PHP reads the same value …
        assert drawn.same(drawn.comes_back(in_php("return shm_get_var($s, 1);")), expected)
        # … and writes the same bytes again.
        assert as_bytes(in_php("return serialize(shm_get_var($s, 1));")) == text
        assert drawn.same(segment.get(1), expected)

    check()


def test_what_php_puts_is_what_python_reads_and_would_have_written(shared):
    segment, in_php, raw = shared

    @hypothesis_settings(max_examples=200)
    @given(drawn.values)
    def check(value):
        in_php("shm_put_var($s, 2, $a[0]);", value)
        expected = drawn.comes_back(value)
        found = segment[2]
        assert drawn.same(found, expected)
        assert raw.texts()[2] == php.dumps(value) == php.dumps(found)
        # Python puts back what it read, and PHP finds it identical.
        segment.put(3, found)
        assert raw.texts()[3] == raw.texts()[2]

    check()


def as_bytes(string):
    return string.encode() if isinstance(string, str) else string


@pytest.mark.parametrize("how", ["random bits", "short decimals", "powers of two", "whole numbers"])
def test_floats_come_back_bit_for_bit_and_in_phps_spelling(shared, how):
    segment, in_php, raw = shared
    draw = random.Random(how).random
    made = {
        "random bits": lambda: struct.unpack("<d", struct.pack("<Q", int(draw() * 2**64)))[0],
        "short decimals": lambda: float(f"{draw():.{int(draw() * 17)}f}e{int(draw() * 40) - 20}"),
        "powers of two": lambda: math.ldexp(1, int(draw() * 2098) - 1074),
        "whole numbers": lambda: float(int((draw() - 0.5) * 10 ** (draw() * 25))),
    }[how]
    floats = [made() for _ in range(5000)]
    segment[1] = floats
    assert as_bytes(in_php("return serialize(shm_get_var($s, 1));")) == segment.raw(1)
    assert drawn.same(in_php("return shm_get_var($s, 1);"), floats)
    in_php("shm_put_var($s, 2, $a[0]);", floats)
    assert drawn.same(segment[2], floats)
    assert raw.texts()[1] == raw.texts()[2]


SPELLINGS = [0.0, -0.0, 1.0, 0.1, 1e25, 5e-324, 1e15, 1e14, 1e17, 123456789012345.0, 1e-5, 0.0001, 1.5e300, -2.5]
SPELLINGS += [math.inf, -math.inf, math.nan]


@pytest.mark.parametrize("value", SPELLINGS, ids=repr)
def test_a_float_has_the_text_that_php_gives_it(shared, value):
    segment, in_php, _ = shared
    from_php = as_bytes(in_php("return serialize($a[0]);", value))
    assert php.dumps(value) == from_php
    segment[1] = value
    assert segment.raw(1) == from_php
    assert drawn.same(segment[1], value)
    assert in_php("return var_export(shm_get_var($s, 1), true) === var_export($a[0], true);", value)


@pytest.mark.parametrize("key", ["0", "5", "-5", str(drawn.INT_MAX), str(drawn.INT_MIN), *drawn.tricky_keys], ids=repr)
def test_a_key_is_a_number_in_python_where_it_is_one_in_php(shared, key):
    segment, in_php, _ = shared
    in_php("shm_put_var($s, 1, [$a[0] => true]);", key)
    is_number = in_php("return is_int(array_key_first([$a[0] => true]));", key)
    assert is_number == drawn.is_number_to_php(key)
    assert segment.get(1) == {int(key) if is_number else key: True} or (key == "0" and segment.get(1) == [True])
    # A text that lists such a key as a string is read as PHP reads it.
    by_hand = b'a:1:{s:%d:"%s";b:1;}' % (len(key.encode()), key.encode())
    in_php("shm_put_var($s, 2, unserialize($a[0]));", by_hand)
    assert drawn.same(php.loads(by_hand), segment[2])


@pytest.mark.parametrize("number", [0, 5, -5, drawn.INT_MAX, drawn.INT_MIN])
def test_two_keys_that_php_would_merge_are_refused_and_nothing_is_written(shared, number):
    segment, in_php, raw = shared
    segment[1] = "before"
    before = raw[:]
    for merged in (
        {number: "a", str(number): "b"},
        {str(number): "b", number: "a"},
        {"x": {str(number): 1, number: 2}},
    ):
        assert in_php("return count([$a[0] => 1, (string)$a[0] => 2]);", number) == 1
        with pytest.raises(php.SerializeError):
            segment[1] = merged
        with pytest.raises(php.SerializeError):
            php.dumps(merged)
    with pytest.raises(php.SerializeError):
        segment[1] = {"a": 1, b"a": 2}
    assert raw[:] == before


REFUSED = {
    "beyond 64 bits": 2**63,
    "below 64 bits": -(2**63) - 1,
    "a set": {1},
    "a complex number": 1j,
    "an object of a class": shmvar,
    "a function": len,
    "a key of None": {None: 1},
    "a key of a float": {1.5: 1},
    "a key of a truth value": {True: 1},
    "a key of a tuple": {(1, 2): 1},
    "a key beyond 64 bits": {2**63: 1},
    "a lone surrogate": "\ud800",
    "a key with a lone surrogate": {"\ud800": 1},
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_php_cannot_hold_is_refused_with_its_place_and_the_old_value_stays(shared, what):
    """PHP itself would write the beginning of the text over the old value."""
    segment, in_php, raw = shared
    segment[1] = "before"
    before = raw[:]
    with pytest.raises(php.SerializeError) as caught:
        segment[1] = {"outer": [0, REFUSED[what]]}
    assert "value['outer'][1]" in str(caught.value) and caught.value.place.startswith("value['outer'][1]")
    assert isinstance(caught.value, shmvar.Error) and isinstance(caught.value, ValueError)
    assert raw[:] == before and in_php("return shm_get_var($s, 1);") == "before"


def test_strings_and_arrays_come_as_the_options_say(php_key, in_php):
    in_php("$s = shm_attach($a[0]); shm_put_var($s, 1, ['é', \"\\xff\", [], ['k' => 'v'], [1 => 2]]);", php_key)
    with php.attach(php_key) as segment:
        assert segment[1] == ["é", b"\xff", [], {"k": "v"}, {1: 2}]
    with php.attach(php_key, strings="bytes", arrays="dict") as segment:
        assert segment[1] == {0: "é".encode(), 1: b"\xff", 2: {}, 3: {b"k": b"v"}, 4: {1: 2}}
        assert (segment.strings, segment.arrays) == ("bytes", "dict")
    with php.attach(php_key, strings="bytes") as segment:
        assert segment[1] == ["é".encode(), b"\xff", [], {b"k": b"v"}, {1: 2}]


def test_large_values_go_both_ways(php_key, in_php):
    many = {f"key {number}": [number, number / 7, str(number) * 3] for number in range(50_000)}
    with php.attach(php_key, 64 << 20) as segment:
        in_php("$s = shm_attach($a[0]);", php_key)
        for value, check in [
            ("x" * (20 << 20), "strlen($v) === 20 << 20 && trim($v, 'x') === ''"),
            (list(range(200_000)), "$v === range(0, 199999)"),
            (many, "count($v) === 50000 && $v['key 777'] === [777, 111.0, '777777777']"),
        ]:
            segment[1] = value
            assert in_php(f"$v = shm_get_var($s, 1); return {check};")
            in_php("shm_remove_var($s, 1); shm_put_var($s, 2, $v); unset($v);")
            assert segment[2] == value
            del segment[2]


@hypothesis_settings(max_examples=200)
@given(drawn.values, st.sampled_from(["auto", "bytes"]), st.sampled_from(["auto", "dict"]))
def test_dumps_and_loads_are_each_others_inverse_with_every_option(value, strings, arrays):
    text = php.dumps(value)
    again = php.loads(text, strings=strings, arrays=arrays)
    assert php.dumps(again) == text
    if (strings, arrays) == ("auto", "auto"):
        assert drawn.same(again, drawn.comes_back(value))
