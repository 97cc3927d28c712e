"""The values of the golden dumps, tests/dump/golden-*.dump, and how these were made: `python golden_dumps.py FILE`.

Each was made once, by a version of the package that wrote dumps in that format. It is never made anew.
"""

import array
import datetime
import multiprocessing
import pathlib
import sys

import numpy

import shmvar
from shmvar.cli.main import main

LIFE = 1e9  # seconds

VALUES = {
    0: None, 1: -1, -(2**63): True, 2**63 - 1: 1.5, 3: "text\n", 4: [1, {"a": (2, 3)}], 5: b"x" * 10_000,
    6: bytearray(9000), 7: {1, 2}, 8: 2**200, "": "empty index", "é\n\u2028\U0001f40d": 3 + 4j, 9: [], 10: "\ud800",
    "long" * 200: frozenset([1]), "date": datetime.datetime(2026, 1, 2, 3, 4, 5),
    "floats": array.array("d", range(2100)), "\x7f\x00\"\\": "controls",
}  # fmt: skip
ARRAYS = {"large": numpy.arange(2_400).reshape(60, 40), "small": numpy.arange(6, dtype="f4").reshape(2, 3)}
ITEMS = {"jobs": [1, "two", b"3" * 9_000, {"four": 4}], 5: [None]}


def fill(segment: shmvar.Segment) -> None:
    """Stores all of it."""
    segment.update(VALUES)
    segment.update(ARRAYS)
    segment.put("lives", "long", ttl=LIFE)
    segment.put(11, b"l" * 12_000, ttl=LIFE)
    field = segment.array("field", shape=(3, 4), dtype="i8")
    field[:] = numpy.arange(12).reshape(3, 4)
    ring = segment.buffer("ring", 5)
    ring[:] = b"hello"
    for name, items in ITEMS.items():
        for item in items:
            segment.queue(name).put(item)


def change(key: str) -> None:
    """Changes a variable all the time."""
    with shmvar.attach(key) as segment:
        while True:
            segment.add("changes")


if __name__ == "__main__":
    key, path = f"golden-{sys.argv[1]}"[-100:], pathlib.Path(sys.argv[1])
    with shmvar.attach(key) as segment:
        fill(segment)
        other = multiprocessing.Process(target=change, args=(key,), daemon=True)
        other.start()
        # Until something was changed in the middle of the dump.
        while not path.exists() or b'"gone"' not in path.read_bytes():
            main(["dump", key, str(path)])
        other.kill()
        segment.destroy()
