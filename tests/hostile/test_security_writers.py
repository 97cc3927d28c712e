"""What a user who may write can do to others, and what not (SECURITY.md). The attacker writes bytes directly."""

import contextlib
import ctypes
import fcntl
import mmap
import os
import signal
import struct
import threading
import time

import helpers
import pytest
from helpers import Raw, as_user, needs_root, run, start

import shmvar

F_OFD_SETLK = 37
BYTES = 1 << 62
"""Offset of the byte lock of the first participant; the registry's is just before it (docs/protocol.md)."""

ATTACHED = "s = shmvar.attach(key); s['peer'] = 1; print('up', flush=True); sys.stdin.read()"


@pytest.fixture
def peer(seg, key, children):
    """A living participant that does nothing."""
    seg.update({1: "one", 2: b"x" * 100_000})
    children.append(start(ATTACHED, key))
    return children[-1]


def lock_bytes(fd, start, length):
    """Write locks of an open file description, as participants hold them."""
    fcntl.fcntl(fd, F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, start, length, 0))


def busy(call):
    """The call gives up after the 10 s that it waits, not before, not much later."""
    began = time.monotonic()
    with pytest.raises(shmvar.SegmentBusyError) as error:
        call()
    assert 8 < time.monotonic() - began < 30
    return str(error.value)


# --- the lock word


@pytest.mark.slow
def test_the_lock_word_set_to_a_living_process_is_a_bounded_wait_for_writers_and_none_for_readers(seg, key, peer):
    with Raw(seg) as raw, shmvar.attach(key, readonly=True) as reader:
        raw.hold_lock(peer.pid)
        assert str(peer.pid) in busy(lambda: seg.put(1, "changed"))
        for handle in (seg, reader):
            assert handle[1] == "one" and handle[2] == b"x" * 100_000 and len(handle) == 3
        raw.free_lock()
    seg[1] = "goes on"


@pytest.mark.slow
def test_the_lock_word_set_to_ones_own_number_is_a_bounded_wait(seg):
    seg[1] = "one"
    with Raw(seg) as raw:
        raw.hold_lock(os.getpid())
        busy(lambda: seg.put(1, "changed"))
        assert seg[1] == "one"
        raw.free_lock()
    seg[1] = "goes on"


@pytest.mark.parametrize("word", [1000, 1024, 1025, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF])
def test_the_lock_word_set_to_a_number_that_nobody_has_stops_nobody(seg, word):
    seg[1] = "one"
    with Raw(seg) as raw:
        raw.pack("<I", raw.LOCK, word)
        try:
            seg[1] = "two"
        except (shmvar.CorruptSegmentError, shmvar.SegmentBusyError):
            assert seg[1] == "one"
            raw.free_lock()
            seg[1] = "two"
    assert seg[1] == "two"


def test_f5_a_wait_for_a_lock_held_in_bad_faith_ends_with_ctrl_c(seg, key, peer, children):
    code = """
    segment = shmvar.attach(key)
    try:
        print("up", flush=True)
        sys.stdin.readline()
        segment["held"] = 1
    except KeyboardInterrupt:
        print("interrupted")
    """
    children.append(start(code, key))
    waiter = children[-1]
    with Raw(seg) as raw:
        raw.hold_lock(peer.pid)
        waiter.stdin.write("\n")
        waiter.stdin.flush()
        time.sleep(0.5)  # it waits now; earlier, the interrupt would come before the wait
        with helpers.promptly():
            waiter.send_signal(signal.SIGINT)
            assert waiter.wait(20) == 0 and waiter.stdout.read() == "interrupted\n"
        raw.free_lock()
    assert "held" not in seg
    seg[1] = "goes on"


FUTEX, CMP_REQUEUE = 202, 4


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the number of the futex call is x86-64's")
def test_waiters_that_are_moved_to_another_futex_go_on(seg, peer):
    """FUTEX_REQUEUE: a process that can map the word can move its sleepers to another word, where none wakes them."""
    libc = ctypes.CDLL(None, use_errno=True)
    done = threading.Event()

    def wait():
        seg[1] = "after all"
        done.set()

    with Raw(seg) as raw, mmap.mmap(raw.fd, 8192) as page:
        word = ctypes.c_uint32.from_buffer(page, raw.LOCK)
        nowhere = ctypes.c_uint32.from_buffer(page, 4096 - 4)
        before = nowhere.value
        raw.hold_lock(peer.pid)
        waiter = threading.Thread(target=wait)
        waiter.start()
        moved, until = 0, time.monotonic() + 5
        while moved < 20 and time.monotonic() < until:
            here, there = ctypes.byref(word), ctypes.byref(nowhere)
            most = ctypes.c_ulong(1 << 20)
            moved += max(0, libc.syscall(FUTEX, here, CMP_REQUEUE, 0, most, there, ctypes.c_uint32(word.value)))
        raw.free_lock()
        waiter.join(30)
        after = nowhere.value
        del word, nowhere, here, there
    assert moved > 0, "nobody slept"
    assert done.is_set() and after == before
    assert seg[1] == "after all"


