"""Eviction among processes: hits as of the real thing, exact values, waiters, and processes that are killed."""

import helpers
import pytest
from helpers import caches

import shmvar

KIB = 1 << 10

READER = """
import random, sys
sys.path.insert(0, sys.argv[2])
from helpers import caches
cache = shmvar.attach(key)
number = int(sys.argv[-1])
hits, trace = 0, caches.zipf(20_000, 0.9, 30_000, seed=number)
for step, index in enumerate(trace):
    value = cache.get(index)
    if value is None:
        cache[index] = index.to_bytes(4, "little") * (10 + index % 40)
    else:
        assert value == index.to_bytes(4, "little") * (10 + index % 40), index
        hits += step >= 10_000
print(hits)
"""


def test_processes_share_one_cache_and_hit_as_often_as_with_a_real_one(key):
    with shmvar.attach(key, 256 * KIB, evict="lru") as segment:
        printed = helpers.run_in_processes(READER, key, helpers.machine.TESTS, count=3)
        hits = sum(map(int, printed)) / 60_000
        segment.check()
        assert segment.info().evicted > 1_000
        segment.destroy()
    real, real_hits = caches.TrueLru(256 * KIB), 0
    traces = [caches.zipf(20_000, 0.9, 30_000, seed=number) for number in range(3)]
    for step, indexes in enumerate(zip(*traces, strict=True)):
        for index in indexes:
            if real.get(index):
                real_hits += step >= 10_000
            else:
                real.put(index, 4 * (10 + index % 40) + caches.OVERHEAD)
    assert abs(hits - real_hits / 60_000) < 0.05, (hits, real_hits / 60_000)


@pytest.mark.parametrize("evict", ["lru", "ttl"])
def test_writers_that_are_killed_leave_a_whole_cache(key, evict):
    code = """
    import random
    cache = shmvar.attach(key)
    print("go", flush=True)
    while True:
        n = random.randrange(5_000)
        if n % 50:
            cache.put(n, bytes([n % 256]) * random.choice([10, 300, 9_000]), ttl=1_000 + n)
        else:
            cache.put_many({f"{n} {m}": n for m in range(30)} if n % 100 else {n: b"x" * 3_000, -n: n})
    """
    # What never expires here takes at most 221 KiB: under *ttl* it stays, and the rest is what can be evicted.
    with shmvar.attach(key, 512 * KIB, evict=evict) as segment:
        for _ in range(12):
            children = [helpers.start(code, key) for _ in range(2)]
            evicted = segment.info().evicted

            def evicts(before=evicted, children=children):
                assert all(child.poll() is None for child in children), "a child ended by itself"
                return segment.info().evicted > before + 50

            helpers.until(evicts)
            for child in children:
                child.kill()
                helpers.end(child)
            segment.put("after", 1, ttl=10_000)
            segment.check()
        segment.destroy()


def test_exact_counts_beside_eviction(key):
    """Counters that are in use by all stay, and no sum is lost while they do."""
    code = """
    cache = shmvar.attach(key)
    number = int(sys.argv[-1])
    for n in range(3_000):
        cache.add("count", 1)
        cache[f"{number} {n}"] = b"x" * 200
    print("done")
    """
    with shmvar.attach(key, 256 * KIB, evict="lru") as segment:
        helpers.run_in_processes(code, key, count=8)
        assert segment["count"] == 24_000
        segment.destroy()
