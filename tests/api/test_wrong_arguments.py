"""What arguments of the wrong kind raise, and what errors say: the same words and classes on each kind of segment."""

import decimal

import numpy
import pytest

import shmvar


class Broken:
    """A number whose class says no."""

    def __index__(self):
        raise KeyError("mine")


NO_NUMBERS = [memoryview(b"5"), bytearray(b"5"), b"5", "5", [5], numpy.zeros(2), object()]


@pytest.mark.parametrize("wrong", [*NO_NUMBERS, decimal.Decimal("sNaN"), Broken()], ids=lambda one: type(one).__name__)
def test_a_time_to_live_that_is_no_number_is_a_type_error_of_every_call_that_takes_one(seg, wrong):
    seg["there"] = 1
    calls = [
        lambda: seg.put(1, 1, ttl=wrong),
        lambda: seg.put_many({1: 1}, ttl=wrong),
        lambda: seg.setdefault(1, 1, ttl=wrong),
        lambda: seg.add(1, ttl=wrong),
        lambda: seg.expire("there", wrong),
        lambda: seg.memoize(len, ttl=wrong),
    ]
    for call in calls:
        with pytest.raises(TypeError, match="ttl must be None, seconds or a timedelta, not"):
            call()
    assert dict(seg) == {"there": 1} and seg.stat("there").expires_in is None


def waits(seg, timeout):
    seg["w"] = 1
    return [
        lambda: seg.wait("w", timeout, newer_than=0),
        lambda: seg.wait_any(["w"], timeout, newer_than={"w": 0}),
        lambda: seg.changed("w", timeout, newer_than=0).close(),
        lambda: seg.changed_any(["w"], timeout, newer_than={"w": 0}).close(),
        lambda: seg.changes(timeout=timeout),
        lambda: seg.lock("l").acquire(timeout=timeout),
        lambda: seg.queue("q").get(timeout=timeout),
        lambda: seg.queue("q").take(timeout),
        lambda: seg.queue("q").put(1, timeout=timeout),
    ]


@pytest.mark.parametrize("wrong", NO_NUMBERS, ids=lambda one: type(one).__name__)
def test_a_timeout_that_is_no_number_is_a_type_error_of_every_call_that_waits(seg, wrong):
    for call in waits(seg, wrong):
        with pytest.raises(TypeError, match=r"must be real number|only 0-dimensional|only length-1"):
            call()


@pytest.mark.parametrize(
    "wrong, error", [(Broken(), KeyError), (decimal.Decimal("sNaN"), ValueError)], ids=["index", "sNaN"]
)
def test_what_a_timeout_raises_of_its_own_passes(seg, wrong, error):
    for call in waits(seg, wrong):
        with pytest.raises(error):
            call()


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**30, -(10**30)])
def test_a_maximum_of_a_queue_beyond_64_bits_is_an_overflow_error(seg, number):
    with pytest.raises(OverflowError):
        seg.queue("q", maxsize=number)
    assert seg.queue("q", maxsize=2**63 - 1).maxsize == 2**63 - 1 == -seg.queue("q", maxsize=-(2**63)).maxsize - 1


# --- what errors say


def test_an_error_escapes_what_of_a_name_cannot_be_seen_or_commands_a_terminal(seg):
    name = "a\n\0\"\\\t\r\x1b'\x7f\u200b\u0301x\u00e9\u00a0\U0001f600\u202e"
    seg[name] = "text"
    with pytest.raises(TypeError) as caught:
        seg.add(name, 0.5)
    shown = '"a\\n\\0"\\\\t\\r\\u{1b}\'\\u{7f}\\u{200b}\\u{301}x\u00e9\\u{a0}\U0001f600\\u{202e}"'
    assert str(caught.value) == f"add: the value of index {shown} is str, not an int or a float"


@pytest.mark.parametrize("index", ["x" * 100, "line\n" * 30, -(2**63)], ids=["long", "lines", "int"])
def test_a_wait_whose_time_is_up_names_all_of_the_index(seg, index):
    with pytest.raises(shmvar.WaitTimeoutError) as caught:
        seg.wait(index, 0.01)
    shown = index if isinstance(index, int) else '"{}"'.format(index.replace("\n", "\\n"))
    assert str(caught.value) == f"index {shown} did not change within 0.01 s"


def test_errors_of_handles_say_how_to_get_one_that_does(seg, key):
    with shmvar.attach(key, readonly=True) as reader:
        calls = [
            lambda: reader.put(1, 1),
            lambda: reader.remove(1),
            lambda: reader.add(1),
            lambda: reader.clear(),
            lambda: reader.resize(1 << 20),
            lambda: reader.lock("l").acquire(),
            lambda: reader.queue("q").put(1),
        ]
        for call in calls:
            with pytest.raises(shmvar.ReadOnlyError, match=r"attach without readonly=True to change the segment$"):
                call()
    for call in (*calls, lambda: reader.get(1), lambda: reader.size, lambda: reader.evict):
        with pytest.raises(shmvar.DetachedError, match=r"the handle is detached: attach again$"):
            call()


def test_a_size_below_what_is_used_says_to_remove_variables(seg):
    seg["x"] = bytes(5000)
    with pytest.raises(shmvar.SegmentFullError) as caught:
        seg.resize(3000)
    used = caught.value.needed
    text = f"the limit cannot go below the {used} bytes that are used: remove variables first"
    assert str(caught.value).endswith(text) and used > 5000 and caught.value.size == 3000
    # What it says helps.
    del seg["x"]
    seg.resize(3000)
    assert seg.size == 3000
