"""Waits on a server miss nothing: lost connections and messages, full buffers, servers that stop, restart or forget."""

import asyncio
import contextlib
import itertools
import os
import signal
import threading
import time

import helpers
import pytest
from helpers import servers
from helpers.event_loops import run

import shmvar

pytest.importorskip("redis")
from shmvar._remote import subscription, waiting

SECONDS = float(os.environ.get("SHMVAR_REMOTE_SECONDS", "0"))


class Follower:
    """A chain of waits in a thread, or in a task of a thread, until a text is stored."""

    def __init__(self, segment, index, wait=None):
        self.segment, self.index, self.seen, self.fault = segment, index, [0], None
        self.wait = wait or segment.wait
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        try:
            while self.segment.get(self.index) != "end" or self.seen[-1] != self.segment.version(self.index):
                self.seen.append(self.wait(self.index, 60, newer_than=self.seen[-1]))
        except BaseException as error:
            self.fault = error

    def result(self):
        self.thread.join(120)
        assert not self.thread.is_alive() and self.fault is None, self.fault
        return self.seen


def killed(server):
    return server.call("CLIENT", "KILL", "TYPE", "pubsub")


def in_task(segment):
    return lambda *it, **options: run(segment.changed(*it, **options))


def any_of(segment):
    def wait(index, timeout, newer_than):
        return segment.wait_any(["never", index], timeout, newer_than={index: newer_than, "never": 0})[1]

    return wait


# --- connections


