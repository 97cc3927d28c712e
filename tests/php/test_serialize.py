"""`php.loads` and `php.dumps`: what PHP 8.2 writes for these values, and what becomes of them."""

import enum
import math
import pickle
import random
import struct
from collections import Counter, OrderedDict, defaultdict, namedtuple
from decimal import Decimal

import pytest
from helpers.php_texts import BOTH_WAYS, DAMAGED

from shmvar import Error, php
from shmvar.php import PhpCustom, PhpEnum, PhpObject


def same(one: object, other: object) -> bool:
    """Equal, and of the same class, -0.0 apart from 0.0."""
    return repr(one) == repr(other)


@pytest.mark.parametrize(("text", "value"), BOTH_WAYS, ids=repr)
def test_what_php_writes_is_read_and_written_again(text, value):
    assert same(php.loads(text), value)
    assert php.dumps(value) == text
    for kind in bytearray, memoryview:
        assert same(php.loads(kind(text)), value)


def test_nan_is_read_and_written():
    assert math.isnan(php.loads(b"d:NAN;"))
    assert php.dumps(math.nan) == php.dumps(-math.nan) == b"d:NAN;"


# Texts that PHP reads, although it does not write them.
@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"i:+5;", 5),
        (b"i:007;", 7),
        (b"i:-0;", 0),
        (b"d:1.;", 1.0),
        (b"d:.5;", 0.5),
        (b"d:-1E-5;", -1e-5),
        (b"d:+1e+5;", 1e5),
        (b's:02:"hi";', "hi"),
        (b'S:3:"a\\41b";', "aAb"),
        (b'S:2:"\\ff\\FE";', b"\xff\xfe"),
        (b'a:1:{S:1:"\\61";i:1;}', {"a": 1}),
        (b'a:1:{s:1:"5";i:1;}', {5: 1}),
        (b'a:2:{s:1:"0";i:1;s:1:"1";i:2;}', [1, 2]),
        (b'a:3:{s:1:"a";i:1;s:1:"b";i:2;s:1:"a";i:3;}', {"a": 3, "b": 2}),
        (b"a:3:{i:0;i:1;i:1;i:2;i:0;i:3;}", {0: 3, 1: 2}),
        (b'a:2:{i:5;i:1;s:1:"5";i:2;}', {5: 2}),
    ],
    ids=repr,
)
def test_what_php_reads_is_read_alike(text, value):
    found = php.loads(text)
    assert same(found, value)


@pytest.mark.parametrize(("text", "offset", "words"), DAMAGED, ids=repr)
def test_a_damaged_text_is_refused_with_the_place(text, offset, words):
    with pytest.raises(php.UnserializeError) as raised:
        php.loads(text)
    assert raised.value.offset == offset
    assert str(raised.value).startswith(f"offset {offset}: ")
    assert words in str(raised.value)
    assert isinstance(raised.value, Error) and isinstance(raised.value, ValueError)
    again = pickle.loads(pickle.dumps(raised.value))
    assert (str(again), again.offset) == (str(raised.value), offset)


def test_a_text_is_damaged_wherever_it_is_cut_short():
    for text, _ in BOTH_WAYS:
        for end in range(len(text)):
            with pytest.raises(php.UnserializeError):
                php.loads(text[:end])


# --- references


def test_the_same_object_twice_is_the_same_object():
    text = b'a:4:{i:0;O:8:"stdClass":1:{s:4:"self";r:2;}i:1;r:2;i:2;i:1;i:3;r:2;}'
    value = php.loads(text)
    assert value[0]["self"] is value[0] is value[1] is value[3]
    assert php.dumps(value) == text


def test_r_has_a_number_and_R_has_none():
    # PHP made it of [&$x, &$x, $o, &$o, &$o, $o, 7], where $o->self is $o.
    text = b'a:7:{i:0;i:5;i:1;R:2;i:2;O:8:"stdClass":1:{s:4:"self";r:3;}i:3;R:3;i:4;R:3;i:5;r:3;i:6;i:7;}'
    value = php.loads(text)
    assert value[:2] == [5, 5] and value[6] == 7
    assert all(value[at] is value[2] for at in (3, 4, 5)) and value[2]["self"] is value[2]
    # PHP made it of [&$array, &$array, $o, $o], with the same $o.
    text = b'a:4:{i:0;a:2:{i:0;i:1;i:1;i:2;}i:1;R:2;i:2;O:8:"stdClass":1:{s:4:"self";r:5;}i:3;r:5;}'
    value = php.loads(text)
    assert value[0] == [1, 2] and value[0] is value[1] and value[2] is value[3] is value[2]["self"]
    assert php.dumps(value[2:]) == b'a:2:{i:0;O:8:"stdClass":1:{s:4:"self";r:2;}i:1;r:2;}'


