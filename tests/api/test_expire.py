"""`expire`: another time to live for a variable of any kind, whose value and version stay."""

import asyncio
import contextlib
import datetime
import threading
import time

import helpers
import numpy
import pytest

import shmvar
from shmvar.cli import main as cli

SHORT = 0.4
INDEXES = [1, "text", "odd", "k" * 55, "k" * 56, "k" * 57, "k" * 64, "k" * 1024]
# Inline, in blocks of several classes, the longest record in a block, spans with and without buffers, in place.
VALUES = {
    "int": 7,
    "none": None,
    "float": 0.5,
    "text": "x" * 15,
    "record": "x" * 3000,
    "dict": {"user": 1, "roles": ["a", "b"]},
    "record that becomes a span": "x" * 21_820,
    "span": "x" * 40_000,
    "large pickle": "x" * 300_000,
    "bytes": b"x" * 300_000,
    "array": numpy.arange(200_000),
    "frames": [numpy.arange(5000), numpy.arange(7000.0), "x"],
    "in place": None,
    "short in place": None,
}


def put(segment, index, name):
    """Stores the value, and returns what is equal to it."""
    if name == "in place":
        segment.array(index, (50_000,), "i8")[:] = range(50_000)
    elif name == "short in place":
        segment.array(index, (5,), "i4")[:] = range(5)
    else:
        segment[index] = VALUES[name]
        return VALUES[name]
    return numpy.array(segment.array(index))


def same(value, expected):
    if isinstance(expected, list) and isinstance(expected[0], numpy.ndarray):
        return all(map(same, value, expected))
    return bool(numpy.all(value == expected)) and type(value) is type(expected)


def left(segment, index):
    return segment.stat(index).expires_in


@pytest.mark.parametrize("index", INDEXES, ids=lambda index: str(index)[:3] + str(len(str(index))))
@pytest.mark.parametrize("name", VALUES)
def test_a_variable_of_any_kind_gets_a_time_gets_another_and_loses_it(seg, key, index, name):
    value = put(seg, index, name)
    before, used, version = seg.stat(index), seg.info().used, seg.version(index)
    with shmvar.attach(key, readonly=True) as reader, shmvar.attach(key, trust=False) as wary:
        for ttl, least in ((1000, 900), (500, 400), (datetime.timedelta(days=1), 86_000), (None, None), (2000, 1900)):
            assert seg.expire(index, ttl) is True
            for handle in (seg, reader, wary):
                assert same(handle[index], value) and handle.version(index) == version and index in handle
                assert handle.get_versioned(index)[1] == version and same(handle.get_many([index])[index], value)
                now = left(handle, index)
                assert now is None if ttl is None else least < now <= getattr(ttl, "total_seconds", lambda t=ttl: t)()
            assert list(seg) == [index] and len(seg) == 1 and seg.check()
            assert seg.stat(index).in_place == before.in_place
    assert seg.expire(index, None) is True and left(seg, index) is None
    assert seg.stat(index).size == before.size and seg.info().used == used
    del seg[index]
    assert seg.info().used == 0 and seg.check().variables == 0


@pytest.mark.parametrize("name", VALUES)
def test_then_it_is_gone_when_the_time_is_up_and_not_before(seg, name):
    for index in (1, "odd"):
        put(seg, index, name)
        before = time.monotonic()
        assert seg.expire(index, SHORT)
        there, seen = index in seg, time.monotonic()
        assert there or seen - before >= SHORT
        time.sleep(SHORT + 0.01)
        assert index not in seg and seg.version(index) == 0
        assert seg.expire(index, 50) is False and seg.expire(index, None) is False and index not in seg
        seg[index] = "anew"
        assert left(seg, index) is None


def test_a_missing_variable_is_false_and_nothing_is_made(seg):
    assert seg.expire(1, 5) is False is seg.expire("x", None)
    seg[1] = 1
    del seg[1]
    assert seg.expire(1, 5) is False and dict(seg) == {} and seg.check().variables == 0


