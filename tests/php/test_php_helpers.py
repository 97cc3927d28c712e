"""The helpers of these tests: values to PHP and back, and the bytes of a segment, as `docs/php.md` has them."""

import math
import struct

import helpers
import pytest
from helpers import php as real_php
from helpers import system_v

pytestmark = helpers.needs_php

VALUES = [
    *(
        None,
        True,
        False,
        0,
        -1,
        2**63 - 1,
        -(2**63),
        0.0,
        -0.0,
        0.1,
        5e-324,
        math.inf,
        -math.inf,
        1.0,
        "",
        "é\0\n",
        b"\xff",
    ),
    *([], [1, [2.5, None]], {"a": 1, 5: "b", "05": [b"\x80"]}, {1: 1, 0: 0}),
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_comes_back_from_php_as_it_was_sent(in_php, value):
    back = in_php("return $a[0];", value)
    assert repr(back) == repr(value)


def test_nan_comes_back_and_warnings_and_what_is_thrown_are_told(in_php):
    assert math.isnan(in_php("return NAN;"))
    assert in_php.warned("return 1 + $nothing;") == (1, ["Undefined variable $nothing"])
    with pytest.raises(
        real_php.Thrown, match=r"^ValueError: shm_attach\(\): Argument #2 \(\$size\) must be greater than 0$"
    ):
        in_php("return shm_attach(1, 0);")
    in_php("$kept = 5;")
    assert in_php("return $kept;") == 5
    assert real_php.run("echo $argv[1];", "x y").stdout == "x y"
    assert real_php.version() >= (8, 0)


def test_the_bytes_that_php_makes_are_those_of_the_document(in_php, php_key):
    in_php("$s = shm_attach($a[0], 256); shm_put_var($s, 1, 'hi'); shm_put_var($s, -7, 42);", php_key)
    in_php("shm_put_var($s, 3, [true, null]);")
    chunks = [(1, b's:2:"hi";'), (-7, b"i:42;"), (3, b"a:2:{i:0;b:1;i:1;N;}")]
    made = system_v.segment_bytes([system_v.chunk(*one) for one in chunks], 256)
    with system_v.RawSegment(php_key) as raw:
        assert raw[:] == made and raw.size == 256
        assert [(key, text) for _, key, text in raw.chunks()] == chunks
        assert (raw.start, raw.end, raw.free, raw.total) == raw.header == (40, 184, 72, 256)
        assert system_v.attached_to(php_key) == 2
    in_php("shm_remove($s); unset($s);")
    system_v.make(php_key, made)
    assert in_php("$s = shm_attach($a[0]); return [shm_get_var($s, 3), shm_has_var($s, 2)];", php_key) == [
        [True, None],
        False,
    ]
    assert system_v.permissions_of(php_key) == 0o600
    assert struct.unpack_from("<q", made, 16) == (184,)
