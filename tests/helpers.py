"""Shared by the tests: child processes with time limits, and the bytes of a segment as docs/format.md states them."""

import asyncio
import contextlib
import ctypes
import os
import shutil
import signal
import struct
import subprocess
import sys
import textwrap
import time
import traceback

import pytest

SHM = "/dev/shm"
NOBODY = 65534
ROOT = os.geteuid() == 0

needs_root = pytest.mark.skipif(not ROOT, reason="needs root: other users, mounts")
PRELUDE = (
    "import os, signal, sys, time\nimport shmvar\nsignal.alarm(100)\nkey = sys.argv[1] if len(sys.argv) > 1 else ''\n"
)


def unshare_works(*flags):
    """Can this process make such namespaces?"""
    if not ROOT or shutil.which("unshare") is None:
        return False
    done = subprocess.run(["unshare", *flags, "true"], capture_output=True, timeout=20, check=False)
    return done.returncode == 0


needs_mounts = pytest.mark.skipif(not unshare_works("-m"), reason="needs root and `unshare -m`")
needs_pid_namespaces = pytest.mark.skipif(
    not unshare_works("-p", "-f", "--mount-proc"), reason="needs root and `unshare -p -f --mount-proc`"
)


def private_shm(options):
    """As root, a mount namespace with a /dev/shm of its own, empty. False: it cannot be had."""
    clone_newns, ms_rec, ms_private = 0x00020000, 0x4000, 1 << 18
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() != 0 or libc.unshare(clone_newns) != 0:
        return False
    if libc.mount(None, b"/", None, ms_rec | ms_private, None) != 0:
        return False
    return libc.mount(b"shmvar-tests", SHM.encode(), b"tmpfs", 0, f"mode=1777,{options}".encode()) == 0


# --- children that run a program


def command(code, *args, drop=""):
    return [sys.executable, "-c", PRELUDE + drop + textwrap.dedent(code), *map(str, args)]


