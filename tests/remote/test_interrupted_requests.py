"""What a caller has and is told when a request to a server is interrupted or its time is up."""

import contextlib

import helpers
import pytest
from helpers import servers

import shmvar


def test_an_interrupt_while_an_answer_is_outstanding_leaves_a_usable_handle(seg, monkeypatch):
    seg["n"] = 0
    link = seg._open
    answers = type(link)._answers

    def interrupted(self, connection, count):
        monkeypatch.setattr(type(link), "_answers", answers)
        raise KeyboardInterrupt

    for _ in range(20):
        monkeypatch.setattr(type(link), "_answers", interrupted)
        with pytest.raises(KeyboardInterrupt):
            seg.add("n")
        # The next answer on a connection is that of the next request, and no number of a slot comes twice.
        before = seg["n"]
        assert seg.add("n") in (before + 1, before + 2)
    helpers.until(lambda: seg["n"] == 40)
    seg.check()


class OwnDeadline(TimeoutError):
    """Of a caller, who has a signal handler that raises it."""


@pytest.mark.parametrize("own", [TimeoutError, OwnDeadline, ConnectionResetError, OSError])
def test_the_callers_own_deadline_is_not_taken_for_a_lost_connection(own_server, own):
    import signal

    still = own_server()
    segment = shmvar.attach(still.url("still", timeout=20))
    segment["n"] = 1

    def deadline(*_):
        raise own("my own deadline")

    before = signal.signal(signal.SIGALRM, deadline)
    try:
        for call in (lambda: segment["n"], lambda: segment.add("n")):
            with still.stopped(), helpers.promptly(10), pytest.raises(own, match="my own deadline"):
                try:
                    raise ValueError("which the caller is handling")
                except ValueError:
                    signal.setitimer(signal.ITIMER_REAL, 0.2)
                    call()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    # And an error of the network in a handler of the caller's error is one of the network.
    still.kill()
    with pytest.raises(shmvar.SegmentUnavailableError), contextlib.suppress(KeyError):
        try:
            raise ValueError("which the caller is handling")
        except ValueError:
            shmvar.attach(still.url("still", timeout=0.2))["n"]


def test_an_error_after_a_lost_answer_says_that_the_change_may_have_been_applied(own_server):
    guarded = own_server()
    guarded.call("ACL", "SETUSER", "app", "on", ">secret", "~*", "&*", "+@all")
    between = servers.Proxy(guarded.socket)
    try:
        segment = shmvar.attach(guarded.tcp("n", "app:secret@", port=between.port))
        # The server knows the script from now on.
        segment["n"] = 0
        done = segment._open._sorted_out

        def sorted_out(error):
            if between.lost:
                helpers.until(lambda: shmvar.attach(guarded.url("n")).get("n") == 1)
                guarded.call("ACL", "SETUSER", "app", "resetpass", ">another")
            return done(error)

        segment._open._sorted_out = sorted_out
        between.lose_after = lambda data: b"EVAL" in data and not between.lost
        with pytest.raises(shmvar.SegmentAccessError, match="add to 'n' may have been applied") as caught:
            segment.add("n")
        assert caught.value.maybe_applied is True and "secret" not in str(caught.value)
        between.lose_after = None
        with pytest.raises(shmvar.SegmentAccessError) as caught:
            segment["n"]
        assert not hasattr(caught.value, "maybe_applied") and "may have" not in str(caught.value)
    finally:
        between.end()


def test_a_script_that_an_administrator_kills_is_tried_again(seg, monkeypatch):
    from redis.exceptions import ResponseError

    link = type(seg._open)
    answers, killed = link._answers, []

    def kill(self, connection, count):
        found = answers(self, connection, count)
        if not killed:
            killed.append(found)
            return [ResponseError("Error running script (call to x): Script killed by user with SCRIPT KILL.")]
        return found

    monkeypatch.setattr(link, "_answers", kill)
    assert seg.add("n") == 1 and killed


def test_when_time_is_up_the_error_says_whether_it_may_have_been_applied(own_server):
    still = own_server()
    segment = shmvar.attach(still.url("up", timeout=1.5))
    segment["n"] = 1
    with still.stopped():
        with pytest.raises(shmvar.SegmentUnavailableError, match="add to 'n' may have been applied") as caught:
            segment.add("n")
        assert caught.value.maybe_applied is True and isinstance(caught.value, ConnectionError)
        with pytest.raises(shmvar.SegmentUnavailableError) as caught:
            segment["n"]
        assert caught.value.maybe_applied is False and "may have" not in str(caught.value)
    helpers.until(lambda: segment.add("n", 0) in (1, 2))
    still.kill()
    with pytest.raises(shmvar.SegmentUnavailableError) as caught:
        segment.add("n")
    with pytest.raises(shmvar.SegmentUnavailableError) as caught:
        segment.add("n")
    assert caught.value.maybe_applied is False, "nothing was ever sent"


def test_an_answer_that_comes_byte_after_byte_ends_with_the_time(server, new_key, proxy):
    """Each byte is in time for the socket, and all of them never are."""
    name = new_key().partition("#")[2]
    segment = shmvar.attach(servers.Server.tcp(server, name, port=proxy.port, timeout=4))
    segment["v"] = "x" * 5000
    proxy.drip = 0.05
    with helpers.promptly(), pytest.raises(shmvar.SegmentUnavailableError, match="not complete after"):
        segment["v"]
    proxy.cut()
    proxy.drip = 0.0
    assert segment["v"] == "x" * 5000
