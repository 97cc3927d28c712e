"""Large values go from the memory where they are to the memory where they stay, and nothing of that shows."""

import array
import os
import resource
import signal
import threading

import helpers
import numpy
import pytest

import shmvar
from shmvar._remote import blobs, wire

redis = pytest.importorskip("redis", reason="needs redis-py: shmvar[valkey]")

MIB = 1 << 20
STRUCTURED = numpy.zeros(5000, [("a", "i4"), ("b", "f8")])

LARGE = {
    "bytes": bytes(range(256)) * (9 << 12),
    "bytes of one chunk": bytes(4 * MIB - 200),
    "bytearray": bytearray(b"x" * 5_000_000),
    "memoryview": memoryview(b"y" * 50_000),
    "array": array.array("d", range(9000)),
    "text": "ключ" * 500_000,
    "list": list(range(90_000)),
    "int": numpy.arange(1_500_000),
    "bool": numpy.zeros(20_000, bool),
    "date": numpy.arange(9000).astype("M8[s]"),
    "structured": STRUCTURED,
    "structured field": STRUCTURED["b"],
    "fortran": numpy.asfortranarray(numpy.arange(600_000.0).reshape(600, 1000)),
    "turned": numpy.arange(60_000).reshape(3, 200, 100).transpose(1, 0, 2),
    "every other": numpy.arange(100_000)[::2],
    "read-only": numpy.frombuffer(bytes(range(200)) * 500, "u1"),
    "big-endian": numpy.arange(10_000, dtype=">i4"),
    "many": [numpy.full(2500 + number, number) for number in range(300)],
    "mixed": {
        "a": bytes(40_000),
        "b": [numpy.arange(700_000), "x" * 30_000],
        "c": numpy.arange(3),
        "d": b"z" * 5 * MIB,
    },
    "the same twice": [numpy.arange(5000)] * 2,
}


def of_ints(value):
    return isinstance(value, list) and isinstance(value[0], int)


def same(got, value):
    assert type(got) is type(value)
    if isinstance(value, (str, bytes, bytearray, array.array)) or of_ints(value):
        assert got == value
        return
    numpy.testing.assert_equal(got, value)
    if isinstance(value, numpy.ndarray):
        assert got.dtype == value.dtype and got.flags.writeable


@pytest.fixture
def raw_only(monkeypatch):
    """Fails where chunks are asked for through the library."""

    def through_library(*arguments):
        raise AssertionError("through the library")

    monkeypatch.setattr(blobs, "_through_library", through_library)


@pytest.mark.parametrize("name", LARGE)
def test_a_large_value_of_any_kind_comes_back(key, raw_only, name):
    value = LARGE[name]
    for trust in (None, True):
        with shmvar.attach(key, trust=trust) as segment:
            segment["v"] = value
            assert segment.check().used == segment.stat("v").size
            for got in (segment["v"], segment.get_many(["v"])["v"]):
                same(got, value) if name != "memoryview" else numpy.testing.assert_equal(bytes(got), bytes(value))
            view = segment.view("v")
            if isinstance(value, numpy.ndarray):
                assert not view.flags.writeable
                numpy.testing.assert_equal(view, value)
            segment.put("w", segment["v"])
            assert segment.setdefault("s", value) is value
            segment.clear()


@pytest.mark.parametrize("name", ["bytes", "list", "mixed", "turned"])
def test_it_comes_through_the_library_where_it_cannot_be_read_from_the_socket(key, monkeypatch, name):
    def receive(*arguments):
        raise wire.Unexpected

    monkeypatch.setattr(wire, "receive", receive)
    for trust in (None, True):
        with shmvar.attach(key, trust=trust) as segment:
            segment["v"] = LARGE[name]
            same(segment["v"], LARGE[name])
            same(segment.get_many(["v"])["v"], LARGE[name])


@pytest.mark.parametrize("parser", ["PythonParser", "_RESP2Parser", "HiredisParser", "_HiredisParser"])
def test_the_socket_is_read_with_each_parser_of_the_library(server, new_key, raw_only, monkeypatch, parser):
    """A version of the library without what `wire` needs would go the long way: this test must tell."""
    found = getattr(redis.connection, parser, None)
    if found is None:
        pytest.skip(f"redis-py {redis.__version__} has no {parser}")
    monkeypatch.setattr(redis.connection, "DefaultParser", found)
    segment = shmvar.attach(new_key().replace("#", "?timeout=9.5#"))
    value = numpy.arange(3 * MIB)
    segment["v"] = value
    for _ in range(3):
        numpy.testing.assert_equal(segment["v"], value)
    assert len(segment._link._idle) == 1 and not segment._link._busy


