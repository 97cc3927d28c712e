"""Objects of `Serializable` (`C:`) take numbers for what is inside of them: behind one, no reference is guessed."""

import copy

import pytest
from helpers.marks import needs_php

from shmvar import php
from shmvar.php import PhpCustom, PhpEnum, PhpObject

CLASSES = r"""
error_reporting(E_ALL & ~E_DEPRECATED);
class A { public $next; } enum Suit { case Hearts; }
class Nested implements Serializable { public $v; function __construct($v = null) { $this->v = $v; }
    function serialize() { return serialize($this->v); } function unserialize($d) { $this->v = unserialize($d); } }
class Plain implements Serializable { public $v = "x";
    function serialize() { return $this->v; } function unserialize($d) { $this->v = $d; } }
function made($code) { return bin2hex(serialize(eval("return $code;"))); }
"""

# What PHP makes, where the place of a reference depends on what is inside of an object that comes before.
BEHIND = {
    "an object twice": "(function ($a) { return [new Nested(5), $a, $a]; })(new A)",
    "an object twice behind data without numbers": "(function ($a) { return [new Plain, $a, $a]; })(new A)",
    "a reference": "(function ($x) { return [new Nested([1, 2]), &$x, &$x]; })(1)",
    "an object at another depth": "(function ($a) { return ['k' => [new Nested(5)], 'a' => [$a, [$a]]]; })(new A)",
    "a second one of its kind": "(function ($n) { return [new Nested(5), $n, $n]; })(new Nested(6))",
    "a case twice": "[new Nested(5), Suit::Hearts, Suit::Hearts]",
    "an object in itself": "(function ($a) { $a->next = $a; return [new Nested(5), $a]; })(new A)",
}

BEFORE = {
    "an object before it": "(function ($a) { return [$a, new Nested([5, 6]), $a, 7, $a]; })(new A)",
    "the object itself": "(function ($n) { return [1, $n, $n, $n]; })(new Nested(5))",
    "an array before it": "(function ($x) { return [&$x, new Nested(5), &$x]; })([1])",
    "the object around it": "(function ($a) { $a->next = [new Nested(5), $a]; return $a; })(new A)",
    "nothing twice": "[new Nested(5), new A, new Nested(new A), [new A]]",
    "an object inside of it that stands before it": "(function ($a) { return [$a, new Nested($a), $a]; })(new A)",
}


def text_of(in_php, code):
    in_php(CLASSES)
    return bytes.fromhex(in_php("return made($a[0]);", code))


@needs_php
@pytest.mark.parametrize("what", BEHIND)
def test_a_reference_behind_such_an_object_is_refused(in_php, what):
    text = text_of(in_php, BEHIND[what])
    with pytest.raises(php.UnserializeError, match=r"serializes itself \(C:\).*Remedy: ") as caught:
        php.loads(text)
    assert text[caught.value.offset : caught.value.offset + 2] in (b"r:", b"R:")


@needs_php
@pytest.mark.parametrize("what", BEFORE)
def test_a_reference_to_what_comes_before_is_read_and_written_as_php_does(in_php, what):
    text = text_of(in_php, BEFORE[what])
    value = php.loads(text)
    if b"R:" not in text:
        assert php.dumps(value) == text


def test_no_text_of_phps_comes_with_another_object_than_in_php():
    """PHP gives the A at [3]: the 5 inside of the S has number 3."""
    text = b'a:4:{i:0;C:1:"S":4:{i:5;}i:1;O:1:"A":0:{}i:2;O:1:"B":0:{}i:3;r:4;}'
    with pytest.raises(php.UnserializeError, match="refers to value 4, but value 2 is") as caught:
        php.loads(text)
    assert caught.value.offset == text.index(b"r:4")
    # Beyond all that were counted here it is no other error: PHP has counted more.
    with pytest.raises(php.UnserializeError, match="refers to value 7, but value 2 is"):
        php.loads(text.replace(b"r:4", b"r:7"))
    for number in (0, 7):
        with pytest.raises(php.UnserializeError, match=f"value {number}, but only 3 values"):
            php.loads(b"a:3:{i:0;i:5;i:1;i:6;i:2;r:%d;}" % number)


def test_a_segment_says_that_php_alone_can_read_it(php_key):
    text = b'a:3:{i:0;C:1:"S":4:{i:5;}i:1;O:1:"A":0:{}i:2;r:4;}'
    with php.attach(php_key) as segment:
        segment._put_text(3, text)
        with pytest.raises(php.UnserializeError, match=r"index 3.*PHP alone can read its value.*raw\(3\)"):
            segment.get(3)
        assert segment.raw(3) == text


CUSTOM, OTHER, A = PhpCustom("Nested", b"i:5;"), PhpCustom("Nested", b"i:6;"), PhpObject("A")
ROUND = PhpObject("A", {})
ROUND.properties["next"] = ROUND

REFUSED = {
    "an object": ([CUSTOM, A, A], "value[2]"),
    "an object at another depth": ({"k": [CUSTOM], "a": [A, {"b": A}]}, "value['a'][1]['b']"),
    "a second one of its kind": ([CUSTOM, OTHER, OTHER], "value[2]"),
    "a case": ([CUSTOM, case := PhpEnum("Suit", "Hearts"), case], "value[2]"),
    "an object in itself": ([CUSTOM, ROUND], "value[1]['next']"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_stands_behind_a_phpcustom_is_not_written_twice(what):
    value, place = REFUSED[what]
    with pytest.raises(php.SerializeError, match=r"behind a PhpCustom.*Remedy: .*copy\.deepcopy") as caught:
        php.dumps(value)
    assert caught.value.place == place and str(caught.value).startswith(place)


@needs_php
def test_the_remedies_give_php_the_value_that_was_meant(in_php):
    in_php(CLASSES)
    show = "$v = unserialize(hex2bin($a[0])); return $v && $v[$a[1]] === $v[$a[2]];"
    for value, same in (([A, CUSTOM, A], True), ([CUSTOM, A, copy.deepcopy(A)], False)):
        one, two = [at for at, item in enumerate(value) if item == A]
        assert in_php(show, php.dumps(value).hex(), one, two) is same
    # The first one may be there again, and each variable is a text of its own.
    assert in_php(show, php.dumps([CUSTOM, A, CUSTOM]).hex(), 0, 2) is True
    assert in_php(show, php.dumps([OTHER, CUSTOM, OTHER]).hex(), 0, 2) is True
    with pytest.raises(php.SerializeError):
        php.dumps([CUSTOM, OTHER, CUSTOM, OTHER])
