"""Primaries that die, stand still or hand over while others write: what is lost, what is not, and for how long."""

import contextlib
import os
import signal
import time

import pytest
from helpers import clusters, failovers, until

import shmvar
from shmvar._remote.locate import slot_of

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("failover")]

ROUNDS = int(float(os.environ.get("SHMVAR_REMOTE_SECONDS", "0")) // 60)
"""How often each failover is repeated in a long run: each takes some seconds, and as long until all is well again."""


class InCluster:
    """The primary of one segment of a cluster."""

    name, replicas = "cluster", 1

    def __init__(self, cluster, key):
        self.all, self.key = cluster, key
        self.slot = slot_of(b"shmvar:{s%b}" % key.encode())

    def url(self, **options):
        return self.all.url(self.key, timeout=60, **options)

    @property
    def primary(self):
        return self.all.primary_of(self.slot)

    def other_than(self, old):
        return self.all.primary_of(self.slot, old)

    def followers(self):
        return [self.all.replica_of(self.primary)]

    def planned(self):
        self.all.planned(self.slot)

    def settle(self):
        self.all.revive()


class Watched:
    """The primary that sentinels watch."""

    name, replicas = "sentinel", 2

    def __init__(self, sentinels, key):
        self.all, self.key = sentinels, key

    def url(self, **options):
        return self.all.url(self.key, timeout=60, **options)

    @property
    def primary(self):
        return self.all.primary

    def other_than(self, old):
        return self.all.primary

    def followers(self):
        return [server for server in self.all.group.servers if server is not self.primary]

    def planned(self):
        self.all.planned()

    def settle(self):
        for server in self.all.group.servers:
            if server.process.poll() is not None:
                server.start()
        self.all.settle()


@pytest.fixture(params=["cluster", "sentinel"])
def group(request, server):
    if request.param == "cluster":
        found = InCluster(request.getfixturevalue("cluster"), f"failover-{time.monotonic_ns()}")
    else:
        found = Watched(request.getfixturevalue("watched"), f"failover-{time.monotonic_ns()}")
    found.settle()
    hasty = contextlib.nullcontext() if request.node.callspec.params["how"] is planned else found.all.hasty()
    with hasty:
        yield found
        found.settle()
    shmvar.destroy(found.url())


def killed(group, old):
    old.kill()


def stopped(group, old):
    old.process.send_signal(signal.SIGSTOP)


def planned(group, old):
    group.planned()


def lagging(group, old):
    """Its replicas stand still for a moment, in which it acknowledges what they never get."""
    with clusters.lagging(old, group.followers(), b"shmvar:{s%b}" % group.key.encode()):
        time.sleep(0.5)
        old.kill()


LONG = {("sentinel", stopped), ("sentinel", lagging)}
"""Only in a long run: each takes many seconds until the sentinels agree again."""


@pytest.mark.parametrize("how", [killed, stopped, planned, lagging], ids=lambda how: how.__name__)
def test_a_failover_doubles_nothing_and_gives_no_version_twice(group, how, capsys):
    if (group.name, how) in LONG and not ROUNDS:
        pytest.skip("SHMVAR_REMOTE_SECONDS is not set")
    for _ in range(max(1, ROUNDS)):
        load = failovers.Load(group.url())
        try:
            load.more()
            # Its replicas follow: they have what was written so far.
            shmvar.attach(group.url(acks=group.replicas))["probe"] = 1
            old, began, at = group.primary, load.total, time.monotonic()
            how(group, old)
            until(lambda old=old: changed(group, old), 30, "the failover")
            took = time.monotonic() - at
            load.more(100)
            if how is stopped:
                old.process.send_signal(signal.SIGCONT)
                load.more(100)
            lost = load.end()
        finally:
            load.stop()
            with contextlib.suppress(ProcessLookupError):
                old.process.send_signal(signal.SIGCONT)
        if group.name == "cluster" and how is planned:
            assert lost == 0
        if how is lagging:
            assert lost > 0, "the replica did not lag: nothing was tested"
        with capsys.disabled():
            print(
                f"\n{group.name}, {how.__name__}: {load.total} acknowledged, {lost} lost, another primary after "
                f"{took:.1f} s, longest pause {max(load.longest):.2f} s, {len(load.seen)} versions read, "
                f"{len(load.back)} went back once ({began} before it)"
            )
        group.settle()


@pytest.mark.parametrize("how", [lagging, killed], ids=lambda how: how.__name__)
def test_nothing_is_lost_that_all_replicas_must_have(group, how, capsys):
    if how is killed and not ROUNDS:
        pytest.skip("SHMVAR_REMOTE_SECONDS is not set")
    for _ in range(max(1, ROUNDS)):
        load = failovers.Load(group.url(acks=group.replicas))
        try:
            load.more()
            old = group.primary
            how(group, old)
            until(lambda old=old: changed(group, old), 30, "the failover")
            # The new primary has a replica less: nothing is acknowledged until there is another one.
            group.settle()
            load.more()
            lost = load.end()
        finally:
            load.stop()
        with capsys.disabled():
            print(f"\n{group.name}, acks={group.replicas}, {how.__name__}: {load.total} acknowledged, {lost} lost")
        # A reader may have seen a change that nobody had acknowledged yet, and that its primary took along.
        assert lost == 0


def changed(group, old):
    """Whether another server is the primary by now, as far as anybody can be asked."""
    with contextlib.suppress(Exception):
        return group.other_than(old) is not old
    return False
