"""The file of a segment, read and written as docs/format.md says: for tests that damage it or look into it."""

import os
import struct
from typing import NamedTuple

from helpers.machine import SHM


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
"""Granules of a slab -> its block sizes. The number of a class counts through all of them."""

CLASSES = [size for sizes in SLABS.values() for size in sizes]
GRANULE, ZONE, ZONE_META = 4096, 4096, 45056


class Leaf(NamedTuple):
    """A leaf of a table."""

    words: list[int]
    """Offsets of the words of the directory that point to it."""
    at: int
    """The offset of its head."""
    granules: int

    def slots(self):
        """The offset of each slot."""
        return range(self.at + 32, self.at + GRANULE * self.granules, 32)


class Raw:
    """The file of a segment: offsets of docs/format.md, and reads and writes that bypass the package."""

    STATE, LOCK, ROOT, NAMES, INTENT = 4096, 4096, 4160, 4168, 8192
    ZONES, LIMIT, TOP, GONE, EVICT, STAMPS = 4176, 4184, 4192, 4196, 4200, 4204
    INSERTED, CLOCK = 4112, 4328
    VERSION, USED, COUNT, EXPIRING, DOOMED, DOOMED_AT, MANY, BATCH, CURSOR = (*range(4224, 4272, 8), 4288, 4296, 4304)
    PARTICIPANTS, READERS, SUMMARY = 16384, 81920, 606208
    FREE, PRESENT, STICKY, FRESH, ROOMS = 32768, 33280, 33792, 34304, 34816
    """Offsets within the metadata of a zone."""
    BITMAPS = ((0, 240), (FREE, 32), (PRESENT, 32), (STICKY, 32), (FRESH, 32), (ROOMS, 67 * 128))
    """The same offsets, each with the length of the part that small segments use."""

    def __init__(self, segment):
        self.fd = os.open(path_of(segment), os.O_RDWR)
        (granules,) = self.unpack("<Q", 56)
        zones = granules // ZONE
        self.granules = granules
        self.zone_meta = -(-(self.SUMMARY + 1024 * -(-zones // 64)) // 4096) * 4096
        self.pins = self.zone_meta + ZONE_META * zones
        self.pin_stride = -(-(granules // 8) // 4096) * 4096
        self.stamps = self.pins + self.pin_stride * 1024
        self.arena = -(-(self.stamps + min(16 * granules, 64 << 20)) // (2 << 20)) * (2 << 20)

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
        """Offset of the word and number of the bit that stand for this granule in a bitmap of its zone."""
        at = self.zone_meta + granule // ZONE * ZONE_META + bitmap + granule % ZONE // 64 * 8
        return at, granule % 64

    def room_bit(self, granule, class_):
        """The same for the bitmap of the slabs of a class that have room."""
        at = self.zone_meta + granule // ZONE * ZONE_META + self.ROOMS + class_ * 128 + granule % ZONE // 256 * 8
        return at, granule // 4 % 64

    def directory(self, names=False):
        """Offset of the first word and depth of the directory, of the table of variables or of lock names."""
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

    def slot_in_a_span(self):
        """The first slot whose record has a span of its own."""
        return next(slot for slot in self.slots() if slot[3] & 7 == 4)

    def leaf_of(self, slot, names=False):
        """The leaf in which the slot at this offset is."""
        return next(leaf for leaf in self.leaves(names) if slot in leaf.slots())

    def place(self, slot):
        """Offset of a slot's record, which is in a block or a span."""
        _, _, _, tag, place = slot
        granule, block = place >> 16, place & 0xFFFF
        if tag & 7 == 4:
            # There is room for an expiry before the key; a value with buffers begins at a multiple of 64.
            room = 0 if tag & 16 else 8
            return self.granule_at(granule) + room + (-(8 + (tag >> 8 & 0xFFFF)) % 64 if tag & 32 else 0)
        return self.granule_at(granule) + 64 + block * CLASSES[self.entry(granule)[1] >> 4 & 0xFF]

    def record(self, index):
        """Offset and length of the record of an integer index whose value is not inline."""
        slot = self.slot(index)
        return self.place(slot), slot[3] >> 24

    def participants(self):
        """Number -> pid of each participant in use."""
        (top,) = self.unpack("<I", self.TOP)
        rows = {number: self.unpack("<II", self.PARTICIPANTS + 64 * number) for number in range(top)}
        return {number: pid for number, (state, pid) in rows.items() if state == 1}

    def hold_lock(self, pid):
        """Writes the lock word as if this participant held the lock."""
        number = next(number for number, its in self.participants().items() if its == pid)
        self.pack("<I", self.LOCK, number + 1)

    def free_lock(self):
        self.pack("<I", self.LOCK, 0)
