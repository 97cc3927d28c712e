"""attach, destroy, exists, segments, ftok: arguments, results, errors."""

import io
import os
import queue

import helpers
import numpy as np
import pytest
from helpers.indexes import Indexed

import shmvar

PUBLIC = [
    "Changes",
    "CheckReport",
    "CorruptSegmentError",
    "DetachedError",
    "DumpError",
    "Error",
    "IncompatibleSegmentError",
    "Lock",
    "LockLostError",
    "Queue",
    "QueueEmptyError",
    "QueueFullError",
    "ReadOnlyError",
    "Segment",
    "SegmentAccessError",
    "SegmentBusyError",
    "SegmentExistsError",
    "SegmentFullError",
    "SegmentInfo",
    "SegmentNotFoundError",
    "SegmentSystemError",
    "SegmentUnavailableError",
    "TakenItem",
    "UnsupportedError",
    "UntrustedValueError",
    "VariableInfo",
    "WaitTimeoutError",
    "__version__",
    "attach",
    "copy",
    "destroy",
    "exists",
    "ftok",
    "segments",
    "shm_attach",
    "shm_detach",
    "shm_get_var",
    "shm_has_var",
    "shm_put_var",
    "shm_remove",
    "shm_remove_var",
]

ALSO = {
    "SegmentNotFoundError": FileNotFoundError,
    "SegmentExistsError": FileExistsError,
    "SegmentAccessError": PermissionError,
    "SegmentBusyError": TimeoutError,
    "ReadOnlyError": PermissionError,
    "SegmentUnavailableError": ConnectionError,
    "UnsupportedError": io.UnsupportedOperation,
    "SegmentFullError": MemoryError,
    "IncompatibleSegmentError": ValueError,
    "CorruptSegmentError": ValueError,
    "UntrustedValueError": __import__("pickle").UnpicklingError,
    "DetachedError": ValueError,
    "DumpError": ValueError,
    "WaitTimeoutError": TimeoutError,
    "LockLostError": TimeoutError,
    "SegmentSystemError": OSError,
    "QueueEmptyError": queue.Empty,
    "QueueFullError": queue.Full,
}


def test_the_public_names_are_these():
    assert sorted(shmvar.__all__) == sorted(PUBLIC)
    assert all(hasattr(shmvar, name) for name in PUBLIC)


def test_each_error_is_ours_and_the_builtin_that_people_catch():
    for name, builtin in ALSO.items():
        error = getattr(shmvar, name)
        assert issubclass(error, shmvar.Error) and issubclass(error, builtin)
        assert (error.__module__, error.__doc__ is None) == ("shmvar", False)
    assert issubclass(shmvar.Error, Exception)


# --- keys


@pytest.mark.parametrize("wrong", [None, 1.0, b"bytes", [], (1,), object(), 1j])
def test_f44_a_key_of_another_type_is_a_type_error_everywhere(wrong):
    for call in (shmvar.attach, shmvar.destroy, shmvar.exists, shmvar.shm_attach):
        with pytest.raises(TypeError):
            call(wrong)


def test_f44_bool_numpy_and_index_objects_are_the_integer_they_are(new_key):
    number = new_key(int)
    with shmvar.attach(number) as segment:
        segment[1] = "here"
    for same in (np.int64(number), Indexed(number)):
        assert shmvar.exists(same)
        with shmvar.attach(same, create=False) as other:
            assert other.key == number and type(other.key) is int and other[1] == "here"
    assert shmvar.exists(True) == shmvar.exists(1)


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 2**64, 2**64 + 5, 10**40])
def test_f45_a_key_out_of_range_is_an_overflow_error(number):
    for call in (shmvar.attach, shmvar.destroy, shmvar.exists):
        with pytest.raises(OverflowError):
            call(number)


def test_f45_keys_that_share_low_bits_are_different_segments(new_key):
    base = new_key(int) % 2**31
    numbers = [base, base + 2**31, base + 2**32, base + 2**40, -base, base - 2**63]
    try:
        for number in numbers:
            with shmvar.attach(number, create=True) as segment:
                segment[0] = number
        for number in numbers:
            with shmvar.attach(number, create=False) as segment:
                assert segment[0] == number and segment.key == number
    finally:
        assert [shmvar.destroy(number) for number in numbers] == [True] * len(numbers)


