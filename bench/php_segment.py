"""get and put in one of PHP's segments, by `shmvar.php`, against PHP's own functions, measured by PHP.

Stretches of ours and of PHP's alternate. Each side has a segment of its own with the same variables in the same order,
because they would move each other's; each stretch makes the same calls.

The first variable is what PHP finds soonest, the last what it has to walk to; "random" takes another one for each call.
"""

import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import ratios
from ratios import Aim

from shmvar import php

VALUES = {"int": 42, "str": "x" * 41, "array": list(range(100))}
COUNTS = (1, 100, 10_000)  # to fill one of 100,000 takes minutes on both sides, and says no more
AIMS = {("int", 1): Aim(3), ("int", 10_000): Aim(1)}
"""Of get and of put, by kind and number of variables: so many times PHP's own call."""
OWN_SIZES = {"int": 40, "str": 88, "array": 1024}
STRETCH_NS = 2_000_000
"""How long a stretch of PHP's takes: longer than elsewhere, because each costs a message to another process."""


class Phps:
    """PHP's side: a process with a segment of its own."""

    def __init__(self, key: int, size: int) -> None:
        script = Path(__file__).with_suffix(".php")
        self.process = subprocess.Popen(
            ["php", script, str(key), str(size)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def stretch(self, call: str, kind: str, indexes: list[int], calls: int) -> float:
        """Nanoseconds of one call."""
        self.process.stdin.write(json.dumps([call, kind, indexes, calls]) + "\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(60)


def ours(segment: php.Segment, call: str, kind: str, indexes: list[int], calls: int) -> float:
    """The same of ours."""
    value, turns = VALUES[kind], range(calls)
    clock = time.perf_counter_ns
    if len(indexes) > 1:
        if call == "get":
            begin = clock()
            for index in indexes:
                segment[index]
        else:
            begin = clock()
            for index in indexes:
                segment[index] = value
        return (clock() - begin) / len(indexes)
    (index,) = indexes
    if call == "get":
        begin = clock()
        for _ in turns:
            segment[index]
    elif call == "put":
        begin = clock()
        for _ in turns:
            segment[index] = value
    elif call == "has":
        begin = clock()
        for _ in turns:
            index in segment  # noqa: B015
    else:
        begin = clock()
        for _ in turns:
            segment[index] = value
            del segment[index]
    return (clock() - begin) / calls


def measure(
    bench: ratios.Bench, segment: php.Segment, theirs: Phps, name: str, call: str, kind: str, draw, aim
) -> None:
    """A row. `draw` makes the indexes of a stretch of so many calls; one index is for all of them."""
    effort = bench.effort
    estimate = min(theirs.stretch(call, kind, draw(3), 3) for _ in range(3))
    count = 3 if effort.smoke else max(3, min(50_000, round(STRETCH_NS / max(estimate, 1))))
    times, end = [], time.perf_counter() + effort.seconds
    while len(times) < effort.least or (len(times) < effort.most and time.perf_counter() < end):
        indexes = draw(count)
        one = ours(segment, call, kind, indexes, count)
        times.append((one, theirs.stretch(call, kind, indexes, count)))
    us, them = (statistics.median(column) for column in zip(*times, strict=True))
    ratio = statistics.median(one / other for one, other in times)
    bench.add(ratios.judged(name, us, "PHP", them, ratio, aim, effort.smoke))


def of_kind(bench: ratios.Bench, kind: str, named: int) -> None:
    """The rows of a segment of so many variables. (In a smoke run it has fewer, under the same names.)"""
    count = bench.size(named, 20)
    size = 40 + (count + 8) * OWN_SIZES[kind] * 2
    key = 1 << 30 | os.getpid() << 6
    segment, theirs = php.attach(key, size, 0o600, create=True), Phps(key + 1, size)
    try:
        indexes = list(range(count))
        segment.update(dict.fromkeys(indexes, VALUES[kind]))
        theirs.stretch("fill", kind, indexes, count)
        aim, seeds = AIMS.get((kind, named)), random.Random(5)

        def row(call: str, where: str, draw, aim=aim) -> None:
            name = f"{kind}, {named:,} variables: {call}" if named > 1 else f"{kind}, one variable: {call}"
            name += f", {where}" if count > 1 and where else ""
            measure(bench, segment, theirs, name, call, kind, draw, aim)

        last = count - 1
        row("get", "first", lambda calls: [0])
        if count > 1:
            row("get", "last", lambda calls: [last])
            row("get", "random", lambda calls: [seeds.randrange(count) for _ in range(calls)])
        row("has", "missing", lambda calls: [-1], None)
        row("put", "last", lambda calls: [last])
        row("put new + remove", "", lambda calls: [-1], None)
        if count > 1:
            row("put", "random", lambda calls: [seeds.randrange(count) for _ in range(calls)])
    finally:
        theirs.close()
        segment.destroy()
        segment.detach()


def rows(bench: ratios.Bench) -> None:
    for kind in VALUES:
        for count in COUNTS:
            of_kind(bench, kind, count)


if __name__ == "__main__":
    if shutil.which("php") is None:
        print("bench/php_segment.py measured nothing: it needs php-cli, which is the reference", file=sys.stderr)
        sys.exit()
    ratios.main(__doc__, rows)
