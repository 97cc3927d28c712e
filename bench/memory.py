"""Does memory follow what is stored? Fills segments, empties them, and compares what they take with its bounds.

A line for each measurement: what was stored, what that is charged (`used`), what the segment takes (`resident`, as
`info()` says and as the file's blocks say: where the two differ, the measurement has failed), the bound, and what is
left after `clear()` and `trim()` with nobody else attached, 256 KiB at most. The bounds:

    each     a small int: 48 bytes and 256 KiB; a 40-character str, and what is charged no more: 100 bytes and 256 KiB
    once     values of 100 bytes and more, of any lengths, that were stored once: 1.25 times `used` and 1 MiB
    trimmed  after any history and `trim()`: 1.5 times `used` and 1 MiB
    kept     after any history, without `trim()`: as once, and free besides as much as is in use and 64 MiB
    puts     a limit of L, a memory file system of 1.6 L and 2 MiB: each put that the limit allows succeeds

Filled or changed, a segment is looked at again and again, and the line is that of the worst moment. Lines of one kind
are folded into the worst of them; `--json` has each. Every measurement runs in a process of its own, in segments with
keys of their own. The narrow file systems need root and a mount namespace, or are skipped. The exit status is 1 where
a bound is missed or a measurement fails.
"""

import argparse
import itertools
import json
import math
import os
import random
import sys
import time
from dataclasses import asdict, dataclass, replace

from scale import SHM, apart, fresh, mounted

import shmvar

KIB, MIB, EMPTY = 1 << 10, 1 << 20, 256 << 10
FULL = dict(ints=10_000_000, strs=10_000_000, texts=2_000_000, total=32 * MIB, sessions=100_000, seconds=20, fine=1000)
QUICK = dict(ints=500_000, strs=300_000, texts=100_000, total=3 * MIB, sessions=20_000, seconds=1.5, fine=200)
"""Most variables; bytes in a segment; `fine`: a look whenever one variable for each so many has been added."""
BOUNDS = {
    "ints": lambda info: 48 * info.count + EMPTY,
    "strs": lambda info: 100 * info.count + EMPTY,
    "once": lambda info: 1.25 * info.used + MIB,
    "trimmed": lambda info: 1.5 * info.used + MIB,
    "kept": lambda info: 2.25 * info.used + 65 * MIB,
    "puts": lambda info: os.statvfs(SHM).f_blocks * os.statvfs(SHM).f_frsize,
}


@dataclass
class Row:
    what: str = ""
    count: int = 0
    used: int = 0
    resident: int = 0
    bound: float = 1
    cleared: int = 0
    kind: str = ""
    problem: str = ""
    skipped: bool = False

    def met(self) -> bool:
        return not self.problem and self.resident <= self.bound and self.cleared <= EMPTY

    def badness(self) -> tuple[bool, float]:
        return not self.met(), max(self.resident / self.bound, self.cleared / EMPTY)


# --- one segment


def look(segment: shmvar.Segment, bound: str) -> Row:
    info = segment.info()
    blocks = os.stat(f"{SHM}/{info.name}").st_blocks * 512
    if blocks != info.resident:
        raise ArithmeticError(f"info().resident is {info.resident}, the file takes {blocks}")
    return Row("", info.count, info.used, info.resident, BOUNDS[bound](info))


def cleared(segment: shmvar.Segment, row: Row) -> Row:
    segment.clear()
    segment.trim()
    return replace(row, cleared=look(segment, "once").resident)


def fill(segment: shmvar.Segment, values, bound: str, fine: int = 20, total: float = math.inf) -> tuple[Row, list]:
    """Stores the values, or as many as are charged the total; the worst moment, and the indices."""
    put, indices, worst, next_look = segment.put, [], Row(), 1 if fine else math.inf
    for count, (index, value) in enumerate(values, 1):
        put(index, value)
        indices.append(index)
        if count >= next_look:
            next_look = count + 1 + count // fine
            row = look(segment, bound)
            worst = max(worst, row, key=Row.badness)
            if row.used >= total:
                break
    return max(worst, look(segment, bound), key=Row.badness), indices


