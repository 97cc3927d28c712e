"""Runs the programs of this folder one after the other, and names at the end every aim that was missed.

python bench/every.py             all of them: an hour, most of it the memory that many histories leave
python bench/every.py --quick     those that have aims as ratios, with fewer stretches: three minutes
python bench/every.py --smoke     each of them for a moment, to see that it runs
python bench/every.py --only containers,sizes
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ratios

FOLDER = Path(__file__).parent
WITH_ROWS = (
    "containers",
    "sizes",
    "views",
    "in_place",
    "batches",
    "growth",
    "scalars",
    "together",
    "queues",
    "eviction",
    "instructions",
    "system_calls",
    "php_segment",
    "php_serialize",
)
"""They hold shmvar against a reference, by `ratios.py`."""
OTHERS = {
    "readers": ["--smoke"],
    "scale": ["--most", "1000", "--repeats", "1"],
    "holds": ["--count", "2000"],
    "memory": ["--quick", "--seconds", "0.1", "--only", "narrow_1"],
    "remote": ["--smoke"],
    "starved": ["--seconds", "0.02", "--hogs", "1"],
}
"""Each with what makes it short. They have marks of their own, and say so by their exit status, or print figures."""


def run(name: str, extra: list[str]) -> str:
    """Runs a program; returns what went wrong, or nothing."""
    begin = time.monotonic()
    print(f"== bench/{name}.py {' '.join(extra)}", flush=True)
    done = subprocess.run([sys.executable, FOLDER / f"{name}.py", *extra], check=False)
    print(f"   {time.monotonic() - begin:.0f} s", flush=True)
    return f"  bench/{name}.py ended with {done.returncode}" if done.returncode else ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer stretches, and only what has aims as ratios")
    parser.add_argument("--smoke", action="store_true", help="each program for a moment")
    parser.add_argument("--only", default="", help="names of programs, with commas; `ratios`: all that have aims")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the rows; with --only they replace those in it")
    chosen = parser.parse_args()
    names = [*WITH_ROWS, *([] if chosen.quick else OTHERS)]
    if chosen.only:
        names = list(WITH_ROWS) if chosen.only == "ratios" else chosen.only.split(",")
    problems, found = [], dict[str, list[ratios.Row]]()
    with tempfile.NamedTemporaryFile("r", suffix=".json") as file:
        for name in names:
            extra = ["--smoke"] * chosen.smoke or ["--quick"] * chosen.quick
            if name in OTHERS:
                problems.append(run(name, OTHERS[name] if chosen.smoke else []))
            else:
                problems.append(run(name, [*extra, "--rows", file.name]))
                found[name] = [ratios.Row(**json.loads(line)) for line in file]
    print("==", ratios.summary([row for rows in found.values() for row in rows]))
    problems = [problem for problem in problems if problem]
    print(*problems, sep="\n", end="\n" * bool(problems))
    if chosen.json:
        table = {name: [ratios.asdict(row) for row in rows] for name, rows in found.items()}
        if chosen.only and chosen.json.exists():
            table = json.loads(chosen.json.read_text())["programs"] | table
        text = json.dumps({"machine": ratios.machine(), "programs": table}, indent=1)
        chosen.json.write_text(text + "\n")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
