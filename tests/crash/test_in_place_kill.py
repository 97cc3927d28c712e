"""Processes that make arrays in place and write to them are killed and stopped: nothing half made, nothing leaks."""

import contextlib
import mmap
import os
import random
import signal
import time

import helpers
import numpy as np
import pytest
from helpers.arrays import MIB
from helpers.in_place import freed, held

import shmvar


class Killed:
    """Children that work and are killed at random moments, some of them before they have begun."""

    def __init__(self, work, count=1):
        self.work, self.count = work, count
        self.begun = np.frombuffer(mmap.mmap(-1, 4096), "i8")

    def _child(self, number):
        self.begun[number] = 1
        self.work(number)

    def kill_some(self, most=0.02):
        self.begun[:] = 0
        pids = [helpers.fork(self._child, number) for number in range(self.count)]
        try:
            if random.random() < 0.8:
                helpers.until(lambda: self.begun[: self.count].all(), what="the children's beginning")
            time.sleep(random.random() * most)
        finally:
            for pid in pids:
                helpers.kill(pid)


def is_exact(segment):
    assert segment.info().used == sum(segment.stat(index).size for index in segment)
    assert segment.check().variables == len(segment) == segment.info().count


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("size", [1, 3000, 200_000])
def test_f1_killed_while_they_make_and_remove_nothing_is_half_made_and_nothing_leaks(key, size, count):
    def work(number):
        turn = 0
        while True:
            turn += 1
            index = turn % 3 if turn % 2 else f"text {turn % 3}"
            if turn % 5:
                field = segment.array(index, initial=np.full(size, turn * 10 + number))
                assert (field == field[0]).all() and field[0], "half made"
            else:
                assert segment.buffer(f"raw {turn % 2}", 8 * size) == bytes(8 * size)
            if random.random() < 0.7:
                segment.remove(index)
            segment.touch(index)

    with shmvar.attach(key) as segment:
        killed = Killed(work, count)
        for _ in range(40):
            killed.kill_some()
            with helpers.promptly():
                made = segment.array("mine", size)
            assert not made.any() and segment.remove("mine")
            for index in segment:
                with contextlib.suppress(KeyError):
                    if isinstance(index, str) and index.startswith("raw"):
                        assert segment.buffer(index) == bytes(8 * size)
                    else:
                        field = segment.array(index)
                        assert field.shape == (size,) and (field == field[0]).all() and field[0], "half made"
                        del field
            del made
            is_exact(segment)
        assert segment.info().attached == 1
        freed(segment)


def test_killed_writers_leave_what_they_wrote_and_nothing_else_is_touched(key):
    with shmvar.attach(key) as segment:
        field = segment.array("field", (4, 30_000), "i8", initial=-1)
        segment.update({number: bytes([number]) * 30_000 * number for number in range(10)})

        def work(number):
            own = segment.array("field")[number + 1]
            turn = 0
            while True:
                turn += 1
                own[:] = turn
                if turn % 10 == 0:
                    segment.touch("field")
                    kept = segment.array(f"of {number}", 5000)
                    kept[:] = turn
                    segment.remove(f"of {number}")

        killed = Killed(work, 2)
        for _ in range(30):
            killed.kill_some()
            assert (field[0] == -1).all() and (field[3] == -1).all()
            for row in (1, 2):
                last = field[row, 0]
                assert ((field[row] == last) | (field[row] == last - 1) | (last == 1)).all()
            assert all(segment[number] == bytes([number]) * 30_000 * number for number in range(10))
            is_exact(segment)
            field[1:3] = -1
        segment.remove("field")
        assert held(segment) >= field.nbytes
        del field
        freed(segment)


def test_f2_holders_that_are_killed_after_its_end_give_it_back(key):
    with shmvar.attach(key) as segment:
        expected = np.full(40_000, 7.0)

        def work(number):
            kept = []
            while True:
                field = segment.array(number % 2, initial=expected)
                kept.append(field[number:])
                field[number] = 7.0
                if len(kept) > 3:
                    segment.remove(number % 2)
                    assert all((each == 7).all() for each in kept)
                    kept.clear()

        killed = Killed(work, 3)
        for _ in range(25):
            killed.kill_some(0.03)
            segment[9] = b"\xff" * 320_000
            assert all((segment.array(index) == 7).all() for index in segment if index != 9)
            segment.clear()
            segment.trim()  # reaps the dead
            assert held(segment) == 0
            segment.check()
        freed(segment)


# --- a creator that is stopped

SLOW = """
import numpy as np
side = 5000
value = np.arange(side * side, dtype="f8").reshape(side, side).T
segment = shmvar.attach(key, create=False)
print("ready", flush=True)
while True:
    field = segment.array("field", initial=value)
    print(float(field[0, 1]), flush=True)
    if sys.stdin.readline() != "again\\n":
        break
    del field
"""

WAITS = """
import numpy as np
segment = shmvar.attach(key, create=False)
class Stop(Exception):
    pass
def stop(*_):
    raise Stop
signal.signal(signal.SIGALRM, stop)
signal.setitimer(signal.ITIMER_REAL, 1.0)
began = time.monotonic()
try:
    segment.array("field", (5000, 5000))
except Stop:
    print("stopped", time.monotonic() - began < 8)
else:
    print("made", time.monotonic() - began < 1.5)
"""


@pytest.mark.slow
def test_f5_a_creator_that_is_stopped_holds_others_up_for_a_bounded_time(key, children):
    """It waits for its 200 MB no longer than 12 s, and then makes it itself. Ctrl-C ends the wait before."""
    with shmvar.attach(key, 2 << 30) as segment:
        creator = helpers.start(SLOW, key)
        children.append(creator)
        for _ in range(30):
            helpers.until(lambda: segment.info().resident > 20 * MIB, what="its beginning", timeout=60)
            os.kill(creator.pid, signal.SIGSTOP)
            os.waitid(os.P_PID, creator.pid, os.WSTOPPED | os.WNOWAIT)
            if not segment.has("field"):
                break
            # Too late: once more.
            os.kill(creator.pid, signal.SIGCONT)
            creator.stdout.readline()
            segment.remove("field")
            creator.stdin.write("again\n")
            creator.stdin.flush()
            helpers.until(lambda: held(segment) == 0)
            segment.trim()
        else:
            pytest.skip("the creator was never stopped in the middle")
        interrupted = helpers.run(WAITS, key, timeout=30).stdout.split()
        assert interrupted[1] == "True", interrupted
        if interrupted[0] == "stopped":
            # What never fits is refused at once.
            with helpers.promptly(), pytest.raises(shmvar.SegmentFullError):
                segment.array("field", 2**38)
        began = time.monotonic()
        with contextlib.suppress(shmvar.SegmentBusyError):  # stopped with the writer lock held
            field = segment.array("field", (5000, 5000), initial=5)
            assert 5 < time.monotonic() - began < 60 or interrupted[0] == "made"
            assert field[0, 1] in (5, 0) and (field == field[0, 0]).all()
            again = time.monotonic()
            assert segment.array("field")[4999, 4999] == field[0, 0] and time.monotonic() - again < 5
            # The next array has a creation lock of its own.
            with helpers.promptly():
                segment.array("other", 1000)
            os.kill(creator.pid, signal.SIGCONT)
            assert float(creator.stdout.readline()) == field[0, 0], "it has what another one made"
            creator.communicate("end\n", timeout=100)
            assert creator.returncode == 0
            del field
            freed(segment)
        helpers.end(creator)
