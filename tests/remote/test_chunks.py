"""Chunks of large values: none is sent in vain, none stays behind, and no upload goes round for ever."""

import contextlib
import signal
import time

import helpers
import pytest
from helpers.machine import SLOWER

import shmvar
from shmvar._remote import blobs
from shmvar._remote.numbered import Requests

MIB = 1 << 20


def chunks(server, segment):
    return server.call("KEYS", segment._requests.data + b"b:*")


def received(server):
    return int(server.call("INFO", "stats")["total_net_input_bytes"])


@pytest.mark.parametrize("call", ["put", "put_many"])
def test_a_server_that_evicts_the_chunks_of_a_value_on_the_way_is_full(own_server, call):
    evicting = own_server("--maxmemory", "12mb", "--maxmemory-policy", "volatile-lru")
    segment = shmvar.attach(evicting.url("v", timeout=5))
    segment["kept"] = 1
    value = bytes(24 * MIB)
    with helpers.promptly(), pytest.raises(shmvar.SegmentFullError, match=r"volatile|time to live"):
        segment.put("v", value) if call == "put" else segment.put_many({"v": value, "w": 1})
    assert dict(segment) == {"kept": 1} and not chunks(evicting, segment)
    segment.check()


def test_chunks_live_longer_than_their_upload_can_take(seg, monkeypatch):
    lives = []
    monkeypatch.setattr(blobs, "upload", lambda link, data, stored, life, end: lives.append((int(life), end)))
    stored = type("Stored", (), {"total": 1 << 30})
    upload = blobs.Upload(seg._open, b"D", [stored])
    upload.send()
    ((life, end),) = lives
    # A gibibyte at 256 KiB a second takes more than an hour.
    assert life / 1000 > 2 * 4096 and end - blobs.now() > 4096


def test_an_upload_that_the_chunks_do_not_survive_ends(server, new_key, monkeypatch):
    segment = shmvar.attach(new_key())
    upload = blobs.upload
    monkeypatch.setattr(blobs, "upload", lambda link, data, stored, life, end: upload(link, data, stored, b"1", end))
    send = blobs.Upload.send

    def slowly(self):
        send(self)
        helpers.until(lambda: not chunks(server, segment))

    monkeypatch.setattr(blobs.Upload, "send", slowly)
    with helpers.promptly(), pytest.raises(shmvar.SegmentFullError):
        segment["v"] = b"x" * 50_000


def test_the_deadline_is_one_for_all_chunks(own_server, monkeypatch):
    """However long each group of chunks takes: each had the whole time-out anew."""
    from shmvar._remote import connections, link

    segment = shmvar.attach(own_server().url("slow", timeout=20))
    clock, ends = [1000.0], []
    for module in (blobs, connections, link):
        monkeypatch.setattr(module, "now", lambda: clock[0])
        monkeypatch.setattr(module, "SLOWEST", 16 * MIB)
    run = link.Link.run

    def slow(self, requests, waited, answers_to=None):
        if answers_to:
            ends.append(waited.until)
            clock[0] += 10
        return run(self, requests, waited, answers_to)

    monkeypatch.setattr(link.Link, "run", slow)
    # The last answers may come too late, or together.
    with contextlib.suppress(shmvar.SegmentUnavailableError):
        segment["v"] = bytes(40 * MIB)
    assert clock[0] >= 1030 and max(ends) < 1000 + 20 + 40 / 16 + 1


