"""`Segment.check`: for each invariant of docs/format.md, one thing is damaged, and check names it (F28)."""

import struct

import helpers
import pytest
from helpers.segment_damage import (
    ALL,
    BUFFERS,
    DIRECTORY,
    EXPIRES,
    FREEING,
    LEAF,
    LIVE,
    LOCK,
    SLAB,
    Damage,
    flipped,
    own,
    plus,
    q,
    word,
)

import shmvar


@pytest.fixture
def filled(key):
    """A segment that has each kind of structure."""
    segment = shmvar.attach(key, 4 << 20)
    segment.update({n: n for n in range(20)})
    segment.update({n: "x" * (n + 20) for n in range(100, 125)})
    segment.update({f"text {n}": [n] * n for n in range(10)})
    segment[200] = [7] * 20_000  # a span
    segment[201], segment[204] = b"y" * 40_000, b"Y" * 40_000  # spans with a buffer
    segment[202] = segment[203] = b"z" * 20_000  # in a slab that is obtained page by page
    segment.put(205, "x" * 100, ttl=3600)
    del segment[19], segment["text 3"], segment[202]
    segment.view(201)  # its bitmap of pins exists
    assert segment.lock(300).acquire()
    yield segment
    segment.check()
    segment.detach()


def toggled(raw, bitmap, granule):
    """One bit of a zone's bitmap of granules."""
    offset, bit = raw.bit(bitmap, granule)
    return flipped(raw, offset, 1 << bit)


def marked(raw, granule, entry):
    """Makes a free granule the beginning of a span: its entry, and its bit in the bitmap of free granules."""
    return [q(raw.entry(granule)[0], entry), toggled(raw, raw.FREE, granule)]


def empty_slot(raw, names=False):
    """A slot that was never used, like its neighbours: no probe passes over it."""
    (leaf,) = raw.leaves(names)
    slots = leaf.slots()
    used = [raw.unpack("<Q", slot)[0] for slot in slots]
    return slots[next(n for n in range(1, len(slots) - 1) if not any(used[n - 1 : n + 2]))]


def moved(raw, slot):
    """Moves the contents of a slot to a place that probing does not reach."""
    return [(empty_slot(raw), raw.read(slot, 32)), q(slot, 2, 0, 1, 0)]


def tombstone(raw):
    (leaf,) = raw.leaves()
    return next(slot for slot in leaf.slots() if raw.unpack("<4Q", slot)[2] & 7 == 1)


def doubled(raw):
    """Adds index 5 a second time where probing finds it, and adapts all counts."""
    slot = raw.slot(5)
    leaf = raw.leaf_of(slot[0])
    slots = leaf.slots()
    number = slots.index(slot[0])
    after = next(at for at in [*slots[number:], *slots[:number]] if raw.unpack("<Q", at) == (0,))
    return [(after, raw.read(slot[0], 32)), plus(raw, leaf.at, 1 << 32 | 1), plus(raw, raw.COUNT, 1),
            plus(raw, raw.USED, 32)]  # fmt: skip


def left_twice(raw):
    """Another slot claims to belong to the held lock."""
    slot = raw.slot(300, names=True)
    left = q(empty_slot(raw, names=True), 2, slot[2], 1 | LOCK, slot[4])
    return [left, plus(raw, next(raw.leaves(True)).at, 1 << 32)]


def astray(raw, from_names):
    """Puts the slot of a lock name into the table of variables, or the reverse."""
    slot = raw.slot(300 if from_names else 5, from_names)
    to = empty_slot(raw, not from_names)
    return [(to, raw.read(slot[0], 32)), plus(raw, next(raw.leaves(not from_names)).at, 1 << 32 | 1)]


def retagged(raw, index, change, names=False):
    slot = raw.slot(index, names)
    return [q(slot[0] + 16, change(slot[3]))]


def unnamed(raw, index):
    """Makes the slot hold a small value, so that no slot names its record, and adapts the sum of what is used."""
    slot = raw.slot(index)
    return [q(slot[0] + 16, 2 | 3 << 8, 0), plus(raw, raw.USED, -(slot[3] >> 24))]


