"""Arrays that many processes write in place: races to make one, pools, readers, removal under those who write."""

import contextlib
import os
import subprocess
import sys
import threading
import time

import helpers
import numpy as np
import pytest
from helpers.arrays import MIB
from helpers.in_place import freed, held

import shmvar

COUNT = 8
"""Processes that race."""


# --- races to make one

MEET = """
import numpy as np
COUNT, number = 8, int(sys.argv[-1])
segment = shmvar.attach(key, create=False)

def meet(name):
    segment.add(name)
    while segment[name] < COUNT:
        time.sleep(0.0005)
"""

RACE = """
winners = []
for turn in range(100):
    index = turn if turn % 2 else f"text {turn}"
    meet(f"before {turn}")
    if turn % 3 == 1 and number == 0:
        segment.remove(f"text {turn - 1}" if turn % 2 else turn - 1)
    if sys.argv[2] == "zeros":
        field = segment.array(index, 20_000 + COUNT, "i8")
    elif sys.argv[2] == "initial":
        field = segment.array(index, initial=np.full(20_000 + COUNT, number + 1))
    elif sys.argv[2] == "row":
        field = segment.array(index, (11, 2_000), "i8", initial=np.full((2, 2_000), number + 1).T[:, 0]).reshape(-1)
    else:
        field = np.frombuffer(segment.buffer(index, 8 * (20_000 + COUNT)), "i8")
    first = int(field[0])
    assert (field[:20_000] == first).all(), "half made"
    field[20_000 + number] = -1 - number
    meet(f"after {turn}")
    assert field[20_000 : 20_000 + COUNT].tolist() == [-1 - n for n in range(COUNT)], "not one memory"
    assert np.array_equal(np.frombuffer(memoryview(segment[index]).cast("B"), "i8"), field)
    winners.append(first)
    del field
print(winners)
"""


@pytest.mark.slow
@pytest.mark.parametrize("given", ["zeros", "initial", "row", "buffer"])
def test_of_8_processes_that_race_100_times_one_makes_it_and_all_have_one_memory(key, given):
    with shmvar.attach(key) as segment:
        printed = helpers.run_in_processes(MEET + RACE, key, given, count=COUNT, timeout=100)
        assert len(set(printed)) == 1, "they saw what different ones made"
        winners = eval(printed[0])
        assert len(winners) == 100 and set(winners) <= ({0} if given in ("zeros", "buffer") else set(range(1, 9)))
        assert sum(segment.stat(index).in_place for index in segment) == 67
        assert segment.info().used == sum(segment.stat(index).size for index in segment)
        freed(segment)


KINDS = """
for turn in range(100):
    meet(f"before {turn}")
    try:
        field = segment.array(turn, 1000, "u1") if number % 2 else segment.buffer(turn, 1000)
        field[500 + number] = 1
        print(turn, number % 2)
    except ValueError as error:
        assert not isinstance(error, shmvar.Error) and ("buffer" in str(error) or "memoryview" in str(error)), error
        field = None
    meet(f"after {turn}")
    assert (field is not None) == (number % 2 == (segment.stat(turn).type == "numpy.ndarray"))
    assert field is None or bytes(field).count(1) == 4
"""


def test_of_an_array_and_a_buffer_that_race_for_one_index_one_is_made(key):
    with shmvar.attach(key) as segment:
        printed = helpers.run_in_processes(MEET + KINDS, key, count=COUNT)
        made = {line for each in printed for line in each.splitlines()}
        assert {line.split()[0] for line in made} == {str(turn) for turn in range(100)} and len(made) == 100
        freed(segment)


LARGE = """
for turn in range(6):
    value = np.full(4 << 20, number + 1.0)
    meet(f"before {turn}")
    field = segment.array(turn, initial=value)
    assert field[0] and (field == field[0]).all(), "half made"
    meet(f"made {turn}")
    del field, value
    meet(f"after {turn}")
    segment.remove(turn)
"""


@pytest.mark.slow
def test_a_race_takes_the_memory_of_few_and_not_of_all(key):
    size, most, stop = 32 * MIB, [0], []
    with shmvar.attach(key, 4 << 30) as segment:
        path = helpers.path_of(segment)

        def look():
            while not stop:
                most[0] = max(most[0], os.stat(path).st_blocks * 512)
                time.sleep(0.002)

        watch = threading.Thread(target=look)
        watch.start()
        try:
            helpers.run_in_processes(MEET + LARGE, key, count=COUNT)
        finally:
            stop.append(1)
            watch.join(60)
        assert size <= most[0] < 3 * size + 8 * MIB, f"{most[0] / size:.1f} times its size"
        freed(segment)