def log_uniform(draw: random.Random, low: float, high: float) -> int:
    return round(math.exp(draw.uniform(math.log(low), math.log(high))))


def endless(value, draw: random.Random):
    return ((number, value(draw)) for number in itertools.count())


# --- stored once


def stored(what: str, values, bound: str, fine: int = 20, total: float = math.inf, kind: str = "") -> Row:
    with fresh() as segment:
        row, _ = fill(segment, values, bound, fine, total)
        each = f" ({(row.resident - EMPTY) / row.count:.1f} bytes each)" if bound in ("ints", "strs") else ""
        return cleared(segment, replace(row, what=f"{row.count:,} {what}{each}", kind=kind))


def scans(plan: argparse.Namespace) -> list[Row]:
    strs = ((n, f"{n:040d}") for n in range(plan.strs))
    texts = ((f"{n:08d}", f"{n:030d}") for n in range(plan.texts))
    return [
        stored(f"small ints, worst up to {plan.ints:,}", ((n, n) for n in range(plan.ints)), "ints", plan.fine),
        stored(f"str of 40, worst up to {plan.strs:,}", strs, "strs", plan.fine),
        stored(f"text indexes, str of 30, worst up to {plan.texts:,}", texts, "strs", plan.fine),
    ]


def as_measured(_plan: argparse.Namespace) -> list[Row]:
    """What had been measured when this was written, as it was: at the end."""
    counts = 28_673, 1_000_000, 1_835_008, 1_835_009
    rows = [stored("small ints", ((n, n) for n in range(count)), "ints", 0) for count in counts]
    for count, length in (200_000, 40), (200_000, 100), (100_000, 300), (20_000, 2_900), (5_000, 8_200):
        values = ((n, bytes(length)) for n in range(count))
        rows.append(stored(f"bytes of {length:,}", values, "once" if length >= 100 else "strs", 0))
    return rows


def lengths() -> list[int]:
    """100 to 1 MiB: powers of two, and half as much again, and multiples of pages; one less, one more; and others."""
    around = {2**n + extra for n in range(7, 21) for extra in (0, 2 ** (n - 1))} | {4096 * n for n in range(1, 18)}
    others = {100, 150, 300, 700, 1400, 2900, 5000, 8200, 10_000, 31_622, 50_000, 100_000, 300_000, 700_000}
    return sorted(n for n in {n + by for n in around for by in (-1, 0, 1)} | others if 100 <= n <= MIB)


def sizes(plan: argparse.Namespace) -> list[Row]:
    rows, draw = [], random.Random(1)
    for length in lengths():
        values = zip(itertools.count(), itertools.repeat(bytes(length)))
        rows.append(stored(f"bytes of {length:,}", values, "once", 20, plan.total, "one length"))
        values = zip(itertools.count(), itertools.repeat(bytearray(length)))
        rows.append(stored(f"bytearrays of {length:,}", values, "once", 20, plan.total, "one length, with a buffer"))
    for low, high in (100, MIB), (100, 1000), (100, 31_622), (1000, 16_384), (4096, 65_536), (30_000, MIB):
        values = endless(lambda draw, low=low, high=high: bytes(log_uniform(draw, low, high)), draw)
        rows.append(stored(f"bytes of {low:,} to {high:,}", values, "once", 20, plan.total, "log-uniform"))
    return rows


# --- histories: each yields whenever it wants to be looked at


