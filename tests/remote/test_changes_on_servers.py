"""`changes` on a server: the last state of each variable is told, in order, whatever becomes of messages."""

import os
import random
import threading
import time

import helpers
import pytest
from helpers.changes import all_of
from helpers.event_loops import run

import shmvar

pytest.importorskip("redis")
from shmvar._remote import changes as changes_module
from shmvar._remote import heard, subscription

SECONDS = float(os.environ.get("SHMVAR_REMOTE_SECONDS", "0"))


class Reader:
    """Follows all changes in a thread, as a mirror of the segment, until a variable "end" is told."""

    def __init__(self, changes, in_task=False):
        self.changes, self.told, self.fault = changes, [], None
        self.mirror = {}
        self.thread = threading.Thread(target=self.run, args=(in_task,))
        self.thread.start()

    def run(self, in_task):
        try:
            if in_task:
                run(self.follow(), 300)
            else:
                for index, version in self.changes:
                    if self.take(index, version):
                        return
        except BaseException as error:
            self.fault = error

    async def follow(self):
        async for index, version in self.changes:
            if self.take(index, version):
                return

    def take(self, index, version):
        self.told.append((index, version))
        if version:
            self.mirror[index] = version
        else:
            # What was never told is not told to be gone.
            del self.mirror[index]
        return index == "end"

    def result(self):
        self.thread.join(120)
        assert not self.thread.is_alive() and self.fault is None, self.fault
        return self.mirror


def in_order(told):
    """Whether versions grow, but for removals, which have none."""
    versions = [version for _, version in told if version]
    return versions == sorted(versions)


@pytest.mark.parametrize("in_task", [False, True])
def test_the_last_state_is_told_while_connections_are_killed(own_server, in_task):
    server = own_server()
    segment = shmvar.attach(server.url("x", timeout=60))
    readers = [Reader(segment.changes(newer_than={}, timeout=60), in_task) for _ in range(2)]
    draw, kills = random.Random(3), 0
    for turn in helpers.looks(seconds=SECONDS or 2, turns=200, at_most=SECONDS + 300):
        for _ in range(5):
            index = draw.randrange(40)
            action = draw.randrange(20)
            if action == 0:
                segment.put_many({index: turn, index + 1: turn})
            elif action < 6:
                segment.remove(index)
            elif action == 6:
                segment.put(index, turn, ttl=0.01)
            else:
                segment[index] = turn
        if draw.randrange(10) == 0:
            kills += server.call("CLIENT", "KILL", "TYPE", "pubsub")
    # What was given a time ends by itself.
    for index in list(segment):
        segment.expire(index, None)
    segment["end"] = 1
    for reader in readers:
        reader.result()
        # A removal that was lost has no place in the order: it may come after the end.
        told = dict(reader.told) | dict(all_of_rest(reader))
        assert {index: version for index, version in told.items() if version} == {
            index: segment.version(index) for index in segment
        }
    assert kills > 3


def all_of_rest(reader):
    """What there is to tell after the end."""
    reader.changes._timeout = 0.2
    return all_of(reader.changes)


def test_without_losses_every_change_is_told_in_its_order_to_a_reader_that_keeps_up(seg):
    reader = Reader(seg.changes(timeout=60))
    for number in range(300):
        seg[number % 7] = number
        if number % 5 == 0:
            del seg[number % 7]
    seg["end"] = 1
    mirror = reader.result()
    assert mirror == {index: seg.version(index) for index in seg} and in_order(reader.told)


def test_whatever_one_writer_does_is_told_in_the_order_of_versions(seg, monkeypatch):
    monkeypatch.setattr(subscription, "LOOK", 0.05)
    reader, draw = Reader(seg.changes(newer_than={}, timeout=60)), random.Random(7)
    actions = {
        "put": lambda i: seg.put(i, turn),
        "remove": seg.remove,
        "put_many": lambda i: seg.put_many(dict.fromkeys(draw.sample(range(20), 5), turn)),
        "clear": lambda i: seg.clear(),
        "ttl": lambda i: seg.put(i, turn, ttl=draw.random() * 0.1),
        "add": lambda i: seg.add(f"a{i}"),
    }
    kinds = [*["put"] * 12, *["remove"] * 3, *["put_many"] * 2, "clear", "ttl", "add"]
    for turn in helpers.looks(seconds=SECONDS or 1.5, turns=300):  # noqa: B007 - the actions use it
        actions[draw.choice(kinds)](draw.randrange(20))
    for index in list(seg):
        seg.expire(index, None)
    seg["end"] = 1
    assert reader.result() == {index: seg.version(index) for index in seg} and in_order(reader.told)


