"""What errors say and carry: the key as the user wrote it, the index if there is one, an `errno`; and they pickle."""

import errno
import os
import pickle

import helpers
import pytest

import shmvar

KEYS = [
    -(2**63),
    0x5EED_0E44,
    "shmvar tests: with spaces",
    "shmvar-tests/with/slashes.and.dots",
    "shmvar tests: Füße \N{GRINNING FACE}",
    'shmvar tests: "quoted" \\ it\'s',
    "shmvar-tests-long-" + "x" * 110,
    "shmvar tests long " + "é " * 36 + "..",
]


@pytest.fixture(params=KEYS, ids=range(len(KEYS)))
def named(request):
    assert shmvar.destroy(request.param) is False
    yield request.param
    shmvar.destroy(request.param)


def path_of(key):
    """The path of the object of this key."""
    with shmvar.attach(key) as segment:
        path = helpers.path_of(segment)
        segment.destroy()
    return path


def said(error, key, call, *more):
    """`call` raises `error`, which names the key once and the other words, too."""
    with pytest.raises(error) as caught:
        call()
    text = str(caught.value)
    assert str(key) in text and text.count("key ") == 1, text
    assert all(str(word) in text for word in more), text
    again = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is type(caught.value) and str(again) == text and vars(again) == vars(caught.value)
    return caught.value


def test_what_is_there_or_not_names_the_key(named):
    said(shmvar.SegmentNotFoundError, named, lambda: shmvar.attach(named, create=False))
    said(shmvar.SegmentNotFoundError, named, lambda: shmvar.attach(named, readonly=True))
    with shmvar.attach(named) as segment:
        said(shmvar.SegmentExistsError, named, lambda: shmvar.attach(named, create=True))
        handle = pickle.dumps(segment)
        segment.destroy()
        said(shmvar.SegmentNotFoundError, named, lambda: segment.wait(1, 5))
    said(shmvar.SegmentNotFoundError, named, lambda: pickle.loads(handle))


def test_a_detached_and_a_read_only_handle_name_the_key(named):
    segment = shmvar.attach(named)
    reader = shmvar.attach(named, readonly=True)
    lock = segment.lock()
    segment.detach()
    calls = [
        lambda: segment[1],
        lambda: segment.put(1, 2),
        lambda: segment.add(1),
        lambda: segment.swap(1, 2),
        lambda: segment.modify(1, abs),
        lambda: segment.put_many({}),
        lambda: segment.get_many([]),
        lambda: segment.wait(1),
        lambda: segment.info(),
        lambda: segment.size,
        lambda: segment.items(),
        lambda: segment.lock(),
        lambda: segment.__enter__(),
        lambda: pickle.dumps(segment),
        lambda: shmvar._core._get_pickle(segment, 1),
        lock.acquire,
        lock.locked,
        lock.release,
    ]
    for call in calls:
        said(shmvar.DetachedError, named, call)
    changes = [
        lambda: reader.put(1, 2),
        lambda: reader.remove(1),
        lambda: reader.update({1: 2}),
        lambda: reader.add(1),
        lambda: reader.clear(),
        lambda: reader.resize(1000),
        lambda: reader.destroy(),
        lambda: reader.lock().acquire(),
    ]
    for call in changes:
        said(shmvar.ReadOnlyError, named, call)
    reader.detach()


def test_a_full_segment_names_the_key_and_the_index_that_did_not_fit(named):
    with shmvar.attach(named, 1000) as segment:
        segment[1] = b"x" * 500
        value = b"y" * 1000
        for index in (2, "an index"):
            for call in (
                lambda index=index: segment.put(index, value),
                lambda index=index: segment.setdefault(index, value),
                lambda index=index: segment.swap(index, value),
                lambda index=index: segment.modify(index, lambda _: value, None),
                lambda index=index: segment.compare_and_put(index, 0, value),
            ):
                said(shmvar.SegmentFullError, named, call, "index " + (f'"{index}"' if index != 2 else "2"))
        for call in (
            lambda: segment.put_many({2: value}),
            lambda: segment.update({2: value}),
            lambda: segment.resize(10),
            lambda: segment.resize(1 << 60),
            lambda: shmvar.attach(named, 1 << 60),
        ):
            error = said(shmvar.SegmentFullError, named, call)
            assert error.needed > error.free >= 0
    shmvar.destroy(named)
    said(shmvar.SegmentFullError, named, lambda: shmvar.attach(named, 1 << 60))


def test_what_is_no_segment_names_the_key_and_the_object(named):
    path = path_of(named)
    with open(path, "xb") as file:
        file.write(b"not a segment")
    said(shmvar.IncompatibleSegmentError, named, lambda: shmvar.attach(named), path)
    said(shmvar.IncompatibleSegmentError, named, lambda: shmvar.attach(named, readonly=True), path)
    assert shmvar.destroy(named) is True and not os.path.exists(path)
    os.symlink("/dev/null", path)
    said(shmvar.IncompatibleSegmentError, named, lambda: shmvar.attach(named), path)
    said(shmvar.IncompatibleSegmentError, named, lambda: shmvar.destroy(named), path)
    os.unlink(path)


