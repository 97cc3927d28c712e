"""Named locks on a server: answers that are lost, copies that come late, and what ends without letting go."""

import asyncio
import gc
import socket

import helpers
import pytest
from helpers import servers
from helpers.machine import SLOWER
from helpers.remote_locks import elsewhere, taken_after

import shmvar
from shmvar._remote import link


def late_copy(server, data):
    """Sends what was kept back of a client's requests, and waits for the answer."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(server.socket)
        connection.sendall(data)
        assert connection.recv(1000)


# --- answers that are lost, and copies that come late


@pytest.fixture
def through(server, new_key, proxy):
    """A segment, and a handle on it through the proxy."""
    key = new_key()
    local = shmvar.attach(key)
    segment = shmvar.attach(servers.Server.tcp(server, key.partition("#")[2], port=proxy.port))
    with segment.lock("warm"):
        segment["v"] = 0
    return local, segment


@pytest.mark.parametrize("op", [b"take", b"free"])
def test_a_request_whose_answer_was_lost_is_repeated_and_no_loss(through, proxy, op):
    local, segment = through
    for _ in range(3):
        proxy.lost = 0
        proxy.lose_after = lambda data: b"EVAL" in data and b"\r\n" + op + b"\r\n" in data and not proxy.lost
        with segment.lock("l") as lock:
            segment.add("v")
            assert not lock.lost and elsewhere(lambda: not local.lock("l").acquire(0))
        assert proxy.lost == 1
        proxy.lose_after = None
        assert local.lock("l").acquire(0)
        local.lock("l").release()
    assert local["v"] == 3


def test_a_late_copy_of_a_taking_that_was_in_vain_takes_nothing(server, through, proxy):
    local, segment = through
    with local.lock("l"):
        proxy.held = lambda data: b"\r\ntake\r\n" in data and not proxy.kept
        assert elsewhere(lambda: segment.lock("l").acquire(0)) is False and len(proxy.kept) == 1
        proxy.held = None
    late_copy(server, proxy.kept[0])
    assert not local.lock("l").locked() and local.lock("l").acquire(0)


def test_a_taking_that_is_interrupted_leaves_nothing_though_a_copy_comes_late(server, through, proxy, monkeypatch):
    local, segment = through
    answers = link.Link._answers

    def interrupted(self, connection, count):
        monkeypatch.setattr(link.Link, "_answers", answers)
        raise KeyboardInterrupt

    for held in (False, True):
        proxy.kept.clear()
        proxy.held = lambda data, held=held: held and b"\r\ntake\r\n" in data and not proxy.kept
        monkeypatch.setattr(link.Link, "_answers", interrupted)
        with pytest.raises(KeyboardInterrupt):
            segment.lock("l").acquire()
        with pytest.raises(RuntimeError):
            segment.lock("l").release()
        if held:
            helpers.until(lambda: proxy.kept)
            proxy.held = None
            # The thread that lets go what may be ours has said so before the copy comes.
            number = proxy.kept[0].split(b"\r\nc:")[1].split(b"\r\n")
            slot = b"c:" + number[0]
            recorded = lambda slot=slot: server.call("HGET", local._requests.prefix, slot)  # noqa: E731
            helpers.until(lambda recorded=recorded, n=number[2]: (recorded() or b"").startswith(n + b" "))
            late_copy(server, proxy.kept[0])
        assert local.lock("l").acquire(30) and local.lock("l").release() is None


def test_a_release_that_cannot_reach_the_server_is_made_when_it_is_back(own_server):
    still = own_server()
    segment, other = shmvar.attach(still.url("still", timeout=1.5)), shmvar.attach(still.url("still"))
    lock = segment.lock("l")
    lock.acquire()
    with still.stopped():
        with pytest.raises(shmvar.SegmentUnavailableError):
            lock.release()
        with pytest.raises(RuntimeError):
            lock.release()
    assert other.lock("l").acquire(5 * SLOWER)


# --- what ends without letting go


def test_a_thread_a_task_and_a_handle_that_end_let_go(seg, key):
    assert elsewhere(lambda: seg.lock("l").acquire())
    assert taken_after(seg, 8) < 8 * SLOWER

    async def main():
        await seg.lock("l").__aenter__()

    asyncio.run(main())
    helpers.until(lambda: not seg.lock("l").locked())
    shmvar.attach(key).lock("l").acquire()
    helpers.until(lambda: not seg.lock("l").locked())
    handle = shmvar.attach(key)
    handle.lock("l").acquire()
    handle.detach()
    assert elsewhere(lambda: seg.lock("l").acquire(0))


def test_a_coroutine_that_is_closed_lets_go(seg):
    async def hold():
        async with seg.lock("l"), seg.lock("l"):
            await asyncio.sleep(100)

    loop = asyncio.new_event_loop()
    task = loop.create_task(hold())
    task._log_destroy_pending = False
    loop.run_until_complete(asyncio.sleep(0))
    for _ in helpers.looks(lambda: seg.lock("l").locked()):
        loop.run_until_complete(asyncio.sleep(0.001))
    loop.close()
    del task
    gc.collect()
    helpers.until(lambda: not seg.lock("l").locked())


def test_a_task_that_is_cancelled_while_it_asks_or_waits_has_nothing(seg):
    async def hold():
        async with seg.lock("l"):
            await asyncio.sleep(0)

    async def main():
        for turn in range(60):
            task = asyncio.create_task(hold())
            # From nothing done to everything done.
            await asyncio.sleep(turn * 0.0001)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            async with seg.lock("l", timeout=30):
                pass

    asyncio.run(main())
    helpers.until(lambda: seg.info().locks == {})
