"""Values on a server: they come back as they were, large ones whole, and run no code unless the caller says so."""

import os
import random
import threading

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


def test_no_variable_is_viewable_for_each_view_is_a_copy(key):
    values = {"int": 5, "text": "short", "array": numpy.arange(3_000_000), "list": ["text"] * 50_000}
    for options in ({"trust": True}, {}, {"readonly": True, "trust": True}):
        with shmvar.attach(key, **options) as segment:
            if not segment.readonly:
                segment.update(values)
            assert not any(segment.stat(index).viewable for index in values)
            assert not numpy.shares_memory(segment.view("array"), segment.view("array"))


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


def test_setdefault_returns_the_default_itself_and_runs_no_code_of_it(seg):
    evil = Evil()
    assert seg.setdefault("evil", evil) is evil and seg.stat("evil").type.endswith("system")


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
