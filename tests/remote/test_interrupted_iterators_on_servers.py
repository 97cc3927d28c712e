"""An iterator over changes on a server that a signal handler interrupts, wherever: other threads go on with it."""

import asyncio
import gc
import sys
import threading
import time

import pytest
from helpers import event_loops
from helpers.machine import SLOWER

import shmvar
from shmvar._remote.listener import listener_of

LONG = 20 * SLOWER


class Interrupt(BaseException):
    """What a signal handler raises."""


def interrupted_at(number, call):
    """Calls it, and raises at one of the places where a signal handler may run. Returns what was raised, or None.

    These are the beginning of each function, and the end of each call of a compiled one.
    """
    left = [number]

    def profile(_frame, event, _argument):
        if event in ("call", "c_return"):
            left[0] -= 1
            if left[0] == 0:
                raise Interrupt

    sys.setprofile(profile)
    try:
        call()
    except Interrupt as error:
        return error
    except shmvar.WaitTimeoutError:
        return None
    finally:
        sys.setprofile(None)
    return None


def in_thread(call):
    found = []
    thread = threading.Thread(target=lambda: found.append(call()), daemon=True)
    thread.start()
    thread.join(LONG)
    return found


@pytest.mark.parametrize("something", [True, False], ids=["with a change", "without a change"])
def test_another_thread_gets_the_next_change(seg, something):
    changes = seg.changes(timeout=0)
    seg["n"] = 0
    assert next(changes)[0] == "n"
    # Their tracebacks keep the frames that were interrupted.
    kept = []
    for number in range(1, 10_000):
        if something:
            seg["before"] = number
        error = interrupted_at(number, lambda: next(changes))
        if error is None:
            break
        kept.append(error)
        version = seg.touch("n")

        def told(version=version):
            end = time.monotonic() + LONG
            while time.monotonic() < end:
                try:
                    if next(changes) == ("n", version):
                        return True
                except shmvar.WaitTimeoutError:
                    pass
            return False

        assert in_thread(told) == [True], number
    assert len(kept) > 20


def ends(seg, changes):
    """Nobody tells of it but the server, when it is asked."""
    seg.put("i", 1, ttl=0.01)
    assert next(changes)[0] == "i"
    time.sleep(0.015)


CHANGES = {
    "put": lambda seg, _, number: seg.put("i", number),
    "put or removal": lambda seg, _, number: seg.put("i", number) if seg.pop("i", None) is None else None,
    "put or clear": lambda seg, _, number: seg.put("i", number) if number % 2 else seg.clear(),
    "end of a time to live": lambda seg, changes, _: ends(seg, changes),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_change_that_a_step_did_not_return_is_told_by_the_next_one(seg, change):
    changes = seg.changes(timeout=LONG)

    def step():
        # Not by `next`, at whose end a signal handler may run, too: what it has returned is the caller's.
        got.append(changes.__next__())

    for number in range(1, 10_000):
        CHANGES[change](seg, changes, number)
        version, got = seg.version("i") or 0, []
        done = interrupted_at(number, step) is None
        if not got:
            got.append(next(changes))
        assert got == [("i", version)], number
        if done:
            break
    assert number > 40


def late(changes):
    try:
        return next(changes)
    except shmvar.WaitTimeoutError as error:
        return error


@pytest.mark.parametrize("timeout", [0, 0.3])
def test_who_is_not_let_in_is_told_that_the_time_is_over(seg, monkeypatch, timeout):
    changes = seg.changes(timeout=timeout)
    inside, go_on = threading.Event(), threading.Event()

    def standing_still(_):
        inside.set()
        assert go_on.wait(LONG)
        return None

    monkeypatch.setattr(changes, "_told", standing_still)
    first = threading.Thread(target=lambda: late(changes), daemon=True)
    first.start()
    try:
        assert inside.wait(LONG)
        (found,) = in_thread(lambda: late(changes))
        assert isinstance(found, shmvar.WaitTimeoutError)

        async def task():
            with pytest.raises(shmvar.WaitTimeoutError):
                await anext(changes)

        event_loops.run(asyncio.wait_for(task(), LONG))
    finally:
        monkeypatch.undo()
        go_on.set()
        first.join(LONG)
    assert not first.is_alive()


def test_a_signal_handler_that_looks_within_a_look_is_told_so(seg, monkeypatch):
    changes = seg.changes(timeout=0)

    def again(_):
        monkeypatch.undo()
        next(changes)

    monkeypatch.setattr(changes, "_told", again)
    with pytest.raises(RuntimeError, match="looking for changes already"):
        next(changes)
    seg["n"] = 1
    assert next(changes)[0] == "n"


def test_one_that_never_came_to_be_leaves_nothing_with_the_listener(seg):
    def subscriptions():
        gc.collect()
        # Other segments of this server have the same listener.
        return len(listener_of(seg._open).channels[seg._requests.data + b"w"].users)

    with_one = seg.changes()
    before, number = subscriptions(), 0
    while True:
        number += 1
        if interrupted_at(number, seg.changes) is None:
            break
        assert subscriptions() == before, number
    assert number > 100 and before == 1 and not with_one._has_ended()
