"""Arrays in place that others may write to: kinds that they could change into what no array may hold are refused."""

import contextlib

import helpers
import numpy as np
import pytest

import shmvar


@pytest.fixture
def public(key):
    """A segment that any user may write to."""
    with shmvar.attach(key, perm=0o666) as segment:
        assert segment.trusted is False
        yield segment
        segment.check()


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
