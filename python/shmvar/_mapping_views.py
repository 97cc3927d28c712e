"""The views that `Segment.keys`, `values` and `items` return. They are like those of a `dict`.

Unlike a `dict`, a segment may be changed by others during an iteration: each iteration walks over the indexes that
were there when it began, and skips a variable that has vanished since.
"""

from __future__ import annotations

from _collections_abc import ItemsView, Iterator, KeysView, ValuesView

from shmvar._core import _look

TYPE_CHECKING = False  # not from `typing`, whose import costs more than the rest of the package
if TYPE_CHECKING:
    from typing import Any

    from shmvar._core import Segment

_MISSING = object()


def is_index(key: object) -> bool:
    """Whether it is an index: a text that is not too long, an int, or what stands for one, of 64 bits. What is none is
    in no segment.
    """
    if isinstance(key, str):
        try:
            return len(key.encode()) <= 1024
        except UnicodeEncodeError:
            return False
    return hasattr(type(key), "__index__") and -(2**63) <= type(key).__index__(key) < 2**63  # type: ignore[attr-defined]


class SegmentKeys(KeysView[int | str]):
    """The indexes. Each iteration walks over those that were there when it began."""

    __slots__ = ()

    def __contains__(self, index: object) -> bool:
        return is_index(index) and super().__contains__(index)


class SegmentKeysWithPrefix(KeysView["Any"]):
    """The texts that begin with a prefix. Each iteration walks over those that were there when it began."""

    __slots__ = ("_prefix",)
    _mapping: Segment

    def __init__(self, mapping: Segment, prefix: str) -> None:
        super().__init__(mapping)
        self._prefix = prefix

    def __iter__(self) -> Iterator[str]:
        prefix = self._prefix
        return (index for index in self._mapping if isinstance(index, str) and index.startswith(prefix))

    def __contains__(self, index: object) -> bool:
        return isinstance(index, str) and index.startswith(self._prefix) and is_index(index) and index in self._mapping

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._mapping!r}, {self._prefix!r})"


class SegmentItems(ItemsView[int | str, "Any"]):
    """Pairs of index and value. An iteration skips a variable that vanishes meanwhile."""

    __slots__ = ()
    _mapping: Segment

    def __iter__(self) -> Iterator[tuple[int | str, Any]]:
        segment = self._mapping
        for index in segment:
            value = _look(segment, index, _MISSING)
            if value is not _MISSING:
                yield index, value

    def __contains__(self, item: object) -> bool:
        return isinstance(item, tuple) and len(item) == 2 and is_index(item[0]) and super().__contains__(item)


class SegmentValues(ValuesView["Any"]):
    """The values. An iteration skips a variable that vanishes meanwhile."""

    __slots__ = ()
    _mapping: Segment

    def __iter__(self) -> Iterator[Any]:
        for _, value in SegmentItems(self._mapping):
            yield value

    def __contains__(self, value: object) -> bool:
        return any(found is value or found == value for found in self)
