"""The data-only decoder against bombs: small streams that ask for much, each in a process with little memory."""

import os
import pickle
import resource
import struct
import subprocess
import sys

import pytest
from helpers.value_comparison import same

from shmvar._core import _decode_data_only as decode
from shmvar._errors import CorruptSegmentError


def put(index):
    return b"r" + struct.pack("<I", index)


def text(body):
    return b"X" + struct.pack("<I", len(body)) + body


def ints(numbers):
    return b"".join(pickle.dumps(n, 2)[2:-1] for n in numbers)


PRIME = 2**61 - 1
DEEP_LIST = b"]" * 10_001 + b"a" * 10_000 + b"."


def chain():
    """Lists nested from the outside in: the depth limit does not see them."""
    out = bytearray(b"]q\x00")
    for index in range(1, 300_000):
        out += b"]" + put(index) + b"a" + b"j" + struct.pack("<I", index)
    return bytes(out) + b"."


DEQUE = b"ccollections\ndeque\n"


def inside_out(make, wrap):
    """Deques nested from the outside in; `wrap` puts each into something first."""
    out = bytearray(DEQUE + b"q\x00)Rq\x02")
    for index in range(3, 300_000):
        out += make + put(index)
        if wrap:
            out += b"]j" + struct.pack("<I", index) + b"a"
        out += b"aj" + struct.pack("<I", index)
    return bytes(out) + b"."


def joined(chains, length):
    """Chains of deques, each with an empty list at its bottom, into which the next one is then put."""
    out, tops, bottoms = bytearray(DEQUE + b"q\x000"), [], []
    for chain in range(chains):
        top, bottom = 10 + 2 * chain, 11 + 2 * chain
        out += b"h\x00)R" * length + b"]" + put(bottom) + b"a" * length + put(top) + b"0"
        tops.append(b"j" + struct.pack("<I", top))
        bottoms.append(b"j" + struct.pack("<I", bottom))
    for above, below in zip(bottoms, tops[1:], strict=False):
        out += above + below + b"a0"
    return bytes(out) + tops[0] + b"."


def kind(letters, size, order=b"|", names=b"NN", alignment=b"K\x01"):
    """The opcodes of a numpy dtype."""
    state = b"(K\x03" + text(order) + b"N" + names + b"J" + struct.pack("<i", size) + alignment + b"K\x00tb"
    return b"cnumpy\ndtype\n" + text(letters) + b"\x89\x88\x87R" + state


BOOL = kind(b"b1", -1, alignment=b"J\xff\xff\xff\xff")


def record(fields, size):
    """The opcodes of a struct dtype; a field is name, opcodes, offset."""
    names = b"(" + b"".join(text(name) for name, _, _ in fields) + b"t"
    table = b"".join(text(name) + part + b"K" + bytes([at]) + b"\x86" for name, part, at in fields)
    return kind(b"V%d" % size, size, names=names + b"}(" + table + b"u")


def dtypes_doubled(levels):
    """A dtype of two fields at the same place, each such a dtype again."""
    out = BOOL + b"q\x000"
    for _ in range(levels):
        out += record([(b"a", b"h\x00", 0), (b"b", b"h\x00", 0)], 1) + b"q\x000"
    return out + b"h\x00"


def dtypes_nested(levels):
    out = kind(b"V1", 1) + b"q\x000"
    for _ in range(levels):
        out += record([(b"a", b"h\x00", 0)], 1) + b"q\x000"
    return out + b"h\x00"


def overlapping():
    part = record([(b"%d" % n, BOOL, 0) for n in range(5_000)], 1)
    return array(b"J" + struct.pack("<i", 5_000_000) + b"\x85", part, 5_000_000)


def array(shape, dtype=BOOL, size=0):
    buffer = b"\x96" + struct.pack("<Q", size) + bytes(size)
    return b"cnumpy._core.numeric\n_frombuffer\n(" + buffer + dtype + shape + text(b"C") + b"tR."


def uuids():
    return (b"h\x00)\x81}" + text(b"int") + ints([i * PRIME]) + b"sb" for i in range(1, 40_000))


