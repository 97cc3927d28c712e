"""`changes`: every change of a segment is told, the last state of each index, for `for` and for `async for`."""

import asyncio
import collections
import gc
import os
import signal
import threading
import time
import types

import numpy
import pytest
from helpers.changes import all_of
from helpers.event_loops import run

import shmvar


def all_in_task(changes):
    async def main():
        told = []
        try:
            async for change in changes:
                told.append(change)
        except shmvar.WaitTimeoutError:
            return told

    return run(main())


both = pytest.mark.parametrize("take", [all_of, all_in_task])


@pytest.fixture(params=[False, True], ids=["", "read-only"])
def handle(request, seg, key):
    with shmvar.attach(key, readonly=request.param) as handle:
        yield handle


# --- what it tells


@both
def test_it_counts_from_the_call_and_tells_in_order(seg, handle, take):
    seg.update({1: 1, "old": 2, "gone": 3})
    changes = handle.changes(timeout=0.05)
    assert take(changes) == []
    seg["b"], seg[1], seg[-5], seg["b"] = 1, 2, 3, 4
    del seg["gone"]
    seg["k" * 1024] = 5
    told = take(changes)
    names = [1, -5, "b", "gone", "k" * 1024]
    assert told == [(name, seg.version(name)) for name in names] and told[3] == ("gone", 0)
    assert all(type(change) is tuple and type(change[1]) is int for change in told)
    assert take(changes) == []


@both
def test_newer_than_says_what_is_known(seg, handle, take):
    seg.update({1: 1, "a": 2, "b": 3, "c": 4})
    del seg["c"]
    everything = [(name, seg.version(name)) for name in (1, "a", "b")]
    assert take(handle.changes(newer_than={}, timeout=0)) == everything
    assert sorted(all_of(seg.changes(newer_than={"a": 0, "missing": 0}, timeout=0)), key=str) == sorted(
        everything, key=str
    )
    known = {"a": seg.version("a"), 1: seg.version(1) - 1, "c": 3, numpy.int64(9): 7}
    told = take(handle.changes(newer_than=known, timeout=0))
    assert set(told) == {(1, seg.version(1)), ("b", seg.version("b")), ("c", 0), (9, 0)} and len(told) == 4
    for mapping in (types.MappingProxyType, collections.OrderedDict, collections.ChainMap):
        told = take(handle.changes(newer_than=mapping({"a": seg.version("a"), "b": None}), timeout=0))
        assert told == [(1, seg.version(1))]


@both
def test_a_prefix_leaves_out_numbers_and_other_texts(seg, handle, take):
    seg.update({1: 1, "user:1": 2, "other": 3})
    changes = handle.changes(newer_than={}, prefix="user:", timeout=0.02)
    assert take(changes) == [("user:1", seg.version("user:1"))]
    seg["user:2"] = seg["other"] = seg[1] = 1
    del seg["user:1"], seg["other"]
    assert take(changes) == [("user:2", seg.version("user:2")), ("user:1", 0)]
    seg.clear()
    assert take(changes) == [("user:2", 0)]
    seg["x"], seg[1] = 1, 1
    assert take(handle.changes(newer_than={}, prefix="", timeout=0)) == [("x", seg.version("x"))]


@both
def test_an_expiry_is_told_when_it_comes_and_nobody_writes(seg, handle, take):
    changes = handle.changes(timeout=60)
    seg.put("t", 1, ttl=3600)
    index, first = next(changes)
    assert index == "t"
    seg.put("t", 2, ttl=0.3)
    began = time.monotonic()
    told = next(changes)
    if told != ("t", 0):  # which is all that a reader is told that was held up for so long
        assert told[0] == "t" and told[1] > first
        told = next(changes)
    assert told == ("t", 0)
    assert time.monotonic() - began < 30  # and not at the end of the timeout
    changes = handle.changes(timeout=0.05)
    seg.put("t", 1, ttl=0.01)
    seg.put("u", 1, ttl=3600)
    time.sleep(0.02)
    assert take(changes) == [("u", seg.version("u"))]
    seg.put("new", 1, ttl=3600)
    seg.trim()
    assert [name for name, _ in take(changes)] == ["new"]


