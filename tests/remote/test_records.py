"""Values on a server: large ones, hostile records, code in values, the same calls and documentation as locally."""

import ast
import contextlib
import inspect
import os
import random
import threading
from pathlib import Path

import helpers
import numpy
import pytest

import shmvar

pytest.importorskip("redis", reason="needs redis-py: shmvar[valkey]")

VALUES = [
    10**599, -(10**700), 1e308, float("inf"), -0.0, None, True, "x" * 16_300, b"y" * 17_000, bytearray(b"z" * 70_000),
    numpy.arange(100), numpy.arange(3_000_000), {"a": numpy.ones((3, 4), order="F"), "b": [b"x" * 50_000] * 3},
]  # fmt: skip


@pytest.mark.parametrize("trust", [True, None])
@pytest.mark.parametrize("number", range(len(VALUES)))
def test_a_value_comes_back_as_it_was(key, trust, number):
    value = VALUES[number]
    with shmvar.attach(key, trust=trust) as segment:
        segment["v"] = value
        for got in (segment["v"], segment.get_many(["v"])["v"], segment.get_versioned("v")[0], dict(segment)["v"]):
            numpy.testing.assert_equal(got, value)
            assert type(got) is type(value)
        segment.put("v", value, ttl=1000)
        numpy.testing.assert_equal(segment["v"], value)
        assert segment.check().variables == 1 and segment.stat("v").size == segment.info().used


def test_an_array_is_writable_and_a_view_is_not(key):
    for trust in (True, None):
        with shmvar.attach(key, trust=trust) as segment:
            array = numpy.arange(100_000)
            array.flags.writeable = False
            segment["a"] = array
            segment["a"][0] = 1
            view = segment.view("a")
            assert not view.flags.writeable and view[0] == 0
            segment["b"] = bytearray(b"x" * 100_000)
            assert segment.view("b").readonly and segment.view("b") == b"x" * 100_000


def test_replaced_and_removed_large_values_leave_no_chunks(server, seg):
    def chunks():
        name = seg._requests.data + b"b:*"
        return len(server.call("KEYS", name))

    seg["a"] = b"x" * 9_000_000
    assert chunks() == 3
    seg["a"] = b"y" * 5_000_000
    assert chunks() == 2
    seg["a"] = "short"
    assert chunks() == 0
    seg.put_many({"a": b"x" * 20_000, "b": b"x" * 20_000})
    seg.put_many({"a": b"x" * 30_000, "b": 1})
    assert chunks() == 1 and seg.pop("a") == b"x" * 30_000 and chunks() == 0
    seg.put("t", b"x" * 20_000, ttl=0.05)
    helpers.until(lambda: "t" not in seg)
    seg.trim()
    assert chunks() == 0 and seg.info().used == seg.stat("b").size
    seg["c"] = b"x" * 20_000
    seg.clear()
    assert chunks() == 0
    seg["c"] = b"x" * 20_000
    seg.destroy()
    assert chunks() == 0


def test_readers_of_a_large_value_see_it_whole_while_it_is_replaced(seg, key):
    seg["v"] = b"\0" * 5_000_000
    end = threading.Event()

    def write():
        with shmvar.attach(key) as other:
            number = 0
            while not end.is_set():
                number = (number + 1) % 256
                other["v"] = bytes([number]) * 5_000_000

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in helpers.looks(turns=15, seconds=1):
            value = seg["v"]
            assert len(value) == 5_000_000 and value == value[:1] * 5_000_000
    finally:
        end.set()
        thread.join(60)


def test_a_writer_that_is_killed_in_an_upload_leaves_the_old_value_and_chunks_that_expire(server, seg, key, children):
    seg["v"] = "old"
    code = """
    import shmvar._remote.blobs as blobs
    s = shmvar.attach(key)
    done = blobs.upload
    def upload(*arguments):
        done(*arguments)
        print("sent", flush=True)
        time.sleep(100)
    blobs.upload = upload
    s["v"] = b"x" * 9_000_000
    """
    children.append(helpers.start(code, key))
    children[0].kill()
    children[0].wait()
    left = server.call("KEYS", seg._requests.data + b"b:*")
    assert seg["v"] == "old" and len(left) == 3 and all(0 < server.call("PTTL", name) <= 600_000 for name in left)
    seg.check()
    server.call("DEL", *left)


