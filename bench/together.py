"""Counters, memoized calls, locks and waiting against what one would use without them, in the same run.

The aims: `add` at most 1.5 times a get, and with `ttl` at most 1.3 times itself; a hit of `memoize` at most 1 us more
than `seg[i]`; waiting for any of a hundred variables takes no more of a processor than waiting for one; a lock that is
acquired and released in at most 300 ns, and faster than a pair of calls on an open file description lock or a System V
semaphore; a round of put and wait between two processes at most 1.3 times the same over bare futexes. Batches have a
program of their own, `batches.py`.

The system's own means are called as Python can call them: locks of files by the module fcntl, semaphores and futexes by
ctypes, whose own cost (a fraction of a microsecond for each call) is in their figures.
"""

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

import ratios
from ratios import Aim

import shmvar

LIBC = ctypes.CDLL(None, use_errno=True)
SYS_FUTEX = {"x86_64": 202, "aarch64": 98}[platform.machine()]
FUTEX_WAIT, FUTEX_WAKE = 0, 1


# --- alone


def alone(bench: ratios.Bench) -> None:
    with ratios.fresh() as segment:
        segment.update({number: number for number in range(bench.size(100_000))} | {"n": 5})

        def expiring(turns):
            for _ in turns:
                segment.put("t", 6, ttl=60)

        def add(turns):
            for _ in turns:
                segment.add("n", 1)

        def add_expiring(turns):
            for _ in turns:
                segment.add("limited", 1, ttl=3600)

        get, get_text = ratios.calls(segment.get, 5), ratios.calls(segment.get, "n")
        put, put_text = ratios.calls(segment.put, 5, 6), ratios.calls(segment.put, "n", 6)
        what = "seg.get(i)"
        bench.row("add", ratios.calls(segment.add, 5), what, get, Aim(1.5))
        bench.row("add, a text for an index", ratios.calls(segment.add, "n"), f"{what}, the same", get_text)
        bench.row("add with ttl", add_expiring, "seg.add(i, 1), texts for indexes", add, Aim(1.3))
        bench.row(
            "expire", ratios.calls(segment.expire, "limited", 3600), "seg.put(i, v), a text for an index", put_text
        )
        bench.row("get_versioned", ratios.calls(segment.get_versioned, 5), what, get)
        bench.row("compare_and_put that fails", ratios.calls(segment.compare_and_put, 5, 1, 7), what, get)
        bench.row("modify", ratios.calls(segment.modify, 5, lambda n: n + 1), what, get)
        bench.row("swap", ratios.calls(segment.swap, 5, 7), "seg.put(i, v)", put)
        bench.row("put with ttl, a text", expiring, "seg.put(i, v), the same", put_text)


def memoized(bench: ratios.Bench) -> None:
    with ratios.fresh() as segment:

        @segment.memoize(name="bench")
        def square(*numbers: int, by: int = 2) -> list[int]:
            return [number**by for number in numbers]

        def by_name(turns):
            for _ in turns:
                square(1, 2, by=3)

        square(1, 2), square(1, 2, by=3)
        get = ratios.calls(segment.__getitem__, square.index(1, 2))
        bench.row("memoize, a hit", ratios.calls(square, 1, 2), "seg[i], the same index", get, Aim(1, plus_us=1))
        bench.row("memoize, a hit with a keyword", by_name, "seg[i], the same index", get, Aim(1, plus_us=1))


def pair(lock) -> ratios.Loop:
    """A lock acquired and released, as methods."""

    def loop(turns):
        acquire, release = lock.acquire, lock.release
        for _ in turns:
            acquire()
            release()

    return loop


def locks(bench: ratios.Bench) -> None:
    with ratios.fresh() as segment:
        lock, ours = segment.lock(), pair(segment.lock())

        def block(turns):
            for _ in turns:
                with lock:
                    pass

        bench.row("acquire and release", ours, "multiprocessing.Lock", pair(multiprocessing.Lock()), Aim(plus_us=0.3))
        bench.row("acquire and release, a text for a name", pair(segment.lock("bench")), "a number", ours)
        bench.row("with lock: pass", block, "acquire and release", ours)
        with tempfile.TemporaryFile() as file:
            take, drop = (struct.pack("hhqqi4x", kind, 0, 0, 1, 0) for kind in (fcntl.F_WRLCK, fcntl.F_UNLCK))
            fd, set_lock = file.fileno(), fcntl.F_OFD_SETLK

            def of_file(turns):
                for _ in turns:
                    fcntl.fcntl(fd, set_lock, take)
                    fcntl.fcntl(fd, set_lock, drop)

            bench.row("acquire and release, and a file", ours, "F_OFD_SETLK, twice", of_file, Aim(1))
        semaphore = LIBC.semget(0, 1, 0o1600)
        try:
            up, down = (ctypes.create_string_buffer(struct.pack("HhH", 0, by, 0)) for by in (1, -1))
            semop = LIBC.semop
            semop(semaphore, up, 1)

            def of_semaphore(turns):
                for _ in turns:
                    semop(semaphore, down, 1)
                    semop(semaphore, up, 1)

            bench.row("acquire and release, and a semaphore", ours, "semop, twice", of_semaphore, Aim(1))
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


def echo(segment: shmvar.Segment, versions: list[int], rounds: int, me: int, first: bool) -> None:
    """Puts and waits in turn with another process. The versions are those before either of them has begun."""
    version = versions[1 - me]
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


