"""What waits on a server cost it: one subscription for many waits, and a look only where a message may be missing."""

import contextlib
import threading

import helpers
import pytest

import shmvar

pytest.importorskip("redis")
from helpers.subscriptions import killed

from shmvar._remote import subscription, waiting


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
