"""A server that is killed and started again, empty or with older data, and the handles that were there before."""

import threading

import helpers
import pytest

import shmvar


def test_a_server_that_is_killed_and_started_again_keeps_what_its_file_has(own_server):
    kept = own_server("--appendonly", "yes", "--appendfsync", "everysec")
    segment = shmvar.attach(kept.url("restart", timeout=30))
    acknowledged, versions, end = [0], [], threading.Event()

    def add():
        while not end.is_set():
            acknowledged[0] = segment.add("n")
            versions.append(segment.version("n"))

    thread = threading.Thread(target=add)
    thread.start()
    for _ in range(2):
        helpers.until(lambda count=acknowledged[0]: acknowledged[0] > count + 50)
        kept.kill()
        kept.start()
    helpers.until(lambda count=acknowledged[0]: acknowledged[0] > count + 50)
    end.set()
    thread.join(60)
    # The process died, the machine did not: what was acknowledged is in the file.
    assert segment["n"] == acknowledged[0] and versions == sorted(set(versions))
    segment.check()


def test_a_server_that_starts_empty_has_no_such_segment(own_server):
    empty = own_server()
    segment = shmvar.attach(empty.url("empty"))
    segment[1] = 1
    empty.kill()
    empty.start()
    for call in (lambda: segment[1], lambda: segment.add(1), lambda: len(segment), segment.clear, segment.info):
        with pytest.raises(shmvar.SegmentNotFoundError):
            call()


def test_versions_grow_though_a_server_comes_back_with_older_data(own_server):
    """The clock is in every version: a number is not given again to another value."""
    old = own_server()
    segment = shmvar.attach(old.url("older", timeout=20))
    for number in range(50):
        segment["v"] = number
    old.call("SAVE")
    for number in range(50, 100):
        segment["v"] = number
    before = segment.version("v")
    old.kill()
    old.start()
    assert segment["v"] == 49 and segment.version("v") < before, "the server has lost fifty changes"
    for number in range(200, 210):
        segment["v"] = number
        assert segment.version("v") > before
    segment.check()
