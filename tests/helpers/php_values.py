"""Values that PHP can hold, as hypothesis strategies; what comes back of each; and an exact comparison."""

import re
import struct

from hypothesis import strategies as st

INT_MIN, INT_MAX = -(2**63), 2**63 - 1

# --- what is drawn

edges = [0, 1, -1, 9, 10, 99_999, 100_000, 2**31 - 1, 2**31, -(2**31), 2**53 + 1, INT_MAX, INT_MIN, INT_MAX - 1]
integers = st.one_of(st.sampled_from(edges), st.integers(INT_MIN, INT_MAX))
floats = st.one_of(
    st.floats(),
    st.floats(allow_subnormal=True, min_value=-1e-300, max_value=1e-300),
    st.integers(-(10**18), 10**18).map(float),
    st.integers(0, 2**64 - 1).map(lambda bits: struct.unpack("<d", struct.pack("<Q", bits))[0]),
    st.sampled_from([1e15, 1e16, 1e17, 1e22, 1e25, 1e-4, 1e-5, 123456789012345680.0, 5e-324, 2.2250738585072014e-308]),
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
awkward = st.sampled_from(["", '"', '";i:1;', "\0", "}", "é", b"\xff\xfe"])
strings = st.one_of(texts, st.binary(max_size=40), awkward, st.integers(100, 3000).map("a".__mul__))
scalars = st.one_of(st.none(), st.booleans(), integers, floats, strings)


def is_number_to_php(key):
    """Does PHP take this key (text or bytes) for a number?"""
    key = key.encode() if isinstance(key, str) else key
    return re.fullmatch(rb"0|-?[1-9][0-9]{0,18}", key) is not None and INT_MIN <= int(key) <= INT_MAX


tricky_keys = [
    "-0",
    "00",
    "01",
    " 1",
    "1 ",
    "+1",
    "1.0",
    "-",
    "",
    "9223372036854775808",
    "-9223372036854775809",
    "\0",
    "٣",
]
string_keys = st.one_of(texts, st.binary(max_size=10), st.sampled_from(tricky_keys))
keys = st.one_of(integers, st.integers(-3, 5), string_keys.filter(lambda key: not is_number_to_php(key)))


def _key_in_php(key):
    return key.encode() if isinstance(key, str) else key


def dicts(values, **options):
    """Dicts with keys that stay apart in PHP, where text and bytes are the same."""
    pairs = st.tuples(keys, values)
    return st.lists(pairs, unique_by=lambda pair: _key_in_php(pair[0]), **options).map(dict)


def containers(values):
    return st.one_of(st.lists(values, max_size=6), dicts(values, max_size=6))


values = st.recursive(scalars, containers, max_leaves=25)

# --- what comes back


def decoded(string):
    """A string of PHP's as it is read by default: text where it is UTF-8, bytes elsewhere."""
    try:
        return bytes(string).decode()
    except UnicodeDecodeError:
        return bytes(string)


def comes_back(value):
    """What is read of a value that went through PHP, with the default options."""
    if isinstance(value, bytes | bytearray):
        return decoded(value)
    if isinstance(value, list | tuple):
        return [comes_back(content) for content in value]
    if isinstance(value, dict):
        if list(value) == list(range(len(value))) and not any(isinstance(key, bool) for key in value):
            return [comes_back(content) for content in value.values()]
        return {comes_back(key): comes_back(content) for key, content in value.items()}
    return value


def same(one, other):
    """Are two values the same: types, order of keys, bits of floats? (All NaN are one to PHP.)"""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return (one != one and other != other) or struct.pack("<d", one) == struct.pack("<d", other)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return same(list(one), list(other)) and same(list(one.values()), list(other.values()))
    return one == other


# --- the text, made from the value by the rules of the notes: a second writer, so that two must agree


def text_of(value, float_text):
    """The serialized text; `float_text` tells PHP's spelling of a float, as bytes."""
    if value is None:
        return b"N;"
    if isinstance(value, bool):
        return b"b:%d;" % value
    if isinstance(value, int):
        return b"i:%d;" % value
    if isinstance(value, float):
        return b"d:" + float_text(value) + b";"
    if isinstance(value, str | bytes):
        content = value.encode() if isinstance(value, str) else value
        return b's:%d:"%s";' % (len(content), content)
    pairs = enumerate(value) if isinstance(value, list) else value.items()
    inner = b"".join(text_of(key, float_text) + text_of(content, float_text) for key, content in pairs)
    return b"a:%d:{%s}" % (len(value), inner)
