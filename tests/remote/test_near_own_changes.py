"""What a handle with a near cache has changed itself or was told of is never followed by something older."""

import asyncio
import threading
import time

import numpy
import pytest
from helpers import event_loops
from helpers.near_caches import LONG, cached, is_hit, memory, nothing_stays, opened, until

from shmvar._remote import near_listener


@pytest.fixture(autouse=True)
def nothing_is_left():
    with nothing_stays():
        yield


@pytest.fixture
def pair(server):
    with opened(server) as handles:
        yield handles


def test_own_changes_are_seen_at_once(pair):
    near, _ = pair
    # What the cache believed before each change would be found again, if the change did not make it void itself.
    near._near._follower._take = None
    for number in range(50):
        near["n"] = number
        assert near["n"] == number
        assert near.add("n", 1) == near["n"] == near.get("n")
        near.put_many({"n": -number, "m": 1})
        assert near["n"] == -number
        assert near.swap("n", 5) == -number and near["n"] == 5
        assert near.modify("n", lambda n: n + 1) == near["n"] == 6
        near.touch("n")
        assert near.pop("n") == 6 and near.get("n") is None
        near["n"] = numpy.full(10_000, number)
        assert near["n"][0] == number
        near.clear()
        assert near.get("n") is None


@pytest.fixture
def deaf(pair, monkeypatch):
    """A pair whose listener hears nothing for a while, though the cache is alive."""
    near, plain = pair
    plain["n"] = 1
    cached(near, "n")
    # It goes on with PINGs; what they promise is kept, so only the messages are lost.
    monkeypatch.setattr(near_listener._News, "_change", lambda self, text: None)
    return near, plain


def test_without_messages_the_old_value_would_be_read(deaf):
    near, plain = deaf

    def is_old():
        value = cached(near, "n")
        plain["n"] = value + 1
        return near["n"] == value

    # On a busy machine the cache may not be alive all the time.
    until(is_old)


CALLS = {
    "put": lambda near: near.put("n", 2),
    "add": lambda near: near.add("n"),
    "remove": lambda near: near.remove("n"),
    "expire": lambda near: (near.expire("n", 0.001), time.sleep(0.01)),
    "put_many": lambda near: near.put_many({"n": 2}),
    "clear": lambda near: near.clear(),
    "a large value": lambda near: near.put("n", bytes(100_000)),
}


@pytest.mark.parametrize("call", CALLS)
def test_an_own_change_is_seen_though_no_message_comes(deaf, call):
    near, plain = deaf
    CALLS[call](near)
    assert near.get("n") == plain.get("n") != 1


READS = {
    "get_versioned": lambda near: near.get_versioned("n"),
    "version": lambda near: near.version("n"),
    "get_many": lambda near: near.get_many(["n"]),
    "stat": lambda near: near.stat("n"),
    "has": lambda near: "n" in near,
}


@pytest.mark.parametrize("read", READS)
def test_what_any_call_has_read_is_never_followed_by_something_older(deaf, read):
    near, plain = deaf
    plain["n"] = 2
    READS[read](near)
    assert near["n"] == 2


def test_whoever_was_told_of_a_version_by_waiting_reads_it(deaf):
    near, plain = deaf
    seen = near.version("n")
    changing = threading.Timer(0.05, lambda: plain.put("n", 2))
    changing.start()
    near.wait("n", LONG, newer_than=seen)
    assert near["n"] == 2
    cached(near, "n")
    removing = threading.Timer(0.05, lambda: plain.remove("n"))
    removing.start()
    assert near.wait("n", LONG) == 0
    assert near.get("n") is None
    changing.join(), removing.join()


def test_whoever_is_told_of_a_change_reads_it(deaf):
    near, plain = deaf
    changes = near.changes(prefix="n", timeout=LONG)
    for number in range(2, 10):
        cached(near, "n")
        plain["n"] = number
        assert next(changes) == ("n", plain.version("n")) and near["n"] == number
    cached(near, "n")
    plain.remove("n")
    assert next(changes) == ("n", 0) and near.get("n") is None
    changes.close()


def test_a_task_that_was_told_of_a_version_reads_it(deaf):
    near, plain = deaf

    async def main():
        changed = near.changed("n")
        await asyncio.to_thread(plain.put, "n", 2)
        await changed
        assert near["n"] == await near.aio.get("n") == 2

    event_loops.run(main())


@pytest.mark.parametrize("read", ["has", "get_many", "version"])
def test_who_has_found_it_missing_does_not_find_it_again(deaf, read):
    near, plain = deaf
    del plain["n"]
    READS[read](near)
    assert near.get("n") is None


@pytest.mark.parametrize("known_by", ["its message", "another read"])
def test_a_slow_filler_brings_nothing_old_back(pair, deaf, known_by, monkeypatch):
    near, plain = deaf
    if known_by == "its message":
        monkeypatch.undo()
    ticket = near._near.begin()
    value, record = near._found("n")
    plain["n"] = 2
    if known_by == "its message":
        until(lambda: memory(near).words[memory(near).floor_of("n")] >= plain.version("n"))
    else:
        near.version("n")
    # Nor does it matter what was evicted meanwhile.
    memory(near).segment.remove("n")
    near._near.keep(ticket, "n", record, value)
    assert not is_hit(near, "n") and near["n"] == 2


def test_reads_while_a_lock_is_held_ask_the_server(deaf, monkeypatch):
    near, plain = deaf
    plain["n"] = 2
    near._near._held.by[7] = {}
    try:
        assert near["n"] == near.get("n") == near.view("n") == near.copy()["n"] == 2
    finally:
        del near._near._held.by[7]
