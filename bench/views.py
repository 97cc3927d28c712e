"""A view of an array, which copies nothing: the same time for any size, also where a process has never looked before.

The reference is an array of numpy's over `multiprocessing.shared_memory`, which nothing protects from a writer.
"""

import json
import statistics
import subprocess
import sys
from multiprocessing import shared_memory

import numpy as np
import ratios
from ratios import KIB, MIB, Aim

FIRST = """
import json, sys, time
from multiprocessing import resource_tracker, shared_memory
import numpy as np
import shmvar

key, name, count, turn = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
resource_tracker.register = lambda *_: None  # else this process deletes what it only reads
clock = time.perf_counter_ns
segment = shmvar.attach(key, create=False)
block = shared_memory.SharedMemory(name)
segment["int"], np.ndarray(1)[:1]

def ours(index):
    begin = clock()
    segment.view(index)[0]
    return clock() - begin

def theirs(place):
    begin = clock()
    np.ndarray(count, np.float64, block.buf, place * count * 8)[0]
    return clock() - begin

if turn % 2:
    figures = [ours(0), theirs(0), ours(1), theirs(1)]
else:
    figures = [theirs(0), ours(0), theirs(1), ours(1)]
    figures = [figures[place] for place in (1, 0, 3, 2)]
print(json.dumps(figures))
"""
"""A new process: its first view of all, and its first of another array, each beside the reference's."""


def sized(bench: ratios.Bench, size: int, name: str) -> None:
    data = np.ones(bench.size(size, KIB) // 8)
    block = shared_memory.SharedMemory(create=True, size=data.nbytes)
    try:
        with ratios.fresh(4 * data.nbytes + MIB) as segment:
            segment[1] = data

            def view(turns):
                for _ in turns:
                    segment.view(1)

            def reference(turns):
                for _ in turns:
                    np.ndarray(data.shape, data.dtype, block.buf)

            bench.row(f"view of {name}", view, "numpy over SharedMemory", reference, Aim(plus_us=3))
    finally:
        block.close()
        block.unlink()


def read(bench: ratios.Bench) -> None:
    """Reading through a view costs what reading an array costs."""
    data = np.random.default_rng(1).random(bench.size(16 * MIB, KIB) // 8)
    with ratios.fresh(4 * data.nbytes + MIB) as segment:
        segment[1] = data
        view, whole = segment.view(1), "sum of an array of its own"
        bench.row("sum of a view of 16 MiB", ratios.calls(view.sum), whole, ratios.calls(data.sum))
        del view


def first(bench: ratios.Bench) -> None:
    data, children = np.ones(MIB // 8), 2 if bench.effort.smoke else 11 if bench.effort.most < 100 else 41
    block = shared_memory.SharedMemory(create=True, size=2 * data.nbytes)
    np.ndarray(2 * data.size, data.dtype, block.buf)[:] = 1
    try:
        with ratios.fresh(16 * MIB) as segment:
            segment["int"], segment[0], segment[1] = 1, data, data
            command = [sys.executable, "-c", FIRST, segment.key, block.name, str(data.size)]
            found = [
                json.loads(subprocess.run([*command, str(turn)], check=True, capture_output=True).stdout)
                for turn in range(children)
            ]
    finally:
        block.close()
        block.unlink()
    ours, theirs, ours_again, theirs_again = (statistics.median(column) for column in zip(*found, strict=True))
    aim, what = Aim(plus_us=10), "numpy over SharedMemory, likewise"
    bench.figure("view and first element, first of a process", ours, what, theirs, aim)
    bench.figure("view and first element, first of an array", ours_again, what, theirs_again, aim)


def rows(bench: ratios.Bench) -> None:
    sized(bench, 64 * KIB, "64 KiB")
    sized(bench, MIB, "1 MiB")
    sized(bench, 100 * MIB, "100 MiB")
    first(bench)
    read(bench)


if __name__ == "__main__":
    ratios.main(__doc__, rows)
