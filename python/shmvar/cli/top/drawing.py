"""The lines of the screen. Whatever comes from a segment is harmless text here, and cut to its column."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from shmvar import _text
from shmvar.cli.screen import STYLES, level
from shmvar.cli.top import columns, details
from shmvar.cli.top.columns import Column, Layout, Marks
from shmvar.cli.top.facts import MISSING, USABLE, Details, Row

TITLE, SECONDARY = STYLES["title"], STYLES["secondary"]
HELP = (
    ("q, Ctrl-C", "quit"),
    ("up k, down j", "select a segment"),
    ("pgup, pgdn", "a screen up, down"),
    ("home g, end G", "the first, the last one"),
    ("space, enter", "details, or no more"),
    ("d, u", "scroll the details"),
    ("s >, <", "sort by another column"),
    ("r", "the other way round"),
    ("p", "pause: look at nothing"),
    ("?, h", "this list, or no more"),
)
_NARROW = 60
_DETAILS, _DETAILS_LOW = 14, 7  # lines of them, at most; where that is more than half of the screen


@dataclass
class View:
    """What is to be drawn."""

    rows: list[Row] = field(default_factory=list)  # in order
    selected: str | None = None  # the name
    chosen: bool = False  # by somebody: until then it is whichever is at the top
    first: int = 0  # the row at the top
    order: str = ""
    reverse: bool = False
    paused: bool = False
    helps: bool = False
    detailed: bool = False
    details: Details | None = None
    help_first: int = 0  # the line of the help at the top, and that of the details
    details_first: int = 0
    error: str | None = None
    interval: float = 1.0
    at: float = 0.0  # seconds since 1970
    memory: tuple[int, int] | None = None  # of the memory file system: in use, and all of it


def body_height(view: View, height: int) -> int:
    """How many rows there is room for."""
    return max(height - 4 - _details_height(view, height), 1)


def _details_height(view: View, height: int) -> int:
    """Half of the screen; of a low one nearly all of it."""
    room = height - 4
    return min(_DETAILS, max(room // 2, min(_DETAILS_LOW, room - 1), 0)) if view.detailed else 0


def _names(view: View) -> list[str]:
    return [columns.name_of(row) for row in view.rows]


def _plan(view: View, width: int, names: Sequence[str]) -> Layout:
    """The columns that are shown. None is there for memory that views hold where none do."""
    silent = () if view.order == "held" or any(row.held for row in view.rows) else ("HELD",)
    return columns.layout(width, columns.longest_name(names, cell_len), silent)


def orders(view: View, width: int) -> set[str]:
    """The orders whose column is shown."""
    return _orders(_plan(view, width, _names(view)))


def _orders(plan: Layout) -> set[str]:
    return {"key", *(column.order for column, _ in plan.columns if column.order)}


def frame(view: View, width: int, height: int, marks: Marks) -> list[Text]:
    """Exactly `height` lines of `width` columns."""
    names = _names(view)
    plan = _plan(view, width, names)
    lines = [_head(view, plan, width, marks)]
    if view.helps:
        lines += _help(view, help_height(height))
    else:
        lines += [_memory(view, width, marks), _titles(view, plan, marks)]
        lines += _body(view, plan, names, width, body_height(view, height), marks)
        if view.detailed:
            lines += _details(view, width, marks, _details_height(view, height))
    lines = [*lines[: height - 1], _keys(view, width, marks)]
    if marks is columns.PLAIN:
        for line in lines:
            line.plain = line.plain.replace("…", "~").encode("ascii", "replace").decode()
    return [_fitted(line, width) for line in lines][-height:]


def help_height(height: int) -> int:
    """How many lines of the help there is room for."""
    return max(height - 2, 1)


def _help(view: View, room: int) -> list[Text]:
    """What keys do, in place of everything else but the head and the keys at the foot."""
    view.help_first = min(max(view.help_first, 0), max(len(HELP) - room, 0))
    lines = [Text.assemble(" ", (f"{keys:<15}", TITLE), about) for keys, about in HELP[view.help_first :]]
    return (lines + [Text()] * room)[:room]


def _body(view: View, plan: Layout, names: Sequence[str], width: int, room: int, marks: Marks) -> list[Text]:
    """The rows that are shown; or why there are none."""
    if view.rows:
        shown = list(zip(view.rows, names, strict=True))[view.first : view.first + room]
        lines = [_row(row, name, plan, width, marks, row.name == view.selected) for row, name in shown]
    else:
        why = view.error or ("no segments" if view.at else "looking")
        lines = [Text(f" {why}", STYLES["bad" if view.error else "secondary"])]
    return (lines + [Text()] * room)[:room]


def _fitted(line: Text, width: int) -> Text:
    """The line, cut or filled up to the width."""
    missing = width - line.cell_len
    if missing < 0:
        line.truncate(width)
    elif missing:
        line.append(" " * missing)
    return line


def _head(view: View, plan: Layout, width: int, marks: Marks) -> Text:
    usable = [row for row in view.rows if row.state == USABLE]
    rates = [row.rate for row in usable if row.rate is not None]
    missing = sum(row.state == MISSING for row in view.rows)
    facts = [_many(len(view.rows) - missing, "segment") + (f", {missing:,} missing" if missing else "")]
    if view.order not in _orders(plan):
        facts.append(f"by {view.order}")  # no title says so
    facts.append(f"{columns.rate(sum(rates) if rates else None)} changes/s")
    facts.append(_many(sum(row.count or 0 for row in usable), "variable"))
    line = Text("shmvar top", TITLE)
    if view.paused:
        line.append(" ").append(" paused ", "black on yellow")
    separator = f" {marks.dot} "
    time = f"  {datetime.datetime.fromtimestamp(view.at):%H:%M:%S}" if view.at else ""
    clock = f"every {view.interval:g} s{time}"
    for number, fact in enumerate(facts):
        if line.cell_len + len(fact) + 3 <= width:
            line.append("  " if not number else separator, SECONDARY).append(fact)
    space = width - line.cell_len - len(clock)
    return line.append(" " * space).append(clock, SECONDARY) if space >= 2 else line


def _many(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _memory(view: View, width: int, marks: Marks) -> Text:
    """How full the memory file system is."""
    if view.memory is None or not view.memory[1]:
        return Text()
    used, whole = view.memory
    part = used / whole
    about = f" {columns.percent(part):>4}  {_text.size(used)} of {_text.size(whole)} of shared memory in use"
    filled, rest = columns.bar(part, min(20, max(width // 8, 5)), marks)
    line = Text.assemble((filled, STYLES[level(part)]), (rest, SECONDARY))
    return line.append(
        about if len(about) + line.cell_len <= width else f" {columns.percent(part):>4} of shared memory"
    )


def _titles(view: View, plan: Layout, marks: Marks) -> Text:
    """The titles; that of the order has a mark, for which there is always room in the space before it."""
    line = Text(style="reverse")
    key = marks.descending if view.reverse else marks.ascending
    line.append(set_cell_size(f"KEY {key}" if view.order == "key" else "KEY", plan.key))
    mark = marks.ascending if view.reverse else marks.descending
    for column, width in plan.columns:
        title = mark + column.title if column.order == view.order else column.title
        line.append(" " * plan.gap + title.ljust(width) if column.title == "STATE" else title.rjust(plan.gap + width))
    return line


def _row(row: Row, name: str, plan: Layout, width: int, marks: Marks, selected: bool) -> Text:
    line = Text(style="reverse" if selected else "")
    usable = row.state == USABLE
    cut = set_cell_size(_text.cut(name, plan.key, cell_len), plan.key)
    line.append(cut, TITLE if usable else "")
    if not usable:
        style = STYLES["attention" if row.state in (MISSING, "busy") else "bad"]
        return line.append(
            " " * plan.gap + _text.cut(columns.state_of(row), width - plan.key - plan.gap, cell_len), style
        )
    for column, room in plan.columns:
        line.append(" " * plan.gap)
        _cell(line, column, room, row, marks)
    return line


def _cell(line: Text, column: Column, room: int, row: Row, marks: Marks) -> None:
    text, style = column.text(row), STYLES.get(column.style(row), "")
    if column.title == columns.USE and row.full is not None:
        # A segment that evicts is as full as it is meant to be.
        name = "good" if row.evicts else level(row.full)
        filled, rest = columns.bar(row.full, room - 5, marks)
        line.append(filled, STYLES[name]).append(rest, SECONDARY)
        line.append(f"{text:>5}", "" if name == "good" else STYLES[name])
        return
    text = set_cell_size(_text.cut(text, room, cell_len), room) if column.title == "STATE" else text.rjust(room)
    line.append(text, style)


def _details(view: View, width: int, marks: Marks, height: int) -> list[Text]:
    """The lower part: the selected segment."""
    if not height:
        return []
    row = next((row for row in view.rows if row.name == view.selected), None)
    name = "" if row is None else columns.name_of(row)
    title = _text.cut(name, max(width - 6, 1), cell_len)
    head = Text.assemble((marks.line * 2 + " ", SECONDARY), (title, TITLE), (" " + marks.line * width, SECONDARY))
    head.truncate(width)
    lines = [] if row is None else details.lines(row, view.details, width, whole_name=title != name)
    room = height - 1
    view.details_first = min(max(view.details_first, 0), max(len(lines) - room, 0))
    below = len(lines) - view.details_first - room
    shown = lines[view.details_first : view.details_first + room]
    if below > 0 and room > 1:
        shown[-1] = Text(f" {marks.dot} {_many(below + 1, 'more line')}: d", SECONDARY)
    return ([head, *shown] + [Text()] * height)[:height]


def _keys(view: View, width: int, marks: Marks) -> Text:
    hints = [("q", "quit"), ("?", "help"), (marks.keys, "select"), ("s", "sort"), ("r", "reverse")]
    hints += [("space", "details"), ("p", "go on" if view.paused else "pause")]
    line = Text()
    for key, about in hints:
        if line.cell_len + len(key) + len(about) + 4 > width:
            break
        line.append(f" {key} ", "reverse" if width >= _NARROW else TITLE).append(f" {about} ")
    return line
