"""`php.dumps` and `php.loads`, against the package `phpserialize` for the same values."""

import sys

import ratios
from ratios import Aim

from shmvar import php

try:
    import phpserialize
except ImportError:
    text = "bench/php_serialize.py measured nothing: it compares with phpserialize. Remedy: pip install phpserialize"
    print(text, file=sys.stderr)
    sys.exit()

AIM = Aim(0.2)
JOB = {"id": 17, "name": "resize", "file": "/var/www/img/1.png", "sizes": [64, 128, 256], "ratio": 0.75, "done": False}
DEEP: list = []
for _ in range(50):
    DEEP = [DEEP, {"a": 1}]


def users(count: int) -> list[dict]:
    return [{"id": number, "name": f"user {number}", "mail": f"u{number}@example.org"} for number in range(count)]


def value_rows(bench: ratios.Bench, name: str, value: object, aim: Aim = AIM) -> None:
    text = php.dumps(value)
    assert php.dumps(php.loads(text)) == text
    theirs = phpserialize.dumps(value)

    def theirs_loads(turns) -> None:
        for _ in turns:
            phpserialize.loads(theirs, decode_strings=True)

    bench.row(f"{name}: loads", ratios.calls(php.loads, text), "phpserialize.loads", theirs_loads, aim)
    bench.row(f"{name}: dumps", ratios.calls(php.dumps, value), "phpserialize.dumps", _dumps(value), aim)


def _dumps(value: object) -> ratios.Loop:
    return ratios.calls(phpserialize.dumps, value)


def object_rows(bench: ratios.Bench) -> None:
    """phpserialize makes an object of its own class of each."""
    count = bench.size(100, 3)
    ours = [php.PhpObject("User", {"id": number, "name": f"user {number}"}) for number in range(count)]
    theirs = [phpserialize.phpobject("User", dict(each.properties)) for each in ours]
    text = php.dumps(ours)

    def theirs_loads(turns) -> None:
        for _ in turns:
            phpserialize.loads(text, decode_strings=True, object_hook=phpserialize.phpobject)

    name = "100 objects"
    bench.row(f"{name}: loads", ratios.calls(php.loads, text), "phpserialize.loads", theirs_loads, AIM)
    bench.row(f"{name}: dumps", ratios.calls(php.dumps, ours), "phpserialize.dumps", _dumps(theirs), AIM)


def rows(bench: ratios.Bench) -> None:
    thousand = bench.size(1000)
    value_rows(bench, "int", 42)
    value_rows(bench, "float", 0.1)
    value_rows(bench, "None", None)
    value_rows(bench, "str of 41 bytes", "x" * 41)
    value_rows(bench, "str of 1 MiB", "x" * bench.size(1 << 20), Aim(1.25))  # both copy it, and that is all
    value_rows(bench, "list of 1,000 ints", list(range(thousand)))
    value_rows(bench, "list of 1,000 floats", [number / 7 for number in range(thousand)])
    value_rows(bench, "list of 1,000 texts", [f"name é {number}" for number in range(thousand)])
    value_rows(bench, "dict of 1,000 int keys", {number * 7: number for number in range(thousand)})
    value_rows(bench, "a job", JOB)
    value_rows(bench, "100 users", users(bench.size(100, 3)))
    value_rows(bench, "50 lists inside each other", DEEP)
    object_rows(bench)


if __name__ == "__main__":
    ratios.main(__doc__, rows)
