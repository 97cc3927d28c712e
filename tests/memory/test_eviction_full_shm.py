"""A segment that evicts on a memory file system that is full, and with views held. Needs root and `unshare`."""

import textwrap

import helpers
import pytest

TINY = """
import random, subprocess
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", "/dev/shm"], check=True)

def hog(but):
    \"\"\"Fills the file system but for so many bytes.\"\"\"
    seen = os.statvfs("/dev/shm")
    with open("/dev/shm/hog", "wb") as file:
        if seen.f_bavail * seen.f_frsize > but:
            os.posix_fallocate(file.fileno(), 0, seen.f_bavail * seen.f_frsize - but)
"""


@helpers.needs_mounts
@pytest.mark.parametrize(
    "value",
    ["lambda n: n", "lambda n: 'x' * 40", "lambda n: b'x' * 3000", "lambda n: b'x' * (n * 997 % 90_000)"],
)
def test_every_value_is_stored_although_the_file_system_is_full(key, value):
    """The limit is as large as the file system: so memory ends before the limit does."""
    code = """
    segment = shmvar.attach(key, 4 << 20, evict="lru")
    value = eval(sys.argv[2])
    kept = segment.buffer("kept", 20_000)
    kept[:4] = b"kept"
    count = 120_000 if sys.argv[2] == "lambda n: n" else 40_000 if "40" in sys.argv[2] else 800
    for number in range(count):
        segment[number if number % 2 else str(number)] = value(number)
        if number % (count // 20) == 0:
            segment.check()
        if number == count // 2:
            hog(100_000)
    assert segment[count - 1] == value(count - 1) and bytes(kept[:4]) == b"kept"
    assert segment.info().evicted > 0, segment.info()
    segment.check()
    segment.clear()
    segment.trim()
    segment["large"] = b"x" * 1_000_000
    """
    helpers.run(TINY + textwrap.dedent(code), key, value, prefix=["unshare", "-m"], timeout=300)


@helpers.needs_mounts
def test_values_that_somebody_looks_at_stay_where_they_are(key):
    """Views of evicted values are whole; where memory is short, values without views go first."""
    code = """
    segment = shmvar.attach(key, 4 << 20, evict="lru")
    segment.update({f"held {n}": bytes([n]) * 25_000 for n in range(40)})
    views = {n: segment.view(f"held {n}") for n in range(40)}
    draw = random.Random(5)
    for number in range(400):
        segment[number] = bytes(draw.randrange(100, 60_000))
        if number % 100 == 0:
            assert all(view[0] == view[-1] == n for n, view in views.items())
    segment.check()
    # Beside 40 values with views, each value finds room.
    assert all(view == bytes([n]) * 25_000 for n, view in views.items())
    views.clear()
    segment["large"] = b"x" * 2_500_000
    segment.check()
    """
    helpers.run(TINY + textwrap.dedent(code), key, prefix=["unshare", "-m"], timeout=300)


@helpers.needs_mounts
def test_batches_fit_a_full_file_system_too(key):
    code = """
    segment = shmvar.attach(key, 4 << 20, evict="lru")
    draw = random.Random(5)
    for round in range(60):
        lengths = [draw.choice([draw.randrange(10, 2_000), 40_000]) for _ in range(draw.choice([3, 12, 30]))]
        batch = {f"{round} {n}": bytes(length) for n, length in enumerate(lengths)}
        segment.put_many(batch)
        assert segment.get_many(batch) == batch, round
    assert segment.info().evicted > 0
    segment.check()
    """
    helpers.run(TINY + textwrap.dedent(code), key, prefix=["unshare", "-m"], timeout=300)


@helpers.needs_mounts
def test_queues_locks_and_arrays_find_memory_too(key):
    code = """
    segment = shmvar.attach(key, 4 << 20, evict="lru")
    for number in range(1_000):
        segment[number] = b"x" * 3_000
    hog(0)
    segment.expire(999, 60)
    queue, locks = segment.queue("jobs"), []
    for number in range(300):
        queue.put(bytes(100 + number * 20), timeout=60)
        locks.append(segment.lock("name" * 60 + str(number)))
        assert locks[-1].acquire()
        if number % 30 == 0:
            segment.buffer(f"field {number}", 9_000)[:5] = b"field"
            segment.check()
        segment[number] = b"x" * 3_000
    assert segment.info().evicted > 0
    assert [len(queue.get_nowait()) for _ in range(300)] == [100 + number * 20 for number in range(300)]
    assert all(bytes(segment[f"field {number}"][:5]) == b"field" for number in range(0, 300, 30))
    for lock in locks:
        lock.release()
    segment.check()
    """
    helpers.run(TINY + textwrap.dedent(code), key, prefix=["unshare", "-m"], timeout=300)


