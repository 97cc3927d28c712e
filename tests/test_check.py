"""`Segment.check`: for each invariant of docs/format.md, one thing is damaged, and check names it (F28)."""

import contextlib
import os
import resource
import struct

import helpers
import pytest

import shmvar

STATE, INTENT, PARTICIPANTS, SUMMARY = 4096, 8192, 16384, 81920
FREE, LIVE, SLAB, STICKY = 1, 3, 6, 1 << 63
TEXT, EXPIRES, BUFFERS = 8, 16, 32


@pytest.fixture
def filled(key):
    """A segment with something of everything."""
    segment = shmvar.attach(key, 4 << 20)
    segment.update({n: n for n in range(40)})
    segment.update({n: "x" * (n + 20) for n in range(100, 140)})
    segment.update({f"text {n}": [n] * n for n in range(20)})
    segment[200] = [7] * 20_000  # a span
    segment[201], segment[204] = b"y" * 40_000, b"Y" * 40_000  # spans with a buffer
    segment[202] = segment[203] = b"z" * 20_000
    del segment[39], segment["text 3"], segment[202]
    segment.view(201)  # its bitmap of pins is there
    assert segment.lock(300).acquire()
    yield segment
    segment.check()
    segment.detach()


class Damage(helpers.Raw):
    """Edits that are taken back."""

    @contextlib.contextmanager
    def edited(self, *edits):
        before = [(offset, self.read(offset, len(data))) for offset, data in edits]
        try:
            for offset, data in edits:
                self.write(offset, data)
            yield
        finally:
            for offset, data in before:
                self.write(offset, data)

    def text_slot(self):
        return next(slot for slot in self.slots() if slot[3] & TEXT)

    def of_kind(self, state):
        """(granule, offset of its entry, entry) of the first span in this state."""
        granule = 0
        while True:
            at, entry = self.entry(granule)
            if entry & 15 == state:
                return granule, at, entry
            granule += 1 << (entry >> 4 & 63)


def q(offset, *words):
    return offset, struct.pack(f"<{len(words)}Q", *(word % 2**64 for word in words))


def plus(raw, offset, number):
    return q(offset, raw.unpack("<Q", offset)[0] + number)


def empty_slot(raw):
    """A slot never used whose neighbours are not used either: nothing is probed over it."""
    base, count = raw.table()
    words = [slot[0] for slot in struct.iter_unpack("<4Q", raw.read(base, 32 * count))]
    return base + 32 * next(n for n in range(1, count - 1) if not any(words[n - 1 : n + 2]))


def moved(raw, slot):
    """The slot's contents where probing does not come by."""
    return [(empty_slot(raw), raw.read(slot, 32)), q(slot, 2, 0, 1, 0)]


def tombstone(raw):
    base, count = raw.table()
    return next(base + 32 * n for n in range(count) if raw.unpack("<4Q", base + 32 * n)[2] & 7 == 1)


def doubled(raw):
    """Integer 5 once more, where probing finds it: two neighbouring slots are exchanged for two of the same index."""
    slot = raw.slot(5)
    base, count = raw.table()
    number = (slot[0] - base) // 32
    after = next(
        n % count for n in range(number + 1, number + count) if raw.unpack("<Q", base + 32 * (n % count)) == (0,)
    )
    return [(base + 32 * after, raw.read(slot[0], 32)), plus(raw, STATE + 144, 1), plus(raw, STATE + 152, 1),
            plus(raw, STATE + 136, 32)]  # fmt: skip


def retagged(raw, index, change):
    slot = raw.slot(index)
    return [q(slot[0] + 16, change(slot[3]))]


def block_bit(raw, index):
    slot = raw.slot(index)
    granule, block = slot[4] >> 16, slot[4] & 0xFFFF
    at = raw.arena + granule * 16384 + block // 64 * 8
    return [q(at, raw.unpack("<Q", at)[0] ^ 1 << block % 64)]


def entry_edit(raw, state, change):
    _, at, entry = raw.of_kind(state)
    return [q(at, change(entry))]


