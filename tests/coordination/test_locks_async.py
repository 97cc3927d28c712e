"""Named locks in asyncio: a task is the owner; other tasks run on or wait; threads and processes are excluded."""

import asyncio
import gc
import os
import random
import signal
import threading
import time

import helpers
import pytest
from helpers.event_loops import run, tick

import shmvar


def test_tasks_of_one_loop_exclude_one_another(seg):
    inside, most, order = 0, 0, []

    async def work(number):
        nonlocal inside, most
        for _ in range(5):
            async with seg.lock("a") as lock:
                assert lock.name == "a" and lock.locked()
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0.001)
                inside -= 1
                order.append(number)
            await asyncio.sleep(0)

    async def main():
        await asyncio.gather(*(work(number) for number in range(8)))

    run(main())
    assert most == 1 and sorted(order) == sorted(list(range(8)) * 5) and not seg.lock("a").locked()


def test_totals_of_tasks_threads_and_processes_are_exact(seg, key):
    seg["n"] = 0
    code = """
    import asyncio, threading
    s = shmvar.attach(key)
    def step():
        s["n"] = s["n"] + 1
    async def task():
        for _ in range(20):
            async with s.lock("n"):
                value = s["n"]
                await asyncio.sleep(0)
                s["n"] = value + 1
    async def main():
        await asyncio.gather(*(task() for _ in range(4)))
    def thread():
        for _ in range(20):
            with s.lock("n"):
                s["n"] = s["n"] + 1
    threads = [threading.Thread(target=thread) for _ in range(2)]
    threads += [threading.Thread(target=lambda: asyncio.run(main()))]
    for each in threads: each.start()
    asyncio.run(main())
    for each in threads: each.join()
    """
    helpers.run_in_processes(code, key, count=3)
    assert seg["n"] == 3 * (4 + 4 + 2) * 20 and seg.info().locks == {}


def test_it_is_re_entrant_in_a_task_and_only_there(seg):
    async def other():
        with pytest.raises(shmvar.WaitTimeoutError):
            async with seg.lock("a", timeout=0.1):
                pass
        return True

    async def main():
        async with seg.lock("a"), seg.lock("a", timeout=0):
            async with seg.lock("a"):
                assert await asyncio.create_task(other())
            assert seg.lock("a").locked() and await asyncio.create_task(other())
        assert not seg.lock("a").locked()
        async with seg.lock("a", timeout=0):
            pass

    run(main())


def test_a_task_and_the_thread_it_runs_in_are_two(seg):
    async def main():
        async with seg.lock("a"):
            assert seg.lock("a").acquire(timeout=0.05) is False
            with pytest.raises(RuntimeError):
                seg.lock("a").release()
        with seg.lock("a"), pytest.raises(shmvar.WaitTimeoutError, match=r"a.*0\.1"):
            async with seg.lock("a", timeout=0.1):
                pass
        assert not seg.lock("a").locked()

    run(main())


def test_a_timeout_is_kept_within_a_fifth_and_other_tasks_go_on(seg, key, children):
    children.append(helpers.start(helpers.HOLD_A_LOCK, key))
    turns = []

    async def main():
        ticker, times = asyncio.create_task(tick(turns)), []
        for _ in range(4):
            began = time.monotonic()
            with pytest.raises(shmvar.WaitTimeoutError):
                async with seg.lock("a", timeout=0.5):
                    pytest.fail("taken")
            times.append(time.monotonic() - began)
        ticker.cancel()
        return times

    times = run(main())
    assert min(times) >= 0.4 and min(times) <= 0.6 and len(turns) > 20


