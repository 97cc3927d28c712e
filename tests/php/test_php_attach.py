"""Attaching, detaching and destroying beside PHP: keys, sizes, permissions, who made the segment, how long it lives."""

import gc
import os
import pickle
import time

import helpers
import pytest
from helpers import php as php_programs
from helpers import system_v

import shmvar
from shmvar import php

pytestmark = helpers.needs_php


@pytest.mark.parametrize("first", ["python", "php"])
@pytest.mark.parametrize("size", [80, 1000, 4096, 10_000, 1 << 20])
def test_each_attaches_to_what_the_other_made(php_key, in_php, first, size):
    if first == "php":
        in_php("$s = shm_attach($a[0], $a[1]); shm_put_var($s, 1, 2);", php_key, size)
        segment = php.attach(php_key)
    else:
        segment = php.attach(php_key, size)
        segment[1] = 2
        in_php("$s = shm_attach($a[0]);", php_key)
    with segment:
        assert segment[1] == in_php("return shm_get_var($s, 1);") == 2
        assert segment.created is (first == "python") and segment.key == php_key
        assert segment.size == system_v.size_of(php_key) == size
        segment[1] = 3
        assert in_php("return shm_get_var($s, 1);") == 3
        in_php("shm_put_var($s, 1, 4);")
        assert segment[1] == 4
        assert system_v.permissions_of(php_key) == 0o666  # the umask counts for neither


@pytest.mark.parametrize("size", [1, 39, 100_000, 1 << 40])
def test_the_size_of_a_segment_that_exists_is_what_counts(php_key, in_php, size):
    in_php("$s = shm_attach($a[0], 2000); shm_put_var($s, 1, 'there');", php_key)
    with php.attach(php_key, size) as segment, php.attach(php_key, size, 0o600) as again:
        assert segment.size == again.size == 2000 and segment[1] == again[1] == "there"
        assert not segment.created and system_v.attached_to(php_key) == 3
    assert system_v.permissions_of(php_key) == 0o666


def test_without_a_size_python_and_php_make_10000_bytes(new_php_key, in_php):
    one, two = new_php_key(), new_php_key()
    in_php("$s = shm_attach($a[0]);", one)
    with php.attach(two), system_v.RawSegment(one) as theirs, system_v.RawSegment(two) as ours:
        assert theirs[:] == ours[:] and ours.size == 10_000


@pytest.mark.parametrize("key", [-1, -(2**31), -5, 2**31 - 1, 1, 2**32 - 1, 2**31, 0xDEAD_BEEF])
def test_keys_may_be_negative_and_the_upper_half_is_the_same_key(in_php, key):
    signed = key - 2**32 if key >= 2**31 else key
    if system_v.objects({signed}):
        pytest.skip("somebody else uses this key")
    try:
        with php.attach(key) as segment:
            segment[1] = "here"
            assert segment.key == signed and in_php("return shm_get_var(shm_attach($a[0]), 1);", key) == "here"
            with php.attach(signed, create=False) as again, php.attach(signed % 2**32, create=False) as third:
                assert again[1] == third[1] == "here" and again.key == third.key == signed
    finally:
        in_php("shm_remove(shm_attach($a[0]));", key)


@pytest.mark.parametrize("key", [0, 2**32, 2**32 + 5, -(2**31) - 1, 2**64, -(2**63), 10**30])
def test_a_key_that_names_no_segment_or_is_beyond_32_bits_is_refused_with_the_reason(key):
    before = system_v.objects()
    for call in (php.attach, php.shm_attach, php.Semaphore, php.MessageQueue):
        with pytest.raises(ValueError) as caught:
            call(key)
        assert str(key) in str(caught.value) or "IPC_PRIVATE" in str(caught.value)
    if system_v.is_private():
        assert system_v.objects() == before


@pytest.mark.parametrize("key", [True, "123", 1.0, None, b"1"], ids=repr)
def test_a_key_that_is_no_int_is_refused(key):
    with pytest.raises(TypeError):
        php.attach(key)


def test_sizes_that_cannot_be_are_refused_and_nothing_is_made(php_key):
    for size, error in [(0, ValueError), (-1, ValueError), (39, ValueError), (1, ValueError), ("1", TypeError)]:
        with pytest.raises(error):
            php.attach(php_key, size)
    for size in (1 << 62, 1 << 70):
        with pytest.raises((shmvar.Error, MemoryError, OverflowError, ValueError)):
            php.attach(php_key, size)
    with pytest.raises(ValueError):
        php.attach(php_key, 1000, 0o2000)
    assert not system_v.objects({php_key})
    with php.attach(php_key) as segment:
        # As in PHP, a size below 1 is an error when the segment exists, too.
        with pytest.raises(ValueError):
            php.attach(php_key, 0)
        assert len(segment) == 0


