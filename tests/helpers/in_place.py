"""What is written in place: whether it is that, a copy or a plain value, and whether its memory was given back."""

import gc

import numpy as np
import pytest

from helpers.waiting import until

EMPTY = 256 << 10
"""What an empty segment takes at most, after a trim."""
SIZE = 100_000
"""Items of 8 bytes of an array that is large enough to be worth freeing."""


def held(segment):
    """What is still in somebody's hands, after a change that frees what is not."""
    gc.collect()
    segment["a change"] = 0
    segment.remove("a change")
    return segment.info().held


def freed(segment):
    """Clears the segment; fails unless nothing is left, once the system has ended the processes that had some."""

    def nothing_is_held():
        segment.trim()  # reaps the dead
        return held(segment) == 0

    segment.clear()
    until(nothing_is_held, what="the end of what somebody held")
    segment.trim()
    info = segment.info()
    assert info.held == 0 == info.used and info.resident <= EMPTY, info
    assert segment.check().busy == 0


def is_in_place(found, like, order="C"):
    """Fails unless it is an exact, writable, aligned array as `like`, over memory that is not its own."""
    assert type(found) is np.ndarray and found.dtype == like.dtype and found.shape == like.shape
    assert found.flags.writeable and found.flags.aligned and not found.flags.owndata
    assert found.flags.f_contiguous if order == "F" else found.flags.c_contiguous
    assert found.ctypes.data % 64 == 0
    assert found.tobytes() == np.ascontiguousarray(like).tobytes()


def is_a_copy(seg, found, value=(0, 1, 2, 3)):
    """Fails unless it is an array of the caller's own; it is changed, and what is stored is not."""
    assert type(found) is np.ndarray and found.dtype == "f8" and found.tolist() == list(value)
    assert found.flags.writeable
    found[:] = -1
    if "field" in seg:
        assert -1 not in seg["field"]


def is_plain(seg, index="field"):
    """Fails unless a plain variable is there."""
    assert not seg.stat(index).in_place
    with pytest.raises(ValueError, match=str(index)):
        seg.array(index)
