"""What does not fit, what is damaged, what is none of PHP's: the error, what it says, and that nothing has changed."""

import pickle

import pytest
from helpers import system_v

import shmvar
from shmvar import php


@pytest.fixture
def segment(php_key):
    with php.attach(php_key) as made:
        yield made


def bytes_of(key):
    with system_v.RawSegment(key) as raw:
        return raw[:]


def said(error, key, call, *words):
    """`call` raises `error`, which names the key once, and the words, and can be pickled."""
    with pytest.raises(error) as caught:
        call()
    text = str(caught.value)
    assert text.count("key ") == 1 and f"key {key} (0x{key & 0xFFFFFFFF:08x})" in text, text
    assert all(str(word) in text for word in words), (text, words)
    again = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is type(caught.value) and str(again) == text and vars(again) == vars(caught.value)
    return caught.value


# --- room


def test_an_empty_segment_of_10000_bytes_holds_what_phps_holds(segment):
    said(shmvar.SegmentFullError, segment.key, lambda: segment.put(1, "x" * 9919), "index 1")
    assert segment == {}
    segment[1] = "x" * 9918
    assert segment.info().free == 0 and segment[1] == "x" * 9918
    segment.clear()
    for number in range(249):
        segment[number] = number
    assert segment.info().free == 0
    error = said(shmvar.SegmentFullError, segment.key, lambda: segment.put(249, 1), "index 249", 40, 10_000)
    assert (error.needed, error.free, error.size) == (40, 0, 10_000)
    assert segment == {number: number for number in range(249)}


def test_a_value_that_does_not_fit_leaves_the_old_one_which_php_would_not(segment):
    segment.update({1: "old", 2: "x" * 9000})
    before = bytes_of(segment.key)
    for value in ("y" * 900, "y" * 100_000, list(range(2000))):
        error = said(shmvar.SegmentFullError, segment.key, lambda value=value: segment.put(1, value), "index 1")
        assert error.needed > error.free and error.size == 10_000
        assert bytes_of(segment.key) == before
    assert segment[1] == "old"


def test_what_fits_in_place_of_the_old_value_alone_is_stored(segment):
    segment.update({1: "x" * 9800, 2: 2})
    segment[1] = "y" * 9800
    segment[1] = "z" * 9878
    assert segment == {1: "z" * 9878, 2: 2} and segment.info().free == 0


def test_the_remedies_for_what_is_full_work(segment, new_php_key):
    segment.update({1: "x" * 5000, 2: "y" * 4000})
    with pytest.raises(shmvar.SegmentFullError, match=r"remove|larger"):
        segment[3] = "z" * 3000
    del segment[1]
    segment[3] = "z" * 3000
    with php.attach(new_php_key(), 100_000) as larger:
        larger.update(segment)
        larger[1] = "x" * 5000
        assert len(larger) == 3


def test_needed_and_free_are_the_true_numbers(segment):
    segment[1] = "x" * 100
    for length in (9800, 20_000, 123_456):
        error = said(shmvar.SegmentFullError, segment.key, lambda length=length: segment.put(2, "y" * length))
        assert error.needed == system_v.own_size(php.dumps("y" * length)) and error.free == segment.info().free
    # What is replaced makes room.
    error = said(shmvar.SegmentFullError, segment.key, lambda: segment.put(1, "y" * 9990))
    assert error.needed == system_v.own_size(php.dumps("y" * 9990))
    assert error.free in (segment.info().free, segment.info().free + system_v.own_size(segment.raw(1)))


# --- values


CANNOT = {
    "a function": lambda: print,
    "an object": object,
    "a set": lambda: {1},
    "an int beyond 64 bits": lambda: 2**63,
    "deep inside": lambda: [1, {"a": [2, 3j]}],
    "itself": lambda: _loop(),
    "two keys that are one in PHP": lambda: {"5": 1, 5: 2},
    "a module": lambda: php,
}


def _loop():
    loop = []
    loop.append(loop)
    return loop


