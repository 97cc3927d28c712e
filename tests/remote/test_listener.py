"""The thread that listens to a server: its subscriptions stand, come back after each loss, and end with the process."""

import contextlib
import os
import random
import select
import signal
import socket
import threading
import time

import helpers
import pytest
from helpers import servers

import shmvar

pytest.importorskip("redis")
from shmvar._remote import conversation, link, listener, renewals
from shmvar._remote import subscription as subscription_module
from shmvar._remote.connections import now
from shmvar._remote.listener import listener_of
from shmvar._remote.messages import BadMessage, Parser, Refusal


def channel_of(segment, name=b"c:sx"):
    return segment._requests.data + name


def subscribed(segment, *names, **options):
    return listener_of(segment._open).subscribe([channel_of(segment, name) for name in names], **options)


def soon():
    return now() + 30


def numsub(server, channel):
    return server.call("PUBSUB", "SHARDNUMSUB", channel)[1]


def killed(server):
    return server.call("CLIENT", "KILL", "TYPE", "pubsub")


def all_of(subscription, count):
    found = []
    while len(found) < count:
        heard = subscription.wait(soon())
        assert heard is None or heard, found
        found += heard or ()
    return found


# --- what the server says


def test_messages_are_taken_apart_wherever_their_bytes_are_parted():
    data = b"*3\r\n$8\r\nsmessage\r\n$1\r\nc\r\n$4\r\n\r\n\r\n\r\n+PONG\r\n-NOPERM no\r\n"
    data += b"*2\r\n$4\r\npong\r\n$0\r\n\r\n:5\r\n$-1\r\n"
    for first in range(len(data)):
        for second in range(first, len(data), 7):
            parser = Parser()
            found = [
                message for part in (data[:first], data[first:second], data[second:]) for message in parser.feed(part)
            ]
            assert found[:2] == [[b"smessage", b"c", b"\r\n\r\n"], b"PONG"] and isinstance(found[2], Refusal)
            assert found[3:] == [[b"pong", b""], 5, None] and str(found[2]) == "NOPERM no"


@pytest.mark.parametrize(
    "data",
    [
        b"*4\r\n",
        b"*999999999999\r\n",
        b"*-5\r\n",
        b"$70000\r\n",
        b"$99999999999999999999999\r\n",
        b"$1_0\r\n",
        b"$2\r\nabc\r\n",
        b"*1\r\n*1\r\n$1\r\na\r\n",
        b"*1\r\n-ERR\r\n",
        b"+" + b"x" * 600,
        b"%2\r\n",
        b"hello\r\n",
        b"\r\n",
        b"\0\0\r\n",
    ],
)
def test_what_is_no_message_is_refused_and_never_kept(data):
    with pytest.raises(BadMessage):
        Parser().feed(data)


class Ears:
    """Notes what a conversation tells."""

    def __init__(self):
        self.told = []

    def __getattr__(self, name):
        return lambda *what: self.told.append((name, *what))


@pytest.fixture
def talk():
    """A conversation, and the other end of its connection."""
    ours, theirs = socket.socketpair()
    near, far = socket.socketpair()

    class Connection:
        _sock = ours

        def disconnect(self):
            ours.close()

    ears = Ears()
    found = conversation.Conversation(Connection(), near, ears)
    yield found, theirs, ears
    found.close()
    for one in (theirs, near, far):
        one.close()


def said(talk, data):
    found, theirs, ears = talk
    theirs.sendall(data)
    found.rest()
    found.receive()
    return ears.told


def word(kind, name):
    return b"*3\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n:1\r\n" % (len(kind), kind, len(name), name)


