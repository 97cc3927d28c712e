"""The thread that keeps what a process holds, and what a lock tells others, where something goes wrong beside it."""

import socket

import helpers
import pytest

import shmvar
from shmvar._remote import link, numbered, owners, presence


def elsewhere(call):
    """What a call returns in another thread."""
    got = []
    helpers.in_threads(lambda _: got.append(call()), 1)
    return got[0]


@pytest.mark.parametrize("where", ["renew", "_make_calls"])
def test_leases_are_renewed_though_the_system_had_no_files_for_a_moment(server, new_key, monkeypatch, where):
    segment = shmvar.attach(new_key().replace("#", "?lease=2#"))
    session, raised = segment._requests.data + b"o", []
    kind = presence.Presence if where == "renew" else presence.Keeper
    right = getattr(kind, where)

    def failing(self):
        if len(raised) < 2:
            raised.append(self)
            raise OSError(24, "too many open files")
        return right(self)

    def deadline():
        return int(server.call("HGET", session, owners.process()).split()[0])

    monkeypatch.setattr(kind, where, failing)
    with segment.lock("l"):
        first = deadline()
        helpers.until(lambda: len(raised) == 2 and deadline() > first, what="a renewal")
        segment["v"] = 1


def test_another_thread_of_its_own_process_robs_no_owner(server, seg):
    seg.queue("q").put(1)
    with seg.lock("l"), seg.queue("q").take():
        # As if the process had never been heard of.
        server.call("HDEL", seg._requests.data + b"o", owners.process())
        assert elsewhere(lambda: seg.lock("l").acquire(0)) is False
        with pytest.raises(shmvar.QueueEmptyError), seg.queue("q").take(timeout=0):
            pass
        seg["v"] = 1


def test_who_takes_something_while_its_presence_is_closed_is_present_again(new_key, monkeypatch):
    """The thread had found that nothing was held, and closed the subscription that the next one found standing."""
    seg = shmvar.attach(new_key().replace("#", "?lease=1000#"))
    with seg.lock("warm"):
        here = presence.presence_of(seg._link, seg._requests)
    keeper, close, thing = presence._keeper_of(seg._link), presence.Presence.close, object()

    def late(self):
        if self is here and not here.used:
            here.begin(thing)
        close(self)

    monkeypatch.setattr(presence.Presence, "close", late)
    here.idle_at = link.now() - 100
    keeper._look_after(here)
    helpers.until(lambda: here.used)
    try:
        # Far sooner than the next renewal would be.
        helpers.until(lambda: here._subscriptions and here._run() != b"-", what="presence")
        assert here in keeper._presences
    finally:
        here.end(thing)


def test_a_release_of_what_is_being_let_go_already_sends_nothing(seg, monkeypatch):
    lock = seg.lock("l")
    lock.acquire()
    hold = lock._mine()
    hold.abandon()
    monkeypatch.setattr(numbered.Requests, "change", None)
    lock._let_go(hold, [])
    monkeypatch.undo()
    assert not hold.lost and elsewhere(lambda: seg.lock("l").acquire(20))


def test_the_version_of_a_fence_is_told_to_those_who_are_told_of_all_changes(server, seg):
    with seg.lock("warm"), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(server.socket)
        connection.sendall(link.pack(b"SSUBSCRIBE", seg._requests.data + b"w"))
        assert connection.recv(1000)
        with seg.lock("l") as lock:
            assert b"=%d\r\n" % lock.fence in connection.recv(1000)
