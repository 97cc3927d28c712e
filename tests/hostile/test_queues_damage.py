"""Damaged queues: a typed error, once; the others are not in the way; `check` names what is wrong."""

import contextlib
from pathlib import Path

import helpers
import pytest

import shmvar

QUEUE, ITEM, KIND = 0xC0, 0xD0, 0xD0
"""Bits of the tags of a queue's and of an item's slot, by docs/format.md, "Slot"."""


def slots(raw, kind):
    return [slot for slot in raw.slots(names=True) if slot[3] & KIND == kind]


@pytest.fixture
def seg(key):
    segment = shmvar.attach(key, 1 << 20)
    yield segment
    shmvar.destroy(key)


@pytest.fixture
def raw(seg):
    with helpers.Raw(seg) as raw:
        yield raw


@pytest.fixture
def jobs(seg):
    queue = seg.queue(7)
    for number in range(5):
        queue.put(number)
    return queue


def one_slot(raw, kind, ticket=None):
    found = slots(raw, kind)
    if ticket is not None:
        found = [slot for slot in found if raw.read(raw.place(slot) + 23, 1)[0] == ticket]
    (slot,) = found
    return slot, raw.place(slot)


def remove_item(raw, ticket):
    slot, _ = one_slot(raw, ITEM, ticket)
    raw.pack("<3Q", slot[0] + 8, 0, 1, 0)  # a tombstone


def test_an_item_that_is_missing_is_an_error_once_and_then_the_next_one_comes(seg, jobs, raw):
    remove_item(raw, 0)
    with pytest.raises(shmvar.CorruptSegmentError, match="invariant"):
        seg.check()
    with pytest.raises(shmvar.CorruptSegmentError, match="item 0 of queue"):
        jobs.get()
    assert [jobs.get() for _ in range(4)] == [1, 2, 3, 4] and jobs.empty()


def test_take_passes_over_it_as_well_and_so_does_clear(seg, jobs, raw):
    for ticket in (0, 2):
        remove_item(raw, ticket)
    with pytest.raises(shmvar.CorruptSegmentError), jobs.take():
        pass
    with jobs.take() as value:
        assert value == 1
    jobs.clear()
    assert jobs.empty() and seg.info().queues == {}


def test_an_item_that_is_damaged_while_it_is_taken_can_be_finished(seg, jobs, raw):
    with jobs.take() as value:
        remove_item(raw, 0)
        assert value == 0
    assert jobs.qsize() == 4 and jobs.get() == 1


# Offsets behind the start of the record, and what is written there.
DAMAGE = {
    "no number": (0, 0),
    "a number that is none": (0, 2**63),
    "head above tail": (8, 2**40),
    "tail above all": (16, 2**60),
    "a tail far off": (16, 2**44),
    "more items than their bytes pay for": (24, 5 * 56 - 1),
    "more bytes than the segment has": (24, 2**40),
    "more entries than room": (32, 33),
    "more returned than entries": (32, 1 << 16),
    "bits of a later version": (32, 1 << 40),
    "an entry that was not taken": (32, 1),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_record_that_nobody_wrote_is_an_error_and_is_cleared(seg, jobs, raw, what):
    (offset, word), (slot, record) = DAMAGE[what], one_slot(raw, QUEUE)
    # Both heads become the one in force, with the damage.
    head = raw.read(record + (40 if slot[3] & 32 else 8), 32)
    for at in (8, 40):
        raw.write(record + at, head)
    raw.pack("<Q", record + offset, word)
    if offset:
        raw.pack("<Q", record + offset + 32, word)
    with pytest.raises(shmvar.CorruptSegmentError, match="15"):
        seg.check()
    # A put does not look at the entries.
    puts = [] if what == "an entry that was not taken" else [lambda: jobs.put(1)]
    for call in (jobs.get_nowait, jobs.qsize, *puts, jobs.take(0).__enter__, seg.info):
        with pytest.raises(shmvar.CorruptSegmentError):
            call()
    jobs.clear()
    jobs.put("anew")
    assert jobs.get() == "anew"


def test_a_clear_that_misses_many_items_in_a_row_ends(seg, raw):
    """Here the number of items is one that their bytes pay for, so only the search tells that they are missing."""
    jobs = seg.queue(7)
    jobs.put(bytes(800_000))
    slot, record = one_slot(raw, QUEUE)
    raw.pack("<Q", record + (48 if slot[3] & 32 else 16), 10_000)
    began = jobs.qsize()
    jobs.clear()
    assert began == 10_000 and jobs.qsize() == 0 and seg.info().queues == {}
    jobs.put("anew")
    assert jobs.get() == "anew"


def test_a_head_that_was_moved_strands_items_that_check_names(seg, jobs, raw):
    slot, record = one_slot(raw, QUEUE)
    raw.pack("<Q", record + (40 if slot[3] & 32 else 8), 2)
    assert [jobs.get() for _ in range(3)] == [2, 3, 4] and jobs.empty()
    with pytest.raises(shmvar.CorruptSegmentError, match="invariant 15"):
        seg.check()


@pytest.mark.parametrize("bit", range(8))
def test_every_tag_of_a_queues_or_an_items_slot_is_data_or_a_typed_error(seg, jobs, raw, bit):
    for kind in (QUEUE, ITEM):
        slot, _ = one_slot(raw, kind, 1 if kind == ITEM else None)
        raw.pack("<Q", slot[0] + 16, slot[3] ^ 1 << bit)
        for call in (jobs.qsize, jobs.get_nowait, seg.info, seg.check, lambda: jobs.put(1), seg.lock(7).locked):
            with contextlib.suppress(shmvar.Error):
                call()
        if raw.unpack("<Q", slot[0] + 16)[0] == slot[3] ^ 1 << bit:
            raw.pack("<Q", slot[0] + 16, slot[3])


@pytest.mark.slow
def test_random_damage_is_data_or_a_typed_error(key):
    code = """
    import random
    sys.path.insert(0, sys.argv[2])
    import helpers
    chance = random.Random(11)
    class Hangs(BaseException): pass
    def hangs(*_): raise Hangs
    signal.signal(signal.SIGALRM, hangs)
    for turn in range(300):
        name = f"{key}-{turn}"
        segment = shmvar.attach(name, 1 << 20, trust=False)
        try:
            jobs = segment.queue("jobs")
            for number in range(6):
                jobs.put("x" * number * 300)
            item = jobs.take()
            item.__enter__()
            with helpers.Raw(segment) as raw:
                all_of_them = list(raw.slots(names=True))
                slot = chance.choice(all_of_them)
                start = slot[0] if chance.random() < 0.5 else raw.place(slot)
                offset, value = chance.randrange(80), chance.randrange(256)
                raw.write(start + offset % (32 if start == slot[0] else 80), bytes([value]))
            calls = [jobs.get_nowait, jobs.qsize, segment.info, segment.check, lambda: jobs.put(1, timeout=0.01),
                     lambda: jobs.take(0).__enter__(), segment.trim, jobs.clear,
                     lambda: item.__exit__(None, None, None)]
            chance.shuffle(calls)
            for call in [*calls, jobs.clear]:
                signal.alarm(30)
                try:
                    call()
                except (shmvar.Error, RuntimeError):
                    pass
                except Hangs:
                    sys.exit(f"turn {turn}: {call} hangs after {value} at {offset} of {slot} and {start}")
                finally:
                    signal.alarm(0)
        finally:
            shmvar.destroy(name)
    print("right")
    """
    done = helpers.run(code, key, Path(__file__).parents[1], timeout=200)
    assert done.stdout == "right\n"
