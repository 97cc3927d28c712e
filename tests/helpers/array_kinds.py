"""Arrays of every kind that numpy would copy into the pickle, and whether what was read is such an array."""

import dataclasses

import numpy as np
import pytest

from helpers.arrays import MIB, matrix

SIZE = 4 * MIB
COUNT = SIZE // 8


class Plain(np.ndarray):
    """A subclass that leaves everything to numpy."""


class Finalized(np.ndarray):
    """It has its attribute only if it was made from another array: a pickle of numpy's does not carry it."""

    def __new__(cls, values):
        made = np.asarray(values).view(cls)
        made.source = "constructor"
        return made

    def __array_finalize__(self, other):
        if other is not None:
            self.source = getattr(other, "source", "view")


@dataclasses.dataclass
class Holder:
    values: object
    name: str = "x"


def filled(dtype, count=COUNT):
    bits = np.random.default_rng(5).integers(0, 250, count * np.dtype(dtype).itemsize, np.uint8)
    return bits.view(dtype)


STRUCT = np.dtype([("when", "M8[us]"), ("n", ">i4"), ("nested", [("x", "f4", (2, 3)), ("y", "U2")])])
BASE = np.arange(float(COUNT))
TEXT = np.zeros(COUNT // 4, "U8")
TEXT[:] = ["text", "é😀", "", "longer"] * (len(TEXT) // 4)
KINDS = {
    "datetime64": lambda: BASE.astype("M8[s]"),
    "timedelta64": lambda: BASE.astype("m8[25us]"),
    "dates in Fortran's order": lambda: np.asfortranarray(BASE.astype("M8[ns]").reshape(512, -1)),
    "dates with steps": lambda: BASE.astype("M8[ms]")[::3],
    "swapped dates": lambda: BASE.astype(">M8[D]"),
    "every second column": lambda: BASE.reshape(-1, 4)[:, ::2],
    "reversed": lambda: BASE[::-1],
    "reversed twice": lambda: BASE.reshape(512, -1)[::-1, ::-1],
    "transposed part": lambda: BASE.reshape(64, 64, -1)[:, :50].transpose(2, 0, 1),
    "broadcast": lambda: np.broadcast_to(np.arange(3.0), (COUNT // 3, 3)),
    "broadcast of one": lambda: np.broadcast_to(np.float32(7), (512, COUNT // 256)),
    "swapped with steps": lambda: BASE.astype(">f4")[::2],
    "half with steps": lambda: (BASE % 2000).astype("f2")[::2],
    "complex with steps": lambda: BASE.astype("c16")[::2],
    "bool with steps": lambda: (BASE % 3 == 0)[::2],
    "bytes with steps": lambda: np.array([b"ab", b""] * (COUNT // 4), "S8")[::2],
    "text with steps": lambda: TEXT[::2],
    "void with steps": lambda: filled("V12")[::2],
    "struct with dates": lambda: filled(STRUCT, 1000).repeat(90),
    "field of a struct": lambda: np.zeros(COUNT // 8, [("a", "f8"), ("b", "i4")])["a"],
    "read-only": lambda: np.frombuffer(BASE.tobytes(), "M8[s]"),
    "subclass": lambda: BASE.view(Plain),
    "subclass with steps": lambda: BASE.view(Plain)[::2],
    "subclass of dates in Fortran's order": lambda: np.asfortranarray(BASE.astype("M8[s]").reshape(512, -1)).view(
        Plain
    ),
    "subclass with an attribute": lambda: Finalized(BASE),
    "matrix": lambda: matrix(BASE.reshape(512, -1)),
    "recarray": lambda: np.rec.fromarrays([BASE, BASE.astype("i4")], names="x,y"),
    "recarray with steps": lambda: np.rec.fromarrays([BASE, BASE.astype("M8[s]")], names="x,y")[::2],
    "char": lambda: np.char.array(["a", "bc"] * (COUNT // 8)),
    "masked": lambda: np.ma.masked_less(BASE, 5),
    "masked dates": lambda: np.ma.masked_array(
        BASE.astype("M8[s]"), BASE % 2 == 0, fill_value=np.datetime64("2020", "s")
    ),
    "masked with steps": lambda: np.ma.masked_less(BASE.reshape(-1, 4), 5)[:, ::2],
    "masked without a mask": lambda: np.ma.array(BASE),
    "masked hard": lambda: np.ma.array(BASE, mask=BASE > 9, hard_mask=True, fill_value=-1.5),
    "masked struct": lambda: np.ma.array(
        np.zeros(COUNT // 2, "f8,i8"), mask=[(True, False), (False, False)] * (COUNT // 4)
    ),
    "masked subclass of data": lambda: np.ma.array(BASE.view(Plain), mask=BASE > 9),
}
"""Made when they are wanted: each process that runs tests loads this file, and a fork of it copies what it has."""


def arrays_of(value):
    """An array, its parts, and the arrays that it is a view of."""
    found = []
    while isinstance(value, np.ndarray):
        found.append(value)
        if isinstance(value, np.ma.MaskedArray):
            found.extend(each for each in (value.data, value._data, value.mask, value._mask) if np.ndim(each))
        value = value.base
    return found


def assert_sealed(view):
    for array in arrays_of(view):
        assert not array.flags.writeable
        with pytest.raises(ValueError, match="WRITEABLE"):
            np.ndarray.setflags(array, write=True)
        base = array.base
        if base is not None and not isinstance(base, np.ndarray):
            with pytest.raises((TypeError, BufferError)):
                memoryview(base)[:1] = b"x"


def assert_alike(found, value):
    assert type(found) is type(value) and found.dtype == value.dtype and found.shape == value.shape
    if isinstance(value, np.ma.MaskedArray):
        assert found.mask.dtype == value.mask.dtype and np.array_equal(found.mask, value.mask)
        assert type(found.data) is type(value.data) and found.data.tobytes() == value.data.tobytes()
        assert found.hardmask == value.hardmask
        assert found.fill_value == value.fill_value and found.fill_value.dtype == value.fill_value.dtype
    else:
        assert found.tobytes() == value.tobytes()
