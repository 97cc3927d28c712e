"""The thread that listens to a server: its subscriptions stand, come back after each loss, and end with their users."""

import contextlib
import random
import signal
import threading
import time

import helpers
import pytest
from helpers import servers

import shmvar

pytest.importorskip("redis")
from helpers.subscriptions import channel_of, killed, numsub, soon, subscribed

from shmvar._remote import conversation, listener, renewals
from shmvar._remote import subscription as subscription_module
from shmvar._remote.connections import now
from shmvar._remote.listener import listener_of


def all_of(subscription, count):
    found = []
    while len(found) < count:
        heard = subscription.wait(soon())
        assert heard is None or heard, found
        found += heard or ()
    return found


# --- subscriptions


def test_what_is_published_after_the_word_of_the_server_is_heard(seg):
    with subscribed(seg, b"c:sx", b"w", b"*") as subscription:
        assert subscription.stands(soon()) and subscription.standing
        seg["x"] = 1
        seg["y"] = 1
        seg.put("x", 1, ttl=100)
        seg.expire("x", None)
        del seg["x"]
        heard = all_of(subscription, 9)
        mine = [data for channel, data in heard if channel == channel_of(seg)]
        every = [data for channel, data in heard if channel == channel_of(seg, b"w")]
        assert [data[:1] for data in mine] == [b"1", b"1", b"~", b"-"]
        assert mine[1].partition(b"@")[0] == mine[2][1:] and b"@" in mine[1] and b"@" not in mine[2]
        assert every == [b"%b sx" % mine[0], every[1], *(b"%b sx" % data for data in mine[1:])]
        assert every[1].endswith(b" sy") and [len(mine), len(every)] == [4, 5]


def test_it_does_not_stand_before_the_word_of_the_server(seg, server, monkeypatch):
    ask, kept = conversation.Conversation.ask, []
    monkeypatch.setattr(conversation.Conversation, "ask", lambda *it: kept.append(it))
    with subscribed(seg, b"c:snot yet") as subscription:
        assert not subscription.stands(now() + 0.3) and not subscription.standing and subscription.run is None
        # The same of a new connection: the word on the one before says nothing.
        monkeypatch.setattr(conversation.Conversation, "ask", ask)
        server.call("CLIENT", "KILL", "SKIPME", "yes")
        assert subscription.stands(soon())
        monkeypatch.setattr(conversation.Conversation, "ask", lambda *it: kept.append(it))
        server.call("CLIENT", "KILL", "SKIPME", "yes")
        helpers.until(lambda: not subscription.standing)
        assert not subscription.stands(now() + 0.3)
        monkeypatch.setattr(conversation.Conversation, "ask", ask)
        server.call("CLIENT", "KILL", "SKIPME", "yes")
        assert subscription.stands(soon())


def test_a_thousand_channels_stand_and_those_of_others_are_not_heard(seg, new_key):
    other = shmvar.attach(new_key())
    with subscribed(seg, *(b"c:i%d" % n for n in range(1200))) as subscription:
        assert subscription.stands(soon())
        other[5] = 1
        seg[1199] = seg[5000] = 1
        assert [channel for channel, _ in all_of(subscription, 1)] == [channel_of(seg, b"c:i1199")]


def test_the_second_one_stands_at_once_and_what_nobody_uses_is_given_up(seg, server, monkeypatch):
    monkeypatch.setattr(conversation, "_PING", 0.05)
    monkeypatch.setattr(listener, "_LINGER", 1000)
    channel = channel_of(seg, b"c:slinger")
    with subscribed(seg, b"c:slinger") as subscription:
        assert subscription.stands(soon())
    # The thread has looked for what nobody uses many times meanwhile.
    time.sleep(0.5)
    assert numsub(server, channel) == 1
    with subscribed(seg, b"c:slinger") as subscription:
        assert subscription.stands(soon())
        with subscribed(seg, b"c:slinger") as second:
            assert second.standing and numsub(server, channel) == 1
    with subscribed(seg, b"c:slinger") as third:
        assert third.standing
    monkeypatch.setattr(listener, "_LINGER", 0.3)
    helpers.until(lambda: numsub(server, channel) == 0, 20)
    with subscribed(seg, b"c:slinger") as fourth:
        assert fourth.stands(soon()) and numsub(server, channel) == 1


