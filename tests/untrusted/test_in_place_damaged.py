"""Arrays in place that others damage, write to meanwhile or cut off: an array within its memory, or a typed error."""

import os

import helpers
import numpy as np
import pytest

import shmvar

SIZE = 64_000
"""Bytes of the buffer."""
ITEMS = SIZE // 8
FLIP = """
import resource
import numpy as np
resource.setrlimit(resource.RLIMIT_DATA, (3 << 30, 3 << 30))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
sys.path.insert(0, sys.argv[2])
import helpers
trust, part, kind = sys.argv[3] == "True", sys.argv[4], sys.argv[5]
segment = shmvar.attach(key, trust=trust)
outcomes = {}
SIZE = 64_000

def use(call, direct):
    try:
        found = call()
        outcome = "fine"
        assert not direct or isinstance(found, direct), found
        if isinstance(found, (np.ndarray, memoryview)):
            bytes(found)
            if direct:
                dtype = found.dtype if isinstance(found, np.ndarray) else np.dtype("u1")
                assert found.nbytes <= SIZE and not dtype.hasobject
                assert trust or dtype.kind not in "bU", dtype
                if found.nbytes and isinstance(found, np.ndarray):
                    found = found.reshape(-1, order="A")
                    found[0], found[-1] = found[0], found[-1]
    except shmvar.Error as error:
        outcome = type(error).__name__
    except (KeyError, ValueError) as error:
        outcome = "other"  # missing, plain, or of another kind
    except Exception as error:
        assert trust and any("index 7" in note for note in getattr(error, "__notes__", [])), repr(error)
        outcome = "explained"
    outcomes[outcome] = outcomes.get(outcome, 0) + 1

with helpers.Raw(segment) as raw:
    at, length = raw.record(7)
    slot = raw.slot(7)
    granule = slot[4] >> 16
    _, size, offset, buffer = raw.unpack("<4Q", at)
    WORDS = [0, 1, 2, 63, 64, 2**31, 2**32 - 1, 2**40, 2**60 - 1, 2**63, 2**64 - 1, 2**64 - 64, 4096, offset + 64]
    if part == "pickle":
        flips = [bytes([flip]) for flip in (1, 2, 4, 0x10, 0x20, 0x80, 0xFF)]
        places = [(at + 32 + place, flip) for place in range(size) for flip in flips]
    elif part == "table":
        places = [(at + place, word.to_bytes(8, "little")) for place in range(0, 32, 8) for word in WORDS]
        places += [(at + place, (1 << bit).to_bytes(8, "little")) for place in range(0, 32, 8) for bit in range(64)]
    elif part == "slot":
        # Not the busy bit: calls wait for that.
        places = [(slot[0] + 8 * word, (1 << bit).to_bytes(8, "little")) for word in (2, 3) for bit in range(64)]
    else:
        entry = raw.entry(granule)[0]
        places = [(entry, (1 << bit).to_bytes(8, "little")) for bit in range(64)]
        for n in range(17):
            word, bit = raw.bit(raw.PRESENT, granule + n)
            places.append((word, (1 << bit).to_bytes(8, "little")))
    for place, change in places:
        sound = raw.read(place, len(change))
        raw.write(place, bytes(a ^ b for a, b in zip(sound, change)))
        use(lambda: segment.array(7), np.ndarray)
        use(lambda: segment.array(7, dtype="f8"), np.ndarray)
        use(lambda: segment.buffer(7), memoryview)
        for call in (segment.get, segment.view, segment.stat):
            use(lambda: call(7), None)
        use(lambda: shmvar.attach(key, readonly=True, trust=trust).array(7), None)
        raw.write(place, sound)
        assert segment[8] == "intact"
    assert (segment.array(7) if kind == "array" else segment.buffer(7)).nbytes == SIZE
    segment.check()
print(outcomes)
"""


@pytest.mark.parametrize("kind", ["array", "buffer"])
@pytest.mark.parametrize(
    ("part", "trust"),
    # A handle that trusts unpickles the pickle, and with some of these changes the unpickler and numpy crash.
    [("pickle", False), *((part, trust) for part in ("table", "slot", "span") for trust in (True, False))],
)
def test_any_damage_of_what_describes_it_is_an_array_within_it_or_a_typed_error(seg, key, part, kind, trust):
    if kind == "array":
        seg.array(7, ITEMS, initial=np.arange(ITEMS))
    else:
        seg.buffer(7, SIZE)
    seg[8] = "intact"
    done = helpers.run(FLIP, key, helpers.TESTS, trust, part, kind)
    outcomes = eval(done.stdout)
    assert outcomes["fine"] > 10 and outcomes["CorruptSegmentError"] > 0, outcomes