def test_killed_all_the_time_the_last_change_is_always_seen(own_server, capsys):
    """The connection of the subscriber is killed under changes. A change that is missed would cost a look of 5 s."""
    server = own_server()
    segment = shmvar.attach(server.url("x", timeout=60))
    stop, kills, late = threading.Event(), [], []

    def kill():
        while not stop.wait(0.004):
            kills.append(killed(server))

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        version = 0
        for number in helpers.looks(
            lambda: sum(kills) >= (305 if SECONDS else 60), SECONDS or 2, at_most=SECONDS + 300
        ):
            timer = threading.Thread(target=lambda: [segment.add("n") for _ in range(5)])
            timer.start()
            last = 0
            while last % 5 or not last:
                version = segment.wait("n", 60, newer_than=version)
                last = segment["n"]
            timer.join()
            began = time.monotonic()
            if version != segment.version("n"):
                version = segment.wait("n", 60, newer_than=version)
            late.append(time.monotonic() - began)
            assert version == segment.version("n"), number
    finally:
        stop.set()
        killer.join()
    with capsys.disabled():
        if SECONDS:
            print(
                f"\n{sum(kills)} connections of a subscriber killed, {segment['n']} changes, {len(late)} last ones seen"
            )
    assert sum(kills) >= 60 and sorted(late)[len(late) // 2] < 2


@pytest.mark.parametrize("way", [None, in_task, any_of])
def test_followers_see_the_last_of_many_changes_while_their_connections_are_killed(own_server, way):
    server = own_server()
    segment = shmvar.attach(server.url("x", timeout=60))
    followers = [Follower(segment, f"f{n}", way and way(segment)) for n in range(3)]
    for turn in range(150):
        for n in range(3):
            segment[f"f{n}"] = turn
        if turn % 5 == 0:
            killed(server)
    for n in range(3):
        segment[f"f{n}"] = "end"
    for n, follower in enumerate(followers):
        seen = follower.result()
        assert seen[-1] == segment.version(f"f{n}") and seen == sorted(set(seen))


def test_a_waiter_whose_output_buffer_is_full_sees_the_last_change(own_server, children):
    server = own_server("--client-output-buffer-limit", "pubsub 64kb 64kb 1")
    url = server.url("x", timeout=60)
    segment = shmvar.attach(url)
    code = """
    s = shmvar.attach(key)
    seen = s.version("w")
    print("go", flush=True)
    while s["w"] != "end" or seen != s.version("w"):
        seen = s.wait("w", 100, newer_than=seen)
    print(seen, flush=True)
    """
    segment["w"] = 0
    child = helpers.start(code, url)
    children.append(child)
    helpers.until(lambda: server.call("CLIENT", "LIST", "TYPE", "pubsub"))
    os.kill(child.pid, signal.SIGSTOP)
    for number in itertools.count():
        segment["w"] = number
        if number % 100 == 0 and not server.call("CLIENT", "LIST", "TYPE", "pubsub"):
            break
        assert number < 200_000
    segment["w"] = "end"
    os.kill(child.pid, signal.SIGCONT)
    assert int(child.stdout.readline()) == segment.version("w")


def test_more_messages_than_are_kept_are_a_look(seg, monkeypatch):
    with seg._subscribed(["x"]) as one:
        assert one.stands(waiting.now() + 30)
        for number in range(1100):
            seg["x"] = number
        helpers.until(lambda: one._missed)
        assert one.poll() is None and one.lost_some and one.poll() == []


def test_a_message_that_was_lost_is_made_up_for_by_a_look(seg, monkeypatch):
    monkeypatch.setattr(subscription, "LOOK", 0.4)
    monkeypatch.setattr(subscription.Subscription, "deliver", lambda *_: None)
    seen = seg.version("x")
    threading.Timer(0.1, seg.put, ("x", 1)).start()
    assert seg.wait("x", 60, newer_than=seen) == seg.version("x") > 0
    threading.Timer(0.1, seg.put, ("x", 1)).start()
    assert run(seg.changed("x", 60)) == seg.version("x")


# --- the server


@pytest.mark.parametrize("way", [None, in_task, any_of])
def test_a_wait_goes_on_while_the_server_stands_still_and_restarts(own_server, way):
    server = own_server("--appendonly", "yes", "--appendfsync", "always")
    segment = shmvar.attach(server.url("x", timeout=60))
    follower = Follower(segment, "f", way and way(segment))
    for turn in range(4):
        segment["f"] = turn
        if turn % 2:
            server.kill()
            server.start()
        else:
            with server.stopped():
                time.sleep(0.3)
    segment["f"] = "end"
    assert follower.result()[-1] == segment.version("f")


def test_a_server_that_comes_back_with_older_data_is_a_change(own_server):
    server = own_server("--save", "", "--appendonly", "no")
    segment = shmvar.attach(server.url("x", timeout=60))
    segment["f"] = "old"
    old = segment.version("f")
    server.call("SAVE")
    segment["f"] = "new"
    new = segment.version("f")
    found = []
    thread = threading.Thread(target=lambda: found.append(segment.wait("f", 60, newer_than=new)))
    thread.start()
    helpers.until(lambda: server.call("CLIENT", "LIST", "TYPE", "pubsub"))
    server.kill()
    server.start()
    thread.join(60)
    assert found == [old] and segment["f"] == "old"


def test_a_server_that_stands_still_for_longer_is_unavailable_and_a_wait_that_stands_is_late(own_server):
    server = own_server()
    segment = shmvar.attach(server.url("x", timeout=1))
    with pytest.raises(shmvar.WaitTimeoutError):
        segment.wait("x", 0.05)
    with server.stopped(), pytest.raises(shmvar.SegmentUnavailableError):
        segment.wait("x", 60)
    for call in (lambda: segment.wait("x", 60, newer_than=0), lambda: run(segment.changed("x", 60, newer_than=0))):
        with server.stopped(), pytest.raises(shmvar.SegmentUnavailableError) as caught:
            call()
        assert caught.value.maybe_applied is False
    with pytest.raises(shmvar.WaitTimeoutError):
        segment.wait("x", 0.05)


@pytest.mark.parametrize("how", ["flushed", "destroyed", "restarted empty"])
def test_a_segment_that_is_gone_ends_every_wait(own_server, how, monkeypatch):
    monkeypatch.setattr(subscription, "LOOK", 0.3)
    server = own_server()
    segment = shmvar.attach(server.url("x"))
    segment["x"] = 1
    faults = []

    def note(call):
        try:
            faults.append(call())
        except shmvar.Error as error:
            faults.append(error)

    calls = [
        lambda: segment.wait("x", 60),
        lambda: segment.wait_any(["x", "y"], 60),
        lambda: run(segment.changed("x", 60)),
        lambda: next(segment.changes(timeout=60)),
    ]
    threads = [threading.Thread(target=note, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    helpers.until(lambda: server.call("PUBSUB", "SHARDCHANNELS").__len__() >= 4)
    if how == "flushed":
        server.call("FLUSHALL")
    elif how == "destroyed":
        segment.destroy()
    else:
        server.kill()
        server.start()
    for thread in threads:
        thread.join(60)
    assert [type(fault) for fault in faults] == [shmvar.SegmentNotFoundError] * 4, faults


# --- what it costs


def calls_of(server, *names):
    stats = server.call("INFO", "commandstats")
    return [stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in names]


def test_waits_in_a_loop_subscribe_once(own_server):
    server = own_server()
    segment = shmvar.attach(server.url("x"))
    seen = segment.version("x")
    for number in range(50):
        threading.Thread(target=segment.put, args=("x", number)).start()
        seen = segment.wait("x", 60, newer_than=seen)
    assert calls_of(server, "ssubscribe", "sunsubscribe") == [1, 0]


def test_a_chain_of_waits_looks_only_where_the_last_message_is_another_one(own_server, monkeypatch):
    monkeypatch.setattr(subscription, "LOOK", 1000)
    server = own_server()
    segment = shmvar.attach(server.url("x"))

    def looks(newer_than, wait=0.05):
        before = calls_of(server, "hget")[0]
        with contextlib.suppress(shmvar.WaitTimeoutError):
            assert segment.wait("x", wait, newer_than=newer_than) == segment.version("x")
        return calls_of(server, "hget")[0] - before

    with segment._subscribed(["x"]) as one:
        assert one.stands(waiting.now() + 30)
        looks(segment.version("x"))
        for change, expected in [
            (lambda: segment.put("x", 1), False),
            (lambda: segment.put("x", 1), False),
            (lambda: segment.put("y", 1), False),
            (lambda: segment.put_many({"y": 2}), True),
            (lambda: segment.put("x", 1), False),
            (lambda: segment.put("x", 1, ttl=1000), True),
            (lambda: segment.expire("x", None), True),
            (lambda: segment.put("x", 1), False),
            (segment.clear, True),
        ]:
            change()
            helpers.until(lambda: one.poll() or True)
            seen = segment.version("x")
            helpers.until(lambda: caught_up(segment, one))
            assert (looks(seen) > 0) == expected, change
        segment["x"] = 1
        seen = segment.version("x")
        helpers.until(lambda: caught_up(segment, one))
        killed(server)
        helpers.until(lambda: one.poll() is None and one.stands(waiting.now() + 30))
        assert looks(seen) > 0


def test_a_chain_of_short_waits_finds_that_everything_is_gone(own_server, monkeypatch):
    """No message tells of it, and each wait is shorter than the time after which one looks by itself."""
    monkeypatch.setattr(subscription, "LOOK", 0.5)
    server = own_server()
    segment = shmvar.attach(server.url("x"))
    threading.Timer(0.1, segment.put, ("x", 1)).start()
    seen = segment.wait("x", 60, newer_than=0)
    server.call("FLUSHALL")
    with helpers.promptly(20), pytest.raises(shmvar.SegmentNotFoundError):
        while True:
            with contextlib.suppress(shmvar.WaitTimeoutError):
                segment.wait("x", 0.05, newer_than=seen)


def caught_up(segment, one):
    """Whether all messages have come: those of another variable come after them."""
    with segment._subscribed(["mark"]) as marks:
        assert marks.stands(waiting.now() + 30)
        segment["mark"] = 1
        return bool(marks.wait(waiting.now() + 30))


def test_batches_of_others_do_not_keep_a_waiter_busy(own_server):
    """A message of a batch names no variable: a waiter looks, with pauses where it looks in vain."""
    server = own_server()
    segment = shmvar.attach(server.url("x"))
    stop = threading.Event()
    batches = []

    def store():
        while not stop.is_set():
            segment.put_many({"a": 1, "b": 2})
            batches.append(1)

    thread = threading.Thread(target=store)
    thread.start()
    before = calls_of(server, "hget")[0]
    try:
        with pytest.raises(shmvar.WaitTimeoutError):
            segment.wait("x", 2)
    finally:
        stop.set()
        thread.join()
    looks = calls_of(server, "hget")[0] - before
    assert looks < 2 / waiting._PAUSE and len(batches) > 20, (looks, len(batches))


def test_a_wait_for_more_than_a_thousand_hears_of_every_change_on_one_channel(seg, server):
    many = [*range(1500)]
    seg.put_many(dict.fromkeys(many, 0))
    for change, index, version in [
        (lambda: seg.put(1499, 1), 1499, lambda: seg.version(1499)),
        (lambda: seg.remove(7), 7, lambda: 0),
        (lambda: seg.put_many({3: 3, "other": 3}), 3, lambda: seg.version(3)),
        (lambda: seg.expire(9, 0.05), 9, lambda: 0),
    ]:
        seen = dict(zip(many, seg._versions(many)[0], strict=True))
        timer = threading.Timer(0.05, change)
        timer.start()
        assert seg.wait_any(many, 60, newer_than=seen) == (index, version())
        timer.join()
        seg["nothing of theirs"] = 1
    channels = server.call("PUBSUB", "SHARDCHANNELS")
    assert len([name for name in channels if name.startswith(seg._requests.data)]) <= 2


# --- tasks, users, threads


def test_the_loop_goes_on_while_the_server_stands_still(own_server):
    server = own_server()
    segment = shmvar.attach(server.url("x", timeout=60))

    async def main():
        tasks = [asyncio.create_task(segment.changed(n, 60, newer_than=0)) for n in range(5)]
        await asyncio.sleep(0.05)
        with server.stopped():
            tasks += [asyncio.create_task(segment.changed(n, 60, newer_than=0)) for n in range(5)]
            longest = 0.0
            for _ in range(50):
                began = time.monotonic()
                await asyncio.sleep(0.01)
                longest = max(longest, time.monotonic() - began)
            # Cancelled in the middle of a look.
            tasks[0].cancel()
            tasks[5].cancel()
        await asyncio.to_thread(segment.put_many, dict.fromkeys(range(5), 1))
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(one, asyncio.CancelledError) for one in found] == [n in (0, 5) for n in range(10)]
        assert set(found[1:5] + found[6:]) == {segment.version(1)}
        return longest

    assert run(main()) < 1.5


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
        timer = threading.Timer(0.1, writer.put, ("a", 2), {"ttl": 100})
        timer.start()
        assert wait() > 0
        timer.join()
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