def test_an_array_may_refer_to_itself():
    value = php.loads(b"a:2:{i:0;i:1;i:1;R:1;}")
    assert value[0] == 1 and value[1] is value
    value = php.loads(b'a:2:{s:1:"a";R:1;i:0;a:1:{i:0;R:1;}}')
    assert value["a"] is value and value[0][0] is value
    value = php.loads(b"a:1:{i:0;R:1;}", arrays="dict")
    assert value[0] is value


def test_an_enum_and_an_object_with_data_of_its_own_have_numbers():
    text = b'a:4:{i:0;E:6:"Suit:H";i:1;r:2;i:2;C:1:"S":1:{x}i:3;r:4;}'
    value = php.loads(text)
    assert value[0] is value[1] and value[2] is value[3]
    assert php.dumps(value) == text


def test_references_beside_a_key_that_occurs_twice_are_refused():
    # In PHP they go to the place: to 1 in the first text, and to themselves in the second, which PHP refuses.
    for text in (b'a:3:{s:1:"a";a:1:{i:0;i:5;}s:1:"a";i:1;s:1:"b";R:2;}', b"a:2:{i:0;a:0:{}i:0;R:2;}"):
        with pytest.raises(php.UnserializeError, match="a key occurs twice"):
            php.loads(text)


def test_the_same_list_twice_is_two_arrays():
    inner = [1]
    assert php.dumps([inner, inner]) == b"a:2:{i:0;a:1:{i:0;i:1;}i:1;a:1:{i:0;i:1;}}"


# --- options


def test_strings_may_all_be_bytes():
    text = b'a:2:{s:1:"a";s:1:"b";s:2:"\xc3\xa9";O:1:"C":1:{s:1:"p";s:1:"v";}}'
    assert php.loads(text, strings="bytes") == {b"a": b"b", "é".encode(): PhpObject("C", {"p": b"v"})}
    assert php.dumps(php.loads(text, strings="bytes")) == text
    assert php.loads(b's:1:"a";', strings="bytes") == b"a"


def test_arrays_may_all_be_dicts():
    assert php.loads(b"a:1:{i:0;a:0:{}}", arrays="dict") == {0: {}}
    text = b'a:2:{i:0;O:1:"C":0:{}i:1;r:2;}'
    assert php.loads(text, arrays="dict") == {0: PhpObject("C"), 1: PhpObject("C")}


@pytest.mark.parametrize("option", ["strings", "arrays"])
def test_an_option_has_its_values_and_no_other(option):
    with pytest.raises(ValueError, match=f'{option} must be "auto" or '):
        php.loads(b"N;", **{option: "other"})
    with pytest.raises(TypeError, match=f"{option} must be .* not int"):
        php.loads(b"N;", **{option: 1})


def test_loads_takes_bytes_and_no_text():
    with pytest.raises(TypeError, match="takes bytes, not str"):
        php.loads("N;")
    with pytest.raises(TypeError):
        php.loads(5)


def test_the_depth_is_limited_as_in_php():
    def nested(depth):
        return b"a:1:{i:0;" * depth + b"i:1;" + b"}" * depth

    value = php.loads(nested(4096))
    assert php.dumps(value) == nested(4096)
    with pytest.raises(php.UnserializeError, match=r"more than 4096 arrays inside each other.*max_depth") as raised:
        php.loads(nested(4097))
    assert raised.value.offset == 9 * 4096
    with pytest.raises(php.SerializeError, match=r"value\[0\].* more \.\.\..*max_depth = 4096"):
        php.dumps([value])
    deep = php.loads(nested(100_000), max_depth=100_000)
    assert php.dumps(deep, max_depth=100_000) == nested(100_000)


def test_the_number_of_values_and_the_memory_are_limited():
    text = php.dumps(list(range(100)))
    assert len(php.loads(text, max_values=101)) == 100
    with pytest.raises(php.UnserializeError, match=r"more than 100 values.*max_values"):
        php.loads(text, max_values=100)
    with pytest.raises(php.UnserializeError, match=r"more than 1000 bytes of memory.*max_memory"):
        php.loads(text, max_memory=1000)


