"""A client is killed at each request of each call: before it is sent, in the middle of it, and when it was sent.

What remains is the old state or the new one, whole; `check` finds nothing; and chunks of nobody are about to expire.
"""

import os
import signal
import traceback

import helpers
import pytest

import shmvar
from shmvar._remote import blobs, records
from shmvar._remote.link import Link, pack

pytest.importorskip("redis", reason="needs redis-py: shmvar[valkey]")

CHUNK = 64 << 10
OLD, NEW = b"o" * 200_000, b"n" * 300_000
BEFORE = {"big": OLD, "n": 5, "t": "text", 7: [1, 2]}


@pytest.fixture(autouse=True)
def short_chunks(monkeypatch):
    """So that a value has several, and each is sent by itself."""
    monkeypatch.setattr(records, "CHUNK", CHUNK)
    monkeypatch.setattr(blobs, "CHUNK", CHUNK)
    monkeypatch.setattr(blobs, "_TOGETHER", 1)


MOMENTS = ["before", "half", "sent"]
CALLS = {
    "put": lambda seg: seg.put("big", NEW),
    "put of a short one": lambda seg: seg.put("big", 1),
    "put with a time": lambda seg: seg.put("n", NEW, ttl=1000),
    "put_many": lambda seg: seg.put_many({"big": NEW, "new": NEW, "n": 6, "m": 7}),
    "put_many of short ones": lambda seg: seg.put_many({"big": 1, "n": 6, 7: None}, ttl=1000),
    "add": lambda seg: seg.add("n", 2),
    "add of a long int": lambda seg: seg.add("n", 10**30),
    "remove": lambda seg: seg.remove("big"),
    "pop": lambda seg: seg.pop("big", None),
    "popitem": lambda seg: seg.popitem(),
    "swap": lambda seg: seg.swap("big", NEW),
    "modify": lambda seg: seg.modify("big", lambda old: old + NEW),
    "compare_and_put": lambda seg: seg.compare_and_put("big", seg.version("big"), NEW),
    "setdefault": lambda seg: seg.setdefault("new", NEW),
    "touch": lambda seg: seg.touch("big"),
    "expire": lambda seg: seg.expire("big", 1000),
    "clear": lambda seg: seg.clear(),
    "resize": lambda seg: seg.resize(2_000_000),
    "trim": lambda seg: seg.trim(),
}


def killed_at(number, moment, act):
    """Runs `act` in a forked child that kills itself at request `number`; returns whether it came to that."""
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(120)
            arm(number, moment)
            act()
        except BaseException:
            traceback.print_exc()
            os._exit(3)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status):
        assert os.WEXITSTATUS(status) == 0, "the call failed"
        return False
    assert os.WTERMSIG(status) == signal.SIGKILL
    return True


def arm(number, moment):
    """In the child: the request of this number is its last one."""
    run, left = Link.run, [number]

    def counted(self, requests, waited, answers_to=None):
        left[0] -= 1
        if left[0]:
            return run(self, requests, waited, answers_to)
        if moment != "before":
            run(self, [pack(b"PING")], self.waited())
            connection = self._take()
            whole = b"".join(requests)
            connection._sock.sendall(whole[: len(whole) // 2] if moment == "half" else whole)
        os.kill(os.getpid(), signal.SIGKILL)

    Link.run = counted


def settled(server, clients):
    """Waits until the server has carried out what the child has sent, and met the end of its connections."""
    helpers.until(lambda: clients_of(server) <= clients, 30)


def clients_of(server):
    return int(server.call("INFO", "clients")["connected_clients"])


def chunks_of_nobody(server, seg):
    """Chunks that no listed value has, and their time to live in ms."""
    listed = server.call("HKEYS", seg._requests.keys[3])
    prefix = seg._requests.data + b"b:"
    names = [name for name in server.call("KEYS", prefix + b"*") if name[len(prefix) : len(prefix) + 8] not in listed]
    return [server.call("PTTL", name) for name in names]


def state(seg):
    """All that a caller can see, but versions."""
    return {index: (value, seg.stat(index).expires_in is not None) for index, value in seg.copy().items()}, seg.size


@pytest.mark.parametrize("call", CALLS)
def test_a_kill_at_any_request_leaves_the_old_state_or_the_new_one(server, new_key, call):
    key = new_key()

    def begin():
        shmvar.destroy(key)
        segment = shmvar.attach(key)
        segment.put_many(BEFORE)
        if call == "trim":
            segment.put_many({number: OLD for number in range(100, 105)}, ttl=0.001)
            helpers.until(lambda: len(segment) == len(BEFORE))
        return segment

    seg = begin()
    old = state(seg)
    CALLS[call](seg)
    new = state(seg)
    # What is drawn by chance may be any of them.
    outcomes = [old, new] if call != "popitem" else None
    for moment in MOMENTS:
        for number in range(1, 50):
            seg = begin()
            clients = clients_of(server)
            if not killed_at(number, moment, lambda seg=seg: CALLS[call](seg)):
                assert number > 1
                break
            settled(server, clients)
            found = state(seg)
            if outcomes is not None:
                assert found in outcomes, (moment, number)
            else:
                assert found[0].items() <= old[0].items() and len(found[0]) >= len(old[0]) - 1
            seg.check()
            assert all(0 < left <= 1_200_000 for left in chunks_of_nobody(server, seg)), (moment, number)
            # Whoever comes next finds nothing in the way.
            CALLS[call](seg)
            seg.check()
            if call not in ("add", "add of a long int", "modify", "remove", "pop", "popitem"):
                assert state(seg) == new
        else:
            raise AssertionError("the call never ends")


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_kill_within_attach_leaves_no_half_of_a_segment(server, new_key, moment):
    key = new_key()
    for number in range(1, 10):
        shmvar.destroy(key)
        shmvar.attach(server.url("another")).destroy()
        clients = clients_of(server)
        if not killed_at(number, moment, lambda: shmvar.attach(key, 5_000_000, create=True)):
            break
        settled(server, clients)
        if shmvar.exists(key):
            seg = shmvar.attach(key, create=False)
            assert not seg.created and seg.size == 5_000_000
        else:
            seg = shmvar.attach(key, create=True)
        seg["v"] = NEW
        assert seg["v"] == NEW
        seg.check()
    else:
        raise AssertionError("the call never ends")


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("how", ["of the handle", "by key"])
def test_a_kill_within_destroy_leaves_all_or_nothing(server, new_key, moment, how):
    key = new_key()
    for number in range(1, 10):
        seg = shmvar.attach(key)
        seg.put_many(BEFORE)
        seg.put("t", 1, ttl=1000)
        clients = clients_of(server)
        act = seg.destroy if how == "of the handle" else lambda: shmvar.destroy(key)
        if not killed_at(number, moment, act):
            break
        settled(server, clients)
        left = [name for name in server.call("KEYS", seg._requests.prefix + b"*") if not name.endswith(b":gone")]
        if shmvar.exists(key):
            assert seg["big"] == OLD and len(seg) == len(BEFORE)
            seg.check()
            assert shmvar.destroy(key)
        else:
            assert left == []
            with pytest.raises(shmvar.SegmentNotFoundError):
                seg["big"]
        with shmvar.attach(key, create=True) as again:
            assert dict(again) == {}
    else:
        raise AssertionError("the call never ends")
