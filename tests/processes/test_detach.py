"""When its last handle is detached, a process gives back all of a segment, though the handle objects live on."""

import asyncio
import contextlib
import gc
import os
import threading
import time

import helpers
import pytest

import shmvar

LARGE = 100 << 20
np = pytest.importorskip("numpy")


BEFORE = set()


def objects():
    """The files of segments that this process maps, and those that it has open: a name for each map and descriptor."""
    with open("/proc/self/maps") as maps:
        mapped = [line.split(maxsplit=5)[5].strip() for line in maps if helpers.SHM in line]
    opened = []
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            opened.append(os.readlink(f"/proc/self/fd/{number}"))
    return mapped, [name for name in opened if helpers.SHM in name]


def has():
    """How many maps of segments, and descriptors of segments, this process has since the test began."""
    mapped, opened = ([name for name in names if name.split(" ")[0] not in BEFORE] for names in objects())
    return len(mapped), len(opened)


@pytest.fixture(autouse=True)
def nothing_before():
    """Takes no account of what earlier tests left: in this process, a thread of theirs may go on for a while."""
    gc.collect()
    BEFORE.clear()
    BEFORE.update(name.split(" ")[0] for names in objects() for name in names)


def free():
    stat = os.statvfs(helpers.SHM)
    return stat.f_bavail * stat.f_frsize


def large(key, **options):
    segment = shmvar.attach(key, 4 * LARGE, **options)
    segment["large"] = bytes(LARGE)
    return segment


@pytest.mark.parametrize("end", ["detach", "with", "destroy first"])
def test_memory_maps_and_descriptors_of_a_destroyed_segment_are_given_back_at_once(new_key, private_shm, end):
    """F13, F14: the handle object lives on and says that it is detached."""
    before = free()
    segment = large(new_key())
    assert free() < before - LARGE
    lock, items, indexes = segment.lock("l"), segment.items(), iter(segment)
    if end == "destroy first":
        segment.destroy()
        segment.detach()
    else:
        with segment if end == "with" else contextlib.nullcontext():
            assert shmvar.destroy(segment.key)
        segment.detach()
    assert has() == (0, 0)
    assert free() > before - (1 << 20)
    assert segment.detached and segment.key in repr(segment) and next(indexes) == "large"
    for use in (
        lambda: segment["large"],
        lock.acquire,
        lock.release,
        lock.locked,
        lambda: list(items),
        segment.destroy,
    ):
        with pytest.raises(shmvar.DetachedError):
            use()


def test_the_last_of_several_handles_gives_back(new_key):
    first = large(new_key())
    second, third = shmvar.attach(first.key), shmvar.attach(first.key, readonly=True)
    first.detach()
    assert second["large"] == third["large"] == bytes(LARGE)
    second.detach()
    assert third["large"] == bytes(LARGE)
    third.detach()
    assert has() == (0, 0)
    with shmvar.attach(first.key) as again:
        assert len(again["large"]) == LARGE
    assert has() == (0, 0)


@pytest.mark.parametrize("wanted", ["view", "get"])
def test_an_array_keeps_its_memory_and_nothing_else_does(new_key, wanted):
    """F15: an array over the memory of the segment stays valid; the last map goes with it."""
    with shmvar.attach(new_key()) as segment:
        segment["a"] = np.arange(1 << 17)
        array = getattr(segment, wanted)("a")
        segment.destroy()
    assert has()[0] >= 1
    part = array[1 << 16 :]
    del array
    assert (part == np.arange(1 << 16, 1 << 17)).all()
    del part
    assert has() == (0, 0)


def test_a_call_of_another_thread_ends_before_the_memory_goes(new_key):
    segment = shmvar.attach(new_key())
    segment[1] = 1
    ended = []

    def wait():
        with pytest.raises(shmvar.DetachedError):
            segment.wait(1, 30)
        ended.append(True)

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    segment.destroy()
    segment.detach()
    for thread in threads:
        thread.join(20)
    assert len(ended) == 3
    assert has() == (0, 0)


def test_threads_that_use_a_handle_while_it_is_detached_meet_an_error_and_no_signal(new_key):
    for _ in range(30):
        segment = shmvar.attach(new_key())
        segment["b"] = bytes(1 << 20)
        go = threading.Barrier(4)

        def use(call, go=go):
            go.wait()
            with pytest.raises(shmvar.DetachedError):
                while True:
                    call()

        calls = [
            lambda s=segment: s.get("b"),
            lambda s=segment: s.put("b", bytes(1 << 20)),
            lambda s=segment: s.view("b"),
        ]
        threads = [threading.Thread(target=use, args=(call,)) for call in calls]
        for thread in threads:
            thread.start()
        go.wait()
        time.sleep(0.002)
        segment.destroy()
        segment.detach()
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive()
        assert has() == (0, 0)


class Detaching:
    """Pickling it detaches the handle."""

    segment = None

    def __reduce__(self):
        self.segment.detach()
        return int, (5,)


def test_a_value_that_detaches_the_handle_it_is_put_through(new_key):
    """F51."""
    segment = shmvar.attach(new_key())
    segment[1] = 1
    Detaching.segment = segment
    for put in (lambda: segment.put(1, Detaching()), lambda: segment.put_many({1: Detaching(), 2: 2})):
        with pytest.raises(shmvar.DetachedError):
            put()
    assert has() == (0, 0)
    with shmvar.attach(segment.key) as again:
        assert dict(again) == {1: 1}


def test_a_task_that_waits_keeps_nothing(new_key):
    async def main():
        segment = shmvar.attach(new_key())
        task = asyncio.create_task(segment.changed(1, 30))
        await asyncio.sleep(0.1)
        segment.destroy()
        segment.detach()
        with pytest.raises(shmvar.Error):
            await task
        await asyncio.sleep(0.2)

    asyncio.run(main())
    helpers.until(lambda: has() == (0, 0))


def test_a_child_detaches_for_itself(new_key):
    """The parent's handle goes on."""
    segment = large(new_key())

    def child():
        segment.detach()
        assert has() == (0, 0)

    helpers.in_child(child)
    assert len(segment["large"]) == LARGE
    segment.detach()
    assert has() == (0, 0)
