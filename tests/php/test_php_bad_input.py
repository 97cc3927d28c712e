"""Segments that are damaged or nobody's: a typed error that names key, index and offset, and no byte is written."""

import struct

import helpers
import pytest
from helpers import system_v
from helpers.system_v import chunk, segment_bytes

import shmvar
from shmvar import php

SIZE = 4096
THREE = [chunk(1, b"i:1;"), chunk(2, b's:2:"hi";'), chunk(3, b"a:1:{i:0;b:1;}")]
AT = [40, 80, 128]
"""Where these chunks begin."""


def every_call(segment, index):
    """Every call that reads or changes, with one index."""
    return {
        "get": lambda: segment.get(index),
        "has": lambda: segment.has(index),
        "in": lambda: index in segment,
        "raw": lambda: segment.raw(index),
        "put": lambda: segment.put(index, 5),
        "put much": lambda: segment.put(index, "x" * 500),
        "put too much": lambda: segment.put(index, "x" * 100_000),
        "put new": lambda: segment.put(77, "new"),
        "remove": lambda: segment.remove(index),
        "pop": lambda: segment.pop(index),
        "setdefault": lambda: segment.setdefault(index, 5),
        "update": lambda: segment.update({index: 1, 78: 2}),
        "len": lambda: len(segment),
        "list": lambda: list(segment),
        "items": lambda: list(segment.items()),
        "info": lambda: segment.info(),
        "popitem": lambda: segment.popitem(),
        "shm_get_var": lambda: php.shm_get_var(segment, index),
        "shm_put_var": lambda: php.shm_put_var(segment, index, 5),
        "shm_has_var": lambda: php.shm_has_var(segment, index),
        "shm_remove_var": lambda: php.shm_remove_var(segment, index),
    }


CHANGES = {
    "put",
    "put much",
    "put new",
    "remove",
    "pop",
    "update",
    "popitem",
    "shm_put_var",
    "shm_remove_var",
}

# --- no segment of PHP's

FOREIGN = {
    "zeros": bytes(SIZE),
    "text": b"something else entirely " * 20,
    "another magic": segment_bytes(THREE, SIZE, magic=b"PHP_SN\0"),
    "the magic without its end": segment_bytes(THREE, SIZE, magic=b"PHP_SMX"),
    "lower case": segment_bytes(THREE, SIZE, magic=b"php_sm\0"),
    "8 bytes": b"PHP_SM\0\0",
    "1 byte": b"P",
    "39 bytes": segment_bytes([], 40)[:39],
}


@pytest.mark.parametrize("what", FOREIGN)
def test_a_segment_of_somebody_else_is_refused_and_never_formatted(php_key, what):
    content = FOREIGN[what]
    with made(php_key, content) as raw:
        for options in ({}, {"create": False}, {"size": 1 << 20}, {"size": 100}):
            with pytest.raises(shmvar.IncompatibleSegmentError) as caught:
                php.attach(php_key, **options)
            assert system_v.names(caught.value, php_key)
        with pytest.raises((shmvar.SegmentExistsError, shmvar.IncompatibleSegmentError)):
            php.attach(php_key, create=True)
        with pytest.raises(shmvar.IncompatibleSegmentError):
            php.shm_attach(php_key)
        assert raw[:] == content and system_v.attached_to(php_key) == 1


def made(key, content):
    system_v.make(key, content)
    return system_v.RawSegment(key)


# --- lying headers

LIES = {
    "start before the header's end": {"start": 39},
    "start of 0": {"start": 0},
    "start below 0": {"start": -8},
    "start that is no multiple of 8": {"start": 44},
    "start behind the end": {"start": 4000},
    "start behind everything": {"start": 1 << 40},
    "start as small as can be": {"start": -(2**63)},
    "end before the start": {"end": 32},
    "end that is no multiple of 8": {"end": 180},
    "end below 0": {"end": -1},
    "end behind the total": {"end": SIZE + 8, "free": 0},
    "end as large as can be": {"end": 2**63 - 1, "free": 0},
    "total larger than the segment": {"total": SIZE + 8},
    "total as large as can be": {"total": 2**63 - 1},
    "total below the end": {"total": 100, "free": 0},
    "total of 0": {"total": 0, "free": 0},
    "total below 0": {"total": -1},
}