def test_a_batch_and_clear_are_told_by_a_look(seg):
    changes = seg.changes(timeout=0)
    seg.put_many({n: n for n in range(50)})
    seg["x"] = 1
    told = all_of(changes)
    assert sorted(told[:-1]) == [(n, seg.version(n)) for n in range(50)] and told[-1][0] == "x"
    seg.clear()
    seg["y"] = 1
    told = all_of(changes)
    assert set(told[:-1]) == {*((n, 0) for n in range(50)), ("x", 0)} and told[-1] == ("y", seg.version("y"))


def test_a_change_after_a_batch_is_told_after_it(seg, monkeypatch):
    """The message of the batch says that it has to be looked at; that of the change has come by then."""
    changes = seg.changes(timeout=0)
    for turn in range(30):
        seg["before"] = turn
        seg.put_many({"a": turn, "b": turn})
        seg["after"] = turn
        told = all_of(changes)
        assert [index for index, _ in told] in (["before", "a", "b", "after"], ["before", "b", "a", "after"])
    monkeypatch.setattr(heard, "_LONGEST_REST", 0.0)
    reader = Reader(seg.changes(timeout=60))
    draw = random.Random(9)
    for turn in range(300):
        if draw.randrange(3):
            seg[draw.randrange(9)] = turn
        else:
            seg.put_many({draw.randrange(9): turn, "more": turn})
    seg["end"] = 1
    reader.result()
    assert in_order(reader.told)


def test_more_messages_than_are_kept_are_a_look(seg, monkeypatch):
    monkeypatch.setattr(heard, "_MESSAGES", 50)
    changes = seg.changes(timeout=0)
    for number in range(200):
        seg[number % 20] = number
    del seg[5]
    told = all_of(changes)
    assert dict(told) == {n: seg.version(n) for n in range(20) if n != 5}
    assert in_order(told) and all_of(changes) == []


@pytest.mark.parametrize("removes", [False, True])
def test_a_message_that_is_lost_is_noticed_by_the_last_version(seg, monkeypatch, removes):
    monkeypatch.setattr(subscription, "LOOK", 0.3)
    seg["x"] = 1
    changes = seg.changes(timeout=60)
    monkeypatch.setattr(subscription.Subscription, "deliver", lambda *_: None)
    threading.Timer(0.1, seg.remove if removes else seg.add, ("x",)).start()
    assert next(changes) == ("x", seg.version("x"))
    # And at the latest when a step has nothing else to tell.
    seg["x"] = 5
    assert next(changes) == ("x", seg.version("x"))


def test_nothing_is_looked_at_while_nothing_is_lost(own_server, monkeypatch):
    monkeypatch.setattr(subscription, "LOOK", 0.1)
    # On a slow machine a message may be late.
    monkeypatch.setattr(heard, "CATCH_UP", 60)
    monkeypatch.setattr(changes_module, "CATCH_UP", 60)
    server = own_server()
    segment = shmvar.attach(server.url("x"))
    segment.put_many({n: n for n in range(100)})
    changes = segment.changes(timeout=0.5)
    before = scans(server)
    for _ in range(3):
        for number in range(20):
            segment[number] = 1
        assert len(all_of(changes)) == 20
    assert scans(server) == before == 1


def scans(server):
    return server.call("INFO", "commandstats")["cmdstat_hscan"]["calls"]


def test_a_fence_of_a_lock_is_no_change(seg):
    changes = seg.changes(timeout=0)
    changes._heard._take(b"=%d" % (seg.version("x") + 2**52))
    assert changes._heard._highest == 2**52 and not changes._heard._due and all_of(changes) == []


def test_expire_is_followed(seg):
    changes = seg.changes(timeout=60)
    seg["x"] = 1
    assert next(changes)[1] > 0
    seg.expire("x", 3600)
    seg.expire("x", 0.2)
    assert next(changes) == ("x", 0)
    seg.put("y", 1, ttl=0.3)
    seg.expire("y", None)
    seg.put("z", 1, ttl=0.4)
    assert [next(changes)[0] for _ in range(2)] == ["y", "z"] and next(changes) == ("z", 0)
    assert changes._heard._ends == {} and "y" in seg


