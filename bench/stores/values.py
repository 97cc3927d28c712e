"""The kinds of values: examples of each, and how they become bytes and come back."""

import pickle
from collections.abc import Callable

import numpy as np

KIB, MIB = 1 << 10, 1 << 20
KINDS = "int", "str", "dict", "bytes", "array"
TEXT = {
    "int": "int",
    "str": "str of 40",
    "dict": "small dict",
    "bytes": "bytes of 16 KiB",
    "array": "float64 array of 1 MiB",
}
ROOM = {"int": 64, "str": 128, "dict": 256, "bytes": 16 * KIB + 64, "array": MIB + 256}
"""Bytes of a slot, for stores of fixed slots: a value as it is encoded, or pickled."""
COUNT = {"int": 100, "str": 100, "dict": 100, "bytes": 100, "array": 4}
"""Variables."""


def example(kind: str, number: int) -> object:
    if kind == "int":
        return 1000 + number
    if kind == "str":
        return f"{number:040d}"
    if kind == "dict":
        return {"id": number, "name": f"x{number}", "tags": ["a", "b"], "score": 0.5}
    if kind == "bytes":
        return bytes([number % 256]) * (16 * KIB)
    return np.full(MIB // 8, float(number))


def whole(kind: str, value) -> bool:
    """Is a value of the kinds that are written over and over one of those that were written?"""
    if kind == "bytes":
        return len(value) == 16 * KIB and value.count(value[:1]) == len(value)
    return len(value) == MIB // 8 and bool((value == value[0]).all())


def same(one: object, other: object) -> bool:
    return bool(np.array_equal(one, other)) if isinstance(other, np.ndarray) else one == other


def codec(kind: str) -> tuple[Callable, Callable]:
    """To bytes, and back, for a store that takes only bytes: pickles, but for what is bytes by itself."""
    if kind == "bytes":
        return bytes, bytes
    if kind == "array":
        return lambda value: memoryview(value).cast("B"), np.frombuffer
    dumps = pickle.dumps
    return lambda value: dumps(value, 5), pickle.loads
