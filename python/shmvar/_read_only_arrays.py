"""Unpickling for `Segment.view` where numpy rebuilds arrays in memory of their own: makes those arrays read-only.

The extension module imports this with the first such value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from io import BytesIO
from pickle import Unpickler
from typing import Any

# numpy's functions that make an array, whose contents come later with `__setstate__`; and their modules.
_MAKERS = {"_reconstruct", "_mareconstruct"}
_MODULES = {"numpy._core.multiarray", "numpy.core.multiarray", "numpy.ma.core"}


def loads(pickle: bytes, *, buffers: Iterable[Any] | None = None) -> Any:
    """The value of a pickle, like `pickle.loads`; every array that numpy rebuilt for it is read-only."""
    unpickler = _ArrayUnpickler(BytesIO(pickle), buffers=buffers)
    unpickler.arrays, unpickler.masked = [], []
    value = unpickler.load()
    ndarray = import_module("numpy").ndarray  # here: the package is checked and read where there is no numpy
    # At the end: the state that an array gets during unpickling makes it writable again.
    for array in unpickler.arrays:
        ndarray.setflags(array, write=False)
    for array in unpickler.masked:
        for part in (array, array._mask):
            if isinstance(part, ndarray):
                ndarray.setflags(part, write=False)
    return value


class _ArrayUnpickler(Unpickler):
    """Collects the arrays that numpy makes."""

    arrays: list[Any]
    masked: list[Any]

    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name)
        if (module, name) == ("builtins", "getattr"):
            return _getattr
        if name in _MAKERS and module in _MODULES:
            return _collecting(found, self.masked if name == "_mareconstruct" else self.arrays)
        return found


def _getattr(value: Any, name: str) -> Any:
    """`getattr`, but `numpy.ndarray.__new__` makes arrays that are read-only."""
    found = getattr(value, name)
    return _new_read_only if found == import_module("numpy").ndarray.__new__ else found


def _new_read_only(*arguments: Any) -> Any:
    # A pickle calls this for an array whose memory is in the pickle itself: an array that was dumped and loaded. No
    # state comes later, and a masked array that is made from the array must find it read-only.
    ndarray = import_module("numpy").ndarray
    array = ndarray.__new__(*arguments)
    ndarray.setflags(array, write=False)
    return array


def _collecting(make: Callable[..., Any], arrays: list[Any]) -> Callable[..., Any]:
    """`make`, but its results are also put into `arrays`."""

    # A function without a reference to the unpickler, which has this function in its memo: a cycle would keep the
    # buffers alive.
    def collected(*arguments: Any) -> Any:
        array = make(*arguments)
        arrays.append(array)
        return array

    return collected
