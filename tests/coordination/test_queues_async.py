"""Queues in asyncio: `aput`, `aget`, `async with queue.take()`; cancellation, timeouts, many tasks."""

import asyncio
import threading

import helpers
import pytest
from helpers.event_loops import run

import shmvar
from shmvar import _queue

WAITS = """
segment = shmvar.attach(key)
segment[1] = "here"
print("on", flush=True)
sys.stdin.read()
"""


def test_tasks_wait_while_others_run(seg):
    jobs = seg.queue("jobs")

    async def main():
        waiting = asyncio.create_task(jobs.aget())
        await asyncio.sleep(0)
        assert not waiting.done()
        await jobs.aput("value")
        assert await waiting == "value"
        await jobs.aput("work")
        item = jobs.take()
        async with item as value:
            assert value == "work" and item.attempts == 1 and jobs.empty()
        assert seg.info().queues == {}

    run(main())


def test_a_put_of_another_process_ends_the_wait(seg, key):
    jobs = seg.queue("jobs")

    async def main():
        waiting = [asyncio.create_task(jobs.aget()) for _ in range(5)]
        code = "q = shmvar.attach(key).queue('jobs')\nfor number in range(5): q.put(number)"
        await asyncio.to_thread(helpers.run, code, key)
        assert [await task for task in waiting] == list(range(5))  # who came first got the first

    run(main())


def test_room_is_waited_for(seg):
    jobs = seg.queue("jobs", maxsize=1)
    wide = seg.queue("jobs")

    async def main():
        await jobs.aput(0)
        waiting = asyncio.create_task(jobs.aput(1))
        await asyncio.sleep(0)
        await wide.aput(2)  # another handle's maximum is its own
        assert not waiting.done()
        assert [await jobs.aget(), await jobs.aget()] == [0, 2]
        await waiting
        assert await jobs.aget() == 1

    run(main())


def test_timeouts(seg):
    jobs = seg.queue("jobs", maxsize=1)

    async def main():
        for waits in (jobs.aget(timeout=0.02), jobs.aget(timeout=0), jobs.take(0.02).__aenter__()):
            with pytest.raises(shmvar.QueueEmptyError):
                await waits
        jobs.put(1)
        for timeout in (0.02, 0):
            with pytest.raises(shmvar.QueueFullError):
                await jobs.aput(2, timeout=timeout)
        # Tasks that stand behind others in the line have their own time.
        jobs.clear()
        first = asyncio.create_task(jobs.aget())
        await asyncio.sleep(0)
        with pytest.raises(shmvar.QueueEmptyError):
            await jobs.aget(timeout=0.02)
        await jobs.aput(3)
        assert await first == 3

    run(main())
    with pytest.raises(ValueError, match="timeout"):
        jobs.aget(timeout=-1)


def test_a_task_that_is_cancelled_in_its_work_gives_the_item_back(seg):
    jobs = seg.queue("jobs")
    jobs.put("work")

    async def work(begun):
        async with jobs.take():
            begun.set()
            await asyncio.sleep(100)

    async def main():
        begun = asyncio.Event()
        task = asyncio.create_task(work(begun))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert jobs.qsize() == 1
        with pytest.raises(ValueError):
            async with jobs.take() as value:
                raise ValueError(value)
        async with jobs.take() as value:
            assert value == "work"

    run(main())
    assert seg.info().queues == {}


def test_cancellation_at_any_moment_loses_no_item(seg):
    jobs, got = seg.queue("jobs"), []

    async def take():
        got.append(await jobs.aget())

    async def main():
        for turn in range(200):
            tasks = [asyncio.create_task(take()) for _ in range(3)]
            for _ in range(turn % 7):
                await asyncio.sleep(0)
            jobs.put(turn)
            await asyncio.sleep(0.0001 * (turn % 9))
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    run(main())
    while not jobs.empty():
        got.append(jobs.get())
    assert sorted(got) == list(range(200))


def test_many_tasks_share_the_work(seg):
    jobs, seen = seg.queue("jobs"), []

    async def work():
        while True:
            async with jobs.take() as number:
                if number is None:
                    return
                await asyncio.sleep(0)
                seen.append(number)

    async def main():
        tasks = [asyncio.create_task(work()) for _ in range(50)]
        for number in range(500):
            await jobs.aput(number)
        for _ in tasks:
            await jobs.aput(None)
        await asyncio.gather(*tasks)

    run(main())
    assert sorted(seen) == list(range(500)) and seg.info().queues == {}


def test_a_detached_handle_ends_the_wait(key, seg):
    handle = shmvar.attach(key)
    jobs = handle.queue("jobs")

    async def main():
        waiting = asyncio.create_task(jobs.aget())
        await asyncio.sleep(0.01)
        handle.detach()
        with pytest.raises(shmvar.DetachedError):
            await waiting

    run(main())


