"""Containers that the core leaves to the pickler, and what reading and writing containers leaves behind: nothing."""

import collections
import enum
import gc
import pickle
import subprocess
import sys
import threading
import tracemalloc

import pytest
from helpers.containers import by_core, decode, stored, written_by_core
from helpers.value_comparison import same

import shmvar

# --- what is left to the pickler


class Name(str):
    pass


class Flag(enum.IntEnum):
    A = 1


class Loud:
    """Its hash and its comparison must not be called by anything that walks through a value."""

    def __hash__(self):
        return 1

    def __eq__(self, other):
        raise AssertionError("compared")


@pytest.mark.parametrize(
    "value",
    [
        [Name("x")],
        {Name("x"): 1},
        {Flag.A: 2},
        [1.5, [[Flag.A]]],
        collections.OrderedDict(a=1),
        [collections.OrderedDict(a=1)],
        (collections.Counter("aab"),),
        {"a": bytearray(b"x")},
        [2**64],
        {-(2**63) - 1: 1},
        [1, 2, 3j],
        [range(3)],
        {"f": len},
        collections.namedtuple("Single", "x").__class__,
    ],
    ids=repr,
)
def test_any_other_class_inside_leaves_the_whole_value_to_the_pickler(seg, value):
    for _ in range(70):
        data = stored(seg, value)
        assert not written_by_core(data)
        again = seg[1]
        assert again == value and type(again) is type(value) and repr(again) == repr(value)
        assert decode(data) is None or b"bytearray" in repr(value).encode()


@by_core
def test_a_shape_that_was_refused_is_tried_again_later(seg):
    for _ in range(200):
        assert not written_by_core(stored(seg, {"when": 3j, "x": 1}))
    assert any(written_by_core(stored(seg, {"when": 3, "x": 1})) for _ in range(64))
    assert all(written_by_core(stored(seg, {"when": 3, "x": 1})) for _ in range(5))


def test_neither_hash_nor_comparison_of_a_stored_object_runs(seg):
    loud = Loud()
    with pytest.raises(Exception) as caught:
        seg[1] = {loud: threading.Lock()}
    assert not isinstance(caught.value, AssertionError)


@pytest.mark.parametrize("depth", [1, 50, 99, 100, 101, 150, 300])
def test_depths(seg, depth):
    value = []
    for n in range(depth):
        value = [[value], (value,), {"k": value}][n % 3]
    seg[1] = value
    # No comparison: it would share the inner values' depth.
    assert same(seg[1], value)


def test_what_is_too_deep_for_the_pickler_is_its_error_and_changes_nothing(seg):
    value = []
    for _ in range(100_000):
        value = [value]
    seg[1] = "old"
    with pytest.raises(RecursionError):
        seg[1] = value
    assert seg[1] == "old"
    # Freed bit by bit: the interpreter's own release of so deep a list is not what is tested.
    while value:
        value = value.pop()


def test_a_pickle_deeper_than_any_stack_is_read(seg):
    depth = 50_000
    data = b"\x80\x04" + b"]" * depth + b"a" * (depth - 1) + b"."
    value = decode(data)[0]
    for _ in range(depth - 1):
        value = value.pop()
    assert value == []


@by_core
def test_a_shape_is_told_by_its_first_key_not_by_the_key_s_address(seg):
    tried = 0
    for n in range(400):
        row = {"".join(("wh", "en")): 3j, "n": n} if n % 8 else {"".join(("wh", "en")): n, "n": n}
        tried += written_by_core(stored(seg, row))
    assert tried < 50
    assert any(written_by_core(stored(seg, {"when": 3, "n": 1})) for _ in range(64))


@by_core
def test_of_values_that_alternate_those_without_an_object_have_their_turn(seg):
    written = [written_by_core(stored(seg, {"either": 1.5 if n % 2 else 3j})) for n in range(200)]
    assert sum(written) > 50


