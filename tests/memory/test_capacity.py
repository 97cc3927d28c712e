"""What fits in a segment, what does not, and what the errors and `info` say about it."""

import itertools
import random
import resource

import helpers
import pytest

import shmvar


@pytest.fixture
def small(key):
    """A segment of 100,000 bytes."""
    with shmvar.attach(key, 100_000) as segment:
        yield segment
        segment.check()


def fill(segment, value=b"x" * 1000):
    """Stores until the segment is full; returns how many were stored."""
    for number in itertools.count():
        try:
            segment[number] = value
        except shmvar.SegmentFullError:
            return number


def test_f36_f37_a_put_that_does_not_fit_changes_nothing_and_tells_the_numbers(small):
    small.update({1: "old", "text": b"t" * 5000})
    before, info = dict(small), small.info()
    puts = [
        lambda: small.put(1, b"x" * 100_000),
        lambda: small.put("new", b"x" * 200_000),
        lambda: small.put("text", [b"x" * 10_000_000]),
        lambda: small.setdefault("other", b"x" * 100_000),
        lambda: small.__setitem__("text", bytes(10**8)),
    ]
    for put in puts:
        with pytest.raises(shmvar.SegmentFullError) as caught:
            put()
        error = caught.value
        assert error.size == 100_000 and error.needed > error.free >= 0
        assert all(str(number) in str(error) for number in (error.needed, error.free, error.size))
        assert dict(small) == before and small.info().used == info.used and small.check().variables == 2
    small[1] = "new"


def test_f36_update_stores_all_or_nothing(small):
    small[0] = "old"
    with pytest.raises(shmvar.SegmentFullError):
        small.update([(n, b"x" * 30_000) for n in range(5)])
    assert dict(small) == {0: "old"} and small.check().variables == 1


def test_f37_free_is_what_is_left_and_needed_what_would_fit(small):
    count = fill(small)
    with pytest.raises(shmvar.SegmentFullError) as caught:
        small["one more"] = b"x" * 5000
    error, info = caught.value, small.info()
    assert count > 90 and error.free == info.free == info.size - info.used
    small.resize(small.size + error.needed - error.free)
    small["one more"] = b"x" * 5000
    assert small.info().used <= small.size


STATES = {
    "empty": lambda segment: None,
    "some small": lambda segment: segment.update({n: n for n in range(100)}),
    "text": lambda segment: segment.update({f"index {n}": f"value {n}" for n in range(500)}),
    "records": lambda segment: segment.update({n: b"x" * 3000 for n in range(20)}),
    "a span": lambda segment: segment.put(1, b"x" * 70_000),
    "nearly full": lambda segment: fill(segment),
    "full of small": lambda segment: fill(segment, "x" * 40),
    "holes": lambda segment: (fill(segment), [segment.remove(n) for n in range(0, 90, 2)]),
    "span holes": lambda segment: (fill(segment, b"x" * 20_000), segment.remove(1), segment.remove(3)),
    "cleared": lambda segment: (fill(segment), segment.clear()),
}


@pytest.mark.parametrize("size", [50, 300, 40_000, 100_000, 1_000_000])
@pytest.mark.parametrize("state", STATES)
def test_f38_largest_put_is_exact(key, state, size):
    with shmvar.attach(key, size) as segment:
        try:
            STATES[state](segment)
        except shmvar.SegmentFullError:
            segment.clear()
            segment[1] = 1
        most = segment.info().largest_put
        before = dict(segment)
        with pytest.raises(shmvar.SegmentFullError):
            segment[-1] = b"x" * (most + 1)
        assert dict(segment) == before
        if most or segment.info().free >= 32:
            segment[-1] = b"x" * most
            assert segment.pop(-1) == b"x" * most
        assert dict(segment) == before
        segment.check()


def test_f39_random_puts_and_removals_leave_the_capacity_as_it_was(key):
    chance = random.Random(5)
    with shmvar.attach(key, 3_000_000) as segment:
        first, resident, model, refused = segment.info().largest_put, segment.info().resident, {}, []
        for _ in helpers.looks(lambda: len(refused) > 10, seconds=5):
            for _ in range(200):
                index = chance.choice((chance.randrange(300), f"text {chance.randrange(300)}"))
                if chance.random() < 0.35:
                    assert segment.pop(index, None) == model.pop(index, None)
                    continue
                value = bytes([chance.randrange(256)]) * int(10 ** (chance.random() * 5.5))
                try:
                    segment[index] = value
                    model[index] = value
                except shmvar.SegmentFullError as error:
                    refused.append(1)
                    assert error.needed > error.free
            assert dict(segment) == model
        segment.check()
        segment.clear()
        assert segment.info().largest_put == first and segment.info().used == 0
        segment[1] = b"x" * first
        del segment[1]
        segment.trim()
        assert segment.info().resident <= resident + 20_000, "all but its administration is given back"
        segment.check()


