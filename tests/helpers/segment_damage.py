"""Edits that damage what is in a segment, and undo them."""

import contextlib
import os
import struct

import helpers

LIVE, FREEING, SLAB, LEAF, DIRECTORY = 3, 5, 6, 7, 8
TEXT, EXPIRES, BUFFERS, LOCK = 8, 16, 32, 64
ALL = 2**64 - 1


class Damage(helpers.Raw):
    """Makes edits, and undoes them at the end."""

    @contextlib.contextmanager
    def edited(self, *edits):
        before = [(offset, self.read(offset, len(data))) for offset, data in edits]
        try:
            for offset, data in edits:
                self.write(offset, data)
            yield
        finally:
            for offset, data in reversed(before):
                self.write(offset, data)

    def text_slot(self):
        return next(slot for slot in self.slots() if slot[3] & TEXT)

    def of_kind(self, state):
        """(granule, offset of its entry, entry) of the first span in this state."""
        return next(span for span in self.spans() if span[2] & 15 == state)

    def large_slab(self):
        """The same for a slab whose pages are obtained one by one."""
        return next(span for span in self.spans() if span[2] & 15 == SLAB and span[2] >> 32 > 4)

    def free_granule(self):
        """The last granule of the last zone, which is free."""
        granule = helpers.ZONE * self.unpack("<Q", self.ZONES)[0] - 1
        assert self.entry(granule)[1] == 0
        return granule


def q(offset, *words):
    return offset, struct.pack(f"<{len(words)}Q", *(word % 2**64 for word in words))


def plus(raw, offset, number):
    return q(offset, raw.unpack("<Q", offset)[0] + number)


def flipped(raw, offset, bits):
    return q(offset, raw.unpack("<Q", offset)[0] ^ bits)


def own(raw):
    number = next(number for number, pid in raw.participants().items() if pid == os.getpid())
    return raw.PARTICIPANTS + 64 * number


def word(raw, change, names=False):
    """Replaces the only word of the directory."""
    base, depth = raw.directory(names)
    assert depth == 0
    return [q(base, change(raw.unpack("<Q", base)[0]))]