class Evil:
    def __reduce__(self):
        return os.system, ("true",)


def test_values_run_no_code_unless_the_caller_says_so(seg, key):
    seg["evil"] = Evil()
    assert seg.trusted is False and seg.stat("evil").type.endswith("system")
    for call in (
        seg.__getitem__,
        seg.get,
        seg.view,
        seg.pop,
        lambda index: seg.get_many([index]),
        lambda _: seg.popitem(),
    ):
        with pytest.raises(shmvar.UntrustedValueError):
            call("evil")
    assert "evil" in seg
    with shmvar.attach(key, trust=True) as trusting:
        assert trusting.trusted and trusting["evil"] == 0


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


@pytest.mark.parametrize("seed", range(3))
def test_random_calls_agree_with_a_dict_and_what_is_kept_twice_agrees_after_each(seg, seed):
    rng, model = random.Random(seed), {}
    indexes = [1, -5, "a", "ключ", "k" * 1000]
    values = [0, 7, 10**15, -(10**20), 0.5, "text", b"x" * 20_000, [1, {"a": None}], numpy.int64(5).item()]
    for _ in range(150):
        index, value, ttl = rng.choice(indexes), rng.choice(values), rng.choice([None, None, 1000])
        call = rng.choice(
            ["put", "add", "remove", "pop", "swap", "many", "setdefault", "cas", "expire", "touch", "clear"]
        )
        before = seg.version(index)
        if call == "put":
            seg.put(index, value, ttl=ttl)
            model[index] = value
        elif call == "add":
            amount = rng.choice([1, -3, 10**15, 10**25, 0.25])
            old = model.get(index, 0)
            if type(old) in (int, float):
                model[index] = old + amount
                assert seg.add(index, amount, ttl=ttl) == model[index]
            else:
                with pytest.raises(TypeError):
                    seg.add(index, amount)
        elif call == "remove":
            assert seg.remove(index) == (model.pop(index, None) is not None)
        elif call == "pop":
            assert seg.pop(index, "none") == model.pop(index, "none")
        elif call == "swap":
            assert seg.swap(index, value, "none", ttl=ttl) == model.get(index, "none")
            model[index] = value
        elif call == "many":
            batch = {each: rng.choice(values) for each in rng.sample(indexes, 3)}
            seg.put_many(batch, ttl=ttl)
            model |= batch
        elif call == "setdefault":
            assert seg.setdefault(index, value, ttl=ttl) == model.setdefault(index, value)
        elif call == "cas":
            assert seg.compare_and_put(index, before, value) and not seg.compare_and_put(index, before, "no")
            model[index] = value
        elif call == "expire":
            assert seg.expire(index, ttl) == (index in model)
            assert seg.version(index) == before
        elif call == "touch":
            assert (seg.touch(index) > before) == (index in model)
        elif rng.random() < 0.2:
            seg.clear()
            model.clear()
        assert seg == model and len(seg) == len(model)
        report = seg.check()
        assert report.variables == len(model) and report.used == sum(seg.stat(index).size for index in model)


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


def test_setdefault_returns_what_it_stored_though_others_may_not_run_its_code(seg):
    assert seg.setdefault("evil", Evil()) == 0 and seg.stat("evil").type.endswith("system")


def expired(server, seg, count):
    """Fills a segment with variables that have expired."""
    seg.put_many({f"dead{number}": 1 for number in range(count)}, ttl=0.001)
    helpers.until(lambda: "dead0" not in seg)


def test_popitem_finds_the_one_that_lives_among_many_that_expired(server, seg):
    seg["live"] = 1
    expired(server, seg, 6000)
    before = int(server.call("INFO", "stats")["total_commands_processed"])
    assert seg.popitem() == ("live", 1)
    # Commands within scripts count, too: some four for each variable that is removed.
    assert int(server.call("INFO", "stats")["total_commands_processed"]) - before < 40_000
    assert len(seg) == 0


