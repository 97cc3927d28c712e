"""No room: the segment's own limit reached by each call, and the server's memory, with what gives room again."""

import helpers
import pytest

import shmvar

pytest.importorskip("redis", reason="needs redis-py: shmvar[valkey]")

MIB = 1 << 20


def state(seg):
    return seg.copy(), {index: seg.stat(index) for index in seg if seg.stat(index).expires_in is None}


# Of a segment that has "n" (5), "t" (a text) and room for 40 bytes more.
TAKE = {
    "seg[i] =": lambda seg: seg.__setitem__("new", 1),
    "put": lambda seg: seg.put("new", "x" * 100),
    "put over another": lambda seg: seg.put("t", "x" * 200),
    "put with a time": lambda seg: seg.put("n", "x" * 60, ttl=1000),
    "put of a large one": lambda seg: seg.put("new", bytes(100_000)),
    "add of a new one": lambda seg: seg.add("new"),
    "add of a long int": lambda seg: seg.add("n", 10**100),
    "swap": lambda seg: seg.swap("t", "x" * 200),
    "swap of a large one": lambda seg: seg.swap("t", bytes(100_000)),
    "modify": lambda seg: seg.modify("t", lambda old: old * 9),
    "compare_and_put": lambda seg: seg.compare_and_put("t", seg.version("t"), "x" * 200),
    "setdefault": lambda seg: seg.setdefault("new", 1),
    "put_many": lambda seg: seg.put_many({"n": 6, "new": "x" * 10}),
    "put_many with a large one": lambda seg: seg.put_many({"n": 6, "new": bytes(100_000)}),
    "update": lambda seg: seg.update({"n": 6, "new": "x" * 10}),
    "|=": lambda seg: seg.__ior__({"n": 6, "new": "x" * 10}),
    "resize": lambda seg: seg.resize(100),
    "copy": lambda seg: copied_into(seg),
}


def copied_into(seg):
    with shmvar.attach(seg.url + "-source") as source:
        try:
            source["new"] = "x" * 100
            shmvar.copy(source, seg)
        finally:
            source.destroy()


# Needs no room, or less than was there.
GIVE = {
    "remove": lambda seg: seg.remove("t"),
    "del": lambda seg: seg.__delitem__("t"),
    "pop": lambda seg: seg.pop("t"),
    "popitem": lambda seg: seg.popitem(),
    "put of less": lambda seg: seg.put("t", 1),
    "swap for less": lambda seg: seg.swap("t", 1),
    "modify to less": lambda seg: seg.modify("t", len),
    "put_many of less": lambda seg: seg.put_many({"t": 1, "n": 1}),
    "touch": lambda seg: seg.touch("t"),
    "expire": lambda seg: seg.expire("n", None),
    "add": lambda seg: seg.add("n", 1),
    "trim": lambda seg: seg.trim(),
    "clear": lambda seg: seg.clear(),
}


@pytest.fixture
def tight(new_key):
    """A segment with 40 bytes of room."""
    seg = shmvar.attach(new_key())
    seg.put_many({"n": 5, "t": "text " * 10})
    seg.resize(seg.info().used + 40)
    return seg


@pytest.mark.parametrize("call", TAKE)
def test_each_call_that_does_not_fit_says_so_and_changes_nothing(server, tight, call):
    before = state(tight)
    with pytest.raises(shmvar.SegmentFullError) as caught:
        TAKE[call](tight)
    assert caught.value.needed > caught.value.free and "resize" in str(caught.value)
    assert state(tight) == before and tight.info().free == 40
    assert not server.call("KEYS", tight._requests.data + b"b:*")
    tight.check()
    # With more room it goes.
    tight.resize(1 << 20)
    if call != "resize":
        TAKE[call](tight)
    tight.check()


@pytest.mark.parametrize("call", GIVE)
def test_each_call_that_needs_no_room_works_in_a_full_segment(tight, call):
    tight.resize(tight.info().used)
    GIVE[call](tight)
    tight.check()


def test_expire_that_does_not_fit_changes_nothing(tight):
    tight.resize(tight.info().used)
    before = state(tight)
    with pytest.raises(shmvar.SegmentFullError):
        tight.expire("n", 1000)
    assert state(tight) == before
    tight.check()


@pytest.fixture(scope="module")
def full(server):
    """A server without memory: whatever takes some is refused."""
    from helpers import servers

    started = servers.Server(server.options[0])
    yield started
    started.end()


VALUES = {"n": 5, "t": "text", "f": 0.5, "big": bytes(100_000), "list": [1, 2]}


@pytest.fixture
def squeezed(full, request):
    """A segment on that server, which has filled up since."""
    full.call("CONFIG", "SET", "maxmemory", "0")
    full.call("FLUSHALL")
    seg = shmvar.attach(full.url("full", timeout=5))
    seg.put_many(VALUES)
    seg.put_many({f"dead {number}": bytes(20_000) for number in range(3)}, ttl=0.001)
    helpers.until(lambda: len(seg) == len(VALUES))
    full.call("CONFIG", "SET", "maxmemory", "1mb")
    yield seg
    full.call("CONFIG", "SET", "maxmemory", "0")


