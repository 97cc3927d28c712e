"""Unpickling for views, where numpy rebuilds arrays in memory of their own. Imported with the first such value."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from io import BytesIO
from pickle import Unpickler
from typing import Any

_MAKERS = {"_reconstruct", "_mareconstruct"}
_MODULES = {"numpy._core.multiarray", "numpy.core.multiarray", "numpy.ma.core"}


def loads(pickle: bytes, *, buffers: Iterable[Any] | None = None) -> Any:
    """The value; every array that numpy rebuilt for it is read-only."""
    unpickler = _Remembering(BytesIO(pickle), buffers=buffers)
    unpickler.made, unpickler.masked = [], []
    value = unpickler.load()
    ndarray = import_module("numpy").ndarray  # here: the package is linted and looked at where there is none
    # Not earlier: the state that an array gets makes it writable again.
    for array in unpickler.made:
        ndarray.setflags(array, write=False)
    for array in unpickler.masked:
        for each in (array, array._mask):
            if isinstance(each, ndarray):
                ndarray.setflags(each, write=False)
    return value


class _Remembering(Unpickler):
    """Knows what numpy made."""

    made: list[Any]
    masked: list[Any]

    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name)
        if (module, name) == ("builtins", "getattr"):
            return _attribute
        if name in _MAKERS and module in _MODULES:
            return _remembering(found, self.masked if name == "_mareconstruct" else self.made)
        return found


def _attribute(value: Any, name: str) -> Any:
    found = getattr(value, name)
    return _sealed if found == import_module("numpy").ndarray.__new__ else found


def _sealed(*arguments: Any) -> Any:
    # Called on memory that is in the pickle, as in one that was dumped and loaded. No state comes later, and a masked
    # array that is made of it shall find it read-only.
    ndarray = import_module("numpy").ndarray
    array = ndarray.__new__(*arguments)
    ndarray.setflags(array, write=False)
    return array


def _remembering(make: Callable[..., Any], arrays: list[Any]) -> Callable[..., Any]:
    # Without the unpickler, which has this function in its memo: a cycle would hold the buffers.
    def remembered(*arguments: Any) -> Any:
        array = make(*arguments)
        arrays.append(array)
        return array

    return remembered
