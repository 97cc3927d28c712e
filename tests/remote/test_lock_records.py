"""Named locks on a server: rights that are enough, a full server, damaged records, and the interface."""

import inspect
import os
import pickle
import time

import helpers
import pytest
from helpers import servers
from helpers.remote_locks import elsewhere

import shmvar
from shmvar._remote import owners


def test_the_rights_of_the_page_are_enough_for_locks(own_server):
    guarded = own_server(port=servers.free_port())
    for name in ("app", "reader"):
        assert guarded.call("ACL", "SETUSER", name, "on", f">{name}-secret", *servers.rights(name)) == b"OK"
    segment = shmvar.attach(guarded.tcp("acl", "app:app-secret@"))
    reader = shmvar.attach(guarded.tcp("acl", "reader:reader-secret@"), readonly=True)
    with segment.lock("l"):
        segment["v"] = 1
        assert elsewhere(lambda: segment.lock("l").acquire(0.2)) is False
        assert reader.lock("l").locked() and reader.info().locks == {"l": os.getpid()} and segment.check().locks == 1
    session = segment._requests.data + b"o"
    assert guarded.call("HGET", session, owners.process()).split()[1] != b"-", "presence was not confirmed"
    assert not reader.lock("l").locked()
    for lacking in ("-ssubscribe", "-spublish", "-hset", "resetchannels"):
        rights = [word for word in servers.rights("app") if lacking != "resetchannels" or not word.startswith("&")]
        guarded.call("ACL", "SETUSER", "lacks", "reset", "on", ">secret", *rights, lacking)
        handle = shmvar.attach(guarded.tcp("acl", "lacks:secret@", timeout=3))
        with pytest.raises(shmvar.SegmentAccessError, match="Remedies"), handle.lock("l", timeout=5):
            pass


def test_a_full_server_refuses_locks_and_lets_go_and_renews(own_server):
    full = own_server()
    segment, other = shmvar.attach(full.url("full", lease=1)), shmvar.attach(full.url("full"))
    lock = segment.lock("l")
    lock.acquire()
    full.call("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(shmvar.SegmentFullError, match="maxmemory"):
        segment.lock("another").acquire()
    with pytest.raises(shmvar.SegmentFullError, match="maxmemory"):
        segment["v"] = 1
    # Renewed: twice the lease later it is still held.
    for _ in helpers.looks(seconds=2, turns=3):
        assert other.lock("l").locked() and not lock.lost
        time.sleep(0.1)
    lock.release()
    assert not other.lock("l").locked()
    full.call("CONFIG", "SET", "maxmemory", "0")
    assert other.lock("l").acquire(5)


def test_each_byte_of_a_lock_and_of_a_session_changed_is_a_typed_error_or_nothing(server, seg, key):
    other = shmvar.attach(key.replace("#", "?grace=0.001#"))
    for which in ("l", "o"):
        with seg.lock("warm"):
            name = seg._requests.data + which.encode()
            part = b"swarm" if which == "l" else owners.process()
            length = len(server.call("HGET", name, part))
        for place in range(length + 1):
            lock = seg.lock("l")
            lock.acquire()
            part = b"sl" if which == "l" else owners.process()
            record = server.call("HGET", name, part)
            changed = record[:place] if place == length - 1 else record[:place] + b"\xff" + record[place + 1 :]
            server.call("HSET", name, part, changed if place < length else b"9" * 400)
            calls = [
                lambda: seg.put("v", 1),
                lambda: elsewhere(lambda: other.lock("l").locked()),
                lambda: seg.info(),
                lambda: elsewhere(lambda: typed(lambda: other.lock("l").acquire(0.02))),
                lock.release,
            ]
            for call in calls:
                typed(call)
            server.call("HDEL", name, part)
    assert seg.lock("l").acquire(5) and seg.lock("l").release() is None


def typed(call):
    try:
        return call()
    except (shmvar.LockLostError, shmvar.CorruptSegmentError) as error:
        return error


@pytest.mark.parametrize("which", ["l", "o"])
def test_a_key_of_another_type_is_a_typed_error(server, seg, which):
    name = seg._requests.data + which.encode()
    server.call("SET", name, "another type")
    for call in (seg.lock("l").acquire, seg.lock("l").locked if which == "l" else seg.lock("l").acquire):
        with pytest.raises(shmvar.IncompatibleSegmentError):
            call()
    server.call("DEL", name)
    with seg.lock("l"):
        pass


def test_sessions_that_have_ended_are_dropped(server, seg):
    sessions = seg._requests.data + b"o"
    for number in range(40):
        server.call("HSET", sessions, b"%012d" % number, b"1 - 0 1")
    for number in range(80):
        # As if it had not been renewed: the next acquisition writes it anew.
        server.call("HDEL", sessions, owners.process())
        with seg.lock(number):
            pass
    assert server.call("HLEN", sessions) < 10


def test_a_lock_has_the_interface_of_the_local_one(seg):
    local = {name for name in dir(shmvar.Lock) if not name.startswith("_")}
    lock = seg.lock("l", timeout=2)
    assert {name for name in dir(lock) if not name.startswith("_")} == local | {"fence", "lost"}
    for name in (*local, "fence", "lost", "__enter__", "__exit__", "__aenter__", "__aexit__"):
        ours, theirs = getattr(type(lock), name), getattr(shmvar.Lock, name, None)
        assert ours.__doc__, name
        if callable(ours) and not name.startswith("__"):
            assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters)
    assert (lock.name, lock.segment, lock.timeout) == ("l", seg, 2.0) and seg.lock().name == 0
    assert repr(lock) == f'<shmvar.RemoteLock "l" of segment {seg.url}>'
    with pytest.raises(TypeError):
        pickle.dumps(lock)
    for wrong in ("x", -1, float("nan")):
        with pytest.raises((TypeError, ValueError)):
            seg.lock(timeout=wrong)
        with pytest.raises((TypeError, ValueError)):
            lock.acquire(wrong)
    with pytest.raises(TypeError):
        seg.lock([])