@pytest.mark.parametrize("option", ["-b", "-bb"])
def test_no_code_runs_while_a_value_is_read_also_where_comparing_text_and_bytes_warns(seg, option):
    seg[1] = [{"a": 1, b"a": 2}]
    code = """
import gc, sys, warnings
import shmvar
seen = []
def hook(*arguments):
    seen.append(gc.isenabled())
warnings.showwarning = hook
segment = shmvar.attach(sys.argv[1])
try:
    assert segment[1] == [{"a": 1, b"a": 2}]
except BytesWarning:
    print("raised")
print(gc.isenabled(), all(seen))
"""
    done = subprocess.run(
        [sys.executable, option, "-c", code, seg.key], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines() == ["raised"] * (option == "-bb") + ["True True"]


# --- leaks and the collector


def references(objects):
    return [sys.getrefcount(one) for one in objects]


def test_no_reference_is_kept_or_lost_whether_a_walk_ends_or_not(seg):
    class Other:
        def __reduce__(self):
            raise ZeroDivisionError

    objects = [object.__new__(object), 1234.5, "a text that is nobody else's", b"bytes", [1], {"k": [2]}, (3, [4]), {5}]
    parts = objects[1:]
    whole = [parts, {"x": parts, (1, 2): frozenset({(7, 8)})}]
    before = references(objects)
    for n in range(300):
        seg[1] = whole
        seg.put_many({1: whole, 2: parts})
        with pytest.raises(ZeroDivisionError):
            seg[1] = [whole, Other(), n]
        seg[1] = [whole, "\ud800", 3j]
    assert references(objects) == before


@pytest.mark.parametrize(
    "data",
    [
        pickle.dumps([[{"a": n, "b": [n * 1.5, str(n)]} for n in range(20)], {1, 2}, frozenset({3}), (4,)]),
        b"\x80\x05]\x94(}(\x8c\x03keyK\x01K\x02(K\x03K\x04l(\x8c\x05valueG" + bytes(8),
        b"\x80\x05(](K\x01K\x02e}(\x8c\x04texta]K\x01u.",
        b"\x80\x05(\x8c\x07a text!\x94h\x00h\x00]\x94h\x01}(h\x00h\x00h\x01h\x00u.",
        b"\x80\x05}(\x8c\x0ca longer keyX\x03\x00\x00\x00abcl.",
    ],
)
def test_reading_leaves_no_block_behind_whether_it_ends_or_not(data):
    def run():
        for _ in range(50):
            decode(data)

    run()
    gc.collect()
    counts = []
    for _ in range(6):
        run()
        gc.collect()
        counts.append(sys.getallocatedblocks())
    assert min(counts[1:]) - counts[0] <= 5 and max(counts) - counts[-1] <= 50, counts


def test_memory_of_large_values_is_given_back(seg):
    large = {n: [n * 0.5, str(n)] for n in range(100_000)}
    seg[1] = large
    del large
    tracemalloc.start()
    seg[1] = seg[1]
    gc.collect()
    before, _ = tracemalloc.get_traced_memory()
    for _ in range(3):
        seg[1] = seg[1]
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 200_000


@pytest.mark.parametrize("on", [True, False])
def test_the_garbage_collector_is_as_it_was_and_does_not_run_within(seg, on):
    seen = []
    value = [{n, n + 1} for n in range(2_000)]
    (gc.enable if on else gc.disable)()
    gc.callbacks.append(lambda phase, info: seen.append(shmvar.__name__))
    try:
        gc.collect()
        seen.clear()
        seg[1] = value
        within = len(seen)
        assert gc.isenabled() is on
        with pytest.raises(TypeError):
            seg[1] = [value, threading.Lock()]
        assert gc.isenabled() is on
        decode(b"\x80\x05}(]K\x01u.")
        assert gc.isenabled() is on
        # The walk makes 2,000 iterators, which would start the collector twice.
        assert within <= 1
    finally:
        gc.callbacks.pop()
        gc.enable()


# --- several threads


def test_threads_write_and_read_containers_side_by_side(seg):
    failures = []

    def work(number):
        try:
            value = {f"key {n}": [number, n * 0.5, {"name": f"{number}-{n}"}] for n in range(60)}
            for _ in range(200):
                seg[number] = value
                assert seg[number] == value
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures and not any(thread.is_alive() for thread in threads)
