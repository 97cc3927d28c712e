"""`touch` makes a new version of what was written in place, and wakes who waits for it."""

import asyncio
import threading

import numpy as np
import pytest
from helpers.event_loops import run as run_tasks
from helpers.value_comparison import same

import shmvar


@pytest.fixture
def field(seg):
    """Four numbers under the index "field"."""
    made = seg.array("field", initial=np.arange(4.0))
    yield made
    assert np.array_equal(made[:2], [0, 1]), "somebody else wrote to its memory"


VALUES = {
    "inline": 5,
    "none": None,
    "text": "x" * 40,
    "record": [1] * 900,
    "span": [1] * 60_000,
    "bytes": b"x" * 200_000,
    "arrays": [np.arange(50_000), np.arange(3)],
}


@pytest.mark.parametrize("index", [1, "text", "t" * 1024])
@pytest.mark.parametrize("name", VALUES)
def test_a_touch_makes_a_new_version_and_changes_nothing_else(seg, name, index):
    value = VALUES[name]
    seg[index], seg["other"] = value, "other"
    view = seg.view(index)
    facts, info, other = seg.stat(index), seg.info(), seg.version("other")
    version = facts.version
    for _ in range(100):
        touched = seg.touch(index)
        assert type(touched) is int and version < touched == seg.version(index)
        version = touched
    assert seg.stat(index)._asdict() == facts._asdict() | {"version": version}
    assert (seg.info().used, seg.info().count, seg.info().held) == (info.used, 2, 0)
    assert seg.version("other") == other and same(seg[index], value)
    assert same(seg.get_versioned(index), (value, version))
    assert seg.compare_and_put(index, touched, "new") and seg[index] == "new"
    del view


def test_a_touch_of_one_in_place_leaves_its_memory_where_it_is(seg, field):
    version = seg.version("field")
    for turn in range(100):
        touched = seg.touch("field")
        assert version < touched == seg.version("field")
        version = touched
        field[3] = turn
        assert seg.array("field")[3] == turn and seg.stat("field").in_place
    assert seg.info().held == 0


def test_a_missing_one_is_not_touched_into_being(seg):
    for index in (1, "text"):
        assert seg.touch(index) == 0 and index not in seg
    seg["text"] = 1
    seg.remove("text")
    assert seg.touch("text") == 0 and len(seg) == 0 and seg.info().used == 0


def test_opening_and_writing_make_no_version_and_making_does(seg):
    assert seg.version(1) == 0
    field = seg.array(1, 3)
    version = seg.version(1)
    assert version > 0
    field[:] = 5
    seg.array(1)[:], seg.array(1, 3, "f8")[:] = 6, 7
    seg.view(1)
    assert seg.version(1) == version
    seg.remove(1)
    seg.buffer(1, 3)
    assert seg.version(1) > version


def test_a_wait_ends_with_a_touch_of_any_variable(seg, field):
    seg.update({1: 5, 2: "x" * 40, 3: b"x" * 100_000})
    for index in ("field", 1, 2, 3):
        version = seg.version(index)
        with pytest.raises(shmvar.WaitTimeoutError):
            seg.wait(index, 0.01)
        timer = threading.Timer(0.05, seg.touch, [index])
        timer.start()
        found = seg.wait(index, 100, newer_than=version)
        timer.join()
        assert found == seg.version(index) > version
        assert seg.wait(index, 0, newer_than=version) == found


def test_a_wait_ends_when_one_is_made_or_removed(seg):
    for end in (lambda: seg.array(1, 3), lambda: seg.remove(1), lambda: seg.buffer(1, 3), lambda: seg.put(1, 1)):
        version = seg.version(1)
        timer = threading.Timer(0.05, end)
        timer.start()
        assert seg.wait(1, 100, newer_than=version) != version
        timer.join()


def test_what_was_written_before_a_touch_is_seen_after_the_wait(seg, field):
    seg["ready"] = 0

    def follow(turns):
        version = seg.version("field")
        seg.touch("ready")
        for turn in range(turns):
            version = seg.wait("field", 300, newer_than=version)
            seen.append(field[3] == turn)
            seg.touch("ready")

    seen, ready = [], seg.version("ready")
    thread = threading.Thread(target=follow, args=(200,))
    thread.start()
    for turn in range(200):
        ready = seg.wait("ready", 300, newer_than=ready)
        field[3] = turn
        seg.touch("field")
    thread.join(300)
    assert seen == [True] * 200


def test_tasks_that_wait_are_woken_by_a_touch(seg, field):
    async def main():
        version = seg.version("field")
        tasks = [asyncio.ensure_future(seg.changed("field", 60, newer_than=version)) for _ in range(20)]
        await asyncio.sleep(0.05)
        assert not any(task.done() for task in tasks)
        field[3] = 5
        touched = seg.touch("field")
        assert await asyncio.gather(*tasks) == [touched] * 20
        assert await seg.changed("field", 60, newer_than=version) == touched

    run_tasks(main())
