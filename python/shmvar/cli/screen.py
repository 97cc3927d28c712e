"""What commands show on a terminal: colours that mean something, bars, columns that fit. Imported only on a terminal.

Texts that come from segments go through `Screen.text`: they are never read as markup of `rich`, have no control
characters, and no line that is made here is wider than the terminal.
"""

import sys
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from shmvar import _text

# What each colour means, here and nowhere else. None says anything that a word, a number or a mark does not say, too.
STYLES = {
    "bad": "bold red",  # damaged or refused; full to 95 % or more; expires within 10 seconds
    "attention": "yellow",  # full to 80 %; expires within a minute; memory that views hold; left by a dead process
    "good": "green",  # verified, or far from full
    "title": "bold",  # titles of columns and of sections
    "secondary": "dim",  # what is seldom looked for: versions, dates, what is left out
    # Types of values.
    "number": "cyan",  # int, float, bool, None and other numbers
    "text": "",  # str, and all others
    "bytes": "magenta",  # bytes, arrays, and what is written in place
    "container": "blue",  # dict, list, tuple, set
    "code": "italic dim",  # what is not read: it is large, or reading it would run code
    # The map of a segment's memory.
    "used": "green",
    "table": "cyan",
    "held": "yellow",
    "spare": "dim",
    "filling": "magenta",
    "absent": "dim",
}
MARKS = {"bad": "✗", "attention": "!", "good": "✓"}  # beside a colour
ASCII = {"✗": "x", "✓": "+", "━": "=", "╸": "-", "─": ".", "…": "...", "·": "-", "█": "#", "▒": "t", "▓": "h", "░": "."}
FULL, FILLING = 0.95, 0.8  # from here on a bar is bad, or wants attention
SOON, VERY_SOON = 60.0, 10.0  # seconds until a variable expires

LEAST_WIDTH = 24  # So many cells of the first and of the last column are shown before other columns are.
MIDDLE = 24  # A column between them has so many cells at most, or a fifth of the terminal; what is longer is cut.
LONGEST = 8192  # characters of one text that are looked at: no index is longer, with escapes
BAR = 10  # cells
PERCENT = 6  # cells behind a bar
GAP = 2  # cells between columns
BYTES = ("bytes", "bytearray", "memoryview", "array.array", "numpy.ndarray")
CONTAINERS = ("dict", "list", "tuple", "set", "frozenset", "collections.OrderedDict", "collections.deque")
NUMBERS = ("int", "float", "bool", "NoneType", "complex", "decimal.Decimal", "fractions.Fraction")


class Column(NamedTuple):
    """A column of a table. `spare`: what a narrow terminal does without, the largest number first; 0 stays."""

    title: str
    spare: int = 0
    right: bool = False  # numbers stand at the right


