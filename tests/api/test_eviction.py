"""A segment that evicts: `attach(..., evict=)`, what goes, and what stays."""

import pickle
import random
import threading

import helpers
import pytest

import shmvar

KIB, MIB = 1 << 10, 1 << 20


@pytest.fixture
def cache(new_key):
    """Makes segments that evict."""
    made = []

    def make(size=64 * KIB, evict="lru", **options):
        made.append(shmvar.attach(new_key(), size, evict=evict, **options))
        return made[-1]

    yield make
    for segment in made:
        if not segment.detached:
            segment.check()
            segment.destroy()
            segment.detach()


# --- the option


def test_the_policy_belongs_to_the_segment(key):
    for evict in ("lru", "ttl", None):
        with shmvar.attach(key, evict=evict) as segment:
            assert segment.evict == evict == segment.info().evict and segment.info().evicted == 0
            with shmvar.attach(key) as same, shmvar.attach(key, evict=evict) as named:
                assert same.evict == named.evict == evict
            with shmvar.attach(key, readonly=True) as reader:
                assert reader.evict == evict == reader.info().evict
            for other in {"lru", "ttl"} - {evict}:
                with pytest.raises(ValueError, match=f"evict={evict!r}.*evict={other!r}"):
                    shmvar.attach(key, evict=other)
            found = [info for info in shmvar.segments() if info.key == key]
            assert [(info.evict, info.evicted) for info in found] == [(evict, 0)]
            assert pickle.loads(pickle.dumps(segment.info())) == segment.info()
            assert pickle.loads(pickle.dumps(segment)).evict == evict
            segment.destroy()


def test_a_wrong_policy_is_refused_and_nothing_is_made(key):
    for wrong in ("LRU", "", "fifo", "lru ", "\ud800"):
        with pytest.raises(ValueError, match='"lru", "ttl" or None'):
            shmvar.attach(key, evict=wrong)
    for wrong in (1, True, b"lru", ["lru"]):
        with pytest.raises(TypeError, match='"lru", "ttl" or None'):
            shmvar.attach(key, evict=wrong)
    assert not shmvar.exists(key)
    with pytest.raises(TypeError):
        shmvar.attach(key, 1000, "lru")


def test_a_segment_that_evicts_nothing_is_full_as_ever(key):
    with shmvar.attach(key, 4 * KIB) as segment:
        with pytest.raises(shmvar.SegmentFullError):
            for number in range(1000):
                segment[number] = number
        assert segment.info().evicted == 0 and segment[0] == 0
        segment.destroy()


# --- the limit


@pytest.mark.parametrize("size", [10, 100, 1_000, 20_000, 60_000])
def test_each_value_is_stored_and_the_oldest_goes(cache, size):
    segment = cache(256 * KIB)
    number, at_first = 0, None
    while at_first is None or number < 4 * at_first:
        segment[number] = bytes([number % 256]) * size
        assert segment[number] == bytes([number % 256]) * size
        number += 1
        if at_first is None and segment.info().evicted:
            at_first = number
    info = segment.info()
    assert info.count == number - info.evicted and info.used <= 256 * KIB
    assert info.used + size + 100 > 256 * KIB, "no more was evicted than had to be"
    # Two variables may share their stamps, so that one of them looks used when the other one is.
    assert sum(index in segment for index in range(at_first)) <= at_first / 10


def test_mixed_sizes_for_long_never_fill_it(cache):
    segment, draw = cache(MIB), random.Random(7)
    for number in range(20_000):
        index = draw.randrange(2_000) if draw.random() < 0.5 else f"text {draw.randrange(2_000)}"
        kind = draw.random()
        if kind < 0.7:
            value = bytes(int(10 ** draw.uniform(0, 5)))
            segment.put(index, value, ttl=draw.choice([None, None, 0.001, 60]))
        elif kind < 0.8:
            segment.put_many({f"{index} {n}": bytes(int(10 ** draw.uniform(0, 3.5))) for n in range(30)})
        elif kind < 0.9:
            segment.add(5_000 + draw.randrange(500), 1)
        else:
            segment.get(index)
        if number % 5_000 == 0:
            segment.check()
            segment.trim()
    segment.trim()
    info = segment.info()
    assert info.evicted > 1_000 and info.used <= MIB and info.resident < 3 * MIB


def test_what_can_never_fit_is_an_error_and_evicts_nothing(cache):
    segment = cache(64 * KIB)
    segment.update({number: b"x" * 1_000 for number in range(60)})
    before = segment.info()
    for store in (
        lambda: segment.put("large", b"x" * 65_537),
        lambda: segment.put(1, b"x" * 65_537),
        lambda: segment.put_many({n: b"x" * 1_000 for n in range(100)}),
        lambda: segment.buffer("field", 65_536),
    ):
        with pytest.raises(shmvar.SegmentFullError):
            store()
        assert (segment.info().evicted, segment.info().used) == (before.evicted, before.used)


