"""What the programs of this folder share that hold shmvar against a reference: the clock, the table and the aims.

A row is one call of shmvar's (`ours`), and what it is held against (`reference`). Both are *loops*: functions that take
the turns and make the call once for each of them, so that the loop itself costs both the same. They run in one process,
in short stretches that alternate (A B A B …), because a machine that is busy, or that slows its clock, must hit both. A
row prints the medians of its stretches, and the median of the ratios of neighbours.

An aim is a bound on the time of ours: so many times the reference, and so much more. It is met if the median of what
neighbouring stretches leave of it is not negative.

    --quick   fewer stretches
    --smoke   two stretches over tiny sizes, to see that a program still runs; no aim is judged
    --json    the rows as JSON
    --rows    a file that the rows are appended to, as JSON, one a line (what `bench/every.py` reads)
"""

import argparse
import contextlib
import gc
import itertools
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata

import shmvar

Loop = Callable[[Sequence], object]
"""Makes a call once for each of the turns."""

KIB, MIB = 1 << 10, 1 << 20
STRETCH_NS = 200_000
"""How long the quickest loop of a row shall run in one stretch: far longer than reading the clock takes."""


@dataclass(frozen=True)
class Aim:
    """`times` the reference, and `plus_us` microseconds."""

    times: float = 0
    plus_us: float = 0

    def bound(self, reference: float) -> float:
        """Nanoseconds."""
        return self.times * reference + self.plus_us * 1e3

    def __str__(self) -> str:
        parts = [f"{self.times:g} x"] * bool(self.times) + [f"{self.plus_us:g} us"] * bool(self.plus_us)
        return " + ".join(parts)


@dataclass(frozen=True)
class Row:
    """Times are nanoseconds of one call."""

    name: str
    ours: float
    what: str
    """The reference."""
    reference: float
    ratio: float
    aim: str
    """What `Aim.__str__` says of the aim, or of each where there are several; or nothing."""
    bound: float | None
    met: bool | None
    """None: there is no aim, or it was not judged."""
    beside: dict[str, float] = field(default_factory=dict)
    """Other times of the same stretches: the physical limit, or another reference."""
    calls: int = 0
    stretches: int = 0
    unit: str = "ns"
    """Of ours and of the reference; what is counted, if it is no time."""

    def verdict(self) -> str:
        return "" if self.met is None else "met" if self.met else "MISSED"


@dataclass(frozen=True)
class Effort:
    """How much one run measures."""

    most: int
    least: int
    seconds: float
    """For one row; beyond it, no more than `least` stretches."""
    smoke: bool = False


FULL, QUICK, SMOKE = Effort(101, 9, 2.0), Effort(31, 5, 0.5), Effort(2, 2, 0, smoke=True)


def calls(function: Callable, *arguments: object) -> Loop:
    """The loop that calls a function with the same arguments each time."""

    def loop(turns: Sequence) -> None:
        for _ in turns:
            function(*arguments)

    return loop


def time_text(nanoseconds: float) -> str:
    for unit, size in ("s ", 1e9), ("ms", 1e6), ("us", 1e3):
        if abs(nanoseconds) >= size:
            return f"{nanoseconds / size:8.2f} {unit}"
    return f"{nanoseconds:8.1f} ns"


def stretch(loop: Loop, turns: Sequence) -> float:
    """Nanoseconds of one call."""
    begin = time.perf_counter_ns()
    loop(turns)
    return (time.perf_counter_ns() - begin) / len(turns)


def enough_calls(loops: Sequence[Loop], turns: Callable[[int], Sequence], effort: Effort) -> int:
    """So many calls in a stretch that the clock does not count, and the slowest loop does not take for ever."""
    if effort.smoke:
        return 2
    warm = [min(stretch(loop, turns(3)) for _ in range(3)) for loop in loops]
    return max(1, min(round(STRETCH_NS / min(warm)), round(100 * STRETCH_NS / max(warm))))


def interleaved(
    loops: Sequence[Loop], turns: Callable[[int], Sequence], count: int, effort: Effort
) -> list[tuple[float, ...]]:
    """The times of the loops, one tuple for each round of stretches. All of a round take the same turns."""
    found: list[tuple[float, ...]] = []
    end = time.perf_counter() + effort.seconds
    while len(found) < effort.least or (len(found) < effort.most and time.perf_counter() < end):
        some = turns(count)
        found.append(tuple(stretch(loop, some) for loop in loops))
    return found


