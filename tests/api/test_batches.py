"""`put_many`, `get_many`, `update`, `clear`: what they take, what they leave, what does not fit."""

import datetime
import itertools
import random
import time
from collections import ChainMap, OrderedDict, UserDict, defaultdict
from types import MappingProxyType

import helpers
import numpy
import pytest

import shmvar

VALUES = [7, None, "short", "x" * 500, [1] * 3000, b"x" * 300_000]


def names(count):
    """Indexes of all kinds."""
    kinds = (lambda n: n, lambda n: -n - 1, lambda n: f"text {n}", lambda n: f"{n}" * 50)
    return [kinds[n % 4](n) for n in range(count)]


@pytest.mark.parametrize("count", [0, 1, 2, 100, 2000])
@pytest.mark.parametrize("how", ["put_many", "update"])
def test_all_of_it_is_stored_and_read(seg, key, count, how):
    items = {name: VALUES[n % (6 if count <= 100 else 5)] for n, name in enumerate(names(count))}
    seg["before"] = 1
    assert getattr(seg, how)(items) is None
    assert dict(seg) == {"before": 1} | items and len(seg) == count + 1
    with shmvar.attach(key, readonly=True) as reader:
        for handle in (seg, reader):
            got = handle.get_many([*items, "missing", 10**9])
            assert got == items and all(type(index) in (int, str) for index in got)
    assert seg.info().used == sum(seg.stat(index).size for index in seg)