def test_damage_names_the_key_at_attach_and_with_the_index_after(named):
    with shmvar.attach(named) as segment:
        segment[7] = b"x" * 100
        path = helpers.path_of(segment)
        with helpers.Raw(segment) as raw:
            _, _, _, tag, _ = raw.slot(7)
            raw.pack("<Q", raw.slot(7)[0] + 16, tag & 0xFFFF_FFFF | 1 << 60)
            said(shmvar.CorruptSegmentError, named, lambda: segment.put(7, 1), "index 7")
            said(shmvar.CorruptSegmentError, named, lambda: segment.check())
            raw.write(200, b"\xff" * 8)
    said(shmvar.CorruptSegmentError, named, lambda: shmvar.attach(named), os.path.basename(path))
    os.unlink(path)


def test_a_segment_that_is_held_up_names_the_key(named, children):
    child = helpers.start("s = shmvar.attach(eval(sys.argv[1])); print('on', flush=True); time.sleep(60)", ascii(named))
    children.append(child)
    with shmvar.attach(named) as segment, helpers.Raw(segment) as raw, shmvar.attach(named, readonly=True) as reader:
        raw.hold_lock(child.pid)
        helpers.end(child)
        said(shmvar.SegmentBusyError, named, reader.check)
        assert segment.check().dead == 0


@helpers.needs_root
def test_a_refusal_names_the_key(named):
    code = """
    key = eval(sys.argv[1])
    try:
        shmvar.attach(key)
    except shmvar.SegmentAccessError as error:
        assert str(key) in str(error) and error.errno == 13, error
        print("refused")
    """
    with shmvar.attach(named):
        assert helpers.run(code, ascii(named), **helpers.as_user()).stdout == "refused\n"


def test_what_is_wrong_with_an_argument_is_said_of_the_argument(seg, key):
    for call in (lambda: shmvar.attach(key, 0), lambda: shmvar.attach(key, perm=0o1000), lambda: seg.resize(0)):
        with pytest.raises(ValueError) as caught:
            call()
        assert key not in str(caught.value)


NUMBERS = {
    "SegmentNotFoundError": errno.ENOENT,
    "SegmentExistsError": errno.EEXIST,
    "SegmentAccessError": errno.EACCES,
    "SegmentBusyError": errno.ETIMEDOUT,
    "LockLostError": errno.ETIMEDOUT,
    "ReadOnlyError": errno.EACCES,
    "UnsupportedError": errno.ENOTSUP,
    "WaitTimeoutError": errno.ETIMEDOUT,
}


@pytest.mark.parametrize("name", NUMBERS)
def test_an_os_error_has_its_errno_and_keeps_it(name):
    made = getattr(shmvar, name)("what it says")
    for error in (made, pickle.loads(pickle.dumps(made))):
        assert (error.errno, str(error), error.args) == (NUMBERS[name], "what it says", ("what it says",))
        # The class is the one that Python uses for the system's own error of this number.
        assert isinstance(error, type(OSError(error.errno, "")))


def test_every_error_that_is_an_os_error_has_a_number():
    errors = [its for its in vars(shmvar._errors).values() if isinstance(its, type) and issubclass(its, OSError)]
    # Where the error comes from the system, it has the system's number.
    assert {its.__name__ for its in errors} == {*NUMBERS, "SegmentSystemError", "SegmentUnavailableError"}
    error = shmvar.SegmentSystemError(errno.EMFILE, "what it says")
    assert error.errno == errno.EMFILE and pickle.loads(pickle.dumps(error)).errno == errno.EMFILE


def test_a_real_one_has_it_too(seg, new_key):
    with pytest.raises(FileNotFoundError) as caught:
        shmvar.attach(new_key(), create=False)
    assert caught.value.errno == errno.ENOENT
    with pytest.raises(TimeoutError) as caught:
        seg.wait(1, 0)
    assert caught.value.errno == errno.ETIMEDOUT


def test_a_limit_below_what_is_used_is_refused_with_true_numbers(seg):
    seg[1] = 1
    seg.resize(1000)
    used = seg.info().used
    with pytest.raises(shmvar.SegmentFullError) as caught:
        seg.resize(5)
    error = caught.value
    assert (error.needed, error.free, error.size) == (used, 0, 5)
    assert f"needs {used} bytes, 0 of 5 are free" in str(error) and seg.size == 1000


def test_what_a_full_segment_advises_makes_room(named):
    with shmvar.attach(named, 1000) as segment:
        segment[1] = b"x" * 500
        with pytest.raises(shmvar.SegmentFullError, match="remove variables, or raise the limit"):
            segment[2] = b"y" * 700
        del segment[1]
        segment[2] = b"y" * 700
        for call in (lambda: segment.put(3, bytes(2000)), lambda: segment.queue().put(bytes(2000))):
            with pytest.raises(shmvar.SegmentFullError, match="larger than the limit: raise that") as caught:
                call()
            assert "remove variables" not in str(caught.value)
        segment.resize(10_000)
        segment[3] = bytes(2000)
        segment.queue().put(bytes(2000))