@pytest.mark.parametrize("what", CANNOT)
def test_a_value_that_php_cannot_hold_changes_nothing(segment, what):
    segment.update({1: "old", 2: [1]})
    before = bytes_of(segment.key)
    for call in (segment.put, segment.__setitem__, lambda index, value: segment.update({5: 5, index: value})):
        with pytest.raises(php.SerializeError):
            call(1, CANNOT[what]())
    with pytest.raises(php.SerializeError):
        segment.setdefault(3, CANNOT[what]())
    assert segment.setdefault(1, CANNOT[what]()) == "old"
    assert bytes_of(segment.key) == before


def test_what_raises_while_it_is_serialized_changes_nothing(segment):
    class Text(str):
        def encode(self, *args):
            raise LookupError

    class Items(dict):
        def items(self):
            raise LookupError

    segment[1] = "old"
    before = bytes_of(segment.key)
    for value in (Items({1: 1}), [Text("x")]):
        try:
            segment[1] = value
        except (LookupError, php.SerializeError):
            assert bytes_of(segment.key) == before
        else:
            segment[1] = "old"
    with pytest.raises(LookupError):
        segment.update(_Broken())
    assert segment == {1: "old"}


class _Broken:
    def keys(self):
        return iter([2, 3])

    def __getitem__(self, index):
        if index == 3:
            raise LookupError
        return index


# --- damage


DAMAGED_TEXTS = [b"", b"i", b"i:5", b"x:1;", b"a:1:{i:0;i:1;", b's:5:"ab";', b"i:5;rest", b"N;" * 2, b"r:9;", b"b:2;"]


@pytest.mark.parametrize("text", DAMAGED_TEXTS)
def test_a_damaged_text_names_the_key_the_index_and_the_offset(segment, text):
    segment.update({5: "before"})
    segment._put_text(7, text)
    before = bytes_of(segment.key)
    (offset,) = (at + 24 for at, index, _ in chunks_of(segment.key) if index == 7)
    for call in (
        lambda: segment[7],
        lambda: segment.get(7),
        lambda: segment.pop(7),
        lambda: segment.setdefault(7, 1),
        segment.popitem,
        segment.copy,
    ):
        error = said(shmvar.CorruptSegmentError, segment.key, call, "index 7", "offset")
        assert isinstance(error.__cause__, php.UnserializeError)
        assert str(offset) in str(error) or str(offset + error.__cause__.offset) in str(error)
    assert bytes_of(segment.key) == before and segment.raw(7) == text and segment.has(7) and segment[5] == "before"
    # The remedies.
    segment[7] = "anew"
    assert segment[7] == "anew"
    segment._put_text(7, text)
    del segment[7]
    assert segment == {5: "before"}


def test_a_text_that_asks_for_too_much_is_not_called_damaged_and_the_remedy_works(segment):
    deep = b"a:1:{i:0;" * 400 + b"N;" + b"}" * 400
    segment._put_text(7, deep)
    assert php.dumps(segment[7]) == deep
    with php.attach(segment.key + (1 << 20), 200_000, create=True) as larger:
        larger.destroy()
        deep = b"a:1:{i:0;" * 5000 + b"N;" + b"}" * 5000
        larger._put_text(7, deep)
        with pytest.raises(php.UnserializeError, match=r"index 7: .*more than 4096") as caught:
            larger[7]
        assert not isinstance(caught.value, shmvar.CorruptSegmentError) and "raw(7)" in str(caught.value)
        assert php.dumps(php.loads(larger.raw(7), max_depth=6000), max_depth=6000) == deep


def chunks_of(key):
    with system_v.RawSegment(key) as raw:
        return raw.chunks()


CHANGES = {
    "put": lambda segment: segment.put(1, "new"),
    "put of a new one": lambda segment: segment.put(99, "new"),
    "remove": lambda segment: segment.remove(2),
    "update": lambda segment: segment.update({1: 1, 99: 2}),
    "pop": lambda segment: segment.pop(2),
    "popitem": lambda segment: segment.popitem(),
    "setdefault": lambda segment: segment.setdefault(99, 1),
    "_put_text": lambda segment: segment._put_text(1, b"N;"),
}
HEADERS = [
    {"start": 39},
    {"start": 41},
    {"start": -8},
    {"start": 2**62},
    {"end": 32},
    {"end": 10_008},
    {"end": -1},
    {"end": 2**63 - 1},
    {"total": 10_001},
    {"total": 39},
    {"total": -5},
]


