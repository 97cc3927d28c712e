"""Waiting for variables that are evicted: in a task, for any of several, and for every change."""

import asyncio
import contextlib

import pytest

import shmvar

KIB = 1 << 10


@pytest.fixture
def cache(key):
    with shmvar.attach(key, 64 * KIB, evict="lru") as segment:
        yield segment
        segment.check()
        segment.destroy()


def evict(segment, index):
    """Stores others until it is gone."""
    number = 0
    while index in segment:
        segment[f"other {number}"] = b"x" * 500
        number += 1


def test_a_task_that_waits_is_told_of_the_eviction(cache):
    async def main():
        cache["watched"] = 1
        version = cache.version("watched")
        with shmvar.attach(cache.key) as handle:
            one = asyncio.create_task(handle.changed("watched", 60, newer_than=version))
            any_of = asyncio.create_task(
                handle.changed_any(["never there", "watched"], 60, newer_than={"watched": version, "never there": 0})
            )
            await asyncio.sleep(0)
            evict(cache, "watched")
            assert await one == 0 and await any_of == ("watched", 0)
            # Whatever is stored there later has a greater version.
            later = asyncio.create_task(handle.changed("watched", 60, newer_than=0))
            await asyncio.sleep(0)
            cache["watched"] = 2
            assert await later == cache.version("watched") > version

    asyncio.run(main())


def test_changes_tell_of_evictions_as_of_removals_and_in_order(cache):
    with contextlib.closing(cache.changes(newer_than={}, timeout=0)) as changes:
        cache["watched"] = 1
        version = cache.version("watched")
        evict(cache, "watched")
        cache["watched"] = 2
        told = {}
        for index, now in taken(changes):
            assert now == 0 or now > told.get(index, 0)
            told[index] = now
        assert told["watched"] == cache.version("watched") > version
        evict(cache, "watched")
        told |= dict(taken(changes))
        assert told["watched"] == 0
        # The last state of each: what is there, and nothing else.
        assert {index for index, now in told.items() if now} == set(cache)
        assert all(now == cache.version(index) for index, now in told.items())


def taken(changes):
    """Those that there are now."""
    try:
        yield from changes
    except shmvar.WaitTimeoutError:
        return


def test_a_waiter_for_any_of_several_is_told_which_was_evicted(cache):
    cache.update({"a": 1, "b": 2})
    versions = {index: cache.version(index) for index in ("a", "b")}
    evict(cache, "a")
    index, version = cache.wait_any(["a", "b"], 60, newer_than=versions)
    assert (index, version) == ("a", 0)
