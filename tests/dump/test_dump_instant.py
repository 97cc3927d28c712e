"""A dump is of one instant while other processes write: batches, counters, clears, expiry, queues."""

import io
import threading

import helpers
import pytest

import shmvar

# Each of these programs ends when its stdin does.
BEGIN = """
import select
import numpy
segment = shmvar.attach(key)
print("ready", flush=True)
def goes_on():
    return not select.select([sys.stdin], [], [], 0)[0]
"""
GROUPS = (
    BEGIN
    + """
number = int(sys.argv[2])
turn = 0
while goes_on():
    turn += 1
    size = 3 if turn % 3 else 40
    segment.put_many({(f"group {number}.{member}"): (turn, "x" * (turn % 300), b"y" * 50) for member in range(size)})
"""
)
SUM = (
    BEGIN
    + """
while goes_on():
    # From one account to the other: two variables in one batch.
    with segment.lock("accounts"):
        now = segment.get_many(["left", "right"])
        segment.put_many({"left": now["left"] - 1, "right": now["right"] + 1})
"""
)
COMING = (
    BEGIN
    + """
turn = 0
while goes_on():
    turn += 1
    for index in range(1000, 1400):
        segment.put(index, turn, ttl=0.005 if index % 3 == 0 else None)
    # Whoever finds "last" finds all of them, as they are written before.
    segment["last"] = turn
    for index in range(1000, 1400):
        segment.remove(index)
    segment.remove("last")
"""
)
LARGE = (
    BEGIN
    + """
turn = 0
while goes_on():
    turn += 1
    segment.put_many({"large": numpy.full(40_000, turn), "its turn": turn})
    segment.expire("large", 100 + turn % 7)
"""
)
QUEUE = (
    BEGIN
    + """
# An item goes from one queue to the other by way of a variable, so at each instant it is in one or two of the places.
one, two = segment.queue("one"), segment.queue("two")
while goes_on():
    with one.take() as item:
        two.put(item)
    with two.take() as item:
        one.put(item)
"""
)
CLEAR = (
    BEGIN
    + """
while goes_on():
    segment.put_many({index: 1 for index in range(300)})
    segment.clear()
    segment.put_many({"a": 1, "b": 1})
"""
)


@pytest.fixture
def beside(key, children):
    """Starts programs that write until the test is over."""
    running = []

    def start(program, *args):
        running.append(helpers.start(program, key, *args))
        children.append(running[-1])
        return running[-1]

    yield start
    for process in running:
        process.stdin.close()
    for process in running:
        assert process.wait(60) == 0


def loaded(data, new_key):
    """What a dump has: a fresh segment with it."""
    segment = shmvar.attach(new_key(), 64 << 20)
    segment.load(io.BytesIO(data))
    segment.check()
    return segment


def dumped(segment):
    file = io.BytesIO()
    count = segment.dump(file)
    return file.getvalue(), count


def test_members_of_a_batch_agree_in_every_dump(seg, beside, new_key):
    for number in range(3):
        seg.put_many({f"group {number}.{member}": (0, "", b"") for member in range(40)})
    seg.put_many({"left": 500, "right": 500})
    for number in range(3):
        beside(GROUPS, str(number))
    beside(SUM)
    turns = set()
    for _ in range(12):
        data, count = dumped(seg)
        with loaded(data, new_key) as again:
            assert len(again) == count == 122
            for number in range(3):
                (turn,) = {again[f"group {number}.{member}"][0] for member in range(3)}
                (others,) = {again[f"group {number}.{member}"][0] for member in range(3, 40)}
                assert others <= turn and others == turn - turn % 3
                assert all(len(again[f"group {number}.{member}"][1]) == turn % 300 for member in range(3))
                turns.add((number, turn))
            assert again["left"] + again["right"] == 1000
            again.destroy()
    assert len(turns) > 6, "nobody wrote meanwhile"


def test_variables_that_come_and_go_and_expire(seg, beside, new_key):
    seg.update({index: "stays" for index in range(500)})
    beside(COMING)
    beside(LARGE)
    for _ in range(12):
        data, count = dumped(seg)
        with loaded(data, new_key) as again:
            assert [again[index] for index in range(500)] == ["stays"] * 500
            # Of those that were put without a time to live, the first ones are there while they are put, and the last
            # ones while they are removed.
            there = [index for index in range(1000, 1400) if index % 3]
            found = [index for index in there if index in again]
            assert found in (there[: len(found)], there[len(there) - len(found) :])
            if "last" in again:
                assert {again[index] for index in found} <= {again["last"]} and found == there[
                    len(there) - len(found) :
                ]
            if "large" in again:
                assert set(again["large"]) == {again["its turn"]}
            again.destroy()
        assert count <= 500 + 400 + 3


def test_a_clear_is_before_or_after(seg, beside, new_key):
    beside(CLEAR)
    sizes = set()
    for _ in range(25):
        data, count = dumped(seg)
        with loaded(data, new_key) as again:
            assert set(again) in (set(), {"a", "b"}, set(range(300)), {"a", "b"} | set(range(300)))
            assert count == len(again)
            sizes.add(count)
            again.destroy()
    assert len(sizes) > 1, "nobody wrote meanwhile"


def test_items_that_are_passed_on_are_there_once_or_twice(seg, beside, new_key):
    one = seg.queue("one")
    for number in range(60):
        one.put((number, b"x" * (number * 900)))
    beside(QUEUE)
    for _ in range(12):
        data, _ = dumped(seg)
        with loaded(data, new_key) as again:
            found = [again.queue(name).get()[0] for name in ("one", "two") for _ in range(again.queue(name).qsize())]
            # What is taken is still in its queue while it is put into the other one.
            assert sorted(set(found)) == list(range(60)) and len(found) in (60, 61)
            again.destroy()


def test_through_a_read_only_handle_a_dump_is_of_one_instant_or_says_why_not(seg, key, beside, new_key):
    seg.put_many({f"group 0.{member}": (0, "", b"") for member in range(40)})
    seg["large"] = bytes(100_000)
    with shmvar.attach(key, readonly=True) as reader:
        data, count = dumped(reader)
        with loaded(data, new_key) as again:
            assert dict(again) == dict(seg) and count == 41
            again.destroy()
        process = beside(GROUPS, "0")
        for _ in range(5):
            try:
                data, _ = dumped(reader)
            except shmvar.SegmentBusyError as error:
                assert "a handle that may write" in str(error)
                continue
            with loaded(data, new_key) as again:
                assert len({again[f"group 0.{member}"][0] for member in range(3)}) == 1
                assert len({again[f"group 0.{member}"][0] for member in range(3, 40)}) == 1
                again.destroy()
        # Once nobody writes any more it is as always.
        process.stdin.close()
        assert process.wait(60) == 0
        data, _ = dumped(reader)
        with loaded(data, new_key) as again:
            assert dict(again) == dict(seg)
            again.destroy()


def test_threads_go_on_meanwhile(seg):
    """The other threads of the process that dumps write, too."""
    seg.update({index: index for index in range(20_000)})
    over = threading.Event()

    def write():
        turn = 0
        while not over.is_set():
            turn += 1
            seg.put_many({"a": turn, "b": turn})

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(5):
            data, count = dumped(seg)
            assert count in (20_000, 20_002)
            assert data.count(b'"gone"') < 2 * 64
    finally:
        over.set()
        thread.join()
