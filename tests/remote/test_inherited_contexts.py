"""Threads that begin in a copy of the context of their starter, as they may from Python 3.14 on, are others."""

import contextvars
import gc
import threading

import pytest
from helpers import event_loops
from helpers.machine import SLOWER

import shmvar

LONG = 20 * SLOWER


@pytest.fixture(autouse=True)
def inheriting(monkeypatch):
    """What `python -X thread_inherit_context=1` does, which is the default of a free-threaded interpreter."""
    start = threading.Thread.start

    def inherit(thread):
        context, run = contextvars.copy_context(), thread.run
        thread.run = lambda: context.run(run)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", inherit)


def test_a_lock_of_a_task_that_is_gone_is_let_go(own_server):
    # The threads for this server are started by the call of the task.
    segment = shmvar.attach(own_server().url("x"))

    async def forgets():
        await segment.lock("l").__aenter__()

    event_loops.run(forgets())
    gc.collect()
    assert segment.lock("l").acquire(LONG)


def test_a_thread_that_begins_in_a_call_of_a_task_has_none_of_its_locks(seg):
    found = []

    def tries():
        lock = seg.lock("l")
        found.append((lock.acquire(0), lock.fence))
        seg["other"] = 1

    def starts(_):
        thread = threading.Thread(target=tries)
        thread.start()
        thread.join(LONG)
        return "changed"

    async def main():
        async with seg.lock("l") as lock:
            assert await seg.aio.modify("x", starts, default=None) == "changed"
            assert lock.fence is not None

    event_loops.run(main())
    assert found == [(False, None)] and seg["other"] == 1