def test_a_holder_in_another_process_lets_go_or_is_killed(seg, key, children):
    async def main():
        for how in ("go", "kill"):
            child = helpers.start(helpers.HOLD_A_LOCK, key)
            children.append(child)
            assert seg.info().locks == {"a": child.pid}
            loop = asyncio.get_running_loop()
            if how == "go":
                loop.call_later(0.2, lambda child=child: os.write(child.stdin.fileno(), b"\n"))
            else:
                loop.call_later(0.2, child.kill)
            async with seg.lock("a", timeout=30):
                assert seg.info().locks == {"a": os.getpid()}
                refused = await asyncio.to_thread(helpers.run, "print(shmvar.attach(key).lock('a').acquire(0.1))", key)
                assert refused.stdout == "False\n"

    run(main())
    assert seg.info().locks == {}


def test_a_task_that_is_cancelled_while_it_waits_holds_nothing_and_holds_nobody_up(seg):
    async def wait():
        async with seg.lock("a"):
            pytest.fail("taken")

    async def main():
        for _ in range(10):
            async with seg.lock("a"):
                tasks = [asyncio.create_task(wait()) for _ in range(3)]
                await asyncio.sleep(0.02)
                for task in tasks:
                    task.cancel()
                done = await asyncio.gather(*tasks, return_exceptions=True)
                assert all(isinstance(error, asyncio.CancelledError) for error in done)
            with helpers.promptly():
                async with seg.lock("a", timeout=30):
                    pass

    run(main())
    assert not seg.lock("a").locked()


def test_a_task_that_is_cancelled_while_it_holds_lets_go(seg):
    held = []

    async def hold():
        async with seg.lock("a"):
            held.append(1)
            await asyncio.sleep(60)

    async def main():
        for turn in range(10):
            task = asyncio.create_task(hold())
            while len(held) <= turn:
                await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not seg.lock("a").locked()

    run(main())


def test_cancelling_at_random_moments_leaves_it_neither_held_nor_let_go_twice(seg):
    inside, entered = 0, 0

    async def work():
        nonlocal inside, entered
        while True:
            async with seg.lock("a"):
                inside += 1
                entered += 1
                assert inside == 1
                try:
                    await asyncio.sleep(0.0005)
                finally:
                    inside -= 1

    async def main():
        tasks = [asyncio.create_task(work()) for _ in range(4)]
        for _ in helpers.looks(lambda: entered > 20):
            await asyncio.sleep(random.random() * 0.005)
            victim = random.randrange(4)
            tasks[victim].cancel()
            with pytest.raises(asyncio.CancelledError):
                await tasks[victim]
            tasks[victim] = asyncio.create_task(work())
        for task in tasks:
            task.cancel()
        for error in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(error, asyncio.CancelledError), error
        async with seg.lock("a", timeout=30):
            pass

    run(main(), 90)
    assert inside == 0 and not seg.lock("a").locked()