def test_the_size_of_a_text_is_limited():
    assert len(php.dumps("x" * 100, max_size=109)) == 109
    with pytest.raises(php.SerializeError, match="max_size = 108 bytes"):
        php.dumps("x" * 100, max_size=108)
    value = []
    for _ in range(60):
        value = [value, value]
    with pytest.raises(php.SerializeError, match=r"value\[0\]\[0\].*max_size = 100000 bytes"):
        php.dumps(value, max_size=100_000)


# --- what is written


class Colour(enum.IntEnum):
    RED = 1


class Name(enum.StrEnum):
    A = "a"


class Int(int):
    def __index__(self):
        raise AssertionError

    __int__ = __index__


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("value", "like"),
    [
        (Colour.RED, 1),
        (Name.A, "a"),
        (Int(7), 7),
        (type("Text", (str,), {})("x"), "x"),
        (type("Float", (float,), {})(0.5), 0.5),
        (type("List", (list,), {})([1]), [1]),
        (Point(1, 2), [1, 2]),
        ((1, (2,)), [1, [2]]),
        (bytearray(b"x"), "x"),
        (memoryview(b"abcdef")[::2], "ace"),
        (Counter("aab"), {"a": 2, "b": 1}),
        (defaultdict(list, a=[1]), {"a": [1]}),
        ({Colour.RED: 1}, {1: 1}),
        ({b"a": 1}, {"a": 1}),
        ("\udcff", b"\xff"),
        ({"\udcff": "x\udcfe"}, {b"\xff": b"x\xfe"}),
    ],
    ids=lambda value: "a memoryview" if isinstance(value, memoryview) else ascii(value),
)
def test_what_is_derived_is_written_as_what_it_derives_from(value, like):
    assert php.dumps(value) == php.dumps(like)
    assert php.dumps([value]) == php.dumps([like])


def test_an_ordered_dict_is_written_in_its_order():
    value = OrderedDict(a=1, b=2)
    value.move_to_end("a")
    assert php.dumps(value) == b'a:2:{s:1:"b";i:2;s:1:"a";i:1;}'


def test_numbers_of_numpy_are_numbers():
    numpy = pytest.importorskip("numpy")
    assert php.dumps([numpy.int8(3), numpy.float32(0.5), numpy.float64(0.1), numpy.bool_(True)]) == (
        b"a:4:{i:0;i:3;i:1;d:0.5;i:2;d:0.1;i:3;b:1;}"
    )
    assert php.dumps({numpy.uint64(5): 1}) == b"a:1:{i:5;i:1;}"
    with pytest.raises(php.SerializeError, match=r"numpy.ndarray. Remedy: value.tolist\(\)"):
        php.dumps(numpy.arange(3))


def test_a_bool_of_numpy_is_no_key_though_it_has_an_index(monkeypatch):
    """Up to numpy 2.2 its bools have an `__index__`, as if they were ints."""
    numpy = pytest.importorskip("numpy")
    with pytest.raises(php.SerializeError, match="Remedy: the int 0 or 1"):
        php.dumps({numpy.bool_(True): 1})
    old = type("OldBool", (), {"__index__": lambda self: 1})
    assert php.dumps({old(): 1}) == b"a:1:{i:1;i:1;}" and php.dumps([old()]) == b"a:1:{i:0;i:1;}"
    monkeypatch.setattr(numpy, "bool_", old)
    with pytest.raises(php.SerializeError, match="of class OldBool, but PHP's keys are int or str"):
        php.dumps({old(): 1})
    assert php.dumps([old()]) == b"a:1:{i:0;b:1;}"


class Plain(enum.Enum):
    A = 1


def shared_cycle():
    value = {"a": [1]}
    value["a"].append(value)
    return value


