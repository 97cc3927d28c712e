"""Each call that stores something makes room in a segment that evicts."""

import random
import subprocess
import sys

import pytest

import shmvar

KIB = 1 << 10
VALUE = b"v" * 700
COMMAND = [sys.executable, "-m", "shmvar"]


def fill_up(segment):
    """Leaves not a byte."""
    while segment.info().free < 1_000:
        del segment[next(index for index in segment if isinstance(index, int))]
    length = 500
    segment.put(-1, b"x" * length, ttl=100_000)
    while (free := segment.info().free) > 0:
        length += min(free, 50_000)
        segment.put(-1, b"x" * length, ttl=100_000)


@pytest.fixture(params=["lru", "ttl"])
def full(request, new_key):
    """A segment that is full to the last byte, of small and large values that may all be evicted."""
    segment = shmvar.attach(new_key(), 64 * KIB, evict=request.param)
    segment["own"] = b"o"
    segment["number"] = 7
    segment.put("lives", b"l" * 30_000, ttl=5_000)
    draw = random.Random(1)
    number = 0
    while segment.info().evicted < 5:
        segment.put(number, b"x" * draw.choice([1, 100, 5_000]), ttl=1_000 + number)
        segment["lives"]
        number += 1
    segment["own"] = b"o"
    segment.put("number", 7)
    fill_up(segment)
    yield segment
    segment.check()
    segment.destroy()
    segment.detach()


def store_in_queue(segment):
    with_items = segment.queue("jobs")
    for number in range(10):
        with_items.put_nowait(VALUE)
        with_items.put(number, timeout=60)
    assert [with_items.get_nowait() for _ in range(20)][-1] == 9


def load(segment):
    """A dump of another segment, with a queue in it."""
    with shmvar.attach(f"{segment.key} other", 64 * KIB) as other:
        try:
            other.update({f"loaded {number}": VALUE for number in range(10)})
            other.queue("loaded").put(VALUE)
            dumped = subprocess.run([*COMMAND, "dump", other.key, "-"], capture_output=True, check=True).stdout
        finally:
            other.destroy()
    subprocess.run([*COMMAND, "load", segment.key, "-"], input=dumped, capture_output=True, check=True)
    assert segment["loaded 9"] == VALUE and segment.queue("loaded").get_nowait() == VALUE


def memoize(segment):
    calls = []

    @segment.memoize(name="doubled")
    def doubled(text):
        calls.append(text)
        return text * 2

    assert doubled("v" * 700) == doubled("v" * 700) and len(calls) == 1


CALLS = {
    "put": lambda segment: segment.put("new", VALUE),
    "put, large": lambda segment: segment.put("new", b"l" * 25_000),
    "put, with ttl": lambda segment: segment.put("new", VALUE, ttl=500),
    "put, larger than before": lambda segment: segment.put("own", VALUE),
    "[]": lambda segment: segment.__setitem__("new", VALUE),
    "put_many": lambda segment: segment.put_many({"new": VALUE, "own": VALUE}),
    "put_many of many": lambda segment: segment.put_many({f"new {n}": b"v" * 50 for n in range(40)}),
    "put_many, with ttl": lambda segment: segment.put_many({"new": VALUE, "own": VALUE}, ttl=500),
    "put_many, large": lambda segment: segment.put_many({"new": b"l" * 20_000, "own": VALUE}),
    "update": lambda segment: segment.update(new=VALUE),
    "|=": lambda segment: segment.__ior__({"new": VALUE}),
    "swap": lambda segment: segment.swap("own", VALUE),
    "setdefault": lambda segment: segment.setdefault("new", VALUE),
    "modify": lambda segment: segment.modify("own", lambda value: value * 700),
    "modify, anew": lambda segment: segment.modify("new", lambda value: VALUE, default=None),
    "compare_and_put": lambda segment: segment.compare_and_put("own", segment.version("own"), VALUE) or 1 / 0,
    "add": lambda segment: segment.add("counter", 1),
    "add, with ttl": lambda segment: segment.add("counter", 1, ttl=60),
    "add, larger than before": lambda segment: segment.add("number", 1 << 2_000),
    "expire, in its slot": lambda segment: segment.expire("number", 60) or 1 / 0,
    "expire, in a span": lambda segment: segment.expire("lives", None) or 1 / 0,
    "buffer": lambda segment: segment.buffer("new", 6_000),
    "queue": store_in_queue,
    "lock": lambda segment: segment.lock("new").acquire() or 1 / 0,
    "memoize": memoize,
    "load": load,
}


