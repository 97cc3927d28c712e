"""Queues on a server: order, waiting, room, the segment as a whole, dumps. See also test_contract.py."""

import asyncio
import itertools
import os
import pickle as library
import subprocess
import sys
import threading
import time
from pathlib import Path

import helpers
import pytest
from helpers.machine import SLOWER
from helpers.remote_queues import SIZES, charged, finished, put_all, raised

import shmvar
from shmvar._remote import queue_base
from shmvar.cli.main import main as cli

LONG, LARGE = SIZES["long"], SIZES["large"]


# --- order, among processes

PRODUCE = """
q = shmvar.attach(key).queue("jobs", maxsize=20)
for number in range(60):
    q.put((sys.argv[2], number, "x" * (number * 37 % 3_000)))
"""
CONSUME = """
q = shmvar.attach(key).queue("jobs")
for turn in range(60):
    if turn % 2:
        print(*q.get(timeout=100)[:2])
    else:
        with q.take(timeout=100) as item:
            print(*item[:2])
"""


def test_each_item_goes_to_one_process_and_in_the_order_of_its_producer(seg, key):
    with helpers.promptly(100 * SLOWER):
        consumers = [subprocess.Popen(helpers.command(CONSUME, key), stdout=-1, text=True) for _ in range(2)]
        try:
            helpers.run_in_processes(PRODUCE, key, count=2)
            printed = [each.communicate(timeout=100 * SLOWER)[0].splitlines() for each in consumers]
        finally:
            for each in consumers:
                helpers.end(each)
    got = [[tuple(line.split()) for line in lines] for lines in printed]
    everything = sorted(itertools.chain(*got))
    assert everything == sorted((str(who), str(number)) for who in range(2) for number in range(60))
    for items in got:
        for who in "01":
            numbers = [int(number) for name, number in items if name == who]
            assert numbers == sorted(numbers)
    assert charged(seg) == 0


# --- asyncio


def test_a_task_that_is_cancelled_while_the_server_answers_loses_no_item(seg, monkeypatch):
    jobs = seg.queue("jobs")
    in_flight, go, poll = threading.Event(), threading.Event(), queue_base.ServerQueue._poll

    def slow(self, op, *arguments, **named):
        answer = poll(self, op, *arguments, **named)
        in_flight.set()
        assert go.wait(60)
        return answer

    async def main(call):
        task = asyncio.create_task(call)
        await asyncio.to_thread(in_flight.wait, 60)
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    for name, value in SIZES.items():
        for call in ("aget", "take"):
            jobs.put(value)
            jobs.put("next")
            in_flight.clear(), go.clear()
            with monkeypatch.context() as patch:
                patch.setattr(queue_base.ServerQueue, "_poll", slow)
                asyncio.run(main(jobs.aget() if call == "aget" else jobs.take().__aenter__()))
            assert [jobs.get(), jobs.get()] == [value, "next"], (name, call)
            assert charged(seg) == 0


def test_the_loop_goes_on_while_the_server_stands_still(own_server):
    still = own_server()
    jobs = shmvar.attach(still.url("still", timeout=30)).queue("jobs")
    jobs.put("work")

    async def main():
        ticks = 0
        with still.stopped():
            task = asyncio.create_task(jobs.aget())
            for _ in range(20):
                await asyncio.sleep(0.01)
                ticks += 1
            assert not task.done()
        assert await task == "work"

    with helpers.promptly(25 * SLOWER):
        asyncio.run(main())


# --- full


def test_a_put_waits_for_room_in_the_segment_and_what_can_never_fit_is_an_error_at_once(key):
    with shmvar.attach(key, 1 << 20) as small:
        jobs = small.queue("jobs")
        with pytest.raises(shmvar.SegmentFullError, match=', queue "jobs"') as caught:
            jobs.put(bytes(2 << 20))
        assert caught.value.size == 1 << 20 and caught.value.needed > 2 << 20
        small["large"] = bytes(900_000)
        with pytest.raises(shmvar.QueueFullError, match=r'^queue "jobs": the segment had no room .* within 0.05 s'):
            jobs.put(bytes(500_000), timeout=0.05)
        putter = threading.Thread(target=jobs.put, args=(bytes(500_000),))
        putter.start()
        assert jobs.empty()
        del small["large"]
        assert len(jobs.get(timeout=60)) == 500_000
        putter.join(60)
        small.put("expires", bytes(900_000), ttl=0.01)
        jobs.put(bytes(500_000), timeout=60)
        assert small.check().variables == 0 and jobs.qsize() == 1


def test_a_server_without_memory_hands_on_what_it_has(own_server):
    full = own_server()
    segment = shmvar.attach(full.url("full"))
    jobs = segment.queue("jobs")
    for number in range(5):
        jobs.put([number, LONG])
    finished(jobs)
    full.call("CONFIG", "SET", "maxmemory", "1")
    for value in (1, LARGE):
        with pytest.raises(shmvar.SegmentFullError, match="maxmemory"):
            jobs.put(value)
    assert jobs.get()[0] == 1
    assert raised(jobs)[0][0] == 2 and finished(jobs) == ([2, LONG], 2)
    jobs.clear()
    assert jobs.empty() and segment.info().queues == {} and segment.destroy() is None