class Bench:
    """The rows of one program."""

    def __init__(self, effort: Effort = FULL, show: Callable[[Row], None] = lambda row: None) -> None:
        self.effort, self.show, self.rows = effort, show, list[Row]()

    def size(self, number: int, tiny: int = 100) -> int:
        """The number, or a tiny one in a smoke run."""
        return min(number, tiny) if self.effort.smoke else number

    def row(
        self,
        name: str,
        ours: Loop,
        what: str,
        reference: Loop,
        aim: Aim | None = None,
        *,
        others: dict[str, tuple[Loop, Aim]] | None = None,
        beside: dict[str, Loop] | None = None,
        turns: Callable[[int], Sequence] = range,
        count: int | None = None,
    ) -> Row:
        """Measures and shows a row.

        Args:
            others: other references with aims of their own. The row is judged by whatever asks for the least time.
            beside: what else is measured in the same stretches, and printed, and not compared.
            turns: makes the turns of one stretch, of the number that it is given, before the clock starts.
            count: calls in a stretch. None: as many as the clock needs.
        """
        rivals = {what: (reference, aim or Aim(1))} | (others or {})
        loops = [ours, *(loop for loop, _ in rivals.values()), *(beside or {}).values()]
        number = count or enough_calls(loops[: 1 + len(rivals)], turns, self.effort)
        gc.collect()
        found = interleaved(loops, turns, number, self.effort)
        middles = [statistics.median(column) for column in zip(*found, strict=True)]
        bounds = [each.bound(middle) for (_, each), middle in zip(rivals.values(), middles[1:], strict=False)]
        least = bounds.index(min(bounds))
        (what, (_, judge)), at = list(rivals.items())[least], least + 1
        ratio = statistics.median(times[0] / times[at] for times in found)
        left = statistics.median(judge.bound(times[at]) - times[0] for times in found)
        names = [*rivals, *(beside or {})]
        more = {each: middle for each, middle in zip(names, middles[1:], strict=True) if each != what}
        met = None if aim is None or self.effort.smoke else left >= 0
        text = "" if aim is None else str(aim)
        if others and aim:
            text = ", or ".join(f"{each} {name}" for name, (_, each) in rivals.items())
        bound = None if aim is None else judge.bound(middles[at])
        return self.add(Row(name, middles[0], what, middles[at], ratio, text, bound, met, more, number, len(found)))

    def figure(self, name: str, ours: float, what: str, reference: float, aim: Aim | None = None) -> Row:
        """Shows a row that was measured in another way."""
        return self.add(judged(name, ours, what, reference, ours / reference, aim, self.effort.smoke))

    def add(self, row: Row) -> Row:
        self.rows.append(row)
        self.show(row)
        return row


def judged(
    name: str, ours: float, what: str, reference: float, ratio: float, aim: Aim | None, smoke: bool = False
) -> Row:
    """A row of figures. Its aim, if it is a number of times the reference, holds for the ratio."""
    if aim is None:
        return Row(name, ours, what, reference, ratio, "", None, None)
    bound = aim.bound(reference)
    met = ratio <= aim.times if not aim.plus_us else ours <= bound
    return Row(name, ours, what, reference, ratio, str(aim), bound, None if smoke else met)


# --- what is printed


HEAD = f"{'':<46}{'ours':>11} {'reference':>11}  {'ratio':>6}  {'aim':<16}{'':<7} against"


def line(row: Row) -> str:
    ours, reference, ratio = time_text(row.ours), time_text(row.reference), f"{row.ratio:6.2f}"
    if row.unit != "ns":
        ours, reference, ratio = f"{row.ours:,.1f}", f"{row.reference:,.1f}", f"{row.ratio:6.3f}"
    text = f"{row.name:<46}{ours:>11} {reference:>11}  {ratio}  {row.aim:<16}"
    beside = "".join(f"; {name} {time_text(each).strip()}" for name, each in row.beside.items())
    return f"{text}{row.verdict():<7} {row.what}{beside}"


def summary(rows: Sequence[Row]) -> str:
    judged = [row for row in rows if row.met is not None]
    missed = [f"  {line(row)}" for row in judged if not row.met]
    return "\n".join([f"{len(judged) - len(missed)} of {len(judged)} aims met", *missed])


def machine() -> dict[str, str]:
    """What the figures were measured on and with."""
    found = {"python": platform.python_version(), "shmvar": shmvar.__version__, "kernel": platform.release()}
    found["machine"] = f"{platform.machine()}, {os.cpu_count()} processors"
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:
        found["model"] = next((each.split(":")[1].strip() for each in file if each.startswith("model name")), "?")
    with contextlib.suppress(OSError), open("/proc/meminfo") as file:
        found["memory"] = f"{int(file.readline().split()[1]) / MIB:.1f} GiB"
    with contextlib.suppress(metadata.PackageNotFoundError):
        found["numpy"] = metadata.version("numpy")
    return found


def show_all(rows: Sequence[Row], chosen: argparse.Namespace) -> None:
    """Prints rows that were not made by a `Bench`, as the options say."""
    if chosen.json:
        print(json.dumps({"machine": machine(), "rows": [asdict(row) for row in rows]}, indent=1))
    else:
        print(HEAD, *map(line, rows), sep="\n")
        if not chosen.rows:
            print(summary(rows))
    if chosen.rows:
        with open(chosen.rows, "a") as file:
            for row in rows:
                print(json.dumps(asdict(row)), file=file)


# --- a program


NUMBERS = itertools.count(1)


@contextlib.contextmanager
def fresh(size: int = 1 << 30, evict: str | None = None) -> Iterator[shmvar.Segment]:
    """A segment with a key of its own, destroyed at the end."""
    segment = shmvar.attach(f"bench {os.getpid()} {next(NUMBERS)}", size, create=True, evict=evict)
    try:
        yield segment
    finally:
        segment.destroy()


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="fewer stretches")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, to see that it runs; judges no aim")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--rows", help="append each row to this file, as JSON")


def effort_of(chosen: argparse.Namespace) -> Effort:
    return SMOKE if chosen.smoke else QUICK if chosen.quick else FULL


def main(text: str, *groups: Callable[[Bench], None]) -> None:
    """Runs the groups, each of which adds rows; prints them as they come, and a summary."""
    parser = argparse.ArgumentParser(description=text.split("\n")[0])
    options(parser)
    chosen = parser.parse_args()

    def show(row: Row) -> None:
        if not chosen.json:
            print(line(row), flush=True)
        if chosen.rows:
            with open(chosen.rows, "a") as file:
                print(json.dumps(asdict(row)), file=file)

    bench = Bench(effort_of(chosen), show)
    if not chosen.json:
        print(HEAD, flush=True)
    for group in groups:
        group(bench)
    if chosen.json:
        print(json.dumps({"machine": machine(), "rows": [asdict(row) for row in bench.rows]}, indent=1))
    elif not chosen.rows:
        print(summary(bench.rows))