def run(code, *args, timeout=60, prefix=(), check=True, drop="", **options):
    """Runs a program with `shmvar` imported and `key` = its first argument; gives back what it printed."""
    done = subprocess.run(
        [*prefix, *command(code, *args, drop=drop)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        **options,
    )
    if check:
        assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def start(code, *args, prefix=(), drop="", **options):
    """Starts such a program; waits until it says its first line."""
    child = subprocess.Popen(
        [*prefix, *command(code, *args, drop=drop)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )
    child.said = child.stdout.readline().strip()
    assert child.said, f"the child ended with {child.wait(10)}"
    return child


def as_user(uid=NOBODY, gid=None):
    """For `run` and `start`: the program is another user's, in no group but its own.

    It changes its user after its imports, for the interpreter may be in a directory of root's; being dumpable again, it
    is as one that was that user's from the beginning.
    """
    return {
        "drop": "import ctypes, fcntl, mmap, pickle, struct, traceback\nimport shmvar._views\n"
        f"os.setgroups([]); os.setgid({uid if gid is None else gid}); os.setuid({uid}); os.chdir('/')\n"
        "assert ctypes.CDLL(None).prctl(4, 1, 0, 0, 0) == 0\n"
    }


def end(child):
    """Ends a child that was started here, whatever state it is in."""
    if isinstance(child, int):
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            if os.waitpid(child, os.WNOHANG)[0] == 0:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
        return
    if child.poll() is None:
        child.kill()
    child.wait(20)
    for pipe in (child.stdin, child.stdout):
        if pipe:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


# --- children that are forked


def fork(function, *args):
    """Runs a function in a forked child, which ends by itself; gives back its pid."""
    pid = os.fork()
    if pid:
        return pid
    status = 70
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(60)
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        function(*args)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def reap(pid, timeout=30.0):
    """Waits for a forked child; its exit status, negative for a signal."""
    until = time.monotonic() + timeout
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise AssertionError(f"child {pid} did not end within {timeout} s")
        time.sleep(0.001)


def in_child(function, *args, timeout=30.0):
    """Runs a function in a forked child to its good end."""
    assert reap(fork(function, *args), timeout) == 0


def kill(pid):
    """SIGKILL; returns when the system has let go of it."""
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def until(condition, timeout=10.0, what="it"):
    """Waits for a condition that comes true by itself."""
    end_at = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end_at, f"{what} did not happen within {timeout} s"
        time.sleep(0.002)


def looks(enough=lambda: True, seconds=2.0, turns=1, at_most=60.0):
    """A loop for so many seconds, and on until it has seen enough, which it must: but a machine may be slow."""
    began, done = time.monotonic(), 0
    while (passed := time.monotonic() - began) < seconds or done < turns or not enough():
        assert passed < at_most, f"{done} turns in {at_most} s, and not enough seen"
        yield
        done += 1


@contextlib.contextmanager
def promptly(seconds=6.0):
    """What is done here waits for nobody: waiting in vain takes 10 s. (A busy machine may halt for a second.)"""
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    assert took < seconds, f"it took {took:.1f} s"


def count_descriptors():
    return len(os.listdir("/proc/self/fd"))


def count_mappings():
    with open("/proc/self/maps") as maps:
        return sum(1 for _ in maps)


# --- the bytes of a segment


def path_of(segment):
    return f"{SHM}/{segment.info().name}"


class Raw:
    """A segment's file, read and damaged by docs/format.md."""

    LOCK, ROOT, STATE, INTENT, PARTICIPANTS = 4096, 4160, 4096, 8192, 16384

    def __init__(self, segment):
        self.fd = os.open(path_of(segment), os.O_RDWR)
        (granules,) = self.unpack("<Q", 56)
        zones = granules // 1024
        zone_meta = -(-(81920 + 512 * -(-zones // 64)) // 16384) * 16384
        pins = zone_meta + 16384 * zones
        stride = -(-(granules // 8) // 4096) * 4096
        self.zone_meta, self.granules, self.pins, self.pin_stride = zone_meta, granules, pins, stride
        self.arena = -(-(pins + stride * 1024) // (2 << 20)) * (2 << 20)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.fd)

    def read(self, offset, length):
        return os.pread(self.fd, length, offset)

    def write(self, offset, data):
        assert os.pwrite(self.fd, data, offset) == len(data)

    def unpack(self, layout, offset):
        return struct.unpack(layout, self.read(offset, struct.calcsize(layout)))

    def pack(self, layout, offset, *values):
        self.write(offset, struct.pack(layout, *values))

    def entry(self, granule):
        """Offset and word of a span map entry."""
        at = self.zone_meta + granule // 1024 * 16384 + granule % 1024 * 8
        return at, *self.unpack("<Q", at)

    def table(self):
        """Offset of the first slot, number of slots."""
        (root,) = self.unpack("<Q", self.ROOT)
        return self.arena + (root >> 32) * 16384, 1 << (root >> 24 & 0xFF)

    def slots(self):
        """(offset, word, index or hash, tag word, place) of each variable."""
        base, count = self.table()
        for number, slot in enumerate(struct.iter_unpack("<4Q", self.read(base, 32 * count))):
            if slot[2] & 7 >= 2:
                yield (base + 32 * number, *slot)

    def slot(self, index):
        return next(slot for slot in self.slots() if slot[2] == index % 2**64 and not slot[3] & 8)

    def record(self, index):
        """Offset and length of the record of an integer index, which is no inline value."""
        _, _, _, tag, place = self.slot(index)
        granule, block = place >> 16, place & 0xFFFF
        at, length = self.arena + granule * 16384, tag >> 24
        if tag & 7 == 4:
            return at, length
        return at + 64 + block * CLASSES[self.entry(granule)[1] >> 10 & 63], length

    def participants(self):
        """Number -> pid of each participant in use."""
        (top,) = self.unpack("<I", self.STATE + 88)
        rows = {number: self.unpack("<II", self.PARTICIPANTS + 64 * number) for number in range(top)}
        return {number: pid for number, (state, pid) in rows.items() if state == 1}

    def hold_lock(self, pid):
        """Writes the lock as if this participant held it."""
        number = next(number for number, its in self.participants().items() if its == pid)
        self.pack("<I", self.LOCK, number + 1)

    def free_lock(self):
        self.pack("<I", self.LOCK, 0)


CLASSES = [
    32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640, 768, 896, 1024, 1280, 1536, 1808,
    2040, 2328, 2720, 3264, 4080, 5440, 8160, 16320,
]  # fmt: skip


async def tick(turns):
    """Appends a turn each 10 ms: the event loop goes on."""
    while True:
        turns.append(time.monotonic())
        await asyncio.sleep(0.01)
