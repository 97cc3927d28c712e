"""Damaged contents: every operation gives data or a typed error; no crash, no endless loop (F28, F30, F32)."""

import os
import time

import helpers
import pytest

import shmvar

FUZZ = """
import random, resource, struct
resource.setrlimit(resource.RLIMIT_DATA, (3 << 30, 3 << 30))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
sys.path.insert(0, sys.argv[2])
import helpers
chance = random.Random(int(sys.argv[3]))
part = sys.argv[4]
values = {1: 5, 2: "x" * 40, 3: [3] * 900, 4: b"y" * 60_000, "text": "value", 5: b"z" * 3000}
WORDS = [0, 1, 2**31, 2**31 - 1, 2**32 - 1, 2**63, 2**63 - 1, 2**64 - 1, 2**64 - 4096, 4096, 16384, 81920, 606208]
outcomes = {}

def places(raw):
    slots = [slot[0] for names in (False, True) for slot in raw.slots(names)]
    return {
        "identity": [range(0, 248)],
        "state": [range(4096, 4352)],
        "intent": [range(8192, 8192 + 448)],
        "participants": [range(16384, 16384 + 128)],
        "readers": [range(81920, 81920 + 512)],
        "summary": [range(606208, 606208 + 1024)],
        "zone": [range(raw.zone_meta + at, raw.zone_meta + at + length) for at, length in raw.BITMAPS],
        "directories": [range(raw.directory(names)[0], raw.directory(names)[0] + 8) for names in (False, True)],
        "leaves": [range(leaf.at, leaf.at + 32) for names in (False, True) for leaf in raw.leaves(names)],
        "slots": [range(at, at + 32) for at in slots],
        "stamps": [range(raw.stamps, raw.stamps + 4096)],
        "slab": [range(at, at + 64) for at in (raw.granule_at(raw.slot(index)[4] >> 16) for index in (2, 5))],
    }[part]

def use(call):
    try:
        call()
        outcome = "fine"
    except (shmvar.Error, KeyError) as error:
        outcome = type(error).__name__
    except Exception as error:
        # An error of `pickle.loads`, which got other bytes than were stored; only a handle that trusts calls it.
        assert call is trusting and any("while reading index 1" in note for note in error.__notes__), repr(error)
        outcome = "explained"
    outcomes[outcome] = outcomes.get(outcome, 0) + 1

trusting = lambda: shmvar.attach(name).get(1)
for turn in range(int(sys.argv[5])):
    name = f"{key}-{turn}"
    evict = chance.choice([None, "lru", "ttl"])
    # What evicts is so small that the calls below do.
    segment = shmvar.attach(name, 130_000 if evict else 1 << 20, trust=False, evict=evict)
    try:
        segment.update(values)
        segment.lock(9).acquire()
        with helpers.Raw(segment) as raw:
            where = chance.choice(places(raw))
            offset = chance.choice(where)
            if chance.random() < 0.5:
                raw.write(offset, bytes([raw.read(offset, 1)[0] ^ (1 << chance.randrange(8))]))
            else:
                raw.pack("<Q", offset & ~7, chance.choice(WORDS) if chance.random() < 0.7 else chance.randrange(2**64))
            if part == "slots" and offset - where[0] < 8:
                # Not a busy slot: calls wait for that; it has a test of its own.
                raw.write(where[0], bytes([raw.read(where[0], 1)[0] & ~1]))
            if part == "intent" and chance.random() < 0.8:
                raw.pack("<Q", 8192, 1)
        if part == "state" and offset & ~7 == 4096:
            continue  # the lock: a living or a dead owner, tested elsewhere
        put, get = segment.put, segment.get
        calls = [lambda i=index: get(i) for index in values]
        calls += [lambda: get(77), lambda: list(segment), lambda: dict(segment.items()), lambda: len(segment)]
        calls += [lambda: put(6, "new"), lambda: put(7, b"n" * 50_000), lambda: put(8, b"n" * 500), lambda: put(2, "y")]
        calls += [lambda: segment.remove(4), lambda: segment.pop(5, None), segment.trim, segment.check, segment.info]
        calls += [lambda: segment.update({n: n for n in range(100, 700)}), segment.clear, lambda: segment.stat(3)]
        calls += [lambda: segment.lock(9).locked(), lambda: segment.lock("name").acquire(timeout=0)]
        calls += [trusting, lambda: shmvar.attach(name, readonly=True, trust=False).get(4)]
        chance.shuffle(calls)
        for call in calls:
            use(call)
    finally:
        os.unlink(f"/dev/shm/shmvar.s.{name}")
        segment.detach()
print(outcomes)
"""


PARTS = ["identity", "state", "intent", "participants", "readers", "summary", "zone"]