def test_the_thread_ends_with_its_last_user_and_another_one_begins(own_server, monkeypatch):
    monkeypatch.setattr(listener, "_LINGER", 0.1)
    server = own_server()
    segment = shmvar.attach(server.url("x"))
    for _ in range(2):
        subscription = subscribed(segment, b"w")
        assert subscription.stands(soon())
        mine = subscription.listener
        subscription.close()
        helpers.until(lambda mine=mine: mine.ended, 20)
        assert listener_of(segment._open) is not mine
        helpers.until(lambda: b"sub=0" not in server.call("CLIENT", "LIST", "TYPE", "pubsub"), 20)
        assert server.call("CLIENT", "LIST", "TYPE", "pubsub") == b""


def test_a_lost_connection_says_look_again_and_comes_back(own_server):
    server = own_server()
    segment = shmvar.attach(server.url("x"))
    told = []
    with subscribed(segment, b"w") as subscription, subscribed(segment, b"w", on_message=lambda *it: told.append(it)):
        assert subscription.stands(soon())
        for number in range(20):
            killed(server)
            while subscription.wait(soon()) is not None:
                pass
            assert subscription.lost_some and subscription.stands(soon())
            segment[number] = 1
            assert all_of(subscription, 1)[0][1].endswith(b" i%d" % number)
        helpers.until(lambda: told[-1][1].endswith(b" i19"))
        assert told.count((None, b"")) >= 20


def test_no_message_is_lost_when_it_is_time_to_look(seg, monkeypatch):
    """`changes` goes by each message, and only asks for the last version then."""
    monkeypatch.setattr(subscription_module, "LOOK", 0.01)
    with subscribed(seg, b"w") as subscription:
        assert subscription.stands(soon())
        heard = []
        for number in range(300):
            seg["x"] = number
            heard += subscription.poll() or ()
        helpers.until(lambda: heard.extend(subscription.poll() or ()) or len(heard) == 300)


def test_a_server_that_says_nothing_is_a_lost_connection(own_server, monkeypatch):
    monkeypatch.setattr(conversation, "_PING", 0.1)
    monkeypatch.setattr(conversation, "_SILENCE", 0.5)
    server = own_server()
    segment = shmvar.attach(server.url("x", timeout=60))
    with subscribed(segment, b"w") as subscription:
        assert subscription.stands(soon())
        with server.stopped():
            helpers.until(lambda: not subscription.standing, 20)
        assert subscription.wait(soon()) is None and subscription.stands(soon())


def test_the_run_id_is_that_of_the_server_on_whose_connection_it_stands(own_server):
    server = own_server("--appendonly", "yes")
    segment = shmvar.attach(server.url("x"))
    with subscribed(segment, b"w") as plain:
        assert plain.stands(soon())
        # Whoever comes later and needs it makes the listener connect again.
        with subscribed(segment, b"p:me", run=True) as presence:
            assert presence.stands(soon())
            first = presence.run
            assert first.decode() == server.call("INFO", "server")["run_id"]
            server.kill()
            helpers.until(lambda: presence.run is None)
            server.start()
            assert presence.stands(soon()) and plain.stands(soon())
            assert len(presence.run) == 40 and presence.run != first
            assert numsub(server, channel_of(segment, b"p:me")) == 1


def test_it_goes_to_where_the_link_has_moved(own_server):
    server = own_server()
    segment = shmvar.attach(server.url("x"))
    with subscribed(segment, b"w") as subscription:
        assert subscription.stands(soon())
        number = subscription.listener.number
        segment._open.moves += 1
        helpers.until(lambda: subscription.listener.number > number, 20)
        assert subscription.stands(soon())


def test_a_user_without_the_right_is_told_so_and_others_are_heard(own_server):
    server = own_server(port=servers.free_port())
    rights = [right for right in servers.rights("app") if "subscribe" not in right]
    server.call("ACL", "SETUSER", "deaf", "on", ">secret", *rights)
    segment = shmvar.attach(server.tcp("x", "deaf:secret@"))
    for _ in range(2):
        with pytest.raises(shmvar.SegmentAccessError, match="ssubscribe"):
            segment.wait("x", 20)
    server.call("ACL", "SETUSER", "deaf", "+ssubscribe", "+sunsubscribe")
    helpers.until(lambda: not raises(lambda: segment.wait("x", 0.05)), 30)


