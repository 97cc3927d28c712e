"""Operations on caches: segments that evict, at their limit. Any value may be gone, and none is ever wrong."""

import contextlib
import struct
from typing import Any

import shmvar
from soak.worker import Plan, Worker, patient

POLICIES = ("lru", "ttl")
SIZE = 3 << 20
NUMBERS = 3_000
HEAD = struct.Struct("<II")
FIELD = 40_000


class Cache:
    """What a process has of one cache."""

    def __init__(self, segment: shmvar.Segment) -> None:
        self.segment = segment
        self.changes: shmvar.Changes | None = None
        self.told: dict[int | str, int] = {}
        self.views: list[tuple[int, memoryview]] = []


def key(plan: Plan, evict: str) -> str:
    return plan.side(f"cache-{evict}")


def open_one(worker: Worker) -> Cache:
    """One of the two; whoever comes first makes it."""
    evict = worker.random.choice(POLICIES)
    if evict not in worker.caches:
        worker.caches[evict] = Cache(patient(lambda: shmvar.attach(key(worker.plan, evict), SIZE, evict=evict)))
    return worker.caches[evict]


def index_of(number: int) -> int | str:
    return number if number % 2 else f"cached {number}"


def make(worker: Worker, number: int, most: float = 6) -> bytes:
    """A value of 8 bytes to 1 MB, which tells its number and its length."""
    length = int(10 ** worker.random.uniform(0, most))
    return HEAD.pack(number, length) + bytes([number % 251]) * length


def look(number: int, value: Any) -> None:
    found, length = HEAD.unpack_from(value)
    rest = bytes(value[HEAD.size :])
    assert (found, length) == (number, len(rest)), f"cached {number}: the value of {found}, {len(rest)} of {length}"
    assert rest == bytes([number % 251]) * length, f"cached {number}: {length} bytes, not all its own"


def ttl(worker: Worker, cache: Cache) -> float | None:
    """In a cache of `ttl` all have an expiry, so that all of it may be evicted."""
    return worker.random.choice([0.02, 5, 500, 500 if cache.segment.evict == "ttl" else None])


def store(worker: Worker) -> None:
    """It never fails for long: only another one's full memory file system can be in the way."""
    cache, number = open_one(worker), worker.random.randrange(NUMBERS)
    segment, index, value = cache.segment, index_of(number), make(worker, number)
    match worker.random.randrange(5):
        case 0:
            patient(lambda: segment.swap(index, value, ttl=ttl(worker, cache)))
        case 1:
            look(number, patient(lambda: segment.setdefault(index, value, ttl=ttl(worker, cache))))
        case _:
            patient(lambda: segment.put(index, value, ttl=ttl(worker, cache)))
    worker.count("stored in caches")


def batch(worker: Worker) -> None:
    cache, first = open_one(worker), worker.random.randrange(NUMBERS)
    numbers = range(first, first + worker.random.choice([2, 10, 30, 300]))
    values = {index_of(number): make(worker, number, 4.5 if len(numbers) < 50 else 2.5) for number in numbers}
    patient(lambda: cache.segment.put_many(values, ttl=ttl(worker, cache)))
    worker.count("batches in caches")


def read(worker: Worker) -> None:
    cache = open_one(worker)
    try:
        for number in worker.random.sample(range(NUMBERS), 10):
            value = cache.segment.get(index_of(number))
            if value is not None:
                look(number, value)
                worker.count("cached values compared")
        numbers = worker.random.sample(range(NUMBERS), 20)
        found = cache.segment.get_many(map(index_of, numbers))
        for number in numbers:
            if index_of(number) in found:
                look(number, found[index_of(number)])
        number = worker.random.choice(numbers)
        with contextlib.suppress(KeyError):
            cache.views.append((number, cache.segment.view(index_of(number))))
            del cache.views[:-5]
    except shmvar.SegmentBusyError as error:
        worker.failed(error)
    # What was evicted since stays as it is for whoever has a view of it.
    for number, view in cache.views:
        look(number, view)


def others(worker: Worker) -> None:
    """What is never evicted, and what has no room but by eviction."""
    cache, number = open_one(worker), worker.random.randrange(NUMBERS)
    segment = cache.segment
    try:
        match worker.random.randrange(6):
            case 0:
                segment.expire(index_of(number), ttl(worker, cache) or 500)
            case 1:
                field = segment.buffer("field", FIELD)
                assert set(bytes(field)) <= {0, 7}, "the field of a cache has other bytes than those that were stored"
                field[worker.random.randrange(FIELD)] = 7
            case 2:
                with segment.lock("a lock of caches", timeout=5):
                    segment.add("count", 1, ttl=500)
            case 3:
                queue = segment.queue("jobs", maxsize=20)
                queue.put_nowait(make(worker, 1, 4))
                look(1, queue.get_nowait())
            case 4:
                segment.trim()
            case 5 if worker.random.random() < 0.1:
                segment.clear()
    except (shmvar.SegmentFullError, shmvar.SegmentBusyError) as error:
        worker.failed(error)
    except shmvar.WaitTimeoutError:
        pass  # the lock of a stopped process, or a queue that others have emptied or filled


def follow(worker: Worker) -> None:
    """An eviction is told as a removal, and whatever is stored there later has a greater version."""
    cache, number = open_one(worker), worker.random.randrange(NUMBERS)
    index, removals = index_of(number), 0
    try:
        if cache.changes is None:
            cache.told, cache.changes = {}, cache.segment.changes(newer_than={}, timeout=0)
        for _ in range(2_000):
            told, version = next(cache.changes)
            assert version == 0 or version > cache.told.get(told, 0), f"{told!r}: {version} after {cache.told[told]}"
            removals += version == 0
            cache.told[told] = max(version, cache.told.get(told, 0))
    except shmvar.WaitTimeoutError:
        worker.count("times followed a cache to its end")
    except shmvar.SegmentBusyError as error:
        return worker.failed(error)
    if removals:
        worker.count("removals in caches told")
    try:
        version = cache.segment.version(index)
        found = cache.segment.wait(index, 0.01, newer_than=version)
        assert found > version or (found == 0 and version), f"{index!r}: {found} after {version}"
    except shmvar.WaitTimeoutError:
        pass
    except shmvar.SegmentBusyError as error:
        worker.failed(error)


def check_caches(plan: Plan) -> None:
    """While all processes stand still: every account, and every value."""
    for evict in POLICIES:
        if not shmvar.exists(key(plan, evict)):
            continue
        with shmvar.attach(key(plan, evict)) as segment:
            assert segment.evict == evict and segment.info().used <= SIZE
            segment.check()
            numbers = {index_of(number): number for number in range(NUMBERS + 300)}
            for index, value in segment.items():
                if index in numbers:
                    look(numbers[index], value)
                else:
                    assert index in ("field", "count"), f"a cache has {index!r}"
