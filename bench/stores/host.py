"""Measures one store: `python -m stores.host STORE WORD EFFORT`; prints a line of JSON for each finding.

As root, it has a /dev/shm of its own, which is gone when it ends. Otherwise what a store leaves there is removed by its
name, of which `WORD` is a part.
"""

import ctypes
import json
import os
import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import ratios
import scale

from stores import cells, child, faults, pairs
from stores.registry import ALL
from stores.store import Store

EFFORTS = {"full": ratios.Effort(41, 5, 0.9), "quick": ratios.Effort(11, 3, 0.15), "smoke": ratios.SMOKE}
ROOM = 4 << 30


class Slow(Exception):
    pass


def in_time(_signal, _frame):
    raise Slow("it took too long")


def with_store(function, kind_of_store: type[Store], where: Path, word: str, kind: str, *arguments) -> dict:
    store = kind_of_store(where, word, kind)
    store.create()
    try:
        return function(store, *arguments)
    finally:
        store.close()
        store.remove()


def plan(of: type[Store], where: Path, word: str, effort: ratios.Effort):
    """Names of tests, and functions that make them."""
    draw = random.Random(7)
    for number, kind in enumerate(of.kinds):
        yield kind, lambda kind=kind, number=number: cells.of_kind(of, where, f"{word}{number}", kind, draw, effort)

    def test(function, letter: str, kind: str, *arguments):
        return lambda: [with_store(function, of, where, f"{word}{letter}", kind, effort, *arguments)]

    if "int" in of.kinds:
        yield "hand-over", test(pairs.hand_over, "h", "int")
        if of.can_wait:
            yield "hand-over, asleep", test(pairs.hand_over_asleep, "s", "int")
        if of.can_add:
            yield "counter", test(pairs.counters, "c", "int", False)
        if not of.one_writer:
            yield "counter, get then put", test(pairs.counters, "n", "int", True)
    yield "torn", test(faults.torn, "t", "bytes")
    yield "kills", test(faults.kills, "k", "bytes")


def main() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    signal.signal(signal.SIGALRM, in_time)
    name, word, effort = sys.argv[1:]
    if effort == "smoke":
        child.PATIENCE = 30.0  # the machine may be busy with other tests, where an interpreter starts in seconds
    private = scale.mounted(ROOM)
    where = Path(tempfile.mkdtemp(prefix=word, dir=scale.SHM))
    os.environ["TMPDIR"] = tempfile.tempdir = str(where)  # for libraries that leave something there
    try:
        for test, function in plan(ALL[name], where, word, EFFORTS[effort]):
            signal.alarm(40)
            try:
                for found in function():
                    print(json.dumps({"test": test, **found}), flush=True)
            except Exception as error:
                print(json.dumps({"test": test, "error": f"{type(error).__name__}: {error}"[:300]}), flush=True)
            finally:
                signal.alarm(0)
    finally:
        shutil.rmtree(where, ignore_errors=True)
        if not private:
            for path in Path(scale.SHM).glob(f"*{word}*"):
                path.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
