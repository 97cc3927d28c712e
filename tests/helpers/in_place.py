"""What is written in place: the memory that is still in somebody's hands, and whether all of it was given back."""

import gc

from helpers.waiting import until

EMPTY = 256 << 10
"""What an empty segment takes at most, after a trim."""


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
