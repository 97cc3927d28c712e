"""What the code of an argument raises comes through: Ctrl-C, say, or the exception of a signal handler."""

import enum
import signal

import pytest

import shmvar


class Interrupt(BaseException):
    """No `Exception`, as `KeyboardInterrupt` is none, which would end pytest when pytest shows what a test has."""


class Deadline(Exception):
    """Of the caller's signal handler."""


@pytest.fixture
def deadline():
    """Raises `Deadline` in a signal handler."""

    def handler(*_):
        raise Deadline("the time is over")

    before = signal.signal(signal.SIGUSR1, handler)
    yield lambda: signal.raise_signal(signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, before)


def interrupt():
    raise Interrupt


class Asked:
    """A number that does something when it is asked for the first time."""

    def __init__(self, number, action=lambda: None):
        self.number, self.action, self.asked = number, action, 0

    def _answer(self):
        self.asked += 1
        if self.asked == 1:
            self.action()
        return self.number

    __float__ = __index__ = _answer


class Shown(int):
    """A number that is interrupted when it is shown."""

    __str__ = __repr__ = lambda self: interrupt()


class ShownText(str):
    """A text that is interrupted when it is shown."""

    __repr__ = Shown.__repr__


def test_add_asks_its_amount_once(seg):
    for start, amount in ((1, 5), (1, 2**70), ("text", 5)):
        seg["n"], number = start, Asked(amount)
        if isinstance(start, str):
            with pytest.raises(TypeError, match="not an int or a float"):
                seg.add("n", number)
        else:
            assert seg.add("n", number) == start + amount == seg["n"]
        assert number.asked == 1


def test_what_the_amount_of_add_raises_comes_through_and_nothing_is_added(seg, deadline):
    seg["n"] = 1
    for action, raised in ((interrupt, Interrupt), (deadline, Deadline)):
        for index in ("n", "missing"):
            with pytest.raises(raised):
                seg.add(index, Asked(5, action))
    assert dict(seg) == {"n": 1}
    with pytest.raises(TypeError, match=r"^__index__ returned non-int \(type float\)$"):
        seg.add("n", Asked(1.5))


class Level(enum.IntEnum):
    HIGH = 2**64


class Turned(int):
    """Of a class whose sums and index are its own."""

    def __index__(self):
        return 0

    def __radd__(self, other):
        return "its own"


@pytest.mark.parametrize("amount", [Level.HIGH, Turned(2**64), Turned(5)], ids=["enum", "great", "small"])
def test_a_sum_is_an_exact_int_though_the_amount_is_of_a_derived_class(seg, amount):
    for start in (1, 2**70):
        seg["n"] = start
        assert seg.add("n", amount) == start + int.__index__(amount) == seg["n"] and type(seg["n"]) is int


def time_to_live_calls(seg):
    seg["there"] = 1
    return [
        lambda ttl: seg.put(1, 1, ttl=ttl),
        lambda ttl: seg.put_many({1: 1}, ttl=ttl),
        lambda ttl: seg.setdefault(1, 1, ttl=ttl),
        lambda ttl: seg.add(1, ttl=ttl),
        lambda ttl: seg.expire("there", ttl),
        lambda ttl: seg.memoize(len, ttl=ttl),
    ]


def test_what_a_time_to_live_raises_when_it_is_asked_comes_through(seg, deadline):
    for call in time_to_live_calls(seg):
        for action, raised in ((interrupt, Interrupt), (deadline, Deadline)):
            with pytest.raises(raised):
                call(Asked(5.0, action))
    assert dict(seg) == {"there": 1} and seg.stat("there").expires_in is None


def test_a_time_to_live_that_is_never_a_number_is_a_type_error_with_the_reason(seg):
    class Broken:
        def __float__(self):
            raise LookupError("mine")

    for call in time_to_live_calls(seg):
        with pytest.raises(TypeError, match="ttl must be None, seconds or a timedelta, not Broken") as caught:
            call(Broken())
        assert type(caught.value.__cause__) is LookupError


def test_an_interrupt_while_an_argument_is_shown_comes_through(key, seg):
    calls = [
        lambda: seg.get(Shown(2**70)),
        lambda: seg.put(Shown(-(2**70)), 1),
        lambda: shmvar.attach(Shown(2**70)),
        lambda: shmvar.attach(key, evict=ShownText("no policy")),
    ]
    for call in calls:
        with pytest.raises(Interrupt):
            call()


def test_what_cannot_be_shown_is_refused_all_the_same(key, seg):
    class Unshown(int):
        def __repr__(self):
            raise LookupError

    with pytest.raises(OverflowError, match="index it is outside of"):
        seg.get(Unshown(2**70))
    with pytest.raises(TypeError, match="not something else"):
        shmvar.attach(key, evict=Unshown(1))


def test_a_size_of_a_derived_class_is_shown_as_a_number(key):
    with pytest.raises(ValueError, match=r"size must be at least 1 byte, not -5$"):
        shmvar.attach(key, Shown(-5))
    with pytest.raises(OverflowError, match=f"size {2**70} is beyond"):
        shmvar.attach(key, Shown(2**70))