def raises(call):
    try:
        call()
    except shmvar.SegmentAccessError:
        return True
    except shmvar.WaitTimeoutError:
        return False


def test_a_password_that_is_not_right_any_more_is_told(own_server):
    server = own_server(port=servers.free_port())
    server.call("ACL", "SETUSER", "app", "on", ">secret", "~*", "&*", "+@all")
    segment = shmvar.attach(server.tcp("x", "app:secret@"))
    with subscribed(segment, b"w") as subscription:
        assert subscription.stands(soon())
        server.call("ACL", "SETUSER", "app", "resetpass", ">another")
        server.call("CLIENT", "KILL", "USER", "app")
        with pytest.raises(shmvar.SegmentAccessError, match="refuses user app"):
            while True:
                subscription.stands(soon())
        server.call("ACL", "SETUSER", "app", ">secret")


def test_many_threads_come_and_go_while_connections_are_killed(own_server):
    server = own_server()
    segment = shmvar.attach(server.url("x"))
    faults, stop = [], threading.Event()

    def run(number):
        draw = random.Random(number)
        try:
            while not stop.is_set():
                with subscribed(segment, *(b"c:i%d" % draw.randrange(20) for _ in range(3))) as subscription:
                    assert subscription.stands(soon())
                    subscription.wait(now() + draw.random() * 0.01)
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for _ in helpers.looks(seconds=1.5, turns=20):
        killed(server)
        time.sleep(0.03)
    stop.set()
    for thread in threads:
        thread.join(60)
    assert not faults and not any(thread.is_alive() for thread in threads)


def test_a_signal_handler_may_wait_within_a_wait(seg):
    def handler(*_):
        seg.wait("inner", 30, newer_than=0)
        done.append(1)
        # Not while this runs: a slow machine would be in ever more of them.
        signal.setitimer(signal.ITIMER_REAL, 0.003)

    done = []
    seg["inner"] = 1
    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        seen = seg.version("outer")
        for number in range(60):
            threading.Timer(0.005, seg.put, ("outer", number)).start()
            seen = seg.wait("outer", 30, newer_than=seen)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(done) > 5


# --- renewals


def test_a_function_is_called_again_and_again_until_it_is_closed(monkeypatch):
    monkeypatch.setattr(renewals, "_LINGER", 0.1)
    calls = []

    def fails():
        calls.append(threading.current_thread().name)
        raise RuntimeError

    with renewals.every(0.01, fails), renewals.every(1000, calls.clear):
        helpers.until(lambda: len(calls) > 5)
    assert set(calls) == {"shmvar-renewals"}
    helpers.until(lambda: not any(thread.name == "shmvar-renewals" for thread in threading.enumerate()))
    count = len(calls)
    with renewals.every(0.01, fails):
        helpers.until(lambda: len(calls) > count + 5)

        def in_child():
            # The parent's functions are not called here; its own are.
            del calls[:]
            mine = []
            with renewals.every(0.01, lambda: mine.append(1)):
                helpers.until(lambda: len(mine) > 3)
            assert calls == []

        assert helpers.reap(helpers.fork(in_child)) == 0


def test_a_refusal_that_is_over_is_not_given_to_who_comes_new(own_server):
    server = own_server(port=servers.free_port())
    server.call("ACL", "SETUSER", "app", "on", ">right-secret", "~*", "&*", "+@all")
    segment = shmvar.attach(server.tcp("mended", "app:right-secret@"))
    with contextlib.closing(subscribed(segment, b"c:sa")) as first:
        assert first.stands(soon())
        server.call("ACL", "SETUSER", "app", "resetpass", ">wrong-secret")
        killed(server)
        helpers.until(lambda: first.listener.fault, what="the refusal")
        with pytest.raises(shmvar.SegmentAccessError):
            first.stands(soon())
        server.call("ACL", "SETUSER", "app", "resetpass", ">right-secret")
        with contextlib.closing(subscribed(segment, b"c:sa")) as second:
            assert second.stands(soon())