@pytest.mark.parametrize(
    ("value", "place", "words"),
    [
        (2**63, "value", "65 bits, but PHP's ints have 64"),
        ([0, -(2**63) - 1], "value[1]", "65 bits"),
        ({"a": [1, {2}]}, "value['a'][1]", "set. Remedy: sorted(value) or list(value)"),
        ([Decimal(1)], "value[0]", "str(value)"),
        (Plain.A, "value", "value.value"),
        (range(3), "value", "list(value)"),
        (object(), "value", "class object"),
        (1j, "value", "complex"),
        ([{"5": 1}], "value[0]", "the int 5 as the key"),
        ({b"-7": 1}, "value", "the int -7 as the key"),
        ({"5": 1, 5: 2}, "value", "the int 5"),
        ({"a": {True: 1}}, "value['a']", "the int 0 or 1"),
        ({None: 1}, "value", "the empty str"),
        ({1.5: 1}, "value", "class float"),
        ({(1, 2): 1}, "value", "class tuple"),
        ({2**63: 1}, "value", "beyond 64 bits"),
        ({"a": 1, b"a": 2}, "value", "merge"),
        ({"x": "\ud800"}, "value['x']", "lone surrogate at index 0"),
        ({"\ud800": 1}, "value", "lone surrogate"),
        (shared_cycle(), "value['a'][1]", "contains itself"),
        (PhpObject("C", {5: 1, "5": 2}), "value", "merge"),
        ([PhpObject("a b")], "value[0]", "class name 'a b'"),
        (PhpObject("C", {"p": {3}}), "value['p']", "set"),
        (PhpEnum("Suit", ""), "value", "name of the case"),
    ],
    ids=lambda value: "an object" if type(value) is object else ascii(value),
)
def test_what_php_cannot_hold_is_refused_with_its_place(value, place, words):
    with pytest.raises(php.SerializeError) as raised:
        php.dumps(value)
    assert raised.value.place == place
    assert str(raised.value).startswith(f"{place}: ") and words in str(raised.value)
    assert isinstance(raised.value, Error) and isinstance(raised.value, ValueError)
    again = pickle.loads(pickle.dumps(raised.value))
    assert (str(again), again.place) == (str(raised.value), place)


def test_a_property_may_be_named_by_digits():
    assert php.dumps(PhpObject("C", {"5": 1})) == b'O:1:"C":1:{s:1:"5";i:1;}'


def test_errors_of_the_program_pass():
    class Index:
        def __index__(self):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        php.dumps([Index()])


def test_a_container_that_changes_meanwhile_is_an_error():
    class Index:
        def __index__(self):
            value.clear()
            return 1

    for value in ([Index(), 2, 3], {"a": Index(), "b": 2}):
        with pytest.raises(RuntimeError, match="changed while it was written"):
            php.dumps(value)


def test_every_float_comes_back_bit_for_bit():
    numbers = random.Random(17)
    for _ in range(20_000):
        number = struct.unpack("<d", numbers.randbytes(8))[0]
        if not math.isnan(number):
            assert struct.pack("<d", php.loads(php.dumps(number))) == struct.pack("<d", number)


# --- the classes


def test_a_property_is_found_whatever_its_visibility():
    value = PhpObject("C", {"a": 1, "\0*\0b": 2, "\0C\0c": 3, "\0Base\0d": 4, 5: 6})
    assert [value[name] for name in ("a", "b", "c", "d", 5, "\0*\0b")] == [1, 2, 3, 4, 6, 2]
    assert "c" in value and "e" not in value and None not in value
    with pytest.raises(KeyError):
        value["e"]
    value["b"] = 7
    value["new"] = 8
    assert value.properties == {"a": 1, "\0*\0b": 7, "\0C\0c": 3, "\0Base\0d": 4, 5: 6, "new": 8}


def test_values_of_php_are_compared_shown_and_pickled():
    values = [PhpObject("C", {"a": [1]}), PhpEnum("Suit", "H"), PhpCustom("S", b"x")]
    for value in values:
        assert eval(repr(value)) == value == pickle.loads(pickle.dumps(value))
        assert value != values[0] or value is values[0]
        assert not hasattr(value, "__dict__")
    assert PhpObject("C") != PhpObject("D") and PhpObject("C", {"a": 1}) != PhpObject("C")
    assert len({PhpEnum("Suit", "H"), PhpEnum("Suit", "H"), PhpCustom("S", b""), PhpCustom("S", b"")}) == 2
    with pytest.raises(TypeError):
        hash(values[0])
    for value in values[1:]:
        with pytest.raises(AttributeError, match="cannot be changed"):
            value.class_name = "x"
    with pytest.raises(TypeError):
        PhpObject(5)
    with pytest.raises(TypeError):
        PhpCustom("S", "text")


def test_an_object_that_contains_itself_has_a_repr():
    value = PhpObject("C")
    value["self"] = value
    assert repr(value) == "PhpObject('C', {'self': PhpObject(...)})"
    assert php.dumps(value) == b'O:1:"C":1:{s:4:"self";r:1;}'
