"""A segment that evicts by last use: what a use costs, what a put costs that evicts, and how often it hits.

Reads and puts are held against a segment that evicts nothing; misses on a Zipf trace against an exact order of all that
is there (the aim: within 5 points).
"""

import bisect
import collections
import itertools
import random

import ratios
from ratios import MIB, Aim

OVERHEAD = 37
"""What a variable with an integer index and a short `bytes` is charged beside these bytes."""


def rows(bench: ratios.Bench) -> None:
    size = bench.size(100_000, 2_000)
    with ratios.fresh() as plain, ratios.fresh(evict="lru") as cache:
        for segment in plain, cache:
            segment.update({number: number for number in range(size)})
            segment["text"] = "v" * 40
        for kind, index in ("an int", 7), ("a str of 40", "text"):
            for call, aim in ("get", Aim(1.1)), ("__setitem__", None):
                arguments = (index,) if call == "get" else (index, plain[index])
                loops = [ratios.calls(getattr(segment, call), *arguments) for segment in (cache, plain)]
                name = f"{'get' if call == 'get' else 'put'} of {kind}, evict='lru'"
                bench.row(name, loops[0], "evict=None", loops[1], aim)
    for length in 100, 10_000:
        limit = bench.size(64 * MIB, MIB)
        with ratios.fresh() as plain, ratios.fresh(limit, "lru") as cache:
            value, numbers = b"x" * length, itertools.count()
            while cache.info().evicted == 0:
                cache[next(numbers)] = value

            def at_the_limit(turns, cache=cache, numbers=numbers, value=value):
                for _ in turns:
                    cache[next(numbers)] = value

            count = len(cache)
            plain.update({number: value for number in range(count)})

            def below(turns, plain=plain, numbers=numbers, value=value, count=count):
                for _ in turns:
                    plain[next(numbers) * 7_919 % count] = value

            bench.row(f"put of {length:,} bytes that evicts", at_the_limit, "over another value", below)
    hits(bench)


def hits(bench: ratios.Bench) -> None:
    for most, exponent in (100, 0.9), (10_000, 0.9), (10_000, 1.1):
        count = bench.size(most)
        limit, steps = count * (100 + OVERHEAD), bench.size(30 * max(count, 3_000), 1_000)
        real, missed = collections.OrderedDict[int, None](), [0, 0]
        with ratios.fresh(max(limit, 1 << 12), "lru") as cache:
            room = cache.size // (100 + OVERHEAD)
            for step, number in enumerate(zipf(count * 5, exponent, steps)):
                counts = step >= steps // 3
                if cache.get(number) is None:
                    cache[number] = b"x" * 100
                    missed[0] += counts
                if number in real:
                    real.move_to_end(number)
                else:
                    real[number] = None
                    missed[1] += counts
                    if len(real) > room:
                        real.popitem(last=False)
        ours, exact = (100 * each / (steps - steps // 3) for each in missed)
        name = f"misses of {most:,} variables, Zipf {exponent}"
        met = None if bench.effort.smoke else ours <= exact + 5
        row = ratios.Row(name, ours, "an exact order", exact, ours / exact, "+ 5", exact + 5, met, unit="%")
        bench.add(row)


def zipf(numbers: int, exponent: float, length: int) -> list[int]:
    draw = random.Random(17).random
    sums = list(itertools.accumulate(1 / (number + 1) ** exponent for number in range(numbers)))
    return [bisect.bisect(sums, draw() * sums[-1]) for _ in range(length)]


if __name__ == "__main__":
    ratios.main(__doc__, rows)
