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
from typing import NamedTuple

import pytest

SHM = "/dev/shm"
NOBODY = 65534
ROOT = os.geteuid() == 0

needs_root = pytest.mark.skipif(not ROOT, reason="needs root: other users, mounts")
SLOWER = 5
"""A busy machine may take so many times as long as a quiet one. The limits here are only for what hangs."""
PRELUDE = (
    "import os, signal, sys, time\nimport shmvar\nsignal.alarm(500)\nkey = sys.argv[1] if len(sys.argv) > 1 else ''\n"
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
        timeout=timeout * SLOWER,
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
        signal.alarm(60 * SLOWER)
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        function(*args)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def reap(pid, timeout=30.0):
    """Waits for a forked child; its exit status, negative for a signal."""
    until = time.monotonic() + timeout * SLOWER
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise AssertionError(f"child {pid} did not end within {timeout * SLOWER} s")
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
    end_at = time.monotonic() + timeout * SLOWER
    while not condition():
        assert time.monotonic() < end_at, f"{what} did not happen within {timeout * SLOWER} s"
        time.sleep(0.002)


def looks(enough=lambda: True, seconds=2.0, turns=1, at_most=300.0):
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


SLABS = {
    4: [
        32, 40, 48, 56, 64, 72, 80, 88, 96, 104, 112, 120, 128, 144, 160, 176, 192, 208, 224, 240, 256, 280, 320, 360,
        392, 424, 464, 504, 560, 624, 680, 736, 816, 904, 960, 1016, 1088, 1160, 1248, 1360, 1480, 1632, 1808, 2040,
    ],
    16: [2336, 2512, 2728, 2976, 3272, 3632, 4088, 4672, 5032, 5456, 5952, 6544, 7272, 8184],
    32: [9352, 10072, 10912, 11904, 13096, 14552, 16376, 18712, 21832],
}  # fmt: skip
"""By the granules of a slab, the sizes of its blocks: the number of a class counts them all."""

CLASSES = [size for sizes in SLABS.values() for size in sizes]
GRANULE, ZONE, ZONE_META = 4096, 4096, 45056


class Leaf(NamedTuple):
    """A part of a table."""

    words: list[int]
    """Offsets of the directory's words that name it."""
    at: int
    """Its own offset: of its head."""
    granules: int

    def slots(self):
        """The offset of each slot."""
        return range(self.at + 32, self.at + GRANULE * self.granules, 32)


class Raw:
    """A segment's file, read and damaged by docs/format.md."""

    STATE, LOCK, ROOT, NAMES, INTENT = 4096, 4096, 4160, 4168, 8192
    ZONES, LIMIT, TOP, GONE = 4176, 4184, 4192, 4196
    VERSION, USED, COUNT, EXPIRING, DOOMED, DOOMED_AT, MANY, BATCH, CURSOR = (*range(4224, 4272, 8), 4288, 4296, 4304)
    PARTICIPANTS, READERS, SUMMARY = 16384, 81920, 606208
    FREE, PRESENT, STICKY, FRESH, ROOMS = 32768, 33280, 33792, 34304, 34816
    """Within the metadata of a zone."""
    BITMAPS = ((0, 240), (FREE, 32), (PRESENT, 32), (STICKY, 32), (FRESH, 32), (ROOMS, 67 * 128))
    """The same, and how long the part of it is that small segments use."""

    def __init__(self, segment):
        self.fd = os.open(path_of(segment), os.O_RDWR)
        (granules,) = self.unpack("<Q", 56)
        zones = granules // ZONE
        self.granules = granules
        self.zone_meta = -(-(self.SUMMARY + 1024 * -(-zones // 64)) // 4096) * 4096
        self.pins = self.zone_meta + ZONE_META * zones
        self.pin_stride = -(-(granules // 8) // 4096) * 4096
        self.arena = -(-(self.pins + self.pin_stride * 1024) // (2 << 20)) * (2 << 20)

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

    def granule_at(self, granule):
        return self.arena + granule * GRANULE

    def entry(self, granule):
        """Offset and word of a span map entry."""
        at = self.zone_meta + granule // ZONE * ZONE_META + granule % ZONE * 8
        return at, *self.unpack("<Q", at)

    def spans(self):
        """(granule, offset of its entry, entry) of each span, from the left."""
        granule, end = 0, ZONE * self.unpack("<Q", self.ZONES)[0]
        while granule < end:
            at, entry = self.entry(granule)
            if entry:
                yield granule, at, entry
            granule += max(1, entry >> 32)

    def bit(self, bitmap, granule):
        """Offset of the word, and number of the bit, that one of a zone's bitmaps of granules has for this one."""
        at = self.zone_meta + granule // ZONE * ZONE_META + bitmap + granule % ZONE // 64 * 8
        return at, granule % 64

    def room_bit(self, granule, class_):
        """The same of the bitmap of the slabs of a class that have room."""
        at = self.zone_meta + granule // ZONE * ZONE_META + self.ROOMS + class_ * 128 + granule % ZONE // 256 * 8
        return at, granule // 4 % 64

    def directory(self, names=False):
        """Offset of the first word, and depth, of the table of the variables or of the names."""
        (root,) = self.unpack("<Q", self.NAMES if names else self.ROOT)
        return self.granule_at(root >> 32), root >> 24 & 0xFF

    def leaves(self, names=False):
        """The leaves of the table, in the order of the directory."""
        base, depth = self.directory(names)
        at, end = base, base + 8 * (1 << depth)
        while at < end:
            (word,) = self.unpack("<Q", at)
            count = 1 << depth - (word >> 26 & 0x3F)
            yield Leaf([at + 8 * n for n in range(count)], self.granule_at(word >> 32), word >> 18 & 0xFF)
            at += 8 * count

    def slots(self, names=False):
        """(offset, word, index or hash, tag word, place) of each variable, or of each lock."""
        for leaf in self.leaves(names):
            slots = leaf.slots()
            for at, slot in zip(slots, struct.iter_unpack("<4Q", self.read(slots.start, 32 * len(slots))), strict=True):
                if slot[2] & 7 >= 2:
                    yield (at, *slot)

    def slot(self, index, names=False):
        return next(slot for slot in self.slots(names) if slot[2] == index % 2**64 and not slot[3] & 8)

    def leaf_of(self, slot, names=False):
        """The leaf in which the slot at this offset is."""
        return next(leaf for leaf in self.leaves(names) if slot in leaf.slots())

    def place(self, slot):
        """Offset of a slot's record, which is in a block or a span."""
        _, _, _, tag, place = slot
        granule, block = place >> 16, place & 0xFFFF
        if tag & 7 == 4:
            # With buffers it begins so that the value does at a multiple of 64.
            prefix = (8 if tag & 16 else 0) + (tag >> 8 & 0xFFFF)
            return self.granule_at(granule) + (-prefix % 64 if tag & 32 else 0)
        return self.granule_at(granule) + 64 + block * CLASSES[self.entry(granule)[1] >> 4 & 0xFF]

    def record(self, index):
        """Offset and length of the record of an integer index, which is no inline value."""
        slot = self.slot(index)
        return self.place(slot), slot[3] >> 24

    def participants(self):
        """Number -> pid of each participant in use."""
        (top,) = self.unpack("<I", self.TOP)
        rows = {number: self.unpack("<II", self.PARTICIPANTS + 64 * number) for number in range(top)}
        return {number: pid for number, (state, pid) in rows.items() if state == 1}

    def hold_lock(self, pid):
        """Writes the lock as if this participant held it."""
        number = next(number for number, its in self.participants().items() if its == pid)
        self.pack("<I", self.LOCK, number + 1)

    def free_lock(self):
        self.pack("<I", self.LOCK, 0)


async def tick(turns):
    """Appends a turn each 10 ms: the event loop goes on."""
    while True:
        turns.append(time.monotonic())
        await asyncio.sleep(0.01)