def test_answers_go_to_the_requests_in_their_order(talk):
    found, theirs, _ = talk
    found.ask_run()
    found.ask([b"p{a}x", b"p{a}y"])
    assert said(talk, b"$24\r\nredis:1\r\nrun_id:abc123\r\n\r\n") == [("server_runs", b"abc123")]
    assert said(talk, word(b"ssubscribe", b"p{a}x"))[1:] == [("stands", b"p{a}x")]
    told = said(talk, word(b"ssubscribe", b"p{a}y") + b"*3\r\n$8\r\nsmessage\r\n$5\r\np{a}x\r\n$1\r\n7\r\n")
    assert told[2:] == [("stands", b"p{a}y"), ("answered", [b"p{a}x", b"p{a}y"]), ("message", b"p{a}x", b"7")]
    found.ask([b"p{a}z"])
    assert said(talk, b"-NOPERM no channel\r\n")[5][:2] == ("refused", [b"p{a}z"])
    assert b"SSUBSCRIBE" in theirs.recv(1000)


@pytest.mark.parametrize("asked", ["nothing", "ping", "another", "itself"])
def test_a_subscription_that_the_server_ends_unasked_has_moved(talk, asked):
    found = talk[0]
    found.ask([b"c"])
    said(talk, word(b"ssubscribe", b"c"))
    if asked == "ping":
        found._next_ping = 0
        assert found.ping_is_due()
    elif asked != "nothing":
        found.drop([b"c" if asked == "itself" else b"d"])
    if asked == "itself":
        said(talk, word(b"sunsubscribe", b"c"))
    else:
        with pytest.raises(conversation.Moved):
            said(talk, word(b"sunsubscribe", b"c"))


@pytest.mark.parametrize(
    "data",
    [word(b"ssubscribe", b"other"), b"+OK\r\n", b":1\r\n", b"-MOVED 5 1.2.3.4:5\r\n", b"*2\r\n$1\r\na\r\n:1\r\n"],
)
def test_an_answer_that_does_not_fit_ends_the_connection(talk, data):
    talk[0].ask([b"c"])
    with pytest.raises((BadMessage, ConnectionError)):
        said(talk, data)


def test_any_bytes_end_the_connection_or_are_messages(talk):
    draw = random.Random(5)
    pieces = [
        b"*3\r\n",
        b"$1\r\na\r\n",
        b"smessage",
        b"$8\r\nsmessage\r\n",
        b":1\r\n",
        b"\r\n",
        b"-ERR\r\n",
        b"+PONG\r\n",
    ]
    for _ in range(2000):
        parser = Parser()
        with contextlib.suppress(BadMessage):
            for message in parser.feed(b"".join(draw.choice(pieces) for _ in range(9))):
                with contextlib.suppress(BadMessage, ConnectionError, conversation.Moved):
                    talk[0]._take(message)
        assert len(parser._data) < 1000


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
    monkeypatch.setattr(listener, "_LINGER", 0.3)
    with subscribed(seg, b"c:slinger") as subscription:
        assert subscription.stands(soon())
        with subscribed(seg, b"c:slinger") as second:
            assert second.standing and numsub(server, channel) == 1
    with subscribed(seg, b"c:slinger") as third:
        assert third.standing
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


# --- processes


PRESENT = """
import os
from shmvar._remote.connections import now
from shmvar._remote.listener import listener_of
s = shmvar.attach(key)
sub = listener_of(s._open).subscribe([s._requests.data + b"p:me"], run=True)
assert sub.stands(now() + 30)
"""


def test_a_forked_child_does_not_keep_the_presence_of_its_parent(seg, key, server, children):
    code = (
        f"{PRESENT}\nif os.fork() == 0:\n    sys.stdin.read()\n    os._exit(0)\nprint('go', flush=True)\ntime.sleep(99)"
    )
    child = helpers.start(code, key)
    children.append(child)
    channel = channel_of(seg, b"p:me")
    assert numsub(server, channel) == 1
    os.kill(child.pid, signal.SIGKILL)
    # The child of the child lives, and has what was open at the fork but for this connection.
    helpers.until(lambda: numsub(server, channel) == 0, 20)