def test_one_that_stays_stays(seg):
    seg[1], seg["x"] = 1, "x"
    used = seg.info().used
    assert seg.expire(1, None) and seg.expire("x", None) and seg.info().used == used


@pytest.mark.parametrize("ttl", [0, -1, float("nan"), float("inf"), 10**400, "5", [], datetime.timedelta(0)], ids=repr)
def test_a_wrong_time_is_refused_by_its_name(seg, ttl):
    seg[1] = 1
    with pytest.raises((ValueError, TypeError, OverflowError), match="ttl"):
        seg.expire(1, ttl)
    assert left(seg, 1) is None
    with pytest.raises(TypeError):
        seg.expire(1)


def test_what_has_none_and_does_not_fit_with_one_is_an_error_and_stays_as_it_is(key):
    with shmvar.attach(key, 400_100) as segment:
        segment[1] = b"x" * 300_000
        segment.put("soon", b"x" * 1000, ttl=0.01)
        segment["n"] = 5
        free = segment.info().free
        segment["rest"] = "x" * (free - 60)
        left_over = segment.info().free
        assert left_over < 60
        segment["rest"] = "x" * (free - 60 + left_over - 2)
        assert segment.info().free < 8
        time.sleep(0.02)
        # What has expired is removed first.
        assert segment.expire(1, 50) and segment.expire("n", 50)
        segment["rest"] += "x" * segment.info().free
        for index, value in ((2, 7), (3, b"y" * 20)):
            with contextlib.suppress(shmvar.SegmentFullError):
                segment[index] = value
        with pytest.raises(shmvar.SegmentFullError):
            segment.expire("rest", 50)
        assert left(segment, "rest") is None and segment[1] == b"x" * 300_000 and segment.check()


def test_a_read_only_and_a_detached_handle_are_refused(seg, key):
    seg[1] = 1
    reader = shmvar.attach(key, readonly=True)
    with pytest.raises(shmvar.ReadOnlyError):
        reader.expire(1, 5)
    reader.detach()
    with pytest.raises(shmvar.DetachedError):
        reader.expire(1, 5)
    assert left(seg, 1) is None


def test_who_holds_an_array_in_place_goes_on_and_who_opens_it_gets_the_same(seg, key):
    array = seg.array("a", (100,), "i8")
    for ttl in (1000, 500, None, 700):
        assert seg.expire("a", ttl)
        array[:] = ttl or 7
        with shmvar.attach(key) as another:
            assert (another.array("a") == (ttl or 7)).all() and (seg["a"] == (ttl or 7)).all()
    assert seg.touch("a") and 600 < left(seg, "a") <= 700


def test_views_of_what_gets_a_time_stay(seg):
    seg[1] = numpy.arange(100_000)
    view = seg.view(1)
    seg.expire(1, 1000)
    assert (view == numpy.arange(100_000)).all() and (seg.view(1) == view).all()
    del seg[1]
    seg[2] = numpy.zeros(100_000)
    assert (view == numpy.arange(100_000)).all()


@pytest.mark.parametrize("name", VALUES)
def test_what_follows_finds_the_time_that_expire_gave(seg, name):
    put(seg, 1, name)
    seg.expire(1, 1000)
    if name in ("int", "float"):
        assert seg.add(1, 1, ttl=5) == VALUES[name] + 1 and left(seg, 1) > 900
    seg.modify(1, lambda old: [1])
    assert left(seg, 1) > 900
    seg.expire(1, None)
    seg.setdefault(1, 5, ttl=5)
    seg.modify(1, lambda old: old)
    assert left(seg, 1) is None and seg[1] == [1] and seg.check()


def test_trim_and_growth_keep_it(seg):
    values = {number: "x" * (number % 40 * 100) for number in range(3000)} | {
        f"n {number}": numpy.arange(3000 + number) for number in range(20)
    }
    seg.update(values)
    for index in values:
        assert seg.expire(index, 1000)
    for index in list(values)[::2]:
        del seg[index]
    seg.trim()
    seg.check()
    for index in list(values)[1::2]:
        assert same(seg[index], values[index]) and 900 < left(seg, index) <= 1000
        assert seg.expire(index, None)
    seg.trim()
    assert all(left(seg, index) is None for index in seg) and seg.check()


