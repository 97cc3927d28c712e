"""`expire` beside calls of others: nothing that it has answered is undone, and nobody is held up by it."""

import asyncio
import threading

import helpers
import numpy
import pytest

import shmvar

# Inline, in blocks, the longest record that an expiry makes a span of, spans that are filled before and under the lock.
VALUES = [7, "x" * 15, "x" * 3000, "x" * 21_820, "x" * 40_000, b"x" * 20_000, b"x" * 300_000, [0.5] * 100]


def left(segment, index):
    return segment.stat(index).expires_in


def in_hours(segment, index):
    """The time that is left in hours, rounded; None: it stays for good."""
    seconds = left(segment, index)
    return None if seconds is None else round(seconds / 3600)


def name_of(value):
    return f"{type(value).__name__} {len(value) if hasattr(value, '__len__') else ''}"


# --- what was read before


@pytest.mark.parametrize("index", [1, "odd"])
@pytest.mark.parametrize("value", VALUES, ids=name_of)
def test_modify_keeps_the_time_that_expire_gave_while_its_function_ran(seg, index, value):
    for first in (None, 5 * 3600):
        for then in (9 * 3600, None):
            for new in VALUES:
                seg.put(index, value, ttl=first)
                runs = []

                def function(old, then=then, new=new, runs=runs):
                    assert seg.expire(index, then)
                    runs.append(old)
                    return new

                assert seg.modify(index, function) == new == seg[index]
                assert runs == [value] and in_hours(seg, index) == (then and 9), (first, then, name_of(new))
    assert seg.check()


def test_modify_with_a_time_of_its_own_has_the_last_word(seg):
    seg["x"] = 1
    assert seg.modify("x", lambda old: seg.expire("x", 3600) and old + 1, ttl=7200) == 2
    assert in_hours(seg, "x") == 2


@pytest.mark.parametrize("value", [2**70, 2**63 - 1])
def test_add_keeps_the_time_that_expire_gave_while_it_computed(seg, value):
    """The interpreter adds these, and asks the amount for its number after it has read the value."""

    class Amount:
        def __index__(self):
            seg.expire("x", self.ttl)
            return 2**65

    amount = Amount()
    for first, amount.ttl in ((None, 3600), (7200, None), (7200, 3600)):
        seg.put("x", value, ttl=first)
        assert seg.add("x", amount, ttl=5 * 3600) == value + 2**65
        assert in_hours(seg, "x") == (amount.ttl and 1)


def test_what_ends_a_time_to_live_also_ends_one_that_expire_gave(seg):
    calls = {
        "put": lambda: seg.put("x", 2),
        "put_many": lambda: seg.put_many({"x": 2}),
        "update": lambda: seg.update(x=2),
        "swap": lambda: seg.swap("x", 2),
        "compare_and_put": lambda: seg.compare_and_put("x", version, 2),
    }
    for call in calls.values():
        seg["x"] = 1
        version = seg.version("x")
        assert seg.expire("x", 3600) and seg.version("x") == version
        call()
        assert seg["x"] == 2 and left(seg, "x") is None
    assert seg.expire("x", 3600)
    assert seg.setdefault("x", 5) == 2 and seg.add("x") == 3 and in_hours(seg, "x") == 1
    assert seg.pop("x") == 3 and "x" not in seg


# --- readers


LARGE = {
    "bytes": lambda: b"x" * 40_000_000,
    "array": lambda: numpy.arange(5_000_000),
    "pickle": lambda: "x" * 20_000_000,
}
SLIDE = """
s = shmvar.attach(key)
print("ready", flush=True)
while "end" not in s:
    for _ in range(500):
        assert s.expire(1, 3600) and s.expire("odd", 3600)
"""


@pytest.mark.parametrize("readonly", [False, True])
@pytest.mark.parametrize("name", LARGE)
def test_a_large_value_is_read_while_its_time_slides_all_the_time(seg, key, name, readonly):
    """A copy of it lasts longer than the time between two of these, and longer than 2,048 of them."""
    value = LARGE[name]()
    seg[1] = seg["odd"] = value
    with shmvar.attach(key, readonly=readonly) as handle:
        process = helpers.start(SLIDE, key)
        for _ in range(3):
            for index in (1, "odd"):
                assert numpy.array_equal(handle[index], value)
            assert all(numpy.array_equal(one, value) for one in handle.get_many([1, "odd"]).values())
            assert handle.stat("odd").expires_in > 3000 and len(handle) == 2
        seg["end"] = True
        helpers.end(process)
    assert seg.check()


def test_size_and_time_that_stat_tells_are_of_one_instant(seg, key):
    seg["x"] = "x" * 100
    without = seg.stat("x").size
    process = helpers.start(
        """
        s = shmvar.attach(key)
        print("ready", flush=True)
        while 'end' not in s:
            s.expire('x', 3600)
            s.expire('x', None)
        """,
        key,
    )
    changes, expires = 0, False
    while changes < 1_000:
        assert process.poll() is None
        stat = seg.stat("x")
        assert stat.size == without + (0 if stat.expires_in is None else 8), stat
        changes += expires != (stat.expires_in is not None)
        expires = stat.expires_in is not None
    seg["end"] = True
    helpers.end(process)


def test_read_only_readers_of_much_come_to_an_end_beside_two_that_expire(seg, key):
    """While counts that go round renewed the whole root, `get_many` gave up, and a pass began anew again and again."""
    indexes = [f"k{number}" for number in range(5_000)]
    seg.put_many(dict.fromkeys(indexes, 1), ttl=10_000)
    seg["hot"] = seg["too"] = 1
    code = """
    s = shmvar.attach(key)
    print("ready", flush=True)
    while 'end' not in s:
        for _ in range(1_000):
            s.expire(sys.argv[2], 100)
    """
    processes = [helpers.start(code, key, name) for name in ("hot", "too")]
    with shmvar.attach(key, readonly=True) as reader:
        for _ in range(3):
            assert len(reader.get_many([*indexes, "missing"])) == 5_000
            assert len(reader) == len(list(reader)) == len(list(reader.items())) == 5_002
    assert all(process.poll() is None for process in processes)
    seg["end"] = True
    for process in processes:
        helpers.end(process)


# --- waiters


def test_who_waits_for_any_goes_by_the_new_time(seg):
    seg.put_many({"a": 1, "b": 2}, ttl=3600)
    versions, ended = {index: seg.version(index) for index in "ab"}, []
    thread = threading.Thread(target=lambda: ended.append(seg.wait_any(["a", "b"], 60, newer_than=versions)))
    thread.start()
    assert seg.expire("b", 0.3)
    thread.join(60)
    assert ended == [("b", 0)] and "a" in seg


@pytest.mark.parametrize("readonly", [False, True])
def test_a_task_that_waits_for_any_goes_by_the_new_time(seg, key, readonly):
    """Without being woken, it would look when its own time to live is over."""

    async def main(handle):
        task = asyncio.create_task(handle.changed_any(["a", "b"], newer_than=versions))
        await asyncio.sleep(0.1)
        assert seg.expire("b", 0.3)
        return await asyncio.wait_for(task, 60)

    seg.put_many({"a": 1, "b": 2}, ttl=10_000)
    versions = {index: seg.version(index) for index in "ab"}
    with shmvar.attach(key, readonly=readonly) as handle:
        assert asyncio.run(main(handle)) == ("b", 0)
