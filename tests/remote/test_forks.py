"""A fork within a call: the call is the parent's, and the child has its own connections and slots."""

import os
import random
import signal

import helpers
import pytest

import shmvar
from shmvar._remote import blobs, link, numbered


def forking(monkeypatch, owner, name, after):
    """Forks once in the next call of `owner.name`, before or after its work. Returns a list of what fork returned."""
    pids = []
    work = getattr(owner, name)

    def once(*arguments):
        monkeypatch.setattr(owner, name, work)
        if not after:
            pids.append(os.fork())
        result = work(*arguments)
        if after:
            pids.append(os.fork())
        return result

    monkeypatch.setattr(owner, name, once)
    return pids


def outcome(call, pids):
    """What a call returns. In the child also what it raises: no test may go on there."""
    try:
        return call()
    except BaseException as error:
        if not pids or pids[0]:
            raise
        return error


WHERE = {
    "before the slot is taken": (numbered.Requests, "_slot", False),
    "before a connection is taken": (link.Link, "_take", False),
    "after a connection was taken": (link.Link, "_take", True),
    "before the answer": (link.Link, "_answers", False),
    "after the answer": (link.Link, "_answers", True),
}


@pytest.mark.parametrize("where", WHERE)
def test_a_change_that_is_forked_is_the_parents_and_made_once(seg, monkeypatch, where):
    seg["n"] = 0
    pids = forking(monkeypatch, *WHERE[where])
    result = outcome(lambda: seg.add("n"), pids)
    if not pids[0]:
        # In the child. Both go on at once, so that each would meet an answer of the other.
        fault = 1
        try:
            assert result.maybe_applied and "forked" in str(result)
            for _ in range(100):
                seg.add("n")
            fault = 0
        finally:
            os._exit(fault)
    assert result == 1
    for _ in range(100):
        seg.add("n")
    assert helpers.reap(pids[0]) == 0
    assert seg["n"] == 201


@pytest.mark.parametrize("where", ["before the answer", "after a connection was taken"])
def test_a_read_that_is_forked_is_answered_in_both(seg, monkeypatch, where):
    seg["a"], seg["b"] = "value of a", "value of b"
    pids = forking(monkeypatch, *WHERE[where])
    result = outcome(lambda: seg["a"], pids)
    if not pids[0]:
        fault = 1
        try:
            assert result == "value of a"
            assert all(seg["b"] == "value of b" and seg["a"] == "value of a" for _ in range(50))
            fault = 0
        finally:
            os._exit(fault)
    assert result == "value of a"
    assert all(seg["b"] == "value of b" and seg["a"] == "value of a" for _ in range(50))
    assert helpers.reap(pids[0]) == 0


@pytest.mark.parametrize("after", [False, True])
def test_a_fork_during_an_upload_leaves_the_chunks_to_the_parent(seg, monkeypatch, after):
    """The child's repetition came second, and it removed the chunks of the value that its parent had stored."""
    seg["v"] = "old"
    version = seg.version("v")
    gate = os.pipe()
    pids = forking(monkeypatch, blobs.Upload, "send", after)
    send = blobs.Upload.send

    def wait_in_the_child(self):
        send(self)
        if not pids[0]:
            os.read(gate[0], 1)

    monkeypatch.setattr(blobs.Upload, "send", wait_in_the_child)
    result = outcome(lambda: seg.compare_and_put("v", version, bytes(50_000)), pids)
    if not pids[0]:
        fault = 1
        try:
            assert isinstance(result, shmvar.SegmentUnavailableError) and result.maybe_applied
            assert seg["v"] == bytes(50_000)
            fault = 0
        finally:
            os._exit(fault)
    os.write(gate[1], b"x")
    assert helpers.reap(pids[0]) == 0
    assert result is True and seg["v"] == bytes(50_000)
    os.close(gate[0]), os.close(gate[1])


def test_a_signal_handler_that_forks_loses_no_acknowledged_change(seg):
    mine, acknowledged, children = os.getpid(), 0, []
    rng = random.Random(1)

    def fork(*_):
        if os.getpid() == mine and len(children) < 12:
            pid = os.fork()
            if pid:
                children.append(pid)

    before = signal.signal(signal.SIGALRM, fork)
    try:
        while os.getpid() == mine and len(children) < 12:
            # Once in each turn: a fork may take longer than any interval.
            signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-6, 2e-4))
            seg.add("n")
            acknowledged += 1
    except shmvar.SegmentUnavailableError as error:
        if os.getpid() == mine or not error.maybe_applied:
            raise
    finally:
        if os.getpid() != mine:
            # A child: it adds a few of its own, under another name.
            fault = 1
            try:
                for _ in range(30):
                    seg.add("children")
                fault = 0
            finally:
                os._exit(fault)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert [helpers.reap(pid) for pid in children] == [0] * len(children)
    assert seg["children"] == 30 * len(children)
    assert acknowledged <= seg["n"] <= acknowledged + len(children)