VALUES = {
    "small ints": lambda draw: draw.randrange(1000),
    "str of 40": lambda draw: f"{draw.randrange(1000):040d}",
    **{f"bytes of {n:,}": lambda draw, n=n: bytes(n) for n in (100, 300, 2900, 8200, 20_000, 100_000)},
    "bytes, log-uniform 100 to 1 MiB": lambda draw: bytes(log_uniform(draw, 100, MIB)),
}
WAYS = {
    "a random tenth left": lambda indices, draw: draw.sample(indices, len(indices) * 9 // 10),
    "the youngest tenth left": lambda indices, draw: indices[: len(indices) * 9 // 10],
    "every tenth left": lambda indices, draw: [index for place, index in enumerate(indices) if place % 10],
}


def history(what: str, steps, *arguments, bound: str = "kept", size: int = 4 << 30, kind: str = "") -> list[Row]:
    """The worst moment, and the end after `trim()`."""
    with fresh(size) as segment:
        try:
            rows = [look(segment, bound) for _ in steps(segment, random.Random(2), *arguments)]
        except shmvar.SegmentFullError as error:
            return [Row(what, problem=f"{segment.info().used} of {size} used: {error}", kind=kind)]
        worst = replace(max(rows, key=Row.badness), what=what, kind=kind)
        segment.trim()
        kind = kind and f"{kind}, trim()"
        return [worst, cleared(segment, replace(look(segment, "trimmed"), what=f"{what}, trim()", kind=kind))]


def thinning(segment, draw, value, way, total):
    _, indices = fill(segment, endless(value, draw), "once", 20, total)
    for index in way(indices, draw):
        del segment[index]
    yield


def refilling(segment, draw, value, total):
    for way in WAYS.values():
        yield from thinning(segment, draw, value, way, total)
    segment.clear()
    yield


def growing(segment, _draw):
    for step in range(71):
        for index in range(1000):
            segment[index] = bytes(round(20 * 800 ** (step / 70)))
        yield


def nine_lengths(segment, _draw):
    for length in (100, 300, 1000, 2900, 8200, 20_000, 60_000, 200_000, 1_000_000):
        for number in range(50_000_000 // length):
            segment[number] = bytes(length)
        yield
        segment.clear()
        yield


def sessions(segment, draw, puts):
    for number in range(puts):
        segment[number] = bytes(draw.randrange(1000, 12_001))
        segment.remove(number - 3000)
        if number % 1000 == 0:
            yield


def churn(segment, draw, seconds):
    """Puts, of new indices and old ones; removes for as long as more than 70 % of the limit are in use."""
    some, end = [round(10 ** draw.uniform(1, 4.5)) for _ in range(10_000)], time.monotonic() + seconds
    while time.monotonic() < end:
        for _ in range(1000):
            segment[draw.randrange(20_000)] = bytes(draw.choice(some))
            while segment.info().used > 0.7 * segment.size:
                segment.remove(draw.randrange(20_000))
        yield


def thinned(plan: argparse.Namespace) -> list[Row]:
    rows = []
    for (name, value), (how, way) in itertools.product(VALUES.items(), WAYS.items()):
        rows += history(f"{name}, {how}", thinning, value, way, plan.total, kind="thinned")
    return rows


def histories(plan: argparse.Namespace) -> list[Row]:
    rows = []
    for name in "bytes of 300", "bytes of 2,900", "bytes of 100,000":
        rows += history(f"{name}, thinned, refilled, cleared", refilling, VALUES[name], 96 * MIB, kind="refilled")
    rows += history("1,000 values that grow from 20 to 16,000 bytes", growing)
    rows += history("50 MB of each of nine lengths, cleared in between", nine_lengths)
    return rows + history(f"sessions: 3,000 of 1 to 12 kB, {plan.sessions:,} puts", sessions, plan.sessions)


def random_lengths(plan: argparse.Namespace) -> list[Row]:
    return history(f"random: 10 to 31,622 bytes, 70 % of limit, {plan.seconds:g} s", churn, plan.seconds, size=64 * MIB)


# --- narrow file systems


def full_then_large(segment, _draw, _some, _seconds):
    for number in range(500):
        segment[number] = bytes(3000)
    yield
    segment.clear()
    segment[1] = bytes(MIB)
    yield


def whatever_fits(segment, draw, some, seconds):
    """Puts of new indices and old ones until the limit has forbidden twenty, removes; what it allows must succeed."""
    alive, end = {}, time.monotonic() + seconds
    while time.monotonic() < end:
        used, forbidden, (low, high) = sum(alive.values()), 0, sorted(draw.sample(range(len(some) + 1), 2))
        assert segment.info().used == used, f"used is {segment.info().used}, the variables are charged {used}"
        while forbidden < 20:
            (value, charge), index = draw.choice(some[low:high]), draw.randrange(2 * len(alive) + 10)
            after = used + charge - alive.get(index, 0)
            if after > segment.size:
                forbidden += 1
            else:
                segment[index] = value
                used, alive[index] = after, charge
        yield
        for index in draw.sample(list(alive), len(alive) * draw.randint(1, 4) // 4):
            del segment[index], alive[index]


def narrow(plan: argparse.Namespace, limit: int, steps=whatever_fits) -> list[Row]:
    draw, size = random.Random(7), limit * 8 // 5 + 2 * MIB if steps is whatever_fits else limit
    values = [7, "x" * 40, *map(bytes, sorted(log_uniform(draw, 10, limit // 4) for _ in range(250)))]
    with fresh() as segment:
        segment.update(enumerate(values))
        some = [(value, segment.stat(index).size) for index, value in enumerate(values)]
    what = f"limit of {limit // MIB} MiB on a file system of {size / MIB:.1f} MiB: {steps.__name__}"
    if not mounted(size):
        return [Row(what, skipped=True)]
    return history(what, steps, some, plan.seconds / 4, size=limit, bound="puts")


# --- all of them


def line(row: Row) -> str:
    if row.problem or row.skipped:
        return f"{row.what}: {'FAILED, ' + row.problem if row.problem else 'skipped, needs root, unshare and mount'}"
    numbers = "".join(f"{number / 1e6:9.2f}" for number in (row.used, row.resident, row.bound))
    return f"{row.what:<86}{numbers}{row.cleared / KIB:11,.0f}  {'met' if row.met() else 'MISSED'}"


def show(rows: list[Row]) -> None:
    for kind in dict.fromkeys(row.kind for row in rows):
        some = [row for row in rows if row.kind == kind]
        if kind:
            worst, missed = max(some, key=Row.badness), sum(not row.met() for row in some)
            some = [replace(worst, what=f"{kind}, {missed} of {len(some)} missed: {worst.what}")]
        print(*map(line, some), sep="\n", flush=True)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], argument_default=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help="less of everything, in about 20 seconds")
    parser.add_argument("--hour", action="store_true", help="an hour of random puts and removes")
    parser.add_argument("--seconds", type=float, help="of random puts and removes; a quarter on each file system")
    parser.add_argument("--sessions", type=int, help="puts of the sessions")
    parser.add_argument("--only", default="", help="of " + ", ".join(MEASUREMENTS))
    parser.add_argument("--json", default=False, action="store_true", help="every line, also those that are folded")
    chosen = vars(parser.parse_args())
    plan = (QUICK if "quick" in chosen else FULL) | ({"seconds": 3600} if "hour" in chosen else {})
    return argparse.Namespace(**plan | chosen)


MEASUREMENTS = {f.__name__: (f,) for f in (scans, as_measured, sizes, thinned, histories, random_lengths)}
MEASUREMENTS |= {f"narrow_{limit}": (narrow, limit * MIB) for limit in (1, 4, 16, 64)}
MEASUREMENTS["narrow_full"] = narrow, 2 * MIB, full_then_large


def main() -> int:
    plan, rows = options(), []
    print(f"{'':<86}{'used MB':>9}{'resident':>9}{'bound':>9}{'clear, KiB':>11}", file=sys.stderr, flush=True)
    for name, (measure, *arguments) in MEASUREMENTS.items():
        if plan.only in name:
            some, problem = apart(measure, plan, *arguments)
            rows += some or [Row(name, problem=problem)]
            if not plan.json:
                show(some or rows[-1:])
    if plan.json:
        print(json.dumps([{**asdict(row), "met": row.met()} for row in rows], indent=1))
    missed = sum(not row.met() for row in rows)
    print(f"{missed} of {len(rows)} bounds are missed, or could not be measured", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
