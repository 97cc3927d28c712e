"""Files that are no dumps, damaged ones, and ones that are made to do harm: an error that names the place, always."""

import hashlib
import io
import json
import os
import pickle
import struct

import helpers
import pytest
from hypothesis import given
from hypothesis import strategies as st

import shmvar


def sealed(body, variables=0, items=0):
    """A dump with the right checksum."""
    end = {"variables": variables, "items": items, "sha256": hashlib.sha256(body).hexdigest()}
    return body + json.dumps(end).encode() + b"\n"


def line(index, value, **more):
    return json.dumps({"index": index, "length": len(value)} | more).encode() + b"\n" + value + b"\n"


HEAD = b"shmvar dump 2\n"
NONE = b"N."


@pytest.fixture(scope="module")
def target():
    """A segment into which nothing is ever loaded."""
    key = f"hostile-dumps-{os.getpid()}"
    with shmvar.attach(key, 64 << 20) as segment:
        segment["there"] = "before"
        yield segment
        assert dict(segment) == {"there": "before"} and segment.info().queues == {}
        segment.check()
        segment.destroy()


@pytest.fixture(scope="module")
def sound():
    """A dump with some of everything."""
    key = f"hostile-sound-{os.getpid()}"
    with shmvar.attach(key, 64 << 20) as segment:
        segment.update({1: "one", "two": [2] * 40, 3: b"3" * 300, "large": b"l" * 22_000})
        segment.put("lives", 1, ttl=1000)
        segment.array("field", 10, "i8")
        segment.queue("jobs").put(1)
        segment.queue("jobs").put(b"2" * 22_000)
        file = io.BytesIO()
        segment.dump(file)
        segment.destroy()
    return file.getvalue()


def refused(segment, data):
    with pytest.raises(shmvar.DumpError) as caught:
        segment.load(io.BytesIO(data))
    assert isinstance(caught.value, ValueError) and isinstance(caught.value, shmvar.Error)
    return str(caught.value)


def test_f31_no_start_of_a_dump_is_one(target, sound):
    for cut in [*range(0, 2000), *range(2000, len(sound), 211), *range(len(sound) - 300, len(sound))]:
        refused(target, sound[:cut])
    for more in (b"x", b"\n", sound, sound[-200:]):
        refused(target, sound + more)


def test_f31_no_changed_byte_is_overlooked(target, sound):
    places = [*range(0, 1500), *range(1500, len(sound), 199), *range(len(sound) - 300, len(sound))]
    for at in places:
        refused(target, sound[:at] + bytes([sound[at] ^ (1 << at % 8)]) + sound[at + 1 :])


@given(st.binary(max_size=300), st.integers(0, 3))
def test_any_bytes_are_refused(target, data, how):
    if how == 0:
        refused(target, data)
    elif how == 1:
        refused(target, HEAD + data)
    elif how == 2:
        refused(target, sealed(HEAD + data + b"\n", 1))
    else:
        refused(target, sealed(HEAD + line(1, NONE) + data + b"\n", 2))