@both
def test_clear_batches_touch_and_every_kind_of_change(seg, take):
    seg.put_many({n: n for n in range(100)})
    array = seg.array("a", (3,), float)
    changes = seg.changes(timeout=0)
    assert all_of(changes) == []
    array[0] = 5  # tells nobody
    seg.touch("a")
    assert take(changes) == [("a", seg.version("a"))]
    seg.put_many({n: "x" * 40 for n in range(100)})
    told = take(changes)  # in the order in which a batch takes its versions, whichever that is
    assert sorted(told) == [(n, seg.version(n)) for n in range(100)]
    assert told == sorted(told, key=lambda change: change[1])
    seg.put_many({n: "x" * 4 for n in range(5)})
    seg.add("n")
    seg.swap("n", 7)
    seg.modify("n", lambda old: old + 1)
    seg.setdefault("m", 7)
    seg.compare_and_put("c", 0, 1)
    seg.pop(50)
    with seg.lock("c"):
        pass
    assert take(changes) == [*((n, seg.version(n)) for n in (0, 1, 2, 3, 4, "n", "m", "c")), (50, 0)]
    there = set(seg)
    seg.clear()
    seg["after"] = 1
    told = take(changes)
    assert told[-1] == ("after", seg.version("after")) and {(name, 0) for name in there} == set(told[:-1])
    assert len(told) == len(there) + 1
    array[0] = 6


@both
def test_what_came_and_went_between_two_looks_is_not_told(seg, take):
    changes = seg.changes(timeout=0)
    for number in range(300):
        seg[number] = number
        del seg[number]
    seg["x"] = 1
    assert take(changes) == [("x", seg.version("x"))]


@both
def test_more_removals_than_the_ring_holds_are_all_told_and_the_last_in_order(seg, take):
    seg.update((n, n) for n in range(2000))
    changes = seg.changes(timeout=0)
    seg["first"] = 1
    for number in range(1000):
        del seg[number]
    seg["middle"] = 1
    for number in range(1000, 1050):
        del seg[number]
    seg["last"] = 1
    told = take(changes)
    assert set(told) == {*((n, 0) for n in range(1050)), *((n, seg.version(n)) for n in ("first", "middle", "last"))}
    order = [name for name, _ in told]
    assert order[0] == "first" and order[-1] == "last" and order[-52:-1] == ["middle", *range(1000, 1050)]
    # A reader that steps hears of all of them.
    for number in range(1050, 1900):
        seg[f"data {number}"] = 1
        del seg[number]
        seg["slow"] = number
        if number % 100 == 0:
            first = next(changes)
            assert first[0] == "data 1050" or number > 1100
    told = [name for name, _ in take(changes)]
    positions = {name: place for place, name in enumerate(told)}
    assert all(positions[f"data {n}"] < positions[n] for n in range(1800, 1900))


@both
def test_a_removal_that_was_heard_of_and_made_again_among_lost_ones_does_not_come_early(seg, take):
    seg["x"] = 1
    changes = seg.changes(timeout=0)
    seg["a"], seg["b"] = 1, 1
    assert next(changes)[0] == "a"
    del seg["x"]
    assert next(changes)[0] == "b"  # and hears of that removal
    seg["x"], seg["data"] = 2, 1
    del seg["x"]
    for number in range(127):
        seg[number] = 1
        del seg[number]
    assert take(changes) == [("data", seg.version("data")), ("x", 0)]


# --- how it ends


@both
def test_close_ends_it(seg, take):
    changes = seg.changes(newer_than={}, timeout=0)
    seg["x"] = 1
    changes.close()
    changes.close()
    assert take(changes) is None
    assert repr(changes).endswith(", closed>") and changes.segment is seg and changes.timeout == 0


def test_close_ends_a_thread_that_sleeps_in_it(seg, handle):
    for _ in range(20):
        changes, ended = handle.changes(), []
        threads = [threading.Thread(target=lambda c=changes, e=ended: e.append(list(c))) for _ in range(2)]
        for thread in threads:
            thread.start()
        changes.close()
        for thread in threads:
            thread.join(60)
        assert ended == [[], []]


