"""Queues against `multiprocessing.Queue`, in the same run.

The aims, for small items between one producer and one consumer: `put` and `get` at least 3 times as quick as
`multiprocessing.Queue`, that is at most a third of its time; with `take` no slower than it. Turn by turn each of them
passes the same items, and the ratio is the median of those of turns that follow each other.

`multiprocessing.SimpleQueue`, which has no thread that feeds its pipe, stands beside them. (Its pipe holds 64 KiB.)
"""

import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator

import ratios
from ratios import Aim
from together import in_child

import shmvar

Passing = Callable[[int], float]
"""Passes so many items from one process to another; gives nanoseconds of one item."""


def passing(put: Callable, consume: Callable[[int], object]) -> Passing:
    """The clock begins when the consumer is there, and ends when it has had all items."""

    def passes(count: int) -> float:
        ready, over = multiprocessing.SimpleQueue(), multiprocessing.SimpleQueue()

        def child() -> None:
            ready.put(1)
            consume(count)
            over.put(1)

        pid = in_child(child)
        ready.get()
        begin = time.perf_counter_ns()
        for number in range(count):
            put(number)
        over.get()
        took = time.perf_counter_ns() - begin
        os.waitpid(pid, 0)
        return took / count

    return passes


def getting(get: Callable) -> Callable[[int], None]:
    def consume(count: int) -> None:
        for _ in range(count):
            get()

    return consume


def taking(queue: shmvar.Queue) -> Callable[[int], None]:
    def consume(count: int) -> None:
        for _ in range(count):
            with queue.take():
                pass

    return consume


def turns(ways: list[Passing], count: int, repeats: int) -> Iterator[tuple[float, ...]]:
    for _ in range(repeats):
        yield tuple(way(count) for way in ways)


def between_two(bench: ratios.Bench) -> None:
    count, repeats = bench.size(20_000, 50), 1 if bench.effort.smoke else 5 if bench.effort.most < 100 else 15
    theirs, simple = multiprocessing.Queue(), multiprocessing.SimpleQueue()
    with ratios.fresh() as segment:
        ours = segment.queue("bench", maxsize=10_000)
        ways = [
            passing(theirs.put, getting(theirs.get)),
            passing(ours.put, getting(ours.get)),
            passing(ours.put, taking(ours)),
            passing(simple.put, getting(simple.get)),
        ]
        found = list(turns(ways, count, repeats))
    reference, got, taken, bare = (statistics.median(column) for column in zip(*found, strict=True))
    what = "multiprocessing.Queue"
    for name, middle, place, aim in (
        ("put and get, a small item", got, 1, Aim(0.333)),
        ("put and take, a small item", taken, 2, Aim(1)),
        ("SimpleQueue, a small item", bare, 3, None),
    ):
        ratio = statistics.median(each[place] / each[0] for each in found)
        bench.add(ratios.judged(name, middle, what, reference, ratio, aim, bench.effort.smoke))


def alone(bench: ratios.Bench) -> None:
    """One process: what the calls themselves cost."""
    with ratios.fresh() as segment:
        queue = segment.queue("bench")

        def put_and_get(turns) -> None:
            for _ in turns:
                queue.put(5)
                queue.get()

        def put_and_take(turns) -> None:
            for _ in turns:
                queue.put(5)
                with queue.take():
                    pass

        def two_puts(turns) -> None:
            for _ in turns:
                segment.put("a text", 5)
                segment.put("a text", 6)

        queue.put(0)
        bench.row("put and get, alone", put_and_get, "seg.put(i, v), a text, twice", two_puts)
        bench.row("put and take, alone", put_and_take, "seg.put(i, v), a text, twice", two_puts)


if __name__ == "__main__":
    ratios.main(__doc__, between_two, alone)
