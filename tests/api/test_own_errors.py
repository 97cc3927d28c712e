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