def inside(raw):
    granule, _, entry = raw.of_kind(LIVE)
    assert entry >> 4 & 63, "a span of several granules"
    return [q(raw.entry(granule + 1)[0], LIVE)]


def own(raw):
    number = next(number for number, pid in raw.participants().items() if pid == os.getpid())
    return PARTICIPANTS + 64 * number


def pin(raw):
    number = (own(raw) - PARTICIPANTS) // 64
    # The first part of the bitmap stands for 32,768 granules; one zone, of 1,024, is in use.
    at = raw.pins + number * raw.pin_stride + 2048
    return [q(at, 1), (own(raw) + 32, struct.pack("<Q", raw.unpack("<Q", own(raw) + 32)[0] | 1))]


def free_bit(raw, order, granule):
    """Offset of the word, number of the bit."""
    first = {0: 0, 1: 16, 2: 24, 3: 28}.get(order, 26 + order)
    return raw.zone_meta + 12288 + 8 * (first + (granule >> order) // 64), (granule >> order) % 64


def free_span(raw):
    """The largest that has a bit of its zone."""
    small = (found for found in spans(raw) if found[2] & 15 == FREE and found[2] >> 4 & 63 < 10)
    return max(small, key=lambda found: found[2] >> 4 & 63)


def free_buddies(raw):
    """A free span, split in two in the map and in its bitmaps."""
    granule, at, entry = free_span(raw)
    order = (entry >> 4 & 63) - 1
    right = granule + (1 << order)
    edits = {at: FREE | order << 4, raw.entry(right)[0]: FREE | order << 4}
    for its, where, on in [(order + 1, granule, False), (order, granule, True), (order, right, True)]:
        offset, bit = free_bit(raw, its, where)
        now = edits.get(offset, raw.unpack("<Q", offset)[0])
        edits[offset] = now | 1 << bit if on else now & ~(1 << bit)
    return [q(offset, word) for offset, word in edits.items()]


def spans(raw):
    granule = 0
    while granule < 1024 * raw.unpack("<Q", STATE + 72)[0]:
        at, entry = raw.entry(granule)
        yield granule, at, entry
        granule += 1 << (entry >> 4 & 63)


def class_bit(raw):
    granule, _, entry = raw.of_kind(SLAB)
    at = raw.zone_meta + 8192 + (entry >> 10 & 63) * 128 + granule // 64 * 8
    return [q(at, raw.unpack("<Q", at)[0] ^ 1 << granule % 64)]


CASES = {
    "count": (1, "count is 80", lambda raw: [plus(raw, STATE + 144, -22)]),
    "used": (1, "used is .*are charged", lambda raw: [plus(raw, STATE + 136, 8)]),
    "fill": (1, "fill is", lambda raw: [plus(raw, STATE + 152, 1)]),
    "more used than the limit": (1, "the limit is 100", lambda raw: [q(STATE + 80, 100)]),
    "no limit": (1, "the limit is 0", lambda raw: [q(STATE + 80, 0)]),
    "a limit beyond the arena": (1, "the limit is", lambda raw: [q(STATE + 80, 1 << 60)]),
    "a block that is marked free": (2, "in use false, named true", lambda raw: block_bit(raw, 101)),
    "a block that nobody names": (2, "in use true, named false", lambda raw: [q(raw.slot(101)[0] + 16, 2 | 3 << 8, 0),
        plus(raw, STATE + 136, -(raw.slot(101)[3] >> 24))]),
    "a block named twice": (2, "named twice", lambda raw: [q(raw.slot(102)[0] + 24, raw.slot(101)[4])]),
    "a block beyond its slab": (2, "names block 1023", lambda raw: [q(raw.slot(101)[0] + 24, raw.slot(101)[4] | 1023)]),
    "a block of no slab": (2, "names a block of", lambda raw: [q(raw.slot(101)[0] + 24, raw.slot(200)[4])]),
    "a span named twice": (2, "named twice", lambda raw: [q(raw.slot(204)[0] + 24, raw.slot(201)[4])]),
    "a span that is not live": (2, "names the span", lambda raw: entry_edit(raw, LIVE, lambda entry: entry + 1)),
    "a live span that nobody names": (2, "nobody names it", lambda raw: [q(raw.slot(200)[0] + 16, 2 | 3 << 8, 0),
        plus(raw, STATE + 136, -(raw.slot(200)[3] >> 24))]),
    "no zone": (3, "0 zones are in use", lambda raw: [q(STATE + 72, 0)]),
    "too many zones": (3, "zones are in use, of", lambda raw: [q(STATE + 72, 1 << 40)]),
    "zones that are not there": (12, "1000 zones are in use", lambda raw: [q(STATE + 72, 1000)]),
    "an entry inside a span": (3, "inside", inside),
    "an entry that is none": (None, "span map, granule", lambda raw: entry_edit(raw, FREE, lambda entry: 0)),
    "a slab of a class that is none": (2, "a slab of class 63", lambda raw: entry_edit(raw, SLAB,
        lambda entry: entry | 63 << 10)),
    "a slab that is not sticky": (3, "not sticky", lambda raw: entry_edit(raw, SLAB, lambda entry: entry ^ STICKY)),
    "two tables": (3, "a second table|there are 2 tables", lambda raw: entry_edit(raw, FREE,
        lambda entry: entry & ~15 | 7 | STICKY)),
    "free buddies": (4, "free buddies", free_buddies),
    "a bitmap of slabs": (5, "the bitmap of slabs of class", class_bit),
    "a bitmap of free spans": (5, "free spans of order 0, word 15", lambda raw: [
        q(raw.zone_meta + 12288 + 120, 1 << 63)]),
    "a summary of slabs": (5, "kind 31", lambda raw: [q(SUMMARY + 31 * 8, raw.unpack("<Q", SUMMARY + 31 * 8)[0] ^ 1)]),
    "a summary of zones not in use": (5, "kind 45", lambda raw: [q(SUMMARY + 45 * 8, 1 << 63)]),
    "a busy slot": (6, "is busy", lambda raw: [plus(raw, raw.slot(5)[0], 1)]),
    "an intent without a lock": (6, "the intent is valid", lambda raw: [q(INTENT, 1 << 40)]),
    "an index that stands twice": (7, "index 5 stands twice|keeps index 5", doubled),
    "a variable that probing misses": (8, "keeps index 7 from being found", lambda raw: moved(raw, raw.slot(7)[0])),
    "a text's hash": (8, "its index's hash", lambda raw: [q(raw.text_slot()[0] + 8, raw.text_slot()[2] ^ 1 << 63)]),
    "a tombstone with an index": (8, "a tombstone that is not empty", lambda raw: [q(tombstone(raw) + 8, 5)]),
    "an empty slot with contents": (8, "is not zero", lambda raw: [q(empty_slot(raw) + 24, 5)]),
    "a used slot without a word": (8, "word and kind disagree|an empty slot keeps", lambda raw: [q(raw.slot(5)[0], 0)]),
    "a version from the future": (9, "has version", lambda raw: [q(raw.slot(5)[0], 1 << 50)]),
    "a last version beyond all": (9, "the last version", lambda raw: [q(STATE + 128, 1 << 63)]),
    "a kind that is none": (10, "has kind 7", lambda raw: retagged(raw, 5, lambda tag: tag | 7)),
    "a tag's unused bit": (10, "has tag", lambda raw: retagged(raw, 5, lambda tag: tag | 128)),
    "inline with an expiry": (10, "inline, with", lambda raw: retagged(raw, 5, lambda tag: tag | EXPIRES)),
    "too much inline": (10, "15 bytes inline", lambda raw: retagged(raw, 5, lambda tag: tag & ~0xFF00 | 15 << 8)),
    "a record longer than its block": (10, "in a block of", lambda raw: [
        *retagged(raw, 101, lambda tag: tag + (9000 << 24)), plus(raw, STATE + 136, 9000)]),
    "a key of an integer": (10, "an integer index with a key", lambda raw: retagged(raw, 101,
        lambda tag: tag | 3 << 8)),
    "an expiry of 0": (10, "expires at 0", lambda raw: [*retagged(raw, 101, lambda tag: tag | EXPIRES),
        q(raw.record(101)[0], 0)]),
    "buffers in a slab": (10, "buffers in a slab", lambda raw: retagged(raw, 101, lambda tag: tag | BUFFERS)),
    "a value longer than its span": (10, "bytes in Live", lambda raw: [*retagged(raw, 200, lambda tag: tag + (1 << 45)),
        plus(raw, STATE + 136, 1 << 21)]),
    "a table of buffers": (10, "the table of its buffers", lambda raw: [plus(raw, raw.record(201)[0] + 16, 1)]),
    "a key that is no text": (None, "the text index", lambda raw: [bad_text(raw)]),
    "a top beyond all": (11, "participants_top is 5000", lambda raw: [(STATE + 88, struct.pack("<I", 5000))]),
    "a participant beyond the top": (11, "participant 9 was used", lambda raw: [q(PARTICIPANTS + 9 * 64 + 8, 1)]),
    "a participant's state": (11, "has state 2", lambda raw: [(own(raw), struct.pack("<I", 2))]),
    "a participant without a generation": (11, "no pid or generation", lambda raw: [q(own(raw) + 8, 0)]),
    "a participant's spans": (11, "spans is neither", lambda raw: [q(own(raw) + 24, 2)]),
    "a participant's locks": (11, "locks is neither", lambda raw: [q(own(raw) + 48, 2)]),
    "a lock of nobody's": (14, "participant 900's", lambda raw: [(raw.slot(300)[0] + 18, struct.pack("<I", 900))]),
    "a lock without an owner": (10, "says nothing of its owner", lambda raw: retagged(raw, 300,
        lambda tag: tag - 0x100)),
    "a span of nobody's": (11, "participant 900's", lambda raw: freeing(raw)),
    "a pin beyond the zones": (11, "pins a granule", pin),
    "more pages than a span has": (12, "more pages|pages are present|object takes", lambda raw: entry_edit(raw, FREE,
        lambda entry: entry | (2**31 - 1) << 32)),
    "pages that a value has not": (12, "pages in Live", lambda raw: entry_edit(raw, LIVE,
        lambda entry: entry & (2**32 - 1))),
    "pages that the object has not": (12, "the object takes", lambda raw: biggest_free(raw)),
    "the identity": (13, "the identity has changed", lambda raw: [q(64, 5)]),
    "gone with a name": (13, "gone is 1", lambda raw: [(STATE + 92, struct.pack("<I", 1))]),
    "a root that is none": (None, "root|table", lambda raw: [q(STATE + 64, 1 << 60)]),
}  # fmt: skip


def bad_text(raw):
    slot = raw.text_slot()
    return raw.arena + (slot[4] >> 16) * 16384 + 64 + (slot[4] & 0xFFFF) * helpers.CLASSES[
        raw.entry(slot[4] >> 16)[1] >> 10 & 63
    ], b"\xff"


def freeing(raw):
    """A free span becomes one that participant 900 frees, in the bitmaps, too."""
    granule, at, entry = free_span(raw)
    order = entry >> 4 & 63
    (offset, bit), summary = free_bit(raw, order, granule), SUMMARY + (32 + order) * 8
    assert raw.unpack("<Q", offset) == (1 << bit,), "the only one of its order"
    return [q(at, 5 | order << 4 | 900 << 16), q(offset, 0), q(summary, raw.unpack("<Q", summary)[0] & ~1)]


def biggest_free(raw):
    _, at, entry = max((span for span in spans(raw) if span[2] & 15 == FREE), key=lambda span: span[2] >> 4 & 63)
    return [q(at, entry & (2**32 - 1) | (4 << (entry >> 4 & 63)) << 32)]


@pytest.mark.parametrize("name", CASES)
def test_f28_check_names_the_invariant_that_does_not_hold(filled, key, name):
    number, words, edits = CASES[name]
    text = words if number is None else f"invariant {number}: .*({words})"
    filled.check()
    with Damage(filled) as raw, shmvar.attach(key, readonly=True) as reader:
        assert reader.check().variables == filled.check().variables
        with raw.edited(*edits(raw)):
            with pytest.raises(shmvar.CorruptSegmentError, match=text):
                reader.check()
            with pytest.raises(shmvar.CorruptSegmentError, match=text):
                filled.check()
    filled.check()


def test_f28_a_part_of_a_pin_bitmap_that_the_geometry_has_not_is_named(key):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8 << 30, hard))  # a small reserve: fewer parts than 128
    try:
        segment = shmvar.attach(key, 1 << 20)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with segment, Damage(segment) as raw:
        with (
            raw.edited(q(own(raw) + 40, 1 << 63)),
            pytest.raises(shmvar.CorruptSegmentError, match=r"invariant 11: .*part 127"),
        ):
            segment.check()
        segment.check()


