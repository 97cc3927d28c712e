"""Segments that PHP accepts although it never makes them: private bytes, gaps, double indexes, a lowered `free`."""

import random
import struct

import helpers
import pytest
from helpers import system_v
from helpers.system_v import FREE, chunk, prepared_chunk, segment_bytes

import shmvar
from shmvar import php

pytestmark = helpers.needs_php

SIZE = 4096


def made(key, chunks, size=SIZE, **fields):
    system_v.make(key, segment_bytes(chunks, size, **fields))
    return system_v.RawSegment(key)


def storm(segment, in_php, raw, seconds=0.5, room=1000):
    """Both change what is there, in turns; returns what must be there at the end."""
    draw, expected = random.Random(7), {}
    for _ in helpers.looks(seconds=seconds, turns=300):
        index, value = draw.randrange(5), "v" * draw.randrange(room // 10)
        if draw.random() < 0.5:
            segment[index] = value
        else:
            in_php("shm_put_var($s, $a[0], $a[1]);", index, value)
        expected[index] = value
        if draw.random() < 0.1:
            del segment[index]
            del expected[index]
        assert dict(segment) == expected and system_v.newer_php_accepts(raw)
        assert in_php("return shm_has_var($s, $a[0]);", index) == (index in expected)
    return expected


@pytest.mark.parametrize("size", [8, 16, 1000, 4096 - 40])
def test_private_bytes_before_the_first_chunk_stay_as_they_are(php_key, in_php, size):
    private = random.Random(size).randbytes(size)
    with made(php_key, [], size + 2000, private=private) as raw, php.attach(php_key) as segment:
        in_php("$s = shm_attach($a[0]);", php_key)
        storm(segment, in_php, raw)
        assert raw.start == 40 + size and raw[40 : 40 + size] == private
        segment.clear()
        assert len(segment) == 0 and raw.start == raw.end == 40 + size
        in_php("shm_put_var($s, 5, 'five');")
        assert dict(segment) == {5: "five"} and raw[40 : 40 + size] == private
        segment.detach()
        assert raw[40 : 40 + size] == private and raw[7] == 0


@pytest.mark.parametrize("keep_total", [True, False])
def test_bytes_at_the_tail_that_free_does_not_count_are_never_touched(php_key, in_php, keep_total):
    tail = random.Random(8).randbytes(1000)
    total = SIZE if keep_total else SIZE - 1000
    with made(php_key, [], free=SIZE - 40 - 1000, total=total) as raw, php.attach(php_key) as segment:
        raw[SIZE - 1000 :] = tail
        in_php("$s = shm_attach($a[0]);", php_key)
        storm(segment, in_php, raw)
        segment.clear()
        largest = SIZE - 1000 - 40 - 32 - len(b's:3014:"";')
        with pytest.raises(shmvar.SegmentFullError):
            segment[1] = "x" * (largest + 1)
        segment[1] = "x" * largest
        segment[1] = "y" * largest
        assert raw[SIZE - 1000 :] == tail and raw.total == total
        assert in_php("return trim(shm_get_var($s, 1), 'y');") == ""
        segment.detach()
        assert raw[SIZE - 1000 :] == tail


def test_a_gap_behind_a_chunk_is_read_and_used_and_given_back(php_key, in_php):
    chunks = [chunk(1, b"i:1;", gap=400), chunk(2, b"i:2;", gap=8), chunk(3, b"i:3;", gap=80)]
    with made(php_key, chunks) as raw:
        in_php("$s = shm_attach($a[0]);", php_key)
        with php.attach(php_key) as segment:
            before = raw[:]
            assert dict(segment) == {1: 1, 2: 2, 3: 3} and len(segment) == 3
            assert [in_php("return shm_get_var($s, $a[0]);", index) for index in (1, 2, 3)] == [1, 2, 3]
            assert raw[:] == before
            segment[2] = "x" * 300
            segment[4] = 4
            assert dict(segment) == {1: 1, 2: "x" * 300, 3: 3, 4: 4}
            assert in_php("return [shm_get_var($s, 2), shm_get_var($s, 4)];") == ["x" * 300, 4]
            del segment[4]
        assert system_v.gaps(raw) < 32 and raw.end + raw.free == SIZE


def test_gaps_are_room_for_a_value_that_would_not_fit_without_them(php_key, in_php):
    chunks = [chunk(1, b"i:1;", gap=1600), chunk(2, b"i:2;", gap=1600), chunk(3, b"i:3;", gap=600)]
    with made(php_key, chunks) as raw, php.attach(php_key) as segment:
        large = "x" * 3000
        assert raw.free < 3000 < system_v.room_for(raw, 4)
        segment[4] = large
        in_php("$s = shm_attach($a[0]);", php_key)
        assert in_php("return shm_get_var($s, 4);") == large
        assert dict(segment) == {1: 1, 2: 2, 3: 3, 4: large}


def test_an_index_that_occurs_twice_is_read_as_php_reads_it_and_put_is_refused(php_key, in_php):
    chunks = [chunk(5, b"i:1;"), chunk(6, b's:5:"other";'), chunk(5, b"i:2;"), chunk(7, b"i:7;")]
    with made(php_key, chunks) as raw:
        in_php("$s = shm_attach($a[0]);", php_key)
        before = raw[:]
        with php.attach(php_key) as segment:
            assert segment[5] == in_php("return shm_get_var($s, 5);") == 1
            assert segment.has(5) and segment[7] == 7
            for change in (
                lambda: segment.put(5, 3),
                lambda: segment.update({5: 1}),
                lambda: php.shm_put_var(segment, 5, "x" * 100),
            ):
                with pytest.raises(shmvar.CorruptSegmentError) as caught:
                    change()
                second = 40 + 40 + 48
                assert system_v.names(caught.value, php_key, 5, second)
            assert raw[:] == before
            # Others may be changed meanwhile.
            segment[6] = "changed"
            segment[8] = 8
            assert (segment[6], segment[8], segment[5]) == ("changed", 8, 1)
            assert in_php("return [shm_get_var($s, 5), shm_get_var($s, 6)];") == [1, "changed"]


@pytest.mark.parametrize("how", ["remove", "del", "clear", "php"])
def test_removing_an_index_that_occurs_twice_mends_the_segment(php_key, in_php, how):
    chunks = [chunk(5, b"i:1;"), chunk(6, b's:5:"other";'), chunk(5, b"i:2;"), chunk(5, b"i:3;"), chunk(7, b"i:7;")]
    with made(php_key, chunks) as raw, php.attach(php_key) as segment:
        in_php("$s = shm_attach($a[0]);", php_key)
        expected = {6: "other", 7: 7}
        if how == "php":  # it removes the first, and the next comes to light
            in_php("shm_remove_var($s, 5);")
            assert segment[5] == 2
            in_php("shm_remove_var($s, 5);")
            expected[5] = 3
        elif how == "clear":
            segment.clear()
            expected = {}
        elif how == "del":
            del segment[5]
        else:
            segment.remove(5)
        assert dict(segment) == expected and (5 in segment) == (how == "php")
        assert sorted(key for _, key, _ in raw.chunks()) == sorted(expected)
        segment[5] = expected[5] = "again"
        assert dict(segment) == expected and in_php("return shm_get_var($s, 5);") == "again"


PREPARED = {
    "before it counts": ([chunk(1, b"i:1;"), chunk(5, b"i:50;"), prepared_chunk(5, b's:3:"new";')], 50),
    "at the moment between": ([chunk(1, b"i:1;", gap=40), prepared_chunk(5, b's:3:"new";'), chunk(6, b"i:6;")], "new"),
    "in the place of the first": ([chunk(FREE, b"i:5;"), chunk(1, b"i:1;"), prepared_chunk(5, b's:3:"new";')], "new"),
    "the only chunk": ([prepared_chunk(5, b's:3:"new";')], "new"),
    "and PHP has put the index since": ([prepared_chunk(5, b's:3:"new";'), chunk(1, b"i:1;"), chunk(5, b"i:51;")], 51),
}


@pytest.mark.parametrize("change", ["put", "put of the same", "remove", "remove of the same", "clear"])
@pytest.mark.parametrize("what", PREPARED)
def test_an_unfinished_replacement_is_ended_by_the_next_change(php_key, in_php, what, change):
    chunks, after = PREPARED[what]
    with made(php_key, chunks) as raw, php.attach(php_key) as segment:
        in_php("$s = shm_attach($a[0]);", php_key)
        before = raw[:]
        expected = {key: php.loads(text) for _, key, text in raw.chunks()}
        assert dict(segment) == expected and len(segment) == len(expected) == segment.info().count
        assert raw[:] == before
        expected[5] = after
        if change == "put":
            segment[9] = expected[9] = "nine"
        elif change == "put of the same":
            segment[5] = expected[5] = "newer"
        elif change == "remove":
            segment[9] = 9
            del segment[9]
        elif change == "remove of the same":
            del segment[5], expected[5]
        else:
            segment.clear()
            expected = {}
        assert dict(segment) == expected == {key: php.loads(text) for key, text in raw.texts().items()}
        assert not raw.prepared() and raw.end + raw.free == SIZE
        assert all(in_php("return shm_get_var($s, $a[0]);", index) == value for index, value in expected.items())


def test_a_chunk_without_a_value_is_no_variable_and_its_room_is_used(php_key, in_php):
    chunks = [chunk(FREE, b"", gap=1504), chunk(1, b"i:1;"), chunk(FREE, b"i:1;", gap=800), chunk(2, b"i:2;")]
    with made(php_key, chunks) as raw, php.attach(php_key) as segment:
        assert dict(segment) == {1: 1, 2: 2} and len(segment) == 2 and FREE not in segment
        large = "x" * 3600
        assert raw.free < 1700
        segment[3] = large
        in_php("$s = shm_attach($a[0]);", php_key)
        assert dict(segment) == {1: 1, 2: 2, 3: large} and in_php("return shm_get_var($s, 3);") == large
        segment.clear()
        assert raw.header == (40, 40, SIZE - 40, SIZE)


@pytest.mark.parametrize("free", [SIZE - 120 + 1, SIZE, 2**63 - 1])
def test_a_free_that_is_larger_than_what_is_left_is_mended_by_the_next_change(php_key, in_php, free):
    """PHP has such a number between two of its stores, and leaves it behind if it is killed there."""
    with made(php_key, [chunk(1, b"i:1;"), chunk(2, b"i:2;")], free=free) as raw, php.attach(php_key) as segment:
        before = raw[:]
        assert dict(segment) == {1: 1, 2: 2} and raw[:] == before
        with pytest.raises(shmvar.SegmentFullError):
            segment[3] = "x" * SIZE
        segment[3] = "three"
        assert system_v.newer_php_accepts(raw) and raw.end + raw.free == SIZE
        assert dict(segment) == {1: 1, 2: 2, 3: "three"}


@pytest.mark.parametrize("byte_7", [1, 2, 3, 0x80, 0xFF])
def test_the_byte_behind_the_magic_may_be_anything_to_php_and_to_python(php_key, in_php, byte_7):
    with made(php_key, [chunk(1, b"i:1;")], byte_7=byte_7) as raw, php.attach(php_key) as segment:
        in_php("$s = shm_attach($a[0]); shm_put_var($s, 2, 2);", php_key)
        segment[3] = 3
        assert (
            dict(segment) == {1: 1, 2: 2, 3: 3} == {i: in_php("return shm_get_var($s, $a[0]);", i) for i in (1, 2, 3)}
        )
        assert raw[7] == byte_7


def test_the_picture_in_the_document_is_what_python_makes(php_key):
    with php.attach(php_key, 256) as segment, system_v.RawSegment(php_key) as raw:
        segment[1], segment[-7], segment[3] = "hi", 42, [True, None]
        assert raw[:48] == b"PHP_SM\0\0" + struct.pack("<5q", 40, 184, 72, 256, 1)
        assert raw[56:] == (
            struct.pack("<q", 48)
            + b's:2:"hi";'.ljust(24, b"\0")
            + struct.pack("<3q", -7, 5, 40)
            + b"i:42;".ljust(16, b"\0")
            + struct.pack("<3q", 3, 20, 56)
            + b"a:2:{i:0;b:1;i:1;N;}".ljust(104, b"\0")
        )