BOMBS = {
    "marks": lambda: b"(" * 1_000_000,
    "marks and an end": lambda: b"N" + b"(" * 1_000_000 + b".",
    "a list appended to itself": lambda: b"]" + b"2a" * 500_000 + b".",
    "dup of tuples": lambda: b")" + b"2\x86" * 5_000 + b".",
    "a tuple whose hash takes 2**60 steps": lambda: b"})" + b"2\x86" * 60 + b"Ns.",
    "the same in a set": lambda: b"\x8f()" + b"2\x86" * 60 + b"\x90.",
    "the same through set(list)": lambda: b"cbuiltins\nset\n])" + b"2\x86" * 60 + b"a\x85R.",
    "a frozenset of such": lambda: b"()" + b"2\x86" * 60 + b"\x91.",
    "tuples 2,000 deep as a key": lambda: b"})" + b"\x85" * 2_000 + b"Ns.",
    "tuples a million deep": lambda: b")" + b"\x85" * 1_000_000 + b".",
    "lists a million deep": lambda: b"]" * 1_000_000 + b"a" * 999_999 + b".",
    "lists deep from the outside": chain,
    "frozensets deep": lambda: b"(" * 100_000 + b"N" + b"\x91" * 100_000 + b".",
    "a long list fetched often": lambda: b"]q\x00(" + b"N" * 100_000 + b"e(" + b"h\x00" * 100_000 + b"t.",
    "a long list made a set often": lambda: (
        b"cbuiltins\nset\nq\x01]q\x00(" + ints(range(100_000)) + b"e(" + b"h\x01h\x00\x85R" * 50_000 + b"t."
    ),
    # Each copy is dropped again: what counts is the time.
    "a long bytearray made bytes often": lambda: (
        b"cbuiltins\nbytes\nq\x01\x96"
        + struct.pack("<Q", 1 << 20)
        + bytes(1 << 20)
        + b"\x85q\x00"
        + b"h\x01h\x00R0" * 300
        + b"."
    ),
    "a long text made bytes often": lambda: (
        b"c_codecs\nencode\nq\x01"
        + text(b"a" * 1_000_000)
        + text(b"latin1")
        + b"\x86q\x00("
        + b"h\x01h\x00R" * 100_000
        + b"t."
    ),
    "long bytes made bytearrays often": lambda: (
        b"cbuiltins\nbytearray\nq\x01B"
        + struct.pack("<I", 1_000_000)
        + b"a" * 1_000_000
        + b"\x85q\x00("
        + b"h\x01h\x00R" * 100_000
        + b"t."
    ),
    "many arguments often": lambda: (
        b"cbuiltins\nset\nq\x01(" + b"N" * 100_000 + b"tq\x00(" + b"h\x01h\x00R" * 100_000 + b"t."
    ),
    "empty sets": lambda: b"(" + b"\x8f" * 2_000_000 + b"t.",
    "empty dicts": lambda: b"(" + b"}" * 3_000_000 + b"t.",
    "a far memo index": lambda: b"Nr\xff\xff\xff\xff.",
    "a memo index of a billion": lambda: b"N" + put(10**9) + b".",
    "bytes said to be long": lambda: b"\x8e" + struct.pack("<Q", 2**60) + b".",
    "a bytearray said to be long": lambda: b"\x96" + struct.pack("<Q", 2**40) + b".",
    "a str said to be long": lambda: b"\x8d" + struct.pack("<Q", 2**63) + b".",
    "an int said to be long": lambda: b"\x8b\xff\xff\xff\x7f.",
    "a long int": lambda: b"\x8b" + struct.pack("<I", 1_000_000) + b"\x01" * 1_000_000 + b".",
    "a long text int": lambda: b"L" + b"7" * 1_000_000 + b"L\n.",
    "ints that collide": lambda: b"\x8f(" + ints(i * PRIME for i in range(1, 200_000)) + b"\x90.",
    "dict keys that collide": lambda: b"}(" + b"".join(ints([i * PRIME]) + b"N" for i in range(1, 200_000)) + b"u.",
    "ints that collide through set(list)": lambda: (
        b"cbuiltins\nset\n](" + ints(i * PRIME for i in range(1, 200_000)) + b"e\x85R."
    ),
    "two long equal keys": lambda: (
        text(b"a" * 1_000_000) + b"q\x000" + text(b"a" * 1_000_000) + b"q\x010}h\x00Ns(" + b"h\x01N" * 300_000 + b"u."
    ),
    "a heavy key often": lambda: b")" + b"2\x86" * 12 + b"q\x000}(" + b"h\x00N" * 1_000_000 + b"u.",
    "more values than memory": lambda: b"N" * 60_000_000,
    "more marks than memory": lambda: b"(" * 150_000_000,
    "deques a million deep": lambda: DEQUE + b"q\x01" + b"h\x01)R" * 1_000_000 + b"a" * 999_999 + b".",
    "deques deep from the outside": lambda: inside_out(b"h\x00)R", b""),
    "deques deep from the outside, in lists": lambda: inside_out(b"h\x00)R", b"]h\x01a"),
    "chains of deques, joined by lists that were in place": lambda: joined(40, 1_900),
    "a Decimal of a million digits": lambda: b"cdecimal\nDecimal\n" + text(b"7" * 1_000_000) + b"\x85R.",
    "Decimals that collide": lambda: (
        b"cdecimal\nDecimal\nq\x00\x8f("
        + b"".join(b"h\x00" + text(b"%d" % (i * PRIME)) + b"\x85R" for i in range(1, 60_000))
        + b"\x90."
    ),
    "Decimals and a wide int that collide": lambda: (
        b"cdecimal\nDecimal\nq\x00\x8f("
        + b"".join(b"h\x00" + text(b"%d" % (i * PRIME)) + b"\x85R" for i in range(1, 2_000))
        + ints([PRIME << 400_000 << (-400_000 % 61)])
        + b"\x90."
    ),
    "wide ints and Fractions": lambda: ints([1 << 500_000]) + b"q\x000cfractions\nFraction\nh\x00h\x00\x86R.",
    "Fractions made often": lambda: (
        ints([1 << 16_000])
        + b"q\x000"
        + ints([(1 << 16_000) - 1])
        + b"q\x01"
        + b"0cfractions\nFraction\nq\x02("
        + b"h\x02h\x00h\x01\x86R" * 300_000
        + b"t."
    ),
    "ranges of wide ints": lambda: b"cbuiltins\nrange\n" + ints([0, 1 << 500_000, 3]) + b"\x87R.",
    "ranges made often": lambda: (
        ints([1 << 16_000])
        + b"q\x000"
        + ints([(1 << 8_000) - 1])
        + b"q\x01"
        + b"0cbuiltins\nrange\nq\x02("
        + b"h\x02K\x00h\x00h\x01\x87R" * 1_000_000
        + b"t."
    ),
    "UUIDs that collide": lambda: b"cuuid\nUUID\nq\x00\x8f(" + b"".join(uuids()) + b"\x90.",
    "empty deques": lambda: b"(" + DEQUE + b"q\x00" + b"h\x00)R" * 1_000_000 + b"t.",
    "a path of a million parts": lambda: b"cpathlib\nPurePosixPath\n(" + text(b"a") * 1_000_000 + b"tR.",
    "a long path": lambda: b"cpathlib\nPurePosixPath\n" + text(b"a/" * 500_000) + b"\x85R.",
    "a path of 900 parts often": lambda: (
        b"cpathlib\nPurePosixPath\nq\x00(" + text(b"a") * 900 + b"tq\x01(" + b"h\x00h\x01R" * 200_000 + b"t."
    ),
    "a struct of 2**31 fields": lambda: dtypes_doubled(31) + b".",
    "structs 100 deep": lambda: dtypes_nested(100) + b".",
    "fields that overlap, over a long array": lambda: overlapping(),
    "long bytes made arrays often": lambda: (
        b"carray\n_array_reconstructor\nq\x00(carray\narray\nX\x01\x00\x00\x00dK\x10B"
        + struct.pack("<I", 1_000_000)
        + bytes(1_000_000)
        + b"tq\x01("
        + b"h\x00h\x01R" * 100_000
        + b"t."
    ),
    "a long name": lambda: b"c" + b"a" * 1_000_000 + b"\n" + b"b" * 1_000_000 + b"\n.",
}

