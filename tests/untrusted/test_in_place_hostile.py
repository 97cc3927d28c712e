"""Arrays in place whose description is hostile: a typed error, and no code runs."""

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
