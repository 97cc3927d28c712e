"""Processes that share a near cache: they end, are killed or stand still, and nobody reads anything older."""

import contextlib
import gc
import multiprocessing
import os
import random
import signal
import time

import pytest
from helpers.machine import SLOWER
from helpers.near_caches import (
    LONG,
    awake,
    cached,
    in_children,
    is_hit,
    joined,
    listens,
    memory,
    nothing_stays,
    open_pair,
    opened,
    until,
)

import shmvar
from shmvar._remote import near_memory
from shmvar._remote.near_memory import ALIVE


@pytest.fixture(autouse=True)
def nothing_is_left():
    with nothing_stays():
        yield


@pytest.fixture
def pair(server):
    with opened(server) as handles:
        yield handles


def reads_never_go_back(number, url, stop, highest):
    """Reads a counter; what anybody has read before is never undercut by a read that begins later."""
    segment = shmvar.attach(url)
    hits = 0
    while not stop.is_set():
        for _ in range(200):
            least = highest.value
            hits += is_hit(segment, "n")
            found = segment["n"]
            assert found >= least, f"{found} after {least}"
            if found > highest.value:
                with highest.get_lock():
                    highest.value = max(highest.value, found)
    segment.detach()
    assert hits, "nothing was ever cached"


def test_versions_never_go_back_over_processes_though_listeners_are_killed(server):
    near, plain = open_pair(server)
    url = near.url
    seconds = float(os.environ.get("SHMVAR_REMOTE_SECONDS", 3))
    stop, highest = multiprocessing.Event(), multiprocessing.Value("q", 0)
    plain["n"] = 0
    near.detach()
    children = in_children(2, reads_never_go_back, url, stop, highest)

    def victim(_number):
        segment = shmvar.attach(url)
        while True:
            segment["n"]

    end = time.monotonic() + seconds
    killed = 0
    while time.monotonic() < end:
        (pid,) = in_children(1, victim)
        for _ in range(random.randrange(50, 200)):
            plain.add("n")
            time.sleep(0.001)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        killed += 1
    # One more reader may need a while on a busy machine.
    until(lambda: highest.value >= plain["n"] - 1)
    stop.set()
    assert joined(children) == [0, 0] and killed
    plain.destroy()


def test_a_killed_listener_is_replaced(server):
    near, plain = open_pair(server)
    url = near.url
    near.detach()
    gc.collect()
    plain["n"] = 1
    ready = multiprocessing.Event()
    (pid,) = in_children(1, listens, url, "n", ready)
    assert ready.wait(LONG)
    near = shmvar.attach(url)
    owner = memory(near).words[near_memory.OWNER]
    cached(near, "n")
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    # Nobody hears of it.
    plain["n"] = 2
    until(lambda: memory(near).words[near_memory.OWNER] != owner)
    until(lambda: near["n"] == 2)
    assert cached(near, "n") == 2
    near.detach()
    plain.destroy()


def test_while_the_listener_is_stopped_the_server_is_asked(server):
    near, plain = open_pair(server)
    url = near.url
    near.detach()
    gc.collect()
    plain["n"] = 1
    ready = multiprocessing.Event()
    (pid,) = in_children(1, listens, url, "n", ready)
    assert ready.wait(LONG)
    near = shmvar.attach(url)
    cached(near, "n")
    os.kill(pid, signal.SIGSTOP)
    try:
        until(lambda: memory(near).words[ALIVE] < time.clock_gettime(time.CLOCK_BOOTTIME))
        for number in range(2, 20):
            plain["n"] = number
            assert near["n"] == number and not is_hit(near, "n")
        os.kill(pid, signal.SIGCONT)
        assert cached(near, "n") == 19
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    near.detach()
    plain.destroy()


def holds_the_guard(url, ready):
    segment = awake(shmvar.attach(url))
    with memory(segment)._guard:
        ready.set()
        time.sleep(1000)


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_whoever_has_the_guard_and_is_stopped_or_killed_holds_nobody_up(pair, how):
    near, plain = pair
    plain["n"] = 1
    cached(near, "n")
    ready = multiprocessing.Event()

    def child(_number):
        holds_the_guard(near.url, ready)

    (pid,) = in_children(1, child)
    assert ready.wait(LONG)
    os.kill(pid, signal.SIGSTOP if how == "stopped" else signal.SIGKILL)
    try:
        began = time.monotonic()
        for number in range(2, 52):
            near["n"] = number
            assert near["n"] == number
            plain["n"] = -number
            assert near.get_versioned("n")[0] == near["n"] == -number
        if how == "stopped":
            # One of them has waited for the guard, not each.
            assert time.monotonic() - began < 0.05 * 50 * SLOWER
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert cached(near, "n") == -51


def test_a_forked_child_reads_and_goes_on_when_its_parent_is_no_more(server):
    near, plain = open_pair(server)
    plain["n"] = 1
    cached(near, "n")
    url = near.url
    near.detach()
    gc.collect()
    told, tell = os.pipe()
    done, end = os.pipe()
    middle = os.fork()
    if middle == 0:
        # The parent of the reader: it listens, and is killed.
        near = awake(shmvar.attach(url))
        cached(near, "n")
        child = os.fork()
        if child == 0:
            code = b"F"
            try:
                assert near["n"] == 1
                os.write(tell, b"r")
                os.read(done, 1)
                assert until(lambda: near["n"] == 2)
                code = b"T" if cached(near, "n") == 2 else b"N"
                near.detach()
            finally:
                os.write(tell, code)
                os._exit(0)
        time.sleep(1000)
    assert os.read(told, 1) == b"r"
    os.kill(middle, signal.SIGKILL)
    os.waitpid(middle, 0)
    plain["n"] = 2
    os.write(end, b"g")
    assert os.read(told, 1) == b"T"
    for descriptor in (told, tell, done, end):
        os.close(descriptor)
    plain.destroy()


def test_children_that_end_one_after_the_other_leave_it_to_their_parent(pair):
    near, _ = pair
    before = memory(near)

    def child(_number):
        shmvar.attach(near.url).detach()
        near.detach()

    for _ in range(5):
        assert joined(in_children(2, child)) == [0, 0]
    assert before.leads_here()


def test_what_a_killed_process_left_is_removed_by_the_next_one(server):
    near, plain = open_pair(server)
    url, key = near.url, memory(near).key
    near.detach()
    gc.collect()
    ready = multiprocessing.Event()
    plain["n"] = 1
    (pid,) = in_children(1, listens, url, "n", ready)
    assert ready.wait(LONG)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert shmvar.exists(key)
    other, other_plain = open_pair(server)
    assert not shmvar.exists(key)
    other.detach()
    other_plain.destroy()
    plain.destroy()
