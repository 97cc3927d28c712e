"""`ttl` of every call that stores: which end a time to live, keep it, or count only where they make a variable."""

import contextlib
import datetime
import time

import helpers
import numpy
import pytest

import shmvar

SHORT = 0.4
HOUR = datetime.timedelta(hours=1)
INDEXES = [1, "text", "k" * 1024]
# From a variable, its old value and `ttl` to a call.
ENDS = {
    "put": lambda s, i, ttl: s.put(i, 5, ttl=ttl),
    "put_many": lambda s, i, ttl: s.put_many({i: 5, "another": 1}, ttl=ttl),
    "put_many of many": lambda s, i, ttl: s.put_many({i: 5} | {f"n {n}": n for n in range(40)}, ttl=ttl),
    "swap": lambda s, i, ttl: s.swap(i, 5, ttl=ttl),
    "compare_and_put": lambda s, i, ttl: s.compare_and_put(i, s.version(i), 5, ttl=ttl),
}
KEEPS = {
    "modify": lambda s, i, ttl: s.modify(i, lambda _: 5, 0, ttl=ttl),
    "modify of a large value": lambda s, i, ttl: s.modify(i, lambda _: b"x" * 70_000, 0, ttl=ttl),
}
ONLY_CREATES = {
    "add": lambda s, i, ttl: s.add(i, 5, ttl=ttl),
    "add float": lambda s, i, ttl: s.add(i, 0.5, ttl=ttl),
    "add beyond 64 bits": lambda s, i, ttl: s.add(i, 2**70, ttl=ttl),
    "setdefault": lambda s, i, ttl: s.setdefault(i, 5, ttl=ttl),
}
CALLS = ENDS | KEEPS | ONLY_CREATES
WRONG = [
    0,
    -1,
    -0.0,
    float("nan"),
    float("inf"),
    10**400,
    "5",
    b"5",
    [],
    1j,
    datetime.timedelta(0),
    datetime.timedelta(days=-1),
    datetime.date(2026, 1, 1),
    numpy.timedelta64(5, "s"),
]


def left(segment, index):
    """What is left of the time to live, None without one."""
    return segment.stat(index).expires_in


@pytest.mark.parametrize("index", INDEXES, ids=str)
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("ttl", [1000, HOUR, numpy.float64(50), numpy.int64(50)], ids=repr)
def test_whatever_makes_a_variable_gives_it_the_time_to_live(seg, index, call, ttl):
    seconds = ttl.total_seconds() if ttl is HOUR else float(ttl)
    CALLS[call](seg, index, ttl)
    assert seconds - 20 < left(seg, index) <= seconds
    del seg[index]
    CALLS[call](seg, index, None)
    assert left(seg, index) is None


@pytest.mark.parametrize("index", INDEXES, ids=str)
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("had", [None, 500])
def test_what_it_does_to_a_variable_that_is_there_is_as_the_table_says(seg, index, call, had):
    def put():
        seg.put(index, 7, ttl=had)

    def as_before():
        return left(seg, index) is None if had is None else 400 < left(seg, index) <= 500

    put()
    CALLS[call](seg, index, None)
    assert left(seg, index) is None if call in ENDS else as_before()
    put()
    CALLS[call](seg, index, 1000)
    assert as_before() if call in ONLY_CREATES else 900 < left(seg, index) <= 1000
    put()
    CALLS[call](seg, index, 1000)
    CALLS[call](seg, index, None)
    if call in KEEPS:
        assert 900 < left(seg, index) <= 1000
    else:
        assert left(seg, index) is None if call in ENDS else as_before()


@pytest.mark.parametrize("call", CALLS)
def test_one_that_has_expired_is_missing_so_the_call_makes_it(seg, call):
    seg.put("x", 7, ttl=0.001)
    seg.put(1, 7, ttl=0.001)
    time.sleep(0.01)
    for index in ("x", 1):
        CALLS[call](seg, index, 1000)
        assert 900 < left(seg, index) <= 1000 and seg[index] != 7 and seg[index] != 12
    assert seg.check().variables == len(seg)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("ttl", WRONG, ids=repr)
def test_a_wrong_time_to_live_is_refused_by_its_name_and_nothing_is_stored(seg, call, there, ttl):
    if there:
        seg[1] = 7
    before = seg.version(1)
    with pytest.raises((ValueError, TypeError, OverflowError), match="ttl"):
        CALLS[call](seg, 1, ttl)
    assert dict(seg) == ({1: 7} if there else {}) and seg.version(1) == before


def test_a_wrong_time_to_live_is_refused_before_the_function_runs(seg):
    seg[1] = 1
    with pytest.raises(ValueError, match="ttl"):
        seg.modify(1, lambda old: pytest.fail("it ran"), ttl=-1)


