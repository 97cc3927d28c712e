"""The views that `keys`, `values` and `items` of a segment return. They are like those of a `dict`.

Unlike a `dict`, a segment may be changed by others during an iteration: each iteration walks over the indexes that
were there when it began, and skips a variable that has vanished since.
"""

from __future__ import annotations

from _collections_abc import ItemsView, Iterator, KeysView, ValuesView

TYPE_CHECKING = False  # not from `typing`, whose import costs more than this package
if TYPE_CHECKING:
    from typing import Any

    from shmvar.php._native import Segment

_MISSING = object()


def _is_index(key: object) -> bool:
    """Whether it is an index: an int, or what stands for one, of 64 bits. What is none is in no segment."""
    return hasattr(type(key), "__index__") and -(2**63) <= type(key).__index__(key) < 2**63  # type: ignore[attr-defined]


class SegmentKeys(KeysView[int]):
    """The indexes. Each iteration walks over those that were there when it began."""

    __slots__ = ()

    def __contains__(self, index: object) -> bool:
        return _is_index(index) and super().__contains__(index)


class SegmentItems(ItemsView[int, "Any"]):
    """Pairs of index and value. An iteration skips a variable that vanishes meanwhile."""

    __slots__ = ()
    _mapping: Segment

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        segment = self._mapping
        for index in segment:
            value = segment.get(index, _MISSING)
            if value is not _MISSING:
                yield index, value

    def __contains__(self, item: object) -> bool:
        return isinstance(item, tuple) and len(item) == 2 and _is_index(item[0]) and super().__contains__(item)


class SegmentValues(ValuesView["Any"]):
    """The values. An iteration skips a variable that vanishes meanwhile."""

    __slots__ = ()
    _mapping: Segment

    def __iter__(self) -> Iterator[Any]:
        for _, value in SegmentItems(self._mapping):
            yield value

    def __contains__(self, value: object) -> bool:
        return any(found is value or found == value for found in self)
