"""What a server has of variables may be hostile, damaged, evicted or cut short: data or a typed error."""

import contextlib
import random

import helpers
import numpy
import pytest

import shmvar

pytest.importorskip("redis", reason="needs redis-py: shmvar[valkey]")


def record(version, kind, payload, deadline=None):
    mark = version.to_bytes(8, "big") + (b"" if deadline is None else deadline.to_bytes(8, "big"))
    return (kind.upper() if deadline is not None else kind) + mark + payload


HOSTILE = [
    b"",
    b"i",
    b"i" + bytes(7),
    b"I" + bytes(12),
    record(1, b"i", b""),
    record(1, b"i", b"1_0"),
    record(1, b"i", b"9" * 5000),
    record(1, b"f", b"one"),
    record(1, b"p", b""),
    record(1, b"p", b"not a pickle"),
    record(1, b"o", b""),
    record(1, b"o", b"\xff" * 64),
    record(1, b"o", (1 << 60).to_bytes(8, "little") * 4),
    record(1, b"z", b"x"),
    record(1 << 63, b"i", b"5"),
    record(1, b"i", b"5", 1 << 63),
    record(1, b"b", b""),
    record(1, b"b", b"p" + bytes(8) + b"\xff" * 4 + (1 << 60).to_bytes(8, "big")),
    record(1, b"b", b"p" + bytes(8) + (1).to_bytes(4, "big") + (100).to_bytes(8, "big")),
    record(1, b"b", b"q" + bytes(8) + (1).to_bytes(4, "big") + (100).to_bytes(8, "big")),
    b"\xff" * 40,
    b"\0" * 40,
]


def calls_on(seg, index):
    """Calls that meet what is stored; the last ones remove it."""
    yield from (
        lambda: seg[index],
        lambda: seg.get_many([index]),
        lambda: seg.stat(index),
        lambda: dict(seg),
        lambda: seg.view(index),
        lambda: seg.version(index),
        lambda: seg.touch(index),
        seg.info,
        seg.check,
        lambda: seg.add(index),
        lambda: seg.modify(index, str),
        lambda: seg.pop(index),
        lambda: seg.put(index, 5),
        lambda: seg.remove(index),
        seg.clear,
    )


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_a_hostile_record_is_data_or_a_typed_error(server, new_key, number):
    key = new_key()
    seg = shmvar.attach(key.replace("#", "?timeout=1#"))
    seg["other"] = "kept"
    data = HOSTILE[number]
    server.call("HSET", seg._variables, "sbad", data)
    with helpers.promptly(30):
        for call in calls_on(seg, "bad"):
            with contextlib.suppress(shmvar.Error, KeyError, TypeError):
                call()
    seg.destroy()


@pytest.mark.parametrize("turn", range(3))
def test_any_changed_byte_of_what_the_server_has_is_data_or_a_typed_error(server, new_key, turn):
    rng = random.Random(turn)
    key = new_key().replace("#", "?timeout=1#")
    for _ in range(40):
        seg = shmvar.attach(key)
        seg.put_many({"n": 5, "x": {"a": [1, 2.5]}, "a": numpy.arange(3000)}, ttl=rng.choice([None, 100]))
        where = rng.choice([seg._requests.prefix, seg._variables])
        fields = server.call("HKEYS", where)
        field = rng.choice(fields)
        data = bytearray(server.call("HGET", where, field))
        if data:
            data[rng.randrange(len(data))] = rng.randrange(256)
        server.call("HSET", where, field, bytes(data))
        for call in calls_on(seg, rng.choice("nxa")):
            with contextlib.suppress(shmvar.Error, KeyError, TypeError):
                call()
        server.call("DEL", seg._requests.prefix)


def test_a_chunk_that_is_missing_is_damage_and_not_somebody_busy(server, key):
    seg = shmvar.attach(key)
    seg["big"] = bytes(50_000)
    (chunk,) = server.call("KEYS", seg._requests.data + b"b:*")
    server.call("DEL", chunk)
    with helpers.promptly():
        for call in (lambda: seg["big"], lambda: seg.stat("big"), seg.copy, lambda: seg.get_many(["big"])):
            with pytest.raises(shmvar.CorruptSegmentError, match="chunk"):
                call()
    seg["big"] = 1
    seg.check()


def test_a_value_that_was_removed_before_the_segment_shrank_is_missing(seg, key, monkeypatch):
    from shmvar._remote.handle import Handle

    seg["big"] = bytes(50_000)
    largest = Handle._largest

    def shrunk(self):
        monkeypatch.setattr(Handle, "_largest", largest)
        with shmvar.attach(key) as other:
            other.remove("big")
            other.resize(1000)
        return largest(self)

    monkeypatch.setattr(Handle, "_largest", shrunk)
    with pytest.raises(KeyError):
        seg["big"]