def test_a_value_that_grows_evicts_others_and_not_itself(cache):
    segment = cache(64 * KIB)
    segment.update({number: b"x" * 1_000 for number in range(61)})
    segment["growing"] = b""
    for size in range(0, 60_000, 997):
        segment["growing"] = b"x" * size
        assert len(segment["growing"]) == size
    with pytest.raises(shmvar.SegmentFullError):
        segment["growing"] = b"x" * 66_000
    assert len(segment["growing"]) == size


def test_versions_go_on_and_conditions_hold(cache):
    segment = cache(64 * KIB)
    version = segment.put("first", 1) or segment.version("first")
    while "first" in segment:
        segment[segment.info().count + segment.info().evicted] = b"x" * 500
    assert segment.version("first") == 0
    assert not segment.compare_and_put("first", version, 2)
    assert segment.compare_and_put("first", 0, 2) and segment.version("first") > version
    assert segment.setdefault("first", 3) == 2


def test_waiters_are_woken_when_it_goes(cache):
    segment = cache(64 * KIB)
    segment["watched"] = 1
    version, woken = segment.version("watched"), []
    with shmvar.attach(segment.key) as handle:
        thread = threading.Thread(
            target=lambda: woken.append((handle.wait("watched", 60, newer_than=version), "watched" in handle))
        )
        thread.start()
        number = 0
        while "watched" in segment:
            segment[number] = b"x" * 500
            number += 1
        thread.join(60)
    assert woken == [(0, False)]


# --- what stays


def test_arrays_in_place_and_locks_stay(cache):
    segment = cache(64 * KIB)
    buffers = [segment.buffer(f"buffer {n}", 5_000) for n in range(5)]
    for n, buffer in enumerate(buffers):
        buffer[:5] = bytes([n]) * 5
    with segment.lock("a"), segment.lock(1):
        for number in range(2_000):
            segment[number] = b"x" * random.Random(number).randrange(3_000)
        assert segment.info().locks.keys() == {"a", 1}
    assert all(bytes(segment.buffer(f"buffer {n}", 5_000)[:5]) == bytes([n]) * 5 for n in range(5))
    # With these there is no room for more than so many bytes.
    room = segment.size - sum(segment.stat(f"buffer {n}").size for n in range(5))
    with pytest.raises(shmvar.SegmentFullError):
        segment["large"] = b"x" * room
    segment["large"] = b"x" * (room - 200)
    assert len(segment) == 6
    del segment["large"]
    assert len(segment) == 5 and buffers[4][0] == 4


def test_a_batch_never_evicts_its_own(cache):
    """Neither what it stores, nor what is there under its indexes before: it is made whole or not at all."""
    for length, size in ((10, 50), (10, 500), (100, 100), (300, 100), (40, 1_400)):
        segment = cache(64 * KIB)
        for number in range(1_000):
            segment[f"other {number}"] = b"o" * 100
        batch = {f"own {number}": bytes([number % 256]) * size for number in range(length)}
        for turn in range(5):
            segment.put_many({index: value + b"+" * turn for index, value in batch.items()})
            assert segment.get_many(batch).keys() == batch.keys(), (length, size)
            for number in range(50):
                segment[f"other {turn} {number}"] = b"o" * 20
            segment.put_many(batch)
            assert segment.get_many(batch) == batch
        assert segment.info().evicted > 0


def test_a_batch_that_fails_has_stored_nothing(cache):
    segment = cache(64 * KIB)
    held = segment.buffer("held", 30_000)
    segment.update({number: b"x" * 100 for number in range(100)})
    with pytest.raises(shmvar.SegmentFullError):
        segment.put_many({f"own {number}": b"x" * 1_000 for number in range(40)})
    assert not any(isinstance(index, str) and index.startswith("own") for index in segment)
    held.release()


# --- uses


def fill(segment, first=0, size=100):
    """Fills it until something goes; the numbers begin at `first`."""
    evicted, number = segment.info().evicted, first
    while segment.info().evicted == evicted:
        segment[number] = b"x" * size
        number += 1
    return number


USES = {
    "get": lambda segment, index: segment.get(index),
    "[]": lambda segment, index: segment[index],
    "view": lambda segment, index: segment.view(index),
    "get_many": lambda segment, index: segment.get_many([index]),
    "get_many of many": lambda segment, index: segment.get_many([index, *range(-50, 0)]),
    "put": lambda segment, index: segment.put(index, b"new"),
    "put_many": lambda segment, index: segment.put_many({index: b"new"}),
    "touch": lambda segment, index: segment.touch(index),
    "swap": lambda segment, index: segment.swap(index, b"new"),
    "modify": lambda segment, index: segment.modify(index, lambda value: value),
}
NO_USES = {
    "nothing": lambda segment, index: None,
    "in": lambda segment, index: index in segment,
    "has": lambda segment, index: segment.has(index),
    "stat": lambda segment, index: segment.stat(index),
    "version": lambda segment, index: segment.version(index),
    "repr": lambda segment, index: repr(segment),
    "iteration": lambda segment, index: list(segment),
    "items": lambda segment, index: list(segment.items()),
    "values": lambda segment, index: list(segment.values()),
    "copy": lambda segment, index: segment.copy(),
    "expire": lambda segment, index: segment.expire(index, 5_000),
    "waiting": lambda segment, index: segment.wait_any([index], 60, newer_than={index: 0}),
    "changes": lambda segment, index: next(segment.changes(newer_than={}, timeout=60)),
}


