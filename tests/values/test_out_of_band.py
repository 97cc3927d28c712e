"""Classes that pickle their buffers out of band: from 16 KiB on they are rebuilt from `memoryview`s."""

import gc
import pickle

import helpers
import pytest

import shmvar

KIB = 1024


class Document:
    """Keeps the very objects that it is rebuilt from."""

    def __init__(self, *buffers):
        self.buffers = buffers

    def __reduce_ex__(self, protocol):
        return Document, tuple(pickle.PickleBuffer(buffer) for buffer in self.buffers)


def pattern(size):
    return bytes(range(251)) * (size // 251) + bytes(range(size % 251))


def is_like_bytes(buffer, expected):
    """Does everything that code written for `bytes` and `memoryview` does with a buffer."""
    size = len(expected)
    assert len(buffer) == buffer.nbytes == size and (buffer.format, buffer.itemsize, buffer.shape) == ("B", 1, (size,))
    assert buffer[0] == expected[0] and buffer[-1] == expected[-1] and bytes(buffer[5:9]) == expected[5:9]
    assert buffer == expected and bytes(buffer) == buffer.tobytes() == b"".join([buffer]) == expected
    assert memoryview(buffer).cast("B")[size // 2] == expected[size // 2] and next(iter(buffer)) == expected[0]


EDGES = [16 * KIB, 16 * KIB + 1, 64 * KIB, 512 * KIB - 1, 512 * KIB, 512 * KIB + 1, 1000 * KIB]
KINDS = [bytearray, bytes, lambda data: memoryview(data), lambda data: memoryview(bytearray(data))]


@pytest.mark.parametrize("kind", KINDS, ids=["bytearray", "bytes", "read-only view", "view"])
@pytest.mark.parametrize("size", EDGES)
def test_a_class_is_rebuilt_from_memoryviews_that_may_be_written_or_are_of_a_view(big, size, kind):
    data = pattern(size)
    big[1] = Document(kind(data))
    own, view = big[1].buffers[0], big.view(1).buffers[0]
    for buffer in (own, view, big.get_many([1])[1].buffers[0]):
        assert type(buffer) is memoryview
        is_like_bytes(buffer, data)
    assert view.readonly
    with pytest.raises(TypeError, match="read-only"):
        view[0] = 1
    # pickle itself makes read-only again what was read-only.
    assert own.readonly == memoryview(kind(b"")).readonly
    if not own.readonly:
        own[:2] = b"\xff\xff"
        assert bytes(own[:3]) == b"\xff\xff" + data[2:3]
    assert view == data and big[1].buffers[0] == data


@pytest.mark.parametrize("size", [1, 4_000, 16 * KIB - 1])
def test_a_shorter_buffer_comes_as_pickle_has_it_within_the_stream(big, size):
    data = pattern(size)
    big[1] = Document(bytearray(data), data)
    for value in (big[1], big.view(1)):
        assert [type(buffer) for buffer in value.buffers] == [bytearray, bytes]
        assert value.buffers == (data, data)


@pytest.mark.parametrize("each", [20 * KIB, 300 * KIB])
def test_several_buffers_of_one_value_are_each_of_their_own_length_and_kind(big, each):
    parts = [pattern(each + n)[n:] for n in range(9)]
    kinds = [bytes if n % 3 == 0 else bytearray for n in range(9)]
    big[1] = [Document(*(kind(part) for kind, part in zip(kinds, parts, strict=True))), Document(bytearray(parts[0]))]
    for value, read_only in ((big[1], False), (big.view(1), True)):
        buffers = [*value[0].buffers, *value[1].buffers]
        assert len(buffers) == 10
        for buffer, part, kind in zip(buffers, [*parts, parts[0]], [*kinds, bytearray], strict=True):
            is_like_bytes(buffer, part)
            assert buffer.readonly == (read_only or kind is bytes)
    first, second = big[1][0].buffers[1:3]
    first[:4] = b"\0\1\2\3"
    assert second == parts[2]


def test_the_same_buffer_twice_in_a_value(big):
    data = bytearray(pattern(40 * KIB))
    big[1] = Document(data, data)
    one, other = big[1].buffers
    assert one == other == data
    one[0] ^= 0xFF
    assert other == data


@pytest.mark.parametrize("size", [20 * KIB, 300 * KIB])
@pytest.mark.parametrize("end", ["replaced", "removed", "destroyed", "detached"])
def test_a_memoryview_outlives_the_variable_the_segment_and_the_handle(key, size, end):
    data = pattern(size)
    segment = shmvar.attach(key)
    segment[1] = Document(bytearray(data))
    own, view = segment[1].buffers[0], segment.view(1).buffers[0]
    parts = [view[10:20], memoryview(own)[10:20]]
    match end:
        case "replaced":
            segment[1] = Document(bytearray(size))
        case "removed":
            segment.clear()
            segment[2] = bytearray(b"\xff" * size)
        case "destroyed":
            segment.destroy()
        case "detached":
            segment.detach()
    del segment
    gc.collect()
    with shmvar.attach(key) as other:
        other[3] = bytearray(b"\xfe" * size)
        own[0] = 255
        assert view == data and own[1:] == data[1:]
        own.release()
        view.release()
        assert parts[0] == parts[1] == data[10:20]


def test_what_a_memoryview_holds_goes_with_the_last_of_its_slices(big):
    big[1] = Document(bytearray(pattern(2_000_000)))
    part = big.view(1).buffers[0][100:200]
    big[1] = 0
    gc.collect()
    assert big.info().held >= 2_000_000 and part == pattern(200)[100:]
    del part
    gc.collect()
    big.trim()
    assert big.info().held == 0


@pytest.mark.parametrize("size", [20 * KIB, 300 * KIB])
def test_without_trust_buffers_in_a_value_are_memoryviews_too(key, size):
    data = pattern(size)
    value = {"a": [pickle.PickleBuffer(bytearray(data)), pickle.PickleBuffer(data)], "b": bytearray(data)}
    with shmvar.attach(key) as mine, shmvar.attach(key, trust=False) as plain:
        mine[1] = value
        for segment in (mine, plain):
            for got, read_only in ((segment[1], False), (segment.view(1), True)):
                first, second = got["a"]
                assert type(first) is type(second) is memoryview and type(got["b"]) is bytearray
                is_like_bytes(first, data)
                is_like_bytes(second, data)
                assert (first.readonly, second.readonly) == (read_only, True)
                assert got["b"] == data
                if not read_only:
                    first[0] = 77
                    assert first[0] == 77
            assert segment[1]["a"][0] == data
        plain[2] = Document(bytearray(data))
        with pytest.raises(shmvar.UntrustedValueError, match="Document"):
            plain[2]


def test_a_bare_pickle_buffer_is_a_memoryview(big):
    for size in (20 * KIB, 300 * KIB):
        big[1] = pickle.PickleBuffer(bytearray(pattern(size)))
        assert type(big[1]) is type(big.view(1)) is memoryview
        assert big[1] == big.view(1) == pattern(size) and big.view(1).readonly and not big[1].readonly


def test_through_a_read_only_handle_they_are_memoryviews_of_copies(key):
    with shmvar.attach(key) as segment, shmvar.attach(key, readonly=True) as reader:
        for size in (20 * KIB, 300 * KIB):
            segment[1] = Document(bytearray(pattern(size)))
            own, view = reader[1].buffers[0], reader.view(1).buffers[0]
            for buffer in (own, view):
                is_like_bytes(buffer, pattern(size))
            assert view.readonly and not own.readonly


def test_no_class_of_the_package_is_what_a_value_is_made_of(key):
    """The class of a buffer, which shows in errors and in `.obj`, is no part of a value."""
    code = """
    import pickle
    seen = []
    class Document:
        def __init__(self, buffer): seen.append(type(buffer).__module__)
        def __reduce_ex__(self, protocol): return Document, (pickle.PickleBuffer(bytes(size)),)
    with shmvar.attach(key) as segment:
        for size in (10, 20_000, 300_000, 3_000_000):
            segment[1] = Document(b"")
            segment[1], segment.view(1), segment.pop(1)
        print(*set(seen))
    """
    assert helpers.run(code, key).stdout.split() == ["builtins"]
