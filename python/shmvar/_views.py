"""What `keys`, `values` and `items` of a segment return: views as a dict has them, that bear being changed under."""

from __future__ import annotations

from _collections_abc import ItemsView, Iterator, KeysView, ValuesView

TYPE_CHECKING = False  # of `typing`, whose import costs more than the rest of the package
if TYPE_CHECKING:
    from typing import Any

    from shmvar._core import Segment

_GONE = object()


class SegmentKeys(KeysView[int | str]):
    """The indexes. Each iteration is a snapshot of its beginning."""

    __slots__ = ()


class SegmentItems(ItemsView[int | str, "Any"]):
    """Index and value of each variable. One that vanishes meanwhile is passed over."""

    __slots__ = ()
    _mapping: Segment

    def __iter__(self) -> Iterator[tuple[int | str, Any]]:
        get = self._mapping.get
        for index in self._mapping:
            value = get(index, _GONE)
            if value is not _GONE:
                yield index, value


class SegmentValues(ValuesView["Any"]):
    """The values. One that vanishes meanwhile is passed over."""

    __slots__ = ()
    _mapping: Segment

    def __iter__(self) -> Iterator[Any]:
        for _, value in SegmentItems(self._mapping):
            yield value

    def __contains__(self, value: object) -> bool:
        return any(found is value or found == value for found in self)