def test_a_free_below_0_is_refused_by_what_changes_something(segment):
    segment.update({1: "one", 2: "two"})
    with system_v.RawSegment(segment.key) as raw:
        raw.set(free=-1)
    before = bytes_of(segment.key)
    for call in CHANGES.values():
        said(shmvar.CorruptSegmentError, segment.key, lambda call=call: call(segment))
    assert bytes_of(segment.key) == before


@pytest.mark.parametrize("fields", HEADERS, ids=str)
def test_a_header_that_lies_is_not_believed(segment, fields):
    segment.update({1: "one", 2: "two", 3: "three"})
    with system_v.RawSegment(segment.key) as raw:
        raw.set(**fields)
    before = bytes_of(segment.key)
    for call in (
        *CHANGES.values(),
        lambda s: s[1],
        lambda s: s.has(1),
        len,
        list,
        lambda s: s.copy(),
        lambda s: s.info(),
    ):
        said(shmvar.CorruptSegmentError, segment.key, lambda call=call: call(segment))
    said(shmvar.CorruptSegmentError, segment.key, lambda: php.attach(segment.key))
    assert "unreadable" in repr(segment) and bytes_of(segment.key) == before
    # The remedy of last resort: the key is free again.
    segment.destroy()
    with php.attach(segment.key, create=True) as fresh:
        assert fresh == {}


CHAINS = {
    "a length below 0": lambda raw, at: raw.set_number(at + 8, -1),
    "a length beyond the chunk": lambda raw, at: raw.set_number(at + 8, 2**62),
    "a distance of 0": lambda raw, at: raw.set_number(at + 16, 0),
    "a distance below 0": lambda raw, at: raw.set_number(at + 16, -40),
    "a distance that is no multiple of 8": lambda raw, at: raw.set_number(at + 16, 41),
    "a distance beyond the end": lambda raw, at: raw.set_number(at + 16, 5000),
}


@pytest.mark.parametrize("how", CHAINS)
def test_a_chain_that_lies_is_not_believed(segment, how):
    segment.update({1: "one", 2: "two", 3: "three"})
    (at,) = (at for at, index, _ in chunks_of(segment.key) if index == 2)
    with system_v.RawSegment(segment.key) as raw:
        CHAINS[how](raw, at)
    before = bytes_of(segment.key)
    for name, call in CHANGES.items():
        error = said(shmvar.CorruptSegmentError, segment.key, lambda call=call: call(segment))
        assert str(at) in str(error) or name == "popitem", (name, str(error))
    assert segment[1] == "one"  # as in PHP, what comes before can be read
    assert bytes_of(segment.key) == before


def test_an_index_that_occurs_twice_is_not_replaced(segment):
    segment.update({1: "one", 2: "two", 3: "three"})
    (at,) = (at for at, index, _ in chunks_of(segment.key) if index == 2)
    with system_v.RawSegment(segment.key) as raw:
        raw.set_number(at, 1)
    before = bytes_of(segment.key)
    for name in ("put", "update", "_put_text"):
        said(shmvar.CorruptSegmentError, segment.key, lambda name=name: CHANGES[name](segment), at)
    assert segment[1] == "one" and bytes_of(segment.key) == before  # PHP takes the first one, too


@pytest.mark.parametrize(
    "content", [bytes(4096), b"\xff" * 4096, b"PHP_SN\0\0" + bytes(4000), b"hello", b"PHP_S", bytes(1)], ids=range(6)
)
def test_a_segment_that_is_none_of_phps_is_refused_and_never_formatted(php_key, content):
    system_v.make(php_key, content)
    for create in (None, False):
        said(shmvar.IncompatibleSegmentError, php_key, lambda create=create: php.attach(php_key, create=create))
    said(shmvar.SegmentExistsError, php_key, lambda: php.attach(php_key, create=True))
    assert bytes_of(php_key) == content
    assert system_v.attached_to(php_key) == 0


def test_a_segment_whose_format_is_cut_off_is_refused(php_key):
    system_v.make(php_key, system_v.segment_bytes([], 64)[:32])
    with pytest.raises((shmvar.CorruptSegmentError, shmvar.IncompatibleSegmentError)) as caught:
        php.attach(php_key)
    assert f"0x{php_key:08x}" in str(caught.value)
