"""What a signal handler raises in a call on a server is raised by the call, and nothing is lost without a word."""

import math
import signal

import pytest
from helpers.machine import SLOWER
from helpers.remote_queues import SIZES

import shmvar
from shmvar._remote import arguments, mapping, queue_base, queue_calls, queue_items
from shmvar._remote.handle import Handle


class Deadline(Exception):
    """The caller's own."""


@pytest.fixture
def deadline():
    """Raises `Deadline` in a signal handler."""

    def handler(*_):
        raise Deadline

    before = signal.signal(signal.SIGUSR1, handler)
    yield lambda: signal.raise_signal(signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, before)


def after(monkeypatch, owner, name, action):
    """Has `action` called each time when a function has done its work and has not returned yet."""
    function = getattr(owner, name)

    def wrapped(*arguments, **named):
        result = function(*arguments, **named)
        action()
        return result

    monkeypatch.setattr(owner, name, wrapped)


# --- popitem


PLACES = [(Handle, "_record"), (Handle, "_undecoded"), (mapping, "decode_into"), (Handle, "_single")]


@pytest.mark.parametrize(("owner", "name"), PLACES, ids=[name for _, name in PLACES])
@pytest.mark.parametrize("value", [5, [b"x" * 50_000]], ids=["short", "large"])
def test_popitem_raises_it_and_takes_one_item_at_most(seg, monkeypatch, deadline, owner, name, value):
    seg.update(dict.fromkeys(range(5), value))
    with monkeypatch.context() as patched:
        after(patched, owner, name, deadline)
        with pytest.raises(Deadline):
            seg.popitem()
    assert len(seg) == (4 if name == "_single" else 5)
    assert seg.popitem()[1] == value


def test_popitem_raises_that_a_removal_may_have_been_made(seg, monkeypatch):
    seg.update(dict.fromkeys(range(5)))

    def no_answer():
        raise shmvar.SegmentUnavailableError("no answer", True)

    with monkeypatch.context() as patched:
        after(patched, Handle, "_single", no_answer)
        with pytest.raises(shmvar.SegmentUnavailableError) as caught:
            seg.popitem()
    assert caught.value.maybe_applied and len(seg) == 4


class Unwilling:
    """A value that cannot be rebuilt."""

    def __reduce__(self):
        return refuse, ()


def refuse():
    raise ArithmeticError


def test_popitem_hands_out_all_others_before_it_raises_for_a_value_that_cannot_be_rebuilt(server, new_key):
    key = new_key()
    writer = shmvar.attach(key)
    for segment, error in (
        (writer, shmvar.UntrustedValueError),
        (shmvar.attach(key, trust=True), ArithmeticError),
    ):
        writer.update({"no": Unwilling(), "large": [b"x" * 50_000], "n": 1})
        assert sorted(segment.popitem()[0] for _ in range(2)) == ["large", "n"]
        with pytest.raises(error):
            segment.popitem()
        assert list(writer) == ["no"]


# --- get of a queue


@pytest.mark.parametrize("size", ["long", "large"])
@pytest.mark.parametrize("place", [(queue_base.ServerQueue, "_body"), (queue_items.Item, "value_into")])
def test_get_gives_a_long_item_back(seg, monkeypatch, deadline, size, place):
    jobs = seg.queue("jobs")
    jobs.put(SIZES[size])
    with monkeypatch.context() as patched:
        after(patched, *place, deadline)
        with pytest.raises(Deadline):
            jobs.get()
    assert jobs.get(timeout=30 * SLOWER) == SIZES[size]


@pytest.mark.parametrize("size", ["long", "large"])
def test_get_gives_a_long_item_back_where_there_is_no_memory_to_rebuild_it(seg, monkeypatch, size):
    jobs = seg.queue("jobs")
    jobs.put(SIZES[size])

    def refusing(*_):
        raise MemoryError("nothing left")

    with monkeypatch.context() as patched:
        patched.setattr(queue_items, "_decode_value", refusing)
        patched.setattr(queue_calls, "_unfilled", refusing)
        with pytest.raises(MemoryError, match="nothing left"):
            jobs.get()
    assert jobs.get(timeout=30 * SLOWER) == SIZES[size]


@pytest.mark.parametrize("size", ["long", "large"])
@pytest.mark.parametrize("kind", [Deadline, TimeoutError, MemoryError, KeyboardInterrupt])
def test_get_gives_a_long_item_back_that_can_be_rebuilt_the_next_time(seg, monkeypatch, size, kind):
    jobs = seg.queue("jobs")
    jobs.put(SIZES[size])
    decode, tries = queue_items._decode_value, []

    def refused_once(*arguments):
        tries.append(arguments)
        if len(tries) == 1:
            raise kind("the caller's own")
        return decode(*arguments)

    monkeypatch.setattr(queue_items, "_decode_value", refused_once)
    with pytest.raises(kind, match="the caller's own"):
        jobs.get()
    assert jobs.get(timeout=30 * SLOWER) == SIZES[size]