@pytest.mark.parametrize("call", ["put", "put_many", "resize"])
def test_what_has_expired_leaves_its_room_however_much_it_is(server, new_key, call):
    seg = shmvar.attach(new_key(), 1 << 20)
    expired(server, seg, 12_000)
    if call == "resize":
        seg.resize(1000)
    else:
        value = bytes(1_000_000)
        seg.put("v", value) if call == "put" else seg.put_many({"v": value})
    seg.check()


# --- the same interface

STUB = {
    node.name: {call.name: call for call in node.body if isinstance(call, ast.FunctionDef)}
    for node in ast.parse(Path(shmvar.__file__).with_name("_core.pyi").read_text()).body
    if isinstance(node, ast.ClassDef)
}
"""By class: its calls and properties, as the stub of the local ones declares them."""

REMOTE = {
    "Segment": shmvar.attach,
    "Lock": lambda url: shmvar.attach(url).lock("l"),
    "Queue": lambda url: shmvar.attach(url).queue("q"),
    "TakenItem": lambda url: shmvar.attach(url).queue("q").take(),
    "Changes": lambda url: shmvar.attach(url).changes(),
}
"""By class: how an object is made that stands for it on a server."""
MORE = {"Segment": {"aio", "url"}, "Lock": {"fence", "lost"}}
"""What these have beyond the local ones."""


def public(name):
    return not name.startswith("_") or (name.startswith("__") and name.endswith("__"))


def shape(arguments):
    given = [name.arg for name in [*arguments.posonlyargs, *arguments.args]]
    return given[1:], [name.arg for name in arguments.kwonlyargs]


@pytest.mark.parametrize("kind", REMOTE)
def test_a_call_has_the_signature_and_documentation_of_the_local_one(kind, key):
    there = type(REMOTE[kind](key))
    for name, stub in STUB[kind].items():
        if not public(name):
            continue
        remote = inspect.getattr_static(there, name)
        if not name.startswith("__"):
            assert getattr(there, name).__doc__, f"{name} has a text"
        if isinstance(remote, property):
            assert [ast.unparse(decorator) for decorator in stub.decorator_list] == ["property"], name
            continue
        if name.startswith("__"):
            continue
        found = inspect.signature(remote).parameters.values()
        plain = [p.name for p in found if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)][1:]
        assert (plain, [p.name for p in found if p.kind is p.KEYWORD_ONLY]) == shape(stub.args), name


@pytest.mark.parametrize("kind", REMOTE)
def test_nothing_is_missing_and_what_is_more_is_known(kind, key):
    there = type(REMOTE[kind](key))
    assert [name for name in STUB[kind] if public(name) and not hasattr(there, name)] == []
    own = {name for name in dir(there) if not name.startswith("_")}
    assert own - {*STUB[kind]} == MORE.get(kind, set())


def test_array_and_buffer_name_what_to_use_instead(seg):
    for call in (lambda: seg.array("a", 3), lambda: seg.buffer("a", 3)):
        with pytest.raises(shmvar.UnsupportedError, match=r"`put`.*`view`") as caught:
            call()
        assert isinstance(caught.value, OSError) and isinstance(caught.value, ValueError)


def test_segments_of_a_server_are_listed_and_their_names_are_their_own(server, new_key):
    keys = [5, "5", "a b", "{x}", "ключ", "%41", "A", "x" * 128, -(2**63)]
    base = server.url()
    import urllib.parse

    urls = {key: base + (str(key) if isinstance(key, int) else "s:" + urllib.parse.quote(key)) for key in keys}
    try:
        for key, url in urls.items():
            with shmvar.attach(url, create=True) as segment:
                segment["key"] = key
        found = {info.key: info for info in shmvar.segments(base)}
        assert set(keys) <= set(found) and all(found[key].count == 1 for key in keys)
        for key, url in urls.items():
            with shmvar.attach(url, create=False) as segment:
                assert segment["key"] == key == segment.key
    finally:
        assert [shmvar.destroy(url) for url in urls.values()] == [True] * len(urls)


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