def test_f28_a_lock_object_that_is_missing_is_named(key):
    with shmvar.attach(key, perm=0o644) as segment, helpers.Raw(segment) as raw:
        segment.check()
        (name,) = [name for name in os.listdir(helpers.SHM) if name == f"shmvar-lock.{raw.read(24, 16).hex()}"]
        os.rename(f"{helpers.SHM}/{name}", f"{helpers.SHM}/{name}.away")
        try:
            with pytest.raises(shmvar.CorruptSegmentError, match="invariant 13: its lock object"):
                segment.check()
        finally:
            os.rename(f"{helpers.SHM}/{name}.away", f"{helpers.SHM}/{name}")
        segment.check()
        segment.destroy()
        assert segment.check().variables == 0


def test_check_counts_what_is_there(filled):
    report = filled.check()
    info = filled.info()
    assert (report.variables, report.used) == (info.count, info.used) == (len(filled), info.used)
    assert report.blocks + report.live < report.variables < report.slots and report.live == 4
    assert (report.zones, report.busy, report.retired, report.living, report.dead) == (1, 0, 0, info.attached, 0)
    # Three were removed; the lock may have taken the place of one.
    assert report.tombstones in (2, 3) and report.slabs > 3 and report.free > 0
    kept = filled.view(201)
    filled[201] = None
    assert (filled.check().live, filled.check().retired) == (3, 1)
    del kept
    assert filled.check().retired == 0
    assert report == report and report != filled.check() and repr(report).startswith("CheckReport(variables=102, ")
    assert next(iter(report._asdict())) == "variables" and report._asdict()["living"] == report.living


