"""Queues against `multiprocessing.Queue`, in the same run.

Two things are measured between one producer and one consumer, for small items. *Passing*: both work at the same time,
and the time is that of one item of many. *There and back*: one sends an item, and waits for the answer, so at each
instant one of the two sleeps. The aims hold for both: `put` and `get` at least 3 times as quick as
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


def nothing() -> None:
    pass


def answering(
    put: Callable, back: Callable[[], object], consume: Callable[[int], object], end: Callable[[], object] = nothing
) -> Passing:
    """The time of one item there and one back. `end` is called in the process that answers, at its end."""

    def passes(count: int) -> float:
        count = max(count // 10, 5)
        ready = multiprocessing.SimpleQueue()

        def child() -> None:
            ready.put(1)
            consume(count)
            end()

        pid = in_child(child)
        ready.get()
        begin = time.perf_counter_ns()
        for number in range(count):
            put(number)
            back()
        took = time.perf_counter_ns() - begin
        os.waitpid(pid, 0)
        return took / count

    return passes


def getting(get: Callable, answer: Callable = nothing) -> Callable[[int], None]:
    def consume(count: int) -> None:
        for _ in range(count):
            get()
            answer()

    return consume


def taking(queue: shmvar.Queue, answer: Callable = nothing) -> Callable[[int], None]:
    def consume(count: int) -> None:
        for _ in range(count):
            with queue.take():
                pass
            answer()

    return consume


def turns(ways: list[Passing], count: int, repeats: int) -> Iterator[tuple[float, ...]]:
    for _ in range(repeats):
        yield tuple(way(count) for way in ways)


def add_rows(bench: ratios.Bench, ways: list[Passing], names: list[str]) -> None:
    """The first way is the reference; its names are those of the others."""
    count, repeats = bench.size(20_000, 50), 1 if bench.effort.smoke else 5 if bench.effort.most < 100 else 15
    found = list(turns(ways, count, repeats))
    reference, *ours = (statistics.median(column) for column in zip(*found, strict=True))
    aims = (Aim(0.333), Aim(1), None)
    for place, (name, middle, aim) in enumerate(zip(names, ours, aims, strict=True), 1):
        ratio = statistics.median(each[place] / each[0] for each in found)
        row = ratios.judged(name, middle, "multiprocessing.Queue", reference, ratio, aim, bench.effort.smoke)
        bench.add(row)


def between_two(bench: ratios.Bench) -> None:
    theirs, simple = multiprocessing.Queue(), multiprocessing.SimpleQueue()
    with ratios.fresh() as segment:
        ours = segment.queue("bench")
        add_rows(
            bench,
            [
                passing(theirs.put, getting(theirs.get)),
                passing(ours.put, getting(ours.get)),
                passing(ours.put, taking(ours)),
                passing(simple.put, getting(simple.get)),
            ],
            ["passing items: put and get", "passing items: put and take", "passing items: SimpleQueue"],
        )


def there_and_back(bench: ratios.Bench) -> None:
    theirs, simple = [multiprocessing.Queue() for _ in range(2)], [multiprocessing.SimpleQueue() for _ in range(2)]
    with ratios.fresh() as segment:
        there, back = segment.queue("there"), segment.queue("back")

        def through(queues: list, end: Callable = nothing) -> Passing:
            return answering(queues[0].put, queues[1].get, getting(queues[0].get, lambda: queues[1].put(1)), end)

        def end() -> None:
            # The thread that feeds the pipe must not end with the process while it holds the pipe's lock.
            theirs[1].close()
            theirs[1].join_thread()

        add_rows(
            bench,
            [
                through(theirs, end),
                through([there, back]),
                answering(there.put, back.get, taking(there, lambda: back.put(1))),
                through(simple),
            ],
            ["there and back: put and get", "there and back: put and take", "there and back: SimpleQueue"],
        )


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
    ratios.main(__doc__, between_two, there_and_back, alone)
