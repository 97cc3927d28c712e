"""Objects of PHP: they come as neutral holders, nothing is called, and they go back to PHP as what they were."""

import copy
import pickle

import helpers
import pytest
from helpers import php as real_php
from helpers import php_values as drawn
from helpers import system_v
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import shmvar
from shmvar import php
from shmvar.php import PhpCustom, PhpEnum, PhpObject

pytestmark = helpers.needs_php

CLASSES = r"""
class Point { public $x = 1; protected $y = 2.5; private $z = "é"; public ?Point $next = null; }
class Child extends Point { private $z = "mine"; public int $n = 7; }
class Own { public $kept; function __construct($kept = null) { $this->kept = $kept; }
    function __serialize(): array { return ["k" => $this->kept, 5 => [1, 2]]; }
    function __unserialize(array $d): void { $this->kept = $d["k"]; } }
class Asleep { public $a = 1; public $b = 2; private $c = 3; function __sleep() { return ["a", "c"]; } }
class Old implements Serializable { public $d = "x;}\0y";
    function serialize() { return $this->d; } function unserialize($d) { $this->d = $d; } }
enum Suit: string { case Hearts = "H"; case Spades = "S"; }
enum Plain { case One; }
function storage() { $s = new SplObjectStorage; $s[new Point] = "a"; $s[new Own] = [1]; return $s; }
function linked_list() { $l = new SplDoublyLinkedList; $l[] = 5; $l[] = [new Point]; return $l; }
"""


@pytest.fixture
def shared(php_key, in_php):
    """One segment, attached by both: (Python's handle, PHP, the raw bytes). In PHP its handle is `$s`."""
    in_php.warned(CLASSES)
    with php.attach(php_key, 1 << 20) as segment:
        in_php("$s = shm_attach($a[0]);", php_key)
        with system_v.RawSegment(php_key) as raw:
            yield segment, in_php, raw


# Each as PHP makes it, and as it comes to Python.
OBJECTS = {
    "(object)[]": PhpObject("stdClass"),
    "(object)['a' => 1, 'b' => [true]]": PhpObject("stdClass", {"a": 1, "b": [True]}),
    "(object)[5 => 'five', 0 => 'zero']": PhpObject("stdClass", {"5": "five", "0": "zero"}),
    '(object)["\\xff" => 1]': PhpObject("stdClass", {"\udcff": 1}),
    "new Point": PhpObject("Point", {"x": 1, "\0*\0y": 2.5, "\0Point\0z": "é", "next": None}),
    "new Asleep": PhpObject("Asleep", {"a": 1, "\0Asleep\0c": 3}),
    "new Own('o')": PhpObject("Own", {"k": "o", 5: [1, 2]}),
    "Suit::Hearts": PhpEnum("Suit", "Hearts"),
    "[Plain::One, Suit::Spades]": [PhpEnum("Plain", "One"), PhpEnum("Suit", "Spades")],
    "new ArrayObject([1, 'a' => 2])": PhpObject("ArrayObject", {0: 0, 1: {0: 1, "a": 2}, 2: [], 3: None}),
    "SplFixedArray::fromArray([1, 2.5])": PhpObject("SplFixedArray", {"0": 1, "1": 2.5}),
    "new Old": PhpCustom("Old", b"x;}\0y"),
}


def as_bytes(string):
    return string.encode() if isinstance(string, str) else string


@pytest.mark.parametrize("code", OBJECTS)
def test_an_object_comes_as_a_holder_and_goes_back_as_what_it_was(shared, code):
    segment, in_php, _ = shared
    in_php.warned(f"shm_put_var($s, 1, {code});")
    found, expected = segment[1], OBJECTS[code]
    if code.startswith("SplFixedArray") and 0 in found.properties:  # the keys are numbers in some versions of PHP
        expected = PhpObject("SplFixedArray", {0: 1, 1: 2.5})
    assert found == expected and type(found) is type(expected)
    goes_back(shared, found)


def goes_back(shared, found):
    """Python puts what it found of variable 1 as variable 2, and PHP finds the same there."""
    segment, in_php, raw = shared
    segment[2] = found
    texts = raw.texts()
    assert texts[2] == texts[1]
    text, _ = in_php.warned("$two = shm_get_var($s, 2); return serialize($two);")
    assert as_bytes(text) == texts[1]


MORE = {
    "an inherited private property": "new Child",
    "nested objects": "(function () { $p = new Point; $p->next = new Child; return [$p, new Point]; })()",
    "storage of objects": "storage()",
    "a date": "new DateTime('2026-01-02 03:04:05.678', new DateTimeZone('Europe/Berlin'))",
    "an unchangeable date and an interval": "[new DateTimeImmutable('@0'), new DateInterval('P1DT2H')]",
    "a queue, a stack and a list": "[new SplQueue, new SplStack, linked_list()]",
    "an iterator over an array": "new ArrayIterator(['x' => new Point])",
    "an exception": "new ErrorException('what', 5)",
    "an object in itself": "(function () { $o = new stdClass; $o->me = $o; $o->in = [$o, [$o]]; return $o; })()",
    "an object of no known class": 'unserialize(\'O:7:"Missing":2:{s:1:"a";i:1;s:4:"\0*\0b";O:5:"Other":0:{}}\')',
}


