"""Loading a dump: it is read once to be verified, and then again. The lines and the values are the core's."""

from __future__ import annotations

import hashlib

from shmvar._core import Segment, _dump_plan, _dump_values, _load_variables, _value_in_band
from shmvar._dump.files import piece
from shmvar._dump.items import Items
from shmvar._errors import DumpError, SegmentFullError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any

    from shmvar._core import _DumpPlan
    from shmvar._dump.files import _Told

_LINE_MAX = 16 << 10


class _Source:
    """A dump that is read twice, with the checksum of what comes before its last line."""

    def __init__(self, source: tuple[IO[bytes], int, int], told: _Told | None) -> None:
        self._file, self._start, self.length = source
        self._told = told
        self._before = -1  # how often it was read before
        self._last = self._last_line()
        self.begin()

    def _last_line(self) -> int:
        """Where the last line begins."""
        begin = max(self.length - _LINE_MAX, 0)
        self._file.seek(self._start + begin)
        end = b""
        while len(end) < self.length - begin and (more := self._piece(self.length - begin - len(end))):
            end += more
        return begin + end.rfind(b"\n", 0, max(len(end) - 1, 0)) + 1

    def _piece(self, most: int) -> bytes:
        return piece(self._file.read(most), most)

    def begin(self) -> None:
        """Begins to read it from its start."""
        self._file.seek(self._start)
        self._at = 0
        self._before += 1
        self._digest = hashlib.sha256()

    def read(self, most: int) -> bytes:
        """The next bytes."""
        data = self._piece(most)
        before_last = max(self._last - self._at, 0)
        self._digest.update(data[:before_last] if before_last < len(data) else data)
        self._at += len(data)
        if self._told is not None:
            twice = self.length * 2
            self._told(min(self._before * self.length + self._at, twice), max(twice, 1))
        return data

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


def load(segment: Segment, source: tuple[IO[bytes], int, int], told: _Told | None) -> int:
    """Verifies a dump, then stores its variables and puts its items. Returns how many variables there are."""
    dump = _Source(source, told)
    plan = _dump_plan(dump.read, dump.length)
    if dump.sha256 != plan.sha256:
        raise DumpError("the dump is damaged: its checksum does not match; dump again, or copy the file again")
    if isinstance(segment, Segment):
        _load_here(segment, dump, plan)
    else:
        _load_there(segment, dump, plan)
    return plan.variables


def _load_here(segment: Segment, dump: _Source, plan: _DumpPlan) -> None:
    def verify() -> None:
        if dump.sha256 != plan.sha256:
            raise DumpError("the dump was changed while it was read; nothing was loaded: load it again")

    dump.begin()
    with Items() as items:
        _load_variables(segment, plan, dump.read, items, verify)
        items.put(segment, plan)


def _load_there(segment: Any, dump: _Source, plan: _DumpPlan) -> None:
    """Stores one value after the other."""
    done = 0

    def put(index: int | str, item: bool, has_buffers: bool, value: bytes, life: float | None) -> None:
        nonlocal done
        if item:
            segment.queue(index)._put_pickle(_value_in_band(value) if has_buffers else value)
        else:
            segment._put_stored(index, has_buffers, value, life)
        done += 1

    dump.begin()
    try:
        _dump_values(plan, dump.read, put)
        if dump.sha256 != plan.sha256:
            raise DumpError("the dump was changed while it was read: load it again")
    except BaseException as error:
        text = f"{done} of {plan.variables + plan.items} variables and items were loaded"
        if isinstance(error, SegmentFullError):
            raise SegmentFullError(f"{text}: {error}", error.needed, error.free, error.size) from None
        if isinstance(error, DumpError):
            raise DumpError(f"{error}; {text}") from None
        error.add_note(text)
        raise