def block_bit(raw, index):
    slot = raw.slot(index)
    granule, block = slot[4] >> 16, slot[4] & 0xFFFF
    return [flipped(raw, raw.granule_at(granule) + block // 64 * 8, 1 << block % 64)]


def entry_edit(raw, state, change):
    _, at, entry = raw.of_kind(state)
    return [q(at, change(entry))]


def inside(raw):
    granule, _, entry = raw.of_kind(LIVE)
    assert entry >> 32 > 1, "a span of several granules"
    return [q(raw.entry(granule + 1)[0], LIVE | 1 << 32)]


def pin(raw):
    number = (own(raw) - raw.PARTICIPANTS) // 64
    # The first part of the bitmap covers 32,768 granules; one zone of 4,096 is in use.
    at = raw.pins + number * raw.pin_stride + 2048
    return [q(at, 1), (own(raw) + 32, struct.pack("<Q", raw.unpack("<Q", own(raw) + 32)[0] | 1))]


def room_bit(raw):
    granule, _, entry = raw.of_kind(SLAB)
    offset, bit = raw.room_bit(granule, entry >> 4 & 0xFF)
    return [flipped(raw, offset, 1 << bit)]


def no_room_bit(raw):
    """Of a slab of another class."""
    granule, _, entry = raw.of_kind(SLAB)
    offset, bit = raw.room_bit(granule, (entry >> 4 & 0xFF) + 1)
    return [flipped(raw, offset, 1 << bit)]


def used_page(raw, state):
    """The last page in use of a span in this state is marked as not present."""
    granule, _, entry = raw.of_kind(state)
    return [toggled(raw, raw.PRESENT, granule + (entry >> 32) - 1)]


def block_page(raw, index):
    """The page in which a block ends."""
    offset, length = raw.record(index)
    return [toggled(raw, raw.PRESENT, (offset + length - 1 - raw.arena) // helpers.GRANULE)]


def sticky(raw, state):
    granule, _, entry = raw.of_kind(state)
    return [toggled(raw, raw.STICKY, granule + (entry >> 32) - 1)]


def root_of(raw, granule, depth):
    return granule << 32 | depth << 24 | 1


def first_word(raw, names=False):
    return raw.unpack("<Q", raw.directory(names)[0])[0]


def elsewhere(word, granule):
    return word & 0xFFFF_FFFF | granule << 32


CASES = {
    "count": (1, "count is 35", lambda raw: [plus(raw, raw.COUNT, -23)]),
    "used": (1, "used is .*are charged", lambda raw: [plus(raw, raw.USED, 8)]),
    "expiring": (1, "expiring is 2, 1 variables expire", lambda raw: [plus(raw, raw.EXPIRING, 1)]),
    "a leaf's fill": (1, "the leaf at .* says", lambda raw: [plus(raw, next(raw.leaves()).at, 1 << 32)]),
    "a leaf's entries": (1, "the leaf at .* says", lambda raw: [plus(raw, next(raw.leaves()).at, -1)]),
    "a leaf of names that counts wrong": (1, "the leaf at .* says", lambda raw: [
        plus(raw, next(raw.leaves(True)).at, 1)]),
    "more used than the limit": (1, "the limit is 100", lambda raw: [q(raw.LIMIT, 100)]),
    "no limit": (1, "the limit is 0", lambda raw: [q(raw.LIMIT, 0)]),
    "a limit beyond the arena": (1, "the limit is", lambda raw: [q(raw.LIMIT, 1 << 60)]),
    "a block that is marked free": (2, "in use false, named true", lambda raw: block_bit(raw, 101)),
    "a block that nobody names": (2, "in use true, named false", lambda raw: unnamed(raw, 101)),
    "a block named twice": (2, "named twice", lambda raw: [q(raw.slot(102)[0] + 24, raw.slot(101)[4])]),
    "a block beyond its slab": (2, "names block 1023", lambda raw: [q(raw.slot(101)[0] + 24, raw.slot(101)[4] | 1023)]),
    "a block of no slab": (2, "names a block of", lambda raw: [q(raw.slot(101)[0] + 24, raw.slot(200)[4])]),
    "a span named twice": (2, "named twice", lambda raw: [q(raw.slot(204)[0] + 24, raw.slot(201)[4])]),
    "a span that is not live": (2, "names the span", lambda raw: entry_edit(raw, LIVE, lambda entry: entry + 1)),
    "a live span that nobody names": (2, "nobody names it", lambda raw: unnamed(raw, 200)),
    "no zone": (3, "0 zones are in use", lambda raw: [q(raw.ZONES, 0)]),
    "too many zones": (None, "zones are in use,", lambda raw: [q(raw.ZONES, 1 << 40)]),
    "zones that are not there": (None, "1000 zones are in use", lambda raw: [q(raw.ZONES, 1000)]),
    "an entry inside a span": (3, "begins no span and says", inside),
    "an entry among free granules": (3, "granule 4095 begins no span and says Retired", lambda raw: [
        q(raw.entry(raw.free_granule())[0], 4 | 1 << 32)]),
    "an entry of no state": (None, "span map, granule", lambda raw: marked(raw, raw.free_granule(), 1 | 1 << 32)),
    "an entry that is nothing but a length": (None, "span map, granule", lambda raw: marked(raw, raw.free_granule(),
        1 << 32)),
    "a span without a length": (None, "span map, granule", lambda raw: marked(raw, raw.free_granule(), 4)),
    "a span beyond the zones": (None, "span map, granule", lambda raw: marked(raw, raw.free_granule(), 4 | 2 << 32)),
    "a slab of a class that is none": (2, "a slab of class 255", lambda raw: entry_edit(raw, SLAB,
        lambda entry: entry | 255 << 4)),
    "a slab that is too short": (3, "slab at granule", lambda raw: entry_edit(raw, SLAB,
        lambda entry: entry - (1 << 32))),
    "a leaf that no directory names": (3, "no directory names the leaf", lambda raw: marked(raw, raw.free_granule(),
        LEAF | 1 << 32)),
    "a directory that no root names": (3, "no root names the directory", lambda raw: marked(raw, raw.free_granule(),
        DIRECTORY | 1 << 32)),
    "a word of no leaf": (None, "invariant 3: word 0 of a directory", lambda raw: word(raw, lambda word: 0)),
    "a word of a leaf that is too large": (None, "invariant 3: word 0 of a directory", lambda raw: word(raw,
        lambda word: word | 0xFF << 18)),
    "a word that says another size": (3, "word 0 names Leaf.* as a leaf of", lambda raw: word(raw,
        lambda word: word + (1 << 18))),
    "a word of a leaf deeper than the directory": (3, "word 0 says depth 1", lambda raw: word(raw,
        lambda word: word + (1 << 26))),
    "a word that names a slab": (3, "word 0 names Slab", lambda raw: word(raw,
        lambda word: elsewhere(word, raw.of_kind(SLAB)[0]))),
    "a word that names the leaf of the names": (None, "invariant 10: .* a name among variables", lambda raw: word(raw,
        lambda _: first_word(raw, True))),
    "a word of the names that names the leaf of the variables": (3, "is named twice", lambda raw: word(raw,
        lambda _: first_word(raw), names=True)),
    "one table for both": (3, "is named twice", lambda raw: [q(raw.NAMES, *raw.unpack("<Q", raw.ROOT))]),
    "a free granule that is not said to be": (None, "granule 4095 belongs to no span and is not free", lambda raw: [
        toggled(raw, raw.FREE, raw.free_granule())]),
    "a granule in use that is said to be free": (4, "the bitmap of free granules, word", lambda raw: [
        toggled(raw, raw.FREE, raw.of_kind(LIVE)[0] + 1)]),
    "a bitmap of slabs": (5, "the bitmap of slabs of class", room_bit),
    "a bitmap of slabs of another class": (5, "the bitmap of slabs of class", no_room_bit),
    "a bitmap of slabs that do not exist": (5, "slabs of class 66, word 15", lambda raw: [
        flipped(raw, raw.zone_meta + raw.ROOMS + 66 * 128 + 120, 1 << 63)]),
    "a summary of slabs": (5, "kind 66", lambda raw: [flipped(raw, raw.SUMMARY + 66 * 8, 1)]),
    "a summary of kinds that there are not": (5, "kind 67", lambda raw: [flipped(raw, raw.SUMMARY + 67 * 8, 1)]),
    "a summary of short runs": (5, "kind 96", lambda raw: [flipped(raw, raw.SUMMARY + 96 * 8, 1)]),
    "a summary of the longest run": (5, "kind 108", lambda raw: [flipped(raw, raw.SUMMARY + 108 * 8, 1)]),
    "a busy slot": (6, "is busy", lambda raw: [plus(raw, raw.slot(5)[0], 1)]),
    "a busy slot of a name": (6, "is busy", lambda raw: [plus(raw, raw.slot(300, True)[0], 1)]),
    "an intent without a lock": (6, "the intent is valid", lambda raw: [q(raw.INTENT, 1 << 40)]),
    "an index that stands twice": (7, "index 5 stands twice|keeps index 5", doubled),
    "a lock that is held and was let go": (7, "300 stands twice", left_twice),
    "a variable that probing misses": (8, "keeps index 7 from being found", lambda raw: moved(raw, raw.slot(7)[0])),
    "a text's hash": (8, "its index's hash", lambda raw: [q(raw.text_slot()[0] + 8, raw.text_slot()[2] ^ 1 << 63)]),
    "a tombstone with an index": (8, "a tombstone that is not empty", lambda raw: [q(tombstone(raw) + 8, 5)]),
    "a tombstone that a lock left among variables": (8, "a tombstone that is not empty", lambda raw: [
        q(tombstone(raw) + 16, 1 | LOCK)]),
    "an empty slot with contents": (8, "is not zero", lambda raw: [q(empty_slot(raw) + 24, 5)]),
    "a used slot without a word": (8, "word and kind disagree|an empty slot keeps", lambda raw: [q(raw.slot(5)[0], 0)]),
    "a version from the future": (9, "has version", lambda raw: [q(raw.slot(5)[0], 1 << 50)]),
    "a slot that was moved before it had a version": (9, "has version 0", lambda raw: [q(raw.slot(5)[0], 1 << 53)]),
    "a last version beyond all": (9, "the last version", lambda raw: [q(raw.VERSION, 1 << 52)]),
    "a kind that is none": (10, "has kind 7", lambda raw: retagged(raw, 5, lambda tag: tag | 7)),
    "inline and in place": (10, "or in place", lambda raw: retagged(raw, 5, lambda tag: tag | 128)),
    "a record in a block, in place": (10, "in place in a slab", lambda raw: retagged(raw, 101, lambda tag: tag | 128)),
    "inline with an expiry": (10, "inline, with", lambda raw: retagged(raw, 5, lambda tag: tag | EXPIRES)),
    "too much inline": (10, "15 bytes inline", lambda raw: retagged(raw, 5, lambda tag: tag & ~0xFF00 | 15 << 8)),
    "a record longer than its block": (10, "in a block of", lambda raw: [
        *retagged(raw, 101, lambda tag: tag + (9000 << 24)), plus(raw, raw.USED, 9000)]),
    "a key of an integer": (10, "an integer index with a key", lambda raw: retagged(raw, 101,
        lambda tag: tag | 3 << 8)),
    "an expiry of 0": (10, "expires at 0", lambda raw: [*retagged(raw, 101, lambda tag: tag | EXPIRES),
        q(raw.record(101)[0], 0)]),
    "buffers in a slab": (10, "buffers in a slab", lambda raw: retagged(raw, 101, lambda tag: tag | BUFFERS)),
    "a value longer than its span": (10, "bytes in Live", lambda raw: [*retagged(raw, 200, lambda tag: tag + (1 << 45)),
        plus(raw, raw.USED, 1 << 21)]),
    "a value shorter than its span": (10, "bytes in Live", lambda raw: [
        *retagged(raw, 200, lambda tag: tag - (helpers.GRANULE << 24)), plus(raw, raw.USED, -helpers.GRANULE)]),
    "a block of a span": (10, "block 1 of a span", lambda raw: [plus(raw, raw.slot(200)[0] + 24, 1)]),
    "a table of buffers": (10, "the table of its buffers", lambda raw: [plus(raw, raw.record(201)[0] + 16, 1)]),
    "a key that is no text": (None, "the text index", lambda raw: [(raw.place(raw.text_slot()), b"\xff")]),
    "a variable among the names": (10, "a variable among names", lambda raw: astray(raw, from_names=False)),
    "a lock among the variables": (10, "a name among variables", lambda raw: astray(raw, from_names=True)),
    "a top beyond all": (11, "participants_top is 5000", lambda raw: [(raw.TOP, struct.pack("<I", 5000))]),
    "a participant beyond the top": (11, "participant 9 was used", lambda raw: [q(raw.PARTICIPANTS + 9 * 64 + 8, 1)]),
    "a participant's state": (11, "has state 2", lambda raw: [(own(raw), struct.pack("<I", 2))]),
    "a participant without a generation": (11, "no pid or generation", lambda raw: [q(own(raw) + 8, 0)]),
    "a participant's spans": (11, "spans is neither", lambda raw: [q(own(raw) + 24, 2)]),
    "a participant's locks": (11, "locks is neither", lambda raw: [q(own(raw) + 48, 2)]),
    "a lock of nobody's": (14, "participant 900's", lambda raw: [
        (raw.slot(300, names=True)[0] + 18, struct.pack("<I", 900))]),
    "a lock without an owner": (10, "says nothing of its owner", lambda raw: retagged(raw, 300,
        lambda tag: tag - 0x100, names=True)),
    "a span of nobody's": (11, "participant 900's", lambda raw: marked(raw, raw.free_granule(),
        FREEING | 900 << 16 | 1 << 32)),
    "a pin beyond the zones": (11, "pins a granule", pin),
    "more pages than the object has": (12, "the object takes", lambda raw: [
        q(raw.zone_meta + raw.PRESENT, *[ALL] * 64)]),
    "a page that a value has not": (12, "the span at .* is not said to be present", lambda raw: used_page(raw, LIVE)),
    "a page that a leaf has not": (12, "the leaf at .* is not said to be present", lambda raw: used_page(raw, LEAF)),
    "a page that a small slab has not": (12, "the slab at .* is not said to be present", lambda raw: used_page(raw,
        SLAB)),
    "the first page of a large slab": (12, "the slab at .* is not said to be present", lambda raw: [
        toggled(raw, raw.PRESENT, raw.large_slab()[0])]),
    "the last page of a large block": (12, "block 1 of .* is not said to be present", lambda raw: block_page(raw, 203)),
    "a slab that is not sticky": (12, "Slab.* is not sticky", lambda raw: sticky(raw, SLAB)),
    "a leaf that is not sticky": (12, "Leaf.* is not sticky", lambda raw: sticky(raw, LEAF)),
    "a directory that is not sticky": (12, "Directory.* is not sticky", lambda raw: sticky(raw, DIRECTORY)),
    "the identity": (13, "the identity has changed", lambda raw: [q(64, 5)]),
    "gone with a name": (13, "gone is 1", lambda raw: [(raw.GONE, struct.pack("<I", 1))]),
    "evict unknown": (13, "evict is 7", lambda raw: [(raw.EVICT, struct.pack("<I", 7))]),
    "evict changed": (13, "evict is 1", lambda raw: [(raw.EVICT, struct.pack("<II", 1, 12))]),
    "stamps without a policy": (13, "stamps is 12", lambda raw: [(raw.STAMPS, struct.pack("<I", 12))]),
    "a root that is none": (None, "root", lambda raw: [q(raw.ROOT, 1 << 60)]),
    "a root of too many words": (None, "root", lambda raw: [flipped(raw, raw.ROOT, 27 << 24)]),
    "a root that names a leaf": (None, "the directory's span: Leaf", lambda raw: [
        q(raw.ROOT, root_of(raw, raw.of_kind(LEAF)[0], 0))]),
    "a root of the names that is none": (None, "root", lambda raw: [q(raw.NAMES, 1 << 60)]),
    "a doomed table that is none": (3, "the doomed table is 0x1000000000000000", lambda raw: [q(raw.DOOMED, 1 << 60)]),
    "a doomed table of too many words": (3, "the doomed table is", lambda raw: [
        q(raw.DOOMED, root_of(raw, raw.of_kind(DIRECTORY)[0], 27))]),
    "a doomed table that is in force": (3, "is named twice", lambda raw: [q(raw.DOOMED, *raw.unpack("<Q", raw.ROOT))]),
    "a doomed table in a value": (None, "invariant 3: ", lambda raw: [
        q(raw.DOOMED, root_of(raw, raw.of_kind(LIVE)[0], 3))]),
    "a doomed table that is done and no directory": (3, "the doomed table is .*, its directory None", lambda raw: [
        q(raw.DOOMED, root_of(raw, raw.free_granule(), 0), 1 << 32)]),
}  # fmt: skip


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


def test_check_counts_what_is_there(filled):
    report = filled.check()
    info = filled.info()
    assert (report.variables, report.used) == (info.count, info.used) == (len(filled), info.used)
    assert report.blocks + report.live < report.variables < report.slots and report.live == 3
    assert (report.zones, report.busy, report.retired, report.living, report.dead) == (1, 0, 0, info.attached, 0)
    assert (report.locks, report.tombstones) == (1, 3) and report.slabs > 3 and report.free > 0
    kept = filled.view(201)
    filled[201] = None
    assert (filled.check().live, filled.check().retired) == (2, 1)
    del kept
    assert filled.check().retired == 0
    assert report == report and report != filled.check() and repr(report).startswith("CheckReport(variables=58, ")
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
            # The process that takes the lock over reaps the dead owner.
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