def test_variables_that_the_server_evicted_make_no_negative_length(server, key):
    seg = shmvar.attach(key)
    seg.put("a", 1, ttl=0.001)
    helpers.until(lambda: "a" not in seg)
    server.call("DEL", seg._variables)
    assert len(seg) == 0 and seg.info().count == 0


def test_a_hostile_count_of_chunks_neither_holds_the_server_nor_stops_its_remedies(server, new_key):
    for count in (400_000, 10**15, "1e300", "inf", "nan", "zz", -5):
        for call in (
            lambda s: s.put("v", 1),
            lambda s: s.put_many({"v": 1}),
            lambda s: s.clear(),
            lambda s: s.destroy(),
        ):
            seg = shmvar.attach(new_key())
            seg["v"] = bytes(50_000)
            listed = seg._requests.keys[3]
            (blob,) = server.call("HKEYS", listed)
            server.call("HSET", listed, blob, count)
            with helpers.promptly(5):
                call(seg)
            with contextlib.suppress(shmvar.SegmentNotFoundError):
                seg.destroy()


def test_a_damaged_head_is_a_typed_error_and_hides_no_other_segment(server, seg, new_key):
    seg["a"] = 1
    for head in ({"f": 1}, {"f": 1, "id": "x", "size": "abc"}, {"f": 1, "id": "x", "at": "9" * 18, "size": 5}):
        key = new_key()
        name = "shmvar:{s" + key.partition("#")[2] + "}"
        facts = {"seq": 1, "used": 0, "size": 5, "x": 0, "at": 1} if "at" in head else {}
        for field, value in {**facts, **head}.items():
            server.call("HSET", name, field, value)
        with pytest.raises(shmvar.CorruptSegmentError):
            shmvar.attach(key).info()
        with pytest.raises(shmvar.CorruptSegmentError):
            shmvar.attach(key, readonly=True).info()
        assert seg.key in [info.key for info in shmvar.segments(server.url())]
        server.call("DEL", name)


def test_a_field_that_is_no_index_is_a_typed_error(server, key):
    seg = shmvar.attach(key)
    for field in (b"zzz", b"i01", b"i" + b"9" * 5000, b"s\xff", b""):
        server.call("HSET", seg._variables, field, record(1, b"i", b"5"))
        for call in (lambda: list(seg), seg.copy, seg.popitem):
            with pytest.raises(shmvar.CorruptSegmentError, match="no field"):
                call()
        seg.clear()


def test_a_record_that_is_cut_short_can_be_replaced_and_removed(server, seg):
    for data in (b"", b"i", b"B1234567"):
        for call in (lambda: seg.put("bad", 5), lambda: seg.put_many({"bad": 5}), lambda: seg.remove("bad")):
            seg.clear()
            server.call("HSET", seg._variables, "sbad", data)
            server.call("HSET", seg._requests.prefix, "used", 32 + 3 + len(data))
            for damaged in (lambda: seg["bad"], lambda: seg.add("bad"), lambda: seg.touch("bad")):
                with pytest.raises(shmvar.CorruptSegmentError):
                    damaged()
            call()
            assert seg.get("bad", 5) == 5
            seg.check()


def test_the_quick_way_to_an_int_says_what_the_long_way_says():
    from shmvar._remote.records import Record, small_int

    rng = random.Random(5)
    texts = [
        b"",
        b"5",
        b"-5",
        b"--5",
        b"-",
        b"+5",
        b" 5",
        b"5 ",
        b"1_0",
        b"0",
        b"-0",
        b"007",
        b"9" * 18,
        b"9" * 19,
        b"9" * 20,
    ]
    texts += ["٣".encode(), b"\xff", b"5\n", b"0x1", b"-" + b"9" * 18, b"1" * 600]
    versions = [0, 1, 2**53 - 1, 2**53, 2**63, 1795975022474667]
    records = [
        record(version, kind, text) for version in versions for kind in (b"i", b"f", b"p", b"I") for text in texts
    ]
    records += [HOSTILE[rng.randrange(len(HOSTILE))] for _ in range(100)]
    quick = 0
    for data in records:
        found = small_int(data)
        if found is not None:
            quick += 1
            assert Record("x", data).value("x", False) == found and Record("x", data).deadline is None
    assert quick > 20 and small_int(record(2**53, b"i", b"5")) is None
