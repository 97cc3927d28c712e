"""Containers of scalars: drawing them, and comparing how the core and pickle write and read them."""

import pickle
import random
import sysconfig

import pytest

from helpers.value_comparison import same
from shmvar._core import _decode_containers as decode
from shmvar._core import _get_pickle

PROTOCOLS = range(2, pickle.HIGHEST_PROTOCOL + 1)
INTS = (0, 1, -1, 255, 256, 65_535, 65_536, 2**31 - 1, -(2**31), 2**31, 2**63 - 1, -(2**63), 2**63, 2**64 - 1)
TEXTS = ("", "a", "é", "\0", "key", "another key", "\ud800x", *("xyz"[n % 3] * n for n in (15, 16, 17, 23, 24)))
LONG_TEXTS = ("ü" * 130, "€" * 90, "k" * 300)
SCALARS = (None, True, False, *INTS, *TEXTS, *LONG_TEXTS, -0.0, 0.5, 1e300, float("inf"), b"", b"x", b"y" * 300)

# A mark for tests of what the core writes.
by_core = pytest.mark.skipif(
    bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    reason="another thread could change a container: a free-threaded interpreter's pickler writes all of them",
)


def written_by_core(data):
    """Whether a pickle was written without the pickler, which would begin with a frame and protocol 5."""
    return data[:2] == b"\x80\x04" and data[2:3] != b"\x95"


def stored(seg, value):
    seg[1] = value
    return _get_pickle(seg, 1)


def agree(value, protocol):
    """The core reads what pickle writes, but for classes and ints of more than 64 bits. (In protocols 2 and 3, sets and
    bytes are calls of classes.)"""
    data = pickle.dumps(value, protocol)
    found = decode(data)
    if found is None:
        classes = protocol < 4 and any(name in data for name in (b"c__builtin__\n", b"cbuiltins\n", b"c_codecs\n"))
        assert classes or b"\x8a" in data or b"\x8b" in data, data
    else:
        assert same(found[0], value), data


class Draw:
    """Draws values. Objects drawn before are drawn again, so that values share them."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.pool = []

    def scalar(self):
        return self.random.choice(SCALARS) if self.random.random() < 0.8 else self.random.getrandbits(64)

    def hashable(self, depth):
        kind = self.random.randrange(8) if depth else 0
        if kind == 1:
            return tuple(self.hashable(depth - 1) for _ in range(self.random.randrange(5)))
        if kind == 2:
            return frozenset(self.hashable(depth - 1) for _ in range(self.random.randrange(4)))
        return self.scalar()

    def value(self, depth=4):
        if self.pool and self.random.random() < 0.15:
            return self.random.choice(self.pool)
        size = self.random.choice((0, 1, 2, 3, 4, 9, 40)) if depth > 2 else self.random.randrange(4)
        match self.random.randrange(7) if depth else 6:
            case 0 | 1:
                value = [self.value(depth - 1) for _ in range(size)]
            case 2:
                value = tuple(self.value(depth - 1) for _ in range(size))
            case 3 | 4:
                value = {self.hashable(1): self.value(depth - 1) for _ in range(size)}
            case 5:
                value = self.random.choice((set, frozenset))(self.hashable(1) for _ in range(size))
            case _:
                return self.scalar()
        self.pool.append(value)
        return value
