"""What is known of a segment at a moment, and changes a second from two moments."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

USABLE, MISSING = "usable", "missing"


@dataclass
class Row:
    """A segment, or another object at the name of one. None stands for what is not known."""

    name: str
    key: int | str | None
    state: str
    why: str | None = None
    url: bool = False  # it is on a server, which knows less
    uid: int = 0
    perm: int = 0
    created_at: float = 0.0
    seen_at: float = 0.0  # on the clock of `time.monotonic`
    count: int | None = None
    used: int | None = None
    size: int | None = None
    resident: int | None = None
    processes: int | None = None
    changes: int | None = None  # a number that grows with each
    waiting: int | None = None
    held: int | None = None
    spare: int | None = None
    evicted: int | None = None
    evicts: bool = False
    writer: int | None = None  # the pid of who holds the writer lock at this moment
    rate: float | None = None  # changes a second

    @property
    def full(self) -> float | None:
        """Which part of its size is used."""
        return self.used / self.size if self.used is not None and self.size else None


@dataclass
class Details:
    """More of one segment."""

    name: str
    processes: list[tuple[int, str, float]] = field(default_factory=list)  # pid, command, attached since 1970
    locks: list[tuple[int | str, int]] = field(default_factory=list)  # name, pid
    queues: list[tuple[int | str, int, int]] = field(default_factory=list)  # name, items that wait, items taken
    changed: list[tuple[int | str, str, int]] = field(default_factory=list)  # index, type, version: the latest first
    note: str | None = None  # why something is missing


@dataclass
class Sample:
    """All segments at one moment."""

    rows: list[Row]
    details: Details | None = None
    error: str | None = None  # why there are no rows


class Rates:
    """Sets the changes a second of each row, from the sample before."""

    def __init__(self) -> None:
        self._before: dict[tuple[str, float], tuple[int, float]] = {}

    def set(self, rows: Iterable[Row]) -> None:
        """In a segment that was not there before, or that is another one by the same name, they are not known."""
        now: dict[tuple[str, float], tuple[int, float]] = {}
        for row in rows:
            if row.changes is None:
                continue
            known_by = (row.name, row.created_at)
            now[known_by] = (row.changes, row.seen_at)
            if known_by in self._before:
                changes, seen_at = self._before[known_by]
                if row.seen_at > seen_at and row.changes >= changes:
                    row.rate = (row.changes - changes) / (row.seen_at - seen_at)
        self._before = now


def as_json(row: Row) -> dict[str, Any]:
    """A row for programs, with the names that `shmvar ls --json` has where it says the same."""
    known = {
        "key": row.key,
        "name": row.key if row.url else row.name,  # a URL may have a password
        "state": row.state,
        "why": row.why,
        "count": row.count,
        "used": row.used,
        "size": row.size,
        "changes_per_second": row.rate if row.rate is None or math.isfinite(row.rate) else None,
        "changes": row.changes,
        "attached": row.processes,
        "waiting": row.waiting,
        "held": row.held,
        "spare": row.spare,
        "resident": row.resident,
        "writer": row.writer,
        "evicted": row.evicted,
    }
    return known
