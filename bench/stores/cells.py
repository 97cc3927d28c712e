"""Get and put of each kind, in stretches that alternate with a reference and with shmvar in the same process.

The reference is the least that the same could cost within one process: pickles in a plain dict; `bytes(memoryview)`;
for an array a copy of it, or an array over memory that is there.
"""

import mmap
import pickle
import statistics

import numpy as np
import ratios

from stores.ours import Shmvar
from stores.store import Store
from stores.values import example, same


class Turns:
    """The same random variables, as keys of each of those that are measured."""

    def __init__(self, calls: int, draw, *keys: list) -> None:
        places = [draw.randrange(len(keys[0])) for _ in range(calls)]
        self.keys = [[some[place] for place in places] for some in keys]

    def __len__(self) -> int:
        return len(self.keys[0])


def getting(get, which: int):
    def loop(turns):
        for key in turns.keys[which]:
            get(key)

    return loop


def putting(put, which: int, value):
    def loop(turns):
        for key in turns.keys[which]:
            put(key, value)

    return loop


class Reference:
    """The same calls, on what one process has to itself."""

    def __init__(self, kind: str, count: int) -> None:
        self.keys, dumps, loads = list(range(count)), pickle.dumps, pickle.loads
        if kind == "array":
            kept = {key: np.frombuffer(mmap.mmap(-1, example(kind, key).nbytes)) for key in self.keys}
            self.get, self.first = lambda key: kept[key].copy(), lambda key: np.frombuffer(kept[key].base)[0]
            self.put = lambda key, value: np.copyto(kept[key], value)
        elif kind == "bytes":
            kept = {key: memoryview(bytearray(example(kind, key))) for key in self.keys}
            self.get = lambda key: bytes(kept[key])
            self.put = lambda key, value: bytes(kept[key])
        else:
            kept = {key: dumps(example(kind, key), 5) for key in self.keys}
            self.get = lambda key: loads(kept[key])
            self.put = lambda key, value: kept.__setitem__(key, dumps(value, 5))


def calls_of(kind: str):
    """The calls that are measured of a kind: a name, and the loop of a store."""
    value = example(kind, 1)
    table = {"put": lambda store, which: putting(store.put, which, value)}
    if kind == "array":
        table["get, and read all"] = lambda store, which: getting(lambda key: store.get(key).sum(), which)
        table["view, first element"] = lambda store, which: getting(store.first, which)
    else:
        table["get"] = lambda store, which: getting(store.get, which)
    return table


def measure(store: Store, ours: Store, kind: str, draw, effort: ratios.Effort) -> list[dict]:
    """Times of the store, which holds an example under each of its keys, as ours does."""
    reference = Reference(kind, len(store.keys))
    wrong = [key for number, key in enumerate(store.keys) if not same(store.get(key), example(kind, number))]
    found: list[dict] = [] if not wrong else [{"kind": kind, "call": "get", "wrong": len(wrong)}]
    for call, loop in calls_of(kind).items():
        measured = [loop(store, 0), loop(reference, 1), loop(ours, 2)]

        def turns(calls: int) -> Turns:
            return Turns(calls, draw, store.keys, reference.keys, ours.keys)

        count = ratios.enough_calls(measured, turns, effort)
        times = ratios.interleaved(measured, turns, count, effort)
        theirs, plain, us = (statistics.median(column) for column in zip(*times, strict=True))
        figures = {"ns": theirs, "reference ns": plain, "shmvar ns": us}
        figures["against reference"] = statistics.median(one / other for one, other, _ in times)
        figures["against shmvar"] = statistics.median(one / other for one, _, other in times)
        found.append({"kind": kind, "call": call, **figures})
    return found


def of_kind(kind_of_store: type[Store], where, word: str, kind: str, draw, effort: ratios.Effort) -> list[dict]:
    store, ours = kind_of_store(where, word, kind), Shmvar(where, f"{word} beside", kind)
    store.create()
    ours.create()
    try:
        for each in (store, ours):
            for number, key in enumerate(each.keys):
                each.put(key, example(kind, number))
        return measure(store, ours, kind, draw, effort)
    finally:
        for each in (ours, store):
            each.close()
            each.remove()
