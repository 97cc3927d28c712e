"""What a get costs when there are many variables: small ints, up to 10,000,000 of them, in random order.

The reference is the least that an array of so many 32-byte slots can cost: shared memory, and one 64-bit number read
at a random slot. It is read through a `memoryview` of 64-bit numbers, by the same expression as ours, `m[i]`: the
interpreter calls one compiled function with one `int` in both, and both make one new `int`, so the call is on both
sides and nothing is subtracted. The indices of a stretch are made right before it, so that they are in the caches;
the slots are not, for each stretch has its own. What a get costs beyond the reference are the misses that a hash
table adds.

Between two growths the table fills up. The second part looks at eight sizes between each size and its double, and
compares the slowest with the best of them; for an index that is missing, too.
"""

import mmap
import random
import statistics

import ratios
from ratios import Aim

TEN = 10_000_000
SLOT = 32
STEPS = 8
"""Sizes looked at between one and its double."""
CALLS = 2000
"""In a stretch: their indices fit into the caches."""
PIECE = 1_000_000


def grown(segment, begin: int, end: int) -> None:
    for start in range(begin, end, PIECE):
        segment.put_many({number: number + 1000 for number in range(start, min(start + PIECE, end))})


class Plain:
    """An array of 32-byte slots in shared memory, each with its number in it."""

    def __init__(self, most: int) -> None:
        self.memory = mmap.mmap(-1, most * SLOT)
        self.words = memoryview(self.memory).cast("q")
        for number in range(0, most * SLOT // 8, SLOT // 8):
            self.words[number] = number + 1000


def hits(segment, plain: Plain, count: int, draw: random.Random):
    """The loops over one turn: the indices of both."""

    def ours(turns):
        for index in turns.ours:
            segment[index]

    def theirs(turns, words=plain.words):
        for place in turns.theirs:
            words[place]

    return ours, theirs, lambda calls: Turns(calls, count, draw, 0)


def missed(segment, plain: Plain, count: int, draw: random.Random):
    def ours(turns, get=segment.get):
        for index in turns.ours:
            get(index)

    def theirs(turns, words=plain.words):
        for place in turns.theirs:
            words[place]

    return ours, theirs, lambda calls: Turns(calls, count, draw, 1 << 40)


class Turns:
    """Random numbers, as indices and as places among the words of the plain array."""

    def __init__(self, calls: int, count: int, draw: random.Random, beyond: int) -> None:
        numbers = [draw.randrange(count) for _ in range(calls)]
        self.ours = [number + beyond for number in numbers]
        self.theirs = [number * (SLOT // 8) for number in numbers]

    def __len__(self) -> int:
        return len(self.ours)


def at_counts(bench: ratios.Bench) -> None:
    """A get at 1,000 to 10,000,000 variables, against the array of as many slots."""
    draw, before = random.Random(7), 0
    with ratios.fresh(4 << 30) as segment:
        for count in (1000, 100_000, 1_000_000, TEN):
            real = bench.size(count, 1000)
            grown(segment, before, real)
            before, plain = real, Plain(real)
            ours, theirs, turns = hits(segment, plain, real, draw)
            aim = Aim(1.3) if count == TEN else None
            bench.row(f"get of one of {count:,} ints", ours, "a 32-byte slot", theirs, aim, turns=turns, count=CALLS)


def between_growths(bench: ratios.Bench) -> None:
    draw, most, smoke = random.Random(7), bench.size(TEN, 2000), bench.effort.smoke
    effort = ratios.SMOKE if smoke else ratios.Effort(25, 9, 0.2)
    kinds = {"get": hits, "get of a missing index": missed}
    plain, before, count = Plain(most), 0, 1000
    times: dict[str, dict[int, tuple[float, float]]] = {kind: {} for kind in kinds}
    with ratios.fresh(4 << 30) as segment:
        while count <= most:
            grown(segment, before, count)
            for kind, loops in kinds.items():
                ours, theirs, turns = loops(segment, plain, count, draw)
                pairs = ratios.interleaved((ours, theirs), turns, bench.size(CALLS, 2), effort)
                factor = statistics.median(mine / its for mine, its in pairs)
                times[kind][count] = factor, statistics.median(mine for mine, _ in pairs)
            before, count = count, int(count * 2 ** (1 / STEPS)) + 1
    for kind, found in times.items():
        slowest, best = max(pairs_within_a_doubling(found), key=lambda pair: slower(found, *pair))
        (_, ours), (_, theirs) = found[slowest], found[best]
        ratio = slower(found, slowest, best)
        what = f"the best size; {slowest:,} variables against {best:,}"
        bench.add(ratios.judged(f"{kind}: slowest between growths", ours, what, theirs, ratio, Aim(1.5), smoke))


def pairs_within_a_doubling(found: dict) -> list[tuple[int, int]]:
    return [(one, other) for one in found for other in found if one / 2 <= other <= one * 2 and one != other]


def slower(found: dict[int, tuple[float, float]], one: int, other: int) -> float:
    """How many times slower a call is at one number of variables than at another, by itself and beside the reference.

    A table that is larger misses the caches more often, and so does the reference: its factor does not grow. Where the
    reference has just left a cache, its factor drops, and the times do not. What slows down is slow in both.
    """
    (factor, taken), (other_factor, other_taken) = found[one], found[other]
    return min(factor / other_factor, taken / other_taken)


if __name__ == "__main__":
    ratios.main(__doc__, at_counts, between_growths)