def test_640_items_are_taken_at_a_time(seg, monkeypatch):
    jobs = seg.queue("jobs")
    for number in range(642):
        jobs.put(number)
    held = [jobs.take(0) for _ in range(641)]
    for item in held[:640]:
        item.__enter__()
    with pytest.raises(shmvar.QueueEmptyError, match="2 items wait"):
        held[640].__enter__()
    assert jobs.get() == 640
    waiter = threading.Thread(target=jobs.take(60).__enter__)
    waiter.start()
    held[5].__exit__(None, None, None)
    waiter.join(60)
    helpers.until(lambda: seg.info().queues["jobs"]["waiting"] in (0, 1))
    seg.detach()


# --- the segment as a whole


def test_clear_of_the_segment_leaves_queues_and_destroy_removes_all(server, seg, key):
    jobs = seg.queue("jobs")
    for value in SIZES.values():
        jobs.put(value)
    seg.put_many({"a": 1, "large": LARGE})
    with jobs.take():
        seg.clear()
        info = seg.info()
        assert len(seg) == 0 and info.queues["jobs"] == {"waiting": 2, "held": 1, "used": info.used}
        charged(seg)
    assert jobs.get() == LONG and jobs.get() == LARGE and charged(seg) == 0
    put_all(seg)
    item = seg.queue("large").take()
    item.__enter__()
    data = seg._requests.data
    seg.destroy()
    assert server.call("KEYS", data + b"*") == []
    with pytest.raises(shmvar.SegmentNotFoundError):
        item.__exit__(None, None, None)


def test_clear_and_destroy_end_no_wait_or_every_one(seg, key):
    jobs, short = seg.queue("jobs"), seg.queue("jobs", maxsize=1)
    short.put("first")
    got = []
    putter = threading.Thread(target=short.put, args=("second",))
    putter.start()
    helpers.until(lambda: putter.is_alive())
    jobs.clear()
    putter.join(60)
    assert not putter.is_alive() and jobs.get() == "second"

    def wait(call):
        try:
            call()
        except shmvar.SegmentNotFoundError as error:
            got.append(error)

    short.put("full")
    empty = seg.queue("empty")
    calls = (empty.get, empty.take().__enter__, lambda: short.put("never"))
    threads = [threading.Thread(target=wait, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    empty.clear()
    time.sleep(0.1)
    assert all(thread.is_alive() for thread in threads)
    seg.destroy()
    for thread in threads:
        thread.join(60)
    assert len(got) == 3


def test_a_clear_of_many_items_leaves_what_comes_later_and_what_is_held(seg):
    jobs = seg.queue("jobs")
    for number in range(2_300):
        jobs.put(number)
    jobs.put(LARGE)
    raised(jobs)
    item = jobs.take()
    item.__enter__()
    raised(jobs)
    jobs.clear()
    assert jobs.empty() and seg.info().queues["jobs"]["held"] == 1
    jobs.put("later")
    item.__exit__(None, None, None)
    assert jobs.get() == "later" and charged(seg) == 0


# --- the command line, and the example


def test_items_are_dumped_and_loaded_between_segments_of_any_kind(seg, key, new_key, tmp_path):
    path, local = str(tmp_path / "dump"), f"queues-{os.getpid()}"
    values = ["first", LARGE, {"a": [1, 2]}, 7, None, *range(600)]
    for value in values:
        seg.queue("jobs").put(value)
    seg["jobs"] = "a variable"
    taken = [seg.queue("jobs").take() for _ in range(2)]
    assert [item.__enter__() for item in taken] == values[:2]
    try:
        again = new_key()
        for target in (again, local):
            assert cli(["dump", key if target == again else again, path]) == 0
            assert cli(["load", target, path]) == 0
            with shmvar.attach(target, create=False) as loaded:
                jobs = loaded.queue("jobs")
                assert dict(loaded) == {"jobs": "a variable"} and jobs.qsize() == len(values)
                loaded.check()
        with shmvar.attach(local, create=False) as loaded:
            assert [loaded.queue("jobs").get() for _ in values] == values
    finally:
        shmvar.destroy(local)
    for item in taken:
        item.__exit__(ValueError, ValueError(), None)
    assert [seg.queue("jobs").get() for _ in values] == values


def test_a_dump_beside_takers_has_each_item_that_was_there_all_the_time(seg):
    jobs = seg.queue("jobs")
    for number in range(700):
        jobs.put(number)
    dumped = []
    for turn, pickle in enumerate(jobs._pickles()):
        if turn in (200, 400):
            for _ in range(150):
                jobs.get()
        dumped.append(pickle)
    values = list(map(library.loads, dumped))
    assert values == sorted(set(values)) and set(values) >= set(range(300, 700))


EXAMPLE = Path(__file__).parents[2] / "examples" / "work_queue.py"


@pytest.mark.skipif(not EXAMPLE.exists(), reason="the examples are not beside the tests")
def test_the_example_of_a_work_queue_runs_on_a_server(seg, key, tmp_path, children):
    program = tmp_path / "work_queue.py"
    program.write_text(EXAMPLE.read_text().replace('"example-queue"', repr(key)))
    subprocess.run([sys.executable, program, "one", "two", "three"], check=True, timeout=60 * SLOWER)
    worker = subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, text=True)
    children.append(worker)
    assert [worker.stdout.readline().strip() for _ in range(3)] == ["ONE", "TWO", "THREE"]
    worker.kill()
    worker.wait()
    helpers.until(lambda: seg.info().queues == {} or seg.queue("jobs").qsize(), 30)
