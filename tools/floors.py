"""Checks how the source files depend on each other: no circle between files, and no import of a floor above.

    python tools/floors.py              checks this repository: what breaks a rule, as `path:line: why`
    python tools/floors.py --list       which files each floor has
    python tools/floors.py --arrows     how often each floor uses each other one

The rules, for `src/` and for `python/`:

1. No circle: no file depends on itself through other files, on whatever floors they are.
2. No import upward: a file uses its own floor and those below, as the lists here order them.
3. A floor that stands beside the others (`BESIDE`) uses only those that are named there.
4. An inherent `impl` block stands in the file that defines its type, or in that file's folder or below. Otherwise
   methods would hide what rules 1 and 2 look for: a method call names no file.

What counts as a use of another file is described in `rust_arrows.py` and `python_arrows.py`. Tests are left out.
"""

import argparse
import sys
from collections import Counter, deque
from collections.abc import Iterable
from pathlib import Path

from python_arrows import Package
from rust_arrows import Arrow, Crate

# From top to bottom. A floor is a list of files and folders, named below the source folder and without `.rs` or `.py`;
# of several that fit, the longest counts. `*` is every file that nothing else names.
Floors = list[tuple[str, list[str]]]
RUST: Floors = [
    ("crate", ["lib", "fuzzing"]),
    ("py", ["py"]),
    ("php", ["php"]),
    ("segment", ["segment"]),
    ("coordination", ["coordination"]),
    ("variables", ["variables"]),
    ("heap", ["heap"]),
    ("process", ["process"]),
    ("arena", ["arena"]),
    ("os", ["os"]),
    ("codec", ["codec"]),
    ("sync", ["sync"]),
    ("format", ["format", "key"]),
    ("ground", ["error", "hash", "fallible", "bit_runs", "atomic", "crash_point"]),
]
PYTHON: Floors = [
    ("program", ["__main__"]),
    ("magics", ["notebook/_magics"]),  # keys are read as the command line reads them
    ("cli", ["cli"]),
    ("package", ["__init__"]),
    ("modules", ["*"]),
]
# A floor that stands beside the others, not on them: those that it uses, and no more.
BESIDE: dict[str, set[str]] = {"php": {"os", "sync", "ground"}}
# Inherent `impl` blocks that may stand elsewhere: (file, type), and why.
IMPL_ELSEWHERE: dict[tuple[str, str], str] = {}


class Column:
    """The files of one language, the arrows between them, and the floor of each."""

    def __init__(self, source: str, floors: Floors, files: Iterable[str], arrows: Iterable[Arrow]) -> None:
        self.source = source
        self.floors = floors
        self.files = sorted(files)
        self.arrows = sorted(set(arrows))
        self.first: dict[str, dict[str, Arrow]] = {file: {} for file in self.files}  # the first arrow from file to file
        for arrow in self.arrows:
            self.first[arrow.source].setdefault(arrow.target, arrow)

    def floor_of(self, file: str) -> int | None:
        """The number of a file's floor, counted from the top."""
        parts = file.removeprefix(self.source + "/").rsplit(".", 1)[0].split("/")
        for length in range(len(parts), -1, -1):
            name = "/".join(parts[:length]) or "*"
            for number, (_, members) in enumerate(self.floors):
                if name in members:
                    return number
        return None

    def upward(self) -> list[str]:
        """Files without a floor, and every use of a floor above."""
        found = []
        for file in self.files:
            if self.floor_of(file) is None:
                found.append(f"{file}:1: stands on no floor: name it in the list in tools/floors.py")
        for arrow in self.arrows:
            here, there = self.floor_of(arrow.source), self.floor_of(arrow.target)
            if here is not None and there is not None and there < here:
                low, high = self.floors[here][0], self.floors[there][0]
                found.append(f"{place(arrow)}: upward, from {low} to {high}: uses {used(arrow)}")
        return found

    def beside(self) -> list[str]:
        """Every use that a floor beside the others makes of one that is not among those named for it."""
        found = []
        for arrow in self.arrows:
            here, there = self.floor_of(arrow.source), self.floor_of(arrow.target)
            if here is None or there is None or here >= there:
                continue  # what leads upward is found by `upward`
            low, high = self.floors[there][0], self.floors[here][0]
            if low not in BESIDE.get(high, {low}):
                found.append(f"{place(arrow)}: {high} stands beside {low}: uses {used(arrow)}")
        return found

    def circles(self, every: bool) -> list[str]:
        """The shortest circle of each set of files that reach each other. `every`: the shortest through each file."""
        found: list[str] = []
        for number, knot in enumerate(self.knots(), 1):
            shortest = sorted((self.shortest_circle(file, knot) for file in knot), key=lambda c: (len(c), c))
            seen: set[frozenset[Arrow]] = set()
            for circle in shortest if every else shortest[:1]:
                if frozenset(circle) not in seen:
                    seen.add(frozenset(circle))
                    about = f"circle {number} ({len(circle)} files, of {len(knot)} that reach each other)"
                    found += [f"{place(arrow)}: {about}: uses {used(arrow)}" for arrow in circle]
        return found

    def knots(self) -> list[list[str]]:
        """The largest sets of files in which each file reaches each other one."""
        reach = {file: self.reached(file) for file in self.files}
        knots = {tuple(sorted(other for other in reach[file] if file in reach[other])) for file in self.files}
        return sorted(list(knot) for knot in knots if knot)

    def reached(self, file: str) -> set[str]:
        """The files that a file depends on, at any distance. It is one of them if it is in a circle."""
        seen: set[str] = set()
        ahead = [file]
        while ahead:
            for target in self.first[ahead.pop()]:
                if target not in seen:
                    seen.add(target)
                    ahead.append(target)
        return seen

    def shortest_circle(self, start: str, knot: list[str]) -> list[Arrow]:
        """The arrows of a shortest circle through a file of a knot."""
        came_by: dict[str, Arrow] = {}
        ahead = deque([start])
        while start not in came_by:
            file = ahead.popleft()
            for target, arrow in sorted(self.first[file].items()):
                if target in knot and target not in came_by:
                    came_by[target] = arrow
                    ahead.append(target)
        circle = [came_by[start]]
        while circle[0].source != start:
            circle.insert(0, came_by[circle[0].source])
        return circle

    def names(self) -> list[str]:
        """The floors with their files, as text."""
        lines = []
        for number, (floor, _) in enumerate(self.floors):
            files = [file for file in self.files if self.floor_of(file) == number]
            lines += [f"{floor}:", *(f"    {file}" for file in files)]
        return lines

    def between(self) -> list[str]:
        """How often each floor uses each other one, as text."""
        counts = Counter((self.floor_of(arrow.source), self.floor_of(arrow.target)) for arrow in self.arrows)
        names = [floor for floor, _ in self.floors]
        return [
            f"{names[here]} -> {names[there]}: {counts[here, there]}{' UPWARD' if there < here else ''}"
            for here in range(len(names))
            for there in range(len(names))
            if counts[here, there] and here != there
        ]