DAMAGE = {
    "missing": lambda server, name: server.call("DEL", name),
    "shorter": lambda server, name: server.call("SET", name, b"x" * 100),
    "longer": lambda server, name: server.call("SET", name, bytes(4 * MIB + 1)),
    "empty": lambda server, name: server.call("SET", name, b""),
    "another type": lambda server, name: (server.call("DEL", name), server.call("LPUSH", name, "x")),
}


@pytest.mark.parametrize("number", [0, 1, 3])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_chunk_that_is_not_what_it_should_be_is_an_error_and_the_link_goes_on(server, key, damage, number):
    segment = shmvar.attach(key)
    segment.put_many({"v": numpy.arange(1_900_000), "p": [*range(2_000), "x" * 14 * MIB], "n": 5})
    for name in server.call("KEYS", segment._requests.data + b"b:*"):
        if name.endswith(b":%d" % number):
            DAMAGE[damage](server, name)
    for index in "vp":
        for call in (lambda index=index: segment[index], lambda index=index: segment.get_many(["n", index])):
            with helpers.promptly(), pytest.raises((shmvar.CorruptSegmentError, shmvar.IncompatibleSegmentError)):
                call()
            assert segment["n"] == 5 and not segment._link._busy
    segment.clear()


def test_a_connection_that_ends_in_the_middle_is_replaced(proxy, server, key):
    url = f"valkey://127.0.0.1:{proxy.port}/#{key.partition('#')[2]}"
    value = numpy.arange(4 * MIB)
    with shmvar.attach(url) as segment:
        segment["v"] = value
        fill, cuts = wire.Stream.fill, []

        def cut(self, view):
            if not cuts and self.position > 5 * MIB:
                cuts.append(proxy.cut())
            # In small steps, so that the cut is within a chunk.
            for first in range(0, len(view), MIB):
                fill(self, view[first : first + MIB])
                if not cuts and self.position > 5 * MIB:
                    cuts.append(proxy.cut())

        wire.Stream.fill = cut
        try:
            numpy.testing.assert_equal(segment["v"], value)
        finally:
            wire.Stream.fill = fill
        assert cuts


def test_a_fork_in_the_middle_leaves_the_answer_to_the_parent(key, monkeypatch):
    """As a signal handler that forks does it: the read goes on in both, on a connection of its own in the child."""
    segment = shmvar.attach(key)
    value = numpy.arange(4 * MIB)
    segment["v"] = value
    fill, children = wire.Stream.fill, []

    def forking(self, view):
        fill(self, view[: 6 * MIB])
        if not children and self.position > 5 * MIB:
            children.append(os.fork())
        fill(self, view[6 * MIB :])

    monkeypatch.setattr(wire.Stream, "fill", forking)
    whole = False
    try:
        whole = bool((segment["v"] == value).all()) and segment["v"][-1] == value[-1]
    finally:
        if children == [0]:
            os._exit(0 if whole else 1)
    assert whole and children
    assert helpers.reap(children[0]) == 0
    assert segment["v"][-1] == value[-1]


def test_an_exception_of_a_signal_handler_in_the_middle_leaves_no_half_an_answer(server, key):
    class Own(Exception):
        pass

    def handler(*_):
        raise Own

    segment = shmvar.attach(key)
    value = numpy.arange(4 * MIB)
    segment.put_many({"v": value, "n": 5})
    fill = wire.Stream.fill
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        for kind in (KeyboardInterrupt, Own, TimeoutError, OSError):

            def interrupted(self, view, kind=kind):
                fill(self, view[:100])
                if self.position > 4096:
                    if kind is Own:
                        signal.raise_signal(signal.SIGUSR1)
                    callers_own(kind)
                fill(self, view[100:])

            wire.Stream.fill = interrupted
            with pytest.raises(kind):
                segment["v"]
            wire.Stream.fill = fill
            assert segment["n"] == 5 and not segment._link._busy
            numpy.testing.assert_equal(segment["v"], value)
    finally:
        wire.Stream.fill = fill
        signal.signal(signal.SIGUSR1, before)