def ping_pong(bench: ratios.Bench) -> None:
    ours, theirs, rounds = [], [], bench.size(3000, 20)
    with ratios.fresh() as segment:
        for _ in range(repeats_of(bench)):
            segment.update({0: -1, 1: -1})
            versions = [segment.version(0), segment.version(1)]
            memory = mmap.mmap(-1, 4096)
            words = (ctypes.c_uint32 * 2).from_buffer(memory)
            for figures, function, shared in ((ours, echo, (segment, versions)), (theirs, echo_of_futexes, (words,))):
                pid = in_child(function, *shared, rounds, 1, False)
                time.sleep(0.02)
                begin = time.perf_counter_ns()
                function(*shared, rounds - 1, 0, True)
                os.waitpid(pid, 0)
                figures.append((time.perf_counter_ns() - begin) / rounds)
            del words, shared, function
    what = "bare futexes, there and back"
    bench.figure("put and wait, there and back", min(ours), what, min(theirs), Aim(1.3))


def watch(segment: shmvar.Segment, rounds: int) -> None:
    """Is handed each change of one process, and answers it."""
    changes = segment.changes(prefix="call")
    segment["ready"] = 1
    for _ in range(rounds):
        next(changes)
        segment["answer"] = 1


def call_and_wait(segment: shmvar.Segment, rounds: int) -> None:
    """Answers likewise, by waiting for one variable."""
    version = segment.version("call")
    segment["ready"] = 1
    for _ in range(rounds):
        version = segment.wait("call", newer_than=version)
        segment["answer"] = 1


def of_changes(bench: ratios.Bench) -> None:
    """A round between two processes of which one iterates over the changes of a segment with so many variables."""
    rounds = bench.size(500, 10)
    for count in (10, 1_000):
        with ratios.fresh() as segment:
            segment.update({f"other {number}": number for number in range(count)})
            ours, theirs = [], []
            for _ in range(repeats_of(bench)):
                for figures, function in ((ours, watch), (theirs, call_and_wait)):
                    segment["call"] = segment["ready"] = segment["answer"] = 0
                    seen = segment.version("ready")
                    pid = in_child(function, segment, rounds)
                    segment.wait("ready", newer_than=seen)
                    seen, begin = segment.version("answer"), time.perf_counter_ns()
                    for number in range(rounds):
                        segment["call"] = number
                        seen = segment.wait("answer", newer_than=seen)
                    figures.append((time.perf_counter_ns() - begin) / rounds)
                    os.waitpid(pid, 0)
            what = "put and wait, there and back"
            bench.figure(f"changes of {count:,} variables, there and back", min(ours), what, min(theirs))


def repeats_of(bench: ratios.Bench) -> int:
    return 1 if bench.effort.smoke else 3 if bench.effort.most < 100 else 9


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


def counters(bench: ratios.Bench) -> None:
    number, repeats, calls = multiprocessing.Value("q", 0), repeats_of(bench), bench.size(20_000, 50)
    with ratios.fresh() as segment:

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

        theirs = counted(value, calls, repeats)
        for name, function in (("add", add), ("modify", modify), ("lock, get, put", locked)):
            taken = counted(function, calls, repeats)
            bench.figure(f"2 processes count: {name}", taken, "Value with its lock", theirs)
        runs = repeats * 2 * calls
        assert (segment["c"], segment["m"], segment["l"], number.value) == (runs,) * 4, "not exact"
        with multiprocessing.Manager() as manager:
            table, lock = manager.dict(n=0), manager.Lock()

            def managed(calls):
                for _ in range(calls):
                    with lock:
                        table["n"] += 1

            managed_ns = counted(managed, bench.size(300, 20), min(repeats, 3))
            taken = counted(add, calls, repeats)
            bench.figure("2 processes count: add, and a Manager", taken, "Manager dict with a lock", managed_ns)


def of_processors(segment: shmvar.Segment, count: int, seconds: float, wait) -> float:
    """Nanoseconds of a processor that so many processes take in a second, each in a call of `wait`."""

    def on_processors() -> int:
        total = 0
        for pid in pids:
            with open(f"/proc/{pid}/schedstat") as file:
                total += int(file.read().split()[0])
        return total

    pids = [in_child(wait, segment, number) for number in range(count)]
    try:
        time.sleep(0.4 * seconds)
        before = on_processors()
        time.sleep(seconds)
        return (on_processors() - before) / seconds
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def wait_for_one(segment: shmvar.Segment, number: int) -> None:
    segment.wait(f"idle {number}", 60)


def wait_for_any(segment: shmvar.Segment, number: int) -> None:
    segment.wait_any([f"idle {number} {each}" for each in range(100)], 60)


def idle(bench: ratios.Bench) -> None:
    """How much of a processor processes take that wait."""
    seconds = 0.1 if bench.effort.smoke else 5
    with ratios.fresh() as segment:
        taken = of_processors(segment, bench.size(100, 2), seconds, wait_for_one)
        bench.figure("100 processes wait: their processor time", taken, "a second", 1e9)
        of_any = of_processors(segment, bench.size(100, 2), seconds, wait_for_any)
    bench.figure("100 processes in wait_any of 100", of_any, "100 in wait of one", max(taken, 1), Aim(1))


if __name__ == "__main__":
    ratios.main(__doc__, alone, memoized, locks, ping_pong, of_changes, counters, idle)