REFUSED = {
    "put that cannot fit": (lambda seg: seg.put("v", bytes(3 * MIB)), shmvar.SegmentFullError),
    "put_many that cannot fit": (lambda seg: seg.put_many({"v": bytes(3 * MIB), "w": 1}), shmvar.SegmentFullError),
    "swap that cannot fit": (lambda seg: seg.swap("v", bytes(3 * MIB)), shmvar.SegmentFullError),
    "a version that is over": (lambda seg: seg.compare_and_put("n", 1, bytes(MIB // 2)), None),
}


@pytest.mark.parametrize("call", REFUSED)
def test_what_the_server_would_not_take_is_not_sent(server, new_key, call):
    segment = shmvar.attach(new_key(), MIB)
    segment["n"] = 1
    before = received(server)
    change, error = REFUSED[call]
    if error:
        with pytest.raises(error, match="resize"):
            change(segment)
    else:
        assert change(segment) is False
    assert not chunks(server, segment) and received(server) - before < 100_000
    segment.check()


def test_a_segment_that_is_gone_gets_no_chunks(server, seg):
    data = seg._requests.data
    seg.destroy()
    before = received(server)
    for call in (lambda: seg.put("v", bytes(MIB)), lambda: seg.put_many({"v": bytes(MIB)})):
        with pytest.raises(shmvar.SegmentNotFoundError):
            call()
    assert not server.call("KEYS", data + b"*") and received(server) - before < 100_000


LOST = {
    "compare_and_put": lambda seg: seg.compare_and_put("n", seg.version("n"), bytes(50_000)) is False,
    "setdefault": lambda seg: seg.setdefault("new", bytes(50_000)) == "another's",
    "modify": lambda seg: len(seg.modify("n", lambda _: bytes(50_000))) == 50_000,
    "swap": lambda seg: seg.swap("n", bytes(50_000)) == "another's",
}


@pytest.mark.parametrize("call", LOST)
def test_a_change_that_lost_its_turn_during_the_upload_leaves_no_chunks(server, seg, key, monkeypatch, call):
    seg["n"] = 1
    send = blobs.Upload.send
    turns = []

    def overtaken(self):
        send(self)
        if not turns:
            turns.append(1)
            with shmvar.attach(key) as other:
                other.put_many({"n": "another's", "new": "another's"})

    monkeypatch.setattr(blobs.Upload, "send", overtaken)
    assert LOST[call](seg) and turns
    assert len(chunks(server, seg)) == (call in ("modify", "swap"))
    seg.check()


def test_a_value_that_no_longer_fits_after_its_upload_leaves_no_chunks(server, new_key, monkeypatch):
    key = new_key()
    segment = shmvar.attach(key, 1 * MIB)
    send = blobs.Upload.send

    def smaller(self):
        send(self)
        with shmvar.attach(key) as other:
            other.resize(10_000)

    monkeypatch.setattr(blobs.Upload, "send", smaller)
    with pytest.raises(shmvar.SegmentFullError):
        segment["v"] = bytes(50_000)
    assert not chunks(server, segment)


def test_chunks_that_were_sent_before_the_server_was_full_are_removed(own_server):
    full = own_server()
    segment = shmvar.attach(full.url("full"))
    used = int(full.call("INFO", "memory")["used_memory"])
    full.call("CONFIG", "SET", "maxmemory", str(used + 10 * MIB))
    with pytest.raises(shmvar.SegmentFullError, match="maxmemory"):
        segment["v"] = bytes(24 * MIB)
    assert not chunks(full, segment)


class Interrupt(BaseException):
    """What a signal handler raises."""


def raises(*_arguments, **_named):
    raise Interrupt


INTERRUPTED = {
    "put": lambda seg: seg.put("v", bytes(24 * MIB)),
    "put_many": lambda seg: seg.put_many({"v": bytes(24 * MIB), "w": bytes(MIB)}),
    "put to a queue": lambda seg: seg.queue("q").put(bytes(24 * MIB)),
}


def at_the_second(monkeypatch, owner, name, action):
    """Has `action` called in place of the second call of a function."""
    function, calls = getattr(owner, name), []

    def wrapped(*arguments, **named):
        calls.append(name)
        return (action if len(calls) == 2 else function)(*arguments, **named)

    monkeypatch.setattr(owner, name, wrapped)
    return calls


@pytest.mark.parametrize("call", INTERRUPTED)
def test_an_upload_that_is_interrupted_leaves_no_chunks(server, big, monkeypatch, call):
    sent = at_the_second(monkeypatch, blobs, "_send", raises)
    with pytest.raises(Interrupt):
        INTERRUPTED[call](big)
    assert len(sent) == 2 and not chunks(server, big) and not len(big) and not big.queue("q").qsize()
    big.check()
    INTERRUPTED[call](big)
    big.check()


def test_an_interrupt_after_an_upload_leaves_the_chunks_to_the_change(server, big, monkeypatch):
    """The server may have the change already, and then it has a whole value."""
    change = Requests.change
    asked = at_the_second(monkeypatch, Requests, "change", lambda *a, **named: raises(change(*a, **named)))
    with pytest.raises(Interrupt):
        big["v"] = bytes(24 * MIB)
    assert len(asked) == 2 and chunks(server, big) and len(big["v"]) == 24 * MIB
    big.check()


def test_an_interrupted_upload_does_not_wait_long_for_a_server_that_stands_still(own_server, monkeypatch):
    server = own_server()
    segment = shmvar.attach(server.url("still", timeout=60))

    def stops(*_):
        server.process.send_signal(signal.SIGSTOP)
        stopped.append(time.monotonic())
        raise Interrupt

    stopped = []
    at_the_second(monkeypatch, blobs, "_send", stops)
    try:
        with pytest.raises(Interrupt):
            segment["v"] = bytes(24 * MIB)
        # One try, of a fifth of the time-out and 5 s at most.
        assert time.monotonic() - stopped[0] < 10 * SLOWER
    finally:
        server.process.send_signal(signal.SIGCONT)