# --- pools

POOL = """
import multiprocessing
import sys

import numpy as np

import shmvar

KEY, METHOD, HOW = sys.argv[1:] if len(sys.argv) == 4 else ("", "", "")
SHAPE = (96, 25_000)


def expected(first, last):
    return np.arange(first, last)[:, None] * 1.0 + np.linspace(0, 0.5, SHAPE[1])


def fill(task):
    segment, first, last = task
    if isinstance(segment, str):  # a key: only the array stays of the handle
        with shmvar.attach(segment, create=False) as segment:
            field = segment.array("field", SHAPE, "f8")
    else:
        field = segment.array("field", SHAPE, "f8")
    field[first:last] = expected(first, last)
    return multiprocessing.current_process().pid


def spoil(field):
    field[:] = -1
    return field


if __name__ == "__main__":
    context = multiprocessing.get_context(METHOD)
    segment = shmvar.attach(KEY, create=False)
    if HOW == "made before":
        field = segment.array("field", SHAPE, "f8")
    given = segment if HOW == "handle" else KEY
    with context.Pool(4) as pool:
        tasks = [(given, first, first + 3) for first in range(0, 96, 3)]
        pids = pool.map_async(fill, tasks, chunksize=1).get(300)
        field = segment.array("field")
        assert field.shape == SHAPE and np.array_equal(field, expected(0, 96)), "not whole"
        # As an argument it is copied, as any array.
        back = pool.apply_async(spoil, (field,)).get(300)
        assert (back == -1).all() and np.array_equal(field, expected(0, 96))
    print("whole", len(set(pids)) > 1)
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["key", "handle", "made before"])
@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_stripes_that_a_pool_writes_arrive_whole(key, tmp_path, method, how):
    program = tmp_path / "program.py"
    program.write_text(POOL)
    with shmvar.attach(key) as segment:
        done = subprocess.run(
            [sys.executable, str(program), key, method, how], capture_output=True, text=True, timeout=500, check=False
        )
        assert done.returncode == 0 and done.stdout.split()[0] == "whole", done
        assert segment.array("field")[95, 0] == 95
        freed(segment)


COUNTER = """
import numpy as np
number = int(sys.argv[-1])
with shmvar.attach(key, create=False) as segment:
    field, lock = segment.array("field", 10, "i8"), segment.lock("field")
    for turn in range(300):
        with lock:
            field[0] += 1
            field[1] = field[0] * 3
            field[2 + number] += 1
"""


def test_counting_under_a_lock_is_exact(key):
    with shmvar.attach(key) as segment:
        helpers.run_in_processes(COUNTER, key, count=4)
        assert segment.array("field").tolist() == [1200, 3600, 300, 300, 300, 300, 0, 0, 0, 0]


TORN = """
import numpy as np
field = shmvar.attach(key, create=False).array("field")
print("ready", flush=True)
while True:
    for pattern in (0x1111111111111111, 0x2222222222222222):
        field[:] = pattern
"""


def test_an_aligned_item_of_8_bytes_is_never_torn(key, children):
    with shmvar.attach(key) as segment:
        field = segment.array("field", 500, "u8", initial=0x1111111111111111)
        children.append(helpers.start(TORN, key))
        patterns, seen = {0x1111111111111111, 0x2222222222222222}, set()
        for _ in helpers.looks(seen.__len__, seconds=1):
            seen.update(field.tolist())
            assert seen <= patterns
        helpers.end(children[0])


# --- waking

FOLLOW = """
import numpy as np
segment = shmvar.attach(key, create=False)
field = segment.array("field")
version = segment.version("field")
print("ready", flush=True)
for turn in range(1, int(sys.argv[2]) + 1):
    version = segment.wait("field", 300, newer_than=version)
    assert (field == turn).all(), (turn, field.min(), field.max())
    assert segment.version("field") == version
    segment["seen"] = turn
"""


def test_a_touch_wakes_a_waiter_of_another_process_who_sees_all_that_was_written_before(key, children):
    turns = 300
    with shmvar.attach(key) as segment:
        segment["seen"] = 0
        field = segment.array("field", 3000, "i8")
        child = helpers.start(FOLLOW, key, turns)
        children.append(child)
        for turn in range(1, turns + 1):
            version = segment.version("seen")
            field[:] = turn
            assert segment.touch("field") == segment.version("field")
            while segment["seen"] != turn:
                assert child.poll() in (None, 0)
                with contextlib.suppress(shmvar.WaitTimeoutError):
                    version = segment.wait("seen", 1, newer_than=version)
        assert child.wait(100) == 0


# --- read-only handles

READER = """
import numpy as np
reader = shmvar.attach(key, readonly=True)
field, window, raw = reader.array("field"), reader.view("field"), reader.buffer("raw")
assert not field.flags.writeable and not window.flags.writeable and raw.readonly
print(int(field[0]), flush=True)
sys.stdin.readline()
assert field[0] == window[0] == 1 and raw[0] == 1
assert reader.array("field")[0] == 2 == reader["field"][0] and reader.buffer("raw")[0] == 2
for call in (lambda: reader.array("new", 3), lambda: reader.buffer("new", 3), lambda: reader.touch("field")):
    try:
        call()
    except shmvar.ReadOnlyError:
        print("refused", flush=True)
