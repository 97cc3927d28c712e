"""Writing a dump: its checksum and its last line are made here; what it has of a local segment, in the core."""

from __future__ import annotations

import hashlib
import io
import json
import os

from shmvar import _preview
from shmvar._core import Segment, _activity, _dump, _pickle_fault, _value_in_band
from shmvar._errors import CorruptSegmentError, SegmentBusyError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any

    from shmvar._dump.files import _Told


class _Output:
    """Where a dump goes, with the checksum of what has gone there."""

    def __init__(self, file: IO[bytes], told: _Told | None, expected: int) -> None:
        self._file = file
        self._process = os.getpid()
        self._told = told
        self._expected = expected
        self._done = 0
        self._digest = hashlib.sha256()

    def _write(self, data: bytes) -> None:
        _write_all(self._file, data)
        if os.getpid() != self._process:
            raise SegmentBusyError("this process was forked in the middle of the call: call again in the child")

    def write(self, data: bytes) -> None:
        self._digest.update(data)
        self._write(data)
        self._done += len(data)
        if self._told is not None:
            self._told(min(self._done, self._expected), self._expected)

    def end(self, variables: int, items: int) -> None:
        last = {"variables": variables, "items": items, "sha256": self._digest.hexdigest()}
        self._write(_line(last))
        if flush := getattr(self._file, "flush", None):
            flush()
        if self._told is not None:
            self._told(self._expected, self._expected)


def write(segment: Segment, file: IO[bytes], told: _Told | None) -> int:
    """Writes everything. Returns how many variables there are."""
    if isinstance(segment, Segment):
        output = _Output(file, told, max(_activity(segment)["used"], 1) if told is not None else 1)
        variables, items, _, _ = _dump(segment, output.write)
    else:
        output = _Output(file, told, max(segment.info().used, 1) if told is not None else 1)
        variables, items = _write_remote(segment, output)
    output.end(variables, items)
    return variables


def _write_remote(segment: Any, output: _Output) -> tuple[int, int]:
    """Writes what is on a server: each variable as of one instant, but not all of them as of the same."""
    output.write(b"shmvar dump 2\n")
    variables = items = 0
    for index in sorted(set(segment.keys()), key=_preview.order):
        found = segment._stored_bytes(index)
        if found is None:
            continue  # it vanished meanwhile
        has_buffers, body, expires_in = found
        if fault := _fault(has_buffers, body):
            raise CorruptSegmentError(f"variable {index!r} is damaged: {fault}; remove it to dump the others")
        kind = {"kind": "buffers"} if has_buffers else {}
        life = {} if expires_in is None else {"expires_in": max(expires_in, 1e-6)}
        output.write(_line({"index": index, "length": len(body)} | kind | life) + body + b"\n")
        variables += 1
    for name in sorted(segment.info().queues, key=_preview.order):
        for pickle in segment.queue(name)._pickles():
            if fault := _pickle_fault(pickle):
                raise CorruptSegmentError(f"an item of queue {name!r} is damaged: {fault}; get it to dump the others")
            output.write(_line({"queue": name, "length": len(pickle)}) + pickle + b"\n")
            items += 1
    return variables, items


def _fault(has_buffers: bool, body: bytes) -> str | None:
    if not has_buffers:
        return _pickle_fault(body)
    try:
        return _pickle_fault(_value_in_band(body))
    except ValueError as error:
        return str(error)


def _line(parts: dict[str, Any]) -> bytes:
    return json.dumps(parts).encode() + b"\n"


def _write_all(file: IO[bytes], data: bytes) -> None:
    """A file without a buffer may take less than it is given."""
    view = memoryview(data)
    while view:
        done = file.write(view)
        if done is None:
            if isinstance(file, io.RawIOBase):
                raise BlockingIOError("a dump goes to a file that blocks")
            return  # an object of somebody's, whose `write` says nothing
        if not 0 < done <= len(view):
            raise OSError(
                f"the file's write() has to return how many of {len(view)} bytes it took, and returned {done}"
            )
        view = view[done:]