MAKES = """
import resource
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
sys.path.insert(0, sys.argv[2])
import helpers
trust, kind = sys.argv[3] == "True", sys.argv[4]
outcomes = {}
for number in (2, 3):
    for bit in range(64):
        name = f"{key}-{number}-{bit}"
        segment = shmvar.attach(name, 1 << 24, trust=trust)
        try:
            segment.array(7, 8000) if kind == "array" else segment.put(7, b"x" * 64_000)
            with helpers.Raw(segment) as raw:
                slot = raw.slot(7)
                raw.pack("<Q", slot[0] + 8 * number, slot[1 + number] ^ 1 << bit)
            for call in (
                lambda: segment.array(7, 8000), lambda: segment.buffer(7, 100), lambda: segment.touch(7),
                lambda: segment.array("other", 8000), lambda: segment.remove(7), lambda: segment.array(7, 8000),
                segment.trim,
            ):
                try:
                    outcome = type(call()).__name__
                except shmvar.Error as error:
                    outcome = type(error).__name__
                except (KeyError, ValueError) as error:
                    outcome = "other"
                outcomes[outcome] = outcomes.get(outcome, 0) + 1
        finally:
            os.unlink(helpers.path_of(segment))
            segment.detach()
print(outcomes)
"""


@pytest.mark.parametrize("trust", [True, False])
@pytest.mark.parametrize("kind", ["array", "plain"])
def test_making_one_where_the_slot_is_damaged_ends(key, trust, kind):
    """What one call takes for missing the next one may take for a variable: no call asks for ever."""
    try:
        done = helpers.run(MAKES, key, helpers.TESTS, trust, kind, timeout=60)
    finally:
        for name in os.listdir(helpers.SHM):
            if name.startswith(f"shmvar.s.{key}-"):
                os.unlink(f"{helpers.SHM}/{name}")
    outcomes = eval(done.stdout)
    assert outcomes["ndarray"] > 10 and outcomes["CorruptSegmentError"] > 0, outcomes


SCRIBBLER = """
import random, struct
sys.path.insert(0, sys.argv[2])
import helpers
chance, parts = random.Random(int(sys.argv[3])), sys.argv[4].split(",")
segment = shmvar.attach(key, create=False, readonly=True)
WORDS = [0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1, 4096, 64, 2**62]
with helpers.Raw(segment) as raw:
    slots = [raw.slot(index) for index in (1, 2, 3)]
    granules = [slot[4] >> 16 for slot in slots]
    places = {
        "state": range(4160, 4320, 8),
        "intent": range(8192, 8192 + 304, 8),
        "entries": [raw.entry(granule)[0] for granule in granules],
        "present": [raw.bit(raw.PRESENT, granule)[0] for granule in granules],
        "pins": range(raw.pins, raw.pins + 64, 8),
        "slots": [slot[0] + at for slot in slots for at in (8, 16, 24)],
        "heads": [raw.place(slot) + at for slot in slots for at in range(0, 200, 8)],
    }
    places = [list(places[part]) for part in parts]
    sound = {at: raw.read(at, 8) for part in places for at in part}
    segment.detach()
    print("at it", flush=True)
    until = time.monotonic() + 60
    while time.monotonic() < until:
        for _ in range(200):
            at = chance.choice(chance.choice(places))
            data = sound[at]
            if chance.random() < 0.3:
                word = chance.choice(WORDS) if chance.random() < 0.4 else chance.randrange(2**64)
                flipped = int.from_bytes(data, "little") ^ (word & -word)
                data = struct.pack("<Q", word if chance.random() < 0.6 else flipped)
            raw.write(at, data)
"""

USER = """
import resource
import numpy as np
resource.setrlimit(resource.RLIMIT_DATA, (4 << 30, 4 << 30))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
trust = sys.argv[2] == "True"
outcomes, kept = {}, []

def use(call):
    try:
        found = call()
        outcome = "fine"
        if isinstance(found, (np.ndarray, memoryview)):
            assert trust or call.__name__ == "copy" or np.asarray(found).dtype.kind not in "bU"
            kept.append(found)
            for each in kept:
                bytes(each)
            del kept[:-5]
    except (shmvar.Error, KeyError) as error:
        outcome = type(error).__name__
    except Exception as error:
        # A ValueError says that it is of another kind or shape, or plain; a note, what was unpickled of several.
        told = trust and any("while reading index" in note for note in getattr(error, "__notes__", []))
        assert told or (isinstance(error, ValueError) and "index" in str(error)), repr(error)
        outcome = "other"
    outcomes[outcome] = outcomes.get(outcome, 0) + 1

def calls(segment):
    for index in (1, 2, 3):
        yield from (lambda: segment.array(index), lambda: segment.buffer(index), lambda: segment.touch(index))
        yield from (lambda: segment.array(index, 8000), lambda: segment.stat(index))
        def copy():
            return (segment.get(index), segment.view(index))[0]
        if not trust:
            yield copy
    yield from (lambda: segment.array(4, 5000), lambda: segment.buffer("b", 70_000), lambda: segment.remove("b"))
    yield from (lambda: segment.put(4, b"x" * 50_000), lambda: segment.remove(4), lambda: segment.array(5, initial=1.5))
    yield from (lambda: segment.remove(5), segment.trim)

print("attached", flush=True)
first = shmvar.attach(key, create=False, trust=trust)
sys.stdin.readline()
until, turns = time.monotonic() + 4, 0
while time.monotonic() < until:
    for call in calls(first):
        use(call)
    use(lambda: [use(call) for call in calls(shmvar.attach(key, create=False, trust=trust))])
    turns += 1
print(turns, outcomes)
"""

