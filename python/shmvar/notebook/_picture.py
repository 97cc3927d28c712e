"""What a widget shows at a moment, as plain data: for the browser, and as text where there is none.

Everything in it is text that is harmless on one line, or a number. Values are read as data only, whatever the handle
trusts, and read again only after they have changed.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from shmvar._core import Segment, _activity
from shmvar._display import columns, facts
from shmvar._preview import first, order, variables
from shmvar._text import cut, number, one_line, size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from shmvar.notebook._rates import Rates

LIVE = "live"
WIDTH = 60
"""Characters of a value, and of an index, that are shown."""
UNREAD = "…"
"""Stands for a value that is large, or that needs code to be rebuilt."""
ABSENT = "not there"
"""Stands for the value of an index that is followed, and was not there since then."""
_TYPE_WIDTH = 32
_WHOLE_WIDTH = 1024
"""Characters of an index that are shown where one asks for more."""


class _Seen(NamedTuple):
    """What the counts say at a moment, copied: the thread that counts goes on."""

    at: int
    since: int
    told: list[int]
    made: list[int]
    busy: dict[int | str, tuple[int, int, bool, list[int]]]
    """Of each index that changed and is shown: its version, the place of its last change among all, whether it may have
    changed more often, and its counts."""
    removed: set[int | str]
    """Of those that were shown."""
    dropped: int
    """How many indexes are not known any more."""


class Pictures:
    """Makes one picture after the other. One thread uses it, but for `look`."""

    def __init__(self, segment: Segment, indices: Sequence[int | str] | None, rows: int) -> None:
        self._segment = segment
        self._indices = None if indices is None else list(indices)
        self._rows = rows
        self._cells: dict[int | str, dict[str, Any]] = {}
        """Of each index that is shown what was read of it. It is read again when it has changed since."""
        self._read_at: dict[int | str, int] = {}
        self._ids: dict[int | str, int] = {}
        self._next_id = 0
        self._dropped = 0
        self._last: dict[str, Any] = {"head": {"key": _name(segment.key)}, "rows": [], "more": "", "at": 0}

    def look(self, rates: Rates, now: float) -> _Seen:
        """Takes from the counts what a picture needs. The caller holds their lock."""
        chosen = self._indices
        shown = rates.top(self._rows, now, self._cells) if chosen is None else chosen[: self._rows]
        second = int(now)
        busy = {
            index: (found.version, found.told, found.at_least_until > now, found.counts.until(second))
            for index in shown
            if (found := rates.get(index)) is not None
        }
        gone = {index for index in self._cells if (found := rates.get(index)) is not None and not found.version}
        told, made = rates.total.until(second), rates.made.until(second)
        return _Seen(second, int(rates.since), told, made, busy, gone, rates.dropped)

    def make(self, seen: _Seen) -> dict[str, Any]:
        """A picture: numbers, texts, lists and dicts, as JSON has them. Raises what reading the segment raises."""
        count, used, size_of_it = _charged(self._segment)
        shown, there = self._shown(seen, count)
        self._read(shown, seen)
        rows = [row for index in shown if (row := self._row(index, seen)) is not None]
        head = {
            "key": _name(self._segment.key),
            "count": number(count),
            "used": size(used),
            "size": size(size_of_it),
            "part": min(used / size_of_it, 1.0) if size_of_it else 0.0,
            "told": seen.told,
            "made": seen.made,
        }
        more = there - (sum(not row["gone"] for row in rows) if self._indices is None else len(shown))
        self._last = {
            "head": head,
            "rows": rows,
            "more": f"… {number(more)} more" if more > 0 else "",
            "at": seen.at,
            "since": seen.since,
            "wall": time.time(),
        }
        return dict(self._last)

    def last(self) -> dict[str, Any]:
        """The last picture that could be made."""
        return dict(self._last)

    def _shown(self, seen: _Seen, count: int) -> tuple[list[int | str], int]:
        """The indexes that are shown, and how many there are in all."""
        if self._indices is not None:
            return self._indices[: self._rows], len(self._indices)
        # What was shown stays, if nobody has removed it: `first` gives any of many.
        rest = [index for index in self._cells if index not in seen.busy and index not in seen.removed]
        there = len(rest) + sum(bool(found[0]) for found in seen.busy.values())
        room = self._rows - len(seen.busy)
        if len(rest) < room and there < count:
            some = first(self._segment, self._rows)[0]
            rest = list(dict.fromkeys([*rest, *(index for index in some if index not in seen.busy)]))
        return [*seen.busy, *sorted(rest[:room], key=order)], count

    def _read(self, shown: list[int | str], seen: _Seen) -> None:
        """Reads those that were not shown yet, or have changed since they were read."""
        # An index that is not known any more may have changed before it was dropped, like any other.
        sure = shown if seen.dropped == self._dropped else list(seen.busy)
        self._dropped = seen.dropped
        self._cells = {index: cell for index in sure if (cell := self._cells.get(index)) is not None}
        self._read_at = {index: at for index in sure if (at := self._read_at.get(index)) is not None}
        self._ids = {index: name for index in shown if (name := self._ids.get(index)) is not None}
        old = [index for index in shown if self._is_old(index, seen)]
        for found in variables(self._segment, old, WIDTH):
            here = isinstance(self._segment, Segment)  # a server would be asked once more for each
            self._cells[found["index"]] = _cell(facts.with_shape(self._segment, found) if here else found)
        for index in old:
            self._read_at[index] = seen.busy[index][1] if index in seen.busy else 0

    def _is_old(self, index: int | str, seen: _Seen) -> bool:
        if index not in self._cells:
            return True
        return index in seen.busy and self._read_at.get(index, 0) < seen.busy[index][1]

    def _row(self, index: int | str, seen: _Seen) -> dict[str, Any] | None:
        """One row. None: there is nothing to say of this index."""
        version, _, at_least, counts = seen.busy.get(index, (None, 0, False, []))
        cell = self._cells.get(index)
        gone = version == 0 or cell is None
        if gone and version is None and self._indices is None:
            return None  # it vanished between two looks
        if index not in self._ids:
            self._next_id += 1
            self._ids[index] = self._next_id
        text = repr(index)
        row = {
            "id": self._ids[index],
            "index": cut(one_line(text), WIDTH),
            "whole": cut(one_line(text), _WHOLE_WIDTH),
            "number": None if isinstance(index, str) else str(index),
            "gone": gone,
            "at_least": at_least,
            "counts": counts,
        }
        if gone or cell is None:
            cell = _NOTHING | {"text": ABSENT if version is None else "removed, or expired"}
        return row | cell


_NOTHING = {"type": "", "size": "", "version": 0, "wrong": False}


def _cell(found: dict[str, Any]) -> dict[str, Any]:
    """What is shown of a variable."""
    return {
        "type": cut(one_line(found["type"] or ""), _TYPE_WIDTH),
        "size": "" if found["size"] is None else size(found["size"]),
        "version": found["version"] or 0,
        "text": cut(one_line(_value(found)), WIDTH),
        "wrong": found["error"] is not None,
    }


def _value(found: dict[str, Any]) -> str:
    """The value in short, or what stands for one that is not read; as the display of a segment has it."""
    if found["error"] is not None:
        return f"not readable: {found['error']}"
    shape = "" if found["shape"] is None else f" {tuple(found['shape'])!r}"
    if found["in_place"]:
        return f"in place: {found['dtype'] or 'bytes'}{shape}"
    if found["repr"] is not None:
        return str(found["repr"])
    return UNREAD if found["dtype"] is None else f"array: {found['dtype']}{shape}"


def _charged(segment: Segment) -> tuple[int, int, int]:
    """How many variables there are, what they are charged, and the limit."""
    if isinstance(segment, Segment):
        found = _activity(segment)  # not `info`, which may wait for a stopped writer
        return found["count"], found["used"], found["size"]
    info: Any = segment.info()
    return info.count, info.used, info.size


def _name(name: Any) -> str:
    """A key or an index as it is written in Python, harmless."""
    return cut(one_line(repr(name)), WIDTH)


def as_text(segment: Segment, indices: Sequence[int | str] | None, rows: int) -> str:
    """The table of this moment as plain text, where nothing draws it. Raises what reading the segment raises."""
    from shmvar.notebook._rates import Rates

    pictures = Pictures(segment, indices, rows)
    picture = pictures.make(pictures.look(Rates(0.0), 0.0))
    head = picture["head"]
    many = "variable" if head["count"] == "1" else "variables"
    lines = [f"shmvar {head['key']}: {head['count']} {many}, {head['used']} of {head['size']} used"]
    if isinstance(segment, Segment) and _activity(segment)["gone"]:
        lines.append("the segment was destroyed: this handle still reads it, but nobody attaches it any more")
    titles = ("INDEX", "TYPE", "SIZE", "VERSION", "VALUE")
    table = [
        (r["index"], r["type"], r["size"], number(r["version"]) if r["version"] else "", r["text"])
        for r in picture["rows"]
    ]
    if table:
        lines.append(columns.of(titles, table, (2, 3)))
    return "\n".join([*lines, picture["more"]] if picture["more"] else lines)
