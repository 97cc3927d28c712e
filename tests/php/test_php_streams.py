"""Texts that nobody wrote with care: what Python's reader takes, PHP takes too, and as the same value."""

import random
import re

import helpers
import pytest
from helpers import php_damage
from helpers import php_values as drawn
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import shmvar
from shmvar import php

pytestmark = helpers.needs_php

BATCH = r"""
$answers = [];
foreach ($a[0] as $text) {
    $made = @unserialize($text, ['allowed_classes' => false]);
    $refused = $made === false && $text !== 'b:0;';
    try {
        $answers[] = $refused ? null : serialize($made);
    } catch (Throwable $thrown) {
        $answers[] = 'thrown';
    }
}
return $answers;
"""


NAMES_NO_CLASS = re.compile(rb'[OCE]:\d+:"(?![a-zA-Z_\x80-\xff])')


def as_bytes(string):
    return string.encode() if isinstance(string, str) else string


def asked(in_php, texts):
    """What PHP writes after it has read each of these texts; None where it refuses to."""
    return [as_bytes(answer) for answer in in_php.warned(BATCH, texts)[0]]


def compare(in_php, texts):
    """Returns how many both took, and the texts that only PHP took."""
    both, again, only_php = [], [], []
    for text, answer in zip(texts, asked(in_php, texts), strict=True):
        try:
            value = php.loads(text)
        except php.UnserializeError as error:
            assert 0 <= error.offset <= len(text)
            if answer == text and NAMES_NO_CLASS.search(text) is None:
                raise AssertionError(f"{text!r} is what PHP writes, and is refused") from error
            if answer is not None:
                only_php.append(text)
            continue
        if answer is None and b"E:" in text:  # PHP refuses an enum that it does not have
            continue
        assert answer is not None, f"PHP refuses {text!r}, Python takes it for {value!r}"
        try:
            written = php.dumps(value)
        except php.SerializeError as error:  # only an array that holds itself
            assert b"R:" in text, f"{text!r} is taken and cannot be written again: {error}"
            continue
        # Python has no references: what it writes has values in their places.
        if b"R:" not in text:
            both.append((text, answer))
            again.append(written)
    for (text, answer), written, after in zip(both, again, asked(in_php, again), strict=True):
        assert answer == after, f"{text!r} is {answer!r} to PHP, and {written!r} to Python"
    return len(both), only_php


@pytest.mark.slow
@pytest.mark.parametrize("part", range(3))
def test_what_python_takes_of_20000_damaged_texts_php_takes_for_the_same(in_php, part, capsys):
    draw = random.Random(part)
    both, only_php, count = 0, [], 0
    for _ in range(34):
        texts = [php_damage.damaged_text(draw) for _ in range(200)]
        taken, refused = compare(in_php, texts)
        both += taken
        only_php += refused
        count += len(texts)
    with capsys.disabled():
        print(f"\n{count} texts: both take {both}, PHP alone {len(only_php)}, for example {only_php[:5]}")
    assert both > count // 10


def test_texts_that_hypothesis_damages(in_php):
    @hypothesis_settings(max_examples=100)
    @given(st.lists(st.tuples(drawn.values, st.integers(0, 2**32)), min_size=1, max_size=20))
    def check(pairs):
        texts = []
        for value, seed in pairs:
            draw = random.Random(seed)
            text = bytearray(php.dumps(value))
            for _ in range(draw.randrange(3)):
                at = draw.randrange(len(text))
                text[at : at + draw.randrange(3)] = draw.choice(
                    [b"", b"0", b"-", b";", b"}", b'"', b"\0", b"9", b"i:1;"]
                )
            texts.append(bytes(text))
        compare(in_php, texts)

    check()


