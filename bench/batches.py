"""Sixteen small values in one call, against one call for one value; and a million, against the loop that stores them.

The limit of sixteen is sixteen single calls without their sixteen ways into the interpreter and back: what a plain dict
takes to look up or store as many stands beside.
"""

import ratios
from ratios import Aim

COUNT = 16


def rows(bench: ratios.Bench) -> None:
    size = bench.size(100_000, 2000)
    with ratios.fresh() as segment:
        for kind, values in ("ints", range(size)), ("str of 40", [f"{number:040d}" for number in range(size)]):
            segment.update(enumerate(values))
            some = list(range(0, COUNT * 100, 100))
            plain, table = dict(zip(some, values, strict=False)), {index: values[0] for index in some}
            value = values[0]

            def get(turns):
                for _ in turns:
                    segment[0]

            def put(turns, value=value):
                for _ in turns:
                    segment[0] = value

            def plain_get(turns, some=some, plain=plain):
                for _ in turns:
                    {index: plain[index] for index in some}

            many, one = ratios.calls(segment.get_many, some), "seg[i]"
            bench.row(f"get_many of {COUNT} {kind}", many, one, get, Aim(10), beside={"a plain dict": plain_get})
            many, plain_put = ratios.calls(segment.put_many, table), ratios.calls(plain.update, table)
            bench.row(
                f"put_many of {COUNT} {kind}", many, "seg[i] = v", put, Aim(10), beside={"a plain dict": plain_put}
            )
    million(bench)


def million(bench: ratios.Bench) -> None:
    """A batch is stored at one instant and a loop is not; the batch must not be the slower of them."""
    size = bench.size(1_000_000, 2000)
    for kind, items in (
        ("ints", {index: index for index in range(size)}),
        ("named dicts", {f"user {index}": {"id": index, "name": "x"} for index in range(size)}),
    ):
        with ratios.fresh() as segment:
            segment.update(items)

            def loop(turns, segment=segment, items=items):
                for _ in turns:
                    for index, value in items.items():
                        segment[index] = value

            name = f"update of a million {kind}, there already"
            bench.row(name, ratios.calls(segment.update, items), "the loop seg[i] = v", loop, Aim(1.0))


if __name__ == "__main__":
    ratios.main(__doc__, rows)