# --- places and the registry


@pytest.mark.slow
def test_all_places_taken_is_a_typed_error_for_who_comes_and_nothing_for_who_is_there(seg, key):
    seg[1] = "one"
    holder = os.open(helpers.path_of(seg), os.O_RDWR)
    try:
        own = next(n for n, pid in Raw(seg).participants().items() if pid == os.getpid())
        for start_at, length in ((0, own), (own + 1, 1024 - own - 1)):
            if length:
                lock_bytes(holder, BYTES + start_at, length)
        code = """
        try:
            segment = shmvar.attach(key)
            segment[2] = "came"
        except shmvar.SegmentBusyError as error:
            assert isinstance(error, TimeoutError) and "1024" in str(error), error
            print("no room")
        with shmvar.attach(key, readonly=True) as reader:
            assert reader[1] == "one"
        """
        assert run(code, key).stdout == "no room\n"
        seg[1] = "two"
        assert seg[1] == "two" and 2 not in seg
    finally:
        os.close(holder)
    run("shmvar.attach(key)[2] = 'came'", key)
    assert seg[2] == "came"


@pytest.mark.slow
def test_the_registry_lock_held_is_a_typed_error_after_a_bound(seg, key):
    seg[1] = "one"
    holder = os.open(helpers.path_of(seg), os.O_RDWR)
    try:
        lock_bytes(holder, BYTES - 1, 1)
        assert "registry" in busy(seg.destroy)
        seg[1] = "two"
        with shmvar.attach(key, readonly=True) as reader:
            assert reader[1] == "two"
    finally:
        os.close(holder)
    assert shmvar.exists(key)


# --- structures


FORGED = [0, 8, 4096, 8192, 1 << 40, (1 << 64) - 32, (1 << 63) + 8]


@pytest.mark.parametrize("at", FORGED)
@pytest.mark.parametrize("field", ["slot", "leaf", "both", "words"])
def test_a_forged_intent_writes_nothing_outside_of_the_table(seg, key, field, at):
    seg.update({1: "one", 2: b"x" * 3000, 3: b"y" * 100_000})
    with Raw(seg) as raw:
        fixed = [(0, 4096), (raw.PARTICIPANTS, 128), (raw.READERS, 1024)]
        before = [raw.read(*part) for part in fixed]
        pattern = [0x4141_4141_4141_4140] * 5
        state = raw.unpack("<3Q", raw.ROOT) + raw.unpack("<4Q", raw.VERSION)
        (leaf,) = raw.leaves()
        slot, base = raw.slot(1)[0], leaf.at
        slot, base = {"slot": (at, base), "leaf": (slot, at), "both": (at, at), "words": (0, 0)}[field]
        words = (at, 4, *raw.unpack("<Q", leaf.words[0]) * 2)
        # In the order of docs/format.md: slot and content, leaf and counts, the state, and what follows.
        raw.pack("<4Q", raw.INTENT + 192, *words)
        raw.pack("<17Q", raw.INTENT, 7, 7, slot, *pattern[:4], base, pattern[4], *state, (field == "words") << 62)
        with contextlib.suppress(shmvar.CorruptSegmentError):
            seg[5] = "anything"
        assert [raw.read(*part) for part in fixed] == before
        (lock,) = raw.unpack("<I", raw.LOCK)
        assert lock == 0, "the lock is not held after a failed call"
    for call in (lambda: seg.get(1), lambda: seg.get(2), lambda: seg.put(6, 6), lambda: dict(seg)):
        with contextlib.suppress(shmvar.CorruptSegmentError):
            call()
    seg.destroy()
    seg.detach()
    assert not shmvar.exists(key)


