"""Dumps: everything in a segment to a file, and back. Values are moved as they are stored; nothing is unpickled.

| file | what |
| --- | --- |
| `files` | files that are replaced when they are whole, and files that are read twice |
| `writing` | a dump of a segment of this machine, or of one on a server |
| `reading` | a load into one of either kind |

The format is described in docs/guide.md, "Dumps", how a dump is of one instant in docs/protocol.md, "Dumps".
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any

    from shmvar._dump.files import _Told

    _Where = str | bytes | os.PathLike[str] | os.PathLike[bytes] | IO[bytes]


def dump(segment: Any, where: _Where, told: _Told | None = None) -> int:
    """`Segment.dump`, of either kind of segment. Returns how many variables there are."""
    from shmvar._dump import files, writing

    if not isinstance(where, str | bytes | os.PathLike):
        if not hasattr(where, "write"):
            what = type(where).__name__
            raise TypeError(f"a dump goes to a path or to a file that is open for writing, not to {what}")
        return writing.write(segment, where, told)
    with files.replacing(os.fsdecode(where)) as file:
        return writing.write(segment, file, told)


def load(segment: Any, where: _Where, told: _Told | None = None) -> int:
    """`Segment.load`, of either kind of segment. Returns how many variables there are."""
    from shmvar._dump import files, reading

    if isinstance(where, str | bytes | os.PathLike):
        with open(where, "rb") as file, files.readable_twice(file) as source:
            return reading.load(segment, source, told)
    if not hasattr(where, "read"):
        what = type(where).__name__
        raise TypeError(f"a dump is read from a path or from a file that is open for reading, not {what}")
    with files.readable_twice(where) as source:
        return reading.load(segment, source, told)
