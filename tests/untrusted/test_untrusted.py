"""Values that others may have written: plain data is decoded, no code runs. A damaged value touches no other one."""

import array
import collections
import datetime
import decimal
import fractions
import ipaddress
import os
import pathlib
import resource
import uuid

import helpers
import numpy as np
import pytest

import shmvar

PLAIN = [
    None,
    True,
    0,
    -(2**80),
    1.5,
    "é\x00😀",
    b"\x00",
    (),
    (1, (2,)),
    [1, [2]],
    {"a": {1: None}},
    {1, 2},
    frozenset("ab"),
]


class Own:
    pass


class Runs:
    def __reduce__(self):
        return (os.mkdir, ("/tmp/shmvar-test-must-not-exist",))


@pytest.fixture
def public(key):
    """A segment that any user may write to."""
    with shmvar.attach(key, perm=0o666) as segment:
        yield segment
        segment.check()


@pytest.mark.parametrize("value", PLAIN, ids=lambda value: type(value).__name__)
def test_plain_data_is_read_from_an_untrusted_segment(public, value):
    assert public.trusted is False
    for weight in (b"", b"x" * 200_000):
        public[1], public["text"] = [value, weight], value
        assert public[1] == [value, weight] and public["text"] == value
        assert type(public["text"]) is type(value)


def test_a_large_lone_value_is_read_from_an_untrusted_segment(public):
    for value in (b"x" * 1_000_000, "é" * 500_000, list(range(100_000)), {str(n): n for n in range(20_000)}):
        public[1] = value
        assert public[1] == value


NEEDS_CODE = {
    "Own": Own(),
    "Counter": collections.Counter("a"),
    "mkdir": Runs(),
    "IPv4Address": ipaddress.IPv4Address("127.0.0.1"),
    "len": len,
}


@pytest.mark.parametrize("weight", [0, 100_000])
@pytest.mark.parametrize("name", NEEDS_CODE)
def test_a_value_that_needs_code_is_refused_by_name_and_stays(public, key, name, weight):
    value = [b"x" * weight, NEEDS_CODE[name]]
    public[7] = value
    for call in (
        lambda: public[7],
        lambda: public.get(7),
        lambda: public.pop(7),
        lambda: dict(public),
        lambda: public.popitem(),
    ):
        with pytest.raises(shmvar.UntrustedValueError, match=name):
            call()
    assert 7 in public and len(public) == 1 and public.stat(7).type == "list"
    public[8] = NEEDS_CODE[name]
    assert name.lower() in public.stat(8).type.lower()
    assert not os.path.exists("/tmp/shmvar-test-must-not-exist")
    if name != "mkdir":
        with shmvar.attach(key, trust=True) as forced:
            assert type(forced[7][1]) is type(value[1])
    with shmvar.attach(key, readonly=True) as reader, pytest.raises(shmvar.UntrustedValueError, match=name):
        reader[7]


def test_a_forced_distrust_refuses_in_a_segment_of_ones_own(seg, key):
    seg[1] = collections.Counter("a")
    seg[2] = Own()
    with shmvar.attach(key, trust=False) as careful, pytest.raises(shmvar.UntrustedValueError, match="Own"):
        careful[2]
    assert isinstance(seg[2], Own)


STANDARD = {
    "datetime.date": datetime.date(2020, 1, 1),
    "datetime.datetime": datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC),
    "datetime.timedelta": datetime.timedelta(1),
    "decimal.Decimal": decimal.Decimal("1.5"),
    "fractions.Fraction": fractions.Fraction(1, 3),
    "uuid.UUID": uuid.UUID(int=7),
    "collections.OrderedDict": collections.OrderedDict(a=1),
    "collections.deque": collections.deque([1], 3),
    "range": range(3),
    "pathlib.PosixPath": pathlib.Path("/x"),
    "pathlib.PurePosixPath": pathlib.PurePosixPath("/x"),
    "complex": 1j,
    "array.array": array.array("d", [1, 2]),
    "numpy.float64": np.float64(1.5),
    "numpy.datetime64": np.datetime64("2020"),
    "numpy.dtype": np.dtype("i4"),
    "bytearray": bytearray(b"x"),
}


@pytest.mark.parametrize("name", STANDARD)
def test_a_type_of_the_table_is_read_and_named(public, key, name):
    value = STANDARD[name]
    for weight in (0, 100_000):
        public[1] = [value, b"x" * weight]
        public[2] = value
        assert public.stat(2).type == name
        for got in (public[1][0], public[2]):
            assert type(got) is type(value) and repr(got) == repr(value)
        with shmvar.attach(key, readonly=True) as reader:
            assert repr(reader[2]) == repr(value)