def test_an_item_that_was_put_and_taken_before_the_watcher_looked_comes_when_its_taker_dies(
    seg, key, children, monkeypatch
):
    jobs, may_look, look = seg.queue("jobs"), threading.Event(), _queue._QueueWaiter.look

    def late(waiter):
        may_look.wait(100)
        return look(waiter)

    monkeypatch.setattr(_queue._QueueWaiter, "look", late)
    code = """
    jobs = shmvar.attach(key).queue("jobs")
    jobs.put("work")
    item = jobs.take()
    item.__enter__()
    print("taken", flush=True)
    sys.stdin.read()
    """

    async def main():
        waiting = asyncio.create_task(jobs.aget())
        await asyncio.sleep(0)  # The queue is empty, and nobody holds anything: the task sleeps without a bound.
        children.append(await asyncio.to_thread(helpers.start, code, key))
        may_look.set()
        children[-1].kill()
        assert await asyncio.wait_for(waiting, 30) == "work"

    run(main())


class Stop(BaseException):
    """What a signal handler raises, say."""


@pytest.mark.parametrize("error", [MemoryError, Stop])
def test_a_wait_whose_end_fails_after_the_item_was_taken_keeps_no_item(seg, monkeypatch, error):
    jobs = seg.queue("jobs")

    def fail(*_):
        raise error

    async def main():
        waiting = [asyncio.create_task(jobs.aget()), asyncio.create_task(jobs.take().__aenter__())]
        for turn, task in enumerate(waiting):
            await asyncio.sleep(0)
            with monkeypatch.context() as patch:
                patch.setattr(_queue._QueueWaiter, "__exit__", fail)
                jobs.put(turn)
                await asyncio.wait([task])
            if error is Stop and turn == 1:
                assert isinstance(task.exception(), Stop) and jobs.qsize() == 1
            elif error is MemoryError:
                assert task.result() == turn  # What was got is not lost.

    run(main())


def test_a_put_that_waits_for_room_pickles_its_value_once_and_as_it_was(seg):
    jobs, made, value = seg.queue("jobs", maxsize=1), [], []

    class Counted:
        def __reduce__(self):
            made.append(1)
            return list, (tuple(value),)

    async def main():
        jobs.put("first")
        waiting = asyncio.create_task(jobs.aput(Counted()))
        await asyncio.sleep(0.3)
        assert len(made) <= 2  # the first try, and what is kept for the others
        value.append("later")
        assert await jobs.aget() == "first"
        await waiting
        assert await jobs.aget() == []

    run(main())


def test_a_block_that_is_closed_while_a_writer_is_stopped_asks_for_no_thread(seg, key, children, monkeypatch):
    """The collector may close it in the middle of `Executor.submit`, which holds a lock that all executors share."""
    jobs, asked = seg.queue("jobs"), []
    jobs.put("work")
    children.append(helpers.start(WAITS, key))

    async def work():
        async with jobs.take():
            await asyncio.sleep(100)

    async def main():
        block = work()
        block.send(None)
        monkeypatch.setattr(asyncio, "to_thread", lambda *call: asked.append(call))
        with helpers.Raw(seg) as raw:
            raw.hold_lock(children[-1].pid)
            block.close()
            raw.free_lock()
        assert await jobs.aget(timeout=20) == "work" and asked == []

    run(main())


def test_a_task_whose_block_ends_while_a_writer_is_stopped_lets_others_run(seg, key, children):
    jobs, ticks = seg.queue("jobs"), []
    jobs.put("work")
    children.append(helpers.start(WAITS, key))

    async def tick():
        while True:
            ticks.append(1)
            await asyncio.sleep(0.01)

    async def main():
        ticking = asyncio.create_task(tick())
        with helpers.Raw(seg) as raw:
            async with jobs.take():
                raw.hold_lock(children[-1].pid)
                letting_go = asyncio.get_running_loop().call_later(1, raw.free_lock)
                ticks.clear()
            letting_go.cancel()
        assert len(ticks) >= 3  # The timer that lets the lock go is one of the loop's own.
        ticking.cancel()

    run(main())
    assert seg.info().queues == {}


def test_a_task_that_enters_what_another_one_has_entered_is_refused_and_takes_nothing_from_it(seg):
    jobs = seg.queue("jobs")
    item, began = jobs.take(timeout=60), asyncio.Event()

    async def work():
        async with item as value:
            began.set()
            await refused
            return value, item.attempts, jobs.qsize()

    async def main():
        nonlocal refused
        refused = asyncio.get_running_loop().create_future()
        # Both of them wait; who is woken second finds the item taken.
        first, second = asyncio.create_task(work()), asyncio.create_task(work())
        await asyncio.sleep(0)
        await jobs.aput("one")
        await began.wait()
        await jobs.aput("two")
        with pytest.raises(RuntimeError, match="taken already"):
            await second
        refused.set_result(None)
        assert await first == ("one", 1, 1)

    refused = None
    run(main())
    assert jobs.get_nowait() == "two" and jobs.empty()


def test_a_task_that_is_interrupted_after_the_taking_gives_back_only_what_it_took(seg, monkeypatch):
    jobs = seg.queue("jobs")
    item = jobs.take(timeout=60)
    wait = _queue._wait

    async def interrupted(*arguments):
        await wait(*arguments)
        raise KeyboardInterrupt

    async def main():
        jobs.put("work")
        with monkeypatch.context() as patched:
            patched.setattr(_queue, "_wait", interrupted)
            with pytest.raises(KeyboardInterrupt):
                await _queue.enter(item, 60)
        assert jobs.qsize() == 1
        async with item as value:
            assert value == "work" and item.attempts == 2

    run(main())
    assert jobs.empty()
