"""Raw segments that PHP shares (`shmop`): modes, bytes in both directions, bounds, errors."""

import gc
import pickle
import threading

import helpers
import pytest
from helpers import programs, system_v

import shmvar
from shmvar import php

GROUND = bytes(range(100))


def as_user():
    """Options for a program of another user. It imports what it needs before it becomes that user."""
    options = programs.as_user()
    return {**options, "drop": "from shmvar import php\n" + options["drop"]}


@pytest.fixture
def raw(php_key):
    made = php.Shmop(php_key, "n", 0o600, 100)
    made.write(GROUND)
    yield made
    made.close()


def as_bytes(back):
    return back.encode() if isinstance(back, str) else back


@helpers.needs_php
def test_what_one_side_writes_the_other_reads(raw, in_php):
    in_php('$m = shmop_open($a[0], "w", 0, 0);', raw.key)
    assert as_bytes(in_php("return shmop_read($m, 0, 0);")) == GROUND
    assert in_php("return [shmop_size($m), shmop_write($m, $a[0], 95)];", b"\xff\0xyz") == [100, 5]
    assert raw.read(95) == b"\xff\0xyz" and raw.read(95, 2) == b"\xff\0" and raw.read(0, 95) == GROUND[:95]
    assert raw.write("é", 3) == 2 and as_bytes(in_php("return shmop_read($m, 3, 2);")) == "é".encode()
    for data in (bytearray(b"abc"), memoryview(b"-abc-")[1:4]):
        assert raw.write(data, 10) == 3 and raw.read(9, 5) == bytes([9]) + b"abc" + bytes([13])
        raw.write(GROUND)
    assert raw.size == len(raw) == 100 and raw.read(100) == b"" and raw.write(b"", 100) == 0


@helpers.needs_php
@pytest.mark.parametrize("mode", ["a", "c", "n", "w"])
@pytest.mark.parametrize("exists", [False, True])
def test_a_mode_does_what_it_does_in_php(new_php_key, in_php, mode, exists):
    """Opening, writing and the size, with the same arguments on both sides."""
    ours, theirs = new_php_key(), new_php_key()
    keep = [php.Shmop(key, "n", 0o600, 64) for key in (ours, theirs) if exists]
    opened, _ = in_php.warned("$m = shmop_open($a[0], $a[1], 0600, 50); return $m !== false;", theirs, mode)
    try:
        segment = php.Shmop(ours, mode, 0o600, 50)
    except (shmvar.SegmentNotFoundError, shmvar.SegmentExistsError):
        assert not opened
        segment = None
    if segment is None:
        for made in keep:
            made.close()
        return
    assert opened and segment.size == in_php("return shmop_size($m);") == (64 if exists else 50)
    assert segment.readonly is (mode == "a")
    if mode == "a":
        with pytest.raises(shmvar.ReadOnlyError, match=f'{ours} .*mode "a"'):
            segment.write(b"x")
    else:
        segment.write(b"x")
    segment.close()
    for made in keep:
        made.close()


@helpers.needs_php
def test_the_functions_do_what_those_of_php_do(php_key, in_php):
    segment = php.shmop_open(php_key, "c", 0o644, 20)
    assert type(segment) is php.Shmop and php.shmop_size(segment) == 20
    assert system_v.permissions_of(php_key) == 0o644
    assert php.shmop_write(segment, b"hello", 2) == 5
    assert in_php('$m = shmop_open($a[0], "a", 0, 0); return shmop_read($m, 2, 5);', php_key) == "hello"
    assert php.shmop_read(segment, 2, 5) == b"hello" and len(php.shmop_read(segment, 5, 0)) == 15
    assert php.shmop_delete(segment) is True
    assert php.shmop_read(segment, 2, 5) == b"hello"  # it goes with the last handle
    assert php.shmop_close(segment) is None
    with pytest.raises(shmvar.DetachedError):
        php.shmop_read(segment, 0, 1)
    for wrong in (None, b"x"):
        with pytest.raises(TypeError):
            php.shmop_read(wrong, 0, 1)
        with pytest.raises(TypeError):
            php.shmop_size(wrong)


def test_a_str_of_surrogateescape_is_written_as_the_bytes_that_it_stands_for(raw):
    assert raw.write("é\udcff", 5) == 3 and raw.read(5, 3) == b"\xc3\xa9\xff"
    assert b"\xff" in php.dumps("\udcff")