STRUCTURES = "state,intent,entries,present,pins"


@pytest.mark.parametrize(("trust", "parts"), [(False, f"{STRUCTURES},slots,heads"), (True, STRUCTURES)])
def test_f28_every_call_ends_well_while_another_process_scribbles(key, children, trust, parts):
    seed = int.from_bytes(os.urandom(4))
    segment = shmvar.attach(key, 1 << 23)
    path = helpers.path_of(segment)
    segment.array(1, 8000, initial=np.arange(8000))
    segment.buffer(2, 64_000)
    segment.array(3, (100, 200), "f4,i4", order="F")
    segment.detach()
    user = helpers.start(USER, key, trust)
    scribbler = helpers.start(SCRIBBLER, key, helpers.TESTS, seed, parts)
    children += [user, scribbler]
    try:
        said, _ = user.communicate("go\n", timeout=200)
        assert user.returncode == 0, f"seed {seed}: exit status {user.returncode}"
    finally:
        helpers.end(scribbler)
        os.unlink(path)
    turns, outcomes = said.split(" ", 1)
    outcomes = eval(outcomes)
    assert int(turns) >= 1 and outcomes["fine"] > 10 and outcomes["CorruptSegmentError"] > 0, outcomes


# --- memory that is not there

HOLE = """
import ctypes
import subprocess
import numpy as np
sys.path.insert(0, sys.argv[2])
import helpers
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", "/dev/shm"], check=True)
segment = shmvar.attach(key, 4 << 20, trust=False)
segment.buffer(7, 1 << 20)[:] = b"x" * (1 << 20)
segment[8] = "intact"
state = sys.argv[3]
if state != "poor":
    segment[9] = b"z" * (1 << 20)
with helpers.Raw(segment) as raw:
    at, length = raw.record(7)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
    first = (at + 8192) & ~4095
    assert libc.fallocate(raw.fd, 3, first, 1 << 19) == 0  # a hole
    kept = segment.buffer(10, 100)  # so that there is memory for the next pin
    if state == "full":
        with open("/dev/shm/hog", "wb") as file:
            seen = os.statvfs("/dev/shm")
            os.posix_fallocate(file.fileno(), 0, seen.f_bavail * seen.f_frsize)
    for handle in (segment, shmvar.attach(key, trust=False)):
        try:
            assert kept[0] == 0
            found = handle.buffer(7)
        except shmvar.Error as error:
            print(type(error).__name__)
        else:
            assert bytes(found[-4096:]) == b"x" * 4096 and bytes(found[16384:20480]) == bytes(4096)
            found[:] = b"y" * (1 << 20)
            found[:] = bytes(16384) + bytes(1 << 19) + b"x" * ((1 << 19) - 16384)
            print("there")
        assert segment[8] == "intact"
"""


@helpers.needs_mounts
@pytest.mark.parametrize(
    ("state", "outcome"), [("free", "there"), ("full", "SegmentFullError"), ("poor", "CorruptSegmentError")]
)
def test_where_others_gave_its_pages_back_no_object_is_made_over_the_hole(key, state, outcome):
    done = helpers.run(HOLE, key, helpers.TESTS, state, prefix=["unshare", "-m"])
    assert done.stdout.split() == [outcome] * 2


def cut_short(key, length):
    """Runs in a process that ends at once: the file of its segment has been cut."""
    with shmvar.attach(key, trust=False) as careful:
        with helpers.Raw(careful) as raw:
            at, _ = raw.record(7)
        with open(helpers.path_of(careful), "rb+") as file:
            file.truncate(at + length)
        for call in (lambda: careful.array(7), lambda: careful.array(7, ITEMS, "f8"), lambda: careful.view(7)):
            with pytest.raises(shmvar.CorruptSegmentError):
                call()


@pytest.mark.parametrize("length", [4096, 20_480])
def test_f32_an_array_whose_pages_were_cut_off_is_not_opened(key, length):
    segment = shmvar.attach(key)
    path = helpers.path_of(segment)
    segment.array(7, ITEMS)
    try:
        helpers.in_child(cut_short, key, length)
    finally:
        os.unlink(path)
        segment.detach()