def survives(segment, index, act):
    """Whether a variable is still there after three times as much was stored as there is room for."""
    count = fill(segment)
    segment[index] = b"x" * 100
    for number in range(count, 4 * count):
        segment[number] = b"x" * 100
        if number % (count // 8) == 0 and index in segment:
            act(segment, index)
    return index in segment


@pytest.mark.parametrize("name", USES)
def test_what_is_used_stays(cache, name):
    assert all(survives(cache(), index, USES[name]) for index in (-1, "text"))


@pytest.mark.parametrize("name", NO_USES)
def test_a_look_is_no_use(cache, name):
    assert not any(survives(cache(), index, NO_USES[name]) for index in (-1, "text"))


def test_a_counter_and_a_large_value_that_are_used_stay(cache):
    segment = cache(256 * KIB)
    segment["large"] = b"l" * 50_000
    segment.add("count", 1)
    for number in range(20_000):
        segment[number] = b"x" * 100
        if number % 200 == 0:
            segment.add("count", 1)
            assert segment["large"][0] == ord("l")
    assert segment["count"] == 101


def test_reads_through_a_handle_that_may_not_write_are_no_uses(cache):
    segment = cache()
    with shmvar.attach(segment.key, readonly=True) as reader:
        assert not survives(segment, "text", lambda _, index: reader[index])


# --- ttl


def test_what_expires_soonest_goes_and_what_never_does_stays(cache):
    segment = cache(64 * KIB, "ttl")
    for number in range(100):
        segment[f"for good {number}"] = b"x" * 100
    draw = random.Random(3)
    lives = {number: draw.uniform(1_000, 100_000) for number in range(2_000)}
    for number, ttl in lives.items():
        segment.put(number, b"x" * 100, ttl=ttl)
    assert all(f"for good {number}" in segment for number in range(100))
    left = [lives[index] for index in segment if isinstance(index, int)]
    assert segment.info().evicted == 2_000 - len(left) > 1_000
    # Those that are left are nearly the last ones to expire.
    best = sorted(lives.values())[-len(left) :]
    assert sum(left) / len(left) > 0.9 * sum(best) / len(best)


def test_one_that_expires_is_found_among_many_that_do_not(cache):
    segment = cache(MIB, "ttl")
    number = 0
    while segment.info().free > 1_000:
        segment[number] = b"x" * 100
        number += 1
    segment.put("expires", b"x" * 300, ttl=1_000)
    while "expires" in segment:
        segment[number] = b"x" * 100
        number += 1
    with pytest.raises(shmvar.SegmentFullError):
        for more in range(20):
            segment[number + more] = b"x" * 100
    assert segment.info().evicted == 1 and all(n in segment for n in range(number))


# --- damage


def test_damaged_words_of_the_stamps_lead_nowhere(cache):
    """Every number is survived: no signal, no absent page is taken for a stamp, and values are as they were."""
    segment = cache(64 * KIB)
    with helpers.Raw(segment) as raw:
        fill(segment)
        at_first = segment.info().resident
        for stamps in (*range(40), 255, 1 << 31, (1 << 32) - 1, 12):
            raw.pack("<I", raw.STAMPS, stamps)
            for clock, inserted in ((0, 0), ((1 << 32) - 1, (1 << 64) - 1), (77, 1 << 63)):
                raw.pack("<I", raw.CLOCK, clock)
                raw.pack("<Q", raw.INSERTED, inserted)
                for number in range(20):
                    segment[f"{stamps} {number}"] = b"x" * 100
                    assert segment[f"{stamps} {number}"] == b"x" * 100
                segment.put_many({number: number for number in range(100)})
                assert len(segment.get_many(range(100))) == 100
            raw.pack("<I", raw.STAMPS, stamps)
            segment.trim()
        raw.pack("<I", raw.STAMPS, 12)
        assert segment.info().resident < at_first + MIB


def test_a_damaged_policy_is_refused(cache):
    segment = cache()
    segment[1] = 1
    with helpers.Raw(segment) as raw:
        raw.pack("<I", raw.EVICT, 3)
        for readonly in (False, True):
            with pytest.raises(shmvar.CorruptSegmentError, match="evict"):
                shmvar.attach(segment.key, readonly=readonly)
        assert segment[1] == 1
        raw.pack("<I", raw.EVICT, 1)


# --- the table of stamps


def test_many_variables_and_few_again(cache):
    """The table of stamps grows with what is stored, and goes with `trim`."""
    segment = cache(16 * MIB)
    at_first = segment.info().resident
    for number in range(300_000):
        segment[number] = number
    assert segment.info().evicted == 0
    bound = 48 * 300_000 + 4 * 300_000 + 256 * KIB
    assert segment.info().resident <= bound
    assert segment[5] == 5
    segment.check()
    segment.clear()
    segment.trim()
    assert segment.info().resident <= at_first + 64 * KIB
    segment.check()
    for number in range(600_000):
        segment[number] = number
    assert segment.info().evicted > 50_000
