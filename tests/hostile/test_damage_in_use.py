"""A segment that another process damages while it is used, or cuts short: errors of a type, no signal (F28, F32)."""

import os
import signal
import time

import helpers
import pytest

import shmvar

# Overwrites structures with random words without a pause; `parts` says which structures.
SCRIBBLER = """
import random, struct
sys.path.insert(0, sys.argv[2])
import helpers
chance, parts = random.Random(int(sys.argv[3])), sys.argv[4].split(",")
segment = shmvar.attach(key, create=False, readonly=True)
WORDS = [0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1, 4096, 16384, 606208, 2**62]
with helpers.Raw(segment) as raw:
    records = [raw.record(index)[0] for index in (2, 3, 4, 5)]
    places = {
        "state": range(4160, 4320, 8),
        "intent": range(8192, 8192 + 304, 8),
        "participants": range(16384, 16384 + 128, 8),
        "readers": range(81920, 81920 + 1024, 8),
        "summary": range(606208, 606208 + 1024, 8),
        "zone": [raw.zone_meta + at + i for at, length in raw.BITMAPS for i in range(0, length, 8)],
        "directories": [raw.directory(names)[0] for names in (False, True)],
        "leaves": [leaf.at + i for names in (False, True) for leaf in raw.leaves(names) for i in range(0, 32, 8)],
        "slots": [slot[0] + i for names in (False, True) for slot in raw.slots(names) for i in range(0, 32, 8)],
        "payload": [at + i for at in records for i in range(0, 96, 8)],
    }
    places = [list(places[part]) for part in parts]
    sound = {at: raw.read(at, 8) for part in places for at in part}
    segment.detach()
    print("at it", flush=True)
    until = time.monotonic() + 60
    while time.monotonic() < until:
        for _ in range(500):
            at = chance.choice(chance.choice(places))
            # Some words are restored: otherwise no call would get far.
            data = sound[at]
            if chance.random() < 0.3:
                word = chance.choice(WORDS) if chance.random() < 0.4 else chance.randrange(2**64)
                flipped = int.from_bytes(data, "little") ^ (word & -word)
                data = struct.pack("<Q", word if chance.random() < 0.6 else flipped)
            raw.write(at, data)
"""

USER = """
import pickle, resource
import numpy as np
resource.setrlimit(resource.RLIMIT_DATA, (4 << 30, 4 << 30))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
trust = sys.argv[2] == "True"
first = shmvar.attach(key, create=False, trust=trust)
outcomes = {}

def use(call):
    try:
        got = call()
        if isinstance(got, (np.ndarray, memoryview)):
            bytes(got[:100]), len(got)
        outcome = "fine"
    except (shmvar.Error, KeyError) as error:
        outcome = type(error).__name__
    except Exception as error:
        # An error of `pickle.loads`, whose stream was put together from several.
        assert trust and any("while reading index" in note for note in getattr(error, "__notes__", [])), repr(error)
        outcome = "explained"
    outcomes[outcome] = outcomes.get(outcome, 0) + 1

def calls(seg):
    indexes = (1, 2, 3, 4, 5, 6, "text", "array", 99)
    for index in indexes:
        yield from (lambda: seg.get(index), lambda: seg.view(index), lambda: seg.has(index), lambda: seg.stat(index))
    yield from (lambda: list(seg), lambda: len(seg), lambda: dict(seg.items()), lambda: seg == {1: 2})
    yield from (lambda: repr(seg), seg.info, lambda: seg.size, lambda: 3 in seg, lambda: list(seg.values()))
    yield lambda: pickle.dumps(seg)
    yield from (lambda: seg.get_many(indexes), lambda: seg.version("text"), lambda: seg.get_versioned(3))
    yield from (lambda: seg.wait(1, 0.001), lambda: seg.lock(1).locked(), lambda: seg.lock("a").locked())
    yield from (lambda: seg.put_many({1: 1, "text": "value", 99: b"y" * 20_000}), lambda: seg.put(98, "x", ttl=0.001))
    yield from (lambda: seg.add("count"), lambda: seg.swap(97, 1), lambda: seg.compare_and_put(97, 0, 1))
    yield from (lambda: shmvar.attach(key, readonly=True, trust=trust).view(5), lambda: pickle.loads(pickle.dumps(seg)))
    yield from (shmvar.segments, lambda: shmvar.exists(key))
    for index in indexes:
        for value in ("small", b"x" * 200, bytes(70_000)):
            yield lambda value=value: seg.put(index, value)
    yield from (lambda: seg.put(5, np.arange(40_000.0)), lambda: seg.put("array", np.zeros((300, 300))))
    yield from (lambda: seg.setdefault(7, [1]), lambda: seg.pop(2), lambda: seg.popitem(), lambda: seg.remove("text"))
    yield from (lambda: seg.update({n: n for n in range(200, 230)}), seg.trim, seg.check)
    yield from (lambda: seg.resize(1 << 22), lambda: seg.resize(1 << 23), lambda: seg.__delitem__(3))

print("attached", flush=True)
sys.stdin.readline()
until, turns = time.monotonic() + float(sys.argv[3]), 0
while time.monotonic() < until:
    for call in calls(first):
        use(call)
    if turns % 3 == 2:
        use(first.clear)
    use(lambda: [use(call) for call in calls(shmvar.attach(key, create=False, trust=trust))])
    turns += 1
print(turns, outcomes)
"""


