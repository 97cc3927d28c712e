"""Arrays in place that others may have written or damaged: what they could change is refused; errors are typed ones."""

import contextlib
import os
import pickle
import struct

import helpers
import numpy as np
import pytest

import shmvar

REBUILD = np.zeros(3).__reduce_ex__(5)[0]
"""The function by which numpy rebuilds an array over a buffer."""


@pytest.fixture
def public(key):
    """A segment that any user may write to."""
    with shmvar.attach(key, perm=0o666) as segment:
        assert segment.trusted is False
        yield segment
        segment.check()


# --- kinds that others could change into what no array may hold

REFUSED = {
    "bool": "?",
    "text": "U3",
    "text of the other byte order": ">U3",
    "text without length": "U",
    "field": [("a", "f8"), ("b", "?")],
    "text field": [("a", "f8"), ("b", "U2")],
    "field of many": [("a", "?", (2, 2))],
    "inner field": [("a", [("b", "i4"), ("c", [("d", "U1")])])],
    "field at an offset": np.dtype({"names": ["x"], "formats": ["?"], "offsets": [4], "itemsize": 16}),
    "subarray": ("?", (2,)),
    "record": (np.record, [("x", "?")]),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("shape", [(), 0, 5], ids=str)
def test_bools_and_texts_are_not_made(public, name, shape):
    with pytest.raises(shmvar.UntrustedValueError, match="7"):
        public.array(7, shape, REFUSED[name])
    assert len(public) == 0 and public.info().used == 0 and public.info().held == 0


@pytest.mark.parametrize("initial", [True, [True, False], "text", ["a", "b"], np.ones(3, [("a", "?")])], ids=repr)
def test_bools_and_texts_are_not_begun_with(public, initial):
    for shape in (None, 2, (2, 3)):
        with contextlib.suppress(ValueError), pytest.raises(shmvar.UntrustedValueError, match="7"):
            public.array(7, shape, initial=initial)
    assert len(public) == 0
    if not isinstance(initial, np.ndarray):
        with contextlib.suppress(ValueError):  # of another dtype they may be
            assert public.array(7, dtype="S4", initial=initial).dtype == "S4"
            public.remove(7)


@pytest.mark.parametrize("name", REFUSED)
def test_bools_and_texts_that_a_trusting_handle_made_are_not_opened(key, name):
    with shmvar.attach(key, trust=True) as segment, shmvar.attach(key, trust=False) as careful:
        segment.array(7, 5, REFUSED[name])
        dtype = segment.array(7).dtype
        for call in (
            lambda: careful.array(7),
            lambda: careful.array(7, dtype=dtype),
            lambda: careful.array(7, segment.array(7).shape, dtype),
        ):
            with pytest.raises(shmvar.UntrustedValueError, match="7"):
                call()
        assert careful.stat(7).in_place and segment.array(7).dtype == dtype
        # A copy is checked after it was made.
        if name != "record":
            assert careful[7].dtype == dtype and careful[7].tobytes() == segment[7].tobytes()
        segment.check()


DTYPES = ["f8", "f2", "i1", "u1", ">i4", "c16", "g", "S5", "V7", "M8[ns]", "m8[D]"]
STRUCTS = ["i4,f8,S3", [("x", "f8", (2, 3)), ("y", [("z", ">u2"), ("raw", "V3")])]]
WORKER = """
import numpy as np
segment = shmvar.attach(key, create=False, trust=False)
field = segment.array("field")
assert field.flags.writeable and segment.trusted is False
field.reshape(-1).view("u1")[:] = 7
segment.touch("field")
segment.buffer("raw")[5] = 7
"""


@pytest.mark.parametrize("dtype", [*DTYPES, *STRUCTS], ids=str)
def test_all_other_dtypes_are_real_shared_memory(public, key, dtype):
    made = public.array("field", (4, 5), dtype)
    raw = public.buffer("raw", 1000)
    like = np.zeros((4, 5), dtype)
    assert made.dtype == like.dtype and made.shape == like.shape and made.tobytes() == like.tobytes()
    for found in (public.array("field"), public.array("field", (4, 5), dtype), shmvar.attach(key).array("field")):
        assert found.dtype == like.dtype and found.shape == like.shape
    version = public.version("field")
    helpers.run(WORKER, key)
    assert made.tobytes() == b"\x07" * like.nbytes == public["field"].tobytes() and public.version("field") > version
    assert raw[5] == 7 and public["raw"][5] == 7 and public.stat("field").type == "numpy.ndarray"
    window = public.view("field")
    assert window.tobytes() == made.tobytes() and not window.flags.writeable and public.view("raw").readonly


def test_it_begins_as_asked_and_stays_as_long_as_it_is_held(public):
    made = public.array(1, (300, 400), "i8", initial=np.arange(400), order="F")
    assert made.flags.f_contiguous and (made == np.arange(400)).all()
    public.remove(1)
    for turn in range(3):
        public[turn] = b"\xff" * made.nbytes
    assert (made == np.arange(400)).all() and public.info().held >= made.nbytes
    del made
    public["a change"] = 0
    assert public.info().held == 0


def test_objects_and_wrong_arguments_are_refused_as_ever(public):
    for dtype in ("O", [("a", "O")]):
        with pytest.raises(TypeError, match="object"):
            public.array(1, 3, dtype)
    with pytest.raises(KeyError):
        public.array(1)
    public.array(1, 3)
    with pytest.raises(ValueError, match="1"):
        public.array(1, 4)
    with pytest.raises(ValueError, match="1"):
        public.buffer(1)
    public[2] = "plain"
    with pytest.raises(ValueError, match="2"):
        public.array(2, 3)
    assert len(public) == 2


# --- hostile descriptions

SIZE = 64_000
"""Bytes of the buffer."""


def head_of(raw, index):
    """Offset of the value of an array in place, and of its buffer: what lies between is fixed."""
    at, _ = raw.record(index)
    count, _, offset, length = raw.unpack("<4Q", at)
    assert count == 1 and length == SIZE and offset < 4096
    return at, at + offset


class Described:
    """What the pickler writes as numpy's own description of an array, whatever the arguments are."""

    def __init__(self, *arguments, function=REBUILD, buffers=1):
        self.function, self.arguments, self.buffers = function, arguments, buffers

    def __reduce__(self):
        return self.function, (*(pickle.PickleBuffer(bytearray(8)) for _ in range(self.buffers)), *self.arguments)


def described(*arguments, **how):
    return pickle.dumps(Described(*arguments, **how), 5, buffer_callback=[].append)


def plant(raw, at, data, end, count=1):
    """Writes a description of that many buffers of which the first one is what there is room for."""
    offset = -(-(16 + 16 * count + len(data)) // 64) * 64
    tables = struct.pack("<2Q", offset, end - at - offset) * count
    raw.write(at, struct.pack("<2Q", count, len(data)) + tables + data)


ITEMS = SIZE // 8
HOSTILE = {
    "one item more": described(np.dtype("f8"), (ITEMS + 1000,), "C"),
    "many more": described(np.dtype("f8"), (2**40,), "C"),
    "longer items": described(np.dtype("c16"), (ITEMS,), "C"),
    "long texts": described(np.dtype("S1000000"), (ITEMS,), "C"),
    "product that wraps": described(np.dtype("f8"), (2**32, 2**32), "C"),
    "product that wraps to what there is": described(np.dtype("f8"), (2**61, 8, ITEMS), "C"),
    "negative": described(np.dtype("f8"), (-1,), "C"),
    "negative twice": described(np.dtype("f8"), (-1, -ITEMS), "C"),
    "beyond 64 bits": described(np.dtype("f8"), (2**64 + ITEMS,), "C"),
    "65 axes": described(np.dtype("f8"), (1,) * 64 + (ITEMS,), "C"),
    "1000 axes": described(np.dtype("f8"), (1,) * 999 + (ITEMS,), "C"),
    "shape of floats": described(np.dtype("f8"), (float(ITEMS),), "C"),
    "shape of texts": described(np.dtype("f8"), ("8000",), "C"),
    "shape of a list": described(np.dtype("f8"), [ITEMS], "C"),
    "no shape": described(np.dtype("f8"), None, "C"),
    "shape in a shape": described(np.dtype("f8"), ((ITEMS,),), "C"),
    "order X": described(np.dtype("f8"), (ITEMS,), "X"),
    "order 5": described(np.dtype("f8"), (ITEMS,), 5),
    "no order": described(np.dtype("f8"), (ITEMS,)),
    "one argument more": described(np.dtype("f8"), (ITEMS,), "C", 0),
    "objects": described(np.dtype("O"), (ITEMS,), "C"),
    "object field": described(np.dtype([("a", "O")]), (ITEMS,), "C"),
    "object subarray": described(np.dtype(("O", (2,))), (ITEMS // 2,), "C"),
    "object at an offset": described(
        np.dtype({"names": ["a"], "formats": ["O"], "offsets": [8], "itemsize": 16}), (ITEMS // 2,), "C"
    ),
    "a class as dtype": described(np.float64, (ITEMS,), "C"),
    "a text as dtype": described("f8", (ITEMS,), "C"),
    "no dtype": described(None, (ITEMS,), "C"),
    "two buffers": described(np.dtype("f8"), (ITEMS,), "C", buffers=2),
    "no buffer": described(b"x" * 64, np.dtype("f8"), (8,), "C", buffers=0),
    "another function": described(function=bytearray),
    "numpy's own function": described(np.dtype("f8"), function=np.frombuffer),
    "a class": described((ITEMS,), np.dtype("f8"), function=np.ndarray),
    "a list": pickle.dumps([pickle.PickleBuffer(bytearray(8))], 5, buffer_callback=[].append),
    "itself twice": pickle.dumps((pickle.PickleBuffer(bytearray(8)),) * 2, 5, buffer_callback=[].append),
    "no value": b"",
    "no end": described(np.dtype("f8"), (ITEMS,), "C")[:-1],
    "only the end": b".",
    "nothing": b"N.",
    "a number": b"\x80\x05K\x05.",
    "noise": bytes(range(256)),
    "a new protocol": b"\x80\x09" + described(np.dtype("f8"), (ITEMS,), "C")[2:],
    "deep": b"\x80\x05" + b"(" * 3000 + b".",
    "texts": described(np.dtype("U2"), (ITEMS,), "C"),
    "bools": described(np.dtype("?"), (SIZE - 4096,), "C"),
    "a bool field": described(np.dtype([("a", "i4"), ("b", "?")]), (SIZE // 5 - 1000,), "C"),
}
FINE = {"texts", "bools", "a bool field", "a text as dtype", "a class as dtype", "no order", "shape of a list"}
"""Some handles may make an array of these. What they make is looked at as any."""


def whole(found, careful):
    """Fails unless it is an array of no objects, or a buffer, that is there to be read and written from end to end."""
    if isinstance(found, np.ndarray):
        assert not found.dtype.hasobject and found.nbytes <= SIZE + 4096 and found.flags.writeable
        kinds = [found.dtype] if found.dtype.fields is None else [field[0] for field in found.dtype.fields.values()]
        assert not careful or not any(kind.base.kind in "bU" for kind in kinds)
        found = found.reshape(-1, order="A").view("u1") if found.nbytes else found.reshape(-1)[:0]
    else:
        assert type(found) is memoryview and not found.readonly and found.nbytes <= SIZE
    assert sum(bytes(found[:100])) >= 0 and len(bytes(found)) == len(found)
    if len(found):
        found[0], found[-1] = found[0], found[-1]


def meets(key, index, name="", may_be_fine=False):
    """Runs in a child: what an array or a buffer is opened from is hostile; only typed errors, and no code runs."""
    for trust in (True, False):
        with shmvar.attach(key, trust=trust) as handle:
            for call in (
                lambda handle=handle: handle.array(index),
                lambda handle=handle: handle.array(index, ITEMS, "f8"),
                lambda handle=handle: handle.buffer(index),
                lambda handle=handle: handle.array(index, initial=np.zeros(ITEMS)),
            ):
                try:
                    found = call()
                except Exception as error:
                    # A ValueError says that it is of another shape or kind than was asked for. In a segment that is
                    # trusted an error of unpickling comes with a note.
                    told = trust and any("index 7" in note for note in getattr(error, "__notes__", []))
                    kind = isinstance(error, ValueError) and (may_be_fine or "index 7" in str(error))
                    assert isinstance(error, shmvar.Error) or told or kind, (name, error)
                else:
                    # A handle that trusts unpickles what is there, and numpy takes -1 for a length, say.
                    assert may_be_fine or trust, f"{name}: {found!r:.200}"
                    whole(found, not trust)
            for call in (handle.get, handle.view, handle.stat, handle.touch):
                # What reads a copy tells in its own words what it was not able to unpickle.
                with contextlib.suppress(Exception):
                    found = call(index)
                    if isinstance(found, (np.ndarray, memoryview)):
                        bytes(found)
    with shmvar.attach(key, readonly=True) as reader:
        for call in (reader.array, reader.buffer, reader.view, reader.get):
            with contextlib.suppress(Exception):
                found = call(index)
                if isinstance(found, (np.ndarray, memoryview)):
                    bytes(found)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_description_is_a_typed_error(seg, key, name):
    made = seg.array(7, ITEMS)
    made[:] = 5
    seg[8] = "intact"
    with helpers.Raw(seg) as raw:
        at, buffer = head_of(raw, 7)
        sound = raw.read(at, 8192)
        count = {"two buffers": 2, "no buffer": 0}.get(name, 1)
        plant(raw, at, HOSTILE[name], buffer + SIZE, max(count, 1))
        if count == 0:
            raw.pack("<Q", at, 0)
        helpers.in_child(meets, key, 7, name, name in FINE)
        raw.write(at, sound)
    assert (seg.array(7, ITEMS) == 5).all() and seg[8] == "intact" and (made == 5).all()


def opens(key, made):
    """Runs in a child: a description that calls a function is refused, and the function does not run."""
    with shmvar.attach(key, trust=False) as careful:
        for call in (
            careful.array,
            careful.buffer,
            lambda index: careful.array(index, ITEMS),
            careful.view,
            careful.get,
        ):
            if call == careful.buffer:  # it only looks whether it is one
                with pytest.raises(ValueError, match="not a buffer"):
                    call(7)
                continue
            with pytest.raises((shmvar.CorruptSegmentError, shmvar.UntrustedValueError)):
                call(7)
        with contextlib.suppress(shmvar.Error):
            assert careful.stat(7).in_place
    assert not made.exists()


@pytest.mark.parametrize("buffers", [0, 1])
def test_no_code_runs_to_open_one(seg, key, tmp_path, buffers):
    seg.array(7, ITEMS)
    made = tmp_path / "made"
    with helpers.Raw(seg) as raw:
        at, buffer = head_of(raw, 7)
        sound = raw.read(at, 8192)
        data = described(str(made), function=os.mkdir, buffers=0)
        if buffers:
            data = data[:-1] + b"0\x97."  # its result is dropped; the value is the buffer
        plant(raw, at, data, buffer + SIZE)
        helpers.in_child(opens, key, made)
        raw.write(at, sound)


def test_what_is_planted_would_be_an_array_if_it_were_true(seg):
    """The test of the tests above: a description that fits is taken."""
    seg.array(7, ITEMS)
    with helpers.Raw(seg) as raw:
        at, buffer = head_of(raw, 7)
        sound = raw.read(at, 8192)
        room = SIZE - 4096
        data = pickle.dumps(np.zeros(room // 4, "i4"), 5, buffer_callback=[].append)
        offset = -(-(32 + len(data)) // 64) * 64
        slot, _, _, tag, _ = raw.slot(7)
        raw.write(at, struct.pack("<4Q", 1, len(data), offset, room) + data)
        raw.pack("<Q", slot + 16, tag & 0xFFFFFF | (offset + room) << 24)
        found = seg.array(7)
        assert found.dtype == "i4" and found.shape == (room // 4,)
        found[:] = 7
        assert raw.read(at + offset + room - 4, 4) == b"\x07\0\0\0"
        raw.write(at, sound)
        raw.pack("<Q", slot + 16, tag)
    assert buffer > at and seg.array(7).shape == (ITEMS,)


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


def test_what_is_damaged_after_it_was_opened_does_not_change_the_object(seg):
    field = seg.array(7, (80, 100), initial=np.arange(8000).reshape(80, 100))
    with helpers.Raw(seg) as raw:
        at, buffer = head_of(raw, 7)
        sound = raw.read(at, buffer - at)
        raw.write(at, b"\xff" * (buffer - at))
        assert field.shape == (80, 100) and np.array_equal(field, np.arange(8000).reshape(80, 100))
        field[:] = 5
        with pytest.raises(shmvar.CorruptSegmentError):
            seg.array(7)
        raw.write(at, sound)
    assert (seg.array(7) == 5).all()


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