@pytest.mark.parametrize("name", CALLS)
def test_each_call_that_stores_makes_room(full, name):
    before = full.info()
    CALLS[name](full)
    assert "own" in full or full.evict == "lru"
    assert full.info().evicted > before.evicted or name in NEED_NO_ROOM, full.info()


NEED_NO_ROOM = {"lock", "expire, in a span"}
"""A lock is charged nothing. A value that does not expire any more is charged 8 bytes less."""


def test_an_array_makes_room(full):
    numpy = pytest.importorskip("numpy")
    before = full.info().evicted
    array = full.array("new", (30, 20), numpy.float64)
    array[:] = 1
    assert full.info().evicted > before and full["new"].sum() == 600


def test_expire_of_a_large_value_evicts_others_and_not_itself(new_key):
    """Its expiry is stored where it lies, and takes 8 bytes that the segment does not have."""
    with shmvar.attach(new_key(), 64 * KIB, evict="lru") as segment:
        segment["large"] = b"l" * 30_000
        version = segment.version("large")
        number = 0
        while segment.info().evicted == 0:
            segment[number] = None
            number += 1
            segment["large"]
        fill_up(segment)
        evicted = segment.info().evicted
        assert segment.expire("large", 60) and segment.info().evicted > evicted
        assert segment.version("large") == version and segment["large"] == b"l" * 30_000
        assert 0 < segment.stat("large").expires_in <= 60
        segment.check()
        segment.destroy()


# --- queues


def test_items_are_never_evicted(new_key):
    with shmvar.attach(new_key(), 64 * KIB, evict="lru") as segment:
        queue = segment.queue("jobs")
        put = 0
        # Others go until only the items are left; then a put waits as in any full segment.
        for number in range(100):
            segment[number] = VALUE
        with pytest.raises(shmvar.QueueFullError):
            while True:
                queue.put(VALUE + b"%d" % put, timeout=0.2)
                put += 1
        assert put > 64 * KIB / 1_000 and len(segment) == 0
        taken = queue.take(timeout=60)
        with taken as item:
            assert item == VALUE + b"0"
            with pytest.raises(shmvar.SegmentFullError):
                for number in range(100):
                    segment[f"large {number}"] = b"x" * 30_000
        assert [queue.get_nowait() for _ in range(put - 1)] == [VALUE + b"%d" % n for n in range(1, put)]
        segment["large"] = b"x" * 60_000
        segment.check()
        segment.destroy()


def test_a_put_that_waits_for_room_goes_on_once_something_may_be_evicted(new_key):
    with shmvar.attach(new_key(), 64 * KIB, evict="lru") as segment:
        held = segment.buffer("held", 60_000)
        queue = segment.queue(1)
        with pytest.raises(shmvar.QueueFullError):
            queue.put(b"i" * 20_000, timeout=0.01)
        held.release()
        del segment["held"]
        segment.update({number: b"x" * 6_000 for number in range(10)})
        queue.put(b"i" * 20_000, timeout=60)
        assert segment.info().evicted > 0 and queue.get() == b"i" * 20_000
        # What can never fit is an error at once, and evicts nothing.
        evicted = segment.info().evicted
        with pytest.raises(shmvar.SegmentFullError):
            queue.put(b"i" * 66_000)
        assert segment.info().evicted == evicted
        segment.check()
        segment.destroy()
