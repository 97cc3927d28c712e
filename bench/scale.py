"""How does a segment do with many variables? For n small ints, from 1,000 to 1,000,000 (`--most` for more):

- alone, the time of each call: put, get, a step of the iteration, `len`, `popitem` from the full segment and where a
  thousand of n are left, `put_many` (by a million at a time), `clear`, `check`, and `attach` in a new process; and the
  memory of each variable;
- the longest that another process waits for one put and for one get of its own index meanwhile: while the first one
  fills the segment, while it runs `check`, `put_many` of n (a million at most) over what is there, `clear`, and
  `put_many` of as many new ones. That process does nothing but single puts and gets, each on the clock.

A machine that is busy makes everybody wait. So the same is measured beside a process that computes and uses no segment
("nothing"), and everything is repeated: what stands there is the best of the repeats, of the waits, too.
"""

import argparse
import contextlib
import ctypes
import faulthandler
import itertools
import json
import mmap
import multiprocessing
import os
import signal
import statistics
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor

import shmvar

KEY, SHM = f"bench {os.getpid()}", "/dev/shm"
NUMBERS = itertools.count(1)
FORK = multiprocessing.get_context("fork")
PHASES = "nothing", "fill", "check", "put_many", "clear", "put_many new"
MILLION = 1_000_000
ATTACH = """
import sys, time, shmvar
begin = time.perf_counter_ns()
segment = shmvar.attach(sys.argv[1], create=False)
print(time.perf_counter_ns() - begin)
"""


# --- shared with memory.py


@contextlib.contextmanager
def fresh(size: int = 4 << 30):
    """A segment with a key of its own, destroyed at the end."""
    segment = shmvar.attach(f"{KEY} {next(NUMBERS)}", size, create=True)
    try:
        yield segment
    finally:
        segment.destroy()


