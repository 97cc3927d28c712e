"""Untrusted values of allowed types that no pickler writes: each is a typed error."""

import uuid

import numpy as np
import pytest
from helpers.array_opcodes import BOOL, I8, INT, dtype, over

from shmvar import CorruptSegmentError, UntrustedValueError
from shmvar._core import _decode_data_only as decode

TEXT = dtype(b"U1", b"(K\x03X\x01\x00\x00\x00<NNNK\x04K\x04K\x08tb")
LARGE = b"\x8a\x08" + (2**62).to_bytes(8, "little")


def struct(fields, size, extra=b"", sub=b"N"):
    """The opcodes of a dtype of fields; each field is a name and its opcodes."""
    names = b"(" + b"".join(b"X\x01\x00\x00\x00" + name for name, _ in fields) + b"t" if fields else b"N"
    table = b"}(" + b"".join(b"X\x01\x00\x00\x00" + name + field for name, field in fields) + extra + b"u"
    number = str(size).encode()
    state = b"(K\x03X\x01\x00\x00\x00|" + sub + names + (table if fields else b"N")
    alignment = b"K\x01" if sub == b"N" else b"K\x08"
    return dtype(b"V" + number, state + b"J" + size.to_bytes(4, "little", signed=True) + alignment + b"K\x00tb")


