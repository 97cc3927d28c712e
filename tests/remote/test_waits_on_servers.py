"""Waits on a server miss nothing: lost connections and messages, full buffers, servers that stop, restart or forget."""

import itertools
import os
import signal
import threading
import time

import helpers
import pytest
from helpers.event_loops import run

import shmvar

pytest.importorskip("redis")
from helpers.subscriptions import killed

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
    # What counts is the version at the call, not at the `await`.
    changed = seg.changed("x", 60)
    threading.Timer(0.1, seg.put, ("x", 1)).start()
    assert run(changed) == seg.version("x") > seen


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
