"""`segment.aio`: the calls of a segment on a server as coroutines."""

import asyncio
import inspect
import os
import threading
import time
import warnings

import pytest
from helpers import event_loops
from helpers.machine import SLOWER

import shmvar
from shmvar._remote import workers

NOT_ON_AIO = {
    # No input or output.
    "aio", "created", "detach", "detached", "evict", "key", "readonly", "trusted", "url",
    # Nothing that a server has.
    "array", "buffer",
    # They wait for others: they, or coroutines beside them, are on the segment.
    "changed", "changed_any", "changes", "lock", "memoize", "queue", "wait", "wait_any",
}  # fmt: skip


def test_whatever_asks_the_server_is_there_by_the_same_name(seg):
    public = {name for name in dir(type(seg)) if not name.startswith("_")}
    assert public - NOT_ON_AIO - {name for name in dir(seg.aio) if not name.startswith("_")} == set()


def test_each_has_the_arguments_and_the_text_of_its_plain_call(seg):
    for name in dir(seg.aio):
        if name.startswith("_") or name in ("keys", "values", "items", "len", "size", "modify"):
            continue
        call, plain = getattr(type(seg.aio), name), getattr(shmvar.Segment, name)
        assert inspect.iscoroutinefunction(call), name
        assert list(inspect.signature(call).parameters) == list(inspect.signature(plain).parameters), name
        assert call.__doc__, name


def test_the_calls_do_what_the_plain_ones_do(seg):
    async def main():
        aio = seg.aio
        await aio.put("a", [1], ttl=100)
        assert await aio.get("a") == [1] and await aio.get("b") is None and await aio.get("b", 2) == 2
        assert await aio.add("n", 5) == 5 and await aio.modify("n", lambda n: n * 2) == 10
        assert await aio.swap("n", 11) == 10 and await aio.pop("n") == 11 and not await aio.has("n")
        assert await aio.modify("m", lambda n: n + 1, default=0) == 1
        value, version = await aio.get_versioned("m")
        assert value == 1 and await aio.version("m") == version
        assert await aio.compare_and_put("m", version, 2) and not await aio.compare_and_put("m", version, 3)
        await aio.put_many({1: "x", 2: "y"})
        assert await aio.get_many([1, 2, 3]) == {1: "x", 2: "y"} and await aio.len() == 4
        assert (await aio.stat("a")).expires_in and await aio.expire("a", None) and await aio.touch("a")
        assert await aio.view("a") == [1] and await aio.setdefault(2, "z") == "y"
        assert await aio.size() == seg.size and (await aio.info()).count == 4
        assert {index async for index in aio} == {"a", "m", 1, 2}
        assert [index async for index in aio.keys("a")] == ["a"]
        assert dict([pair async for pair in aio.items()]) == await aio.copy()
        assert sorted([str(value) async for value in aio.values()]) == ["2", "[1]", "x", "y"]
        assert await aio.remove("a") and (await aio.check()).variables == 3
        await aio.update({"u": 1})
        await aio.resize(1 << 20), await aio.trim(), await aio.clear()
        with pytest.raises(KeyError):
            await aio.popitem()
        await aio.destroy()
        with pytest.raises(shmvar.SegmentNotFoundError):
            await aio.get("a")

    event_loops.run(main())


def test_more_items_than_one_portion_come_each_once(seg):
    seg.put_many({number: number for number in range(1000)})

    async def main():
        return [pair async for pair in seg.aio.items()]

    assert sorted(event_loops.run(main())) == [(number, number) for number in range(1000)]


def test_a_thousand_calls_at_once_are_all_made_with_few_threads(seg):
    async def main():
        sums = await asyncio.gather(*[seg.aio.add("n") for _ in range(1000)])
        assert sorted(sums) == list(range(1, 1001))

    event_loops.run(main())
    assert sum(thread.name == "shmvar-aio" for thread in threading.enumerate()) <= workers.MOST


def test_the_loop_goes_on_while_the_server_stands_still(own_server):
    server = own_server()
    seg = shmvar.attach(server.url("k"))

    async def main():
        turns = []
        ticking = asyncio.create_task(event_loops.tick(turns))
        with server.stopped():
            call = asyncio.create_task(seg.aio.add("n"))
            while len(turns) < 30:
                await asyncio.sleep(0.01)
            assert not call.done()
        assert await call == 1
        ticking.cancel()

    event_loops.run(main())


