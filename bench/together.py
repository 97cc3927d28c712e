"""Counters, locks, waiting and batches against what one would use without them, in the same run.

The marks are those of the project's plan: `add` at most 1.5 times a get; a lock taken and let go in at most 300 ns,
and faster than a pair of calls on an open file description lock or a System V semaphore; a round of put and wait
between two processes at most 1.3 times the same over bare futexes; `get_many` of 16 small values at most 10 gets.

The system's own means are called as Python can call them: locks of files by the module fcntl, semaphores and futexes by
ctypes, whose own cost (a fraction of a microsecond for each call) is in their figures.
"""

import argparse
import ctypes
import fcntl
import mmap
import multiprocessing
import os
import platform
import signal
import struct
import tempfile
import time

import shmvar

KEY = "bench-together"
LIBC = ctypes.CDLL(None, use_errno=True)
SYS_FUTEX = {"x86_64": 202, "aarch64": 98}[platform.machine()]
FUTEX_WAIT, FUTEX_WAKE = 0, 1


CALLS = 500
"""In a measured loop: short, so that on a busy machine some of the loops run undisturbed."""


def best(call, *arguments, repeats: int) -> float:
    """Nanoseconds of a call in the best of the loops: the machine's own, without its other work."""
    found = []
    for _ in range(repeats * 20):
        turns = range(CALLS)
        begin = time.perf_counter_ns()
        for _ in turns:
            call(*arguments)
        found.append((time.perf_counter_ns() - begin) / CALLS)
    return min(found)


def row(name: str, ours: float, what: str, theirs: float) -> None:
    print(f"{name:<34}{ours / 1000:9.2f} us   {what:<32}{theirs / 1000:9.2f} us   ratio {ours / theirs:.2f}")


# --- alone


def alone(segment: shmvar.Segment, repeats: int) -> None:
    segment.update({number: number for number in range(100_000)})
    segment["n"] = 5

    def time_of(call, *arguments):
        return best(call, *arguments, repeats=repeats)

    get, put = time_of(segment.__getitem__, 5), time_of(segment.put, 5, 6)
    row("add", time_of(segment.add, 5), "seg[i]", get)
    row("add, a text for an index", time_of(segment.add, "n"), "seg[i], the same", time_of(segment.__getitem__, "n"))
    row("get_versioned", time_of(segment.get_versioned, 5), "seg[i]", get)
    row("compare_and_put that fails", time_of(segment.compare_and_put, 5, 1, 7), "seg[i]", get)
    row("modify", time_of(segment.modify, 5, lambda n: n + 1), "seg[i]", get)
    row("swap", time_of(segment.swap, 5, 7), "seg[i] = v", put)
    some = list(range(0, 1600, 100))
    row("get_many of 16", time_of(segment.get_many, some), "seg[i]", get)

    def singles():
        for index in some:
            segment.put(index, 7)

    row("put_many of 16", time_of(segment.put_many, dict.fromkeys(some, 7)), "16 puts", time_of(singles))
    ttl = time_of(lambda: segment.put("t", 6, ttl=60))
    segment.remove("t")
    row("put with ttl, a text", ttl, "put, the same", time_of(segment.put, "n", 6))


def locks(segment: shmvar.Segment, repeats: int) -> None:
    lock, theirs = segment.lock(), multiprocessing.Lock()
    by_text = segment.lock("bench")

    def ours():
        lock.acquire()
        lock.release()

    def ours_by_text():
        by_text.acquire()
        by_text.release()

    def block():
        with lock:
            pass

    def posix():
        theirs.acquire()
        theirs.release()

    pair = best(ours, repeats=repeats)
    row("the same, a text for a name", best(ours_by_text, repeats=repeats), "acquire(), release()", pair)
    row("with lock: pass", best(block, repeats=repeats), "acquire(), release()", pair)
    row("acquire(), release()", pair, "multiprocessing.Lock", best(posix, repeats=repeats))
    with tempfile.TemporaryFile() as file:
        take, drop = (struct.pack("hhqqi4x", kind, 0, 0, 1, 0) for kind in (fcntl.F_WRLCK, fcntl.F_UNLCK))
        fd, set_lock = file.fileno(), fcntl.F_OFD_SETLK

        def of_file():
            fcntl.fcntl(fd, set_lock, take)
            fcntl.fcntl(fd, set_lock, drop)

        row("acquire(), release()", pair, "F_OFD_SETLK, twice", best(of_file, repeats=repeats))
    semaphore = LIBC.semget(0, 1, 0o1600)
    try:
        up, down = (ctypes.create_string_buffer(struct.pack("HhH", 0, by, 0)) for by in (1, -1))
        semop = LIBC.semop
        semop(semaphore, up, 1)

        def of_semaphore():
            semop(semaphore, down, 1)
            semop(semaphore, up, 1)

        row("acquire(), release()", pair, "semop, twice", best(of_semaphore, repeats=repeats))
    finally:
        LIBC.semctl(semaphore, 0, 0)


