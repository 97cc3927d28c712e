"""Arrays in place: opening one, computing on one, and making one.

The references are an array of numpy's own, and one over `multiprocessing.shared_memory`, which nothing protects.
"""

import gc
import json
import statistics
import subprocess
import sys
from multiprocessing import shared_memory

import numpy as np
import ratios
from ratios import KIB, MIB, Aim

GIB = 1 << 30

FIRST = """
import json, sys, time
from multiprocessing import resource_tracker, shared_memory
import numpy as np
import shmvar

key, name, count, turn = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
resource_tracker.register = lambda *_: None  # else this process deletes what it only reads
clock = time.perf_counter_ns
segment = shmvar.attach(key, create=False)
segment["int"], np.ndarray(1)[:1]

def ours():
    begin = clock()
    segment.array("array")[0]
    return clock() - begin

def theirs():
    begin = clock()
    block = shared_memory.SharedMemory(name)
    np.ndarray(count, np.float64, block.buf)[0]
    taken = clock() - begin
    return taken

print(json.dumps([ours(), theirs()] if turn % 2 else [theirs(), ours()][::-1]))
"""
"""A new process: the first array that it opens, and its first block of shared memory."""


def opening(bench: ratios.Bench, size: int, name: str) -> None:
    count = bench.size(size, KIB) // 8
    block = shared_memory.SharedMemory(create=True, size=8 * count)
    try:
        with ratios.fresh(16 * count + MIB) as segment:
            segment.array("array", count)

            def reference(turns):
                for _ in turns:
                    np.ndarray(count, np.float64, block.buf)

            what = "numpy over SharedMemory"
            ours = ratios.calls(segment.array, "array")
            bench.row(f"open an array of {name}", ours, what, reference, Aim(plus_us=5))
            ours = ratios.calls(segment.array, "array", (count,), "f8")
            bench.row(f"the same, shape and dtype given, {name}", ours, what, reference, Aim(plus_us=5))
    finally:
        block.close()
        block.unlink()


def first(bench: ratios.Bench) -> None:
    count, children = MIB // 8, 2 if bench.effort.smoke else 11 if bench.effort.most < 100 else 41
    block = shared_memory.SharedMemory(create=True, size=8 * count)
    try:
        with ratios.fresh(16 * MIB) as segment:
            segment["int"] = 1
            segment.array("array", count)[:] = 1
            command = [sys.executable, "-c", FIRST, segment.key, block.name, str(count)]
            found = [
                json.loads(subprocess.run([*command, str(turn)], check=True, capture_output=True).stdout)
                for turn in range(children)
            ]
    finally:
        block.close()
        block.unlink()
    ours, theirs = (statistics.median(column) for column in zip(*found, strict=True))
    what = "a block of SharedMemory, likewise"
    bench.figure("open an array, first element, first of a process", ours, what, theirs, Aim(plus_us=40))


def computing(bench: ratios.Bench, size: int, name: str) -> None:
    """Warm: all arrays were written to before."""
    count = bench.size(size, KIB) // 8
    own, own_too = np.ones(count), np.ones(count)
    block = shared_memory.SharedMemory(create=True, size=16 * count)
    theirs = np.ndarray((2, count), np.float64, block.buf)
    theirs[:] = 1
    with ratios.fresh(32 * count + MIB) as segment:
        ours, ours_too = segment.array("one", initial=own), segment.array("other", initial=own)
        ours += 0
        ours_too += 0

        def product(one, two):
            def loop(turns):
                for _ in turns:
                    np.multiply(one, two, out=one)

            return loop

        def element(array):
            def loop(turns):
                for turn in turns:
                    array[count // 2] = turn

            return loop

        aim, what = Aim(times=1.05), "an array of numpy's own"
        if size <= MIB:
            bench.row(f"a *= b, {name}", product(ours, ours_too), what, product(own, own_too), aim)
            bench.row(f"sum, {name}", ratios.calls(ours.sum), what, ratios.calls(own.sum), aim)
        else:
            shared = "an array over SharedMemory"
            rivals = product(theirs[0], theirs[1]), ratios.calls(theirs[0].sum)
            beside = {what: product(own, own_too)}, {what: ratios.calls(own.sum)}
            bench.row(f"a *= b, {name}", product(ours, ours_too), shared, rivals[0], aim, beside=beside[0])
            bench.row(f"sum, {name}", ratios.calls(ours.sum), shared, rivals[1], aim, beside=beside[1])
            del rivals
        if size == MIB:
            bench.row("store an element", element(ours), what, element(own), aim)
        del ours, ours_too
    del theirs
    gc.collect()  # the loops hold parts of the block
    block.close()
    block.unlink()


def making(bench: ratios.Bench, size: int, name: str) -> None:
    count = bench.size(size, KIB) // 8
    with ratios.fresh(16 * count + MIB) as segment:

        def ours(turns):
            for _ in turns:
                segment.array("new", count)
                segment.remove("new")
                segment.trim()

        def reference(turns):
            for _ in turns:
                block = shared_memory.SharedMemory(create=True, size=8 * count)
                array = np.ndarray(count, np.float64, block.buf)
                array[:] = 0
                del array
                block.close()
                block.unlink()

        what = "a block of SharedMemory, filled with zeros"
        bench.row(f"make an array of {name}, remove it, trim", ours, what, reference, Aim(times=1))


def rows(bench: ratios.Bench) -> None:
    opening(bench, 8 * KIB, "8 KiB")
    opening(bench, MIB, "1 MiB")
    opening(bench, GIB, "1 GiB")
    first(bench)
    computing(bench, 64 * KIB, "64 KiB")
    computing(bench, MIB, "1 MiB")
    computing(bench, 64 * MIB, "64 MiB")
    making(bench, MIB, "1 MiB")
    making(bench, 64 * MIB, "64 MiB")
    making(bench, GIB, "1 GiB")


if __name__ == "__main__":
    ratios.main(__doc__, rows)