def test_a_segment_of_40_bytes_is_empty_and_full(php_key, in_php):
    with php.attach(php_key, 40) as segment:
        in_php("$s = shm_attach($a[0]);", php_key)
        with pytest.raises(shmvar.SegmentFullError) as caught:
            segment[1] = 1
        assert (caught.value.needed, caught.value.free, caught.value.size) == (40, 0, 40)
        assert in_php.warned("return shm_put_var($s, 1, 1);")[0] is False
        assert dict(segment) == {} and segment.info().count == 0


def test_create_says_whether_it_may_or_must_be_new(php_key, in_php):
    with pytest.raises(shmvar.SegmentNotFoundError) as caught:
        php.attach(php_key, create=False)
    assert system_v.names(caught.value, php_key) and not system_v.objects({php_key})
    with php.attach(php_key, create=True) as segment:
        assert segment.created
        with pytest.raises(shmvar.SegmentExistsError) as caught:
            php.attach(php_key, create=True)
        assert system_v.names(caught.value, php_key)
        segment.destroy()
    in_php("$s = shm_attach($a[0]);", php_key)
    with pytest.raises(shmvar.SegmentExistsError):
        php.attach(php_key, create=True)
    with php.attach(php_key, create=False) as segment:
        assert not segment.created


@helpers.needs_root
@pytest.mark.parametrize("permissions", [0o600, 0o644, 0o400, 0o466, 0o662])
def test_another_user_needs_the_right_to_read_and_to_write(php_key, permissions):
    with php.attach(php_key, 1000, permissions) as segment:
        segment[1] = "there"
        code = "$s = @shm_attach($argv[1]); echo $s === false ? 'refused' : shm_get_var($s, 1);"
        may = permissions & 0o006 == 0o006
        done = php_programs.run(code, php_key, prefix=php_programs.as_user(helpers.NOBODY))
        assert done.stdout == ("there" if may else "refused")
        code = """
            from shmvar import php
            try:
                print(php.attach(int(key))[1])
            except shmvar.SegmentAccessError as error:
                print("refused", error)
        """
        drop = "import shmvar.php\n" + helpers.as_user()["drop"]
        printed = helpers.run(code, php_key, drop=drop).stdout
        assert printed == "there\n" if may else printed.startswith("refused") and system_v.names(printed, php_key)
        assert dict(segment) == {1: "there"}


@helpers.needs_root
def test_only_the_owner_destroys_a_segment(php_key, in_php):
    in_php("$s = shm_attach($a[0]); shm_put_var($s, 1, 2);", php_key)
    code = """
        from shmvar import php
        segment = php.attach(int(key))
        try:
            segment.destroy()
        except shmvar.SegmentAccessError as error:
            print("refused", segment[1])
    """
    drop = "import shmvar.php\n" + helpers.as_user()["drop"]
    assert helpers.run(code, php_key, drop=drop).stdout == "refused 2\n"
    assert in_php("return shm_get_var($s, 1);") == 2


@pytest.mark.parametrize("destroys", ["python", "php"])
def test_a_destroyed_segment_goes_on_for_those_who_have_it_and_the_key_is_free(php_key, in_php, destroys):
    in_php("$s = shm_attach($a[0]);", php_key)
    old = php.attach(php_key)
    old[1] = "old"
    for _ in range(2):  # the second time is no error, as in PHP
        old.destroy() if destroys == "python" else in_php("shm_remove($s);")
    assert not old.detached and old[1] == in_php("return shm_get_var($s, 1);") == "old"
    with pytest.raises(shmvar.SegmentNotFoundError):
        php.attach(php_key, create=False)
    with php.attach(php_key) as new:
        assert new.created and len(new) == 0 and new.id != old.id
        new[1] = "new"
        in_php("$n = shm_attach($a[0]); shm_put_var($s, 2, 'both');", php_key)
        assert in_php("return [shm_get_var($s, 1), shm_get_var($n, 1)];") == ["old", "new"]
        old[3] = 3
        assert (dict(old), dict(new)) == ({1: "old", 2: "both", 3: 3}, {1: "new"})
        assert old.info().count == 3
    old.detach()
    in_php("shm_remove($n); unset($s, $n);")