def test_a_deadline_by_a_clock_that_is_ahead_is_asked_of_the_server(seg):
    changes = seg.changes(timeout=0.3)
    seg.put("x", 1, ttl=2)
    assert next(changes)[0] == "x"
    # As if the clocks differed by an hour, though the answer of the server says how they do.
    changes._heard._ahead += 3600e6
    with pytest.raises(shmvar.WaitTimeoutError):
        next(changes)
    assert abs(changes._heard._ahead / 1e6 + time.clock_gettime(time.CLOCK_BOOTTIME) - time.time()) < 60


def test_a_look_at_everything_begins_anew_where_the_server_is_another_one(own_server, monkeypatch):
    """A cursor means nothing to another server: a third of the variables would be told as removed."""
    first, second = own_server(), own_server()
    segment = shmvar.attach(first.url("x"))
    segment.put_many({n: n for n in range(6000)})
    changes = segment.changes(timeout=0)
    for name in segment._requests.keys[:2]:
        second.call("RESTORE", name, 0, dump_of(first, name))
    promoted = shmvar.attach(second.url("x"), create=False).changes(timeout=0)._heard
    ask, asked = heard.Heard._ask, []

    def moving(self, *arguments):
        asked.append(arguments)
        return ask(self if len(asked) < 4 else promoted, *arguments)

    monkeypatch.setattr(heard.Heard, "_ask", moving)
    changes._heard._due = True
    assert all_of(changes) == [] and len(asked) > 8


def dump_of(server, name):
    from redis import Redis

    with Redis(unix_socket_path=server.socket) as client:
        return client.dump(name)


def test_of_several_changes_before_a_step_only_the_last_is_told_however_late_messages_come(seg, monkeypatch):
    deliver = subscription.Subscription.deliver

    def late(self, *what):
        time.sleep(0.03)
        deliver(self, *what)

    monkeypatch.setattr(subscription.Subscription, "deliver", late)
    monkeypatch.setattr(changes_module, "CATCH_UP", 60)
    for timeout in (0, 0.01, 10):
        changes = seg.changes(timeout=timeout)
        seg.add("a"), seg.add("b"), seg.add("a"), seg.put("gone", 1), seg.remove("gone")
        assert next(changes) == ("b", seg.version("b")) and next(changes) == ("a", seg.version("a"))
        changes.close()


def test_a_message_of_what_a_look_has_found_is_not_told_again(seg):
    seg["x"] = 1
    old = seg.version("x")
    seg["x"] = 2
    changes = seg.changes(timeout=0)
    for message in (b"%d sx" % old, b"-%d sx" % old, b"%d *" % old, b"~%d@5 sx" % old):
        changes._heard._take(message)
        assert all_of(changes) == [] and not changes._heard._due


def test_changes_while_everything_is_looked_at_come_in_their_place(seg, monkeypatch):
    """What is changed behind the cursor and before it: of the look only versions up to its beginning count."""
    seg.put_many({n: n for n in range(3000)})
    changes = seg.changes(timeout=0)
    ask, between = heard.Heard._ask, []

    def changing(self, *arguments):
        found = ask(self, *arguments)
        if arguments[0] == b"scan" and not between:
            for n in range(0, 3000, 100):
                seg[n] = "new"
            del seg[1], seg[2999]
            seg["added"] = 1
            between.append(1)
        return found

    seg[50] = "before"
    monkeypatch.setattr(heard.Heard, "_ask", changing)
    changes._heard._due = True
    told = all_of(changes)
    assert told[0] == (50, seg.version(50)) and in_order(told)
    assert dict(told) == {
        50: seg.version(50),
        **{n: seg.version(n) for n in range(0, 3000, 100)},
        1: 0,
        2999: 0,
        "added": seg.version("added"),
    }


STRANGE = [
    b"",
    b"x",
    b"5",
    b"5 x",
    b"99999999999999999 i5",
    b"9007199254740992 i5",
    b"1 i5x",
    b"~ i5",
    b"gone",
    b"\xff" * 900,
]


@pytest.mark.parametrize("message", STRANGE)
def test_a_message_that_is_none_is_a_look(seg, server, message):
    seg[5] = 5
    changes = seg.changes(timeout=0.1)
    server.call("SPUBLISH", seg._requests.data + b"w", message)
    assert all_of(changes) == []
    seg[5] = 6
    assert all_of(changes) == [(5, seg.version(5))]


def test_an_iterator_that_is_dropped_ends_its_subscription(seg):
    changes = seg.changes(timeout=0)
    mine = changes._heard._subscription
    channel = mine.channels[0]
    assert mine in channel.users
    del changes
    assert mine.closed and mine not in channel.users