SPELLINGS = [
    *(
        b"i:+5;",
        b"i:007;",
        b"i:-0;",
        b"i:;",
        b"i:5",
        b"i: 5;",
        b"i:0x1;",
        b"i:5.0;",
        b"i:9223372036854775807;",
        b"i:--5;",
    ),
    *(
        b"i:9223372036854775808;",
        b"i:-9223372036854775808;",
        b"i:-9223372036854775809;",
        b"i:99999999999999999999;",
        b"I:5;",
    ),
    *(
        b"d:1;",
        b"d:1.0;",
        b"d:1.;",
        b"d:.5;",
        b"d:.;",
        b"d:1e5;",
        b"d:1E5;",
        b"d:1E+5;",
        b"d:1E-5;",
        b"d:+1.5;",
        b"d:-0;",
        b"d:0x1;",
    ),
    *(
        b"d:inf;",
        b"d:INF;",
        b"d:-INF;",
        b"d:+INF;",
        b"d:nan;",
        b"d:NAN;",
        b"d:-NAN;",
        b"d:1e999;",
        b"d:1_0;",
        b"d:1e;",
        b"d:Infinity;",
    ),
    *(b"b:0;", b"b:1;", b"b:2;", b"b:true;", b"b:;", b"b:01;", b"N;", b"n;", b"N:;", b"N", b"b:1", b"b:+1;"),
    *(
        b's:0:"";',
        b's:1:"a";',
        b's:01:"a";',
        b's:+1:"a";',
        b's:-1:"a";',
        b's:2:"a";',
        b's:1:"ab";',
        b"s:1:'a';",
        b's:1:"a"',
        b"s:1:a;",
    ),
    *(
        b'S:1:"\\41";',
        b'S:1:"a";',
        b'S:2:"\\41\\42";',
        b'S:1:"\\4";',
        b'S:1:"\\zz";',
        b'S:1:"\\4a";',
        b'S:1:"\\4A";',
        b'S:0:"";',
    ),
    *(
        b"a:0:{}",
        b"a:0:{};",
        b"a:1:{i:0;N;}",
        b"a:2:{i:0;N;}",
        b"a:0:{i:0;N;}",
        b"a:-1:{}",
        b"a:+1:{i:0;N;}",
        b"a:01:{i:0;N;}",
    ),
    *(
        b"a:1:{N;N;}",
        b"a:1:{b:1;N;}",
        b"a:1:{d:1;N;}",
        b"a:1:{a:0:{}N;}",
        b'a:1:{s:1:"5";N;}',
        b'a:1:{S:1:"a";N;}',
        b"a:1:{i:0;N;",
    ),
    *(
        b"a:2:{i:0;i:1;i:0;i:2;}",
        b'a:2:{s:1:"a";i:1;s:1:"a";i:2;}',
        b'a:2:{i:5;i:1;s:1:"5";i:2;}',
        b"a:1:{R:1;N;}",
        b"a:1:{i:0;R:1;}",
    ),
    *(
        b"a:1:{i:0;r:1;}",
        b"a:2:{i:0;i:5;i:1;r:2;}",
        b"a:2:{i:0;i:5;i:1;R:2;}",
        b"a:2:{i:0;i:5;i:1;R:3;}",
        b"a:2:{i:0;i:5;i:1;R:0;}",
    ),
    *(
        b"a:2:{i:0;R:2;i:1;i:5;}",
        b"R:1;",
        b"r:1;",
        b"r:0;",
        b"a:2:{i:0;N;i:1;r:2;}",
        b'a:2:{i:0;O:8:"stdClass":0:{}i:1;r:2;}',
    ),
    *(
        b'O:8:"stdClass":0:{}',
        b'O:8:"stdClass":1:{s:1:"a";N;}',
        b'O:8:"stdClass":1:{i:5;N;}',
        b'O:7:"stdClass":0:{}',
        b'O:0:"":0:{}',
    ),
    *(
        b'O:8:"stdClass":0:{};',
        b'O:+8:"stdClass":0:{}',
        b'O:8:"stdClass":2:{s:1:"a";i:1;s:1:"a";i:2;}',
        b'O:3:"a b":0:{}',
        b'O:3:"1ab":0:{}',
    ),
    *(
        b'O:8:"stdClass":1:{s:0:"";i:1;}',
        b'O:8:"stdClass":1:{d:1;i:1;}',
        b'O:8:"stdClass":-1:{}',
        b'O:2:"\\A":0:{}',
        b'O:3:"a-b":0:{}',
    ),
    *(
        b'C:8:"stdClass":0:{}',
        b'C:1:"S":3:{abc}',
        b'C:1:"S":4:{abc}',
        b'E:6:"Suit:H";',
        b'E:4:"Suit";',
        b'E:5:"Suit:";',
        b"x:1;",
        b"",
        b";",
    ),
    *(
        b"a:1:{i:0;i:5;}x",
        b"i:5;x",
        b"i:5;\0",
        b" i:5;",
        b"\xef\xbb\xbfi:5;",
        b'O:1:"A":1:{s:1:"a";r:1;}',
        b'O:1:"A":1:{s:1:"a";R:1;}',
    ),
    *(
        b"a:1:{i:0;a:1:{i:0;R:2;}}",
        b"a:2:{i:0;a:0:{}i:0;R:2;}",
        b"a:3:{i:0;a:0:{}i:0;i:5;i:1;R:2;}",
        b"a:1:{i:-0;N;}",
        b"a:1:{i:+1;N;}",
        b"a:2:{i:1;N;i:01;N;}",
        b'a:1:{s:2:"-0";N;}',
        b'a:1:{s:2:"-5";N;}',
    ),
]


@pytest.mark.parametrize("text", SPELLINGS, ids=repr)
def test_a_spelling_is_taken_only_if_php_takes_it_for_the_same(in_php, text):
    compare(in_php, [text])


def test_the_nesting_that_php_reads_is_the_nesting_that_python_reads(in_php):
    """4096 levels by default, in both."""
    for depth, may in [(4095, True), (4096, True), (4097, False), (5000, False)]:
        text = b"a:1:{i:0;" * depth + b"N;" + b"}" * depth
        taken = in_php.warned("return @unserialize($a[0]) !== false;", text)[0]
        assert taken == may
        if may:
            assert php.dumps(php.loads(text)) == text
        else:
            with pytest.raises(php.UnserializeError, match=r"4,?096"):
                php.loads(text)
            value = None
            for _ in range(depth):
                value = [value]
            with pytest.raises(php.SerializeError, match=r"4,?096"):
                php.dumps(value)
            while value:  # not by recursion
                value = value[0]


def test_errors_of_the_format_are_errors_of_the_package():
    for call in (lambda: php.loads(b"i:x;"), lambda: php.dumps({1, 2})):
        with pytest.raises(shmvar.Error):
            call()
        with pytest.raises(ValueError):
            call()
    with pytest.raises(TypeError):
        php.loads("i:5;")
    for kind in (bytes, bytearray, memoryview):
        assert php.loads(kind(b"i:5;")) == 5