@pytest.mark.parametrize("size", ["long", "large"])
def test_get_gives_a_long_item_back_when_ctrl_c_comes_where_its_error_is_tried_again(seg, monkeypatch, size):
    jobs = seg.queue("jobs")
    jobs.put(SIZES[size])
    decode, raised = queue_items._decode_value, [KeyboardInterrupt, ValueError]
    monkeypatch.setattr(
        queue_items, "_decode_value", lambda *given: refuse_as(raised.pop()) if raised else decode(*given)
    )
    with pytest.raises(KeyboardInterrupt):
        jobs.get()
    assert jobs.get(timeout=30 * SLOWER) == SIZES[size]


def refuse_as(kind):
    raise kind


class Poison:
    """A value whose own function raises what looks like an error of the system."""

    def __init__(self, size):
        self.data = "x" * size

    def __setstate__(self, state):
        raise MemoryError("one of its own")


@pytest.mark.parametrize("size", [5_000, 500_000])
def test_get_removes_an_item_whose_own_function_raises(key, size):
    jobs = shmvar.attach(key, trust=True).queue("jobs")
    jobs.put(Poison(size))
    jobs.put("next")
    with pytest.raises(MemoryError, match="one of its own"):
        jobs.get()
    assert jobs.get(timeout=30 * SLOWER) == "next" and jobs.empty()


# --- memoize


def test_memoize_raises_it_when_it_comes_while_the_result_is_sent(seg, monkeypatch, deadline):
    function = seg.memoize(lambda: b"x" * 5_000_000, name="f")
    with monkeypatch.context() as patched:
        after(patched, Handle, "_with_chunks", deadline)
        with pytest.raises(Deadline):
            function()
    assert seg.check().locks == 0
    assert function() == function() == b"x" * 5_000_000


# --- a time to live


def test_it_is_raised_as_it_is_while_a_time_to_live_is_read(seg, monkeypatch):
    float_of, raised = arguments.float_of, [TimeoutError]
    monkeypatch.setattr(arguments, "float_of", lambda ttl: refuse_as(raised.pop()) if raised else float_of(ttl))
    with pytest.raises(TimeoutError):
        seg.put("n", 1, ttl=0.5)
    assert "n" not in seg
    with pytest.raises(TypeError, match="ttl must be None, seconds or a timedelta, not str"):
        seg.put("n", 1, ttl="5")


# --- connecting


@pytest.mark.parametrize("kind", [TimeoutError, ConnectionResetError, OSError, Deadline])
def test_it_is_raised_as_it_is_while_a_connection_is_made(seg, monkeypatch, kind):
    from redis.connection import UnixDomainSocketConnection

    def interrupted(self):
        raise kind("the caller's own")

    seg["n"] = 1
    seg._open.close()
    with monkeypatch.context() as patched:
        patched.setattr(UnixDomainSocketConnection, "_connect", interrupted)
        with pytest.raises(kind, match="the caller's own"):
            seg.get("n")
    assert seg["n"] == 1


# --- reading a refusal


def test_it_is_raised_as_it_is_while_a_refusal_is_read(server, seg, monkeypatch, deadline):
    seg["n"] = 1
    server.call("SCRIPT", "FLUSH")
    connection = seg._open.connect(math.inf)
    connection.disconnect()
    with monkeypatch.context() as patched:
        patched.setattr(type(connection._parser), "parse_error", lambda *_: deadline())
        # A new one takes the function when it is made.
        seg._open.close()
        try:
            with pytest.raises(Deadline):
                seg["n"] = 2
        finally:
            seg._open.close()
    assert seg["n"] == 1


# --- arguments


def test_what_a_time_to_live_raises_when_it_is_asked_comes_through(seg, deadline):
    def interrupt():
        raise KeyboardInterrupt

    class Asked:
        """A number that does something when it is asked for the first time."""

        def __init__(self, action):
            self.actions = [action]

        def __float__(self):
            if self.actions:
                self.actions.pop()()
            return 5.0

    class Broken:
        def __float__(self):
            raise LookupError("mine")

    for action, raised in ((interrupt, KeyboardInterrupt), (deadline, Deadline)):
        with pytest.raises(raised):
            seg.put(1, 1, ttl=Asked(action))
    with pytest.raises(TypeError, match="ttl must be None, seconds or a timedelta, not Broken") as caught:
        seg.put(1, 1, ttl=Broken())
    assert type(caught.value.__cause__) is LookupError and len(seg) == 0