def place(arrow: Arrow) -> str:
    """Where an arrow begins."""
    return f"{arrow.source}:{arrow.line}"


def used(arrow: Arrow) -> str:
    """What an arrow leads to."""
    return f"`{arrow.name}` of {arrow.target}"


def misplaced(impls: Iterable[Arrow]) -> list[str]:
    """Inherent `impl` blocks outside of the folder of the file that defines their type."""
    found = []
    for impl in impls:
        own, home = Path(impl.source), Path(impl.target)
        # The children of `src/a.rs` are in `src/a/`. A file of the crate's root has those only: `src/` is everybody's.
        within = home.parent if len(home.parts) > 2 else home.with_suffix("")
        inside = own.with_suffix("").is_relative_to(within) or own.with_suffix("") == home.parent
        if not inside and (impl.source, impl.name) not in IMPL_ELSEWHERE:
            found.append(f"{place(impl)}: methods of `{impl.name}`, which {impl.target} defines, outside of its folder")
    return found


def columns(tree: Path) -> tuple[list[Column], list[str]]:
    """Both languages of a tree, and the `impl` blocks that stand wrong."""
    found: list[Column] = []
    wrong: list[str] = []
    if (tree / "src/lib.rs").is_file():
        crate = Crate(tree)
        found.append(Column("src", RUST, crate.files, crate.arrows()))
        wrong = misplaced(sorted(crate.inherent_impls()))
    if (tree / "python").is_dir():
        package = Package(tree)
        found.append(Column("python/shmvar", PYTHON, package.files, package.arrows()))
    return found, wrong


def main() -> int:
    """The command line. The exit status is 1 if anything breaks a rule."""
    parser = argparse.ArgumentParser(description="Checks that no file depends on itself or on a floor above.")
    parser.add_argument("--tree", type=Path, default=Path(__file__).parent.parent, help="the repository to check")
    parser.add_argument("--list", action="store_true", help="print the files of each floor")
    parser.add_argument("--arrows", action="store_true", help="print how often each floor uses each other one")
    parser.add_argument("--every-circle", action="store_true", help="print the shortest circle through each file")
    options = parser.parse_args()
    both, wrong = columns(options.tree.resolve())
    if not both:
        parser.error(f"{options.tree} has neither src/lib.rs nor python/")
    if options.list or options.arrows:
        for column in both:
            print(*(column.names() if options.list else []), *(column.between() if options.arrows else []), sep="\n")
        return 0
    broken = [line for column in both for line in column.circles(options.every_circle)]
    broken += [line for column in both for line in column.upward() + column.beside()] + wrong
    if broken:
        print(*broken, sep="\n")
        return 1
    print(f"floors: {sum(len(column.files) for column in both)} files, no circle, no import upward")
    return 0


if __name__ == "__main__":
    sys.exit(main())