def test_close_ends_a_task_and_cancelling_it_loses_nothing(seg):
    async def main():
        changes = seg.changes()
        task = asyncio.ensure_future(changes.__anext__())
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        seg["x"] = 1
        assert await changes.__anext__() == ("x", seg.version("x"))

        async def all_told():
            return [change async for change in changes]

        task = asyncio.ensure_future(all_told())
        await asyncio.sleep(0.05)
        changes.close()
        assert await asyncio.wait_for(task, 60) == []

    run(main())


def test_a_forked_child_has_none(seg):
    changes = seg.changes(newer_than={})
    seg["x"] = 1
    pid = os.fork()
    if pid == 0:
        os._exit(0 if list(changes) == [] and changes.close() is None else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert next(changes) == ("x", seg.version("x"))


@both
def test_destroying_the_segment_ends_it_when_all_was_told(new_key, take):
    with shmvar.attach(new_key()) as segment:
        changes = segment.changes(newer_than={}, timeout=60)
        segment["x"] = 1
        segment.destroy()
        assert next(changes)[0] == "x"
        with pytest.raises(shmvar.SegmentNotFoundError):
            take(changes)
        changes = segment.changes()
        thread = threading.Timer(0.05, segment.detach)
        thread.start()
        with pytest.raises((shmvar.SegmentNotFoundError, shmvar.DetachedError)):
            take(changes)
        thread.join()


def test_detaching_the_handle_ends_it(key, seg):
    handle = shmvar.attach(key)
    changes = handle.changes()
    timer = threading.Timer(0.05, handle.detach)
    timer.start()
    with pytest.raises(shmvar.DetachedError):
        next(changes)
    timer.join()
    with pytest.raises(shmvar.DetachedError):
        handle.changes()


def test_garbage_gives_everything_back(seg):
    before = len(gc.get_referrers(seg))
    for _ in range(100):
        iter(seg.changes(timeout=0))
    gc.collect()
    assert len(gc.get_referrers(seg)) == before


@both
def test_a_timeout_is_an_error_of_one_step(seg, handle, take):
    changes = handle.changes(timeout=0.2)
    for _ in range(2):
        began = time.monotonic()
        with pytest.raises(shmvar.WaitTimeoutError, match=r"nothing changed within 0\.2 s"):
            next(changes)
        assert time.monotonic() - began >= 0.15
        assert take(changes) == []
    seg["x"] = 1
    assert next(changes) == ("x", seg.version("x"))


def test_ctrl_c_ends_a_step_and_the_next_one_goes_on(seg, handle):
    main = threading.main_thread()
    changes = handle.changes()
    for _ in range(3):
        timer = threading.Timer(0.05, lambda: signal.pthread_kill(main.ident, signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            timer.start()
            next(changes)
            pytest.fail("something changed")
        timer.join()
    seg["x"] = 1
    assert next(changes) == ("x", seg.version("x"))


def test_wrong_arguments_are_refused_at_once(seg):
    for call, error, text in [
        (lambda: seg.changes({}), TypeError, "positional"),
        (lambda: seg.changes(newer_than=5), TypeError, "newer_than.*int"),
        (lambda: seg.changes(newer_than=[(1, 5)]), TypeError, "newer_than.*list"),
        (lambda: seg.changes(newer_than={1: "5"}), TypeError, "version"),
        (lambda: seg.changes(newer_than={1.5: 5}), TypeError, "index"),
        (lambda: seg.changes(newer_than={2**63: 5}), OverflowError, "index"),
        (lambda: seg.changes(prefix=b"x"), TypeError, "prefix.*bytes"),
        (lambda: seg.changes(timeout=-1), ValueError, "timeout"),
        (lambda: seg.changes(timeout="1"), TypeError, "str"),
        (lambda: shmvar.Changes(), TypeError, "Changes"),
    ]:
        with pytest.raises(error, match=text):
            call()