@pytest.mark.parametrize(
    "lines",
    [
        b'{"index": 1, "length": 2, "kind": "evil"}\nN.\n',
        b'{"index": 1, "length": 2, "kind": null}\nN.\n',
        b'{"index": 1, "length": 999999999999999999}\nN.\n',
        b'{"index": 1, "length": 9223372036854775807}\nN.\n',
        b'{"index": 1, "length": 18446744073709551615}\nN.\n',
        b'{"index": 1, "length": 3}\nN.\n',
        b'{"index": 1, "length": 1}\nN.\n',
        b'{"index": 1, "length": 2, "expires_in": -1}\nN.\n',
        b'{"index": 1, "length": 2, "expires_in": 1e400}\nN.\n',
        b'{"index": "' + b"x" * 1025 + b'", "length": 2}\nN.\n',
        b'{"index": "\\udc00", "length": 2}\nN.\n',
        b'{"queue": "jobs", "length": 2, "kind": "in place"}\nN.\n',
        b'{"gone": 0}\n',
        b'{"gone": 18446744073709551615}\n',
        b'{"line": 0, "expires_in": 1}\n',
        line(1, NONE) + b'{"gone": 0}\n{"gone": 0}\n',
        line(1, NONE) + b'{"gone": 0}\n{"line": 0, "expires_in": 1}\n',
        b'{"queue": 1, "length": 2}\nN.\n{"line": 0, "expires_in": 1}\n',
        b"[" * 15_000 + b"\n",
        b'{"index": ' + b"[" * 15_000 + b"\n",
        b'{"index": ' + b'{"a": ' * 2_000 + b"\n",
        b"x" * 100_000,
        b"\n",
        b"{}\n",
        b"null\n",
        b'{"index": 1, "index": 2, "length": 2}\nN.\n',
        line(1, b"N"),
        line(1, b"NN"),
        line(1, b"cos\nsystem\n"),
        line(1, b"\x80\x05\x97."),
        line(1, pickle.dumps(b"x" * 30_000)[:-1]),
        line(1, NONE, kind="buffers"),
        line(1, bytes(16), kind="in place"),
        line(1, (2**60).to_bytes(8, "little") + bytes(100), kind="buffers"),
        line(
            1,
            (1).to_bytes(8, "little") + (4).to_bytes(8, "little") + (64).to_bytes(8, "little") + bytes(100),
            kind="buffers",
        ),
        line(1, (0).to_bytes(8, "little") + (2).to_bytes(8, "little") + NONE, kind="in place"),
    ],
)
def test_what_no_dump_says_is_refused_though_its_checksum_is_right(lines, target):
    for variables in (0, 1, 2):
        for items in (0, 1):
            text = refused(target, sealed(HEAD + lines, variables, items))
            assert "byte" in text or "bytes" in text


def test_counts_that_are_not_true(target):
    for variables, items in ((0, 0), (2, 0), (1, 1)):
        assert "it has 1 variables" in refused(target, sealed(HEAD + line(1, NONE), variables, items))


def test_of_indexes_that_repeat_in_a_dump_of_version_1_the_last_counts(seg):
    """Such dumps were of no instant."""
    body = b"shmvar dump 1\n"
    body += b"".join(line(7, pickle.dumps(number), expires_in=None) for number in range(50))
    body += b"".join(line("large", pickle.dumps(bytes([number]) * 30_000), expires_in=None) for number in range(5))
    end = json.dumps({"variables": 55, "sha256": hashlib.sha256(body).hexdigest()}).encode()
    seg.load(io.BytesIO(body + end + b"\n"))
    assert dict(seg) == {7: 49, "large": bytes([4]) * 30_000}
    seg.check()
    seg.clear()
    seg.trim()
    assert seg.info().resident < 4 << 20, "what was not needed was given back"


def test_a_value_that_does_not_count_may_be_anything(seg):
    body = HEAD + line(1, b"no pickle") + line(2, NONE) + b'{"gone": 0}\n'
    assert seg.load(io.BytesIO(sealed(body, 1))) == 1 and dict(seg) == {2: None}
    assert "variable 1" in refused(seg, sealed(HEAD + line(1, b"no pickle") + line(2, NONE), 2))


def test_nothing_is_unpickled(seg):
    class Evil:
        def __reduce__(self):
            return os.mkdir, ("/dev/shm/shmvar-was-run",)

    evil = pickle.dumps(Evil())
    seg.load(io.BytesIO(sealed(HEAD + line(1, evil) + b'{"queue": 1, "length": %d}\n%b\n' % (len(evil), evil), 1, 1)))
    seg.dump("/dev/null")
    assert not os.path.exists("/dev/shm/shmvar-was-run") and seg.stat(1).type == "posix.mkdir"


def test_a_later_version_says_so(target):
    text = refused(target, sealed(b"shmvar dump 3\n"))
    assert "later version" in text and "no older" in text