@pytest.mark.parametrize("what", MORE)
def test_objects_of_phps_own_classes_go_through_python_unchanged(shared, what):
    segment, in_php, _ = shared
    in_php.warned(f"shm_put_var($s, 1, {MORE[what]});")
    found = segment[1]
    # Objects compare by what they hold; those that hold themselves are compared by PHP alone.
    assert php.dumps(found) == segment.raw(1)
    goes_back(shared, found)


def test_one_object_at_several_places_stays_one(shared):
    segment, in_php, _ = shared
    in_php("$o = new Point; shm_put_var($s, 1, [$o, 5, $o, ['k' => $o], new Point, (object)['o' => $o]]);")
    assert segment.raw(1).count(b"r:2;") == 3
    found = segment[1]
    assert found[0] is found[2] is found[3]["k"] is found[5]["o"] and found[4] is not found[0]
    found[0].properties["x"] = "changed"
    segment[2] = found
    code = "$v = shm_get_var($s, 2); return [$v[0] === $v[2], $v[2] === $v[3]['k'], $v[0] === $v[4], $v[5]->o->x];"
    assert in_php(code) == [True, True, False, "changed"]
    # Python makes such values, too.
    shared_object = PhpObject("stdClass", {"n": 1})
    shared_object.properties["self"] = shared_object
    segment[3] = {"a": shared_object, "b": [shared_object]}
    code = "$v = shm_get_var($s, 3); return [$v['a'] === $v['b'][0], $v['a']->self === $v['a'], serialize($v)];"
    assert in_php(code)[:2] == [True, True]
    assert as_bytes(in_php(code)[2]) == segment.raw(3)


def test_an_array_around_an_object_that_has_the_array_is_what_php_makes_of_it(shared):
    segment, in_php, _ = shared
    holder = PhpObject("stdClass")
    around = [holder]
    holder["x"] = around
    segment[1] = around
    code = "$o = new stdClass; $l = [$o]; $o->x = $l; return [serialize($l), serialize($o)];"
    assert [as_bytes(text) for text in in_php(code)] == [segment.raw(1), php.dumps(holder)]
    assert in_php("$v = shm_get_var($s, 1); return $v[0]->x[0] === $v[0];")
    found = segment[1]
    assert found[0]["x"][0] is found[0]
    goes_back(shared, found)


def test_an_array_in_itself_is_refused_unless_an_object_is_in_between(shared):
    segment, in_php, _ = shared
    for deep in (1, 2, 31, 32, 33, 40, 100):  # from a depth on, the containers are found in another way
        holder = PhpObject("stdClass", {})
        outer = inner = [holder]
        for _ in range(deep - 1):
            inner.append([holder])
            inner = inner[-1]
        inner.append(outer)
        with pytest.raises(php.SerializeError, match=r"contains itself.*Remedy: a php\.PhpObject in between"):
            segment[1] = outer
        inner[-1] = PhpObject("stdClass", {"back": outer, "other": {"also": [inner]}})
        segment[1] = outer
        text, _ = in_php.warned("return serialize(shm_get_var($s, 1));")
        assert as_bytes(text) == segment.raw(1)
        # Where there is an object, an array may contain itself only behind a further one.
        holder["x"] = looped = []
        looped.append(looped)
        with pytest.raises(php.SerializeError, match="contains itself"):
            segment[1] = outer


REFERENCES = {
    "to an array": ("$x = [1]; $v = [&$x, &$x];", [[1], [1]]),
    "to a number": ("$x = 5; $v = ['a' => &$x, 'b' => &$x, 'c' => 5];", {"a": 5, "b": 5, "c": 5}),
    "to a text": ("$x = 'é'; $v = [&$x, 1, &$x];", ["é", 1, "é"]),
    "to an object": ("$x = (object)['a' => 1]; $v = [&$x, $x, &$x];", [PhpObject("stdClass", {"a": 1})] * 3),
    "after others": (
        "$x = []; $v = [[1, [2]], (object)['p' => &$x], &$x];",
        [[1, [2]], PhpObject("stdClass", {"p": []}), []],
    ),
    "after an object twice": (
        "$o = new stdClass; $x = 1; $v = [$o, $o, &$x, &$x];",
        [PhpObject("stdClass")] * 2 + [1, 1],
    ),
}


@pytest.mark.parametrize("what", REFERENCES)
def test_references_come_as_the_value_that_they_are_to(shared, what):
    segment, in_php, _ = shared
    code, expected = REFERENCES[what]
    in_php(f"{code} shm_put_var($s, 1, $v);")
    assert b"R:" in segment.raw(1)
    found = segment[1]
    assert found == expected
    # Without the references, for Python has none: the values are there.
    segment[2] = found
    assert in_php("return shm_get_var($s, 2) == shm_get_var($s, 1);")


