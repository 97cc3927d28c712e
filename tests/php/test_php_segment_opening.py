"""Attaching: what is there and what is not, sizes, keys, permissions, wrong arguments; and what `info` tells."""

import os
import pickle
import time

import helpers
import numpy
import pytest
from helpers import system_v
from helpers.indexes import Indexed

import shmvar
from shmvar import php

#: A program of another user may not be able to read the package any more: it imports everything before.
IMPORTS = "import shmvar.php\nfrom shmvar import php\n"


def other_user():
    options = helpers.as_user()
    return options | {"drop": IMPORTS + options["drop"]}


def test_create_decides_who_may_make_a_segment(php_key):
    with pytest.raises(shmvar.SegmentNotFoundError, match=f"0x{php_key:08x}"):
        php.attach(php_key, create=False)
    first = php.attach(php_key)
    assert first.created is True and first.key == php_key and first.size == 10_000 and first.lock is None
    with pytest.raises(shmvar.SegmentExistsError, match=f"0x{php_key:08x}"):
        php.attach(php_key, create=True)
    second, third = php.attach(php_key, create=False), php.attach(php_key, 77, 0o600, create=None)
    assert second.created is third.created is False and second.id == third.id == first.id
    assert third.size == 10_000 and system_v.permissions_of(php_key) == 0o666
    first[1] = "x"
    assert second[1] == third[1] == "x"
    first.destroy()
    with pytest.raises(shmvar.SegmentNotFoundError):
        php.attach(php_key, create=False)
    fresh = php.attach(php_key, 200, create=True)
    assert fresh.created and fresh.size == 200 and fresh.id != first.id and not fresh and first[1] == "x"


def test_a_handle_goes_on_working_after_the_removal_as_in_php(php_key):
    segment, other = php.attach(php_key), php.attach(php_key)
    segment[1] = 1
    segment.destroy()
    segment[2] = 2
    assert other == {1: 1, 2: 2} and segment == other
    segment.destroy()
    other.destroy()
    assert segment[1] == 1 and not segment.detached


def test_keys_are_32_bits_signed_or_not():
    for given, signed in [(-2, -2), (0xFFFFFFFE, -2), (-(2**31), -(2**31)), (2**31, -(2**31)), (2**31 - 1, 2**31 - 1)]:
        segment = php.attach(given, 200)
        try:
            assert segment.key == signed
            assert php.attach(signed, create=False).id == php.attach(signed & 0xFFFFFFFF, create=False).id == segment.id
        finally:
            segment.destroy()
    for same in (numpy.int64(-2), numpy.uint32(0xFFFFFFFE), Indexed(-2)):
        segment = php.attach(same, 200)
        segment.destroy()
        assert segment.key == -2


@pytest.mark.parametrize("key", [0, 2**32, -(2**31) - 1, 2**63, -(10**30), 0x1_5048_5001])
def test_a_key_that_is_none_is_refused_with_the_reason(key):
    before = system_v.objects()
    with pytest.raises(ValueError, match="nobody|no other" if key == 0 else "beyond 32 bits") as caught:
        php.attach(key)
    assert str(key) in str(caught.value) and not isinstance(caught.value, shmvar.Error)
    assert system_v.objects() == before


def test_the_remedies_for_wrong_keys_work(tmp_path):
    with pytest.raises(ValueError, match="ftok"):
        php.attach(0)
    with php.attach(php.ftok(tmp_path, "t"), 200) as segment:
        segment.destroy()
    key = 0x1_5048_5001
    with pytest.raises(ValueError, match="key & 0xffffffff"):
        php.attach(key)
    with php.attach(key & 0xFFFFFFFF, 200) as segment:
        assert segment.key == 0x5048_5001
        segment.destroy()


@pytest.mark.parametrize("key", [True, False, "1", b"1", 1.0, None, [], 1j], ids=repr)
def test_what_is_no_number_is_no_key(key):
    with pytest.raises(TypeError, match=f"a key must be an int, not {type(key).__name__}"):
        php.attach(key)


@pytest.mark.parametrize("size", [1, 8, 39])
def test_a_size_without_room_for_a_header_is_refused(php_key, size):
    with pytest.raises(ValueError, match=rf"\b{size}\b.*\b40\b|\b40\b.*\b{size}\b"):
        php.attach(php_key, size)
    assert not system_v.objects({php_key})
    with php.attach(php_key, 100), php.attach(php_key, size) as segment:
        assert segment.size == 100 and not segment.created


def test_a_segment_of_a_header_alone_takes_nothing(php_key):
    with php.attach(php_key, 40) as segment:
        assert segment == {} and segment.info().free == 0
        with pytest.raises(shmvar.SegmentFullError) as caught:
            segment[1] = 1
        assert (caught.value.needed, caught.value.free, caught.value.size) == (40, 0, 40)
        assert segment == {}
    with php.attach(php_key, 40) as segment:
        segment.destroy()
    with php.attach(php_key, 80) as segment:
        segment[1] = 1
        assert segment == {1: 1} and segment.info().free == 0


