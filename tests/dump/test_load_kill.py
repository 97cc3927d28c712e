"""A load that is killed has loaded all of the variables, or none."""

import os
import random
import signal
import subprocess
import sys
import time

import helpers
import pytest

import shmvar

LOAD = """
segment = shmvar.attach(key)
print("ready", flush=True)
sys.stdin.readline()
segment.load(sys.argv[2])
print("loaded", flush=True)
time.sleep(60)
"""

# Kills itself at the `at`-th read of the second time that the dump is read.
AT_A_READ = """
from shmvar._dump import reading
segment, at, count = shmvar.attach(key), int(sys.argv[3]), 0
read = reading._Source.read
def counted(self, most):
    global count
    count += self._before > 0
    if count == at and self._before > 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return read(self, most)
reading._Source.read = counted
segment.load(sys.argv[2])
print(count)
"""


@pytest.fixture
def path(new_key, tmp_path):
    with shmvar.attach(new_key()) as other:
        other.update({index: "new" * (index % 500) for index in range(4000)})
        other.update({f"large {number}": b"new" * 200_000 for number in range(4)})
        other.array("field", 100_000, "u1")[:] = 1
        for number in range(20):
            other.queue("jobs").put(number)
        other.dump(tmp_path / "dump")
    return tmp_path / "dump"


def state(segment):
    """What of the dump is there: all of its variables, or none; and how many items."""
    values = segment.get_many([*range(4000), *(f"large {number}" for number in range(4)), "field"])
    new = {index for index, value in values.items() if value is not None and not isinstance(value, str | bytes)}
    new |= {index for index, value in values.items() if isinstance(value, str | bytes) and value != "old"}
    assert new in (set(), set(values)) and len(values) == 4005, len(new)
    return bool(new), segment.queue("jobs").qsize()


@pytest.fixture
def old(seg):
    seg.update(dict.fromkeys([*range(4000), *(f"large {number}" for number in range(4)), "field"], "old"))
    return seg


def test_f1_a_load_that_is_killed_anywhere_has_loaded_all_or_nothing(old, key, path, children):
    random.seed(5)
    limits, seen = [], set()
    for turn in range(10):
        child = helpers.start(LOAD, key, path)
        children.append(child)
        began = time.monotonic()
        child.stdin.write("go\n")
        child.stdin.flush()
        if turn < 2:
            assert child.stdout.readline() == "loaded\n"
            limits.append(time.monotonic() - began)
        else:
            time.sleep(random.uniform(0, 1.1) * max(limits))
        child.kill()
        child.wait()
        loaded, items = state(old)
        assert loaded or items == 0
        assert items <= 20
        seen.add((loaded, items))
        old.check()
        old.queue("jobs").clear()
        old.update(dict.fromkeys([*range(4000), *(f"large {number}" for number in range(4)), "field"], "old"))
        child.stdin.close()
        child.stdout.close()
    assert (True, 20) in seen
    old.clear()
    old.trim()
    assert old.info().held == 0 and old.info().used == 0


def test_a_load_that_is_killed_while_it_reads_has_loaded_nothing_and_leaks_nothing(old, key, path):
    reads = int(helpers.run(AT_A_READ, key, path, 0).stdout)
    assert state(old) == (True, 20)
    old.update(dict.fromkeys([*range(4000), *(f"large {number}" for number in range(4)), "field"], "old"))
    old.queue("jobs").clear()
    used = old.info().used
    for at in {1, 2, reads // 4, reads // 2 - 1}:
        done = helpers.run(AT_A_READ, key, path, at, check=False)
        assert done.returncode == -signal.SIGKILL
        assert state(old) == (False, 0) and old.info().used == used
        old.check()
    old.trim()
    assert old.info().resident < 4 << 20, "what it had filled was given back"


def test_ctrl_c_in_the_middle_of_a_load_changes_nothing(old, key, path):
    child = subprocess.Popen(
        [sys.executable, "-m", "shmvar", "load", key, "-"], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    )
    data = path.read_bytes()
    child.stdin.write(data[: len(data) // 2])
    child.stdin.flush()
    helpers.until(lambda: old.info().attached == 2 or os.path.exists(f"/proc/{child.pid}/fd/3"))
    child.send_signal(signal.SIGINT)
    child.stdin.close()
    child.wait(60)
    child.stderr.close()
    assert state(old) == (False, 0)