def test_an_array_in_itself_comes_and_no_call_ends_in_endless_work(shared):
    segment, in_php, _ = shared
    in_php("$v = [1]; $v['me'] = &$v; shm_put_var($s, 1, $v);")
    found = segment[1]
    assert found[0] == 1
    inner = found["me"]
    assert inner[0] == 1 and inner["me"] is inner
    # Such a value has no text without references: it is written with them or refused, at once.
    try:
        segment[2] = found
    except php.SerializeError:
        assert 2 not in segment
    else:
        assert in_php("$v = shm_get_var($s, 2); return $v['me']['me']['me'][0];") == 1


@pytest.mark.parametrize(
    "code", ["function () {}", "new class {}", "(function () { yield 1; })()", "[1, [2, fn () => 3]]", "$s"]
)
def test_what_php_refuses_to_serialize_leaves_a_text_that_python_tells_as_damage(shared, code):
    """PHP before 8.5 stores the beginning of the text all the same."""
    segment, in_php, raw = shared
    segment[7] = "other"
    with pytest.raises(real_php.Thrown, match="is not allowed"):
        in_php(f"shm_put_var($s, 1, {code});")
    if raw.texts().get(1):
        with pytest.raises(shmvar.CorruptSegmentError, match="index 1"):
            segment.get(1)
    segment[1] = "mended"
    assert in_php("return [shm_get_var($s, 1), shm_get_var($s, 7)];") == ["mended", "other"]


# --- objects that hypothesis makes

property_names = drawn.texts.filter(lambda name: not name.startswith("\0"))
objects = st.deferred(
    lambda: st.builds(
        PhpObject,
        st.sampled_from(["stdClass", "Unknown", "Vendor\\Package\\Thing", "Klasse_é"]),
        st.dictionaries(property_names, anything, max_size=4),
    )
)
enums = st.sampled_from([PhpEnum("Suit", "Hearts"), PhpEnum("Suit", "Spades"), PhpEnum("Plain", "One")])
anything = st.recursive(
    st.one_of(drawn.scalars, enums), lambda inner: st.one_of(drawn.containers(inner), objects), max_leaves=20
)


def test_objects_that_python_makes_are_what_php_reads_and_would_have_written(shared):
    segment, in_php, raw = shared

    @hypothesis_settings(max_examples=200)
    @given(anything)
    def check(value):
        segment[1] = value
        text = raw.texts()[1]
        assert as_bytes(in_php("return serialize(shm_get_var($s, 1));")) == text
        again = segment[1]
        assert php.dumps(again) == text == php.dumps(value)

    check()


@st.composite
def webs(draw):
    """A list of objects that are at several places, and may be in themselves."""
    made = [PhpObject("stdClass", {}) for _ in range(draw(st.integers(1, 6)))]
    pick = st.sampled_from(made)
    for one in made:
        for name in draw(st.lists(st.sampled_from("abcd"), max_size=3, unique=True)):
            one.properties[name] = draw(
                st.one_of(pick, st.lists(st.one_of(pick, drawn.scalars), max_size=3), drawn.scalars)
            )
    return draw(st.lists(st.one_of(pick, drawn.scalars), min_size=1, max_size=6))


def test_webs_of_objects_have_the_numbers_that_php_gives_them(shared):
    segment, in_php, raw = shared

    @hypothesis_settings(max_examples=200)
    @given(webs())
    def check(value):
        segment[1] = value
        text = raw.texts()[1]
        assert as_bytes(in_php("return serialize(shm_get_var($s, 1));")) == text
        assert php.dumps(segment[1]) == text

    check()


def test_holders_are_plain_values():
    point = PhpObject("Point", {"x": 1, "\0*\0y": 2, "\0Point\0z": 3})
    assert (point["x"], point["y"], point["z"]) == (1, 2, 3) and point.class_name == "Point"
    with pytest.raises(KeyError):
        point["missing"]
    assert point == PhpObject("Point", dict(point.properties)) != PhpObject("Other", dict(point.properties))
    assert point != PhpObject("Point", {"x": 1})
    for again in (copy.deepcopy(point), pickle.loads(pickle.dumps(point))):
        assert again == point and again is not point
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        point.properties["me"] = [point]
        for holder in (point, PhpEnum("Suit", "H"), PhpCustom("Old", b"x")):
            again = pickle.loads(pickle.dumps(holder, protocol))
            assert type(again) is type(holder) and again is not holder
            if holder is point:
                assert again["me"][0] is again and again["x"] == 1 and list(again.properties) == list(point.properties)
            else:
                assert again == holder
    assert "Point" in repr(point) and "x" in repr(point)
    assert {PhpEnum("Suit", "H"): 1}[PhpEnum("Suit", "H")] == 1 and PhpEnum("Suit", "H") != PhpEnum("Suit", "S")
    with pytest.raises(AttributeError):
        PhpEnum("Suit", "H").case = "S"
    assert PhpCustom("Old", b"x") == PhpCustom("Old", b"x") != PhpCustom("Old", b"y")