def test_it_is_counted(seg):
    seg.update({number: number for number in range(100)})
    for number in range(50):
        seg.expire(number, 0.001)
    time.sleep(0.01)
    assert len(seg) == 50 and sorted(seg) == list(range(50, 100))


def test_a_dump_has_the_last_time(seg, key, tmp_path):
    seg.put_many({"ends": 1, "goes on": 2}, ttl=3000)
    seg.update({"gets one": [3], 7: 7})
    assert seg.expire("ends", None) and seg.expire("goes on", 5000) and seg.expire("gets one", 4000)
    assert cli.main(["dump", str(key), str(tmp_path / "dump")]) == 0
    seg.clear()
    assert cli.main(["load", str(key), str(tmp_path / "dump")]) == 0
    assert left(seg, "ends") is left(seg, 7) is None
    assert 3900 < left(seg, "gets one") <= 4000 < 4900 < left(seg, "goes on") <= 5000


def test_what_never_expires_says_so(seg):
    """A time to live of more than 292 years is none."""
    seg.put("x", 1, ttl=1e300)
    assert left(seg, "x") is None and seg["x"] == 1


def test_more_moves_than_a_slot_counts_are_all_seen(seg):
    """2,048 of them go round the count in the slot's word: then the table's root is another one."""
    seg[1], seg["x"], seg["large"] = 7, "x" * 100, b"x" * 50_000
    versions = {index: seg.version(index) for index in seg}
    for turn in range(2_200):
        for index in versions:
            assert seg.expire(index, 1000 + turn)
            if turn % 3 == 0:
                assert seg.expire(index, None)
    assert {index: seg.version(index) for index in seg} == versions and seg.check()
    assert seg[1] == 7 and seg["x"] == "x" * 100 and seg["large"] == b"x" * 50_000


# --- several at once


@pytest.mark.parametrize("name", ["int", "text", "record", "span", "array", "short in place"])
def test_readers_never_miss_it_nor_see_it_torn_while_its_time_changes(seg, key, name):
    """Times whose bytes all differ, so that half of one and half of another would be over, or for ever."""
    for index in (1, "odd"):
        put(seg, index, name)
    code = f"""
    import numpy
    how = sys.argv[2]
    s = shmvar.attach(key, readonly=how == '1')
    versions = {{index: s.version(index) for index in (1, 'odd')}}
    values = {{index: s[index] for index in (1, 'odd')}}
    until, looks = time.monotonic() + 1.5, 0
    while time.monotonic() < until or looks == 0:
        if how == '2':
            for index in (1, 'odd'):
                for ttl in (256 ** (looks % 3) / 1e3 * 3600 + 60, None, 65_536 + looks, 70, 281_474):
                    assert s.expire(index, ttl)
                    looks += 1
            # A reader that cannot pin a large value copies it again when its slot has changed.
            time.sleep({0.005 if name in ("span", "array") else 0})
            continue
        for index in (1, 'odd'):
            assert numpy.all(s[index] == values[index]) and s.version(index) == versions[index] and index in s
            left = s.stat(index).expires_in
            assert left is None or 50 < left < 300_000_000, left
        assert len(s.get_many([1, 'odd'])) == 2 == len(s) == len(list(s))
        looks += 1
    print(looks)
    """
    looks = helpers.run_in_processes(code, key, count=3)
    assert all(int(seen) > 0 for seen in looks), looks
    assert seg.check() and seg.expire(1, 50) and 40 < left(seg, 1) <= 50


