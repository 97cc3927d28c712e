"""System V objects, without the code under test: lists, removal, a private namespace, the bytes of a segment."""

import ctypes
import gc
import itertools
import os
import re
import struct
import time

from helpers.machine import SLOWER

IPC_CREAT, IPC_EXCL, IPC_RMID = 0o1000, 0o2000, 0
HEADER = 40
MAGIC = b"PHP_SM\0"
FREE, PREPARED = -(2**63) + 1, -(2**63) + 2
"""The two reserved indexes: a chunk without a value, and a value that is not yet published."""
FIELDS = {"start": 8, "end": 16, "free": 24, "total": 32}

_libc = ctypes.CDLL(None, use_errno=True)
_libc.shmget.argtypes = (ctypes.c_int, ctypes.c_size_t, ctypes.c_int)
_libc.shmat.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
_libc.shmat.restype = ctypes.c_void_p
_libc.shmdt.argtypes = (ctypes.c_void_p,)
_libc.shmctl.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_void_p)

_numbers = itertools.count(1)
_is_private = False


def private_namespace():
    """Moves this thread, and all that it starts, to an IPC namespace of its own. False: not root, or not possible."""
    global _is_private
    clone_newipc = 0x08000000
    _is_private = _is_private or (os.geteuid() == 0 and _libc.unshare(clone_newipc) == 0)
    return _is_private


def is_private():
    return _is_private


def unused_key():
    """A key that nobody else has: positive, and of 31 bits."""
    while True:
        key = 0x5048_0000 | next(_numbers) if _is_private else int.from_bytes(os.urandom(4)) >> 1
        if key > 0xFFFF and not objects({key}):
            return key


def objects(keys=None):
    """The System V objects of this namespace (with these keys) as a set of (kind, id, key); the key is signed."""
    found = set()
    for kind in ("shm", "sem", "msg"):
        with open(f"/proc/sysvipc/{kind}") as table:
            next(table)
            for line in table:
                key, identity = map(int, line.split()[:2])
                if keys is None or key in keys:
                    found.add((kind, identity, key))
    return found


def remove(found):
    """Removes objects that `objects` returned, as far as they are still there."""
    for kind, identity, _ in found:
        if kind == "shm":
            _libc.shmctl(identity, IPC_RMID, None)
        elif kind == "sem":
            _libc.semctl(identity, 0, IPC_RMID, 0)
        else:
            _libc.msgctl(identity, IPC_RMID, None)


def assert_gone(look, timeout=5.0):
    """Waits until `look()` finds no object: a segment goes with the last process that has it attached."""
    if look():
        gc.collect()  # by it a handle goes that refers to itself
    until = time.monotonic() + timeout * SLOWER
    while look() and time.monotonic() < until:
        time.sleep(0.02)
    assert not look(), f"left behind (kind, id, key): {sorted(look())}"


def size_of(key):
    """The size of the segment, as the kernel tells it."""
    return _row(key)["size"]


def attached_to(key):
    """How many times the segment is attached."""
    return _row(key)["nattch"]


def permissions_of(key):
    return int(str(_row(key)["perms"]), 8) & 0o777


def _row(key):
    with open("/proc/sysvipc/shm") as table:
        names = next(table).split()
        for line in table:
            row = dict(zip(names, map(int, line.split()), strict=True))
            if row["key"] == key:
                return row
    raise AssertionError(f"no segment has the key {key}")