def test_two_loops_in_two_threads_exclude_each_other(seg):
    seg["n"] = 0

    async def work():
        for _ in range(50):
            async with seg.lock("a"):
                value = seg["n"]
                await asyncio.sleep(0)
                seg["n"] = value + 1

    threads = [threading.Thread(target=lambda: run(work())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert seg["n"] == 150 and not seg.lock("a").locked()


def test_a_stopped_holder_does_not_stop_the_loop(seg, key, children):
    children.append(helpers.start(helpers.HOLD_A_LOCK, key))
    children[0].send_signal(signal.SIGSTOP)

    async def main():
        task = asyncio.create_task(wait())
        for _ in helpers.looks(seconds=0.5, turns=6, at_most=8):
            await asyncio.sleep(0.01)
        assert not task.done()
        children[0].kill()
        await task

    async def wait():
        async with seg.lock("a"):
            pass

    run(main())


def test_f5_a_timeout_holds_while_a_stopped_process_holds_the_segment_up(seg, key, children):
    children.append(helpers.start(helpers.HOLD_A_LOCK, key))
    turns = []

    async def main():
        ticker = asyncio.create_task(tick(turns))
        for name in ("free", "a"):
            began = time.monotonic()
            with pytest.raises(shmvar.WaitTimeoutError):
                async with seg.lock(name, timeout=1):
                    pytest.fail("taken")
            assert 0.8 <= time.monotonic() - began < 8, "other calls wait 10 s"
        ticker.cancel()

    with helpers.Raw(seg) as raw:
        raw.hold_lock(children[0].pid)
        children[0].send_signal(signal.SIGSTOP)
        run(main())
    assert len(turns) > 4
    helpers.end(children[0])
    assert seg.lock("a").acquire(30) and seg.lock("a").release() is None


def test_async_with_where_it_cannot_be_taken(seg, key):
    async def through(segment):
        async with segment.lock("a", timeout=1):
            pytest.fail("taken")

    with shmvar.attach(key, readonly=True) as reader, pytest.raises(shmvar.ReadOnlyError):
        run(through(reader))
    handle = shmvar.attach(key)
    lock = handle.lock("a")
    handle.detach()

    async def detached():
        async with lock:
            pytest.fail("taken")

    with pytest.raises(shmvar.DetachedError):
        run(detached())


def test_detaching_lets_go_of_what_tasks_took_through_the_handle(seg, key):
    async def main():
        handle = shmvar.attach(key)
        with pytest.raises((RuntimeError, shmvar.DetachedError)):
            async with handle.lock("a"):
                handle.detach()
                async with seg.lock("a", timeout=5):
                    pass
        assert not seg.lock("a").locked()

    run(main())


def test_f9_a_program_that_ends_with_tasks_that_hold_and_wait_neither_hangs_nor_prints(seg, key):
    code = """
    import asyncio
    s = shmvar.attach(key)
    async def hold():
        async with s.lock("a"):
            await asyncio.sleep(60)
    async def main():
        tasks = [asyncio.create_task(hold()) for _ in range(3)]
        await asyncio.sleep(0.1)
    asyncio.run(main())
    loop = asyncio.new_event_loop()
    tasks = [loop.create_task(hold()) for _ in range(3)]
    loop.run_until_complete(asyncio.sleep(0.1))
    os._exit(0) if len(sys.argv) > 2 else None
    for task in tasks:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    """
    for extra in ((), ("abrupt",)):
        done = helpers.run(code, key, *extra, timeout=40)
        assert (done.stdout, done.stderr) == ("", "")
        assert seg.lock("a").acquire(5) and seg.lock("a").release() is None


def test_a_task_that_is_thrown_away_unfinished_lets_go(seg):
    """Nothing awaits the end of the task, and no loop runs when its coroutine is closed."""

    async def hold():
        async with seg.lock("a"), seg.lock("a"):
            await asyncio.sleep(100)

    loop = asyncio.new_event_loop()
    task = loop.create_task(hold())
    task._log_destroy_pending = False
    loop.run_until_complete(asyncio.sleep(0.05))
    assert seg.lock("a").locked() and not seg.lock("a").acquire(0)
    loop.close()
    del task
    gc.collect()
    assert not seg.lock("a").locked() and seg.lock("a").acquire(5) and seg.lock("a").release() is None

    async def closed_by_another_task():
        held = hold()
        held.send(None)
        assert seg.lock("a").locked()

        async def close():
            held.close()

        await asyncio.create_task(close())
        assert not seg.lock("a").locked()

    run(closed_by_another_task())


def test_messages_name_a_lock_and_an_index_as_those_of_threads_do(seg):
    name, said = 'a "b"', []

    async def other():
        async with seg.lock(name, timeout=0.01):
            pass

    async def main():
        async with seg.lock(name):
            with pytest.raises(shmvar.WaitTimeoutError) as caught, seg.lock(name, timeout=0.01):
                pass
            said.append(str(caught.value))
            for waits in (other(), seg.changed(name, 0.01)):
                with pytest.raises(shmvar.WaitTimeoutError) as caught:
                    await asyncio.create_task(waits)
                said.append(str(caught.value))
        with pytest.raises(shmvar.WaitTimeoutError) as caught:
            seg.wait(name, 0.01)
        said.append(str(caught.value))

    run(main())
    assert said[0] == said[1] and said[2] == said[3] and all(repr(name)[1:-1] in text for text in said), said
