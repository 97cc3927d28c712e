"""Dumps: everything in a segment to a file, and back. Values are moved as they are stored; nothing is unpickled.

| file | what |
| --- | --- |
| `files` | files that are replaced when they are whole, and files that are read twice |
| `writing` | a dump of a segment of this machine, or of one on a server |
| `reading` | a load into one of either kind |
| `items` | the items of a load, from when they were verified until they are put |

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
            raise TypeError(f"{files.FOR_WRITING}; not to {type(where).__name__}")
        if files.is_text(where) or not _may(where, "writable"):
            raise TypeError(files.FOR_WRITING)
        return writing.write(segment, where, told)
    with files.replacing(os.fsdecode(where)) as file:
        return writing.write(segment, file, told)


def load(segment: Any, where: _Where, told: _Told | None = None) -> int:
    """`Segment.load`, of either kind of segment. Returns how many variables there are."""
    from shmvar._dump import files, reading

    segment.put_many({})  # a handle that may not do that reads nothing
    if isinstance(where, str | bytes | os.PathLike):
        with open(where, "rb") as file, files.readable_twice(file) as source:
            return reading.load(segment, source, told)
    if not hasattr(where, "read"):
        raise TypeError(f"{files.FOR_READING}; not from {type(where).__name__}")
    if files.is_text(where) or not _may(where, "readable"):
        raise TypeError(files.FOR_READING)
    with files.readable_twice(where) as source:
        return reading.load(segment, source, told)


def _may(file: Any, what: str) -> bool:
    """Whether a file that is open can be read, or written. Objects of others' classes often say no, and can."""
    import io

    own = isinstance(file, io.FileIO | io.BufferedReader | io.BufferedWriter | io.BufferedRandom)
    return not own or file.closed or bool(getattr(file, what)())