class Number:
    """A number of a class of its own, which has no order, as `operator.index` takes it."""

    def __init__(self, number):
        self.number = number

    def __index__(self):
        return self.number

    def __repr__(self):
        return f"Number({self.number})"


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda s: s.write(b"12345", 96), ValueError, "5 bytes at offset 96 reach beyond its 100 bytes"),
        (lambda s: s.write(b"1", 100), ValueError, "1 bytes at offset 100"),
        (lambda s: s.write(b"", 101), ValueError, "0 bytes at offset 101"),
        (lambda s: s.write(b"1", 2**63 - 1), ValueError, "at offset 9223372036854775807"),
        (lambda s: s.write(b"1", -1), ValueError, "offset must be at least 0, not -1"),
        (lambda s: s.write(b"1", 2**64), ValueError, r"offset must be at most 2\*\*63 - 1, not 18446744073709551616"),
        (lambda s: s.write(b"1", -(2**64)), ValueError, "offset must be at least 0, not -18446744073709551616"),
        (lambda s: s.write("\ud800"), ValueError, "data: the str has a lone surrogate at index 0.*surrogatepass"),
        (lambda s: s.read(Number(2**70)), ValueError, r"offset must be at most 2\*\*63 - 1, not Number"),
        (lambda s: s.read(Number(-(2**70))), ValueError, "offset must be at least 0, not Number"),
        (lambda s: s.read(2**63), ValueError, r"offset must be at most 2\*\*63 - 1, not 9223372036854775808"),
        (lambda s: php.shmop_read(s, 1, 2**64), ValueError, r"size must be at most 2\*\*63 - 1"),
        (lambda s: s.write(5), TypeError, "must be bytes"),
        (lambda s: s.write([1]), TypeError, "must be bytes"),
        (lambda s: s.read(101), ValueError, "at offset 101"),
        (lambda s: s.read(99, 2), ValueError, "2 bytes at offset 99"),
        (lambda s: s.read(0, 101), ValueError, "101 bytes at offset 0"),
        (lambda s: s.read(1, 2**63 - 1), ValueError, "reach beyond"),
        (lambda s: s.read(-1), ValueError, "offset must be at least 0"),
        (lambda s: s.read(0, -1), ValueError, "size must be at least 0"),
        (lambda s: s.read("0"), TypeError, "must be an int, not str"),
        (lambda s: php.Shmop(s.key, "n", 0o600, 10), shmvar.SegmentExistsError, "there is a segment already"),
        (lambda s: php.Shmop(s.key, "c", 0o600, 101), shmvar.IncompatibleSegmentError, "100 bytes, fewer than the 101"),
        (lambda s: php.Shmop(s.key, "c"), ValueError, "needs a size of at least 1 byte"),
        (lambda s: php.Shmop(s.key, "x"), ValueError, "mode must be"),
        (lambda s: php.Shmop(s.key, "aw"), ValueError, "mode must be"),
        (lambda s: php.Shmop(s.key, 5), TypeError, "mode must be a str"),
        (lambda s: php.Shmop(s.key, "c", 0o600, -1), ValueError, "size must be at least 0"),
        (lambda s: php.Shmop(s.key + 2**32, "w"), ValueError, "beyond 32 bits"),
        (lambda s: php.Shmop(0, "n", 0o600, 10), ValueError, "key 0 is no key"),
    ],
)
def test_wrong_arguments_are_refused_and_nothing_is_written(raw, call, error, text):
    before = system_v.objects()
    with pytest.raises(error, match=text):
        call(raw)
    assert raw.read() == GROUND and system_v.objects() == before


def test_what_is_not_there_cannot_be_opened(php_key):
    for mode in ("a", "w"):
        with pytest.raises(shmvar.SegmentNotFoundError, match=f"{php_key} .*no segment"):
            php.Shmop(php_key, mode)
    with pytest.raises((ValueError, MemoryError, shmvar.SegmentSystemError)):
        php.Shmop(php_key, "n", 0o600, 2**62)
    assert not system_v.objects({php_key})


def test_a_handle_is_given_back(raw):
    key = raw.key
    assert system_v.attached_to(key) == 1
    with php.Shmop(key, "a") as second:
        assert system_v.attached_to(key) == 2 and second.read(0, 3) == b"\0\1\2"
    assert second.closed and system_v.attached_to(key) == 1
    for call in (second.read, second.__reduce__, second.__enter__, lambda: second.write(b"")):
        with pytest.raises(shmvar.DetachedError, match=f"{key} .*closed"):
            call()
    second.close()
    third = pickle.loads(pickle.dumps(raw))
    assert third.read() == GROUND and not third.readonly and system_v.attached_to(key) == 2
    assert pickle.loads(pickle.dumps(php.Shmop(key, "a"))).readonly
    del third
    gc.collect()
    assert system_v.attached_to(key) == 1


def test_children_and_threads_may_use_a_handle(raw):
    helpers.in_child(lambda: (raw.write(b"child", 50), raw.close()))
    assert raw.read(50, 5) == b"child" and system_v.attached_to(raw.key) == 1

    def work():
        for _ in range(2000):
            try:
                assert len(raw.read()) == 100
            except shmvar.DetachedError:
                return

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    raw.close()
    for thread in threads:
        thread.join(60)
    assert system_v.attached_to(raw.key) == 0


def test_a_removed_segment_is_gone_with_its_last_handle(raw):
    raw.delete()
    assert raw.read() == GROUND
    with pytest.raises(shmvar.SegmentNotFoundError):
        php.Shmop(raw.key, "w")
    raw.close()
    with pytest.raises(shmvar.SegmentNotFoundError, match="was removed before"):
        raw.delete()


@helpers.needs_root
def test_without_permission_the_error_names_owner_and_mode(php_key):
    php.Shmop(php_key, "n", 0o604, 10)
    code = """
        from shmvar import php
        print(php.Shmop(int(key), "a").size)
        for call in (lambda: php.Shmop(int(key), "w"), php.Shmop(int(key), "a").delete):
            try:
                call()
            except shmvar.SegmentAccessError as error:
                print(error)
    """
    said = programs.run(code, php_key, **as_user()).stdout.splitlines()
    assert said[0] == "10" and len(said) == 3
    assert all("user 65534" in line and "of uid 0 with mode 0604" in line for line in said[1:])