def clear_up(key):
    path = f"{helpers.SHM}/shmvar.s.{key}"
    if os.path.exists(path):
        os.unlink(path)


STRUCTURES = "state,intent,participants,readers,summary,zone,directories,leaves"


@pytest.mark.parametrize(
    ("trust", "parts"),
    [(False, f"{STRUCTURES},slots,payload"), (True, STRUCTURES)],
)
def test_f28_every_call_ends_well_while_another_process_scribbles(key, children, trust, parts):
    import numpy as np

    # A handle that trusts runs what it reads, so the payload is left alone for it.
    seed = int.from_bytes(os.urandom(4))
    with shmvar.attach(key, 1 << 23) as segment:
        segment.update({1: 1, 2: "x" * 40, 3: [3] * 900, 4: b"y" * 60_000, 5: np.arange(50_000.0), 6: {"a": [1]}})
        segment.update({"text": "value", "array": np.ones((100, 100))})
    user = helpers.start(USER, key, trust, 4)
    scribbler = helpers.start(SCRIBBLER, key, helpers.TESTS, seed, parts)
    children += [user, scribbler]
    try:
        said, _ = user.communicate("go\n", timeout=90)
        assert user.returncode == 0, f"seed {seed}: exit status {user.returncode}"
    finally:
        helpers.end(scribbler)
        clear_up(key)
    turns, outcomes = said.split(" ", 1)
    outcomes = eval(outcomes)
    assert int(turns) >= 1 and outcomes["fine"] > 10 and outcomes["CorruptSegmentError"] > 0, outcomes


# --- F32


def cut(segment, length):
    with open(helpers.path_of(segment), "rb+") as file:
        file.truncate(length)


CUTS = {"everything": 0, "in the metadata": 30 << 20, "in the arena": -(8 << 20), "one page less": -4096}
"""Of what is in use: the first zone is the last."""


def meets_a_cut(key, length):
    """Runs in a process that ends at once: its map has been cut off."""
    segment = shmvar.attach(key, create=False)
    path = helpers.path_of(segment)
    with helpers.Raw(segment) as raw:
        length %= raw.granule_at(helpers.ZONE)
    cut(segment, length)
    calls = [
        segment.info,
        segment.check,
        lambda: shmvar.attach(key),
        lambda: shmvar.attach(key, readonly=True),
        lambda: shmvar.attach(key, create=False),
    ]
    for call in calls:
        with pytest.raises((shmvar.CorruptSegmentError, shmvar.IncompatibleSegmentError)) as caught:
            call()
        assert str(length) in str(caught.value)
    (info,) = [info for info in shmvar.segments() if info.key == key]
    assert info.state in ("damaged", "foreign") and info.why
    assert os.path.getsize(path) == length


@pytest.mark.parametrize("where", CUTS)
def test_f32_a_segment_cut_short_by_another_is_an_error_where_nothing_was_touched_yet(key, where):
    with shmvar.attach(key) as segment:
        segment[1] = "one"
    try:
        helpers.in_child(meets_a_cut, key, CUTS[where])
        with pytest.raises((shmvar.CorruptSegmentError, shmvar.IncompatibleSegmentError)):
            shmvar.attach(key)
    finally:
        clear_up(key)


def test_f32_a_value_whose_pages_were_cut_off_is_an_error_where_it_is_read_through_the_kernel(key):
    segment = shmvar.attach(key)
    value = b"x" * (4 << 20)
    segment["small"] = 5
    segment[1] = value
    with helpers.Raw(segment) as raw:
        at, _ = raw.record(1)
    with shmvar.attach(key, readonly=True) as reader, shmvar.attach(key, trust=False) as careful:
        assert reader[1] == careful[1] == value
        cut(segment, at + (1 << 20))
        try:
            for call in (
                lambda: reader[1],
                lambda: careful[1],
                lambda: reader.view(1),
                lambda: careful.view(1),
                lambda: segment.put(2, value),
                segment.info,
                segment.check,
            ):
                with pytest.raises(shmvar.CorruptSegmentError, match="was cut to"):
                    call()
            # These calls look at nothing that was cut off.
            assert careful["small"] == segment["small"] == 5
            segment["small"] = 6
            assert careful["small"] == 6
            # It reads through the kernel, which knows the length.
            for call in (lambda: reader["small"], lambda: reader.get(3), lambda: list(reader)):
                with pytest.raises(shmvar.CorruptSegmentError, match="was cut to"):
                    call()
        finally:
            clear_up(key)
    segment.detach()


DIES = """
segment = shmvar.attach(key, create=False)
assert segment[1] == "one" * 20
print("attached", flush=True)
sys.stdin.readline()
segment[1]
"""


def test_f32_the_documented_limit_a_process_that_touches_what_was_cut_off_gets_sigbus(key, children):
    segment = shmvar.attach(key)
    segment[1] = "one" * 20
    child = helpers.start("import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n" + DIES, key)
    children.append(child)
    path = helpers.path_of(segment)
    segment.detach()
    try:
        with open(path, "rb+") as file:
            file.truncate(0)
        child.communicate("go\n", timeout=20)
        assert child.returncode == -signal.SIGBUS
    finally:
        clear_up(key)
    # Other processes and other segments go on.
    with shmvar.attach(key) as anew:
        assert anew.created and len(anew) == 0
        anew[1] = time.monotonic()
        anew.check()