@pytest.mark.parametrize("what", LIES)
def test_a_lying_header_is_refused_at_attaching_and_at_every_call(php_key, what):
    sound, lying = segment_bytes(THREE, SIZE), segment_bytes(THREE, SIZE, **LIES[what])
    assert lying != sound
    with made(php_key, sound) as raw, php.attach(php_key) as segment:
        raw[:] = lying
        for name, call in every_call(segment, 2).items():
            if name == "info":
                continue
            with pytest.raises(shmvar.CorruptSegmentError) as caught:
                call()
            wrong = next(iter(LIES[what].values()))
            assert system_v.names(caught.value, php_key) and str(wrong) in str(caught.value), name
            assert raw[:] == lying, name
        with pytest.raises(shmvar.CorruptSegmentError) as caught:
            php.attach(php_key)
        assert system_v.names(caught.value, php_key) and raw[:] == lying
        assert system_v.attached_to(php_key) == 2
        # Mended, the same handle goes on.
        raw[:] = sound
        assert dict(segment) == {1: 1, 2: "hi", 3: [True]}


@pytest.mark.parametrize("free", [-1, -8, -(2**63)])
def test_a_free_below_0_is_refused_by_what_changes(php_key, free):
    content = segment_bytes(THREE, SIZE, free=free)
    with made(php_key, content) as raw, php.attach(php_key) as segment:
        assert dict(segment) == {1: 1, 2: "hi", 3: [True]}
        for name in CHANGES:
            with pytest.raises(shmvar.CorruptSegmentError) as caught:
                every_call(segment, 2)[name]()
            assert system_v.names(caught.value, php_key, free) and raw[:] == content, name


def test_a_magic_that_goes_away_is_noticed_by_the_next_call(php_key):
    with made(php_key, segment_bytes(THREE, SIZE)) as raw, php.attach(php_key) as segment:
        raw[:8] = bytes(8)
        before = raw[:]
        for name, call in every_call(segment, 2).items():
            with pytest.raises(shmvar.IncompatibleSegmentError) as caught:
                call()
            assert system_v.names(caught.value, php_key) and raw[:] == before, name


@pytest.mark.parametrize("length", [1, 7, 8, 16, 24, 39])
def test_a_header_that_is_cut_short_is_refused(php_key, length):
    with made(php_key, segment_bytes(THREE, SIZE)[:length]) as raw:
        before = raw[:]
        with pytest.raises((shmvar.IncompatibleSegmentError, shmvar.CorruptSegmentError)) as caught:
            php.attach(php_key)
        assert system_v.names(caught.value, php_key) and raw[:] == before


def test_a_segment_that_is_cut_short_is_refused(php_key):
    """The header tells of more bytes than the kernel has."""
    for length in (40, 80, 128, 183, 2048, SIZE - 1):
        content = segment_bytes(THREE, SIZE)[:length]
        with made(php_key, content) as raw:
            with pytest.raises(shmvar.CorruptSegmentError) as caught:
                php.attach(php_key)
            assert system_v.names(caught.value, php_key, SIZE, length) and raw[:] == content
        system_v.remove(system_v.objects({php_key}))


# --- lying chunks: the second of three

CHUNKS = {
    "length below 0": (chunk(2, b's:2:"hi";', length=-1), -1),
    "length as small as can be": (chunk(2, b's:2:"hi";', length=-(2**63)), -(2**63)),
    "length beyond the chunk": (chunk(2, b's:2:"hi";', length=25), 25),
    "length beyond the end": (chunk(2, b's:2:"hi";', length=1000), 1000),
    "length as large as can be": (chunk(2, b's:2:"hi";', length=2**63 - 1), 2**63 - 1),
    "next of 0": (chunk(2, b's:2:"hi";', following=0), 0),
    "next below 0": (chunk(2, b's:2:"hi";', following=-40), -40),
    "next that is no multiple of 8": (chunk(2, b's:2:"hi";', following=44), 44),
    "next shorter than the text": (chunk(2, b's:2:"hi";', following=32), 32),
    "next beyond the end": (chunk(2, b's:2:"hi";', following=4000), 4000),
    "next as large as can be": (chunk(2, b's:2:"hi";', following=2**63 - 8), 2**63 - 8),
    "next into the last chunk's last bytes": (chunk(2, b's:2:"hi";', following=48 + 40), None),
}