def callers_own(kind):
    """Raises in code that is not the library's: as a signal handler of the caller does."""
    raise kind("the caller's own")


def test_a_value_that_is_replaced_at_each_try_is_read_all_the_same(key, monkeypatch):
    """A reader that is slower than the writers: the value is another one whenever its first chunk has arrived."""
    segment, other = shmvar.attach(key), shmvar.attach(key)
    fill, tries = wire.Stream.fill, []

    def replaced(self, view):
        if self.position == 0:
            tries.append(1)
            other["v"] = numpy.full(3 * MIB, len(tries))
        fill(self, view)

    segment["v"] = numpy.full(3 * MIB, 0)
    monkeypatch.setattr(wire.Stream, "fill", replaced)
    for call in (lambda: segment["v"], lambda: segment.get_many(["v"])["v"]):
        tries.clear()
        with helpers.promptly():
            got = call()
        assert len(tries) == 4 and (got == 3).all()
    tries.clear()
    assert segment.stat("v").type == "numpy.ndarray" and len(tries) == 4


def test_what_drips_in_is_given_up_when_the_time_is_over(key, monkeypatch):
    segment, ways = shmvar.attach(key), []
    segment["v"] = value = numpy.arange(2 * MIB)
    library = blobs._through_library
    monkeypatch.setattr(blobs, "_through_library", lambda *arguments: ways.append(1) or library(*arguments))
    monkeypatch.setattr(wire, "now", lambda: float("inf"))
    numpy.testing.assert_equal(segment["v"], value)
    assert ways


def test_who_has_a_bytearray_may_resize_it_where_the_put_failed(new_key):
    segment = shmvar.attach(new_key(), MIB)
    value = bytearray(2 * MIB)
    with pytest.raises(shmvar.SegmentFullError):
        try:
            segment["v"] = value
        except shmvar.SegmentFullError:
            value.append(1)
            raise


def test_threads_share_a_handle_for_large_values(key):
    segment = shmvar.attach(key)
    values = {name: numpy.full(MIB + number, number) for number, name in enumerate("abcd")}
    segment.put_many(values)
    failures = []

    def read(name):
        try:
            for _ in range(4):
                numpy.testing.assert_equal(segment[name], values[name])
                segment[name] = values[name]
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=read, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not failures and not segment._link._busy
    segment.check()


PEAK = """
import numpy
s = shmvar.attach(key, trust=True)
s["small"] = numpy.arange(100_000); s["small"]
value = numpy.ones(6 << 20) if what != "bytes" else b"x" * (48 << 20)
def peak(): return int(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0]) >> 10
before = peak()
if what == "get":
    s = None
    s = shmvar.attach(key, trust=True)
    del value
    got = s["v"]
    assert got.nbytes == 48 << 20
else:
    s["v"] = value
print(peak() - before, flush=True)
"""


@pytest.mark.parametrize("what", ["array", "bytes", "get"])
def test_a_large_value_needs_no_memory_for_a_copy(key, what):
    with shmvar.attach(key, 2 << 30) as segment:
        segment["v"] = numpy.ones(6 << 20)
    out = helpers.run(f"what = {what!r}\n" + PEAK, key)
    # 48 MiB: a put needs none of them again. Before a get the process has had as much already, and gave it back.
    assert int(out.stdout) < 24, out


def test_a_stub_that_claims_much_takes_no_memory(server, new_key):
    segment = shmvar.attach(new_key())
    segment["big"] = bytes(9 * MIB)
    record = segment._open.call(b"HGET", segment._variables, b"sbig")
    blob = record[10:18]
    server.call("HSET", segment._requests.prefix, "size", 1 << 59)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for total in (10 * MIB, 1 << 33, 200 << 30, 1 << 50, 1 << 58):
        for kind in (b"p", b"o"):
            stub = kind + blob + (-(-total // (4 * MIB)) % (1 << 32)).to_bytes(4, "big") + total.to_bytes(8, "big")
            server.call("HSET", segment._variables, "sbig", b"b" + bytes(8) + stub)
            for call in (lambda: segment["big"], lambda: segment.get_many(["big"]), lambda: segment.stat("big")):
                with helpers.promptly(), pytest.raises(shmvar.CorruptSegmentError):
                    call()
    # Two chunks of four are really there.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 128 << 10
    server.call("DEL", segment._requests.prefix)