@helpers.needs_mounts
def test_what_cannot_fit_is_an_error_with_numbers(key):
    code = """
    segment = shmvar.attach(key, 4 << 20, evict="lru")
    held = segment.buffer("held", 2_000_000)
    for number in range(140):
        segment[number] = b"x" * 10_000
    before = segment.info()
    assert before.evicted == 0, before
    try:
        segment["large"] = b"x" * 2_160_000
        raise SystemExit("it was stored")
    except shmvar.SegmentFullError as error:
        assert "/dev/shm" in str(error) and error.needed > 0, error
    # What cannot fit beside a value in place evicts nothing.
    after = segment.info()
    assert after.evicted == 0 and after.count == before.count, after
    assert "large" not in segment and "held" in segment
    segment["small"] = b"x" * 100_000
    segment.check()
    """
    helpers.run(TINY + textwrap.dedent(code), key, prefix=["unshare", "-m"], timeout=300)


@helpers.needs_mounts
def test_readers_use_values_while_the_table_of_stamps_grows_and_shrinks_on_a_full_file_system(key):
    """A stamp that is stored into a page that is gone would be a signal here."""
    code = """
    import threading
    segment = shmvar.attach(key, 4 << 20, evict="lru")
    children, parent = [], os.getpid()
    for _ in range(2):
        pid = os.fork()
        if not pid:
            # It ends with its parent, too, should that fail.
            while not segment.get("stop") and os.getppid() == parent:
                for number in range(0, 40_000, 7):
                    segment.get(number)
            os._exit(0)
        children.append(pid)
    for round in range(6):
        for number in range(40_000):
            segment[number] = number
        hog(0)
        segment.check()
        segment.clear()
        segment.trim()
        segment.check()
        os.unlink("/dev/shm/hog")
    segment["stop"] = True
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0]
    """
    helpers.run(TINY + textwrap.dedent(code), key, prefix=["unshare", "-m"], timeout=300)


@helpers.needs_mounts
def test_writers_clear_and_trim_beside_each_other_on_a_full_file_system(key):
    """Whatever one of them looks at may be freed by another one, and given back: a signal would end it here."""
    code = """
    segment = shmvar.attach(key, 4 << 20, evict="lru")
    children = []
    for seed in range(4):
        pid = os.fork()
        if not pid:
            cache, draw = shmvar.attach(key), random.Random(seed)
            for step in range(1_200):
                number, kind = draw.randrange(60_000), draw.random()
                if kind < 0.5:
                    cache[number] = bytes(int(10 ** draw.uniform(1, 4.5)))
                elif kind < 0.9:
                    cache.put_many({f"{number} {n}": bytes(draw.choice([5, 500])) for n in range(150)})
                elif kind < 0.95:
                    cache.clear()
                else:
                    cache.trim()
            os._exit(0)
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 4
    segment.check()
    """
    helpers.run(TINY + textwrap.dedent(code), key, prefix=["unshare", "-m"], timeout=300)


@helpers.needs_mounts
def test_a_limit_of_the_process_evicts_nothing(key):
    """`ulimit -f` is no lack of memory, and no victim would help."""
    code = """
    import resource, signal
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200m", "none", "/dev/shm"], check=True)
    segment = shmvar.attach(key, 100 << 20, evict="lru")
    for number in range(100):
        segment[number] = b"x" * 10_000
    least = os.stat("/dev/shm/" + segment.info().name).st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, resource.RLIM_INFINITY))
    try:
        segment["large"] = b"x" * 60_000_000
        raise SystemExit("it was stored")
    except shmvar.SegmentFullError as error:
        assert "ulimit" in str(error), error
    assert segment.info().evicted == 0 and len(segment) == 100
    """
    helpers.run(TINY + textwrap.dedent(code), key, prefix=["unshare", "-m"], timeout=300)
