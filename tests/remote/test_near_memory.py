"""The local segment of a near cache: whose it is, how long it is there, and what takes its place."""

import gc
import os
import threading

import pytest
from helpers import machine
from helpers.near_caches import awake, cached, is_hit, memory, nothing_stays, open_pair, opened, until

import shmvar
from shmvar._remote import near_memory
from shmvar._remote.near_memory import EPOCH


@pytest.fixture(autouse=True)
def nothing_is_left():
    with nothing_stays():
        yield


@pytest.fixture
def pair(server):
    with opened(server) as handles:
        yield handles


def test_the_last_one_destroys_the_local_segment(pair):
    near, _ = pair
    another = shmvar.attach(near.url)
    key = memory(near).key
    near.detach()
    gc.collect()
    assert shmvar.exists(key)
    another.detach()
    gc.collect()
    until(lambda: not shmvar.exists(key))


@pytest.mark.parametrize("how", ["destroyed", "cleared"])
def test_another_local_segment_is_opened_where_somebody_has_taken_it(pair, how):
    near, plain = pair
    plain["n"] = 1
    cached(near, "n")
    before = memory(near)
    shmvar.destroy(before.key) if how == "destroyed" else before.segment.clear()
    # What is there goes on meanwhile.
    plain["n"] = 2
    until(lambda: near["n"] == 2)
    until(lambda: memory(near) is not before)
    awake(near)
    plain["n"] = 3
    until(lambda: near["n"] == 3)
    assert cached(near, "n") == 3 and shmvar.exists(before.key)


@pytest.mark.skipif(not machine.IS_ROOT, reason="needs another user")
def test_somebody_elses_segment_under_its_name_is_not_used(pair):
    near, plain = pair
    plain["n"] = 1
    url, key = near.url, memory(near).key
    near.detach()
    gc.collect()
    until(lambda: not shmvar.exists(key))
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setgid(machine.NOBODY), os.setuid(machine.NOBODY)
            shmvar.attach(key, 4 << 20, evict="lru", perm=0o666)
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    try:
        with pytest.warns(RuntimeWarning, match="no near cache now"):
            near = shmvar.attach(url)
        near["n"] = 2
        assert near["n"] == near.view("n") == 2 and near.copy() == {"n": 2} and not is_hit(near, "n")
        near.clear()
    finally:
        shmvar.destroy(key)
    near["n"] = 3
    # As soon as the name is free there is a cache.
    assert cached(near, "n") == 3
    near.detach()


def test_a_floor_is_never_lowered_by_another_epoch(pair):
    near, plain = pair
    plain["n"] = 1
    cached(near, "n")
    floor, high = memory(near).floor_of("n"), plain.version("n") + 10**9
    memory(near).raise_floor(floor, high)
    epoch = memory(near).words[EPOCH]
    with memory(near)._guard:
        memory(near).words[near_memory.OWNER] = 1.0
    until(lambda: memory(near).words[EPOCH] not in (0.0, epoch))
    assert memory(near).words[floor] == high


def test_its_threads_end_with_the_handles(server):
    for _ in range(3):
        near, plain = open_pair(server)
        near.detach()
        plain.destroy()
    gc.collect()
    until(lambda: not any(thread.name == "shmvar-near" for thread in threading.enumerate()))


def test_the_local_segment_is_for_this_user_alone(pair):
    near, _ = pair
    info = memory(near).segment.info()
    assert info.perm == 0o600 and info.uid == os.geteuid()
