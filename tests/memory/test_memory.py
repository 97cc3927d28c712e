"""Memory follows what is stored: the bounds of the guide, and what readers see while records are moved."""

import os
import random
import signal
import time

import helpers
import pytest

import shmvar

MIB = 1 << 20


def taken(segment):
    info = segment.info()
    assert os.stat(f"{helpers.SHM}/{info.name}").st_blocks * 512 == info.resident
    return info


def filled(segment, sizes, most):
    """Stores values of random sizes up to so many bytes; returns what is stored."""
    chance, model = random.Random(7), {}
    while segment.info().used < most:
        size = chance.choice(sizes)
        index = len(model)
        model[index] = segment[index] = bytes([index % 251]) * size
    return model


SIZES = {
    "one length each": [[length] for length in (100, 129, 300, 505, 1_017, 2_041, 2_900, 4_089, 8_200, 9_353, 16_400)],
    "large": [[length] for length in (21_825, 33_000, 70_001, 262_145, MIB)],
    "mixed": [[int(10 ** (2 + n / 10)) for n in range(41)], [100, 5_000, 40_000], list(range(100, 2_000, 57))],
}


@pytest.mark.parametrize("sizes", [sizes for group in SIZES.values() for sizes in group], ids=str)
def test_values_filled_once_take_a_quarter_more_than_they_are_charged(key, sizes):
    with shmvar.attach(key, 64 * MIB) as segment:
        model = filled(segment, sizes, 6 * MIB)
        info = taken(segment)
        assert info.resident <= 1.25 * info.used + MIB
        chance = random.Random(3)
        for index in chance.sample(sorted(model), len(model) * 9 // 10):
            del segment[index], model[index]
        segment.trim()
        info = taken(segment)
        assert info.resident <= 1.5 * info.used + MIB and info.spare == 0
        assert dict(segment) == model
        segment.check()
        segment.clear()
        segment.trim()
        assert taken(segment).resident <= 256 << 10
        segment.check()


@pytest.mark.parametrize("length", [8_192, 8_193, 12_289, 16_383, 16_384, 20_481, 24_577])
def test_arrays_too_take_a_quarter_more_than_they_are_charged(key, length):
    numpy = pytest.importorskip("numpy")
    with shmvar.attach(key, 64 * MIB) as segment:
        while segment.info().used < 16 * MIB:
            number = len(segment)
            segment[number] = numpy.zeros(length, "u1") if number % 2 else bytearray(length)
            info = segment.info()
            assert info.resident <= 1.25 * info.used + MIB
        taken(segment)
        segment.check()


@pytest.mark.parametrize("value, most", [(lambda n: n % 1000, 48), (lambda n: "x" * 40, 100)], ids=["int", "str"])
def test_small_values_of_any_number_take_few_bytes_each(key, value, most):
    with shmvar.attach(key, 1 << 30) as segment:
        for number in range(60_000):
            segment[number] = value(number)
            if number % 211 == 0:
                assert segment.info().resident <= most * (number + 1) + (256 << 10), number
        segment.check()


def test_what_small_values_left_serves_large_ones_and_the_other_way_round(key):
    with shmvar.attach(key, 64 * MIB) as segment:
        for turn in range(4):
            for number in range(200):
                segment[number] = b"x" * (30_000 if turn % 2 else 300) + bytes(number)
            for number in range(20_000 if turn % 2 == 0 else 0):
                segment[f"small {number}"] = b"y" * 290
            first = taken(segment).resident if turn == 1 else 0
            segment.clear()
        assert first < 16 * MIB and taken(segment).resident < 16 * MIB


def test_too_much_that_is_free_is_given_back_without_being_asked_for(key):
    with shmvar.attach(key, 1 << 30) as segment:
        for number in range(300_000):
            segment[number] = b"x" * 400
        full = taken(segment).resident
        assert full > 130 * MIB
        for number in range(300_000):
            if number % 20:
                del segment[number]
        info = taken(segment)
        assert info.resident <= 2.25 * info.used + 66 * MIB < full
        segment.clear()
        assert taken(segment).resident <= 66 * MIB
        segment.check()


WATCH = """
import random
segment = shmvar.attach(key, readonly=len(sys.argv) > 2)
print("ready", flush=True)
chance, turns, end = random.Random(os.getpid()), 0, time.monotonic() + 4
kept = [f"kept {n}" for n in range(60)] + list(range(60))
def right(index, value):
    number = int(index.split()[1]) if isinstance(index, str) else index
    assert value == bytes([number % 256]) * (number * 97 % 3_000 + 20), (index, value[:5], len(value))
while time.monotonic() < end:
    for index in chance.sample(kept, 20):
        right(index, segment[index])
    for index, value in segment.get_many(chance.sample(kept, 10)).items():
        right(index, value)
    for _ in range(1 if turns % 20 == 0 else 0):
        there = list(segment)
        assert len(set(there)) == len(there) and set(kept) <= set(there)
        assert segment.get("never there") is None
    turns += 1
print(turns)
"""


@pytest.mark.slow
def test_readers_find_everything_whole_while_it_is_moved_and_memory_goes_back(key, children):
    def value(number):
        return bytes([number % 256]) * (number * 97 % 3_000 + 20)

    with shmvar.attach(key, 64 * MIB) as segment:
        segment.update({f"kept {n}": value(n) for n in range(60)} | {n: value(n) for n in range(60)})
        readers = [helpers.start(WATCH, key), helpers.start(WATCH, key), helpers.start(WATCH, key, "readonly")]
        children += readers
        turns = 0
        while any(reader.poll() is None for reader in readers):
            # Leaves grow, are split, replaced and joined; slabs are filled and emptied; records that stay are moved.
            others = {n: b"y" * (n * 31 % 2_500) for n in range(1_000, 1_000 + (4_000, 300)[turns % 2])}
            for index, other in others.items():
                segment[index] = other
            for index in others:
                del segment[index]
            segment.trim()
            turns += 1
        for reader in readers:
            assert reader.wait(20) == 0 and int(reader.stdout.read()) > 20
        assert turns > 3
        segment.check()
        segment.trim()
        assert taken(segment).resident < 2 * MIB


def test_a_reader_that_stands_still_costs_memory_but_neither_progress_nor_a_wrong_value(key, children):
    reading = """
    segment = shmvar.attach(key)
    print("ready", flush=True)
    signal.alarm(60)
    while True:
        for number in range(50):
            assert segment.get(number, b"x" * 500) == b"x" * 500
    """
    with shmvar.attach(key, 64 * MIB) as segment:
        segment.update({number: b"x" * 500 for number in range(20_000)})
        reader = helpers.start(reading, key)
        children.append(reader)
        for turn in range(6):
            time.sleep(0.01 * turn)
            os.kill(reader.pid, signal.SIGSTOP)
            began = time.monotonic()
            for number in range(50, 20_000):
                segment.remove(number)
            segment.trim()
            segment.update({number: b"x" * 500 for number in range(20_000)})
            assert time.monotonic() - began < 20
            os.kill(reader.pid, signal.SIGCONT)
        time.sleep(0.2)
        assert reader.poll() is None
        segment.clear()
        segment.trim()
        assert taken(segment).resident <= (256 << 10)
        segment.check()


def test_a_forked_child_that_only_reads_is_waited_for_like_any_other(key, children):
    with shmvar.attach(key, 64 * MIB) as segment:
        segment.update({number: b"x" * 300 for number in range(5_000)})

        def child():
            signal.alarm(30)
            end = time.monotonic() + 1.5
            while time.monotonic() < end:
                for number in range(0, 5_000, 7):
                    assert segment.get(number, b"x" * 300) == b"x" * 300

        pid = os.fork()
        if pid == 0:
            try:
                child()
                os._exit(0)
            finally:
                os._exit(1)
        children.append(pid)
        for _ in range(10):
            for number in range(100, 5_000):
                segment.remove(number)
            segment.trim()
            segment.update({number: b"x" * 300 for number in range(5_000)})
        assert os.waitpid(pid, 0)[1] == 0
        segment.check()


def test_what_processes_noted_of_their_views_goes_back_when_they_are_gone(key, children):
    with shmvar.attach(key, 64 * MIB) as segment:
        segment[0] = b"x" * 100_000
        ready, told = os.pipe()
        go, held = os.pipe()
        for number in range(60):
            pid = os.fork()
            if pid == 0:
                signal.alarm(60)
                try:
                    os.close(held)
                    view = segment.view(0)
                    os.write(told, b"." if len(view) == 100_000 else b"!")
                    os.read(go, 1)
                    os.kill(os.getpid(), signal.SIGKILL if number % 2 else signal.SIGTERM)
                finally:
                    os._exit(1)
            children.append(pid)
        seen = b""
        while len(seen) < 60:
            seen += os.read(ready, 60)
        assert seen == b"." * 60
        view = segment.view(0)
        segment.clear()
        segment.trim()
        assert bytes(view) == b"x" * 100_000
        assert segment.info().resident > 60 * 4096
        os.close(held)
        for pid in children:
            assert os.waitpid(pid, 0)[1] in (signal.SIGKILL, signal.SIGTERM)
        segment.trim()
        assert bytes(view) == b"x" * 100_000, "ours is held still"
        del view
        segment.trim()
        assert taken(segment).resident <= 150 << 10
        segment.check()
        segment[0] = b"y" * 100_000
        assert bytes(segment.view(0)) == b"y" * 100_000
        for end in ready, told, go:
            os.close(end)


TIGHT = """
import random, subprocess
limit = int(sys.argv[2])
size = limit * 16 // 10 + (2 << 20)
subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", "/dev/shm"], check=True)
segment = shmvar.attach(key, limit)
chance, model, charged = random.Random(int(sys.argv[3])), {}, 0
def charge(value):
    return segment.stat(value).size
for turn in range(30):
    low, high = chance.choice([(1, 60), (30, 900), (200, 9_000), (1_000, 30_000), (9_000, limit // 4)])
    for _ in range(chance.choice([50, 400, 3_000])):
        index = chance.choice((chance.randrange(4_000), f"text {chance.randrange(500)}"))
        value = bytes([turn]) * chance.randrange(low, high)
        try:
            segment[index] = value
            model[index] = value
        except shmvar.SegmentFullError as error:
            # Only the limit of the segment refuses a put, never the memory file system.
            assert "raise the limit" in str(error), (turn, str(error), segment.info())
            if chance.random() < 0.5:
                for gone in chance.sample(sorted(model, key=str), len(model) // 2):
                    del segment[gone], model[gone]
    segment.check()
assert dict(segment) == model
segment.clear()
segment[0] = b"z" * (limit - 200)
segment.check()
"""


@helpers.needs_mounts
@pytest.mark.parametrize("limit", [MIB, 6 * MIB])
def test_on_a_memory_file_system_of_little_more_than_the_limit_only_the_limit_refuses(key, limit):
    for seed in (1, 2):
        helpers.run(TIGHT, key, limit, seed, prefix=["unshare", "-m"], timeout=100)


NARROW = """
resource_limit = 3 << 30
import resource
resource.setrlimit(resource.RLIMIT_AS, (resource_limit, resource_limit))
segment = shmvar.attach(key, 64 << 20)
for small, large in ((20_000, 300_000), (40_000, 700_000), (100_000, 2_500_000)):
    count = 0
    try:
        while True:
            segment[count] = bytes([count % 256]) * small
            count += 1
    except shmvar.SegmentFullError:
        pass
    for number in range(count):
        if number % 4:
            del segment[number]
    more, room = 0, segment.info().free
    for number in range(room // (large + 300)):
        segment[f"large {number}"] = bytes([number % 256]) * large
        more += 1
    assert all(segment[number] == bytes([number % 256]) * small for number in range(0, count, 4))
    assert all(segment[f"large {number}"] == bytes([number % 256]) * large for number in range(more))
    segment.check()
    segment.clear()
"""


def test_fragmentation_refuses_nothing_where_addresses_are_few(key):
    helpers.run(NARROW, key)


def test_popitem_takes_the_same_time_however_many_there_are_and_gives_each_its_turn(key):
    with shmvar.attach(key) as segment:
        segment.update({number: number for number in range(30_000)} | {f"text {n}": n for n in range(100)})
        began, seen = time.process_time(), {}
        while segment:
            index, value = segment.popitem()
            assert index not in seen
            seen[index] = value
        # If each call looked at all variables, it would take minutes.
        assert time.process_time() - began < 30
        assert seen == {number: number for number in range(30_000)} | {f"text {n}": n for n in range(100)}
        firsts = set()
        for _ in range(200):
            segment.update({number: number for number in range(8)})
            firsts.add(segment.popitem()[0])
        assert firsts == set(range(8))


def test_a_value_that_cannot_be_unpickled_here_keeps_no_other_from_being_handed_out(key):
    helpers.run(
        """
        import types
        app = sys.modules["app"] = types.ModuleType("app")
        exec("class Job: pass", vars(app))
        segment = shmvar.attach(key)
        segment.update({number: number for number in range(30)})
        segment.update({f"job {number}": app.Job() for number in range(3)})
        """,
        key,
    )
    with shmvar.attach(key) as segment:
        assert sorted(segment.popitem()[0] for _ in range(30)) == list(range(30))
        for _ in range(3):
            with pytest.raises(ModuleNotFoundError):
                segment.popitem()
        assert len(segment) == 3


def test_thousands_of_locks_that_are_held_are_no_damage_and_cost_variables_nothing(key):
    with shmvar.attach(key, 8 * MIB) as segment:
        held = [segment.lock(name) for number in range(3_000) for name in (number, f"user {number}")]
        for lock in held:
            assert lock.acquire(timeout=20)
        for number in range(2_000):
            segment[number] = number
        segment.check()
        assert len(segment) == 2_000 and len(segment.info().locks) == 6_000
        segment.clear()
        assert len(segment) == 0 and all(lock.locked() for lock in held[::500])
        for lock in held:
            lock.release()
        segment.trim()
        segment.check()
        assert taken(segment).resident <= 300 << 10


def test_info_says_what_is_held_and_what_is_spare(key):
    with shmvar.attach(key, 64 * MIB) as segment:
        segment["large"] = bytes(8 * MIB)
        view = segment.view("large")
        del segment["large"]
        info = taken(segment)
        assert 8 * MIB <= info.held <= 8 * MIB + 8_192 and info.spare < MIB
        del view
        segment["other"] = 1
        info = taken(segment)
        assert info.held == 0 and info.spare > 7 * MIB
        segment.trim()
        assert segment.info().spare == 0


@pytest.mark.parametrize("size", [300, 3_000, 18_000, 200_000])
def test_little_that_lies_behind_much_that_is_gone_takes_little(key, size):
    with shmvar.attach(key, 1 << 30) as segment:
        count = 150 * MIB // size
        for number in range(count):
            segment[number] = bytes([number % 256]) * size
        last = {number: segment[number] for number in range(count - 3, count)}
        for number in range(count - 3):
            del segment[number]
        segment.trim()
        info = taken(segment)
        assert info.resident <= 1.5 * info.used + MIB // 2 and dict(segment) == last
        view = segment.view(count - 1)
        segment.clear()
        segment.trim()
        del view
        segment.trim()
        assert taken(segment).resident <= 256 << 10
        segment.check()
