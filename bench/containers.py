"""Containers of scalars, against pickles in a plain dict of the same process.

The physical limit is the cost of the objects themselves: Python code that makes the value anew, with no bytes between.
"""

import pickle
from array import array

import ratios
from ratios import Aim

SMALL = {"id": 1, "name": "x", "tags": ["a", "b"], "score": 0.5}
NESTED = {"a": (1, 2, None, True), "b": [{1, 2, 3}, frozenset("xy")], "c": {"d": {"e": [b"bytes", 10**30, -0.0]}}}


def made_dict(turns) -> None:
    for _ in turns:
        {"id": 1, "name": "x", "tags": ["a", "b"], "score": 0.5}  # noqa: B018


def made_dicts(turns) -> None:
    for _ in turns:
        [{"id": number, "name": "x", "tags": ["a", "b"], "score": 0.5} for number in range(100)]


def value_rows(
    bench: ratios.Bench,
    segment,
    name: str,
    value: object,
    put: Aim | None = None,
    get: Aim | None = None,
    made: ratios.Loop | None = None,
) -> None:
    plain, dumps, loads = {1: pickle.dumps(value, 5)}, pickle.dumps, pickle.loads
    segment[1] = value
    assert segment[1] == value

    def ours_get(turns):
        for _ in turns:
            segment[1]

    def theirs_get(turns):
        for _ in turns:
            loads(plain[1])

    def ours_put(turns):
        for _ in turns:
            segment[1] = value

    def theirs_put(turns):
        for _ in turns:
            plain[1] = dumps(value, 5)

    beside = {"the objects alone": made} if made else {}
    bench.row(f"{name}: get", ours_get, "pickle.loads(d[i])", theirs_get, get, beside=beside)
    bench.row(f"{name}: put", ours_put, "d[i] = pickle.dumps(v, 5)", theirs_put, put)


def rows(bench: ratios.Bench) -> None:
    floats = [number / 7 for number in range(bench.size(1000))]
    packed = array("d", floats)
    dicts = [SMALL | {"id": number, "name": f"x{number}", "tags": ["a", "b"]} for number in range(bench.size(100, 3))]
    with ratios.fresh() as segment:
        value_rows(bench, segment, "small dict", SMALL, Aim(0.6), Aim(0.6), made_dict)
        made_floats = ratios.calls(packed.tolist)
        value_rows(bench, segment, "list of 1,000 floats", floats, Aim(0.4), Aim(0.85), made_floats)
        value_rows(bench, segment, "list of 100 small dicts", dicts, Aim(0.6), Aim(0.6), made_dicts)
        value_rows(bench, segment, "tuple of 5 ints", (1, 2, 300, 70_000, 5_000_000_000))
        value_rows(bench, segment, "nested, every type", NESTED)
        value_rows(bench, segment, "list of 1,000 ints", list(range(bench.size(1000))))
        value_rows(bench, segment, "list of 1,000 texts", [f"name {number}" for number in range(bench.size(1000))])


if __name__ == "__main__":
    ratios.main(__doc__, rows)