def test_8_processes_expire_and_change_and_no_change_is_lost(seg, key):
    code = """
    s = shmvar.attach(key)
    for turn in range(300):
        s.add('n'); s.expire('n', 1000 + turn); s.add(1); s.expire(1, None if turn % 2 else 500)
        s.modify('log', lambda old: old + 1, 0); s.expire('log', 800)
    """
    helpers.run_in_processes(code, key, count=8)
    assert seg["n"] == seg[1] == seg["log"] == 2400 and seg.check()


def test_of_many_that_expire_one_that_was_missing_once_none_brings_it_back(seg, key):
    """Whoever saw it missing never sees it again: it was stored once."""
    code = """
    s = shmvar.attach(key)
    if sys.argv[2] == '0':
        for turn in range(300):
            s.put(f'x{turn}', turn, ttl=0.004)
            time.sleep(0.006)
        s['end'] = 1
    else:
        missing = 0
        for turn in range(300):
            index = f'x{turn}'
            while index not in s and 'end' not in s: pass
            until = time.monotonic() + 0.006
            while time.monotonic() < until and s.expire(index, 0.004 if turn % 2 else 0.0001): pass
            if index not in s:
                missing += 1
                assert s.expire(index, 1) is False and index not in s
    """
    helpers.run_in_processes(code, key, count=4)


# --- waiting


@pytest.mark.parametrize("name", ["int", "text", "array", "in place"])
def test_a_waiter_goes_by_the_new_time(seg, name):
    for index in (1, "odd"):
        put(seg, index, name)
        version = seg.version(index)
        for first, ttl in ((None, SHORT), (1000, SHORT), (5 * SHORT, 7 * SHORT)):
            for _ in range(20):
                seg.expire(index, first)
                ended = []

                def wait(index=index, version=version, ended=ended):
                    ended.append((seg.wait(index, 30, newer_than=version), time.monotonic()))

                thread = threading.Thread(target=wait)
                thread.start()
                time.sleep(0.1)
                began = time.monotonic()
                in_time = seg.expire(index, ttl)
                thread.join(40)
                put(seg, index, name)
                version = seg.version(index)
                if in_time:
                    break
                assert time.monotonic() - began + 0.1 > SHORT, "only a machine that stood still is late"
            assert in_time and ended[0][0] == 0 and ttl <= ended[0][1] - began < ttl + 10


def test_a_waiter_sleeps_on_where_the_time_ends_that_it_knew(seg):
    first = 4
    seg.put("x", 1, ttl=first)
    version, ended = seg.version("x"), []
    thread = threading.Thread(target=lambda: ended.append(seg.wait("x", 60, newer_than=version)))
    thread.start()
    time.sleep(0.05)
    assert seg.expire("x", None)
    time.sleep(first + SHORT)
    assert not ended and seg.version("x") == version != 0
    seg["x"] = 2
    thread.join(30)
    assert ended == [seg.version("x")]


@pytest.mark.parametrize("first", [None, 1000, 5])
@pytest.mark.parametrize("readonly", [False, True])
def test_a_task_that_waits_goes_by_the_new_time(seg, key, first, readonly):
    async def main(handle):
        version = seg.version("x")
        task = asyncio.create_task(handle.changed("x", 30, newer_than=version))
        await asyncio.sleep(0.1)
        began = time.monotonic()
        assert seg.expire("x", ttl)
        assert await task == 0
        return time.monotonic() - began

    ttl = 6 if first == 5 else 2 * SHORT
    with shmvar.attach(key, readonly=readonly) as handle:
        seg.put("x", 1, ttl=first)
        took = asyncio.run(main(handle))
    assert ttl <= took < ttl + 10


def test_a_task_that_waits_is_woken_at_the_new_time_and_not_at_its_next_look(seg):
    """Without being woken, it would look when its own time to live is over."""

    async def main():
        task = asyncio.create_task(seg.changed("x", newer_than=seg.version("x")))
        await asyncio.sleep(0.1)
        assert seg.expire("x", 0.2)
        return await asyncio.wait_for(task, 20)

    seg.put("x", 1, ttl=10_000)
    assert asyncio.run(main()) == 0