REFUSED = {
    "put": lambda seg: seg.put("n", 6),
    "put of a new one": lambda seg: seg.put("new", 6),
    "put of a large one": lambda seg: seg.put("new", bytes(100_000)),
    "put with a time": lambda seg: seg.put("n", 6, ttl=100),
    "add": lambda seg: seg.add("n"),
    "swap": lambda seg: seg.swap("n", 6),
    "modify": lambda seg: seg.modify("n", str),
    "compare_and_put": lambda seg: seg.compare_and_put("n", seg.version("n"), 6),
    "setdefault": lambda seg: seg.setdefault("new", 6),
    "put_many": lambda seg: seg.put_many({"n": 6, "new": 7}),
    "put_many with a large one": lambda seg: seg.put_many({"n": 6, "new": bytes(100_000)}),
    "touch": lambda seg: seg.touch("n"),
    "expire": lambda seg: seg.expire("n", 100),
    "attach": lambda seg: shmvar.attach(seg.url + "-another"),
    "attach that creates": lambda seg: shmvar.attach(seg.url + "-another", create=True),
}


@pytest.mark.parametrize("call", REFUSED)
def test_a_server_without_memory_refuses_each_change_whole(full, squeezed, call):
    with helpers.promptly(), pytest.raises(shmvar.SegmentFullError, match="memory is full"):
        REFUSED[call](squeezed)
    assert dict(squeezed) == VALUES and not shmvar.exists(squeezed.url + "-another")
    squeezed.check()
    full.call("CONFIG", "SET", "maxmemory", "0")
    REFUSED[call](squeezed)
    squeezed.check()


ALLOWED = {
    "remove": lambda seg: seg.remove("big"),
    "remove of a missing one": lambda seg: seg.remove("missing"),
    "del": lambda seg: seg.__delitem__("t"),
    "pop": lambda seg: seg.pop("big"),
    "popitem": lambda seg: [seg.popitem() for _ in VALUES],
    "trim": lambda seg: seg.trim(),
    "clear": lambda seg: seg.clear(),
    "resize": lambda seg: seg.resize(2 << 30),
    "destroy": lambda seg: seg.destroy(),
    "destroy by key": lambda seg: shmvar.destroy(seg.url),
    "reads": lambda seg: (
        seg["big"],
        seg.get_many(["n", "big"]),
        list(seg),
        seg.info(),
        seg.stat("n"),
        seg.version("n"),
    ),
    "attach": lambda seg: shmvar.attach(seg.url).get("n"),
    "attach, read only": lambda seg: shmvar.attach(seg.url, readonly=True).get("n"),
}


@pytest.mark.parametrize("call", ALLOWED)
def test_what_frees_and_what_reads_works_on_a_server_without_memory(full, squeezed, call):
    with helpers.promptly():
        ALLOWED[call](squeezed)
    if "destroy" in call:
        assert not [name for name in full.call("KEYS", squeezed._requests.prefix + b"*") if b":gone" not in name]
        return
    squeezed.check()
    if call == "clear":
        assert squeezed.info().used == 0 and not full.call("KEYS", squeezed._requests.data + b"b:*")


@pytest.mark.parametrize("create", [None, False])
def test_attach_raises_the_limit_on_a_server_without_memory_and_never_lowers_it(full, squeezed, create):
    key, size = squeezed.url, squeezed.size
    for asked in (size * 4, size * 2, 1):
        with helpers.promptly():
            assert shmvar.attach(key, asked, create=create).size == size * 4 == squeezed.size
    with pytest.raises(shmvar.SegmentExistsError):
        shmvar.attach(key, size * 8, create=True)
    assert squeezed.size == size * 4
    with pytest.raises(shmvar.SegmentNotFoundError):
        shmvar.attach(key + "-another", create=False)


def test_where_nothing_can_be_created_the_error_names_what_helps(full, squeezed):
    for create in (None, True):
        with pytest.raises(shmvar.SegmentFullError, match="Remedies: a larger maxmemory; fewer variables"):
            shmvar.attach(squeezed.url + "-another", create=create)


def test_a_batch_of_too_many_variables_says_to_split_it(tight, monkeypatch):
    from shmvar._remote import mapping

    monkeypatch.setattr(mapping, "BATCH_LIMIT", 4)
    for call in (lambda: tight.put_many(dict.fromkeys(range(5))), lambda: tight.get_many(range(5))):
        with pytest.raises(ValueError, match=r"a batch has 4 variables at most.*: split it"):
            call()
    tight.clear()
    tight.put_many(dict.fromkeys(range(4)))
    assert len(tight.get_many(range(4))) == 4


def test_a_server_that_is_emptied_takes_values_again(full, squeezed):
    """By the way that a user has: remove what is there until it fits."""
    used = int(full.call("INFO", "memory")["used_memory"])
    full.call("CONFIG", "SET", "maxmemory", "0")
    squeezed.put_many({number: b"x" * 15_000 for number in range(200)})
    full.call("CONFIG", "SET", "maxmemory", str(used + MIB))
    with pytest.raises(shmvar.SegmentFullError):
        squeezed["new"] = 1
    with helpers.promptly(20):
        for number in range(200):
            squeezed.remove(number)
            try:
                squeezed["new"] = 1
                break
            except shmvar.SegmentFullError:
                pass
    assert squeezed["new"] == 1
    squeezed.check()