def test_values_rewritten_while_they_are_read_are_plain_data_or_typed_errors(seg, key, children):
    """Bytes that change between a look and its use (double fetch)."""
    seg.update({n: [n, "text" * n, {"k": n}, b"b" * 50 * n] for n in range(1, 30)})
    places = []
    with Raw(seg) as raw:
        places = [raw.record(index) for index in range(1, 30)]
    code = """
    import random
    fd = os.open(sys.argv[2], os.O_RDWR)
    places = eval(sys.argv[3])
    print("writes", flush=True)
    end = time.monotonic() + 2
    while time.monotonic() < end:
        for _ in range(200):
            at, length = random.choice(places)
            os.pwrite(fd, os.urandom(random.choice((1, 1, 8))), at + random.randrange(length))
    """
    children.append(start(code, key, helpers.path_of(seg), places))
    reader = """
    import resource
    resource.setrlimit(resource.RLIMIT_DATA, (2 << 30, 2 << 30))
    segment = shmvar.attach(key, trust=False)
    allowed = (shmvar.CorruptSegmentError, shmvar.UntrustedValueError)
    end = time.monotonic() + 2
    read = 0
    while time.monotonic() < end or read <= 100:
        for index in range(1, 30):
            try:
                value = segment.get(index)
                repr(value)
            except allowed:
                pass
            read += 1
    """
    run(reader, key)
    children[-1].wait(30)
    seg.clear()


# --- what a writer can do


def test_f32_a_file_cut_short_ends_who_touches_it_and_is_refused_to_who_comes(key):
    """The kernel's answer is SIGBUS: no library can change that for named shared memory."""
    code = """
    import resource
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    segment = shmvar.attach(key)
    segment[1] = b"x" * 100_000
    path = "/dev/shm/" + segment.info().name
    print("up", flush=True)
    os.truncate(path, 0)
    segment[1]
    """
    assert run(code, key, check=False).returncode == -signal.SIGBUS
    for options in ({}, {"readonly": True}, {"create": False}):
        with pytest.raises((shmvar.IncompatibleSegmentError, shmvar.CorruptSegmentError)):
            shmvar.attach(key, **options)
    for name in os.listdir(helpers.SHM):
        if key in name:
            os.unlink(f"{helpers.SHM}/{name}")


@needs_root
def test_who_may_write_to_a_segment_of_anothers_cannot_unlink_it(key):
    with shmvar.attach(key, perm=0o666) as segment:
        segment[1] = "one"
        code = """
        segment = shmvar.attach(key, create=False)
        segment[2] = "may write"
        for call in (segment.destroy, lambda: shmvar.destroy(key), lambda: os.unlink(sys.argv[2]),
                     lambda: os.rename(sys.argv[2], sys.argv[2] + "x")):
            try:
                call()
            except PermissionError:
                pass
            else:
                raise AssertionError
        """
        run(code, key, helpers.path_of(segment), **as_user())
        assert shmvar.exists(key) and segment[2] == "may write"


def test_who_may_write_can_take_memory_beyond_the_size(key):
    with shmvar.attach(key, 1 << 20) as segment:
        segment[1] = "one"
        with Raw(segment) as raw:
            os.posix_fallocate(raw.fd, raw.arena + (8 << 20), 8 << 20)
        assert segment.info().resident > segment.size and segment.info().used < segment.size
        segment.check()
        with pytest.raises(shmvar.SegmentFullError):
            segment[2] = b"x" * (2 << 20)


def test_what_was_removed_can_still_be_read_by_who_may_read(seg):
    secret = os.urandom(16)
    seg[1] = b"secret" + secret * 200
    with Raw(seg) as raw:
        at, length = raw.record(1)
        del seg[1]
        assert secret in raw.read(at, length)


def test_trust_looks_at_owner_and_mode_as_they_are_now(key):
    with shmvar.attach(key, perm=0o666) as segment:
        assert not segment.trusted
        os.chmod(helpers.path_of(segment), 0o600)
    with shmvar.attach(key) as segment:
        # A user who had it open may still write: hence the advice "destroy it and make it anew".
        assert segment.trusted


def test_segments_are_not_in_core_dumps(seg, key):
    seg[1] = b"x" * 1_000_000
    view, copy = seg.view(1), seg[1]
    with shmvar.attach(key, readonly=True) as reader:
        assert reader[1] == copy == bytes(view)
        # Found by inode: a map that was made before the file had a name shows another name.
        inode, found, its = str(os.stat(helpers.path_of(seg)).st_ino), [], False
        with open("/proc/self/smaps") as smaps:
            for words in map(str.split, smaps):
                if words[0] == "VmFlags:" and its:
                    found.append(words[1:])
                elif not words[0].endswith(":"):
                    its = words[4] == inode
        readable = [flags for flags in found if "rd" in flags]
        assert len(readable) >= 2 and all("dd" in flags for flags in readable), found