HOSTILE = {
    "a shape beyond the buffer": over(bytes(8), I8, b"K\x02\x85"),
    "a shape short of the buffer": over(bytes(16), I8, b"K\x01\x85"),
    "a shape that overflows to 0": over(b"", I8, LARGE + LARGE + b"\x86"),
    "a shape that overflows to 8": over(bytes(8), I8, LARGE + b"K\x04\x86"),
    "an empty array of giant axes": over(b"", I8, b"K\x00" + LARGE + LARGE + b"\x87"),
    "a negative dimension": over(bytes(8), I8, b"J\xff\xff\xff\xff\x85"),
    "a bool as a dimension": over(bytes(8), I8, b"\x88\x85"),
    "a list as a shape": over(bytes(8), I8, b"]K\x01a"),
    "65 dimensions": over(bytes(8), I8, b"(" + b"K\x01" * 65 + b"t"),
    "an order that is none": over(bytes(8), I8, b"K\x01\x85", b"K"),
    "a str as a buffer": over(bytes(8), I8, b"K\x01\x85").replace(b"\x96\x08\0\0\0\0\0\0\0", b"X\x08\0\0\0"),
    "a str as a dtype": over(bytes(8), b"X\x02\x00\x00\x00i8", b"K\x01\x85"),
    "bools of 2": over(b"\x02", BOOL, b"K\x01\x85"),
    "a character beyond Unicode": over(b"\x00\x00\x11\x00", TEXT, b"K\x01\x85"),
    "a field beyond the end": over(bytes(8), struct([(b"a", I8 + b"K\x01\x86")], 8), b"K\x01\x85"),
    "a field before the start": over(bytes(8), struct([(b"a", I8 + b"J\xff\xff\xff\xff\x86")], 8), b"K\x01\x85"),
    "a field that overflows": over(bytes(8), struct([(b"a", I8 + LARGE + b"\x86")], 8), b"K\x01\x85"),
    "bools of 2 in a field": over(b"\x01\x02", struct([(b"a", BOOL + b"K\x01\x86")], 2), b"K\x01\x85"),
    "two names for one field": struct([(b"a", I8 + b"K\x00\x86")], 8, b"X\x01\x00\x00\x00b" + I8 + b"K\x00\x86") + b".",
    "flags that say objects": dtype(b"i8", INT.replace(b"K\x00t", b"K?t")) + b".",
    "an alignment of 0": dtype(b"i8", INT[:-8].replace(b"J\xff\xff\xff\xff", b"J\xff\xff\xff\xff") + b"K\x00K\x00tb")
    + b".",
    "a size that is not the kind's": dtype(b"i8", INT.replace(b"NNNJ\xff\xff\xff\xff", b"NNNK\x10")) + b".",
    "a kind of 3 bytes": dtype(b"i3", INT) + b".",
    "a kind of 3 bytes, thrown away": dtype(b"i3", b"0N."),
    "three of no unit": dtype(b"M8", INT.replace(b"K\x03", b"K\x04", 1)[:-2] + b"N(C\x07genericK\x03K\x01K\x01t\x86tb")
    + b".",
    "the state of a dtype of numpy's own": dtype(b"i8", INT).replace(b"\x89\x88\x87", b"\x89\x89\x87") + b".",
    "objects": dtype(b"O8", INT) + b".",
    "a kind in words": dtype(b"i8,O", INT) + b".",
    "a giant item": dtype(b"V99999999999", INT) + b".",
    "a dtype without its state": dtype(b"i8", b"") + b".",
    "dimensions that make another size": struct([], 9, sub=I8 + b"K\x01\x85\x86") + b".",
    "dimensions that overflow": struct([], 8, sub=I8 + LARGE + b"K\x04\x86\x86") + b".",
    "an array without its state": b"cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R.",
    "an array of another class": b"cnumpy._core.multiarray\n_reconstruct\ncnumpy\nmatrix\nK\x00\x85C\x01b\x87R.",
    "a scalar of too few bytes": b"cnumpy._core.multiarray\nscalar\n" + I8 + b"C\x07" + bytes(7) + b"\x86R.",
    "a scalar of objects": b"cnumpy._core.multiarray\nscalar\n" + dtype(b"O8", INT) + b"C\x08" + bytes(8) + b"\x86R.",
    "ndarray itself": b"cnumpy\nndarray\n.",
    "ndarray called": b"cnumpy\nndarray\nK\x01\x85\x85R.",
    "ndarray in a list": b"]cnumpy\nndarray\n\x85a.",
    # The standard library.
    "a date of month 13": b"cdatetime\ndate\nC\x04\x07\xe4\x0d\x01\x85R.",
    "the 30th of February": b"cdatetime\ndate\nC\x04\x07\xe4\x02\x1e\x85R.",
    "the year 0": b"cdatetime\ndate\nC\x04\x00\x00\x02\x01\x85R.",
    "a date of 3 bytes": b"cdatetime\ndate\nC\x03\x07\xe4\x02\x85R.",
    "an hour of 99": b"cdatetime\ntime\nC\x06\x63\x00\x00\x00\x00\x00\x85R.",
    "a second of 60 and a million": b"cdatetime\ndatetime\nC\x0a\x07\xe4\x01\x01\x00\x00\x00\x0f\x42\x40\x85R.",
    "a zone that is a list": b"cdatetime\ntime\nC\x06\x00\x00\x00\x00\x00\x00]\x86R.",
    "a zone of a day": b"cdatetime\ntimezone\ncdatetime\ntimedelta\nK\x01K\x00K\x00\x87R\x85R.",
    "a zone named by a list": b"cdatetime\ntimezone\ncdatetime\ntimedelta\nK\x00K\x00K\x00\x87R]\x86R.",
    "a timedelta of floats": b"cdatetime\ntimedelta\nG" + bytes(8) + b"K\x00K\x00\x87R.",
    "a timedelta of too many days": b"cdatetime\ntimedelta\nJ\xff\xff\xff\x7fK\x00K\x00\x87R.",
    "a timedelta whose seconds or microseconds are out of range": (
        b"cdatetime\ntimedelta\nK\x00J\xff\xff\xff\xffK\x00\x87R."
    ),
    "a Decimal of words": b"cdecimal\nDecimal\nX\x03\x00\x00\x00abc\x85R.",
    "a Decimal of an int": b"cdecimal\nDecimal\nK\x01\x85R.",
    "a Decimal beyond its exponents": b"cdecimal\nDecimal\nX\x18\x00\x00\x001E+9999999999999999999999\x85R.",
    "a signaling NaN as a key": b"}cdecimal\nDecimal\nX\x04\x00\x00\x00sNaN\x85RNs.",
    "a Fraction over 0": b"cfractions\nFraction\nK\x01K\x00\x86R.",
    "a Fraction of text": b"cfractions\nFraction\nX\x03\x00\x00\x001/3\x85R.",
    "a UUID of 129 bits": b"cuuid\nUUID\n)\x81}X\x03\x00\x00\x00int\x8a\x11" + bytes(16) + b"\x01sb.",
    "a UUID that is negative": b"cuuid\nUUID\n)\x81}X\x03\x00\x00\x00intJ\xff\xff\xff\xffsb.",
    "a UUID with more": b"cuuid\nUUID\n)\x81}(X\x03\x00\x00\x00intK\x01X\x03\x00\x00\x00hexK\x01ub.",
    "a UUID without a state": b"cuuid\nUUID\n)\x81.",
    "a UUID with two": b"cuuid\nUUID\n)\x81}X\x03\x00\x00\x00intK\x01sb}X\x03\x00\x00\x00intK\x02sb.",
    "a UUID in another safety": b"cuuid\nUUID\n)\x81}(X\x03\x00\x00\x00intK\x01X\x07\x00\x00\x00is_safeK\x05ub.",
    "a range of step 0": b"cbuiltins\nrange\nK\x00K\x01K\x00\x87R.",
    "a range of floats": b"cbuiltins\nrange\nG" + bytes(8) + b"K\x01K\x01\x87R.",
    "a deque of negative length": b"ccollections\ndeque\n)J\xff\xff\xff\xff\x86R.",
    "a deque of giant length": b"ccollections\ndeque\n)\x8a\x09" + bytes(8) + b"\x01\x86R.",
    "a deque of items": b"ccollections\ndeque\n]K\x01a\x85R.",
    "an OrderedDict of items": b"ccollections\nOrderedDict\n]\x85R.",
    "an OrderedDict with attributes": b"ccollections\nOrderedDict\n)R}X\x01\x00\x00\x00xK\x01sb.",
    "a deque with a key": b"ccollections\ndeque\n)RK\x01K\x02s.",
    "a path of a path": b"cpathlib\nPurePosixPath\ncpathlib\nPurePosixPath\n)R\x85R.",
    "a Windows path that acts": b"cpathlib\nWindowsPath\n)R.",
    "an array.array of half an item": b"carray\n_array_reconstructor\n(carray\narray\nX\x01\x00\x00\x00dK\x10C\x07"
    + bytes(7)
    + b"tR.",
    "an array.array of another machine": b"carray\n_array_reconstructor\n(carray\narray\nX\x01\x00\x00\x00dK\x11C\x08"
    + bytes(8)
    + b"tR.",
    "an array.array of another class": b"carray\n_array_reconstructor\n(cbuiltins\nbytearray\n"
    b"X\x01\x00\x00\x00dK\x10C\x00tR.",
    "an array.array of text": b"carray\narray\nX\x01\x00\x00\x00u](X\x01\x00\x00\x00ae\x86R.",
    "an array.array of objects": b"carray\narray\nX\x01\x00\x00\x00d]]a\x86R.",
    "an array.array of ints too large": b"carray\narray\nX\x01\x00\x00\x00b]M\xff\x00a\x86R.",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_no_pickler_writes_is_a_typed_error(name):
    with pytest.raises((CorruptSegmentError, UntrustedValueError)) as caught:
        decode(HOSTILE[name])
    assert len(str(caught.value)) < 300


def test_the_opcodes_of_the_hostile_streams_are_right():
    """The same streams without the fault decode."""
    assert np.array_equal(decode(over(bytes(8), I8, b"K\x01\x85")), np.zeros(1, int))
    assert np.array_equal(decode(over(b"\x01", BOOL, b"K\x01\x85")), [True])
    assert np.array_equal(decode(over(b"a\0\0\0", TEXT, b"K\x01\x85")), ["a"])
    record = struct([(b"a", I8 + b"K\x00\x86"), (b"b", BOOL + b"K\x08\x86")], 9)
    assert decode(record + b".") == np.dtype([("a", "i8"), ("b", "?")])
    assert decode(over(bytes(9), record, b"K\x01\x85")).tolist() == [(0, False)]
    assert decode(struct([], 8, sub=I8 + b"K\x01\x85\x86") + b".") == np.dtype(("i8", (1,)))
    timed = dtype(b"M8", INT.replace(b"K\x03", b"K\x04", 1)[:-2] + b"N(C\x07genericK\x01K\x01K\x01t\x86tb")
    assert decode(timed + b".") == np.dtype("M8")
    assert decode(b"cuuid\nUUID\n)\x81}X\x03\x00\x00\x00intK\x01sb.") == uuid.UUID(int=1)
