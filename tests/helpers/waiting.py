"""Waits with a limit, and limits on waiting: a test ends by itself, on a slow machine too."""

import contextlib
import time

from helpers.machine import SLOWER


def until(condition, timeout=10.0, what="it"):
    """Waits for a condition that comes true by itself; fails after the timeout."""
    end_at = time.monotonic() + timeout * SLOWER
    while not condition():
        assert time.monotonic() < end_at, f"{what} did not happen within {timeout * SLOWER} s"
        time.sleep(0.002)


def looks(enough=lambda: True, seconds=2.0, turns=1, at_most=300.0):
    """Loops for at least so many seconds and turns, and then until `enough()` is true; a slow machine takes longer."""
    began, done = time.monotonic(), 0
    while (passed := time.monotonic() - began) < seconds or done < turns or not enough():
        assert passed < at_most, f"{done} turns in {at_most} s, and not enough seen"
        yield
        done += 1


@contextlib.contextmanager
def promptly(seconds=6.0):
    """Fails if the block takes longer: a call that waits in vain takes 10 s. (A busy machine may halt for a second.)"""
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    assert took < seconds, f"it took {took:.1f} s"