sys.stdin.readline()
assert field[0] == window[0] == 1 == raw[0] and "field" not in reader
"""


@pytest.mark.parametrize("user", ["own", "other"])
def test_a_reader_of_another_process_has_copies_and_holds_nothing(key, children, user):
    if user == "other" and not helpers.IS_ROOT:
        pytest.skip("needs root: other users")
    with shmvar.attach(key, perm=0o644) as segment:
        field, raw = segment.array("field", 50_000, "i8", initial=1), segment.buffer("raw", 50_000)
        raw[0] = 1
        code = READER if user == "own" else READER.replace("readonly=True", "readonly=True, create=False")
        options = {} if user == "own" else helpers.as_user()
        if options:
            options["drop"] = "import numpy as np\n" + options["drop"]
        child = helpers.start(code, key, **options)
        children.append(child)
        assert child.said == "1"
        field[:], raw[0] = 2, 2
        child.stdin.write("go\n")
        child.stdin.flush()
        assert [child.stdout.readline() for _ in range(3)] == ["refused\n"] * 3
        del field, raw
        segment.clear()
        assert held(segment) == 0
        segment["more"] = b"\xff" * 400_000
        child.communicate("go\n", timeout=100)
        assert child.returncode == 0


# --- removal, replacement and destroy while others write

WRITER = """
import select
import numpy as np
number = int(sys.argv[2])
segment = shmvar.attach(key, create=False)
own = segment.array("field")[10_000 * number : 10_000 * (number + 1)]
segment.detach()
print("ready", flush=True)
turn = 0
while turn % 50 or not select.select([sys.stdin], [], [], 0)[0]:
    turn += 1
    own[:] = turn
    assert (own == turn).all(), "somebody else wrote to its memory"
print(turn)
"""

HAPPENINGS = {
    "remove": lambda segment: segment.remove("field"),
    "replace": lambda segment: segment.put("field", b"\xff" * 300_000),
    "swap": lambda segment: segment.swap("field", 5),
    "pop": lambda segment: segment.pop("field"),
    "clear": lambda segment: segment.clear(),
    "destroy": lambda segment: segment.destroy(),
    "trim": lambda segment: segment.trim(),
}


@pytest.mark.parametrize("what", HAPPENINGS)
def test_what_happens_to_the_variable_does_not_disturb_those_who_write(key, children, what):
    segment = shmvar.attach(key)
    field = segment.array("field", 40_000, "i8")
    writers = [helpers.start(WRITER, key, number) for number in range(4)]
    children += writers
    HAPPENINGS[what](segment)
    for turn in range(30):
        # What is stored now must not get the memory that they write to.
        values = {number: bytes([turn + number]) * (60_000 + 9000 * number) for number in range(10)}
        segment.update(values)
        if what == "remove":
            assert (segment.array("field", 40_000, "i8") == 0).all()
            segment.remove("field")
        if turn % 5 == 0:
            segment.trim()
        assert {number: segment[number] for number in values} == values
    said = [writer.communicate("stop\n", timeout=200)[0] for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * 4
    last = [int(each) for each in said]
    assert all((field[10_000 * n : 10_000 * (n + 1)] == last[n]).all() for n in range(4))
    if what == "trim":
        assert np.array_equal(segment.array("field"), field)
    del field
    freed(segment)
    segment.detach()


def test_the_last_process_that_holds_it_frees_it_however_it_ends(key, children):
    segment = shmvar.attach(key)
    segment.array("field", 40_000, "i8")
    first, second, third = (helpers.start(WRITER, key, number) for number in range(3))
    children += [first, second, third]
    segment.remove("field")
    assert held(segment) >= 320_000
    first.kill()
    first.wait(100)
    segment.trim()
    assert held(segment) >= 320_000
    second.communicate("stop\n", timeout=100)
    assert second.returncode == 0
    segment.trim()
    assert held(segment) >= 320_000
    third.kill()
    third.wait(100)
    helpers.until(lambda: segment.info().attached == 1, what="the end of the others")
    freed(segment)
    segment.detach()
