"""What the thread that listens to a server takes its bytes for: messages, answers, or the end of the connection."""

import contextlib
import random
import socket

import pytest

pytest.importorskip("redis")
from shmvar._remote import conversation
from shmvar._remote.messages import BadMessage, Parser, Refusal


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