def test_it_is_given_by_name_only(seg):
    for call in (
        lambda: seg.swap(1, 2, 3, 50),
        lambda: seg.compare_and_put(1, 0, 2, 50),
        lambda: seg.modify(1, lambda old: old, 5, 50),
        lambda: seg.add(1, 1, 50),
        lambda: seg.setdefault(1, 1, 50),
    ):
        with pytest.raises(TypeError):
            call()
    assert dict(seg) == {}


def test_update_has_none_and_stores_a_variable_of_that_name(seg):
    seg.update({1: 1}, ttl=5)
    assert dict(seg) == {1: 1, "ttl": 5} and left(seg, 1) is None is left(seg, "ttl")


def test_the_time_of_modify_begins_when_its_function_has_returned(seg):
    returned = []
    seg.modify(1, lambda old: (time.sleep(0.3), returned.append(time.monotonic()), old)[2], 5, ttl=1000)
    remaining = left(seg, 1)
    assert remaining > 999.99 - (time.monotonic() - returned[0])


def test_a_rate_limiter_is_one_call(seg):
    for attempt in range(20):
        name, allowed, longest = f"ann {attempt}", [], 0.0
        began = last = time.monotonic()
        while last - began < 2.5 * SHORT:
            if seg.add(name, 1, ttl=SHORT) <= 5:
                allowed.append(time.monotonic() - began)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
        # Five in each window; a window begins with the first call in it.
        assert len(allowed) <= 15 and all(allowed[at] >= at // 5 * SHORT for at in range(len(allowed)))
        if longest < SHORT / 8:  # else this process stood still, perhaps for a whole window
            assert len(allowed) == 15
            return
    raise AssertionError("this process never ran for a second without standing still")


@pytest.mark.parametrize("index", ["'n'", "1"])
@pytest.mark.parametrize("amount", ["1", "2**70"])
def test_8_processes_add_and_one_of_them_makes_it_and_nothing_is_lost(seg, key, index, amount):
    """All see the sums of one variable, whose time to live is that of the one call that made it."""
    each = 300 if amount == "1" else 60
    code = f"""
    s, got = shmvar.attach(key), []
    for turn in range({each}):
        got.append(s.add({index}, {amount}, ttl=1000 + turn))
    assert len(set(got)) == len(got) and got == sorted(got)
    """
    helpers.run_in_processes(code, key, count=8)
    index, amount = eval(index), eval(amount)
    assert seg[index] == 8 * each * amount
    # Only the first turn of a process can have made it.
    assert left(seg, index) <= 1000 and seg.version(index) > 0


def test_8_processes_count_what_expires_again_and_again_and_each_window_is_exact(seg, key):
    """Each window's sums are 1, 2, 3 … without a gap or a double: of all calls as many saw 1 as there were windows."""
    code = """
    import collections
    s, seen, until = shmvar.attach(key), collections.Counter(), time.monotonic() + 2
    while time.monotonic() < until:
        seen[s.add('n', 1, ttl=0.01)] += 1
    s.put(('seen of', os.getpid()).__repr__(), dict(seen))
    """
    began = time.monotonic()
    helpers.run_in_processes(code, key, count=8)
    most = 100 * (time.monotonic() - began)
    seen = {}
    for index, counts in seg.items():
        if isinstance(index, str) and index.startswith("('seen of'"):
            for number, times in counts.items():
                seen[number] = seen.get(number, 0) + times
    windows = seen[1]
    assert 10 < windows <= most
    # However many windows reached a number, no more reached the next one.
    assert all(seen[number] >= seen.get(number + 1, 0) for number in seen)
    assert set(seen) == set(range(1, max(seen) + 1))


def test_8_processes_setdefault_and_one_value_and_its_time_win(seg, key):
    code = """
    s = shmvar.attach(key)
    for turn in range(200):
        value = s.setdefault(f'x{turn}', os.getpid(), ttl=1000 + os.getpid() % 1000)
        assert s[f'x{turn}'] == value
        assert value % 1000 + 900 < s.stat(f'x{turn}').expires_in <= 1000 + value % 1000
    """
    helpers.run_in_processes(code, key, count=8)
    assert len(seg) == 200


def test_a_full_segment_counts_on(key):
    with shmvar.attach(key, 100_000) as segment:
        segment.add("n", 1, ttl=1000)
        segment.add(1, 1, ttl=1000)
        segment["rest"] = b"x"
        with contextlib.suppress(shmvar.SegmentFullError):
            for number in range(10_000):
                segment[number + 10] = number
        for _ in range(100):
            segment.add("n", 1, ttl=5)
            segment.add(1, 1, ttl=5)
        assert segment["n"] == segment[1] == 101
        with pytest.raises(shmvar.SegmentFullError):
            segment.add("another one", 1, ttl=5)
        assert segment.check()