@pytest.mark.parametrize("number", [0, -1, 2**63 - 1, -(2**63)])
def test_f46_zero_and_the_extremes_are_keys_like_any_other(number):
    if shmvar.exists(number):
        pytest.skip("somebody's segment has this key")
    with shmvar.attach(number) as one, shmvar.attach(number) as two:
        try:
            one[1] = "same"
            assert (one.created, two.created, two[1], two.key) == (True, False, "same", number)
        finally:
            one.destroy()
    assert not shmvar.exists(number)


def test_an_integer_and_its_digits_are_different_segments(new_key):
    number = new_key(int)
    with shmvar.attach(number) as one, shmvar.attach(str(number)) as other:
        try:
            one[1] = "integer"
            assert other.created and 1 not in other and other.key == str(number)
        finally:
            assert shmvar.destroy(str(number))
        assert shmvar.exists(number) and not shmvar.exists(str(number))


def test_text_keys_of_any_characters_name_distinct_segments(new_key):
    base = new_key()
    ends = [
        "",
        "/",
        "%2F",
        ".",
        "..",
        "/../x",
        "\x00",
        "\n",
        "é",
        "e\u0301",
        "日本",
        "😀",
        " ",
        "%",
        "A",
        "a",
        "*" * 40,
    ]
    texts = [base + end for end in ends] + [base + "é" * 40, (base + "x" * 128)[:128]]
    try:
        for text in texts:
            with shmvar.attach(text, create=True) as segment:
                segment[1] = text
        for text in texts:
            with shmvar.attach(text, create=False) as segment:
                assert segment.key == text == segment[1]
        assert set(texts) <= {info.key for info in shmvar.segments()}
    finally:
        assert all([shmvar.destroy(text) for text in texts])


def test_a_text_key_is_1_to_128_bytes_of_utf_8(new_key):
    with pytest.raises(ValueError):
        shmvar.attach("")
    for long in ("x" * 129, "é" * 65, "x" * 10_000):
        with pytest.raises(OverflowError):
            shmvar.attach(long)
    with pytest.raises(UnicodeError):
        shmvar.attach("\ud800")


# --- size, perm, create, readonly, trust


@pytest.mark.parametrize("size", [0, -1, -(2**63), -(2**70)])
def test_f40_a_size_below_1_is_a_value_error_and_creates_nothing(key, size):
    with pytest.raises(ValueError):
        shmvar.attach(key, size)
    assert not shmvar.exists(key)


@pytest.mark.parametrize("size", [1.5, "1", b"1", [1]])
def test_a_size_of_another_type_is_a_type_error(key, size):
    with pytest.raises(TypeError):
        shmvar.attach(key, size)
    assert not shmvar.exists(key)


def test_f22_the_size_is_the_real_one_raised_and_never_shrunk(key):
    with shmvar.attach(key, 5000) as first:
        assert first.size == 5000
        with shmvar.attach(key, 100) as second:
            assert second.size == 5000
        with shmvar.attach(key) as third:
            assert third.size == 5000
        with shmvar.attach(key, 10_000, readonly=True) as reader:
            assert reader.size == 5000 == reader.info().size
        with shmvar.attach(key, 10_000) as fourth:
            assert fourth.size == 10_000 == first.size == first.info().size
        helpers.run("assert shmvar.attach(key, 20_000).size == 20_000", key)
        assert first.size == 20_000


def test_the_default_size_is_1_gib_or_the_file_system(seg):
    system = os.statvfs(helpers.SHM)
    assert seg.size == min(1 << 30, system.f_blocks * system.f_frsize)


@pytest.mark.parametrize("mask", [0o777, 0o077, 0])
@pytest.mark.parametrize("perm", [0o600, 0o666, 0o640, 0o644, 0o444 | 0o200])
def test_perm_is_exact_whatever_the_umask(key, mask, perm):
    old = os.umask(mask)
    try:
        with shmvar.attach(key, perm=perm) as segment:
            assert segment.info().perm == perm
            assert os.stat(helpers.path_of(segment)).st_mode & 0o7777 == perm
            segment.destroy()
    finally:
        os.umask(old)


