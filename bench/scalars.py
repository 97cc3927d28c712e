"""Small values, against pickles in a plain dict: one variable, where everything is in the caches, up to 100,000 in
random order, where hardly anything is; and attaching.

Stretches of ours and of the dict alternate, and each takes other indices: what one has in the caches the other drives
out. The limit is a plain dict that keeps the objects themselves and shares nothing; it stands beside.
"""

import os
import pickle
import random
from multiprocessing import resource_tracker, shared_memory

import ratios
from ratios import Aim

import shmvar

AIMS = {1: (Aim(0.5), Aim(0.5)), 100_000: (Aim(0.6), Aim(0.7))}
"""Of get and of put, by the number of variables."""


def of_kind(bench: ratios.Bench, kind: str, values: list, count: int) -> None:
    real = bench.size(count, 50)
    draw, dumps, loads = random.Random(7), pickle.dumps, pickle.loads
    with ratios.fresh() as segment:
        kept = {index: values[index % len(values)] for index in range(real)}
        plain = {index: dumps(value, 5) for index, value in kept.items()}
        segment.update(kept)

        def get(turns):
            for index in turns:
                segment[index]

        def get_plain(turns):
            for index in turns:
                loads(plain[index])

        def get_kept(turns):
            for index in turns:
                kept[index]

        def put(turns):
            for index, value in turns:
                segment[index] = value

        def put_plain(turns):
            for index, value in turns:
                plain[index] = dumps(value, 5)

        def put_kept(turns):
            for index, value in turns:
                kept[index] = value

        def indices(calls: int) -> list[int]:
            return [draw.randrange(real) for _ in range(calls)]

        def pairs(calls: int) -> list:
            return [(draw.randrange(real), values[turn % len(values)]) for turn in range(calls)]

        get_aim, put_aim = AIMS.get(count, (None, None))
        name, objects = (
            f"{kind}, {count:,} variables" if count > 1 else f"{kind}, one variable",
            "the objects in a dict",
        )
        what, beside = "pickle.loads(d[i])", {objects: get_kept}
        bench.row(f"{name}: get", get, what, get_plain, get_aim, beside=beside, turns=indices)
        what, beside = "d[i] = pickle.dumps(v, 5)", {objects: put_kept}
        bench.row(f"{name}: put", put, what, put_plain, put_aim, beside=beside, turns=pairs)
        segment.check()


def rows(bench: ratios.Bench) -> None:
    numbers, texts = [i * 7919 % 1_000_000 for i in range(1000)], [f"{i:040d}" for i in range(1000)]
    for count in (1, 1000, 100_000):
        of_kind(bench, "int", numbers, count)
        of_kind(bench, "str of 40", texts, count)


def attaching(bench: ratios.Bench) -> None:
    key, block = f"bench attach {os.getpid()}", shared_memory.SharedMemory(create=True, size=4096)
    register, resource_tracker.register = resource_tracker.register, lambda *_: None  # it deletes what others made
    kept = shmvar.attach(key, create=True)

    def ours(turns):
        for _ in turns:
            shmvar.attach(key).detach()

    def theirs(turns):
        for _ in turns:
            shared_memory.SharedMemory(block.name).close()

    try:
        bench.row("attach and detach, attached already", ours, "SharedMemory(name), close()", theirs)
        kept.detach()
        bench.row("attach and detach", ours, "SharedMemory(name), close()", theirs, Aim(plus_us=60))
    finally:
        shmvar.destroy(key)
        resource_tracker.register = register
        block.close()
        block.unlink()


if __name__ == "__main__":
    ratios.main(__doc__, rows, attaching)
