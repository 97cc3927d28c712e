"""What a user who may only read can do to others, and what not (SECURITY.md). Needs root, to become that user."""

import os
import signal

import helpers
import pytest
from helpers import LOCKER, as_user, run, start

import shmvar

pytestmark = helpers.needs_root
MODES = [0o644, 0o604, 0o640]


def reader(perm):
    return as_user(helpers.NOBODY, 0 if perm == 0o640 else helpers.NOBODY)


@pytest.mark.parametrize("perm", MODES)
def test_a_reader_cannot_open_anything_for_writing_nor_the_object_that_carries_the_locks(key, perm):
    with shmvar.attach(key, perm=perm) as segment:
        segment[1] = "one"
        code = """
        names = [name for name in os.listdir("/dev/shm") if name.startswith("shmvar")]
        readable = 0
        for name in names:
            for flags in (os.O_RDWR, os.O_WRONLY, os.O_RDWR | os.O_TRUNC):
                try:
                    os.close(os.open("/dev/shm/" + name, flags))
                except PermissionError:
                    continue
                raise AssertionError(name)
            try:
                os.close(os.open("/dev/shm/" + name, os.O_RDONLY))
                readable += 1
            except PermissionError:
                pass
        assert (readable, len(names)) == (1, 2), (readable, names)
        """
        run(code, key, **reader(perm))
        assert dict(segment) == {1: "one"}


@pytest.mark.parametrize("perm", MODES)
def test_read_locks_over_everything_hold_up_no_take_over_and_no_reaping(key, children, perm):
    with shmvar.attach(key, perm=perm) as segment:
        segment.update({1: "one", 2: b"x" * 100_000})
        victim = start("s = shmvar.attach(key); s[3] = b'v' * 200_000; print('up', flush=True); sys.stdin.read()", key)
        children.append(victim)
        children.append(start(LOCKER, key, **reader(perm)))
        assert int(children[-1].said) == 1, "he could lock more than the segment itself"
        with helpers.Raw(segment) as raw:
            raw.hold_lock(victim.pid)
            victim.send_signal(signal.SIGKILL)
            victim.wait(10)
            segment[1] = "after the take-over"
        run("s = shmvar.attach(key); s[4] = 'new'", key)
        assert segment[4] == "new" and segment.info().attached == 1
        segment.trim()
        segment.check()


def test_a_reader_can_make_pages_of_holes_and_nothing_else_comes_of_it(key):
    with shmvar.attach(key, perm=0o644) as segment:
        segment[1] = "one"
        with helpers.Raw(segment) as raw:
            hole = raw.arena + (32 << 20)
        before = os.stat(helpers.path_of(segment)).st_blocks
        code = """
        fd = os.open(sys.argv[2], os.O_RDONLY)
        with mmap.mmap(fd, 4 << 20, prot=mmap.PROT_READ, offset=int(sys.argv[3])) as page:
            assert not any(page[at] for at in range(0, 4 << 20, 4096))
        """
        run(code, key, helpers.path_of(segment), hole, **reader(0o644))
        assert os.stat(helpers.path_of(segment)).st_blocks - before >= (4 << 20) // 512
        segment[2] = b"x" * 1_000_000
        assert segment.check().variables == 2 and segment[2] == b"x" * 1_000_000


def test_a_reader_reads_what_was_removed(key):
    with shmvar.attach(key, perm=0o644) as segment:
        segment[1] = b"secret" * 500
        with helpers.Raw(segment) as raw:
            at, length = raw.record(1)
        del segment[1]
        code = """
        fd = os.open(sys.argv[2], os.O_RDONLY)
        assert b"secret" * 100 in os.pread(fd, int(sys.argv[4]), int(sys.argv[3]))
        assert shmvar.attach(key, readonly=True, create=False).get(1) is None
        """
        run(code, key, helpers.path_of(segment), at, length, **reader(0o644))


def test_the_handle_of_a_reader_refuses_every_change_and_cannot_pin(key):
    with shmvar.attach(key, perm=0o644) as segment:
        segment[1] = b"x" * 1_000_000
        code = """
        segment = shmvar.attach(key, readonly=True, create=False)
        copy = segment.view(1)
        print("up", flush=True)
        sys.stdin.readline()
        assert bytes(copy) == b"x" * 1_000_000
        for change in (segment.clear, segment.trim, segment.popitem, lambda: segment.resize(1 << 30),
                       lambda: segment.setdefault(2, 2), lambda: segment.update({2: 2}), segment.destroy):
            try:
                change()
            except PermissionError:
                continue
            raise AssertionError
        """
        child = start(code, key, **reader(0o644))
        try:
            # The reader has a copy, so the memory is free at once.
            del segment[1]
            assert segment.info().used == 0
            segment.trim()
            assert segment.info().resident < 2 << 20
            out, _ = child.communicate("\n", timeout=30)
            assert child.returncode == 0, out
        finally:
            helpers.end(child)
