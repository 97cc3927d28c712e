"""How long does a call hold up those who write? For a segment of n small ints, by default of 1,000,000 and 10,000,000:
the longest that another process waits for one put of its own index while each of the calls runs that go through a whole
segment: the check, what tidies up, what gives memory back. None should hold the writer lock for more than 20 ms at a
time.

That process does nothing but single puts, each on the clock. A machine that is busy makes it wait, too, so the same is
measured beside a process that computes and uses no segment ("nothing"), and everything is repeated: what stands there
is the best of the repeats.
"""

import argparse
import json
import mmap
import os
import signal
import sys
import time

import scale

import shmvar
from shmvar import _core

TEN = 10_000_000
EXPIRE = 100_000


def filled(segment: shmvar.Segment, numbers: range, value: object = 7) -> None:
    for start in range(numbers.start, numbers.stop, scale.MILLION):
        segment.put_many(dict.fromkeys(range(start, min(start + scale.MILLION, numbers.stop)), value))


def dying(segment: shmvar.Segment, calls: int) -> None:
    """A process that has taken spans, pins and a lock ends in the middle of its puts."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        with shmvar.attach(segment.key, create=False) as own:
            own["large"] = bytes(1 << 20)
            view = own.view("large")
            own.lock("dying").acquire()
            own["large"] = bytes(1 << 20)
            os.write(writer, b"x" * len(view[:1]))
            while True:
                own.put("dying", 1)
    os.read(reader, 1)
    time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(reader), os.close(writer)
    for _ in range(calls):
        segment.put("survivor", 1)
    with segment.lock("dying"):
        pass


def expiring(segment: shmvar.Segment) -> None:
    for number in range(-EXPIRE, 0):
        segment.put(number, 7, ttl=0.001)


def popped(segment: shmvar.Segment) -> None:
    for _ in range(1000):
        segment.popitem()


def removed(segment: shmvar.Segment, count: int) -> None:
    for number in range(count):
        if number % 4:
            segment.remove(number)


def calls(segment: shmvar.Segment, count: int):
    """Names and calls, in this order."""
    return {
        "nothing": lambda: scale.compute(2),
        "check": segment.check,
        "check, read-only": lambda: quiet(shmvar.attach(segment.key, readonly=True).check),
        "info": segment.info,
        "resize": lambda: segment.resize(segment.size + 1),
        "a death, and the next": lambda: [dying(segment, 100) for _ in range(5)],
        "repair": lambda: _core._repair(segment),
        "puts that expire": lambda: expiring(segment),
        "len, some expire": lambda: len(segment),
        "popitem": lambda: popped(segment),
        "trim, full": segment.trim,
        "growth": lambda: scale.each(lambda n: segment.put(count + n, 7), count // 10),
        "removal": lambda: removed(segment, count),
        "trim, a quarter left": segment.trim,
        "records": lambda: [segment.put(n, "x" * 40) for n in range(0, count, 4)],
        "check of records": segment.check,
        "their trim": segment.trim,
        "clear": segment.clear,
        "trim, empty": segment.trim,
    }


def quiet(call) -> None:
    try:
        call()
    except shmvar.SegmentBusyError as error:
        print(f"  {error}", file=sys.stderr)


def watch(segment: shmvar.Segment, words: memoryview) -> None:
    """Single puts, each on the clock, until the phase is negative; keeps the longest of each."""
    scale.end_with_parent()
    clock, put = time.perf_counter_ns, segment.put
    while (phase := words[0]) >= 0:
        begin = clock()
        quiet(lambda: put("watcher", 1))
        waited = clock() - begin
        words[phase + 1] = max(words[phase + 1], waited)


def beside(count: int) -> dict[str, float]:
    words = memoryview(mmap.mmap(-1, 4096)).cast("q")
    with scale.fresh(16 << 30) as segment:
        filled(segment, range(count))
        table = calls(segment, count)
        child = scale.FORK.Process(target=watch, args=(segment, words), daemon=True)
        child.start()
        found = {}
        try:
            for words[0], (name, call) in enumerate(table.items()):
                time.sleep(0.01)
                found[f"{name}, s"] = scale.timed(call) / 1e9
            words[0] = -1
            child.join()
            assert child.exitcode == 0, f"the process beside it ended with {child.exitcode}"
        finally:
            child.kill()
            child.join()
    return found | {name: longest / 1e6 for name, longest in zip(table, words[1:], strict=False)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, nargs="*", default=[scale.MILLION, TEN], help="variables")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    table = {count: scale.best(beside, count, chosen.repeats) for count in chosen.count}
    if chosen.json:
        print(json.dumps(table, indent=1))
        return
    names = [name for name in table[chosen.count[0]] if not name.endswith(", s")]
    print(f"{'longest put of another, ms':<30}" + "".join(f"{count:>14,}" for count in chosen.count))
    for name in names:
        waits = "".join(f"{table[count][name]:>14,.1f}" for count in chosen.count)
        print(f"{name:<30}{waits}" + "".join(f"{table[count][f'{name}, s']:>10,.2f} s" for count in chosen.count))


if __name__ == "__main__":
    main()
