"""Time to live: what expired is gone for every reader, later calls free its memory, and the clock does not jump."""

import contextlib
import os
import shutil
import subprocess
import threading
import time

import helpers
import numpy
import pytest

import shmvar

# The time to live is long enough to look at the variable before it expires, on a busy machine, too.
SHORT = 0.4
INDEXES = [1, "text", "k" * 1024]
VALUES = [7, "x" * 9, "x" * 3000, b"x" * 300_000, numpy.arange(200_000)]


def gone_after(segment, index):
    """Waits until a variable with a time to live has expired, by what `stat` says."""
    with contextlib.suppress(KeyError):
        time.sleep(max(segment.stat(index).expires_in, 0) + 0.01)


@pytest.fixture
def handles(seg, key):
    """The writer, and handles that may do less."""
    with shmvar.attach(key, readonly=True) as reader, shmvar.attach(key, trust=False) as wary:
        yield [seg, reader, wary]


@pytest.mark.parametrize("index", INDEXES)
@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_variable_is_there_until_its_time_is_up_and_then_it_is_gone(seg, handles, index, value):
    before = time.monotonic()
    seg.put(index, value, ttl=SHORT)
    seen = [(handle.has(index), time.monotonic() - before) for handle in handles]
    assert all(there or after >= SHORT for there, after in seen)
    gone_after(seg, index)
    assert time.monotonic() - before >= SHORT
    for handle in handles:
        assert index not in handle and handle.get(index) is None and handle.get(index, 5) == 5
        for call in (handle.__getitem__, handle.view, handle.stat, handle.get_versioned):
            with pytest.raises(KeyError):
                call(index)
        assert handle.version(index) == 0 and handle.get_many([index]) == {}


def test_it_is_counted_and_listed_by_nobody(seg, handles):
    seg.put_many({"stays": 1})
    seg.put_many({number: number for number in range(10)}, ttl=SHORT)
    gone_after(seg, 9)
    for handle in handles:
        assert len(handle) == 1 == handle.info().count and list(handle) == ["stays"] == list(handle.keys())
        assert list(handle.values()) == [1] and list(handle.items()) == [("stays", 1)]
        assert handle == {"stays": 1} and 3 not in handle and handle.get_many(range(10)) == {}
        assert bool(handle) and "3" not in repr(dict(handle))


def test_writers_find_it_missing(seg):
    calls = {
        "remove": (lambda i: seg.remove(i), False),
        "pop": (lambda i: seg.pop(i, "default"), "default"),
        "setdefault": (lambda i: seg.setdefault(i, 2), 2),
        "add": (lambda i: seg.add(i, 2), 2),
        "swap": (lambda i: seg.swap(i, 2, "missing"), "missing"),
        "modify": (lambda i: seg.modify(i, lambda old: [old], "default"), ["default"]),
        "compare_and_put": (lambda i: seg.compare_and_put(i, 0, 2), True),
        "compare_and_put of its version": (lambda i: seg.compare_and_put(i, versions[i], 2), False),
    }
    versions = {}
    for index in calls:
        seg.put(index, 50, ttl=SHORT)
        versions[index] = seg.version(index)
    gone_after(seg, index)
    for index, (call, result) in calls.items():
        assert call(index) == result, index
    left = {"setdefault": 2, "add": 2, "swap": 2, "modify": ["default"], "compare_and_put": 2}
    assert dict(seg) == left
    assert all(seg.stat(index).expires_in is None for index in seg)
    assert all(seg.version(index) > versions[index] for index in seg)


def test_mapping_methods_that_raise_find_it_missing(seg):
    for index in range(4):
        seg.put(index, 50, ttl=SHORT)
    gone_after(seg, 3)
    for call in (
        lambda: seg.__delitem__(0),
        lambda: seg.pop(1),
        lambda: seg.modify(2, lambda old: old),
        lambda: seg.popitem(),
    ):
        with pytest.raises(KeyError):
            call()


def test_a_put_without_a_time_to_live_ends_it(seg):
    enders = {
        "put": lambda i: seg.put(i, "new"),
        "item": lambda i: seg.__setitem__(i, "new"),
        "ttl=None": lambda i: seg.put(i, "new", ttl=None),
        "put_many": lambda i: seg.put_many({i: "new"}),
        "update": lambda i: seg.update({i: "new"}),
        "swap": lambda i: seg.swap(i, "new"),
        "compare_and_put": lambda i: seg.compare_and_put(i, seg.version(i), "new"),
    }
    for index, ender in enders.items():
        seg.put(index, "old", ttl=5 * SHORT)
        ender(index)
        assert seg.stat(index).expires_in is None, index
    time.sleep(5 * SHORT + 0.05)
    assert dict(seg) == dict.fromkeys(enders, "new")


def test_add_and_modify_keep_it_to_the_moment(seg):
    seg.put("n", 1, ttl=SHORT)
    seg.put("m", 1, ttl=SHORT)
    until = time.monotonic() + 20
    while seg.add("n") > 1 and time.monotonic() < until:
        with contextlib.suppress(KeyError):
            seg.modify("m", lambda old: old + 1)
    assert seg["n"] == 1 and seg.stat("n").expires_in is None  # the old one had expired: the count began anew
    gone_after(seg, "m")
    assert "m" not in seg