def test_perm_of_an_existing_segment_stays(seg, key):
    with shmvar.attach(key, perm=0o666) as other:
        assert other.info().perm == 0o600


@pytest.mark.parametrize("perm", [0o1777, 0o4600, 1 << 16])
def test_perm_beyond_the_nine_bits_is_a_value_error(key, perm):
    with pytest.raises(ValueError):
        shmvar.attach(key, perm=perm)
    with pytest.raises((TypeError, OverflowError, ValueError)):
        shmvar.attach(key, perm="600")
    with pytest.raises((OverflowError, ValueError)):
        shmvar.attach(key, perm=-1)
    assert not shmvar.exists(key)


def test_options_are_by_keyword_only(key):
    with pytest.raises(TypeError):
        shmvar.attach(key, 1000, 0o600)
    assert not shmvar.exists(key)


def test_create_false_needs_one_and_create_true_none(key):
    with pytest.raises(shmvar.SegmentNotFoundError, match=key):
        shmvar.attach(key, create=False)
    with pytest.raises(shmvar.SegmentNotFoundError, match=key):
        shmvar.attach(key, readonly=True)
    assert not shmvar.exists(key)
    with shmvar.attach(key, create=True) as segment:
        assert segment.created
        with pytest.raises(shmvar.SegmentExistsError, match=key):
            shmvar.attach(key, create=True)
        with shmvar.attach(key, create=False) as other:
            assert not other.created
    with pytest.raises(ValueError):
        shmvar.attach(key, create=True, readonly=True)


def test_f24_a_failed_attach_removes_nothing_and_leaves_nothing(key, new_key):
    with shmvar.attach(key, 1000) as segment:
        segment[1] = "mine"
        before = sorted(os.listdir(helpers.SHM))
        for bad in ({"create": True}, {"perm": 0o1600}, {"size": 0}, {"size": 2**62}):
            with pytest.raises((shmvar.Error, ValueError)):
                shmvar.attach(key, **bad)
        with pytest.raises((shmvar.Error, OverflowError, ValueError)):
            shmvar.attach(new_key(), 2**62)
        assert sorted(os.listdir(helpers.SHM)) == before
        assert segment[1] == "mine" and segment.check().variables == 1


def test_a_readonly_handle_reads_and_refuses_every_change(seg, key):
    seg.update({1: "one", "two": 2, 3: b"x" * 100_000})
    with shmvar.attach(key, readonly=True) as reader:
        assert reader.readonly and not seg.readonly and not reader.created
        assert dict(reader.items()) == dict(seg.items()) and len(reader) == 3 and 1 in reader
        assert reader.info().count == 3 and reader.stat(1).type == "str"
        changes = [
            lambda: reader.put(1, 2),
            lambda: reader.__setitem__(1, 2),
            lambda: reader.__delitem__(1),
            lambda: reader.remove(1),
            lambda: reader.remove(99),
            lambda: reader.pop(1),
            lambda: reader.pop(99, None),
            lambda: reader.popitem(),
            lambda: reader.setdefault(1, 2),
            lambda: reader.setdefault(99, 2),
            lambda: reader.update({1: 2}),
            lambda: reader.clear(),
            lambda: reader.resize(1 << 20),
            lambda: reader.trim(),
        ]
        for change in changes:
            with pytest.raises(shmvar.ReadOnlyError):
                change()
    assert (seg[1], seg["two"], len(seg)) == ("one", 2, 3)


def test_trust_is_by_mode_for_a_segment_of_ones_own(new_key):
    for perm, trusted in [(0o600, True), (0o644, True), (0o640, True), (0o660, False), (0o666, False), (0o602, False)]:
        key = new_key()
        with shmvar.attach(key, perm=perm) as one, shmvar.attach(key, readonly=True) as two:
            assert (one.trusted, two.trusted) == (trusted, trusted), oct(perm)
            for forced in (True, False):
                with shmvar.attach(key, trust=forced) as three:
                    assert three.trusted is forced
            one.destroy()