def test_a_cancelled_call_goes_on_by_itself_and_leaves_all_sound(own_server):
    server = own_server()
    seg = shmvar.attach(server.url("k"))
    seg["n"] = 0

    async def main():
        for turn in range(1, 6):
            with server.stopped():
                calls = [asyncio.create_task(seg.aio.add("n")) for _ in range(workers.MOST + 8)]
                await asyncio.sleep(0)
                while len(workers._workers.jobs) > 8:
                    await asyncio.sleep(0.01)
                for call in calls:
                    call.cancel()
                ends = await asyncio.gather(*calls, return_exceptions=True)
                assert all(isinstance(end, asyncio.CancelledError) for end in ends)
            # Those that had begun are made, once each; those that waited for a thread are not.
            pool = workers._workers
            while seg["n"] < turn * workers.MOST or pool._idle < pool._threads:
                await asyncio.sleep(0.01)
        await asyncio.gather(*[seg.aio.get("n") for _ in range(100)])
        assert seg["n"] == 5 * workers.MOST
        assert await seg.aio.add("n") == 5 * workers.MOST + 1

    event_loops.run(main())


def test_an_error_comes_as_from_the_plain_call(seg):
    async def main():
        with pytest.raises(TypeError, match="is str, not an int or a float"):
            await seg.aio.put("t", "text")
            await seg.aio.add("t")
        with pytest.raises(OverflowError):
            await seg.aio.get(1 << 70)
        with pytest.raises(ZeroDivisionError):
            await seg.aio.modify("t", lambda value: 1 // 0)
        with pytest.raises(RuntimeError, match="StopIteration"):
            await seg.aio.modify("t", lambda value: next(iter(())))
        seg.detach()
        with pytest.raises(shmvar.DetachedError):
            await seg.aio.get("t")

    event_loops.run(main())


def test_modify_takes_no_coroutine_function(seg):
    async def function(value):
        return value

    async def main():
        with pytest.raises(TypeError, match="coroutine function"):
            await seg.aio.modify("t", function, default=0)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        event_loops.run(main())


def test_the_tasks_own_context_is_seen_by_the_function(seg):
    import contextvars

    whose = contextvars.ContextVar("whose")

    async def main():
        whose.set("mine")
        return await seg.aio.modify("t", lambda value: whose.get(), default=None)

    assert event_loops.run(main()) == "mine"


def test_calls_that_waited_for_a_thread_while_the_server_was_away_are_not_begun(own_server):
    server = own_server()
    seg = shmvar.attach(server.url("k", timeout=1))

    async def main():
        began = time.monotonic()
        with server.stopped():
            calls = [asyncio.create_task(seg.aio.add("n")) for _ in range(10 * workers.MOST)]
            ends = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(end, shmvar.SegmentUnavailableError) for end in ends)
        unbegun = [end for end in ends if "not begun" in str(end)]
        assert unbegun and not any(end.maybe_applied for end in unbegun)
        # Without that rule, ten times as long as one call.
        assert time.monotonic() - began < 4 * SLOWER
        # When it answers again, the next call is made.
        assert isinstance(await seg.aio.add("n"), int)

    event_loops.run(main())


def test_a_forked_child_has_threads_of_its_own(seg):
    async def count():
        return await seg.aio.add("n")

    assert event_loops.run(count()) == 1
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if event_loops.run(count()) == 2 else 2
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    assert event_loops.run(count()) == 3


def test_a_loop_that_is_closed_meanwhile_harms_nobody(own_server):
    server = own_server()
    seg = shmvar.attach(server.url("k"))

    async def begin():
        call = asyncio.create_task(seg.aio.add("n"))
        await asyncio.sleep(0)
        while workers._workers.jobs:
            await asyncio.sleep(0.01)
        assert not call.done()

    with server.stopped():
        event_loops.run(begin())

    async def after():
        while await seg.aio.get("n") != 1:
            await asyncio.sleep(0.01)

    event_loops.run(after())
