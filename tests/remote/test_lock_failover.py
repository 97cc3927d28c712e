"""Locks and waits while a primary is replaced: a living owner keeps its lock, a dead one's is handed on, and those who
wait see the last change."""

import time

import helpers
import pytest
from helpers import clusters

import shmvar
from shmvar._remote.locate import slot_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("cluster"),
    pytest.mark.skipif(not callable(getattr(shmvar.RemoteSegment, "lock", None)), reason="there are no locks yet"),
]

HOLDER = """
s = shmvar.attach(key)
lock = s.lock("l")
lock.acquire()
print("held", flush=True)
n = 0
while "stop" not in s:
    # A change within the lock: refused if it is no longer ours.
    s["by the owner"] = n = n + 1
    time.sleep(0.02)
lock.release()
print("released", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def place(cluster):
    """The URL of a segment of its own, and its slot."""
    cluster.settle()
    name = f"locks-{time.monotonic_ns()}"
    # The lease is long: what is handed on sooner is by the owner's absence. Its session is renewed every four seconds.
    yield cluster.url(name, timeout=60, lease=20, grace=0.5), slot_of(b"shmvar:{s%b}" % name.encode())
    cluster.revive()
    shmvar.destroy(cluster.url(name))


def killed(cluster, slot):
    with cluster.hasty():
        old = cluster.primary_of(slot)
        old.kill()
        helpers.until(lambda: other_than(cluster, slot, old), 30)


def planned(cluster, slot):
    """The old primary stays as a replica, and keeps the connections to it open."""
    cluster.planned(slot)


def other_than(cluster, slot, old):
    try:
        return cluster.primary_of(slot, old) is not old
    except (AssertionError, OSError):
        return False


@pytest.mark.parametrize("how", [killed, planned], ids=lambda how: how.__name__)
def test_a_living_owner_keeps_its_lock_through_a_failover(cluster, place, children, how):
    url, slot = place
    segment = shmvar.attach(url)
    children.append(helpers.start(HOLDER, url))
    owner = children[-1]
    helpers.until(lambda: "by the owner" in segment, 20)
    helpers.until(lambda: cluster.primary_of(slot).call("WAIT", 1, 100) == 1, 20)
    how(cluster, slot)
    # For longer than the grace, and while its changes go on.
    began = time.monotonic()
    for _ in helpers.looks(lambda: True, 2.0):
        assert not segment.lock("l").acquire(timeout=0.3)
    assert time.monotonic() - began >= 2
    before = segment["by the owner"]
    helpers.until(lambda: segment["by the owner"] > before + 3, 20)
    segment["stop"] = True
    assert owner.stdout.readline().strip() == "released"
    assert segment.lock("l").acquire(timeout=20)
    segment.lock("l").release()


@pytest.mark.parametrize("how", [killed, planned], ids=lambda how: how.__name__)
def test_a_dead_owners_lock_is_handed_on_after_a_failover(cluster, place, children, how, capsys):
    url, slot = place
    segment = shmvar.attach(url)
    children.append(helpers.start(HOLDER, url))
    helpers.until(lambda: "by the owner" in segment, 20)
    helpers.until(lambda: cluster.primary_of(slot).call("WAIT", 1, 100) == 1, 20)
    how(cluster, slot)
    before = segment["by the owner"]
    helpers.until(lambda: segment["by the owner"] > before + 3, 20)
    # Before its session names the new primary it has the lease to come back: nobody there can miss it.
    helpers.until(lambda: renewed(cluster.primary_of(slot), segment), 20, "the owner's presence at the new primary")
    children[-1].kill()
    began = time.monotonic()
    with helpers.promptly(10):
        assert segment.lock("l").acquire(timeout=55)
    with capsys.disabled():
        print(f"\n{how.__name__}: handed on {time.monotonic() - began:.2f} s after its owner's death (grace 0.5)")
    segment.lock("l").release()


WAITER = """
s = shmvar.attach(key)
version = s.version("v")
print("waits", flush=True)
while s["v"] != "last":
    version = s.wait("v", newer_than=version)
print("saw it", flush=True)
sys.stdin.read()
"""
"""It makes no request while it waits: only its listener can find the new primary."""


@pytest.mark.parametrize("how", [killed, planned], ids=lambda how: how.__name__)
def test_who_waits_sees_the_last_change_through_a_failover(cluster, place, children, how, capsys):
    url, slot = place
    segment = shmvar.attach(url)
    segment["v"] = "first"
    helpers.until(lambda: cluster.primary_of(slot).call("WAIT", 1, 100) == 1, 20)
    children.append(helpers.start(WAITER, url))
    # It sleeps by now, or its next look is behind the failover: both are to work.
    time.sleep(0.5)
    how(cluster, slot)
    segment["v"] = "last"
    began = time.monotonic()
    with helpers.promptly(30):
        assert children[-1].stdout.readline().strip() == "saw it"
    with capsys.disabled():
        print(f"\n{how.__name__}: a waiter saw the last change after {time.monotonic() - began:.2f} s")


def renewed(server, segment):
    """Whether the session of the owner names this server."""
    run = clusters.info(server, "server")["run_id"].encode()
    return any(run == session.split()[1] for session in server.call("HVALS", segment._requests.data + b"o"))