# --- two processes


def in_child(function, *arguments) -> int:
    """A forked process that ends with its function, or with us."""
    pid = os.fork()
    if pid:
        return pid
    try:
        LIBC.prctl(1, signal.SIGKILL)
        function(*arguments)
    finally:
        os._exit(0)


def echo(segment: shmvar.Segment, rounds: int, me: int, first: bool) -> None:
    """Puts and waits in turn with another process."""
    version = segment.version(1 - me)
    if first:
        segment[me] = 0
    for number in range(1, rounds + 1):
        version = segment.wait(1 - me, newer_than=version)
        segment[me] = number


def echo_of_futexes(words: ctypes.Array, rounds: int, me: int, first: bool) -> None:
    """The same by hand."""
    mine, its = (ctypes.c_void_p(ctypes.addressof(words) + 4 * number) for number in (me, 1 - me))
    call, none, seen = LIBC.syscall, ctypes.c_void_p(0), 0
    for _ in range(rounds + first):
        if not first:
            while words[1 - me] == seen:
                call(SYS_FUTEX, its, FUTEX_WAIT, seen, none)
            seen = words[1 - me]
        first = False
        words[me] += 1
        call(SYS_FUTEX, mine, FUTEX_WAKE, 1)


def ping_pong(segment: shmvar.Segment, repeats: int, rounds: int = 3000) -> None:
    ours, theirs = [], []
    for _ in range(repeats):
        segment.update({0: -1, 1: -1})
        memory = mmap.mmap(-1, 4096)
        words = (ctypes.c_uint32 * 2).from_buffer(memory)
        for figures, function, shared in ((ours, echo, segment), (theirs, echo_of_futexes, words)):
            pid = in_child(function, shared, rounds, 1, False)
            time.sleep(0.02)
            begin = time.perf_counter_ns()
            function(shared, rounds - 1, 0, True)
            os.waitpid(pid, 0)
            figures.append((time.perf_counter_ns() - begin) / rounds)
        del words, shared, function
    row("put and wait, there and back", min(ours), "bare futexes, there and back", min(theirs))


def counted(function, calls: int, repeats: int) -> float:
    """Nanoseconds of one count, two processes counting at the same time."""
    figures = []
    for _ in range(repeats):
        begin = time.perf_counter_ns()
        pids = [in_child(function, calls) for _ in range(2)]
        for pid in pids:
            os.waitpid(pid, 0)
        figures.append((time.perf_counter_ns() - begin) / (2 * calls))
    return min(figures)


def counters(segment: shmvar.Segment, repeats: int) -> None:
    number = multiprocessing.Value("q", 0)

    def add(calls):
        for _ in range(calls):
            segment.add("c")

    def modify(calls):
        for _ in range(calls):
            segment.modify("m", lambda n: n + 1, 0)

    def locked(calls):
        lock = segment.lock("c")
        for _ in range(calls):
            with lock:
                segment["l"] = segment.get("l", 0) + 1

    def value(calls):
        for _ in range(calls):
            with number.get_lock():
                number.value += 1

    calls = 20_000
    theirs = counted(value, calls, repeats)
    for name, function in (("add", add), ("modify", modify), ("lock, get, put", locked)):
        row(f"2 processes count: {name}", counted(function, calls, repeats), "Value with its lock", theirs)
    runs = repeats * 2 * calls
    assert (segment["c"], segment["m"], segment["l"], number.value) == (runs,) * 4, "not exact"
    with multiprocessing.Manager() as manager:
        table, lock = manager.dict(n=0), manager.Lock()

        def managed(calls):
            for _ in range(calls):
                with lock:
                    table["n"] += 1

        managed_ns = counted(managed, 300, min(repeats, 3))
        row("2 processes count: add", counted(add, calls, repeats), "Manager dict with a lock", managed_ns)


def idle(segment: shmvar.Segment, waiters: int = 100, seconds: float = 5) -> None:
    def on_processors() -> int:
        total = 0
        for pid in pids:
            with open(f"/proc/{pid}/schedstat") as file:
                total += int(file.read().split()[0])
        return total

    pids = [in_child(segment.wait, f"idle {number}", 60) for number in range(waiters)]
    try:
        time.sleep(2)
        before = on_processors()
        time.sleep(seconds)
        share = (on_processors() - before) / (seconds * 1e9)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    print(f"{waiters} processes that wait: {100 * share:.2f} % of a processor in all")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats
    shmvar.destroy(KEY)
    segment = shmvar.attach(KEY)
    try:
        alone(segment, repeats)
        locks(segment, repeats)
        segment.clear()
        ping_pong(segment, repeats)
        counters(segment, repeats)
        idle(segment)
    finally:
        segment.destroy()


if __name__ == "__main__":
    main()
