"""How things are printed: for people on a terminal, for programs in a pipe, and as JSON."""

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import shmvar
from shmvar import _preview, _text

# So many characters of the first and of the last column of a table are shown before other columns are.
LEAST_WIDTH = 24


def as_json(value: Any) -> str:
    """`value` as one line of JSON. Raises `TypeError` or `ValueError` where it has no such form."""
    import json

    return json.dumps(value, allow_nan=False, ensure_ascii=False)


def on_terminal() -> bool:
    """Whether stdout is a terminal."""
    return sys.stdout is not None and sys.stdout.isatty()


def table(
    titles: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    spare: Sequence[str] = (),
    cut_last: bool = False,
) -> None:
    """Prints `rows` in columns, below `titles` if there are any.

    In a pipe the columns are separated by tabs, and nothing is wrapped or shortened: for grep and cut. On a terminal
    the first and the last column are what people look for. Where they have too little room, columns of `spare` are left
    out, in this order; then these two are wrapped, or, with `cut_last`, the last one is shortened.
    """
    if not on_terminal():
        for row in ([titles] if titles else []) + list(rows):
            print("\t".join(row))
        return
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows = list(rows)
    console = Console(highlight=False)
    widths = [max(map(cell_len, column)) for column in zip(*([titles] if titles else []), *rows, strict=True)]
    shown = _columns(widths, [titles.index(title) for title in spare], console.width)
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=bool(titles))
    first, last = _ends(widths, shown, console.width)
    for at in shown:
        width = {0: first, len(widths) - 1: last}.get(at, widths[at])
        cut = cut_last and at == len(widths) - 1
        table.add_column(
            titles[at] if titles else "",
            width=width,
            no_wrap=cut or at not in (0, len(widths) - 1),
            overflow="ellipsis" if cut else "fold",
        )
    for row in rows:
        table.add_row(*(Text(row[at]) for at in shown))
    console.print(table)


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
    """What the other columns leave for the first and the last one. There are two spaces between columns."""
    others = sum(widths[at] for at in shown if at not in (0, len(widths) - 1))
    return width - others - 2 * (len(shown) - 1)


def _ends(widths: Sequence[int], shown: Sequence[int], width: int) -> tuple[int, int]:
    """The widths of the first and the last column: where both are too wide, each has half of the room."""
    room = max(_room(widths, shown, width), 2)
    first = min(widths[0], max(room - widths[-1], room // 2))
    return first, max(min(widths[-1], room - first), 1)


@contextlib.contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Gives a function that shows on a terminal how many of how many are done; it is wiped away at the end.

    It writes to stderr, so what is printed meanwhile can go to a file.
    """
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda _done, _all: None
        return
    from rich.console import Console

    with Console(stderr=True).status("") as status:
        yield lambda done, all: status.update(f"{done:,} of {all:,} {what}")


def styled(line: str, style: str = "", *, hanging: int = 0) -> None:
    """Prints `one_line` of a line (it may have names that others chose); on a terminal in a style of `rich`.

    On a terminal a long line is broken between words, and what follows is indented by `hanging`, or by less where that
    would be half of the terminal.
    """
    line = _text.one_line(line)
    if not on_terminal():
        print(line)
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    hanging = min(hanging, console.width // 2)
    start, rest = Text(line[:hanging], style), Text(line[hanging:], style)
    for part in rest.wrap(console, max(console.width - hanging, 1)) or [rest]:
        part.rstrip()
        console.print(start + part)
        start = Text(" " * hanging)


def user(uid: int) -> str:
    """The name of a user, or the number where there is none."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def time(timestamp: float, precision: str = "seconds") -> str:
    """A local time, from seconds since 1970. `precision` is a `timespec` of `datetime.isoformat`."""
    import datetime

    return datetime.datetime.fromtimestamp(timestamp).isoformat(" ", precision)


def facts(info: shmvar.SegmentInfo) -> dict[str, Any]:
    """The properties of a segment, for JSON: its mode as octal text, as people and `--perm` write it."""
    return info._asdict() | {"perm": mode(info.perm)}


def mode(perm: int) -> str:
    """Permission bits as octal text."""
    return f"{perm:03o}"


def named(info: shmvar.SegmentInfo) -> dict[str, Any]:
    """The locks and the queues of a segment, for JSON."""
    return {"locks": locks(info), "queues": queues(info)}


def locks(info: shmvar.SegmentInfo) -> list[dict[str, Any]]:
    """The named locks that are held, for JSON: as keys of an object, 5 and "5" could not be told apart."""
    return [{"name": name, "pid": pid} for name, pid in info.locks.items()]


def queues(info: shmvar.SegmentInfo) -> list[dict[str, Any]]:
    """The queues that have items, for JSON: as a list, for the reason of `locks`."""
    return [{"name": name, **info.queues[name]} for name in sorted(info.queues, key=_preview.order)]


def queue(found: dict[str, Any]) -> str:
    """One of `queues`, for people."""
    return _text.one_line(
        f"{found['name']!r}: {found['waiting']} wait, {found['held']} held, {_text.size(found['used'])}"
    )


def lock(found: dict[str, Any]) -> str:
    """One of `locks`, for people: its name, which may hold any text, and the pid of its owner."""
    return _text.one_line(f"{found['name']!r} by {found['pid']}")


def no_form(json: bool, error: Exception) -> str:
    """Why a value cannot be printed, after its `as_json` (or its `repr`) has raised `error`."""
    return f"no form as {'JSON' if json else 'text'}: {type(error).__name__}: {error}"