def test_after_detaching_each_call_says_so(php_key):
    segment = php.attach(php_key)
    segment[1] = 1
    assert "detached" not in repr(segment)
    segment.detach()
    segment.detach()  # as everywhere in this package, twice is no error
    assert segment.detached and system_v.attached_to(php_key) == 0
    calls = [
        *(lambda: segment[1], lambda: segment.get(1), lambda: segment.put(1, 2), lambda: segment.remove(1)),
        *(lambda: segment.has(1), lambda: 1 in segment, lambda: len(segment), lambda: list(segment)),
        *(lambda: segment.info(), lambda: segment.raw(1), lambda: segment.clear(), lambda: segment.pop(1, None)),
        *(
            lambda: segment.update({1: 2}),
            lambda: dict(segment),
            lambda: segment.destroy(),
            lambda: segment.setdefault(1),
        ),
        *(
            lambda: php.shm_get_var(segment, 1),
            lambda: php.shm_put_var(segment, 1, 1),
            lambda: php.shm_has_var(segment, 1),
        ),
    ]
    for call in calls:
        with pytest.raises(shmvar.DetachedError):
            call()
    assert "detached" in repr(segment)
    with php.attach(php_key) as again:
        assert dict(again) == {1: 1}


def test_a_handle_that_is_forgotten_and_a_process_that_ends_are_detached(php_key, children):
    segment = php.attach(php_key)
    helpers.run("from shmvar import php\nphp.attach(int(key))[1] = 2\nos._exit(0)", php_key)
    child = helpers.start(
        "from shmvar import php\ns = php.attach(int(key))\nprint(s[1], flush=True)\nsys.stdin.read()", php_key
    )
    children.append(child)
    assert child.said == "2" and system_v.attached_to(php_key) == 2
    helpers.end(child)
    assert system_v.attached_to(php_key) == 1
    del segment
    gc.collect()
    assert system_v.attached_to(php_key) == 0
    with php.attach(php_key) as segment:
        assert segment[1] == 2


def test_a_forked_child_uses_the_segment_and_its_end_changes_nothing(php_key, in_php):
    with php.attach(php_key) as segment:
        in_php("$s = shm_attach($a[0]);", php_key)
        before = system_v.attached_to(php_key)

        def work():
            segment[1] = segment.get(1, 0) + 1
            assert in_child_sees(segment)
            segment.detach()

        def in_child_sees(segment):
            return system_v.attached_to(php_key) == before + 1 and segment[1] > 0

        for number in range(1, 4):
            helpers.in_child(work)
            assert segment[1] == number == in_php("return shm_get_var($s, 1);")
            assert system_v.attached_to(php_key) == before


def test_a_pickled_handle_attaches_again(php_key):
    with php.attach(php_key, strings="bytes", arrays="dict") as segment:
        segment[1] = ["x"]
        with pickle.loads(pickle.dumps(segment)) as again:
            assert again[1] == {0: b"x"} and again.key == php_key and not again.created
            assert (again.strings, again.arrays, again.id) == ("bytes", "dict", segment.id)
        text = pickle.dumps(segment)
        segment.destroy()
    with pytest.raises(shmvar.SegmentNotFoundError):
        pickle.loads(text)


def test_info_tells_what_the_kernel_and_the_header_tell(php_key, in_php):
    began = int(time.time()) - 1
    with php.attach(php_key, 5000, 0o640) as segment, php.attach(php_key), system_v.RawSegment(php_key) as raw:
        segment[1], segment[2] = "x" * 100, 5
        info = segment.info()
        assert (info.key, info.id, info.size, info.total) == (php_key, raw.id, 5000, 5000)
        assert (info.free, info.count, info.permissions, info.attached) == (raw.free, 2, 0o640, 3)
        assert info.used == 5000 - raw.free or info.used == raw.end - raw.start
        assert (info.uid, info.gid, info.creator_pid) == (os.geteuid(), os.getegid(), os.getpid())
        assert info.last_pid == os.getpid() and info.detached_at is None
        assert began <= info.changed_at <= info.attached_at <= time.time() + 1
        in_php("$s = shm_attach($a[0]); unset($s);", php_key)
        assert segment.info().last_pid == in_php.pid and segment.info().detached_at >= began
