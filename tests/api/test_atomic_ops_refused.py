"""Atomic changes that must fail: read-only and detached handles, wrong arguments, values that run code or call back."""

import pickle
import time

import helpers
import numpy
import pytest
from helpers.indexes import Indexed

import shmvar

CHANGES = {
    "add": lambda s: s.add("i"),
    "add float": lambda s: s.add("i", 0.5),
    "swap": lambda s: s.swap("i", 1),
    "compare_and_put": lambda s: s.compare_and_put("i", 0, 1),
    "compare_and_put that fails": lambda s: s.compare_and_put("i", 99, 1),
    "modify": lambda s: s.modify("i", lambda old: old, 1),
    "put_many": lambda s: s.put_many({"i": 1}),
    "put_many of nothing": lambda s: s.put_many({}),
    "update": lambda s: s.update({"i": 1}),
    "clear": lambda s: s.clear(),
    "put with ttl": lambda s: s.put("i", 1, ttl=5),
    "put_many with ttl": lambda s: s.put_many({"i": 1}, ttl=5),
    "lock": lambda s: s.lock().acquire(0),
    "with lock": lambda s: s.lock().__enter__(),
}
READS = {
    "version": lambda s: s.version("i"),
    "get_versioned": lambda s: s.get_versioned("i"),
    "get_many": lambda s: s.get_many(["i"]),
    "get_many of nothing": lambda s: s.get_many([]),
    "wait": lambda s: s.wait("i", 0.01, newer_than=99),
    "wait_any": lambda s: s.wait_any(["i"], 0.01, newer_than={"i": 99}),
    "locked": lambda s: s.lock().locked(),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("there", [5, "text", None])
def test_a_change_through_a_read_only_handle_is_a_read_only_error(seg, key, change, there):
    seg["i"] = there
    before = seg.get_versioned("i")
    with shmvar.attach(key, readonly=True) as reader, pytest.raises(shmvar.ReadOnlyError) as caught:
        CHANGES[change](reader)
    assert isinstance(caught.value, PermissionError)
    assert seg.get_versioned("i") == before and dict(seg) == {"i": there} and not seg.lock().locked()


def test_a_function_does_not_run_for_a_handle_that_may_not_store_its_result(seg, key):
    seg["i"] = 1
    with shmvar.attach(key, readonly=True) as reader, pytest.raises(shmvar.ReadOnlyError):
        reader.modify("i", lambda old: pytest.fail("it ran"))


@pytest.mark.parametrize("read", READS)
def test_a_read_only_handle_reads(seg, key, read):
    seg.put_many({"i": [1], "j": b"x" * 100_000})
    with shmvar.attach(key, readonly=True) as reader:
        assert reader.version("i") == seg.version("i") and reader.get_versioned("i") == seg.get_versioned("i")
        assert reader.get_many(["i", "j", "k"]) == {"i": [1], "j": b"x" * 100_000}
        READS[read](reader)


@pytest.mark.parametrize("call", CHANGES | READS)
def test_f14_a_detached_handle_is_a_detached_error(seg, key, call):
    handle = shmvar.attach(key)
    handle["i"] = 1
    handle.detach()
    with pytest.raises(shmvar.DetachedError) as caught:
        (CHANGES | READS)[call](handle)
    assert isinstance(caught.value, ValueError) and dict(seg) == {"i": 1}


def test_detaching_in_the_function_of_modify_is_a_detached_error(seg, key):
    handle = shmvar.attach(key)
    handle["i"] = 1
    with pytest.raises(shmvar.DetachedError):
        handle.modify("i", lambda old: handle.detach())
    assert seg["i"] == 1


# --- arguments


BY_INDEX = {
    "add": lambda s, i: s.add(i),
    "swap": lambda s, i: s.swap(i, 1),
    "version": lambda s, i: s.version(i),
    "get_versioned": lambda s, i: s.get_versioned(i),
    "compare_and_put": lambda s, i: s.compare_and_put(i, 0, 1),
    "modify": lambda s, i: s.modify(i, lambda old: old, 1),
    "put_many": lambda s, i: s.put_many([(i, 1)]),
    "get_many": lambda s, i: s.get_many([i]),
    "wait": lambda s, i: s.wait(i, 0),
    "lock": lambda s, i: s.lock(i),
    "changed": lambda s, i: s.changed(i),
    "wait_any": lambda s, i: s.wait_any([i], 0),
    "changed_any": lambda s, i: s.changed_any([i]),
}


@pytest.mark.parametrize("call", BY_INDEX)
@pytest.mark.parametrize(
    ("index", "error"),
    [
        (1.0, TypeError),
        (b"1", TypeError),
        ([], TypeError),
        ((1,), TypeError),
        (2**63, OverflowError),
        (-(2**63) - 1, OverflowError),
        ("x" * 1025, OverflowError),
        ("é" * 513, OverflowError),
        (numpy.uint64(2**64 - 1), OverflowError),
    ],
)
def test_f44_wrong_indexes_are_refused_by_every_method_alike(seg, call, index, error):
    seg[1] = 1
    with pytest.raises(error):
        BY_INDEX[call](seg, index)
    assert dict(seg) == {1: 1}


@pytest.mark.parametrize("index", [7, numpy.int8(7), numpy.uint64(7), Indexed(7)])
def test_f44_whatever_has_index_is_the_same_index_everywhere(seg, index):
    assert seg.add(index) == 1 and seg.swap(index, 5) == 1 and seg.modify(index, lambda old: old + 1) == 6
    assert seg.compare_and_put(index, seg.version(7), 8) and seg.get_versioned(index) == (8, seg.version(index))
    seg.put_many([(index, 9)])
    assert seg.get_many([index]) == {7: 9} == dict(seg) and type(next(iter(seg.get_many([index])))) is int
    assert seg.wait(index, 5, newer_than=0) == seg.version(7)
    with seg.lock(index):
        assert seg.lock(7).locked()


@pytest.mark.parametrize("ttl", [0, -1, -0.0, float("nan"), float("inf"), -float("inf"), "5", b"5", [], 1j])
@pytest.mark.parametrize("how", ["put", "put_many"])
def test_a_wrong_time_to_live_is_refused_and_nothing_is_stored(seg, how, ttl):
    seg[1] = "old"
    before = seg.version(1)
    with pytest.raises((ValueError, TypeError)):
        seg.put(1, "new", ttl=ttl) if how == "put" else seg.put_many({1: "new", 2: 2}, ttl=ttl)
    assert dict(seg) == {1: "old"} and seg.version(1) == before


@pytest.mark.parametrize("timeout", [-1, -0.001, float("nan"), "1", [], 1j])
@pytest.mark.parametrize("how", ["wait", "lock", "acquire"])
def test_a_wrong_timeout_is_refused_at_once(seg, how, timeout):
    with pytest.raises((ValueError, TypeError)):
        if how == "wait":
            seg.wait(1, timeout)
        elif how == "lock":
            seg.lock(timeout=timeout)
        else:
            seg.lock().acquire(timeout)
    assert not seg.lock().locked()


def test_names_of_arguments_are_those_of_the_contract(seg):
    assert seg.add(index=1, amount=2) == 2
    assert seg.swap(index=1, value=3, default=None) == 2
    assert seg.compare_and_put(index=1, version=seg.version(index=1), value=4)
    assert seg.modify(index=1, function=lambda old: old, default=5) == 4
    seg.put(index=2, value=1, ttl=50)
    seg.put_many(mapping={3: 3}, ttl=None)
    assert seg.get_many(indices=[3]) == {3: 3} and seg.get_versioned(index=3)[0] == 3
    assert seg.wait(index=3, timeout=1, newer_than=0) == seg.version(3)
    lock = seg.lock(name="n", timeout=1)
    assert lock.acquire(timeout=1) and lock.locked() and lock.release() is None and not lock.locked()


@pytest.mark.parametrize(
    "call",
    [
        lambda s: s.put(1, 1, 5),
        lambda s: s.put_many({1: 1}, 5),
        lambda s: s.wait(1, 1, 1),
        lambda s: s.lock(1, 1),
        lambda s: s.add(),
        lambda s: s.swap(1),
        lambda s: s.compare_and_put(1, 0),
        lambda s: s.modify(1),
        lambda s: s.get_many(),
        lambda s: s.put_many(),
        lambda s: s.put_many(None),
        lambda s: s.get_many(5),
        lambda s: s.put_many(5),
        lambda s: s.put_many([1, 2]),
        lambda s: s.version(),
    ],
)
def test_missing_superfluous_and_senseless_arguments_are_type_errors(seg, call):
    with pytest.raises(TypeError):
        call(seg)
    assert len(seg) == 0


# --- values that run code


RAN = []


def tell():
    RAN.append(1)


class Evil:
    """Reports when it is unpickled."""

    def __reduce__(self):
        return tell, ()


@pytest.fixture
def untrusted(seg, key):
    with shmvar.attach(key, trust=False) as handle:
        yield handle


def test_through_an_untrusted_handle_no_value_runs_code(seg, untrusted):
    seg.update({"evil": Evil(), "many": [Evil()], "plain": {"a": [1, 2.5, None, b"x" * 100_000]}})
    before = {index: seg.version(index) for index in seg}
    RAN.clear()
    for call in (
        lambda: untrusted.get_versioned("evil"),
        lambda: untrusted.modify("evil", lambda old: pytest.fail("it ran")),
        lambda: untrusted.get_many(["plain", "evil"]),
        lambda: untrusted.get_many(["many"]),
        lambda: untrusted.swap("many", 1),
    ):
        with pytest.raises(shmvar.UntrustedValueError, match="tell"):
            call()
    with pytest.raises((TypeError, shmvar.UntrustedValueError)):
        untrusted.add("evil")
    assert untrusted.version("evil") == before["evil"] and untrusted.get_many(["plain"])["plain"]["a"][0] == 1
    assert RAN == []


def test_a_segment_that_others_may_write_is_not_trusted_by_the_new_methods(new_key):
    with shmvar.attach(new_key(), perm=0o660) as segment:
        assert not segment.trusted
        assert segment.add("n") == 1 and segment.add("n", 0.5) == 1.5 and segment.swap("n", 2**70) == 1.5
        assert segment.add("n", 1) == 2**70 + 1 and segment.modify("n", lambda old: [old]) == [2**70 + 1]
        segment.put_many({1: "x", 2: {"y": (1, 2)}, 3: b"z" * 100_000}, ttl=1000)
        assert segment.get_many([1, 2, 3]) == {1: "x", 2: {"y": (1, 2)}, 3: b"z" * 100_000}
        RAN.clear()
        segment["evil"] = Evil()
        for call in (segment.get_versioned, lambda i: segment.get_many([i]), lambda i: segment.modify(i, str)):
            with pytest.raises(shmvar.UntrustedValueError):
                call("evil")
        assert RAN == []
        with segment.lock("l", timeout=5):
            assert segment.lock("l").locked()
        segment.check()


# --- values and functions that call back


class CallsBack:
    def __init__(self, function):
        self.function = function

    def __reduce__(self):
        return str, (str(self.function()),)


def test_f51_a_value_that_calls_back_while_it_is_pickled_does_not_deadlock(seg):
    def back():
        seg.add("n")
        seg.put_many({"m": seg.version("m"), "x": b"x" * 100_000})
        with seg.lock("inner", timeout=5):
            return seg.modify("mod", lambda old: old + 1, 0)

    assert seg.swap("v", CallsBack(back)) is None
    seg.put_many({1: CallsBack(back), 2: CallsBack(back)})
    assert seg.compare_and_put("c", 0, CallsBack(back))
    assert seg.modify("v", lambda old: CallsBack(back)).function is back
    assert (seg["n"], seg["mod"], seg["v"], seg[1], seg[2], seg["c"]) == (5, 5, "5", "2", "3", "4")


def test_f50_a_value_that_cannot_be_pickled_surfaces_and_nothing_is_stored(seg):
    seg[1] = "old"
    for call in (
        lambda bad: seg.swap(1, bad),
        lambda bad: seg.compare_and_put(1, seg.version(1), bad),
        lambda bad: seg.put_many({2: 2, 1: bad}),
        lambda bad: seg.update({2: 2, 1: bad}),
        lambda bad: seg.modify(1, lambda old: bad),
        lambda bad: seg.put(1, bad, ttl=5),
    ):
        with pytest.raises((pickle.PicklingError, AttributeError)):
            call(lambda: None)
        with pytest.raises(ZeroDivisionError):
            call(CallsBack(lambda: 1 // 0))
    assert dict(seg) == {1: "old"}


def test_f52_others_are_not_blocked_while_a_value_is_pickled(seg, key):
    def slow():
        helpers.run("s = shmvar.attach(key); s.add('n'); s.put_many({5: 5}); s[6] = b'x' * 99999", key)
        time.sleep(0.1)

    seg.put_many({1: CallsBack(slow)})
    seg.swap(2, CallsBack(slow))
    assert seg["n"] == 2 and seg.get_many([1, 2]) == {1: "None", 2: "None"}
