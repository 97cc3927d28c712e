"""A change that the server refuses has changed nothing: a script asks for every right before its first write."""

import contextlib
import time

import helpers
import pytest
from helpers import servers

import shmvar

LARGE = b"x" * 20_000


def prepare(segment):
    segment.clear()
    segment.put_many({"n": 1, "old": LARGE, "text": "t"})
    segment.put("ttl", 5, ttl=1000)
    segment.put("dead", LARGE, ttl=0.001)
    helpers.until(lambda: "dead" not in segment)


CALLS = {
    "put": lambda seg: seg.put("n", 2),
    "put of a new one": lambda seg: seg.put("m", 2),
    "put with a ttl": lambda seg: seg.put("n", 2, ttl=100),
    "put that ends a ttl": lambda seg: seg.put("ttl", 2),
    "put of a large value": lambda seg: seg.put("new", LARGE),
    "put over a large value": lambda seg: seg.put("old", 2),
    "add": lambda seg: seg.add("n"),
    "touch": lambda seg: seg.touch("n"),
    "expire": lambda seg: seg.expire("n", 100),
    "remove": lambda seg: seg.remove("n"),
    "remove of a large value": lambda seg: seg.remove("old"),
    "put_many": lambda seg: seg.put_many({"n": 2, "m": 3}),
    "put_many with a ttl": lambda seg: seg.put_many({"n": 2, "m": 3}, ttl=100),
    "put_many that ends a ttl": lambda seg: seg.put_many({"ttl": 2}),
    "put_many of large values": lambda seg: seg.put_many({"old": LARGE, "new": LARGE}),
    "trim": lambda seg: seg.trim(),
    "resize": lambda seg: seg.resize(1 << 25),
    "clear": lambda seg: seg.clear(),
    "destroy": lambda seg: seg.destroy(),
}


def kept(server, segment):
    """All that the server keeps of a segment, but slots and chunks that will expire."""
    head = server.call("HGETALL", segment._requests.prefix)
    found = {field: value for field, value in head.items() if not field.startswith(b"c:")}
    for name in server.call("KEYS", segment._requests.data + b"*"):
        if server.call("PTTL", name) == -1:
            # The order of a hash's fields may differ between two dumps of it.
            kind = server.call("TYPE", name)
            commands = {b"hash": ("HGETALL",), b"zset": ("ZRANGE", name, 0, -1, "WITHSCORES"), b"string": ("GET",)}
            command = commands[kind]
            found[name] = server.call(*command, *([name] if len(command) == 1 else []))
    return found


@pytest.fixture(scope="module")
def guarded(server):
    started = servers.Server(server.options[0], port=servers.free_port())
    yield started
    started.end()


WITHOUT = ["-hset", "-hdel", "-zadd", "-zrem", "-persist", "-unlink", "-spublish", "-set", "resetchannels"]


@pytest.mark.parametrize("lacking", WITHOUT)
def test_a_change_that_lacks_a_right_has_changed_nothing(guarded, lacking):
    every = [word for word in servers.rights("app") if lacking != "resetchannels" or not word.startswith("&")]
    guarded.call("ACL", "SETUSER", "lacks", "reset", "on", ">secret", *every, lacking)
    refused = 0
    for name, call in CALLS.items():
        whole = shmvar.attach(guarded.url("lacks"))
        prepare(whole)
        if "large value" in name:
            # The question whether it fits comes first, is answered, and removes what has expired.
            whole.trim()
        before = kept(guarded, whole)
        segment = shmvar.attach(guarded.tcp("lacks", "lacks:secret@"))
        try:
            call(segment)
        except shmvar.SegmentAccessError as error:
            refused += 1
            assert "Remedies" in str(error) and "lacks" in str(error)
            assert kept(guarded, whole) == before, name
        if name != "destroy" or shmvar.exists(guarded.url("lacks")):
            whole.check()
            whole.destroy()
    assert refused


@pytest.mark.parametrize("which", ["v", "x", "b"])
def test_a_key_of_another_type_stops_a_change_before_its_first_write(guarded, which):
    for name, call in CALLS.items():
        whole = shmvar.attach(guarded.url("types"))
        prepare(whole)
        broken = whole._requests.data + which.encode()
        guarded.call("DEL", broken)
        guarded.call("SET", broken, "another type")
        before = kept(guarded, whole)
        try:
            call(whole)
        except (shmvar.IncompatibleSegmentError, shmvar.CorruptSegmentError):
            assert name not in ("clear", "destroy") and kept(guarded, whole) == before, name
        with contextlib.suppress(shmvar.SegmentNotFoundError):
            whole.destroy()
        left = guarded.call("KEYS", broken[:-1] + b"*")
        # Without the list of blobs nobody knows their chunks.
        assert which == "b" or not [key for key in left if guarded.call("PTTL", key) == -1]
        if left:
            guarded.call("DEL", *left)


def test_a_damaged_record_that_expired_stops_nobody(seg, server):
    now = round(time.time() * 1e6)
    for record in (b"", b"B", b"Bshort", b"B" + bytes(16), b"B" + bytes(8) + (now - 5).to_bytes(8, "big") + b"short"):
        seg.clear()
        prefix, variables, deadlines, _ = seg._requests.keys
        server.call("HSET", variables, "sbad", record)
        server.call("ZADD", deadlines, now - 5, "sbad")
        server.call("HSET", prefix, "x", 1, "used", 32 + len(record) + 3)
        assert seg.add("n") == 1
        assert dict(seg) == {"n": 1}
        seg.check()


def test_a_repetition_after_lost_answers_and_a_right_that_is_missing_is_not_carried_out_again(guarded):
    """Where the channels were forgotten, each repetition of an `add` was carried out once more."""
    every = [word for word in servers.rights("app") if not word.startswith("&")]
    guarded.call("ACL", "SETUSER", "silent", "reset", "on", ">secret", *every)
    whole = shmvar.attach(guarded.url("silent"))
    between = servers.Proxy(guarded.socket)
    try:
        segment = shmvar.attach(guarded.tcp("silent", "silent:secret@", port=between.port))
        between.lose_after = lambda data: b"EVAL" in data and between.lost < 3
        with pytest.raises(shmvar.SegmentAccessError):
            segment.add("n")
        assert between.lost == 3 and "n" not in whole
    finally:
        between.end()
        whole.destroy()