def test_a_file_that_changes_while_it_is_read_loads_nothing(target, tmp_path):
    path = tmp_path / "dump"
    one, two = (sealed(HEAD + line(1, pickle.dumps("x" * 400_000 + end)), 1) for end in "ab")
    assert len(one) == len(two)
    path.write_bytes(one)
    from shmvar._dump import reading

    begin = reading._Source.begin

    def changing(self):
        if self._before == 0:
            path.write_bytes(two)
        begin(self)

    reading._Source.begin = changing
    try:
        with pytest.raises(shmvar.DumpError, match="changed while it was read"):
            target.load(path)
    finally:
        reading._Source.begin = begin


LIMITED = """
import io, resource
segment = shmvar.attach(key)
path, most = sys.argv[2], int(sys.argv[3])
import shmvar._dump.reading, shmvar._dump.files, shmvar._dump.writing
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    segment.load(path)
except shmvar.Error as error:
    print(type(error).__name__, str(error)[:200].replace("\\n", " "))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


@pytest.mark.parametrize("what", ["sparse", "lines", "long value", "faulty"])
def test_a_file_that_is_made_to_take_memory_takes_little(what, target, tmp_path):
    path, mib = tmp_path / "dump", 60
    with open(path, "wb") as file:
        file.write(HEAD)
        if what == "sparse":  # a length that is true, of a file that has no bytes
            file.write(b'{"index": 1, "length": %d}\n' % (1 << 28))
            file.truncate((1 << 28) + 100)
        elif what == "lines":
            file.write(b"\n" * 2_000_000)
        elif what == "long value":
            file.write(b'{"index": 1, "length": 150000000}\n\x80\x05c' + b"x" * 30_000_000)
            file.truncate(150_000_200)
        else:
            file.write(b'{"index":1,"length":1}\n!\n' * 200_000)
    said = helpers.run(LIMITED, target.key, path, 0).stdout.splitlines()
    assert said[0].startswith("DumpError") and int(said[1]) < mib, said


def test_many_tiny_variables_take_memory_in_proportion_to_the_file(seg, tmp_path):
    body = HEAD + b"".join(b'{"index":%d,"length":2}\nN.\n' % number for number in range(50_000))
    (tmp_path / "dump").write_bytes(sealed(body, 50_000))
    said = helpers.run(LIMITED, seg.key, tmp_path / "dump", 0).stdout.splitlines()
    assert int(said[-1]) < 40 and len(seg) == 50_000, said


def in_place(pickle):
    """A value in place of eight bytes with this pickle, which may be wrong."""
    start = -(-(32 + len(pickle)) // 64) * 64
    return struct.pack("<QQQQ", 1, len(pickle), start, 8) + pickle + bytes(start - 32 - len(pickle) + 8)


def test_what_is_in_place_has_a_buffer_that_can_be_changed(target, new_key):
    for pickled in (NONE, b"\x80\x05K\x01.", b"\x80\x05\x97\x98."):
        text = refused(target, sealed(HEAD + line("p", in_place(pickled), kind="in place"), 1))
        assert 'variable "p"' in text and "no buffer that can be changed" in text
    with shmvar.attach(new_key()) as segment:
        for kind, pickled in (("in place", b"\x80\x05\x97."), ("buffers", b"\x80\x05\x97\x98."), ("buffers", NONE)):
            data = sealed(HEAD + line("p", in_place(pickled), kind=kind), 1)
            assert segment.load(io.BytesIO(data)) == 1
            segment.check()


def test_two_values_of_one_variable_are_none(target, new_key):
    for index in (7, "seven"):
        twice = HEAD + line(index, NONE) + line(1, NONE) + line(index, b"K\x01.")
        assert "two values of one variable" in refused(target, sealed(twice, 3))
        with shmvar.attach(new_key()) as segment:
            assert segment.load(io.BytesIO(sealed(twice + b'{"gone": 0}\n', 2))) == 2
            assert segment[index] == 1
            # A queue may have the name of a variable, and as many items as it likes.
            item = json.dumps({"queue": index, "length": 2}).encode() + b"\n" + NONE + b"\n"
            assert segment.load(io.BytesIO(sealed(HEAD + line(index, NONE) + item + item, 1, 2))) == 1