def test_a_later_put_moves_it(seg):
    seg.put(1, 1, ttl=SHORT)
    seg.put(1, 2, ttl=1000)
    seg.put(2, 1, ttl=1000)
    seg.put(2, 2, ttl=SHORT)
    gone_after(seg, 2)
    assert dict(seg) == {1: 2} and 900 < seg.stat(1).expires_in <= 1000


@pytest.mark.parametrize("ttl", [1, 2.5, 1000, 1e9, numpy.float64(30), numpy.int64(30)])
def test_expires_in_counts_down_from_it(seg, ttl):
    before = time.monotonic()
    seg.put_many({1: 1}, ttl=ttl)
    first, second = seg.stat(1).expires_in, seg.stat(1).expires_in
    passed = time.monotonic() - before
    assert ttl >= first >= second >= ttl - passed - 0.01


@pytest.mark.parametrize("ttl", [1e10, 1e18, 1e300])
def test_a_time_beyond_the_clock_is_refused_or_is_for_ever(seg, ttl):
    try:
        seg.put(1, 1, ttl=ttl)
    except (ValueError, OverflowError):
        assert 1 not in seg
    else:
        assert seg[1] == 1 and (seg.stat(1).expires_in or ttl) > 1e9


def test_the_shortest_time_is_gone_at_once_and_never_negative(seg):
    for number in range(500):
        seg.put(number % 7, number, ttl=1e-9)
        with contextlib.suppress(KeyError):
            assert seg.stat(number % 7).expires_in >= 0
    time.sleep(0.001)
    assert dict(seg) == {} and len(seg) == 0


# --- waiting


@pytest.mark.parametrize("readonly", [False, True])
def test_a_waiter_wakes_with_0_when_it_expires(seg, key, readonly):
    with shmvar.attach(key, readonly=readonly) as handle:
        before = time.monotonic()
        seg.put("w", b"x" * 5000, ttl=SHORT)
        version = seg.version("w")
        assert handle.wait("w", 30, newer_than=version) == 0
        assert SHORT <= time.monotonic() - before < 15 and handle.version("w") == 0
        assert handle.wait("w", 30, newer_than=version) == 0  # the version still differs


def test_a_waiter_goes_by_the_time_that_the_variable_has_now(seg):
    seg.put("w", 1, ttl=SHORT)
    got, version = [], seg.version("w")
    thread = threading.Thread(target=lambda: got.append(seg.wait("w", 20, newer_than=version)))
    thread.start()
    time.sleep(0.05)
    seg.put("w", 2, ttl=1000)
    thread.join(30)
    assert got == [seg.version("w")] or got == [0]
    with pytest.raises(shmvar.WaitTimeoutError):
        seg.wait("w", 2 * SHORT)


# --- memory


@pytest.mark.parametrize("length", [1, 100, 5000, 50_000])
def test_memory_of_the_expired_is_used_again_by_puts_alone(seg, length):
    most = 0
    puts = 4000 if length < 50_000 else 1000
    for number in range(puts):
        seg.put(f"session {number}", b"x" * length, ttl=0.01)
        if number % 100 == 0:
            most = max(most, seg.info().used)
            time.sleep(0.02)
    # About a hundred live at a time; if memory were not freed, it would hold all of them.
    assert most < puts * length / 2 + 200_000 and seg.check().variables < puts / 2


def test_a_full_segment_gives_the_room_of_the_expired(key):
    refused = 0
    with shmvar.attach(key, 100_000) as segment:
        for turn in range(30):
            before = time.monotonic()
            segment.put_many({(turn, n).__repr__(): b"x" * 900 for n in range(90)}, ttl=0.05)
            try:
                segment.put("too much", b"x" * 60_000)
            except shmvar.SegmentFullError:
                refused += 1
            else:
                assert time.monotonic() - before >= 0.05, "they had not expired"
                del segment["too much"]
            time.sleep(0.06)
            segment["it fits"] = b"x" * 90_000
            assert dict(segment).keys() == {"it fits"}
            del segment["it fits"]
        assert refused, "a machine that is as busy as that in each turn"
        assert segment.info().used < 100 * 1000 and segment.check()


def test_resize_to_what_is_left_and_a_batch_find_room_where_variables_have_expired(key):
    with shmvar.attach(key, 1 << 20) as segment:
        segment.put_many({n: b"x" * 9000 for n in range(100)}, ttl=SHORT)
        gone_after(segment, 99)
        segment.put_many({n: b"y" * 9000 for n in range(100, 200)})
        assert len(segment) == 100 and segment.check().variables <= 200
        segment.put_many({n: b"y" * 9000 for n in range(100, 200)}, ttl=SHORT)
        gone_after(segment, 199)
        segment.resize(10_000)
        assert segment.size == 10_000 and len(segment) == 0


