"""Which indexes the Tab key offers after `segment[`. IPython compares them with what was typed so far."""

from __future__ import annotations

from shmvar import _preview
from shmvar._display import facts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MOST = 10_000
"""Indexes that are offered: IPython takes some 50 ms to compare them, and a segment may have millions.

Of more than these none is offered. IPython does not say what was typed, so some of them, any, would have to be chosen,
and whoever gets nothing for an index that is there takes it for missing.
"""


def indexes(segment: Any) -> list[int | str]:
    """The indexes of a segment, texts first: numbers are typed as fast as chosen. None if there are too many."""
    found, total, _ = facts.asked(segment, lambda: _preview.first(segment, MOST + 1))
    if max(len(found), total) > MOST:
        return []
    return sorted(found, key=lambda index: (isinstance(index, int), index))
