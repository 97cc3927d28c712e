"""The error of a value's own code is told from what a signal handler raises in the middle of that code."""

import signal

import pytest

import shmvar

WHILE_REBUILT = {}
"""By name: what to call each time when a `Calling` of that name is rebuilt."""


class Deadline(Exception):
    """What a signal handler raises."""


class Calling:
    """A value whose own code calls a function of the test when it is rebuilt."""

    def __init__(self, name, padding=0):
        self.name, self.padding = name, b"x" * padding

    def __setstate__(self, state):
        self.__dict__.update(state)
        WHILE_REBUILT[self.name]()


class Made:
    """A value that is rebuilt by a call of this function."""

    def __init__(self, function, *arguments):
        self.how = function, arguments

    def __reduce__(self):
        return self.how


def refuse(kind):
    raise kind("of the value")


OWN = {
    "a file that is gone": (Made(open, "/no/such/file"), FileNotFoundError),
    "compiled code": (Made(int, "xx"), ValueError),
    "Python code": (Made(refuse, ArithmeticError), ArithmeticError),
    "like one of the system": (Made(refuse, TimeoutError), TimeoutError),
    "like one of this package": (Made(refuse, shmvar.SegmentNotFoundError), shmvar.SegmentNotFoundError),
}
"""Values that cannot be rebuilt, and what that raises."""
HUGE = {"more memory than there is": (Made(bytearray, 1 << 62), MemoryError)}


@pytest.fixture
def trusted(key):
    """A segment whose values may run code."""
    with shmvar.attach(key, 16 << 20, trust=True) as segment:
        yield segment


@pytest.fixture
def deadline_raised():
    """Raises `Deadline` in a signal handler."""

    def handler(*_):
        raise Deadline

    before = signal.signal(signal.SIGUSR1, handler)
    yield lambda: signal.raise_signal(signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, before)


@pytest.fixture
def interrupted(deadline_raised):
    """Lets a signal handler raise when the next `Calling("interrupted")` is rebuilt, and at no other time."""
    times = []

    def once():
        times.append(1)
        if len(times) == 1:
            deadline_raised()

    WHILE_REBUILT["interrupted"] = once
    return times


# --- get of a queue


@pytest.mark.parametrize("size", [10, 5_000, 500_000])
@pytest.mark.parametrize("value", [*OWN, *HUGE])
def test_get_removes_an_item_that_cannot_be_rebuilt(trusted, value, size):
    value, error = {**OWN, **HUGE}[value]
    jobs = trusted.queue("jobs")
    jobs.put([value, b"x" * size])
    jobs.put("next")
    with pytest.raises(error):
        jobs.get(timeout=60)
    assert jobs.get(timeout=60) == "next" and jobs.empty()


def test_get_gives_a_large_item_back_when_a_handler_raises_in_its_code(trusted, interrupted):
    jobs = trusted.queue("jobs")
    jobs.put(Calling("interrupted", 500_000))
    with pytest.raises(Deadline):
        jobs.get(timeout=60)
    assert len(jobs.get(timeout=60).padding) == 500_000 and jobs.empty()


# --- popitem


@pytest.mark.parametrize("value", OWN)
def test_popitem_skips_what_cannot_be_rebuilt_whatever_that_raises(trusted, value):
    value, error = OWN[value]
    for number in range(8):
        trusted[number] = [value, b"x" * (10, 50_000, 500_000)[number % 3]]
    for number in range(8):
        trusted["other"] = number
        assert trusted.popitem() == ("other", number)
    with pytest.raises(error):
        trusted.popitem()
    assert len(trusted) == 8


@pytest.mark.parametrize("size", [10, 50_000, 500_000])
def test_popitem_raises_what_a_handler_raises_in_a_values_code(trusted, interrupted, size):
    for number in range(4):
        trusted[number] = Calling("interrupted", size)
    with pytest.raises(Deadline):
        trusted.popitem()
    assert len(trusted) == 4
    assert len(trusted.popitem()[1].padding) == size and len(trusted) == 3


def test_popitem_goes_on_when_a_broken_value_is_replaced_meanwhile(trusted):
    def replaced():
        trusted["n"] = "sound"
        raise ValueError("old layout")

    WHILE_REBUILT["replaced"] = replaced
    trusted["n"] = Calling("replaced")
    assert trusted.popitem() == ("n", "sound")


# --- memoize


def test_memoize_returns_what_replaces_a_broken_result_meanwhile(trusted):
    function = trusted.memoize(lambda: pytest.fail("was computed"), name="f")

    def replaced():
        trusted[function.index()] = "sound"
        raise ValueError("old layout")

    WHILE_REBUILT["replaced"] = replaced
    trusted[function.index()] = Calling("replaced")
    assert function() == "sound" and function.cache_info() == (1, 0)


def test_memoize_computes_when_a_broken_result_goes_meanwhile(trusted):
    function = trusted.memoize(lambda: "computed", name="f")

    def removed():
        trusted.remove(function.index())
        raise ValueError("old layout")

    WHILE_REBUILT["removed"] = removed
    trusted[function.index()] = Calling("removed")
    assert function() == "computed" and function.cache_info() == (0, 1)


def test_memoize_computes_when_another_broken_result_replaces_a_broken_one_meanwhile(trusted):
    function = trusted.memoize(lambda: "computed", name="f")

    def replaced():
        trusted[function.index()] = Made(int, "xx")
        raise ArithmeticError("old layout")

    WHILE_REBUILT["replaced"] = replaced
    trusted[function.index()] = Calling("replaced")
    assert function() == "computed" == function() and function.cache_info() == (1, 1)


class Pickled:
    """A value whose own code calls a function of the test when it is pickled."""

    def __init__(self, action):
        self.action = action

    def __reduce__(self):
        self.action()
        return int, ()


def test_memoize_raises_what_a_handler_raises_while_the_result_is_pickled(trusted, deadline_raised):
    times = []

    def once():
        times.append(1)
        if len(times) == 1:
            deadline_raised()

    function = trusted.memoize(lambda: Pickled(once), name="f")
    with pytest.raises(Deadline):
        function()
    assert function.index() not in trusted and trusted.check().locks == 0
    assert isinstance(function(), Pickled) and function() == 0 and function.cache_info() == (1, 2)


@pytest.mark.parametrize("error", [TypeError, OSError, MemoryError, RecursionError])
def test_memoize_returns_what_cannot_be_pickled(trusted, error):
    function = trusted.memoize(lambda: Pickled(lambda: refuse(error)), name="f")
    assert isinstance(function(), Pickled) and function.index() not in trusted


# --- arguments


class Seconds:
    """A time to live whose own code calls a function of the test."""

    def __init__(self, action):
        self.action = action

    def __float__(self):
        self.action()
        return 60.0


def test_a_time_to_live_raises_what_a_handler_raises_in_its_code(trusted, deadline_raised):
    times = []

    def once():
        times.append(1)
        if len(times) == 1:
            deadline_raised()

    with pytest.raises(Deadline):
        trusted.put("n", 1, ttl=Seconds(once))
    trusted.put("n", 1, ttl=Seconds(once))
    with pytest.raises(TypeError, match="ttl must be None, seconds or a timedelta, not Seconds"):
        trusted.put("n", 2, ttl=Seconds(lambda: refuse(ArithmeticError)))
    assert trusted["n"] == 1
