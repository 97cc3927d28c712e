"""The data-only decoder of untrusted values: agrees with pickle on plain data and refuses everything else."""

import collections
import datetime
import functools
import math
import os
import pathlib
import pickle
import pickletools
import sys
import zoneinfo

import pytest
from helpers.data_only_values import DUMPS, PROTOCOLS, agree_or_refuse, edits, mutated, plain
from helpers.value_comparison import same
from hypothesis import given, settings
from hypothesis import strategies as st

from shmvar import CorruptSegmentError, UntrustedValueError
from shmvar._core import _decode_data_only as decode


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("dumps", DUMPS)
@given(value=plain)
@settings(max_examples=300)
def test_any_plain_value_comes_back_as_pickle_has_it(dumps, protocol, value):
    data = dumps(value, protocol)
    result = decode(data)
    assert same(result, pickle.loads(data))
    assert same(result, value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("dumps", DUMPS)
@pytest.mark.parametrize(
    "value",
    [
        None,
        False,
        b"",
        "",
        b"\x00",
        "a\x00",
        "\U0001f600",
        "\ud800",
        math.nan,
        -0.0,
        math.inf,
        complex(-0.0, math.nan),
        0,
        -1,
        255,
        256,
        65535,
        65536,
        2**31 - 1,
        -(2**31),
        2**31,
        2**63 - 1,
        2**63,
        -(2**63),
        -(2**63) - 1,
        1 << 500_000,
        -(1 << 500_000),
        (),
        (1,),
        (1, 2),
        (1, 2, 3),
        (1, 2, 3, 4),
        [],
        {},
        set(),
        frozenset(),
        bytearray(),
        bytearray(b"a" * 300),
        b"a" * 300,
        b"\xff" * 100_000,
        "é" * 100_000,
        list(range(5000)),
        dict.fromkeys(range(5000)),
        set(range(5000)),
        frozenset(range(5000)),
        {(1, frozenset([(2, "x")])): {b"k": {1.5}}},
        {1: "a", True: "b", 1.0: "c"},  # noqa: F601
        [set() for _ in range(20_000)],
        [{} for _ in range(20_000)],
        [[] for _ in range(20_000)],
        [{i: i} for i in range(20_000)],
        [(i,) for i in range(20_000)],
    ],
    ids=lambda value: type(value).__name__,
)
def test_edges_come_back_as_pickle_has_them(dumps, protocol, value):
    assert same(decode(dumps(value, protocol)), value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("dumps", DUMPS)
def test_recursion_and_sharing_are_kept(dumps, protocol):
    ring = []
    ring.append(ring)
    table = {}
    table["self"] = table
    inner = []
    knot = (inner, 1, 2, 3, inner)
    inner.append(knot)
    short = ([],)
    short[0].append(short)
    word = "shared" * 3
    for value in [ring, table, knot, short, [ring, table, knot, short, ring, word, word, {word: word}]]:
        data = dumps(value, protocol)
        result = decode(data)
        assert same(result, pickle.loads(data))
        assert same(result, value)
    again = decode(dumps([word, word], protocol))
    assert again[0] is again[1]


def test_values_without_a_memo_and_by_other_opcodes_decode():
    # LIST, DICT, POP, POP_MARK, DUP and protocol 0's empty starts are rare but legal.
    for data in [b"(NNl.", b"(NNd.", b"NN0.", b"N(NN1.", b"N(0.", b"(N\x91.", b"](2NNe.", b"K\x01.", b"N(.."]:
        try:
            want = pickle.loads(data)
        except Exception:
            with pytest.raises(CorruptSegmentError):
                decode(data)
        else:
            assert same(decode(data), want), data


def test_bytes_after_the_end_are_ignored_as_pickle_does():
    assert decode(pickle.dumps(5) + b"junk") == 5


# --- what is refused


class Plain:
    pass


class Named(collections.namedtuple("Named", "a b")):
    pass


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("value", "name"),
    [
        (Plain(), "Plain"),
        ([Plain()], "Plain"),
        (Named(1, 2), "Named"),
        (range, "builtins.range"),
        (set, "builtins.set"),
        ([complex], "builtins.complex"),
        (print, "builtins.print"),
        (os.system, "system"),
        (collections.Counter("a"), "collections.Counter"),
        (collections.defaultdict(list), "collections.defaultdict"),
        (functools.partial(int), "functools.partial"),
        (datetime.time(1, tzinfo=zoneinfo.ZoneInfo("UTC")), "ZoneInfo"),
        (datetime.datetime, "datetime.datetime"),
        ([pathlib.PurePath], "pathlib.PurePath"),
        (ValueError("x"), "ValueError"),
        (slice(1), "builtins.slice"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_needs_code_is_refused_by_name(protocol, value, name):
    with pytest.raises(UntrustedValueError, match=name) as caught:
        decode(pickle.dumps(value, protocol))
    assert isinstance(caught.value, pickle.UnpicklingError)


def test_nothing_runs_or_is_imported(tmp_path, monkeypatch):
    (tmp_path / "imported_by_a_pickle.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    mark = tmp_path / "ran"
    command = b"touch %s" % os.fsencode(mark)
    streams = [
        b"cimported_by_a_pickle\nf\n.",
        b"cos\nsystem\n(C" + bytes([len(command)]) + command + b"tR.",
        b"(C" + bytes([len(command)]) + command + b"ios\nsystem\n.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93C" + bytes([len(command)]) + command + b"\x85R.",
        b"c__builtin__\neval\n(X\x01\x00\x00\x001tR.",
        b"\x80\x03cbuiltins\nbytearray\nN\x85R.",
        b"cbuiltins\nset\n(X\x03\x00\x00\x00abctR.",
        b"cbuiltins\ncomplex\nX\x02\x00\x00\x001j\x85R.",
        b"c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00hex\x86R.",
        b"cbuiltins\nset\n)\x81.",
        b"cbuiltins\nset\n}b.",
        b"N}b.",
        b"Pid\n.",
        b"NQ.",
        b"\x82\x01.",
        b"\x80\x05\x97.",
        b"\x80\x05C\x01a\x98.",
    ]
    for data in streams:
        with pytest.raises(UntrustedValueError):
            decode(data)
    assert not mark.exists()
    assert "imported_by_a_pickle" not in sys.modules


def test_python_2_names_count_only_in_protocol_2():
    assert decode(b"\x80\x02c__builtin__\nset\n)R.") == set()
    with pytest.raises(UntrustedValueError, match=r"__builtin__\.set"):
        decode(b"\x80\x03c__builtin__\nset\n)R.")


def test_a_newer_protocol_is_said_to_be_newer():
    with pytest.raises(CorruptSegmentError, match="protocol 6"):
        decode(b"\x80\x06N.")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"N",
        b".",
        b"\x80",
        b"(.",
        b"I1\n.",
        b"L1L\n.",
        b"h\x00.",
        b"\xff.",
        b"Na.",
        b"]Ns.",
        b"}NNa.",
        b"}(Nu.",
        b"}]Ns.",
        b"}]\x85Ns.",
        b"\x8f(]\x90.",
        b"(}\x91.",
        b"\x8f(\x8f\x90.",
        b"NN(NNe.",
        b"NNR.",
        b"NN\x93.",
        b"\x8c\x01\xff.",
        b"\x8c\x02\xc3(.",
        b"\x80\x04\x95\xff\x00\x00\x00\x00\x00\x00\x00N.",
        b"cbuiltins\nset\n]]a\x85R.",
        b"cbuiltins\nset\nNR.",
        b"cbuiltins\nbytearray\nX\x02\x00\x00\x00\xc4\x80X\x07\x00\x00\x00latin-1\x86R.",
    ],
)
def test_a_malformed_stream_is_damaged_with_its_place(data):
    with pytest.raises(CorruptSegmentError, match="at byte"):
        decode(data)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_start_of_a_pickle_is_damaged(protocol):
    data = pickle.dumps([1, "x", {2: (b"y", 2**70, 1.5)}, {3}, bytearray(b"z"), 1j, b"\xff"], protocol)
    for cut in range(len(data)):
        with pytest.raises(CorruptSegmentError):
            decode(data[:cut])


# --- mutations: the same as pickle, or an error


@given(value=plain, protocol=st.sampled_from(PROTOCOLS), dumps=st.sampled_from(DUMPS), edits=edits)
@settings(max_examples=2000)
def test_a_mutated_pickle_gives_what_pickle_gives_or_an_error(value, protocol, dumps, edits):
    agree_or_refuse(mutated(dumps(value, protocol), edits))


OPCODES = b"(.012NKJ]})GX\x8f\x90\x91\x93\x81\x85\x86\x87tldaesubRqh\x94\x8c\x8a\x88\x89\x00\x00\x01\x02"


@given(st.lists(st.sampled_from(OPCODES), max_size=60).map(lambda ops: bytes(ops) + b"."))
@settings(max_examples=2000)
def test_opcode_soup_gives_what_pickle_gives_or_an_error(data):
    agree_or_refuse(data)


def test_an_optimized_pickle_decodes():
    value = [1, "a", {"k": (1, 2)}, {3}, bytearray(b"z")]
    for protocol in PROTOCOLS:
        assert same(decode(pickletools.optimize(pickle.dumps(value, protocol))), value)
