"""Two processes: how long a value takes from one to the other and back, and how they count together."""

import contextlib
import os
import statistics
import time

import ratios

from stores import child
from stores.store import Store


def batches_of(effort: ratios.Effort) -> int:
    return max(2, effort.most // 4)


@contextlib.contextmanager
def on_two_processors(other: int):
    """This process and the other one each on a processor of its own, where there are two."""
    before = os.sched_getaffinity(0)
    if len(before) < 2:
        yield
        return
    mine, its = sorted(before)[:2]
    os.sched_setaffinity(other, {its})
    os.sched_setaffinity(0, {mine})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def hand_over(store: Store, effort: ratios.Effort) -> dict:
    """One puts a number, the other sees it and puts an answer; both look again and again. The time of half a round."""
    rounds, batches = (3, 2) if effort.smoke else (100, batches_of(effort))
    (ping, pong), words = store.keys[:2], child.words_of(store.where)
    get, put, number, times, plain_times, clock = store.get, store.put, 0, [], [], time.perf_counter_ns
    put(ping, 0)
    failed = 0
    other = child.start("echo", store, rounds, batches)
    try:
        with on_two_processors(other.pid):
            for _ in range(batches):
                first = number
                for number in range(first + 1, first + 1 + rounds):
                    begin = clock()
                    put(ping, number)
                    failed += child.look_until(get, pong, number)
                    times.append(clock() - begin)
                for plain in range(first + 1, first + 1 + rounds):
                    begin = clock()
                    words[0] = plain
                    while words[1] != plain:
                        pass
                    plain_times.append(clock() - begin)
    finally:
        child.end(other)
    return halves(times, plain_times) | {"failed": failed}


def hand_over_asleep(store: Store, effort: ratios.Effort) -> dict:
    """The same, with calls that sleep until there is something new; the reference is a pair of pipes."""
    rounds, batches = (3, 2) if effort.smoke else (50, batches_of(effort))
    (ping, pong), number, times, plain_times, clock = store.keys[:2], 0, [], [], time.perf_counter_ns
    their_end, our_write = os.pipe()
    our_read, their_write = os.pipe()
    store.put(ping, 0)
    other = None
    try:
        pipes = their_end, their_write
        other = child.start("echo_asleep", store, rounds, batches, *pipes, pass_fds=pipes)
        receive = store.receiver(pong)
        with on_two_processors(other.pid):
            for _ in range(batches):
                first = number
                for number in range(first + 1, first + 1 + rounds):
                    begin = clock()
                    store.send(ping, number)
                    while receive() != number:
                        pass
                    times.append(clock() - begin)
                for _ in range(rounds):
                    begin = clock()
                    os.write(our_write, b"x")
                    os.read(our_read, 1)
                    plain_times.append(clock() - begin)
    finally:
        if other:
            child.end(other)
        for descriptor in (their_end, our_write, our_read, their_write):
            os.close(descriptor)
    return halves(times, plain_times)


def halves(times: list[int], plain_times: list[int]) -> dict:
    """Medians of single rounds: one in which somebody else had the processor does not count."""
    theirs, plain = statistics.median(times) / 2, statistics.median(plain_times) / 2
    return {"ns": theirs, "reference ns": plain, "against reference": theirs / plain}


def counters(store: Store, effort: ratios.Effort, naive: bool) -> dict:
    """Two processes add 1 at the same time. Nanoseconds of an addition, and how many were lost.

    With `naive`, or where the store has no other way, each gets the number and puts one more.
    """
    add, key = store.add, store.keys[0]
    store.put(key, 0)
    begin = time.perf_counter()
    for _ in range(20):
        store.put(key, store.get(key)) if naive else add()
    taken = (time.perf_counter() - begin) / 20
    before = 0 if naive else store.total()
    count, batches = (5, 2) if effort.smoke else (max(20, min(20_000, round(0.15 / taken))), max(2, effort.most // 8))
    others: list = []
    try:
        others = [child.start("add", store, count, batches, int(naive)) for _ in range(2)]
        times = []
        for _ in range(batches):
            times.append([together(others) / count / 2 for _ in range(2)])
        for other in others:
            other.wait(10)
    finally:
        for other in others:
            child.end(other)
    after = store.get(key) if naive else store.total()
    added = 2 * count * batches
    found = {
        "ns": statistics.median(one for one, _ in times),
        "reference ns": statistics.median(one for _, one in times),
    }
    found["against reference"] = statistics.median(one / other for one, other in times)
    return found | {"added": added, "lost": added - (after - before)}


def together(others: list) -> float:
    """Tells both to go; the time until both have ended."""
    begin = time.perf_counter_ns()
    for other in others:
        other.stdin.write("go\n")
        other.stdin.flush()
    for other in others:
        if not other.stdout.readline():
            raise RuntimeError(f"one that adds failed: {child.reason(other.stderr.read())}"[:300])
    return time.perf_counter_ns() - begin