def end_with_parent() -> None:
    """As by `sys.exit`, so that what is open is closed; a crash says where it was."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
    faulthandler.enable()


def apart(function, *arguments) -> tuple:
    """What the function gives in a process of its own, or None and what went wrong; destroys what a crash left."""
    with ProcessPoolExecutor(1, FORK, end_with_parent) as pool:
        try:
            return pool.submit(function, *arguments).result(), ""
        except Exception as error:
            return None, f"{type(error).__name__}: {error}"
        finally:
            for info in shmvar.segments():
                if str(info.key).startswith(f"{KEY} "):
                    shmvar.destroy(info.key)


def mounted(size: int) -> bool:
    """As root, a mount namespace with an empty /dev/shm of that size. False: it cannot be had."""
    clone_newns, rec_and_private, libc = 0x00020000, 0x4000 | 1 << 18, ctypes.CDLL(None)
    if os.geteuid() != 0 or libc.unshare(clone_newns) or libc.mount(None, b"/", None, rec_and_private, None):
        return False
    return libc.mount(b"bench", SHM.encode(), b"tmpfs", 0, f"mode=1777,size={size}".encode()) == 0


# --- alone


def timed(function, *arguments) -> float:
    """Nanoseconds."""
    begin = time.perf_counter_ns()
    function(*arguments)
    return time.perf_counter_ns() - begin


def each(function, calls: int) -> float:
    """Nanoseconds of a call, with the numbers from 0 on."""

    def loop():
        for number in range(calls):
            function(number)

    return timed(loop) / calls


def in_pieces(segment: shmvar.Segment, count: int) -> float:
    """Nanoseconds of one variable of `put_many`."""
    total = 0.0
    for start in range(0, count, MILLION):
        values = dict.fromkeys(range(start, min(count, start + MILLION)), 7)
        total += timed(segment.put_many, values)
    return total / count


def pops(segment: shmvar.Segment, most: int, seconds: float = 2) -> float:
    """Nanoseconds of one `popitem`, of so many at most, for so long at most."""
    begin = taken = time.perf_counter_ns()
    done = 0
    while done < most and taken - begin < seconds * 1e9:
        segment.popitem()
        done, taken = done + 1, time.perf_counter_ns()
    return (taken - begin) / done


def attach_elsewhere(segment: shmvar.Segment) -> float:
    command = [sys.executable, "-c", ATTACH, segment.key]
    return statistics.median(int(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(5))


def alone(count: int) -> dict[str, float]:
    with fresh() as segment:
        found = {"put ns": each(lambda n: segment.put(n, 7), count)}
        found["get ns"] = each(segment.get, count)
        found["iterate ns"] = timed(lambda: [None for _ in segment]) / count
        found["len us"] = statistics.median(timed(len, segment) for _ in range(9)) / 1e3
        found["bytes each"] = segment.info().resident / count
        found["check ms"] = timed(segment.check) / 1e6
        found["attach us"] = attach_elsewhere(segment) / 1e3
        found["popitem us"] = pops(segment, min(count, 10_000)) / 1e3
        for number in range(1000, count):
            segment.remove(number)
        each(lambda n: segment.put(n, 7), 1000)
        found["popitem, few left, us"] = pops(segment, len(segment)) / 1e3
        segment.clear()
        found["put_many ns"] = in_pieces(segment, count)
        found["clear ms"] = timed(segment.clear) / 1e6
        return found


# --- beside another process


def watch(segment: shmvar.Segment, words: memoryview) -> None:
    """Single puts and gets, each on the clock, until the phase is negative; keeps the longest of each phase."""
    end_with_parent()
    clock, put, get = time.perf_counter_ns, segment.put, segment.get
    while (phase := words[0]) >= 0:
        begin = clock()
        with contextlib.suppress(shmvar.SegmentBusyError):  # after ten seconds: then that is what it took
            put("watcher", 1)
        between = clock()
        get("watcher")
        end = clock()
        words[2 * phase + 1] = max(words[2 * phase + 1], between - begin)
        words[2 * phase + 2] = max(words[2 * phase + 2], end - between)


def compute(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        sum(range(1000))


def phases(segment: shmvar.Segment, count: int):
    """What the other process does, in the order of PHASES."""
    old, new = ({n: 7 for n in range(start, start + min(count, MILLION))} for start in (0, count))
    return (
        lambda: compute(min(2, count / MILLION)),
        lambda: each(lambda n: segment.put(n, 7), count),
        segment.check,
        lambda: segment.put_many(old),
        segment.clear,
        lambda: segment.put_many(new),
    )


def beside(count: int) -> dict[str, float]:
    """The longest put and get of each phase."""
    words = memoryview(mmap.mmap(-1, 4096)).cast("q")
    with fresh() as segment:
        calls = phases(segment, count)
        child = FORK.Process(target=watch, args=(segment, words), daemon=True)
        child.start()
        try:
            for words[0], call in enumerate(calls):
                time.sleep(0.01)
                call()
            words[0] = -1
            child.join()
            assert child.exitcode == 0, f"the process beside it ended with {child.exitcode}"
        finally:
            child.kill()
            child.join()
    names = [f"{call}, ms beside {phase}" for phase in PHASES for call in ("put", "get")]
    return {name: longest / 1e6 for name, longest in zip(names, words[1:], strict=False)}


# --- both, repeated


def best(measure, count: int, repeats: int) -> dict[str, float]:
    """The best of each figure."""
    runs = []
    for _ in range(repeats):
        found, problem = apart(measure, count)
        if problem:
            sys.exit(f"{measure.__name__}, {count:,} variables: {problem}")
        runs.append(found)
    return {name: min(run[name] for run in runs) for name in runs[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--most", type=int, default=MILLION, help="variables, up to 10,000,000")
    parser.add_argument("--repeats", type=int, default=3, help="of each; above a million it is one")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    counts = [10**power for power in range(3, 8) if 10**power < chosen.most] + [chosen.most]
    table = {}
    for count in counts:
        repeats = chosen.repeats if count <= MILLION else 1
        table[count] = best(alone, count, repeats) | best(beside, count, repeats)
    if chosen.json:
        print(json.dumps(table, indent=1))
        return
    print(f"{'variables':<30}" + "".join(f"{count:>14,}" for count in counts))
    for name in table[counts[0]]:
        print(f"{name:<30}" + "".join(f"{table[count][name]:>14,.3f}" for count in counts))


if __name__ == "__main__":
    main()
