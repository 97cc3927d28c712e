"""The board: a memory file beside the segment, in which each process notes what it has done.

The words of the board outlive a SIGKILL. What `put` had returned for when a writer died can be compared with what is in
the segment.
"""

import mmap

WRITERS, READERS = 3, 2
WORKERS = WRITERS + READERS
OWN = 8  # indexes that each writer has for itself
INDEXES = WRITERS * OWN

# In words of 8 bytes: for each index the number of the last value for which `put` returned, then a row for each worker.
# The fields of a row: calls that returned, values found lost and torn, the longest call and the begin of the current
# one (0: none) in nanoseconds, and whether the worker is ready.
PUTS, GETS, LOST, TORN, LONGEST, SINCE, READY, ROW = range(8)
SIZE = 8 * (INDEXES + WORKERS * ROW)  # bytes


def mapped(fd: int) -> "memoryview[int]":
    """The words of the board in the file `fd`."""
    return memoryview(mmap.mmap(fd, SIZE)).cast("Q")


def row(worker: int) -> int:
    """The word at which the row of a worker begins."""
    return INDEXES + worker * ROW