ARRAYS = [
    np.arange(5.0),
    np.arange(300_000.0).reshape(3, -1),
    np.asfortranarray(np.arange(60_000).reshape(3, -1)),
    np.arange(60_000)[::2],
    np.zeros(50_000, [("a", "<i4"), ("b", ">U3"), ("c", "f8", (2, 3))]),
    np.array(["2020", "2021"], "M8[ns]"),
    np.zeros(60_000, "?"),
]


@pytest.mark.parametrize("value", ARRAYS, ids=lambda value: f"{value.dtype.kind}{value.nbytes}")
def test_an_array_is_read_from_an_untrusted_segment_as_a_copy(public, key, value):
    for made in (value, [value, b"x" * 100, value]):
        public[1] = made
        got = public[1] if made is value else public[1][2]
        assert type(got) is np.ndarray and got.dtype == value.dtype and np.array_equal(got, value)
        got[...] = np.ones((), value.dtype)  # its own memory
        again = public[1] if made is value else public[1][0]
        assert np.array_equal(again, value)
    assert public.stat(1).type == "list"
    public[1] = value
    assert public.stat(1).type == "numpy.ndarray"
    view = public.view(1)
    assert np.array_equal(view, value) and not view.flags.writeable
    public[1] = value[:0]
    assert np.array_equal(view, value) and public[1].shape == value[:0].shape
    with shmvar.attach(key, readonly=True) as reader:
        assert reader[1].dtype == value.dtype


@pytest.mark.parametrize("size", [10, 10_000, 1_000_000])
def test_buffers_of_bytes_are_read_from_an_untrusted_segment(public, size):
    data = os.urandom(size)
    public[1] = bytearray(data)
    got = public[1]
    assert type(got) is bytearray and got == data
    got += b"grows"
    assert type(public.view(1)) is memoryview and public.view(1) == data and public.view(1).readonly
    public[1] = memoryview(data)
    assert type(public[1]) is memoryview and public[1] == data
    public[1] = array.array("b", data)
    assert public[1] == array.array("b", data) == public.view(1)
    public[1] = data
    assert public[1] == data and type(public[1]) is bytes
    public[1] = {"parts": [np.frombuffer(data, "u1"), bytearray(data)]}
    first, second = public[1]["parts"]
    assert first.tobytes() == data == second and first.flags.writeable


def test_a_hostile_array_in_a_record_with_buffers_is_a_typed_error(public):
    """The shape is changed in the segment so that the array reaches beyond its buffer."""
    value = np.arange(10_000)
    public[7] = value
    with helpers.Raw(public) as raw:
        at, _ = raw.record(7)
        stored = raw.read(at, 400)
        place = stored.index((10_000).to_bytes(2, "little") + b"\x85")
        raw.write(at + place, b"\xff\xff")
        with pytest.raises(shmvar.CorruptSegmentError, match=r"index 7 .*another length"):
            public[7]
        raw.write(at + place, stored[place : place + 2])
    assert np.array_equal(public[7], value)


# --- damage

VALUE = {"text": "x" * 50, "list": [1, 2.5, None, b"bytes" * 20], "more": ("a", "b", 2**70)}

FLIP = """
import resource
resource.setrlimit(resource.RLIMIT_DATA, (3 << 30, 3 << 30))
sys.path.insert(0, sys.argv[2])
import helpers
trust, flips = sys.argv[3] == "True", eval(sys.argv[4])
segment = shmvar.attach(key, trust=trust)
others = {index: segment[index] for index in segment if index != 7}
outcomes = {}
with helpers.Raw(segment) as raw:
    at, length = raw.record(7)
    sound = raw.read(at, length)
    for place in range(length):
        for flip in flips:
            raw.write(at + place, bytes([sound[place] ^ flip]))
            try:
                repr(segment[7])
                outcome = "data"
            except shmvar.Error as error:
                outcome = type(error).__name__
                assert "7" in str(error), error
            except Exception as error:
                assert trust and any("index 7" in note for note in getattr(error, "__notes__", [])), repr(error)
                outcome = "explained"
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
            segment.has(7), segment.stat(7)
        raw.write(at + place, sound[place : place + 1])
        assert {index: segment[index] for index in others} == others
    segment.check()
print(outcomes)
"""