@pytest.mark.parametrize("what", CHUNKS)
def test_a_lying_chunk_is_refused_and_what_lies_before_it_can_be_read(php_key, what):
    bad, number = CHUNKS[what]
    content = segment_bytes([THREE[0], bad, THREE[2]], SIZE)
    with made(php_key, content) as raw, php.attach(php_key) as segment:
        assert segment.get(1) == 1 and segment.has(1)
        for name, call in every_call(segment, 3).items():
            if name == "info":
                continue
            with pytest.raises(shmvar.CorruptSegmentError) as caught:
                call()
            assert raw[:] == content, name
            assert system_v.names(caught.value, php_key, *([2, AT[1]] if number is not None else [])), name
        # The first variable is no exception for what changes: the whole chain is looked at before.
        for name in CHANGES:
            with pytest.raises(shmvar.CorruptSegmentError):
                every_call(segment, 1)[name]()
            assert raw[:] == content, name


def test_an_end_inside_of_a_chunk_is_refused(php_key):
    for end in (128 + 8, 128 + 16, 128 + 32, 128 + 40):
        content = segment_bytes(THREE, SIZE, end=end, free=SIZE - 200)
        with made(php_key, content) as raw, php.attach(php_key) as segment:
            assert segment[1] == 1
            for call in (lambda: segment[3], lambda: segment.put(9, 9), lambda: segment.remove(1)):
                with pytest.raises(shmvar.CorruptSegmentError) as caught:
                    call()
                assert system_v.names(caught.value, php_key, 128) and raw[:] == content
        system_v.remove(system_v.objects({php_key}))


# --- values cut short

TEXT = b'a:3:{i:0;s:5:"value";s:1:"k";d:0.5;i:7;O:8:"stdClass":1:{s:1:"p";N;}}'


@pytest.mark.parametrize("length", range(len(TEXT)))
def test_a_value_that_is_cut_short_anywhere_is_an_error_that_names_key_index_and_offset(php_key, length):
    content = segment_bytes([chunk(1, b"i:1;"), chunk(-5, TEXT[:length]), chunk(6, b"i:6;")], SIZE)
    with made(php_key, content) as raw, php.attach(php_key) as segment:
        for call in (lambda: segment[-5], lambda: segment.get(-5), lambda: segment.pop(-5), lambda: dict(segment)):
            with pytest.raises(shmvar.CorruptSegmentError) as caught:
                call()
            assert system_v.names(caught.value, php_key, -5)
            offsets = system_v.numbers(caught.value)
            assert any(80 <= offset <= 80 + 24 + length for offset in offsets) or offsets, str(caught.value)
            assert isinstance(caught.value.__cause__, php.UnserializeError)
            assert 0 <= caught.value.__cause__.offset <= length
            assert raw[:] == content
        with pytest.raises(php.UnserializeError):
            php.loads(TEXT[:length])
        # The others are whole, and the damaged one may be replaced or removed.
        assert (segment[1], segment[6]) == (1, 6) and segment.raw(-5) == TEXT[:length]
        segment[-5] = "mended"
        assert dict(segment) == {1: 1, -5: "mended", 6: 6}


@pytest.mark.parametrize("behind", [b"x", b"\0", b";", b"i:1;", b" "])
def test_bytes_behind_a_value_are_an_error(php_key, behind):
    """PHP ignores them. They are no value that anybody put."""
    content = segment_bytes([chunk(4, b"i:5;" + behind)], SIZE)
    with made(php_key, content), php.attach(php_key) as segment:
        with pytest.raises(shmvar.CorruptSegmentError) as caught:
            segment.get(4)
        assert system_v.names(caught.value, php_key, 4)
        with pytest.raises(php.UnserializeError) as caught:
            php.loads(b"i:5;" + behind)
        assert caught.value.offset == 4


def test_an_empty_text_is_an_error_and_no_value(php_key):
    content = segment_bytes([chunk(4, b"")], SIZE)
    with made(php_key, content), php.attach(php_key) as segment:
        assert segment.has(4) and segment.raw(4) == b"" and list(segment) == [4]
        with pytest.raises(shmvar.CorruptSegmentError) as caught:
            segment.get(4)
        assert system_v.names(caught.value, php_key, 4)


@helpers.needs_php
def test_php_agrees_that_the_sound_segment_of_these_tests_is_one(php_key, in_php):
    with made(php_key, segment_bytes(THREE, SIZE)) as raw:
        in_php("$s = shm_attach($a[0]);", php_key)
        assert [in_php("return shm_get_var($s, $a[0]);", index) for index in (1, 2, 3)] == [1, "hi", [True]]
        assert [at for at, _, _ in raw.chunks()] == AT and struct.unpack_from("<q", raw[:], 8) == (40,)