def test_a_fork_while_it_connects_does_not_keep_it_either(seg, server, monkeypatch):
    """The connection is thrown away, for both."""
    opened, pids = link.Link.connect, []

    def connect(self, until):
        connection = opened(self, until)
        if threading.current_thread().name == "shmvar-listener" and not pids:
            pid = os.fork()
            if pid == 0:
                select.select([], [], [], 30)
                os._exit(0)
            pids.append(pid)
        return connection

    monkeypatch.setattr(link.Link, "connect", connect)
    killed(server)
    with subscribed(seg, b"p:fork") as subscription:
        helpers.until(lambda: pids and subscription.standing, 30)
        channel = channel_of(seg, b"p:fork")
        assert numsub(server, channel) == 1
        # As if this process had died: whoever has the connection, too, keeps it open.
        before = subscription.listener.number
        subscription.listener._conversation._sock.close()
        helpers.until(lambda: subscription.listener.number > before and subscription.standing, 30)
        assert numsub(server, channel) == 1
    os.kill(pids[0], signal.SIGKILL)
    os.waitpid(pids[0], 0)


@pytest.mark.parametrize("how", ["at its end", "by sys.exit", "by an exception"])
def test_a_program_ends_though_it_is_present(key, seg, how):
    ends = {"at its end": "", "by sys.exit": "sys.exit(0)", "by an exception": "raise SystemExit"}
    began = time.monotonic()
    done = helpers.run(f"{PRESENT}\n{ends[how]}", key)
    assert (done.stdout, done.stderr) == ("", "") and time.monotonic() - began < 30


def test_threads_wait_in_children_forked_while_the_parent_waits(seg):
    """The listener may be in the middle of anything at the fork."""
    stop = threading.Event()

    def busy():
        while not stop.is_set():
            with subscribed(seg, b"c:i%d" % random.randrange(1000)) as subscription:
                subscription.stands(soon())

    threads = [threading.Thread(target=busy) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        pids = [helpers.fork(lambda: seg.wait("never", 30, newer_than=5)) for _ in range(10)]
        assert [helpers.reap(pid) for pid in pids] == [0] * 10
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)


@pytest.mark.parametrize("lacks", ["files", "threads"])
def test_without_files_or_threads_it_is_a_typed_error_and_goes_on_later(seg, monkeypatch, lacks):
    def none(*_):
        raise OSError(24, "Too many open files") if lacks == "files" else RuntimeError("can't start new thread")

    monkeypatch.setattr(listener, "_listeners", {})
    monkeypatch.setattr(*((listener.socket, "socketpair") if lacks == "files" else (threading.Thread, "start")), none)
    for _ in range(2):
        with pytest.raises(shmvar.SegmentUnavailableError, match=f"no more {lacks}"):
            seg.wait("x", 5)
    monkeypatch.undo()
    with pytest.raises(shmvar.WaitTimeoutError):
        seg.wait("x", 0.1)


def test_a_process_that_has_no_file_for_a_moment_listens_again(key, seg):
    """Its connection is killed while every file is taken: the thread goes on trying."""
    code = """
    import os, resource, redis
    from shmvar._remote.connections import now
    s = shmvar.attach(key)
    seen = s.version("x")
    try:
        s.wait("x", 0.1)
    except shmvar.WaitTimeoutError:
        pass
    client = redis.Redis(unix_socket_path=sys.argv[2])
    client.ping()
    one = s._subscribed(["x"])
    assert one.stands(now() + 30)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    client.client_kill_filter(_type="pubsub")
    end = now() + 30
    while one.standing and now() < end:
        time.sleep(0.01)
    time.sleep(0.2)
    assert not one.standing
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert one.stands(now() + 30)
    print("stands")
    """
    assert helpers.run(code, key, key.partition("://")[2].partition("#")[0].partition("?")[0]).stdout == "stands\n"


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