@pytest.mark.parametrize("trust", [True, False])
def test_f29_any_damaged_byte_of_a_record_is_other_data_or_a_typed_error(seg, key, trust):
    seg.update({7: VALUE, 6: "six" * 30, 8: [8] * 30, "seven": VALUE})
    flips = [1, 2, 4, 0x10, 0x20, 0x40, 0x80, 0xFF]
    done = helpers.run(FLIP, key, helpers.TESTS, trust, flips)
    outcomes = eval(done.stdout)
    assert outcomes["data"] > 100 and outcomes["CorruptSegmentError"] > 100
    assert seg[7] == VALUE == seg["seven"]


@pytest.mark.parametrize("length", [10, 100, 100_000])
def test_f29_a_str_that_is_no_utf8_is_damage(seg, key, length):
    seg.update({7: "x" * length, 8: "eight"})
    with helpers.Raw(seg) as raw, shmvar.attach(key, trust=False) as careful:
        at = raw.record(7)[0] + (8 if length == 10 else 20)
        raw.write(at, b"\xa2")
        for segment in (seg, careful) if length < 50_000 else (careful,):
            with pytest.raises(shmvar.CorruptSegmentError, match="index 7"):
                segment[7]
        assert seg[8] == careful[8] == "eight"
        raw.write(at, b"x")
        assert seg[7] == "x" * length


def test_f29_a_damaged_span_is_a_typed_error_or_other_data(seg, key):
    value = [b"x" * 100_000, "end"]
    seg.update({7: value, 8: [b"y" * 100_000]})
    with helpers.Raw(seg) as raw, shmvar.attach(key, trust=False) as careful:
        at, length = raw.record(7)
        sound = raw.read(at, length)
        assert sound[:2] in (b"\x80\x04", b"\x80\x05") and sound.endswith(b".")
        for place in (0, 1, 2, 3, 11, 12, 13, 17, 50_000, length - 6, length - 2, length - 1):
            for flip in (1, 0x80, 0xFF):
                raw.write(at + place, bytes([sound[place] ^ flip]))
                for segment in (seg, careful):
                    try:
                        repr(segment[7])
                    except Exception as error:
                        told = " ".join([str(error), *getattr(error, "__notes__", [])])
                        assert "7" in told and (isinstance(error, shmvar.Error) or segment is seg)
            raw.write(at + place, sound[place : place + 1])
        assert seg[7] == value == careful[7] and seg[8] == [b"y" * 100_000]


@pytest.mark.parametrize("weight", [100, 100_000])
def test_f31_a_truncated_value_names_index_and_length(seg, key, weight):
    value = [b"x" * weight, "end"]
    with helpers.Raw(seg) as raw, shmvar.attach(key, trust=False) as careful:
        seg.update({4711: value, 8: "eight" * 20})
        slot, _, _, tag, _ = raw.slot(4711)
        _, length = raw.record(4711)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for short in (1, 2, 3, length // 2, length - 1):
            raw.pack("<Q", slot + 16, tag & 0xFFFFFF | short << 24)
            for segment in (seg, careful):
                with pytest.raises(shmvar.CorruptSegmentError, match="4711") as caught:
                    segment[4711]
                assert str(short) in str(caught.value)
        raw.pack("<Q", slot + 16, tag)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000
        assert seg[4711] == value and seg[8] == "eight" * 20


def test_f31_a_length_beyond_its_room_is_a_typed_error_and_takes_no_memory(seg):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with helpers.Raw(seg) as raw:
        for index, value in [(1, "x" * 100), (2, b"x" * 100_000)]:
            seg[index] = value
            slot, _, _, tag, _ = raw.slot(index)
            try:
                for length in (20_000 if index == 1 else 50_000_000, 200_000_000, 2**40 - 1):
                    raw.pack("<Q", slot + 16, tag & 0xFFFFFF | length << 24)
                    with pytest.raises(shmvar.CorruptSegmentError):
                        seg[index]
            finally:
                raw.pack("<Q", slot + 16, tag)
            assert seg[index] == value
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_f35_a_newer_pickle_protocol_is_said_to_be_newer(seg, key):
    seg[7] = VALUE
    with helpers.Raw(seg) as raw, shmvar.attach(key, trust=False) as careful:
        at, _ = raw.record(7)
        protocol = raw.read(at, 2)[1:]
        assert protocol in (b"\x04", b"\x05")
        raw.write(at + 1, b"\x09")
        for segment in (seg, careful):
            with pytest.raises((ValueError, shmvar.Error), match=r"protocol.*9") as caught:
                segment[7]
            assert "7" in " ".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
        raw.write(at + 1, protocol)
        assert seg[7] == VALUE
