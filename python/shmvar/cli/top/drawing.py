"""The lines of the screen. Whatever comes from a segment is harmless text here, and cut to its column."""

import datetime
from dataclasses import dataclass, field

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from shmvar import _text
from shmvar.cli.screen import STYLES, level
from shmvar.cli.top import columns
from shmvar.cli.top.columns import Column, Layout, Marks
from shmvar.cli.top.facts import USABLE, Details, Row

TITLE, SECONDARY = STYLES["title"], STYLES["secondary"]
HELP = (
    ("up, k / down, j", "select the segment above, below"),
    ("page up, page down", "a screen up, down"),
    ("home, g / end, G", "the first one, the last one"),
    ("space, enter", "show details of the selected segment, or no more"),
    ("s, > / <", "sort by the next column, by the one before"),
    ("r", "the other way round"),
    ("p", "pause: nothing is looked at"),
    ("?, h", "this list, or no more"),
    ("q, Ctrl-C", "quit"),
)
_NARROW = 60
_DETAILS = 9  # lines of them, at most


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
    error: str | None = None
    interval: float = 1.0
    at: float = 0.0  # seconds since 1970
    memory: tuple[int, int] | None = None  # of the memory file system: in use, and all of it


def body_height(view: View, height: int) -> int:
    """How many rows there is room for."""
    return max(height - 4 - _details_height(view, height), 1)


def _details_height(view: View, height: int) -> int:
    return min(_DETAILS, max((height - 4) // 2, 0)) if view.detailed else 0


def frame(view: View, width: int, height: int, marks: Marks) -> list[Text]:
    """Exactly `height` lines of `width` columns."""
    names = [columns.name_of(row) for row in view.rows]
    plan = columns.layout(width, columns.longest_name(names, cell_len))
    lines = [_head(view, width, marks), _memory(view, width, marks), _titles(view, plan, marks)]
    room = body_height(view, height)
    if view.helps:
        body = [Text.assemble(" ", (f"{keys:<20}", TITLE), about) for keys, about in HELP]
    elif not view.rows:
        body = [
            Text(
                " " + (view.error or ("no segments" if view.at else "looking")),
                STYLES["bad" if view.error else "secondary"],
            )
        ]
    else:
        shown = list(zip(view.rows, names, strict=True))[view.first : view.first + room]
        body = [_row(row, name, plan, width, marks, row.name == view.selected) for row, name in shown]
    lines += (body + [Text()] * room)[:room]
    if view.detailed:
        lines += _details(view, width, marks, _details_height(view, height))
    lines = [*lines[: height - 1], _keys(view, width, marks)]
    if marks is columns.PLAIN:
        for line in lines:
            line.plain = line.plain.replace("…", "~").encode("ascii", "replace").decode()
    return [_fitted(line, width) for line in lines][-height:]


def _fitted(line: Text, width: int) -> Text:
    """The line, cut or filled up to the width."""
    missing = width - line.cell_len
    if missing < 0:
        line.truncate(width)
    elif missing:
        line.append(" " * missing)
    return line


def _head(view: View, width: int, marks: Marks) -> Text:
    usable = [row for row in view.rows if row.state == USABLE]
    rates = [row.rate for row in usable if row.rate is not None]
    facts = [_many(len(view.rows), "segment")]
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
    missing = width - line.cell_len - len(clock)
    return line.append(" " * missing).append(clock, SECONDARY) if missing >= 2 else line


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
        style = STYLES["attention" if row.state in ("missing", "busy") else "bad"]
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
    title = "" if row is None else _text.cut(columns.name_of(row), max(width - 6, 1), cell_len)
    head = Text.assemble((marks.line * 2 + " ", SECONDARY), (title, TITLE), (" " + marks.line * width, SECONDARY))
    head.truncate(width)
    lines = [head]
    if row is not None:
        lines += [_pair(*pair, width) for pair in _pairs(row, view.details)]
    return (lines + [Text()] * height)[:height]


def _pair(title: str, text: str, width: int) -> Text:
    room = max(width - 13, 1)
    return Text.assemble((f"{title:<11}  ", SECONDARY), _text.cut(_text.one_line(text), room, cell_len))


def _pairs(row: Row, details: Details | None) -> list[tuple[str, str]]:
    """What is told of the selected segment, the most important first."""
    pairs = []
    if row.state != USABLE:
        return [("state", columns.state_of(row))]
    sizes = f"{_text.size(row.used or 0)} used of {_text.size(row.size or 0)}"
    if row.resident is not None:
        sizes += f", {_text.size(row.resident)} of memory"
    if row.held:
        sizes += f", {_text.size(row.held)} held by views"
    if row.spare:
        sizes += f", {_text.size(row.spare)} free and kept"
    pairs.append(("size", sizes))
    if details is None or details.name != row.name:
        return pairs
    if row.created_at:
        created = f"{datetime.datetime.fromtimestamp(row.created_at):%Y-%m-%d %H:%M:%S}"
        pairs.append(("created", created if row.url else f"{created}, mode {row.perm:03o}"))
    if details.note:
        pairs.append(("note", details.note))
    commands = {pid: command for pid, command, _ in details.processes}
    if row.writer is not None:
        pairs.append(("writer", f"process {_process(row.writer, commands)} has the writer lock"))
    if not row.url:
        processes = ", ".join(_process(pid, commands) for pid in commands)
        pairs.append(("processes", processes or "none is attached for writing"))
        held = ", ".join(f"{name!r} by {_process(pid, commands)}" for name, pid in details.locks)
        pairs.append(("locks", held or "none held"))
    if details.queues:
        queues = ", ".join(f"{name!r}: {waiting} wait, {taken} taken" for name, waiting, taken in details.queues)
        pairs.append(("queues", queues))
    if details.changed:
        changed = ", ".join(f"{index!r} ({kind})" for index, kind, _ in details.changed)
        pairs.append(("last change", changed))
    return pairs


def _process(pid: int, commands: dict[int, str]) -> str:
    return f"{pid} {commands[pid]}" if pid in commands else str(pid)


def _keys(view: View, width: int, marks: Marks) -> Text:
    hints = [("q", "quit"), ("?", "help"), (marks.keys, "select"), ("s", "sort"), ("r", "reverse")]
    hints += [("space", "details"), ("p", "go on" if view.paused else "pause")]
    line = Text()
    for key, about in hints:
        if line.cell_len + len(key) + len(about) + 4 > width:
            break
        line.append(f" {key} ", "reverse" if width >= _NARROW else TITLE).append(f" {about} ")
    return line
