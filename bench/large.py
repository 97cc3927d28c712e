"""Large arrays against numpy and multiprocessing.shared_memory, in the same run: ratios.

The marks are those of the project's plan: a steady put of 100 MiB at most 1.15 times `numpy.copyto` into memory that
is present, of 1 MiB at most 1.5 times; `view` at most 5 us whatever the size; `get` of 100 MiB until its first element
at most 40 us; a first put not slower than writing the same bytes into a fresh SharedMemory block.
"""

import argparse
import time
from multiprocessing import shared_memory

import numpy as np

import shmvar

MIB = 1 << 20


def best(call, repeats: int = 9) -> float:
    """Seconds of the best of the repeats."""
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return min(times)


def fresh_block(data: np.ndarray) -> float:
    begin = time.perf_counter()
    block = shared_memory.SharedMemory(create=True, size=data.nbytes)
    np.copyto(np.ndarray(data.shape, data.dtype, block.buf), data)
    taken = time.perf_counter() - begin
    block.close()
    block.unlink()
    return taken


def measure(size: int) -> None:
    shmvar.destroy("bench-large")
    data = np.random.default_rng(1).random(size // 8)
    present = np.ones_like(data)
    fresh = min(fresh_block(data) for _ in range(3))
    firsts = []
    for _ in range(3):
        with shmvar.attach("bench-large", 4 * size + MIB) as segment:
            begin = time.perf_counter()
            segment[1] = data
            firsts.append(time.perf_counter() - begin)
            segment.destroy()
    segment = shmvar.attach("bench-large", 4 * size + MIB)
    for _ in range(6):
        segment[1] = data
    memcpy = best(lambda: np.copyto(present, data), 20)
    put = best(lambda: segment.put(1, data), 20)
    get = best(lambda: segment[1][0], 50)
    view = best(lambda: segment.view(1), 50)
    window = segment.view(1)
    window.sum()
    read, own = best(lambda: window.sum()), best(lambda: data.sum())
    print(f"{size // MIB:>5} MiB  put {put * 1e3:8.3f} ms  copyto {memcpy * 1e3:8.3f} ms  ratio {put / memcpy:.2f}")
    print(
        f"           first put {min(firsts) * 1e3:8.3f} ms  fresh SharedMemory {fresh * 1e3:8.3f} ms  "
        f"ratio {min(firsts) / fresh:.2f}"
    )
    print(
        f"           get and first element {get * 1e6:6.1f} us  view {view * 1e6:6.1f} us  "
        f"sum of the view {read / own:.2f} times the array's own"
    )
    segment.destroy()


def crossover() -> None:
    """From which size on a private map is quicker than a copy: what `MAP_FROM` in src/py/buffer_views.rs rests on."""
    shmvar.destroy("bench-large")
    with shmvar.attach("bench-large", 64 * MIB) as segment:
        for kib in (32, 64, 128, 192, 255, 257, 384, 512, 1024):
            segment[1] = np.ones(kib * 128)
            print(f"{kib:>5} KiB  get and sum {best(lambda: segment[1].sum(), 200) * 1e6:6.1f} us")
        segment.destroy()


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    for size in (MIB, 100 * MIB, 1024 * MIB):
        measure(size)
    crossover()


if __name__ == "__main__":
    main()
