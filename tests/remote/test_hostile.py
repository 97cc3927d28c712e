"""Somebody changes what the server keeps of a segment: bytes and types of all of its keys.

What a caller gets is data or a typed error, in bounded time, and `clear` and `destroy` are remedies.
"""

import contextlib
import itertools

import helpers
import numpy
import pytest

import shmvar
from shmvar._remote.identity import destroy_id

pytest.importorskip("redis", reason="needs redis-py: shmvar[valkey]")

VALUES = {"n": 5, "f": 0.5, "a": numpy.arange(3000), "big": b"x" * 20_000, "x": {"a": [1, 2.5]}}


def calls_on(seg, index):
    """Reads first, then changes; the last ones mend."""
    yield from (
        lambda: seg[index],
        lambda: seg.view(index),
        lambda: seg.get_many([index, "other"]),
        lambda: seg.stat(index),
        lambda: seg.copy(),
        lambda: len(seg),
        lambda: seg.version(index),
        lambda: seg.size,
        seg.info,
        seg.check,
        lambda: seg.touch(index),
        lambda: seg.add(index),
        lambda: seg.expire(index, 100),
        lambda: seg.compare_and_put(index, seg.version(index), 1),
        lambda: seg.swap("other", 1),
        lambda: seg.setdefault("third", b"y" * 20_000),
        lambda: seg.put_many({index: 1, "other": 2}, ttl=100),
        lambda: seg.modify(index, str),
        lambda: seg.pop(index),
        lambda: seg.put(index, 5),
        lambda: seg.remove(index),
        seg.popitem,
        seg.trim,
        lambda: seg.resize(1 << 30),
        seg.clear,
    )


def survives(seg, index):
    """Every call gives data or an error of shmvar, or what the same call raises for such data."""
    with helpers.promptly(30):
        for call in calls_on(seg, index):
            with contextlib.suppress(shmvar.Error, KeyError, TypeError, OverflowError):
                call()


def numbers(data):
    """Other bytes in the place of one."""
    return {0, 255, data ^ 1, data ^ 128, ord("9"), ord("-")} - {data}


def begin(new_key, ttl=None):
    seg = shmvar.attach(new_key().replace("#", "?timeout=1#"))
    seg.put_many(VALUES, ttl=ttl)
    return seg


def of(hash_name):
    return {
        "head": lambda seg: seg._requests.prefix,
        "variables": lambda seg: seg._variables,
        "listed": lambda seg: seg._requests.keys[3],
    }[hash_name]


# Which fields, by the beginning of their name, and how many of their bytes.
PLACES = [("head", b"id", 12), ("head", b"seq", 17), ("head", b"used", 6), ("head", b"size", 10), ("head", b"x", 1)]
PLACES += [("head", b"f", 1), ("head", b"at", 16), ("head", b"c:", 30), ("listed", b"", 1)]
PLACES += [("variables", b"sn", 18), ("variables", b"sf", 20), ("variables", b"sbig", 39), ("variables", b"sx", 60)]


@pytest.mark.parametrize("ttl", [None, 1000])
@pytest.mark.parametrize("place", PLACES, ids=lambda place: f"{place[0]} {place[1].decode()}")
def test_each_byte_of_what_is_kept_may_be_another(server, new_key, place, ttl):
    where, field_begins, most = place
    seg = begin(new_key, ttl)
    index = field_begins[1:].decode() if where == "variables" else "big"
    key = of(where)(seg)
    dumps = {name: server.call("DUMP", name) for name in server.call("KEYS", seg._requests.prefix + b"*")}
    fields = [name for name in server.call("HKEYS", key) if name.startswith(field_begins)]
    (field,) = [name for name in fields if len(name) == len(field_begins)] or fields[:1]
    data = server.call("HGET", key, field)
    # Each byte in turn gets one other value, which differs from byte to byte.
    others = itertools.cycle(range(6))
    for at in range(min(len(data), most)):
        options = sorted(numbers(data[at]))
        changed = data[:at] + bytes([options[next(others) % len(options)]]) + data[at + 1 :]
        server.call("DEL", *server.call("KEYS", seg._requests.prefix + b"*"))
        for name, dump in dumps.items():
            server.call("RESTORE", name, 0, dump)
        server.call("HSET", key, field, changed)
        survives(seg, index)
    for changed in (b"", data[: len(data) // 2], data + data, b"9" * 400, b"1e400", b"nan", b"-1", b"\xff" * 40):
        server.call("DEL", *server.call("KEYS", seg._requests.prefix + b"*"))
        for name, dump in dumps.items():
            server.call("RESTORE", name, 0, dump)
        server.call("HSET", key, field, changed)
        survives(seg, index)


TYPES = {
    "text": ("SET", "x"),
    "list": ("RPUSH", "x"),
    "set": ("SADD", "x"),
    "hash": ("HSET", "x", "y"),
    "sorted set": ("ZADD", "1", "x"),
    "stream": ("XADD", "*", "x", "y"),
}


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("key", ["P", "v", "x", "b", "chunk", "l"])
def test_a_key_of_another_type_is_a_typed_error_and_nothing_is_half_done(server, new_key, key, kind):
    seg = begin(new_key, 1000)
    requests = seg._requests
    chunks = server.call("KEYS", requests.data + b"b:*")
    data = requests.data
    name = {"P": requests.prefix, "chunk": chunks[0]}.get(key, data + key.encode())
    server.call("DEL", name)
    command, *arguments = TYPES[kind]
    server.call(command, name, *arguments)
    survives(seg, "big")
    # What is left can be destroyed and made anew, by who knows the id.
    if key != "P":
        with contextlib.suppress(shmvar.IncompatibleSegmentError):
            seg.clear()
            seg["again"] = 1
            assert dict(seg) == {"again": 1}
            seg.check()
        assert destroy_id(seg._open, requests.prefix, requests.id)
        # Where the list of large values is gone, nobody knows the names of their chunks.
        assert not set(server.call("KEYS", data + b"*")) - set(chunks if key == "b" else chunks[:1])
    else:
        with contextlib.suppress(shmvar.Error):
            assert shmvar.attach(seg.url)
        server.call("DEL", name)


def test_a_change_that_meets_another_type_has_changed_nothing(server, new_key):
    """The types are looked at before the first write."""
    calls = {
        "x": lambda seg: seg.put("n", 6, ttl=10),
        "b": lambda seg: seg.put("big", b"z" * 30_000),
        "v": lambda seg: seg.put("n", 6),
    }
    for key, call in calls.items():
        seg = begin(new_key)
        name = seg._requests.data + key.encode()
        server.call("DEL", name)
        server.call("SET", name, "x")
        before = server.call("HMGET", seg._requests.prefix, "seq", "used", "x")
        with pytest.raises(shmvar.IncompatibleSegmentError):
            call(seg)
        assert server.call("HMGET", seg._requests.prefix, "seq", "used", "x") == before
        assert server.call("GET", name) == b"x"
        server.call("DEL", name)