CHILD = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
from shmvar._core import _decode_data_only
from shmvar._errors import Error
data = sys.stdin.buffer.read()
try:
    value = _decode_data_only(data)
except MemoryError:
    print("MemoryError")
except Error as error:
    assert len(str(error)) < 400, len(str(error))
    print(type(error).__name__, error)
else:
    print("decoded", type(value).__name__)
    del value
print("alive")
"""

# Legal, if odd: the result is in proportion to the pickle.
HARMLESS = {
    "a list appended to itself",
    "empty dicts",
    "a long list fetched often",
    "lists deep from the outside",
    "dup of tuples",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_ends_within_a_gigabyte_and_a_minute(name):
    ran = subprocess.run(
        [sys.executable, "-c", CHILD],
        input=BOMBS[name](),
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        timeout=300,
        check=False,
    )
    lines = ran.stdout.decode().splitlines()
    assert ran.returncode == 0 and lines[-1] == "alive", (ran.returncode, lines, ran.stderr.decode()[-500:])
    assert (lines[0].split()[0] == "decoded") == (name in HARMLESS), lines


def test_a_nest_of_10_000_decodes_and_is_freed():
    result = decode(DEEP_LIST)
    assert same(result, pickle.loads(DEEP_LIST))
    del result


def test_a_failed_decode_frees_what_it_built():
    body = b"(" + b"]q\x00(" * 100 + (text(b"x" * 10_000) + b"q\x01") * 20
    for _ in range(50):
        with pytest.raises(CorruptSegmentError):
            decode(body)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(2_000):
        with pytest.raises(CorruptSegmentError):
            decode(body)
    # 2,000 times 200 kB would be 400 MB.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000
