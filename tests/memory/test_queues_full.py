"""Queues in a segment, and in a memory file system, that are full: `put` waits for room; taking out always works."""

import asyncio
import threading

import helpers
import pytest

import shmvar


@pytest.fixture
def small(key):
    segment = shmvar.attach(key, 1 << 20)
    yield segment
    segment.destroy()


def fill(queue, size=1_000):
    count = 0
    while True:
        try:
            queue.put_nowait(bytes(size))
        except shmvar.QueueFullError as error:
            assert "no room" in str(error)
            return count
        count += 1


def test_a_put_waits_for_room_in_the_segment_and_none_is_lost(small):
    jobs = small.queue("jobs")
    count = fill(jobs)
    assert count > 900
    with pytest.raises(shmvar.QueueFullError):
        jobs.put(bytes(1_000), timeout=0.05)
    putter = threading.Thread(target=jobs.put, args=("late",))
    putter.start()
    for _ in range(count):
        jobs.get()
    putter.join(60)
    assert jobs.get(timeout=60) == "late" and small.check().used == 0


def test_a_task_that_waited_for_room_in_the_segment_is_told_that(small):
    jobs = small.queue("jobs", maxsize=100_000)
    fill(jobs)

    async def main():
        for value in (bytes(1_000), [bytes(1_000)]):
            with pytest.raises(shmvar.QueueFullError, match=r'^queue "jobs": the segment had no room .* within 0.1 s'):
                await jobs.aput(value, timeout=0.1)

    asyncio.run(main())


def test_room_that_a_variable_leaves_is_room(small):
    jobs = small.queue("jobs")
    small["large"] = bytes(900_000)
    putter = threading.Thread(target=jobs.put, args=(bytes(500_000),))
    putter.start()
    assert jobs.empty()
    del small["large"]
    assert len(jobs.get(timeout=60)) == 500_000
    putter.join(60)


def test_variables_that_have_expired_are_room(small):
    jobs = small.queue("jobs")
    for number in range(9):
        small.put(number, bytes(100_000), ttl=0.05)
    jobs.put(bytes(500_000), timeout=60)
    assert jobs.qsize() == 1
    small.check()


def test_what_can_never_fit_is_an_error_at_once(small):
    jobs = small.queue("jobs")
    with pytest.raises(shmvar.SegmentFullError) as caught:
        jobs.put(bytes(2 << 20))
    assert caught.value.size == 1 << 20 and caught.value.needed > 2 << 20
    assert small.info().queues == {} and small.check().used == 0


def test_items_are_taken_given_back_and_finished_in_a_full_segment(small):
    jobs = small.queue("jobs")
    count = fill(jobs)
    small.check()
    held = [jobs.take() for _ in range(200)]
    for item in held:
        item.__enter__()
    for item in held[::2]:
        item.__exit__(None, None, None)
    for item in held[1::2]:
        item.__exit__(ValueError, None, None)
    small.check()
    assert jobs.qsize() == count - 100
    jobs.clear()
    assert small.check().used == 0


FULL = """
import subprocess
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "none", "/dev/shm"], check=True)
s = shmvar.attach("full", 5 << 20)
with open("/dev/shm/filler", "wb") as file:
    file.write(bytes(2_500_000))
jobs = s.queue("jobs")
count = 0
try:
    while True:
        jobs.put(bytes(1_000), timeout=0)
        count += 1
except shmvar.QueueFullError:
    pass
for size in (3_000, 300, 60, 200, 100, 20, 15):
    number = size * 100_000
    try:
        while True:
            s[number] = bytes(size)
            number += 1
    except shmvar.SegmentFullError:
        pass
s.check()
held = [jobs.take(0) for _ in range(60)]
entered = 0
for item in held:
    try:
        item.__enter__()
        entered += 1
    except shmvar.QueueEmptyError:
        break  # There is no memory for more entries: it is as if no item waited.
assert entered >= 32, entered
for item in held[3:entered]:
    item.__exit__(None, None, None)
    count -= 1
held[0].__exit__(None, None, None)
held[1].__exit__(ValueError, None, None)
for _ in range(count - 3):
    assert jobs.get() == bytes(1_000)
held[2].__exit__(None, None, None)
assert jobs.get() == bytes(1_000) if jobs.qsize() else True
assert s.info().queues == {}
s.check()
print("right")
"""


@helpers.needs_mounts
def test_a_full_file_system_keeps_nothing_from_being_taken_out():
    done = helpers.run(FULL, prefix=["unshare", "-m"], timeout=120)
    assert done.stdout == "right\n"