class RawSegment:
    """The bytes of a segment, attached here; made if a size is given."""

    def __init__(self, key, size=None, permissions=0o600):
        self.key = key
        flags = permissions | IPC_CREAT | IPC_EXCL if size is not None else 0
        self.id = _libc.shmget(key, size or 0, flags)
        if self.id < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        self.size = size_of(key)
        self.address = _libc.shmat(self.id, None, 0)
        assert self.address not in (None, 2**64 - 1), os.strerror(ctypes.get_errno())
        self.memory = memoryview((ctypes.c_char * self.size).from_address(self.address)).cast("B")

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.detach()

    def __getitem__(self, where):
        return bytes(self.memory[where]) if isinstance(where, slice) else self.memory[where]

    def __setitem__(self, where, content):
        self.memory[where] = content

    def number(self, offset):
        return struct.unpack_from("<q", self.memory, offset)[0]

    def set_number(self, offset, number):
        """Stores a signed number of 64 bits; one beyond them is cut."""
        number &= 2**64 - 1
        ctypes.c_uint64.from_address(self.address + offset).value = number

    def __getattr__(self, name):
        if name in FIELDS:
            return self.number(FIELDS[name])
        raise AttributeError(name)

    def set(self, **fields):
        for name, number in fields.items():
            self.set_number(FIELDS[name], number)

    @property
    def header(self):
        """(start, end, free, total)"""
        return struct.unpack_from("<4q", self.memory, 8)

    def all_chunks(self):
        """The chunks of a sound chain, in order, as (offset, key, text, next)."""
        found, position = [], self.start
        while position < self.end:
            key, length, following = struct.unpack_from("<3q", self.memory, position)
            assert length >= 0 and following >= 24 + length and following % 8 == 0, (position, length, following)
            assert position + following <= self.end <= self.size, (position, following, self.end)
            found.append((position, key, self[position + 24 : position + 24 + length], following))
            position += following
        assert position == self.end, (position, self.end)
        return found

    def chunks(self):
        """The variables of a sound chain, in order, as (offset, key, text)."""
        return [(at, key, text) for at, key, text, _ in self.all_chunks() if key not in (FREE, PREPARED)]

    def prepared(self):
        """The values that are written and not yet published, by their indexes."""
        each = [(at, text) for at, key, text, _ in self.all_chunks() if key == PREPARED]
        return {self.number(at + own_size(text) - 8): text for at, text in each}

    def texts(self):
        """The texts by their keys; no key may be there twice."""
        found = {}
        for _, key, text in self.chunks():
            assert key not in found, f"key {key} is there twice"
            found[key] = text
        return found

    def detach(self):
        if self.address is not None:
            self.memory.release()
            _libc.shmdt(self.address)
            self.address = None


def own_size(text):
    """The size of a chunk with this text."""
    return 32 + (len(text) + 7) // 8 * 8


def chunk(key, text, *, length=None, following=None, gap=0):
    """The bytes of a chunk; a length or a distance may be a lie."""
    size = own_size(text) + gap
    head = struct.pack("<3q", key, len(text) if length is None else length, size if following is None else following)
    return (head + text).ljust(size, b"\0")


def segment_bytes(chunks, size, *, private=b"", magic=MAGIC, byte_7=0, **fields):
    """The bytes of a segment with these chunks (bytes); any field of the header may be a lie."""
    start = HEADER + len(private)
    body = b"".join(chunks)
    true = {"start": start, "end": start + len(body), "free": size - start - len(body), "total": size, **fields}
    header = magic[:7] + bytes([byte_7]) + struct.pack("<4q", *(true[name] for name in FIELDS))
    return (header + private + body).ljust(size, b"\0")


def make(key, content):
    """Makes a segment of these bytes."""
    with RawSegment(key, len(content)) as segment:
        segment[:] = content


def newer_php_accepts(raw):
    """Would the header check of PHP's development branch let this segment in?"""
    start, end, free, total = raw.header
    return HEADER <= total <= raw.size and HEADER <= start <= end <= total and 0 <= free <= total - end


def prepared_chunk(index, text):
    """The bytes of a chunk whose value is not yet published."""
    return chunk(PREPARED, text)[:-8] + struct.pack("<q", index)


def room_for(raw, index):
    """The largest chunk that a put of this index can make room for: what is free, gaps, and its own old chunk."""
    others = sum(own_size(text) for _, key, text in raw.chunks() if key != index)
    return raw.free + raw.end - raw.start - others


def gaps(raw):
    """Bytes between `start` and `end` that hold no variable."""
    return raw.end - raw.start - sum(own_size(text) for _, _, text in raw.chunks())


def names(error, key, *numbers):
    """Does the text of an error name the key (in decimal or as `ipcs` shows it) and each of the numbers?"""
    text = str(error)
    words = set(re.findall(r"-?\w+", text))
    shown = {str(key), f"0x{key & 0xFFFF_FFFF:08x}", f"0x{key & 0xFFFF_FFFF:x}"}
    missing = [number for number in numbers if str(number) not in words]
    assert shown & words and not missing, f"{text!r} does not name key {key} or {missing}"
    return True


def numbers(error):
    """The numbers in the text of an error."""
    return [int(word) for word in re.findall(r"-?\b\d+\b", str(error))]
