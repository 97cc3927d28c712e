"""`Segment.check` of a table of several leaves or a cleared one, of pins and of a lock: it names the damage (F28)."""

import os

import helpers
import pytest
from helpers.segment_damage import ALL, SLAB, Damage, flipped, own, plus, q

import shmvar


def small_indexes(count):
    return {n: n for n in range(count)}


@pytest.fixture
def grown(key):
    """A segment whose table has several leaves."""
    with shmvar.attach(key, 4 << 20) as segment:
        segment.update(small_indexes(20_000))
        yield segment
        segment.check()


def words_of(raw):
    """The words of the directory; and each leaf with the number of its first word."""
    base, depth = raw.directory()
    words = raw.unpack(f"<{1 << depth}Q", base)
    return base, words, [((leaf.words[0] - base) // 8, leaf) for leaf in raw.leaves()]


def shared(raw):
    """Number of the first word of a leaf to which several words point."""
    base, words, leaves = words_of(raw)
    number = next(number for number, leaf in leaves if len(leaf.words) > 1)
    return base, words, number


def one_of_several(raw):
    """The second word of a leaf points to the leaf before it instead."""
    base, words, number = shared(raw)
    return [q(base + 8 * (number + 1), words[number - 1])]


def widened(raw):
    """All words of a leaf say that more words point to it than do."""
    _, words, leaves = words_of(raw)
    number, leaf = leaves[0]
    return [q(at, words[number] - (1 << 26)) for at in leaf.words]


def exchanged(raw):
    """Exchanges two leaves of the same depth, in all their words."""
    base, words, leaves = words_of(raw)
    depths = {}
    for number, leaf in leaves:
        if other := depths.setdefault(len(leaf.words), number) != number and depths[len(leaf.words)]:
            break
    else:
        number, other = leaves[1][0], leaves[0][0]
    count = len(leaf.words)
    return [q(base + 8 * number, *[words[other]] * count), q(base + 8 * other, *[words[number]] * count)]


DIRECTORIES = {
    "a word that names the leaf of another": (3, "is named twice|should name one leaf|names a leaf of", lambda raw: [
        q(words_of(raw)[0] + 8 * words_of(raw)[2][1][0], words_of(raw)[1][0])]),
    "words of one leaf that differ": (3, "should name one leaf", one_of_several),
    "a leaf that serves words of another": (3, "should name one leaf|names a leaf of depth", widened),
    "leaves in each other's place": (8, "its hash is another leaf's", exchanged),
    "a leaf's counts": (1, "the leaf at .* says", lambda raw: [plus(raw, words_of(raw)[2][-1][1].at, -1)]),
}  # fmt: skip


@pytest.mark.parametrize("name", DIRECTORIES)
def test_f28_check_of_a_directory_of_several_leaves_names_what_is_wrong(grown, key, name):
    number, words, edits = DIRECTORIES[name]
    with Damage(grown) as raw, shmvar.attach(key, readonly=True) as reader:
        assert len(list(raw.leaves())) > 3 and reader.check().variables == 20_000
        while name.startswith("words") and all(len(leaf.words) == 1 for leaf in raw.leaves()):
            # At first all leaves have the same depth; variables are added until one leaf is split before the others.
            grown.update(small_indexes(len(grown) + 500))
        with raw.edited(*edits(raw)):
            for handle in (reader, grown):
                with pytest.raises(shmvar.CorruptSegmentError, match=f"invariant {number}: .*({words})"):
                    handle.check()
    assert dict(grown) == small_indexes(len(grown))


def clears_and_is_killed(segment, raw):
    """Kills a child in `clear` when the table is detached and its memory is not yet freed: tries until that happens."""
    for _ in range(50):
        segment.update({f"text {n}": "x" * (n % 200) for n in range(20_000)})
        pid = helpers.fork(segment.clear)
        while raw.unpack("<Q", raw.DOOMED) == (0,) and os.waitpid(pid, os.WNOHANG)[0] == 0:
            pass
        if raw.unpack("<Q", raw.DOOMED) != (0,):
            helpers.kill(pid)
            if raw.unpack("<Q", raw.DOOMED) != (0,):
                return
    raise AssertionError("never killed in the middle")


def test_f28_what_is_left_of_a_table_that_was_cleared_is_checked_too(key):
    with shmvar.attach(key, 16 << 20) as segment, Damage(segment) as raw:
        clears_and_is_killed(segment, raw)
        report = segment.check()
        assert (report.variables, report.used, len(segment)) == (0, 0, 0) and report.blocks > 0
        root, at = raw.unpack("<2Q", raw.DOOMED)
        base, depth = raw.granule_at(root >> 32), root >> 24 & 0xFF
        (word,) = raw.unpack("<Q", base + 8 * (at >> 32))
        following = (at >> 32) + (1 << depth - (word >> 26 & 0x3F))
        granule, _, _ = next(span for span in raw.spans() if span[2] & 15 == SLAB and any(raw.read(
            raw.granule_at(span[0]), 64)))  # fmt: skip
        for words, edits in {
            "invariant (2: block .* in use true, named false|3: no directory names the leaf)": [
                q(raw.DOOMED_AT, following << 32)
            ],
            "invariant 3: no (root|directory) names": [q(raw.DOOMED, 0, 0)],
            "invariant 3: (word .* of a directory|.* should name one leaf)": [q(base + 8 * ((1 << depth) - 1), 0)],
            "invariant 2: block .* in use (true, named false|false, named true)": [
                flipped(raw, raw.granule_at(granule), 1)
            ],
        }.items():
            with raw.edited(*edits), pytest.raises(shmvar.CorruptSegmentError, match=words):
                segment.check()
        assert segment.check().blocks == report.blocks
        segment.trim()
        assert segment.check().blocks == 0 and raw.unpack("<2Q", raw.DOOMED) == (0, 0)
        assert segment.info().resident < 1 << 20


def test_a_summary_of_zones_that_are_not_in_use_is_nobodys(key):
    with shmvar.attach(key, 64 << 20) as segment, Damage(segment) as raw:
        for kind in (*range(67), *range(96, 109)):
            raw.pack("<Q", raw.SUMMARY + 8 * kind, raw.unpack("<Q", raw.SUMMARY + 8 * kind)[0] | ALL - 1)
        segment.check()
        segment[1] = value = b"x" * (40 << 20)
        assert segment.check().zones > 2 and segment[1] == value


def test_f28_a_part_of_a_pin_bitmap_that_the_geometry_has_not_is_named(key):
    segment = shmvar.attach(key, 1 << 20, reserve=2 << 30)  # the bitmap has fewer parts than 128
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
