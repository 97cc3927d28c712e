"""System calls of a get and of a put of middle sizes, counted by strace: the same in every run.

Memory that is present and mapped is read and written without asking the system: no `fstat`, `pread64` or `pwrite64`.
What else a call asks for (a private map of a large array is made and given back) is named, and not judged. Without
strace, the program says so.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter

import ratios

FEW, MANY = 10, 60
"""The calls of two runs, whose difference has no start of an interpreter in it."""
NEEDLESS = "fstat", "newfstatat", "pread64", "pwrite64"
VALUES = {
    "bytes of 16 KiB": "bytes(16 * KIB)",
    "bytes of 64 KiB": "bytes(64 * KIB)",
    "bytes of 1 MiB": "bytes(MIB)",
    "bytes of 4 MiB": "bytes(4 * MIB)",
    "float64 array of 64 KiB": "np.ones(8 * KIB)",
    "float64 array of 1 MiB": "np.ones(128 * KIB)",
    "float64 array of 16 MiB": "np.ones(2 * MIB)",
}
CALLS = {"get": "s[i]", "put": "s[i] = value", "view": "s.view(i)"}
ROWS = [(name, what) for name in VALUES for what in CALLS if what != "view" or "array" in name]
CHILD = """
import os, sys
import numpy as np
import shmvar
KIB, MIB = 1 << 10, 1 << 20
i, value = 1, VALUE
s = shmvar.attach(f"bench system calls {os.getpid()}", 256 << 20, create=True)
try:
    for _ in range(6):
        s[i] = value
        s[i], s.view(i)
    for _ in range(int(sys.argv[1])):
        CALL
finally:
    s.destroy()
"""


def counted(name: str, what: str, count: int) -> Counter[str]:
    """System calls of a process's first thread, with so many calls in it."""
    code = CHILD.replace("VALUE", VALUES[name]).replace("CALL", CALLS[what])
    with tempfile.NamedTemporaryFile("r") as file:
        command = ["strace", "-o", file.name, sys.executable, "-c", code, str(count)]
        subprocess.run(command, check=True, capture_output=True, timeout=300)
        return Counter(re.findall(r"^(\w+)\(", file.read(), re.M))


def row_of(name: str, what: str, smoke: bool) -> ratios.Row:
    few, many = (1, 3) if smoke else (FEW, MANY)
    found = counted(name, what, many)
    found.subtract(counted(name, what, few))
    each = {call: count / (many - few) for call, count in found.items() if count >= (many - few) / 2}
    needless = sum(each.get(call, 0) for call in NEEDLESS)
    all_of_it, met = ", ".join(f"{call} {count:g}" for call, count in each.items()) or "none", needless == 0
    title = f"system calls, {name}: {what}"
    return ratios.Row(title, needless, all_of_it, 0, 0, "none", 0, None if smoke else met, unit="calls")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ratios.options(parser)
    chosen = parser.parse_args()
    if not shutil.which("strace"):
        print("skipped: strace is not installed", file=sys.stderr)
        return
    rows = [row_of(name, what, chosen.smoke) for name, what in ROWS]
    ratios.show_all(rows, chosen)


if __name__ == "__main__":
    main()
