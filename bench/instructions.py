"""Instructions of a call, counted by valgrind: the same in every run, however busy the machine is. A regression of one
part in a hundred shows here, and not in a time.

    python bench/instructions.py                              against what bench/instructions.json has recorded
    python bench/instructions.py --against OTHER/bin/python   against another build of shmvar
    python bench/instructions.py --record OTHER/bin/python    record that build's counts

A record holds for one interpreter only (its file is part of the record), because a call's instructions are partly the
interpreter's own. With another one the counts are printed and no aim is judged. An aim is 1.01 times the record, or
1.03 for what goes through pickle. Without valgrind there is nothing to count with, and the program says so.
"""

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import ratios
from ratios import Aim

RECORD = Path(__file__).with_suffix(".json")
HIDE_VDSO = Path(__file__).with_name("hide_vdso.py")
FEW, MANY = 2000, 12_000
"""The calls of two runs, whose difference has no start of an interpreter in it."""
SCALAR, PICKLED = Aim(1.01), Aim(1.03)
CALLS = {
    "int: get": ("s[1]", SCALAR),
    "int: put": ("s[1] = 5", SCALAR),
    "int: add": ("s.add(2)", SCALAR),
    "str of 40: get": ("s['k']", SCALAR),
    "str of 40: put": ("s['k'] = text", SCALAR),
    "missing index: get": ("s.get(9)", SCALAR),
    "named lock": ("with lock: pass", SCALAR),
    "an object: get": ("s[3]", PICKLED),
    "an object: put": ("s[3] = thing", PICKLED),
    "a list with an object last: put": ("s[4] = mixed", PICKLED),
}
CHILD = """
import os, shmvar, types
s = shmvar.attach(f"bench instructions {os.getpid()}", 64 << 20, create=True)
thing, text, lock = types.SimpleNamespace(a=1, b=[1, 2]), "x" * 40, s.lock()
mixed = [*range(20), "texts", 0.5, thing]
s[1], s["k"], s[2], s[3], s[4] = 5, text, 0, thing, mixed
def loop(count):
    for _ in range(count):
        CALL
try:
    loop(COUNT)
finally:
    s.destroy()
"""


def counted(python: str, call: str, count: int) -> int:
    """Instructions of a whole process that makes so many calls."""
    code = CHILD.replace("CALL", call).replace("COUNT", str(count))
    command = [
        sys.executable,
        str(HIDE_VDSO),
        "valgrind",
        "--tool=callgrind",
        "--callgrind-out-file=/dev/null",
        python,
        "-c",
        code,
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=600, env=os.environ | {"PYTHONHASHSEED": "0"}
    )
    lines = [line for line in done.stderr.splitlines() if "Collected" in line]
    if done.returncode or not lines:
        sys.exit(f"{call}: valgrind ended with {done.returncode}\n{done.stderr[-2000:]}")
    return int(lines[0].split(":")[-1])


def per_call(python: str, call: str) -> float:
    return (counted(python, call, MANY) - counted(python, call, FEW)) / (MANY - FEW)


def count_all(python: str, names: list[str]) -> dict[str, float]:
    """Two at a time: a count is no time, nobody disturbs it."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return dict(zip(names, pool.map(lambda name: per_call(python, CALLS[name][0]), names), strict=True))


def interpreter(python: str) -> dict[str, str]:
    """What a record holds for."""
    code = "import sys; print(sys.version); print(sys.executable)"
    version, executable = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.split(
        "\n"
    )[:2]
    digest = hashlib.sha256(Path(executable).resolve().read_bytes()).hexdigest()
    return {"version": version, "file": digest[:16], "machine": platform.machine()}


def shown(name: str, ours: float, what: str, reference: float, judged: bool) -> ratios.Row:
    row = ratios.judged(f"instructions, {name}", ours, what, reference, ours / reference, CALLS[name][1], not judged)
    return replace(row, unit="instructions")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ratios.options(parser)
    parser.add_argument("--against", metavar="PYTHON", help="an interpreter with another build of shmvar")
    parser.add_argument("--record", metavar="PYTHON", help="record the counts of this interpreter's build")
    chosen = parser.parse_args()
    names = list(CALLS)
    if not shutil.which("valgrind"):
        print("skipped: valgrind is not installed", file=sys.stderr)
        return
    if chosen.record:
        found = {"interpreter": interpreter(chosen.record), "counts": count_all(chosen.record, names)}
        RECORD.write_text(json.dumps(found, indent=1) + "\n")
        return
    record = json.loads(RECORD.read_text())
    judged, what = not chosen.smoke, "the record"
    if chosen.against:
        before, what = count_all(chosen.against, names), "the other build"
    else:
        before = record["counts"]
        if record["interpreter"] != interpreter(sys.executable):
            judged, what = False, "the record of another interpreter"
    found = before | count_all(sys.executable, names[:1] if chosen.smoke else names)
    rows = [shown(name, found[name], what, before[name], judged) for name in names]
    ratios.show_all(rows, chosen)


if __name__ == "__main__":
    main()