@pytest.mark.parametrize("seed", range(4))
def test_small_batches_are_as_updates_of_a_dict(seg, seed):
    """Batches of up to twenty values, of which the few and small ones are one commit: of new indices that take slots
    and blocks beside each other, of values in another form than before, of an index that stands twice, while the table
    grows and slabs come and go."""
    draw, plain = random.Random(seed), {}
    small = [7, None, 1.5, "short", "x" * 40, "y" * 300, b"abc", [1, 2], {"a": 1}]
    for turn in range(1000):
        some = [draw.randrange(60 + turn // 2), f"text {draw.randrange(100)}", -draw.randrange(1, 40)]
        indices = [draw.choice(some) if draw.random() < 0.3 else draw.randrange(3000) for _ in range(turn % 21)]
        pairs = [(index, draw.choice(small)) for index in indices]
        seg.update(pairs)
        plain.update(pairs)
        for index in draw.sample(sorted(plain, key=str), min(len(plain), draw.randrange(14))):
            if draw.random() < 0.1:
                seg[index] = plain[index] = b"x" * 30_000
            else:
                del seg[index], plain[index]
        asked = [draw.randrange(3000) for _ in range(turn % 40)] + indices
        assert seg.get_many(asked) == {index: plain[index] for index in asked if index in plain}
        if turn % 100 == 0:
            seg.check()
    assert dict(seg) == plain and len(seg) == len(plain)
    seg.check()
    assert seg.info().used == sum(seg.stat(index).size for index in seg)


def test_a_small_batch_that_does_not_fit_changes_nothing(seg):
    seg.update({1: "x" * 40, "text": 5})
    seg.resize(seg.info().used + 100)
    before = dict(seg), {index: seg.version(index) for index in seg}, seg.info().used
    for batch in {1: 2, 3: "y" * 120, 4: 5}, {n: n for n in range(10, 14)}, {"text": "z" * 160}:
        with pytest.raises(shmvar.SegmentFullError):
            seg.put_many(batch)
        assert (dict(seg), {index: seg.version(index) for index in seg}, seg.info().used) == before
    seg.put_many({1: 2, 2: "y" * 60, 3: 3})
    seg.check()


def test_each_variable_of_a_small_batch_has_a_version_of_its_own(seg):
    seg.update({1: 1, "text": "x"})
    last = max(seg.version(index) for index in seg)
    seg.put_many({1: 2, 2: 2, "text": "y" * 40, "other": 3})
    assert sorted(seg.version(index) for index in seg) == [last + 1 + n for n in range(4)]


@pytest.mark.parametrize(
    "kind",
    [
        dict,
        OrderedDict,
        MappingProxyType,
        ChainMap,
        UserDict,
        lambda d: defaultdict(int, d),
        lambda d: list(d.items()),
        lambda d: tuple([list(pair) for pair in d.items()]),
        lambda d: iter(d.items()),
        lambda d: (pair for pair in d.items()),
        lambda d: d.items(),
        lambda d: map(tuple, d.items()),
        lambda d: numpy.array(list(d.items())).tolist(),
    ],
)
def test_mappings_and_iterables_of_pairs_are_taken(seg, kind):
    items = {n: n * n for n in range(50)}
    seg.put_many(kind(items))
    assert dict(seg) == items
    seg.clear()
    seg.update(kind(items))
    assert dict(seg) == items


def test_another_segment_is_a_mapping_too_and_so_is_this_one(seg, new_key):
    with shmvar.attach(new_key()) as other:
        other.put_many({1: 1, "x": b"x" * 100_000})
        seg.put_many(other)
        assert seg == other
        seg.put_many(seg)
        assert seg == other and len(seg) == 2


def test_update_takes_names_and_nothing(seg):
    seg.update()
    seg.update({})
    seg.update(a=1, b=[2])
    seg.update({"a": 5, 1: 1}, b=6)
    seg.update([("c", 7)], c=8)
    assert dict(seg) == {"a": 5, 1: 1, "b": 6, "c": 8}


@pytest.mark.parametrize(
    "kind", [list, tuple, set, iter, dict.fromkeys, lambda i: (each for each in i), frozenset, lambda i: map(int, i)]
)
def test_get_many_takes_any_iterable_of_indexes(seg, kind):
    seg.put_many({n: n for n in range(100)})
    assert seg.get_many(kind(range(0, 200, 2))) == {n: n for n in range(0, 100, 2)}
    assert seg.get_many(numpy.arange(3)) == {0: 0, 1: 1, 2: 2}
    assert seg.get_many(range(98, 10**4)) == {98: 98, 99: 99}


def test_of_many_items_for_few_indexes_the_last_of_each_counts_whatever_they_are(seg):
    """Values of all sizes, between others; as pairs, because a dict has each index once."""
    values = [
        None,
        7,
        "é" * 50,
        b"x" * 40_000,
        "y" * 100_000,
        bytearray(b"z" * 9000),
        {"a": [1]},
        datetime.date(2026, 1, 2),
    ]
    indexes = [1, -1, "1", "", "a" * 1000, "\U0001f600"]
    pairs = [(index, values[(turn + at) % len(values)]) for turn in range(40) for at, index in enumerate(indexes)]
    assert len(pairs) == 240
    seg.put_many(iter(pairs))
    assert dict(seg.items()) == dict(pairs)
    seg.put_many([(5, 1), *([(5, 2)] * 30_000), (5, 3)])
    assert seg[5] == 3 and seg.get_many(indexes) == dict(pairs)
    seg.check()


def test_of_two_items_for_one_index_the_last_counts(seg):
    seg.put_many([(1, "a"), ("x", b"1" * 200_000), (1, b"2" * 200_000), ("x", "b"), (numpy.int8(1), "last"), (2, 2)])
    assert dict(seg) == {1: "last", "x": "b", 2: 2}
    assert seg.info().used == sum(seg.stat(index).size for index in seg)
    assert seg.get_many([1, 1, numpy.int64(1), "x"]) == {1: "last", "x": "b"}
    # 5 and "5" are two.
    seg.put_many([(5, "int"), ("5", "str")])
    assert seg.get_many([5, "5"]) == {5: "int", "5": "str"}
    seg.put_many([(n % 10, n) for n in range(10_000)])
    assert seg.get_many(range(10)) == {n: 9990 + n for n in range(10)}


def test_values_are_independent_and_large_ones_are_whole(seg):
    array = numpy.arange(200_000)
    seg.put_many({"a": array, "list": [1]})
    array[:] = 0
    got = seg.get_many(["a", "list"])
    got["list"].append(2)
    got["a"][5] = -1
    assert (seg["a"] == numpy.arange(200_000)).all() and seg["list"] == [1] and got["a"][5] == -1
    view = seg.view("a")
    seg.put_many({"a": 1, "list": 2})
    seg.put_many({n: b"\xff" * 1_600_000 for n in range(3)})
    assert (view == numpy.arange(200_000)).all() and got["a"][6] == 6


def test_replaced_new_and_removed_ones_of_every_size_in_one_batch(seg):
    lengths = [0, 5, 13, 14, 100, 1000, 7000, 16_300, 20_000, 300_000]
    for old, new in itertools.product(lengths, lengths):
        seg.put_many({f"{old} {new}": b"o" * old, f"t{old} {new}" * 30: "o" * old})
    seg.put_many(
        {f"{old} {new}": b"n" * new for old, new in itertools.product(lengths, lengths)}
        | {f"t{old} {new}" * 30: "n" * new for old, new in itertools.product(lengths, lengths)}
    )
    for old, new in itertools.product(lengths, lengths):
        assert seg.get_many([f"{old} {new}"]) == {f"{old} {new}": b"n" * new}
        assert seg[f"t{old} {new}" * 30] == "n" * new
    assert seg.info().used == sum(seg.stat(index).size for index in seg)
    seg.clear()
    assert seg.info().used == 0 and len(seg) == 0


def test_a_batch_ends_a_time_to_live_or_gives_all_the_same(seg):
    seg.put_many({1: 1, "x": b"x" * 100_000}, ttl=1000)
    assert all(900 < seg.stat(index).expires_in <= 1000 for index in (1, "x"))
    seg.put_many({1: 1})
    seg.update({"x": 2})
    assert all(seg.stat(index).expires_in is None for index in (1, "x"))
    seg.put_many({n: n for n in range(3000)}, ttl=0.3)
    time.sleep(0.4)
    assert seg.get_many(range(3000)) == {} and dict(seg) == {"x": 2}


# --- what does not fit, what fails


def test_f36_a_batch_that_does_not_fit_changes_nothing(key):
    with shmvar.attach(key, 200_000) as segment:
        segment.put_many({"a": b"a" * 50_000, 1: "one", "old": 5})
        before = {index: segment.get_versioned(index) for index in segment}
        used = segment.info().used
        for batch in (
            {"a": b"b" * 10, "b": b"b" * 300_000},
            {n: b"x" * 1000 for n in range(1000)},
            {n: n for n in range(10_000)},
            {"t" * 900 + f"{n}": 1 for n in range(300)},
            {1: "two", "c": b"c" * 100_000, "d": b"d" * 100_000},
        ):
            for call in (segment.put_many, segment.update):
                with pytest.raises(shmvar.SegmentFullError) as caught:
                    call(batch)
                error = caught.value
                assert error.needed > error.free and error.size == 200_000 and isinstance(error, MemoryError)
            assert {index: segment.get_versioned(index) for index in segment} == before
            assert segment.info().used == used == segment.check().used
        # The values that a batch replaces count as free.
        segment.put_many({"a": b"A" * 150_000, 1: "two"})
        segment.put_many({"a": 1, "b": b"B" * 150_000})
        assert segment[1] == "two" and segment["a"] == 1
        segment.clear()
        assert segment.info().used == 0
        segment.put_many({n: n for n in range(200_000 // 40)})


def test_a_batch_fills_the_segment_to_the_last_byte(key):
    with shmvar.attach(key, 100_000) as segment:
        segment.put_many({n: "x" * 500 for n in range(50)})
        room = segment.info().largest_put
        segment.put_many({1000: b"x" * room})
        assert segment.info().free < 8
        with pytest.raises(shmvar.SegmentFullError):
            segment.put_many({0: "x" * 500, 1001: 1})
        segment.put_many({1000: 5, **{n: "y" * 500 for n in range(50, 100)}})
        assert len(segment) == 101 and segment.check()


def test_an_iterable_that_raises_and_a_wrong_item_change_nothing(seg):
    seg.put_many({1: "old"})

    def broken():
        yield 1, "new"
        yield 2, b"x" * 100_000
        raise ZeroDivisionError

    cases = [(broken(), ZeroDivisionError), ([(1, "new"), (2,)], (TypeError, ValueError))]
    cases += [([(1, "new"), (1, 2, 3)], (TypeError, ValueError)), ({1: "new", 1.5: 2}, TypeError)]
    cases += [({1: "new", 2**63: 2}, OverflowError), ([(1, "new"), None], TypeError)]
    for items, error in cases:
        with pytest.raises(error):
            seg.put_many(items)
        assert dict(seg) == {1: "old"}
    with pytest.raises(ZeroDivisionError):
        seg.get_many(n // 0 for n in range(3))


def test_get_many_of_a_value_that_does_not_load_names_it(seg, key):
    code = "import types\nm = types.ModuleType('gone'); sys.modules['gone'] = m\n"
    code += "class C: pass\nC.__module__ = 'gone'; C.__qualname__ = 'C'; m.C = C\n"
    code += "shmvar.attach(key).put_many({1: 1, 'bad': C()})"
    helpers.run(code, key)
    assert seg.get_many([1]) == {1: 1}
    with pytest.raises(ModuleNotFoundError):
        seg.get_many([1, "bad"])
    assert "bad" in seg


# --- clear


def test_clear_removes_all_and_only_variables(seg, key):
    for count in (0, 1, 10, 20_000):
        seg.put_many({name: n for n, name in enumerate(names(count))})
        with seg.lock("held"):
            seg.clear()
            assert len(seg) == 0 == seg.info().used and seg.info().locks.keys() == {"held"} and list(seg) == []
        assert seg.check().variables == 0
    seg["v"] = 1
    assert dict(seg) == {"v": 1}


def test_clear_is_one_instant_to_get_many(seg, key, children):
    """A writer stores a set and clears it: readers see all of it or nothing."""
    code = """
    s = shmvar.attach(key)
    print("go", flush=True)
    for turn in range(10 ** 9):
        s.put_many({n if n % 2 else f"{n}": turn for n in range(40)})
        # The set is there only for a moment, sometimes longer than one look takes.
        time.sleep(0.001 if turn % 8 == 0 else 0)
        s.clear()
    """
    children.append(helpers.start(code, key))
    wanted = [n if n % 2 else f"{n}" for n in range(40)]
    seen = set()
    with shmvar.attach(key, readonly=True) as reader:
        for _ in helpers.looks(lambda: len(seen) == 4):
            for handle in (seg, reader):
                got = handle.get_many(wanted)
                assert len(got) in (0, 40) and len(set(got.values())) <= 1, got
                seen.add((handle is reader, len(got)))


def test_memory_of_batches_is_given_back(seg):
    for turn in range(30):
        seg.put_many({n: b"x" * (turn * 997 % 40_000) for n in range(100)})
        seg.put_many({f"{n}": "y" * (turn * 31 % 700) for n in range(1000)})
    seg.clear()
    seg.trim()
    info = seg.info()
    assert info.used == 0 and info.resident < 12 << 20
    report = seg.check()
    assert (report.live, report.busy, report.retired, report.blocks) == (0, 0, 0, 0)


def test_threads_of_one_handle_make_batches_at_once(seg):
    def work(number):
        for turn in range(100):
            seg.put_many({n: (number, turn) for n in range(20)} | {f"own {number}": [turn] * 3000})
            assert len(set(seg.get_many(range(20)).values())) == 1
            assert seg[f"own {number}"] == [turn] * 3000

    helpers.in_threads(work, 6)
