"""A pool of processes fills one big array in place: no result is sent back, and nothing is copied.

    python examples/parallel_fill.py                     # 1 GiB
    python examples/parallel_fill.py 16 --method fork    # 16 MiB

The array "field" is one memory for all processes. A task gets the handle and some rows as its arguments, and opens the
array by its name; as an argument multiprocessing would copy it. A second array, "done", has one element for each row: a
task sets those of its rows after it has filled them, and then calls `touch`, which wakes the process that shows the
progress.

If all of this is killed, the segment stays. The same command then goes on with the rows that are missing.
"""

import argparse
import contextlib
import multiprocessing
import os
import sys
import time
from concurrent.futures import Future, ProcessPoolExecutor

import numpy as np

import shmvar

COLUMNS = 16384  # of 8 bytes: a row takes 128 KiB
PIECES = 64


def fill(segment: shmvar.Segment, first: int, last: int) -> None:
    """Fills the rows from `first` up to `last` with a table of products; runs in a process of the pool."""
    field, done = segment.array("field"), segment.array("done")  # opens what is there
    # `out=` makes numpy store straight into the segment. `field[first:last] = ...` would do so, too, but compute into
    # memory of its own first. `field = ...` would only give the name to another array.
    np.multiply.outer(np.arange(first, last), np.arange(COLUMNS), out=field[first:last])
    # No two tasks have a row in common, so they need no lock. An element of one byte is never seen half written.
    done[first:last] = True
    segment.touch("done")


def show(segment: shmvar.Segment, tasks: list[Future[None]]) -> None:
    """Shows how many rows are done until all of them are, or all tasks have ended; raises what a task raised."""
    done, begin = segment.array("done"), time.monotonic()
    while True:
        # The version comes first: a change after it ends the wait, so none is missed.
        seen, ended = segment.version("done"), all(task.done() for task in tasks)
        rows = np.count_nonzero(done)
        print(f"\r{rows} of {len(done)} rows after {time.monotonic() - begin:.1f} s", end="", flush=True)
        if ended or rows == len(done):
            break
        with contextlib.suppress(shmvar.WaitTimeoutError):
            segment.wait("done", 0.5, newer_than=seen)  # at most half a second: a task that fails touches nothing
    print()
    for task in tasks:
        task.result()


def is_right(field: np.ndarray) -> bool:
    """Compares the sums of all rows and of all columns with what the sums of a table of products must be."""
    rows, columns = np.arange(len(field)), np.arange(COLUMNS)
    by_row = np.array_equal(field.sum(axis=1), rows * columns.sum())
    return by_row and np.array_equal(field.sum(axis=0), columns * rows.sum())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("size", nargs="?", type=int, default=1024, help="of the array, in MiB (1024)")
    parser.add_argument("--method", choices=multiprocessing.get_all_start_methods(), help="how processes are started")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--key", default="example-fill", help="two runs at a time need two")
    words = parser.parse_args()
    rows = words.size * 8
    context = multiprocessing.get_context(words.method)
    with shmvar.attach(words.key, (words.size + 16) << 20) as segment:
        try:
            # Zeros, or what a run that was killed has left. All of the memory is taken here: if there is not enough,
            # this raises `SegmentFullError`, and no process gets a signal later.
            field = segment.array("field", (rows, COLUMNS), np.int64)
            missing = np.flatnonzero(~segment.array("done", rows, bool))
            with ProcessPoolExecutor(words.workers, context) as pool:
                pieces = [piece for piece in np.array_split(missing, PIECES) if len(piece)]
                show(segment, [pool.submit(fill, segment, piece[0], piece[-1] + 1) for piece in pieces])
            right = is_right(field)
        finally:
            segment.destroy()
    print(f"{field.nbytes >> 20} MiB filled by {words.workers} processes: {'right' if right else 'WRONG'}")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
