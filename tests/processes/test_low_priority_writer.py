"""A low-priority writer is preempted in the middle of a change beside busy processes: others wait, nothing is lost."""

import os
import signal
import time

import helpers
import pytest

import shmvar

PRIORITIES = {
    "nice 19": lambda: os.nice(19),
    "SCHED_IDLE": lambda: os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0)),
}


def burn():
    while True:
        pass


@pytest.mark.parametrize("priority", PRIORITIES)
def test_a_waiter_behind_a_starved_writer_gets_its_turn_or_a_typed_error_and_nothing_is_lost(new_key, priority):
    """F53: every addition that was made counts once; readers go on at any time."""
    key = new_key()
    segment = shmvar.attach(key)

    def low():
        PRIORITIES[priority]()
        stop = []
        signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
        held, mine = shmvar.attach(key), 0
        held["ready"] = True
        while not stop:
            held.add("sum")
            mine += 1
        held["low"] = mine

    hogs, writer = [], helpers.fork(low)
    try:
        helpers.until(lambda: "ready" in segment, 20)
        hogs = [helpers.fork(burn) for _ in range(2 * os.cpu_count())]
        mine, looks, until = 0, 0, time.monotonic() + 3
        while time.monotonic() < until:
            try:
                segment.add("sum")
                mine += 1
            except shmvar.SegmentBusyError as error:
                # After 10 s; that takes a busier machine.
                assert "10 s" in str(error)
            assert segment["sum"] >= mine
            looks += 1
        assert mine and looks
    finally:
        for hog in hogs:
            helpers.end(hog)
    os.kill(writer, signal.SIGTERM)
    assert helpers.reap(writer) == 0
    assert segment["sum"] == mine + segment["low"]
    segment.check()
