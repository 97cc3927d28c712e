"""Which indexes the Tab key offers after `segment[`. IPython compares them with what was typed so far."""

from __future__ import annotations

from shmvar import _preview
from shmvar._display import facts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MOST = 2_000
"""Indexes that are offered: nobody looks through more, and a segment may have millions."""


def indexes(segment: Any) -> list[int | str]:
    """Indexes of a segment, texts first: numbers are typed as fast as chosen."""
    found, _total = facts.asked(segment, lambda: _preview.first(segment, MOST))
    return sorted(found, key=lambda index: (isinstance(index, int), index))
