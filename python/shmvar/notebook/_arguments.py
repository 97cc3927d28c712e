"""What the calls of this package take for a segment and for an index."""

from __future__ import annotations

import sys
from operator import index as int_of

from shmvar._core import Segment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import SupportsIndex


def is_segment(segment: object) -> None:
    """Raises `TypeError` if it is no segment, of this machine or on a server."""
    # The class of those on a server was imported by whoever has one.
    remote = sys.modules.get("shmvar._remote.segment")
    if not isinstance(segment, Segment if remote is None else (Segment, remote.RemoteSegment)):
        raise TypeError(f"segment must be a segment, not {type(segment).__name__}: see shmvar.attach")


def plain_index(segment: Segment, index: SupportsIndex | str) -> int | str:
    """The int or str that an index is. Raises what every call of the segment raises for a wrong one."""
    segment.has(index)
    return str(index) if isinstance(index, str) else int_of(index)
