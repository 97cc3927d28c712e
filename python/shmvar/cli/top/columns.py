"""The columns, which of them a width has room for, and what stands in them."""

from collections.abc import Callable, Container, Sequence
from typing import NamedTuple

from shmvar import _text
from shmvar.cli.top.facts import USABLE, Row

LEAST_KEY = 12
"""The key has at least so much room: for its sake other columns are left out."""

MOST_KEY = 60


class Marks(NamedTuple):
    """Characters that not every terminal has."""

    full: str
    half: str
    empty: str
    descending: str
    ascending: str
    line: str
    dot: str
    keys: str


FINE = Marks("━", "╸", "─", "▼", "▲", "─", "·", "↑↓")
PLAIN = Marks("=", "-", ".", "v", "^", "-", "-", "jk")


def marks_for(encoding: str) -> Marks:
    """Those that can be written in this encoding."""
    try:
        "".join(FINE).encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return PLAIN
    return FINE


class Column(NamedTuple):
    """A column of numbers. A width of 0: what is left. `style` gives a name in `STYLES` of `screen`, or nothing."""

    title: str
    width: int
    order: str | None
    text: Callable[[Row], str]
    style: Callable[[Row], str]


def rate(number: float | None) -> str:
    """Changes a second, in at most 7 characters."""
    if number is None:
        return "-"
    if 0 < number < 9.95:
        return f"{number:.1f}"
    for unit, least in (("G", 1e9), ("M", 1e6)):
        if number >= least:
            return f"{number / least:.1f}{unit}"
    return f"{number:,.0f}"


def percent(part: float | None) -> str:
    """A part of a whole: neither nothing nor all of it where it is not."""
    if part is None:
        return "-"
    if 0 < part < 0.005:
        return "<1%"
    return f"{_between(round(min(part, 1.0) * 100), part, 100)}%"


def bar(part: float, width: int, marks: Marks) -> tuple[str, str]:
    """A bar: what is in use, in halves of a character, and the rest of it."""
    part = min(max(part, 0.0), 1.0)
    whole, half = divmod(_between(round(part * 2 * width), part, 2 * width), 2)
    return marks.full * whole + marks.half * half, marks.empty * (width - whole - half)


def _between(number: int, part: float, most: int) -> int:
    """`number`, but never 0 of something, and never all where something is missing."""
    return min(max(number, 1 if part > 0 else 0), most - 1 if part < 1 else most)


def name_of(row: Row) -> str:
    """What a row is called: a key as Python shows it, a URL, or the object in the file system."""
    if row.url:
        return _text.one_line(str(row.key))
    return _text.one_line(repr(row.key) if row.key is not None else f"/dev/shm/{row.name}")


def state_of(row: Row) -> str:
    """The last column, and what stands in place of the numbers where there are none."""
    if row.state != USABLE:
        return _text.one_line(row.state if row.why is None else f"{row.state}: {row.why}")
    if row.writer is not None:
        return f"process {row.writer} writes"
    return _text.one_line(row.why or row.state)


def _count(number: int | None) -> str:
    return "-" if number is None else _text.number(number)


def _size(number: int | None) -> str:
    return "-" if number is None else _text.size(number)


def _if_any(style: str) -> Callable[[int | float | None], str]:
    return lambda number: style if number else "secondary"


_busy, _alive, _kept = _if_any("title"), _if_any(""), _if_any("attention")

USE = "USE"
COLUMNS = (
    Column("VARS", 9, "vars", lambda row: _count(row.count), lambda row: _alive(row.count)),
    Column("USED", 10, "used", lambda row: _size(row.used), lambda row: _alive(row.used)),
    Column("SIZE", 10, None, lambda row: _size(row.size), lambda _: ""),
    Column(USE, 10, "full", lambda row: percent(row.full), lambda row: ""),
    Column("CHG/S", 8, "changes", lambda row: rate(row.rate), lambda row: _busy(row.rate)),
    Column("PROCS", 5, "procs", lambda row: _count(row.processes), lambda row: _alive(row.processes)),
    Column("WAIT", 4, "waiting", lambda row: _count(row.waiting), lambda row: _busy(row.waiting)),
    Column("HELD", 10, "held", lambda row: _size(row.held), lambda row: _kept(row.held)),
    Column("MEMORY", 10, "memory", lambda row: _size(row.resident), lambda _: ""),
    Column("STATE", 0, None, state_of, lambda row: "" if row.writer is not None else "secondary"),
)
_DROPPED = ("STATE", "MEMORY", "SIZE", "USED", "HELD", "WAIT", "VARS", "PROCS", "CHG/S")
_STATE = 16  # what the state needs to be shown
_WIDE = 120
_WIDER_USE = 17


class Layout(NamedTuple):
    """The columns that are shown beside the key, with their widths, and the spaces between two."""

    key: int
    columns: tuple[tuple[Column, int], ...]
    gap: int


def layout(width: int, longest: int, silent: Container[str] = ()) -> Layout:
    """What a screen of this width shows, where the longest key takes `longest` columns.

    `silent`: titles of columns that say nothing of any row, and of which a key has the room.
    """
    gap = 2 if width >= _WIDE else 1
    columns = list(COLUMNS)
    wanted = min(longest, MOST_KEY)

    def left() -> int:
        return width - sum(_width(column, width) + gap for column in columns)

    for title in sorted(_DROPPED, key=lambda title: title not in silent):
        # What matters less goes first, until keys have room.
        if left() >= max(LEAST_KEY, min(wanted, width // 3)):
            break
        columns = [column for column in columns if column.title != title]
    key = min(max(wanted, LEAST_KEY), left()) if any(column.title == "STATE" for column in columns) else left()
    state = left() - key + _STATE
    return Layout(
        max(key, 1),
        tuple((column, state if column.title == "STATE" else _width(column, width)) for column in columns),
        gap,
    )


def _width(column: Column, screen: int) -> int:
    if column.title == "STATE":
        return _STATE
    return _WIDER_USE if column.title == USE and screen >= _WIDE else column.width


def longest_name(names: Sequence[str], length: Callable[[str], int]) -> int:
    """How many columns the longest of these names takes; names of more than a screen are not measured."""
    return max((length(name[: 2 * MOST_KEY]) for name in names), default=0)