@pytest.mark.parametrize("part", [*PARTS, "stamps", "directories", "leaves", "slots", "slab"])
def test_f28_f30_any_damaged_byte_or_word_is_data_or_a_typed_error(key, part):
    seed = int.from_bytes(os.urandom(4))
    try:
        # A directory word may point to other memory as a leaf, where a slot may look busy: a reader waits 10 s for it.
        turns = 30 if part == "directories" else 60
        done = helpers.run(FUZZ, key, helpers.TESTS, seed, part, turns, timeout=90, check=False)
        assert done.returncode == 0, f"seed {seed}: exit status {done.returncode}\n{done.stderr[-3000:]}"
    finally:
        for name in os.listdir(helpers.SHM):
            if name.startswith(f"shmvar.s.{key}-"):
                os.unlink(f"{helpers.SHM}/{name}")
    assert eval(done.stdout)["fine"] > 100


@pytest.mark.slow
def test_f28_a_slot_that_stays_busy_is_a_typed_error_within_a_bound_and_others_go_on(seg, key):
    seg.update({1: "one" * 20, 2: "two" * 20})
    with helpers.Raw(seg) as raw, shmvar.attach(key, readonly=True) as reader:
        slot = raw.slot(1)[0]
        sound = raw.read(slot, 1)
        raw.write(slot, bytes([sound[0] | 1]))
        try:
            began = time.monotonic()
            with pytest.raises((shmvar.CorruptSegmentError, shmvar.SegmentBusyError)):
                reader[1]
            assert time.monotonic() - began < 15
            assert seg[2] == "two" * 20 == reader[2]
            with helpers.promptly():
                with pytest.raises(shmvar.CorruptSegmentError):
                    seg[1]
                with pytest.raises(shmvar.CorruptSegmentError):
                    list(seg)
        finally:
            raw.write(slot, sound)
        assert seg[1] == "one" * 20 == reader[1]


def test_f28_a_table_without_an_unused_slot_is_replaced_before_anything_is_put_there(key):
    for call in [
        lambda seg: seg.lock(5).acquire(timeout=20),
        lambda seg: seg.lock("a text").acquire(timeout=20),
        lambda seg: seg.put_many({5: 5, "a text": 6}) is None,
        lambda seg: seg.put(5, 5) is None,
    ]:
        with shmvar.attach(key) as seg, helpers.Raw(seg) as raw:
            seg[1] = 1
            (_, _, _, tag, value) = raw.slot(1)
            nobodys = (2 | 64 | 14 << 8 | 0xFFFF_FFFF_FFFF << 16, 0xFFFF)  # a lock without an owner
            for names, content in ((False, (tag, value)), (True, nobodys)):
                (leaf,) = raw.leaves(names)
                for number, slot in enumerate(leaf.slots()):
                    if raw.unpack("<Q", slot) == (0,):
                        raw.pack("<4Q", slot, 2, number << 32, *content)  # not in the leaf's counts
            size = os.stat(helpers.path_of(seg)).st_blocks
            assert call(seg) and seg[1] == 1
            assert os.stat(helpers.path_of(seg)).st_blocks - size < 2048, "a mebibyte"
            seg.destroy()


def test_f28_a_slot_of_no_kind_is_missing_to_readers_and_writers_alike(key):
    for call in [
        lambda seg: seg.add(1) == 1,
        lambda seg: seg.swap(1, 2) is None,
        lambda seg: seg.modify(1, lambda old: old + 1, 7) == 8,
        lambda seg: seg.setdefault(1, 3) == 3,
        lambda seg: seg.compare_and_put(1, 0, 4),
    ]:
        with shmvar.attach(key) as seg, helpers.Raw(seg) as raw:
            seg[1] = "one"
            slot = raw.slot(1)
            raw.pack("<Q", slot[0] + 16, slot[3] & ~7)
            assert 1 not in seg and call(seg) and 1 in seg
            seg.destroy()


@pytest.mark.parametrize("length", [0, 100, 4096, 100_000])
def test_f32_a_segment_that_was_truncated_is_refused_at_attach(key, length):
    segment = shmvar.attach(key)
    path = helpers.path_of(segment)
    segment.destroy()
    with open(path, "xb") as file:
        with shmvar.attach(key + "x") as other, open(helpers.path_of(other), "rb") as sound:
            file.write(sound.read(min(length, 20480)))
            other.destroy()
        file.truncate(length)
    os.chmod(path, 0o600)
    try:
        for options in ({}, {"readonly": True}, {"create": False}):
            with pytest.raises((shmvar.IncompatibleSegmentError, shmvar.CorruptSegmentError)):
                shmvar.attach(key, **options)
        assert os.path.getsize(path) == length
    finally:
        os.unlink(path)