class Screen:
    """Prints on a terminal, or, without escape sequences, on one that shows no colours (`printing.colours`)."""

    def __init__(self, *, escapes: bool) -> None:
        self.console = Console(
            file=sys.stdout, force_terminal=escapes, no_color=not escapes, highlight=False, markup=False, emoji=False
        )
        self.encoding = self.console.encoding
        self.unicode = self.encoding.startswith("utf")

    @property
    def width(self) -> int:
        """The cells of a line: the terminal may have another size at any moment."""
        return max(self.console.width, 1)

    # --- texts

    def text(self, text: str, style: str = "") -> Text:
        """A text of one line, which may be anything, in one of `STYLES`."""
        return self.own(_text.one_line(text if len(text) <= LONGEST else f"{text[:LONGEST]}…"), style)

    def own(self, text: str, style: str = "") -> Text:
        """A text of this program's own, or one that is harmless already."""
        if not self.unicode:
            text = "".join(ASCII.get(char, char) for char in text)
            text = text.encode(self.encoding, "backslashreplace").decode(self.encoding)
        # As a span: the style of a `Text` itself would be that of what is appended, too.
        return Text(end="", no_wrap=True).append(text, STYLES[style] if style else None)

    def mark(self, style: str) -> Text:
        """The mark that stands beside a colour."""
        return self.own(MARKS[style], style)

    def bar(self, part: float, whole: float, width: int = BAR, *, style: str = "") -> Text:
        """How much of a whole is in use, as a bar and a number of percent. Never 0 % or 100 % of what is not.

        `style`: where it does not depend on that: what evicts is as full as it is meant to be.
        """
        share = min(max(part / whole, 0.0), 1.0) if whole else 0.0
        halves = _between(round(share * 2 * width), share, 2 * width)
        style = style or level(share)
        full, half = divmod(halves, 2)
        bar = self.own("━" * full + "╸" * half, style)
        bar.append_text(self.own("─" * (width - full - half), "secondary"))
        percent = "<1" if 0 < share < 0.005 else str(_between(round(share * 100), share, 100))
        return bar.append_text(self.own(f" {percent:>3} %", style if style != "good" else ""))

    # --- lines

    def print(self, *lines: Text) -> None:
        """Prints lines that are narrow enough."""
        if lines:
            whole = Text("\n", end="").join(lines)
            self.console.print(whole, soft_wrap=True, overflow="ignore", crop=False, end="\n")

    def line(self, line: Text, *, hanging: int = 0) -> None:
        """Prints a line; a long one is broken between words, and what follows is indented by `hanging`.

        It is indented by less where that would be half of the terminal.
        """
        hanging = min(hanging, self.width // 2)
        at = hanging
        while cell_len(line.plain[:at]) > hanging:  # a name of wide characters reaches further than it is long
            at -= 1
        start, rest = line[:at], line[at:]
        parts = self._wrapped(rest, max(self.width - hanging, 1))
        lines = []
        for part in parts:
            part.rstrip()
            lines.append(start + part)
            start = Text(" " * hanging)
        self.print(*lines)

    def cut(self, line: Text, width: int | None = None) -> Text:
        """The line, with … at the end if it is wider than the terminal, or than `width`."""
        width = self.width if width is None else width
        if cell_len(line.plain) <= width:
            return line
        dots = self.own("…")
        if width <= len(dots):
            return dots[:width]
        line = line.copy()
        line.truncate(width - len(dots))
        line.rstrip()
        return line.append_text(dots)

    def _wrapped(self, text: Text, width: int) -> list[Text]:
        if cell_len(text.plain) <= width:
            return [text]
        text = text.copy()
        text.no_wrap = False
        return list(text.wrap(self.console, width, overflow="fold"))

    # --- tables

    def table(self, columns: Sequence[Column], rows: Iterable[Sequence[Text]], *, cut_last: bool = False) -> None:
        """Prints rows in columns, below titles if there are any.

        The first and the last column are what people look for. Where they have too little room, columns that are
        `spare` are left out; then these two are wrapped, or, with `cut_last`, the last one is cut.
        """
        rows = [list(row) for row in rows]
        if any(column.title for column in columns):
            rows.insert(0, [self.own(column.title, "title") for column in columns])
        widths = [max(cell_len(cell.plain) for cell in cells) for cells in zip(*rows, strict=True)]
        widest = max(MIDDLE, self.width // 5)
        widths[1:-1] = (min(width, widest) for width in widths[1:-1])
        spare = sorted((at for at, column in enumerate(columns) if column.spare), key=lambda at: -columns[at].spare)
        shown = _columns(widths, spare, self.width)
        first, last = _ends(widths, shown, self.width)
        widths[0], widths[-1] = first, last
        for row in rows:
            cells = []
            for at in shown:
                wraps = at == 0 or (at == len(widths) - 1 and not cut_last)
                cells.append(self._wrapped(row[at], widths[at]) if wraps else [self.cut(row[at], widths[at])])
            self.print(*self._row(cells, [widths[at] for at in shown], [columns[at].right for at in shown]))

    def plain_table(self, titles: Sequence[str], rows: Iterable[Sequence[str]], spare: Sequence[str]) -> None:
        """A table without colours; the columns of `spare` are left out in this order."""
        texts = [[self.text(cell) for cell in row] for row in rows]
        if texts:
            rank = {title: len(spare) - at for at, title in enumerate(spare)}
            columns = [Column(title, rank.get(title, 0)) for title in titles or [""] * len(texts[0])]
            self.table(columns, texts)

    def _row(self, cells: list[list[Text]], widths: list[int], right: list[bool]) -> list[Text]:
        """The lines of a row; a cell may have several."""
        lines = []
        for number in range(max(map(len, cells))):
            line = Text(end="")
            for cell, width, at_right in zip(cells, widths, right, strict=True):
                part = cell[number].copy() if number < len(cell) else Text()
                part.rstrip()
                space = " " * (width - cell_len(part.plain))
                line = line.append(space).append_text(part) if at_right else line.append_text(part).append(space)
                line.append(" " * GAP)
            line.rstrip()
            lines.append(self.cut(line))
        return lines


def level(share: float) -> str:
    """The style of what is full to this share."""
    return "bad" if share >= FULL else "attention" if share >= FILLING else "good"


def of_type(name: str | None) -> str:
    """The style of a value of this type."""
    if name in BYTES:
        return "bytes"
    if name in CONTAINERS:
        return "container"
    return "number" if name in NUMBERS or (name or "").startswith("numpy.") else "text"


def of_expiry(seconds: float | None) -> str:
    """The style of the time until something expires."""
    if seconds is None or seconds >= SOON:
        return "secondary"
    return "bad" if seconds < VERY_SOON else "attention"


def _between(rounded: int, share: float, most: int) -> int:
    """What is rounded to nothing is a little, and what is rounded to everything a little less, unless it is that."""
    if 0 < share < 1:
        return min(max(rounded, 1), most - 1)
    return rounded


def _columns(widths: Sequence[int], spare: Sequence[int], width: int) -> list[int]:
    """The columns that are shown on a terminal of this width."""
    enough = min(widths[0], LEAST_WIDTH) + min(widths[-1], LEAST_WIDTH)
    shown = list(range(len(widths)))
    for at in spare:
        if _room(widths, shown, width) < enough:
            shown.remove(at)
    # A wide column may have to go after narrow ones that have room without it.
    for at in reversed(spare):
        if at not in shown and _room(widths, [*shown, at], width) >= enough:
            shown = sorted([*shown, at])
    return shown


def _room(widths: Sequence[int], shown: Sequence[int], width: int) -> int:
    """What the other columns leave for the first and the last one."""
    others = sum(widths[at] for at in shown if at not in (0, len(widths) - 1))
    return width - others - GAP * (len(shown) - 1)


def _ends(widths: Sequence[int], shown: Sequence[int], width: int) -> tuple[int, int]:
    """The widths of the first and the last column: where both are too wide, each has half of the room."""
    room = max(_room(widths, shown, width), 2)
    first = min(widths[0], max(room - widths[-1], room // 2))
    return first, max(min(widths[-1], room - first), 1)