@pytest.mark.parametrize("size", [0, -1, -(2**63), -(10**30)])
def test_a_size_below_1_is_refused_even_if_the_key_exists(php_key, size):
    for _ in range(2):
        with pytest.raises(ValueError, match="at least 1"):
            php.attach(php_key, size)
        assert len(system_v.objects({php_key})) == _
        php.attach(php_key)


@pytest.mark.parametrize("size", [1 << 40, 1 << 50, 2**63 - 1, 2**63, 10**30])
def test_a_size_that_nobody_has_is_a_typed_error(php_key, size):
    if size >= 1 << 63:
        with pytest.raises(OverflowError):
            php.attach(php_key, size)
    else:
        try:
            segment = php.attach(php_key, size)
        except (MemoryError, shmvar.Error) as error:
            assert f"0x{php_key:08x}" in str(error) and str(size) in str(error)
        else:  # a system that overcommits
            segment[1] = 1
            segment.destroy()
            segment.detach()
    assert not system_v.objects({php_key})


def test_wrong_arguments_are_refused_and_nothing_is_made(php_key):
    semaphore = php.Semaphore(php_key)
    before = system_v.objects()
    for error, arguments, named in [
        (TypeError, (), {}),
        (TypeError, (php_key, "10000"), {}),
        (TypeError, (php_key, 1.5), {}),
        (TypeError, (php_key, 10_000, "0666"), {}),
        (TypeError, (php_key, 10_000, 0o666, None), {}),
        (ValueError, (php_key, 10_000, -1), {}),
        (ValueError, (php_key, 10_000, 0o1666), {}),
        (ValueError, (php_key, 10_000, 10**30), {}),
        (TypeError, (php_key,), {"create": 1}),
        (TypeError, (php_key,), {"create": "yes"}),
        (TypeError, (php_key,), {"lock": True}),
        (TypeError, (php_key,), {"lock": php_key}),
        (TypeError, (php_key,), {"lock": "x"}),
        (TypeError, (php_key,), {"lock": php.Semaphore}),
        (ValueError, (php_key,), {"strings": "str"}),
        (ValueError, (php_key,), {"strings": "dict"}),
        (TypeError, (php_key,), {"strings": 1}),
        (ValueError, (php_key,), {"arrays": "list"}),
        (TypeError, (php_key,), {"arrays": dict}),
        (TypeError, (php_key,), {"perm": 0o600}),
    ]:
        with pytest.raises(error):
            php.attach(*arguments, **named)
    assert system_v.objects() == before
    semaphore.remove()


def test_all_arguments_can_be_named(php_key):
    segment = php.attach(
        key=php_key, size=500, permissions=0o640, create=True, lock=None, strings="bytes", arrays="dict"
    )
    assert (segment.size, segment.strings, segment.arrays) == (500, "bytes", "dict")
    assert system_v.permissions_of(php_key) == 0o640


def test_permissions_are_exact_whatever_the_umask(php_key):
    before = os.umask(0o777)
    try:
        php.attach(php_key)
    finally:
        os.umask(before)
    assert system_v.permissions_of(php_key) == 0o666


def test_size_is_the_kernels_and_total_is_what_was_written(php_key):
    system_v.make(php_key, system_v.segment_bytes([system_v.chunk(1, b"i:5;")], 4096, total=2000, free=1900))
    with php.attach(php_key, 100_000) as segment:
        info = segment.info()
        assert segment.size == info.size == 4096 and info.total == 2000 and info.free == 1900 and info.used == 100
        assert segment == {1: 5} and info.count == 1


def test_info_tells_what_the_kernel_tells(php_key):
    begin = int(time.time())
    with php.attach(php_key, 5000, 0o640) as segment:
        segment.update({1: "x", 2: "y"})
        with php.attach(php_key):
            info = segment.info()
        assert (info.key, info.id, info.size, info.total) == (php_key, segment.id, 5000, 5000)
        assert (info.count, info.used, info.free) == (2, 40 + 2 * 40, 5000 - 40 - 2 * 40)
        assert (info.permissions, info.uid, info.gid) == (0o640, os.geteuid(), os.getegid())
        assert info.attached == 2 and info.creator_pid == info.last_pid == os.getpid()
        assert info.attached_at >= begin and info.detached_at is None and info.changed_at >= begin
        assert all(isinstance(value, int | None) for value in info._asdict().values())
        assert segment.info().attached == 1 and segment.info().detached_at >= begin
        assert pickle.loads(pickle.dumps(info)) == info and hash(pickle.loads(pickle.dumps(info))) == hash(info)
        assert info != segment.info() and info != 5
        assert f"key=0x{php_key:08x}" in repr(info) and "permissions=0o640" in repr(info)
        with pytest.raises(AttributeError):
            info.key = 1
        with pytest.raises(AttributeError):
            del info.key
        with pytest.raises(TypeError):
            php.SegmentInfo()