def test_a_dead_process_and_its_change_are_counted_then_put_right(seg, key, children):
    child = helpers.start("s = shmvar.attach(key); s[1] = 'one'; print('on', flush=True); time.sleep(60)", key)
    children.append(child)
    assert seg.check().living == 2
    with helpers.Raw(seg) as raw:
        raw.hold_lock(child.pid)
        with shmvar.attach(key, readonly=True) as reader:
            child.kill()
            child.wait()
            with pytest.raises(shmvar.SegmentBusyError, match="died while it held the writer lock"):
                reader.check()
            # Whoever takes the lock over buries him.
            assert seg.check().dead == 0 and seg.check().living == 1
            assert reader.check() == seg.check()


def test_check_of_a_reader_waits_out_those_who_write(seg, key, children):
    program = "segment = shmvar.attach(key)\nprint('on', flush=True)\nwhile True: "
    program += "segment[1] = os.urandom(3000); time.sleep(0.001)"
    children.append(helpers.start(program, key))
    with shmvar.attach(key, readonly=True) as reader:
        for _ in range(20):
            assert reader.check().variables in (0, 1)
    helpers.end(children[0])


def test_check_needs_a_handle(seg):
    seg.detach()
    with pytest.raises(shmvar.DetachedError):
        seg.check()


def test_check_of_a_reader_beside_owners_who_come_and_go_sees_no_lock_of_nobody(seg, key, children):
    code = "print('on', flush=True)\nwhile True:\n    with shmvar.attach(key) as s, s.lock(5): pass"
    children.extend(helpers.start(code, key) for _ in range(2))
    with shmvar.attach(key, readonly=True) as reader:
        for _ in helpers.looks(turns=100):
            report = reader.check()
            assert report.locks <= 1 and report.dead == 0
