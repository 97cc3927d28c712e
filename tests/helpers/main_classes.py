"""Values of classes that another process defines in its `__main__`, and every call that reads one."""

import pickle
import sys

import helpers

DEFINED = """
import dataclasses, enum, collections, sys

class Point:
    def __init__(self, x):
        self.x = x

class Outer:
    class Inner:
        pass

@dataclasses.dataclass
class Reading:
    value: float

class Colour(enum.Enum):
    RED = 1

Pair = collections.namedtuple("Pair", "a b")

def function():
    pass

VALUES = {
    "Point": Point(3),
    "Outer.Inner": Outer.Inner(),
    "Reading": [{"deep": (Reading(1.5),)}],
    "Colour": Colour.RED,
    "Pair": Pair(1, 2),
    "function": function,
}
"""
TRUST = "attach with trust=True, if you trust all who may write to it: they can run code in your process"
"""What an error about trust advises, and what it says of that."""

NAMES = ["Point", "Outer.Inner", "Reading", "Colour", "Pair", "function"]

READS = {
    "get": lambda seg, index: seg.get(index),
    "[]": lambda seg, index: seg[index],
    "view": lambda seg, index: seg.view(index),
    "get_many": lambda seg, index: seg.get_many([index]),
    "get_versioned": lambda seg, index: seg.get_versioned(index),
    "items": lambda seg, index: list(seg.items()),
    "values": lambda seg, index: list(seg.values()),
    "==": lambda seg, index: seg == {index: 1},
    "pop": lambda seg, index: seg.pop(index),
    "popitem": lambda seg, index: seg.popitem(),
    "setdefault": lambda seg, index: seg.setdefault(index, 1),
    "swap": lambda seg, index: seg.swap(index, 1),
    "modify": lambda seg, index: seg.modify(index, lambda old: old),
    "add": lambda seg, index: seg.add(index),
    "changes": lambda seg, index: [seg[told] for told, _ in seg.changes(newer_than={}, timeout=60)],
}
"""By name: what raises an error where the value at this index, the only variable, needs a class that is not here."""


def store(key, values, **options):
    """Another process puts these: a dict by index, as source, of what `DEFINED` defines."""
    helpers.run(f"{DEFINED}\nshmvar.attach(key, trust=True).put_many({values})", key, **options)


def shows_the_way(text, name):
    """Whether an error's text says what is missing, where it is, and both ways out."""
    parts = [f"needs {name}, which is defined in the __main__ of the process that stored it", f"has no {name}."]
    parts += ["a module that both processes import", "cloudpickle.dumps(value)", "pickle.loads"]
    return all(part in text for part in parts)


def is_said_to_be_missing(name, text):
    """Whether the unpickler's own words are in a text: up to Python 3.13 other ones than from 3.14 on."""
    return f"Can't get attribute {name!r}" in text or f"has no attribute {name!r}" in text


class Raises:
    """Unpickling it calls `raise_it`."""

    def __init__(self, kind):
        self.kind = kind

    def __reduce__(self):
        return (raise_it, (self.kind,))


def raise_it(kind):
    if kind == "attribute":
        return sys.modules["__main__"].Point
    if kind == "own":
        raise AttributeError("Can't get attribute 'Point' on <module '__main__'>")
    if kind == "import":
        import no_such_module  # noqa: F401
    return pickle.loads(b"\x80\x04\x8c\x08__main__\x94\x8c\x05Point\x94\x93.")
