"""The items of a dump that is loaded: kept while it is verified, put when its variables are in the segment.

The file may be another one by the time the items are put, so they are put from what was kept and from nothing else.
"""

from __future__ import annotations

import json
import tempfile

from shmvar._core import Segment, _put_item
from shmvar._errors import SegmentBusyError, SegmentFullError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from shmvar._core import _DumpPlan

_IN_MEMORY = 8 << 20
"""More bytes than these go to a temporary file, which has no name."""


class Items:
    """Items in the order in which they are put."""

    def __init__(self) -> None:
        self._kept = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115, it is closed with this object
        self._left = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._kept.close()

    def begin(self, name: int | str, has_buffers: bool, length: int) -> None:
        """The next item begins."""
        self._kept.write(json.dumps([name, has_buffers, length]).encode() + b"\n")

    def write(self, piece: bytes) -> None:
        """The next bytes of the item."""
        self._kept.write(piece)

    def put(self, segment: Segment, plan: _DumpPlan) -> None:
        """Puts all of them. An error says how many there are in the queues."""
        done = 0
        self._kept.seek(0)
        try:
            while line := self._kept.readline():
                name, has_buffers, length = json.loads(line)
                _put_item(segment, name, has_buffers, self._kept.read(length))
                done += 1
        except BaseException as error:
            text = f"all variables and {done} of {plan.items} items were loaded"
            if isinstance(error, SegmentFullError):
                text = f"{text}, then there was no room left: {error}"
                raise SegmentFullError(text, error.needed, error.free, error.size) from None
            if isinstance(error, SegmentBusyError):
                raise SegmentBusyError(f"{text}: {error}") from None
            error.add_note(text)
            raise
