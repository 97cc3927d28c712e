"""Bytes and float64 arrays of 4 KiB to 1 GiB, against a copy of the same size.

The reference for bytes is `bytes(memoryview)` of shared memory, which makes a new object and copies once; that for an
array is `numpy.copyto` into memory that is present, and for `get` whichever is quicker, a copy or a private map of the
same bytes. Beside them stands the physical limit: a copy of these bytes into memory that is present.
"""

import mmap
import os
import time
from multiprocessing import shared_memory

import numpy as np
import ratios
from ratios import KIB, MIB, Aim

CALL_US = 0.3
"""What a call may cost beside its copy."""


def name_of(size: int) -> str:
    return f"{size // MIB:,} MiB" if size >= MIB else f"{size // KIB} KiB"


def bytes_rows(bench: ratios.Bench, size: int) -> None:
    value, name, aim = bytes(bench.size(size, KIB)), name_of(size), Aim(1.25, CALL_US)
    with ratios.fresh(64 * MIB) as segment, mmap.mmap(-1, len(value)) as shared:
        shared.write(value)
        source, present = memoryview(shared), np.ones(len(value), np.uint8)
        copied = ratios.calls(np.copyto, present, np.frombuffer(value, np.uint8))
        segment[1] = value
        assert segment[1] == value

        def get(turns):
            for _ in turns:
                segment[1]

        def put(turns):
            for _ in turns:
                segment[1] = value

        def reference(turns):
            for _ in turns:
                bytes(source)

        what, beside = "bytes(memoryview)", {"a copy alone": copied}
        bench.row(f"bytes of {name}: get", get, what, reference, aim, beside=beside)
        bench.row(f"bytes of {name}: put", put, what, reference, aim, beside=beside)
        source.release()


def array_rows(bench: ratios.Bench, size: int, put_aim: Aim | None) -> None:
    name, data = name_of(size), np.random.default_rng(1).random(bench.size(size, KIB) // 8)
    present, descriptor = np.ones_like(data), os.memfd_create("bench")
    os.ftruncate(descriptor, data.nbytes)
    shared = np.frombuffer(mmap.mmap(descriptor, data.nbytes))
    shared[:] = data
    with ratios.fresh(4 * data.nbytes + MIB) as segment:

        def put(turns):
            for _ in turns:
                segment[1] = data

        def get(turns):
            for _ in turns:
                segment[1]

        def private(turns):
            for _ in turns:
                np.frombuffer(mmap.mmap(descriptor, data.nbytes, mmap.MAP_PRIVATE))

        for _ in range(6):
            segment[1] = data
        assert np.array_equal(segment[1], data)
        copyto, copy = ratios.calls(np.copyto, present, data), ratios.calls(shared.copy)
        bench.row(f"float64 array of {name}: put", put, "numpy.copyto, into memory that is present", copyto, put_aim)
        others = {"a private map": (private, Aim(1))}
        bench.row(f"float64 array of {name}: get", get, "a copy", copy, Aim(1.25), others=others)

        def summed(turns):
            for _ in turns:
                segment[1].sum()

        copy_summed = ratios.calls(lambda: shared.copy().sum())
        bench.row(f"float64 array of {name}: get, and read all", summed, "a copy, read all", copy_summed)
    os.close(descriptor)


def fresh_block(data: np.ndarray) -> float:
    begin = time.perf_counter_ns()
    block = shared_memory.SharedMemory(create=True, size=data.nbytes)
    np.copyto(np.ndarray(data.shape, data.dtype, block.buf), data)
    taken = time.perf_counter_ns() - begin
    block.close()
    block.unlink()
    return taken


def first_put(bench: ratios.Bench, size: int) -> None:
    """Into memory that nobody has used yet: the system has to clear each page first, for whoever asks for it."""
    data, ours, theirs = np.ones(bench.size(size, KIB) // 8), [], []
    for _ in range(5):
        with ratios.fresh(4 * data.nbytes + MIB) as segment:
            begin = time.perf_counter_ns()
            segment[1] = data
            ours.append(time.perf_counter_ns() - begin)
        theirs.append(fresh_block(data))
    what = "copyto into a new SharedMemory"
    bench.figure(f"float64 array of {name_of(size)}: first put", min(ours), what, min(theirs), Aim(1))


def rows(bench: ratios.Bench) -> None:
    for size in (4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB, 4 * MIB):
        bytes_rows(bench, size)
    array_rows(bench, 16 * KIB, None)
    array_rows(bench, 64 * KIB, Aim(1.5, 3))
    array_rows(bench, 256 * KIB, None)
    for size in (MIB, 4 * MIB, 16 * MIB):
        array_rows(bench, size, Aim(1.25))
    array_rows(bench, 100 * MIB, Aim(1.15))
    for size in (MIB, 100 * MIB):
        first_put(bench, size)


if __name__ == "__main__":
    ratios.main(__doc__, rows)