@pytest.mark.parametrize(
    "size",
    [
        1,
        2,
        31,
        32,
        4095,
        4096,
        4097,
        1 << 20,
        2**31 - 1,
        2**31,
        2**31 + 1,
        2**32 + 5,
        2**40,
        2**63 - 1,
        2**63,
        2**64,
        10**30,
    ],
)
def test_f40_any_size_is_a_segment_of_that_size_or_a_typed_error(key, size):
    try:
        segment = shmvar.attach(key, size)
    except (shmvar.Error, OverflowError) as error:
        assert size >= 2**31 and str(error)
        assert not shmvar.exists(key)
        if isinstance(error, shmvar.SegmentFullError):
            assert error.needed >= size and "/dev/shm" in str(error)
        return
    with segment:
        assert segment.size == size == segment.info().size
        assert segment.info().resident < 1 << 20
        if size >= 4095:
            segment[1] = b"x" * 1000
            assert segment[1] == b"x" * 1000
        segment.check()


def test_f40_a_limit_can_be_raised_to_what_the_file_system_has_or_is_refused(seg):
    for size in (2**31 + 1, 2**33, 2**40, 2**62, 2**63 - 1):
        try:
            seg.resize(size)
        except shmvar.Error as error:
            assert str(error)
        else:
            assert seg.size == size
        seg[1] = b"x" * 10_000


def test_f42_the_descriptor_limit_is_told_from_a_lack_of_memory(key):
    code = """
    import errno, resource
    most = max(map(int, os.listdir("/proc/self/fd")))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (4, hard))
    held = []
    try:
        while True:
            held.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
    for _ in range(3):
        try:
            shmvar.attach(key)
        except OSError as error:
            assert not isinstance(error, MemoryError)
            assert error.errno == errno.EMFILE or "open files" in str(error).lower(), repr(error)
        else:
            raise AssertionError
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    segment = shmvar.attach(key)
    segment[1] = b"x" * 100_000
    segment.check()
    """
    helpers.run(code, key)


def test_f40_address_space_that_is_limited_is_a_typed_error_or_enough(key):
    code = """
    import resource
    outcomes = []
    for gib in (1, 8, 200):
        pid = os.fork()
        if pid == 0:
            resource.setrlimit(resource.RLIMIT_AS, (gib << 30, gib << 30))
            try:
                with shmvar.attach(key, 1 << 20) as segment:
                    segment[1] = b"x" * 100_000
                    segment.check()
                    segment.destroy()
            except (shmvar.Error, MemoryError, OSError) as error:
                print(gib, type(error).__name__, error)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
    """
    helpers.run(code, key)


def test_f43_a_million_overwrites_of_one_index_do_not_grow_anything(seg):
    for value in (5, "x" * 40, b"y" * 2000, "text"):
        seg[1] = value
        seg["one"] = value
    seg[1] = seg["one"] = "x" * 40
    before = seg.info()
    for number in range(500_000):
        seg[1] = f"{number:040}"
        seg["one"] = f"{number:040}"
    after = seg.info()
    assert (after.used, after.count, after.resident) == (before.used, before.count, before.resident)
    for number in range(300):
        seg[2] = bytes([number % 256]) * 1_000_000
    assert seg.info().resident < before.resident + 8_000_000


def test_f43_many_new_and_removed_indexes_do_not_grow_anything(seg):
    for number in range(20_000):
        seg[number] = seg[f"text {number}"] = b"x" * (number % 300)
        if number >= 10:
            assert seg.remove(number - 10) and seg.remove(f"text {number - 10}")
        if number == 5000:
            resident = seg.info().resident
    assert len(seg) == 20 and seg.info().resident <= resident + 200_000


def test_memory_is_taken_only_as_it_is_used(key):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with shmvar.attach(key, 8 << 30) as segment:
        assert segment.size == 8 << 30 and segment.info().resident < 1 << 20
        segment[1] = b"x" * 1_000_000
        assert 1_000_000 <= segment.info().resident < 2_500_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_f41_narrow_limits_of_the_process_make_a_smaller_segment_or_a_typed_error(key):
    code = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
with shmvar.attach(key) as segment:
    assert segment.size == 256 << 20
    segment[1] = b"x" * (1 << 20)
    assert segment[1] == b"x" * (1 << 20)
    segment.destroy()
try:
    shmvar.attach(key, 3 << 30)
except shmvar.SegmentFullError as error:
    assert "ulimit" in str(error) and error.needed > error.free > 0
    print("refused")
"""
    assert helpers.run(code, key).stdout == "refused\n"


def test_f37_free_is_what_info_says_also_where_a_value_is_replaced(small):
    small[1] = b"x" * 60_000
    for put in (lambda: small.put(1, b"x" * 200_000), lambda: small.put_many({1: b"x" * 200_000, 2: 0})):
        with pytest.raises(shmvar.SegmentFullError) as caught:
            put()
        error = caught.value
        assert error.free == small.info().free < 40_000 and 200_000 < error.needed < 201_000