def test_repr_says_what_there_is(php_key):
    segment = php.attach(php_key)
    segment.update({1: 1, 2: 2, 3: 3})
    assert repr(segment) == f"<php.Segment key=0x{php_key:08x} variables=3 free=9840 size=10000>"
    with system_v.RawSegment(php_key) as raw:
        raw.set(end=-1)
    assert repr(segment).startswith(f"<php.Segment key=0x{php_key:08x} unreadable: ")
    segment.detach()
    assert repr(segment) == f"<php.Segment key=0x{php_key:08x} detached>"


def test_a_detached_handle_says_so(php_key):
    segment = php.attach(php_key)
    segment[1] = 1
    with segment as inside:
        assert inside is segment and inside[1] == 1
    assert segment.detached is True
    for call in (
        lambda: segment[1],
        lambda: segment.get(1),
        lambda: segment.put(1, 2),
        lambda: segment.has(1),
        lambda: 1 in segment,
        lambda: segment.remove(1),
        lambda: segment.raw(1),
        lambda: segment._get_text(1),
        lambda: segment._put_text(1, b"N;"),
        lambda: segment.pop(1, None),
        segment.popitem,
        lambda: segment.setdefault(1, 2),
        lambda: segment.update({1: 2}),
        lambda: segment.update({1: 2, 3: 4}),
        lambda: segment.update({}),
        segment.clear,
        segment.copy,
        segment.keys,
        segment.values,
        segment.items,
        lambda: len(segment),
        lambda: list(segment),
        lambda: segment == {},
        segment.info,
        segment.destroy,
        segment.__enter__,
        lambda: pickle.dumps(segment),
        lambda: php.shm_detach(segment),
        lambda: php.shm_remove(segment),
    ):
        with pytest.raises(shmvar.DetachedError, match=f"0x{php_key:08x}.*attach again"):
            call()
    assert segment.detach() is None
    assert (segment.key, segment.size, segment.created) == (php_key, 10_000, True) and segment.id >= 0
    with php.attach(php_key, create=False) as again:  # the remedy
        assert again == {1: 1}


def test_a_handle_that_nobody_uses_detaches_by_itself(php_key):
    segment = php.attach(php_key)
    again = [php.attach(php_key) for _ in range(5)]
    assert system_v.attached_to(php_key) == 6
    del again
    assert system_v.attached_to(php_key) == 1
    segment.detach()
    assert system_v.attached_to(php_key) == 0


@helpers.needs_root
@pytest.mark.parametrize("permissions", [0o600, 0o644, 0o400, 0o622, 0])
def test_another_user_needs_the_right_to_read_and_to_write(php_key, permissions):
    php.attach(php_key, 1000, permissions)[1] = 1
    code = """
        try:
            php.attach(int(key))
        except shmvar.SegmentAccessError as error:
            assert isinstance(error, PermissionError) and error.errno == 13
            print(error)
        """
    said = helpers.run(code, php_key, **other_user()).stdout
    assert f"0x{php_key:08x}" in said, said
    assert "user 65534" in said and f"uid 0 and has mode 0{permissions:03o}; its owner" in said, said


@helpers.needs_root
def test_another_user_shares_a_segment_that_everybody_may_use(php_key):
    segment = php.attach(php_key)
    segment[1] = ["of root"]
    helpers.run("s = php.attach(int(key)); assert s[1] == ['of root']; s[2] = os.getuid()", php_key, **other_user())
    assert segment[2] == helpers.machine.NOBODY


@helpers.needs_root
def test_only_the_owner_removes_it(php_key):
    segment = php.attach(php_key)
    code = """
        s = php.attach(int(key))
        try:
            s.destroy()
        except shmvar.SegmentAccessError as error:
            print(error)
        s[1] = 1
        """
    said = helpers.run(code, php_key, **other_user()).stdout
    assert f"0x{php_key:08x}" in said and "remove" in said, said
    assert segment == {1: 1} and php.attach(php_key, create=False).id == segment.id


@helpers.needs_root
@pytest.mark.parametrize("permissions", [0, 0o400, 0o200])
def test_whoever_asks_for_too_few_rights_makes_nothing(php_key, permissions):
    """In PHP the key would stay wedged."""
    code = f"""
        try:
            php.attach(int(key), 1000, {permissions})
        except (ValueError, shmvar.SegmentAccessError) as error:
            print(error)
        """
    said = helpers.run(code, php_key, **other_user()).stdout
    assert said and not system_v.objects({php_key})