def test_views_of_an_expired_array_stay(seg):
    seg.put("a", numpy.arange(300_000), ttl=SHORT)
    view, copy = seg.view("a"), seg["a"]
    gone_after(seg, "a")
    seg.put_many({n: b"\xff" * 2_400_000 for n in range(3)})
    assert "a" not in seg and (view == numpy.arange(300_000)).all() and (copy == view).all()


def test_the_table_grows_over_the_expired_and_the_living(seg):
    seg.put_many({f"short {n}": n for n in range(3000)}, ttl=SHORT)
    seg.put_many({f"long {n}": n for n in range(3000)}, ttl=1000)
    gone_after(seg, "short 2999")
    seg.update({n: n for n in range(20_000)})
    assert len(seg) == 23_000 and all(seg[f"long {n}"] == n for n in range(0, 3000, 100))
    assert 900 < seg.stat("long 5").expires_in < 1000 and "short 5" not in seg
    seg.clear()
    assert seg.info().used == 0 and seg.check().variables == 0


# --- processes and clocks


def test_it_holds_for_a_process_that_attaches_later_and_after_its_putter_died(seg, key):
    helpers.run("shmvar.attach(key).put(1, 'x', ttl=600); os.kill(os.getpid(), 9)", key, check=False)
    assert seg[1] == "x" and 500 < seg.stat(1).expires_in < 600
    helpers.run(f"shmvar.attach(key).put(2, 'x', ttl={SHORT}); os._exit(0)", key)
    gone_after(seg, 2)
    assert dict(seg) == {1: "x"}
    code = "s = shmvar.attach(key, readonly=True); assert dict(s) == {1: 'x'} and s.stat(1).expires_in < 600"
    helpers.run(code, key)


@pytest.mark.skipif(not helpers.unshare_works("--time", "-f"), reason="needs root and `unshare --time`")
def test_f63_a_process_whose_monotonic_clock_is_another_agrees_on_the_expiry(seg, key):
    seg.put(1, 1, ttl=1000)
    code = """
    s = shmvar.attach(key)
    assert abs(time.monotonic() - float(sys.argv[2])) > 50_000
    assert 900 < s.stat(1).expires_in <= 1000 and s[1] == 1
    s.put(2, 2, ttl=1000)
    began = time.monotonic()
    try:
        s.wait(1, 0.3)
    except shmvar.WaitTimeoutError:
        print(time.monotonic() - began)
    """
    prefix = ["unshare", "--time", "-f", "--monotonic", "100000"]
    waited = float(helpers.run(code, key, time.monotonic(), prefix=prefix).stdout)
    assert 0.29 <= waited < 10 and 900 < seg.stat(2).expires_in <= 1000


# A library to preload: each reading of the wall clock jumps ten years ahead or back.
JUMPS = """
#define _GNU_SOURCE
#include <time.h>
#include <sys/time.h>
#include <sys/syscall.h>
#include <unistd.h>
static long jumps;
static long jump(void) { return (++jumps % 2 ? 1 : -1) * 315360000L; }
int clock_gettime(clockid_t id, struct timespec *t) {
    int done = syscall(SYS_clock_gettime, id, t);
    if (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE || id == CLOCK_TAI) t->tv_sec += jump();
    return done;
}
int gettimeofday(struct timeval *t, void *z) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    t->tv_sec = now.tv_sec; t->tv_usec = now.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *t) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (t) *t = now.tv_sec;
    return now.tv_sec;
}
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_f63_a_wall_clock_that_jumps_by_years_moves_neither_expiry_nor_timeouts(seg, key, tmp_path):
    source, library = tmp_path / "jumps.c", tmp_path / "jumps.so"
    source.write_text(JUMPS)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True, timeout=60)
    seg.put(1, 1, ttl=1000)
    code = """
    import asyncio, threading
    looks = [time.time() for _ in range(4)]
    assert max(looks) - min(looks) > 3e8, looks
    s = shmvar.attach(key)
    for turn in range(20):
        s.put(turn + 10, turn, ttl=1000)
        assert 900 < s.stat(1).expires_in <= 1000 and len(s) == 2 + turn
    s.put(2, 2, ttl=0.2)
    assert s.wait(2, 30, newer_than=s.version(2)) == 0
    def timed(call):
        began = time.monotonic()
        try:
            call()
        except shmvar.WaitTimeoutError:
            pass
        took = time.monotonic() - began
        assert 0.29 <= took < 10, took
    timed(lambda: s.wait(1, 0.3))
    timed(lambda: asyncio.run(s.changed(1, 0.3)))
    taken, done = threading.Event(), threading.Event()
    def hold():
        with s.lock():
            taken.set()
            done.wait(50)
    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait(50)
    timed(lambda: s.lock(timeout=0.3).__enter__())
    timed(lambda: s.lock().acquire(0.3))
    done.set()
    thread.join()
    """
    environment = {**os.environ, "LD_PRELOAD": str(library)}
    helpers.run(code, key, env=environment)
    assert len(seg) == 21 and 900 < seg.stat(29).expires_in <= 1000
