"""Tasks, threads, greenlets and users wait on a server side by side, and end when they are to end."""

import asyncio
import contextlib
import signal
import threading

import helpers
import pytest
from helpers import servers
from helpers.event_loops import run

import shmvar

pytest.importorskip("redis")


def test_the_loop_goes_on_while_the_server_stands_still(own_server):
    server = own_server()
    segment = shmvar.attach(server.url("x", timeout=60))

    async def main():
        tasks = [asyncio.create_task(segment.changed(n, 60, newer_than=0)) for n in range(5)]
        await asyncio.sleep(0.05)
        with server.stopped():
            tasks += [asyncio.create_task(segment.changed(n, 60, newer_than=0)) for n in range(5)]
            longest = 0
            for _ in range(50):
                began = len(ticks)
                await asyncio.sleep(0.01)
                longest = max(longest, len(ticks) - began)
            # Cancelled in the middle of a look.
            tasks[0].cancel()
            tasks[5].cancel()
        await asyncio.to_thread(segment.put_many, dict.fromkeys(range(5), 1))
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(one, asyncio.CancelledError) for one in found] == [n in (0, 5) for n in range(10)]
        assert set(found[1:5] + found[6:]) == {segment.version(1)}
        return longest

    # The time of a turn is counted by another thread, every 10 ms. While the machine halts that thread halts, too.
    ticks, stop = [], threading.Event()

    def tick():
        while not stop.wait(0.01):
            ticks.append(1)

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        assert run(main()) * 0.01 < 1.5
    finally:
        stop.set()
        thread.join()


def test_hundreds_of_tasks_are_all_woken_by_one_connection(own_server):
    server = own_server()
    segment = shmvar.attach(server.url("x", timeout=60))

    async def main():
        tasks = [asyncio.create_task(segment.changed(n % 50, 60, newer_than=0)) for n in range(300)]
        await asyncio.sleep(0.2)
        for number in range(50):
            await asyncio.to_thread(segment.put, number, number)
        assert await asyncio.gather(*tasks) == [segment.version(n % 50) for n in range(300)]

    run(main())
    assert server.call("CLIENT", "LIST", "TYPE", "pubsub").count(b"\n") == 1


@contextlib.contextmanager
def changing(segment):
    """Stores "a" again and again, so that one of these changes comes after a wait has begun."""
    stop = threading.Event()

    def store():
        while not stop.wait(0.1):
            segment.put("a", 2, ttl=100)

    thread = threading.Thread(target=store)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_a_reader_with_the_rights_of_the_page_waits(own_server):
    server = own_server(port=servers.free_port())
    for name in ("app", "reader"):
        server.call("ACL", "SETUSER", name, "on", f">{name}-secret", *servers.rights(name))
    writer = shmvar.attach(server.tcp("x", "app:app-secret@"))
    reader = shmvar.attach(server.tcp("x", "reader:reader-secret@"), readonly=True)
    writer["a"] = 1
    changes = reader.changes(timeout=60)
    for wait in (
        lambda: reader.wait("a", 60),
        lambda: reader.wait_any(["a", "b"], 60)[1],
        lambda: run(reader.changed("a", 60)),
        lambda: run(reader.changed_any(["a", "b"], 60))[1],
        lambda: next(changes)[1],
        lambda: writer.wait("a", 60),
    ):
        with changing(writer):
            assert wait() > 0
    assert not [entry for entry in server.call("ACL", "LOG") if b"reader" in entry.get("username", b"")]


def test_a_wait_ends_soon_after_its_handle_is_detached(key, seg):
    for wait in (lambda one: one.wait("x", 60), lambda one: run(one.changed("x", 60)), lambda one: next(one.changes())):
        handle = shmvar.attach(key)
        timer = threading.Timer(0.1, handle.detach)
        timer.start()
        with helpers.promptly(4.5), pytest.raises(shmvar.DetachedError):
            wait(handle)
        timer.join()


def test_a_removal_and_a_new_value_are_told_apart_however_late_their_messages_come(seg):
    """A message of what was there before the wait began ends nothing."""
    told = seg._told
    data = seg._requests.data
    places = {b"sx": 0, b"sy": 1}

    def after(*heard, versions):
        return told([(data + channel, message) for channel, message in heard], places, versions)

    assert after((b"c:sx", b"4"), versions=[5, 0]) == (None, False)
    assert after((b"c:sx", b"5"), versions=[5, 0]) == (None, False)
    assert after((b"c:sx", b"-4"), versions=[5, 0]) == (None, False)
    assert after((b"c:sx", b"6"), versions=[5, 0]) == ((0, 6), False)
    assert after((b"c:sx", b"6"), (b"c:sx", b"-7"), versions=[5, 0]) == ((0, 0), False)
    assert after((b"c:sx", b"-6"), (b"c:sx", b"7"), versions=[5, 0]) == ((0, 7), False)
    assert after((b"c:sy", b"9"), versions=[5, 0]) == (None, True)
    assert after((b"c:sx", b"~5"), versions=[5, 0]) == (None, True)
    assert after((b"*", b"gone"), versions=[5, 0]) == (None, True)
    assert after((b"w", b"9@12 sy"), (b"w", b"8 sx"), versions=[5, 3]) == ((0, 8), False)
    for strange in (b"", b"x", b"99999999999999999", b"9007199254740992", b"5 ", b"\xff", b"--5"):
        assert after((b"c:sx", strange), versions=[5, 0]) == (None, True)


GEVENT = """
from gevent import monkey; monkey.patch_all()
import gevent, shmvar, time
"""


def test_greenlets_wait_side_by_side(key, seg):
    pytest.importorskip("gevent")
    code = """
    s = shmvar.attach(key)
    ticks = []
    def tick():
        while True:
            gevent.sleep(0.01)
            ticks.append(1)
    ticker = gevent.spawn(tick)
    waits = [gevent.spawn(s.wait, n, 30, newer_than=0) for n in range(5)]
    gevent.sleep(0.3)
    for n in range(5):
        s[n] = n
    gevent.joinall(waits, raise_error=True)
    assert [w.value for w in waits] == [s.version(n) for n in range(5)] and len(ticks) > 3
    try:
        s.wait("quiet", 0.3)
    except shmvar.WaitTimeoutError:
        print("late")
    """
    done = helpers.run(code, key, drop=GEVENT)
    assert done.stdout == "late\n", done.stderr


def test_ctrl_c_in_the_middle_of_anything_leaves_the_next_wait_whole(seg):
    main, stop, armed, interrupts = threading.main_thread(), threading.Event(), [False], []

    def handler(*_):
        if armed[0]:
            armed[0] = False
            raise KeyboardInterrupt

    def disturb():
        while not stop.wait(0.007):
            signal.pthread_kill(main.ident, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handler)
    thread = threading.Thread(target=disturb)
    try:
        thread.start()
        for _ in helpers.looks(lambda: len(interrupts) > 20, seconds=1):
            try:
                armed[0] = True
                with contextlib.suppress(shmvar.WaitTimeoutError):
                    seg.wait("x", 0.01)
                armed[0] = False
            except KeyboardInterrupt:
                interrupts.append(1)
    finally:
        stop.set()
        thread.join()
        signal.signal(signal.SIGUSR1, before)
    seen = seg.version("x")
    seg["x"] = 1
    assert seg.wait("x", 30, newer_than=seen) == seg.version("x")
