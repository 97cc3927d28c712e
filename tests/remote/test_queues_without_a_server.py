"""Waits at a queue end when its server is gone, also those without a timeout: `SegmentUnavailableError`."""

import asyncio
import threading
import time

import helpers
import pytest
from helpers import event_loops
from helpers.machine import SLOWER

import shmvar

pytest.importorskip("redis")
from shmvar._remote import queue_calls, queue_holds, queue_tasks, queue_waiting, subscription

LONG = 60 * SLOWER


def take(queue):
    with queue.take() as value:
        return value


WAITS = {
    "get": lambda empty, _: empty.get(),
    "get for longer": lambda empty, _: empty.get(timeout=10 * LONG),
    "take": lambda empty, _: take(empty),
    "put": lambda _, full: full.put(2),
    "aget": lambda empty, _: asyncio.run(async_get(empty)),
    "aput": lambda _, full: asyncio.run(async_put(full)),
}


async def async_get(queue):
    return await queue.aget()


async def async_put(queue):
    await queue.aput(2)


@pytest.fixture
def asleep(monkeypatch):
    """The threads whose tries found nothing, and that sleep until they hear of something.

    Nobody looks by itself meanwhile: a try that a server does not answer may have been applied.
    """
    found = set()
    for module in (queue_calls, queue_holds, queue_tasks, queue_waiting):
        monkeypatch.setattr(module, "LONGEST", 1000.0)
    monkeypatch.setattr(subscription, "LOOK", 1000.0)

    def noting(sleep):
        def noted(*arguments):
            found.add(threading.current_thread())
            return sleep(*arguments)

        return noted

    for module in (queue_tasks, queue_waiting):
        monkeypatch.setattr(module, "_sleep", noting(module._sleep))
    return found


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_wait_without_an_end_raises_when_the_server_dies(own_server, asleep, how):
    server = own_server()
    segment = shmvar.attach(server.url("waits", timeout=3))
    empty, full = segment.queue("empty"), segment.queue("full", maxsize=1)
    full.put(1)
    ended = {}

    def waiting(name):
        try:
            ended[name] = WAITS[name](empty, full)
        except BaseException as error:
            ended[name] = error

    threads = [threading.Thread(target=waiting, args=(name,), daemon=True) for name in WAITS]
    for thread in threads:
        thread.start()
    helpers.until(lambda: ended or asleep == set(threads), 30, "the sleep of all of them")
    assert not ended
    with server.stopped():
        if how == "killed":
            server.kill()
        for thread in threads:
            thread.join(LONG)
        assert {name: type(error) for name, error in ended.items()} == dict.fromkeys(
            WAITS, shmvar.SegmentUnavailableError
        )
        assert not any(error.maybe_applied for error in ended.values())
    segment.detach()


def test_tasks_in_line_do_not_wait_for_a_server_that_is_gone_one_after_the_other(own_server):
    server = own_server()
    segment = shmvar.attach(server.url("line", timeout=1))
    queue = segment.queue("empty")

    async def main():
        tasks = [asyncio.ensure_future(queue.aget()) for _ in range(300)]
        await asyncio.sleep(0.5)
        server.kill()
        async with asyncio.timeout(LONG):
            return await asyncio.gather(*tasks, return_exceptions=True)

    errors = event_loops.run(main())
    assert {type(error) for error in errors} == {shmvar.SegmentUnavailableError}
    segment.detach()


def test_a_wait_goes_on_where_the_server_comes_back_in_time(own_server):
    server = own_server("--appendonly", "yes", "--appendfsync", "always")
    segment = shmvar.attach(server.url("back", timeout=30))
    queue, got = segment.queue("jobs"), []
    thread = threading.Thread(target=lambda: got.append(queue.get()), daemon=True)
    thread.start()
    time.sleep(0.3)
    server.kill()
    server.start()
    queue.put("after")
    thread.join(LONG)
    assert got == ["after"]
    segment.detach()


# What waits, what another process does then, and what the wait returns.
SERVED = {
    "get": (lambda empty, _: empty.get(), lambda empty, _: empty.put("item"), "item"),
    "put": (lambda _, full: full.put(2), lambda _, full: full.get(), None),
    "aget": (lambda empty, _: asyncio.run(async_get(empty)), lambda empty, _: empty.put("item"), "item"),
    "aput": (lambda _, full: asyncio.run(async_put(full)), lambda _, full: full.get(), None),
}


@pytest.mark.parametrize("call", SERVED)
def test_a_wait_ends_on_a_server_that_takes_no_more_connections(own_server, call):
    """Nobody can subscribe there, but what is connected is served."""
    from redis import Redis

    server = own_server()
    # Handles with different options have connections of their own, as those of different processes have.
    segment, another = (shmvar.attach(server.url("crowded", timeout=timeout)) for timeout in (1, 2))
    empty, full = segment.queue("empty"), segment.queue("full", maxsize=1)
    full.put(1)
    waits, serves, expected = SERVED[call]
    got = []
    thread = threading.Thread(target=lambda: got.append(waits(empty, full)), daemon=True)
    another["x"] = 1
    with Redis(unix_socket_path=server.socket) as client:
        client.config_set("maxclients", len(client.client_list()))
        thread.start()
        # It has tried, and has found nothing.
        time.sleep(0.5)
        serves(another.queue("empty"), another.queue("full"))
        thread.join(LONG / 6)
        client.config_set("maxclients", 10_000)
    assert got == [expected]
