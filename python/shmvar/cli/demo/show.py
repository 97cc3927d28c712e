"""Runs the demo, shows it live and prints the account."""

import os
import shutil
import signal
import textwrap
from typing import TYPE_CHECKING

from shmvar.cli import printing
from shmvar.cli.demo import board
from shmvar.cli.demo.samples import PAYLOAD
from shmvar.cli.demo.stage import Account, Stage, play
from shmvar.cli.outcome import DONE, REFUSED

if TYPE_CHECKING:
    from rich.table import Table

NARROW = 64
"""Cells of a terminal, below which there is no room for gaps between numbers."""
LEAST = 14
"""So many cells a text beside a number has; where there are less, it stands below."""
SPARE = ("pid", "killed", "torn", "lost", "got")
"""Columns that a narrow terminal does without, in this order: a number that is cut would be read as another one."""
_UNBROKEN = 1 << 16

INTRO = f"""\
{board.WRITERS} processes write and {board.READERS} read, all on one segment of shared memory. Ten times
a second one of them gets SIGKILL, wherever it is, and another takes its place.
Each value has its number and a checksum."""


def run(seconds: float, *, as_json: bool) -> int:
    """Runs the demo, and returns the exit status.

    It is `REFUSED` if a value was lost or torn, a process died by itself, or the segment was damaged.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _exit)
    with Stage() as stage:
        if as_json:
            for _ in play(stage, seconds):
                pass
        else:
            width = _width()
            print(INTRO if width is None else textwrap.fill(" ".join(INTRO.split()), min(width, 80)), flush=True)
            (_live if printing.screen() is not None and printing.escapes() else _lines)(stage, seconds)
        account = stage.account()
    if as_json:
        import json

        print(json.dumps(account._asdict() | {"speed": account.speed, "good": account.good}))
    else:
        print(text(account, _width()))
    return DONE if account.good else REFUSED


def _width() -> int | None:
    """The cells of a line of the terminal; None: stdout is none."""
    return max(shutil.get_terminal_size().columns, 1) if printing.on_terminal() else None


def _exit(number: int, _frame: object) -> None:
    """A signal handler that ends the process with an exception, so that `Stage` cleans up."""
    raise SystemExit(128 + number)


def _lines(stage: Stage, seconds: float) -> None:
    """A line a second, where stdout is no terminal on which a table can change."""
    due = 1
    for passed in play(stage, seconds):
        if passed >= due:
            calls = stage.total(board.PUTS) + stage.total(board.GETS)
            lost, torn = stage.total(board.LOST), stage.total(board.TORN)
            line = f"{due:>4} s {calls:>12,} calls {stage.kills:>5} kills {lost:>3} lost {torn:>3} torn"
            if (width := _width()) is not None and width < NARROW:
                line = textwrap.fill(" ".join(line.split()), width, subsequent_indent="  ")
            print(line, flush=True)
            due += 1


def _live(stage: Stage, seconds: float) -> None:
    """A table that changes ten times a second, on a terminal."""
    from rich.live import Live

    with Live(table(stage, 0.0, seconds, _width()), auto_refresh=False, transient=True) as live:
        shown = 0.0
        for passed in play(stage, seconds):
            if passed - shown >= 0.1:
                live.update(table(stage, passed, seconds, _width()), refresh=True)
                shown = passed


def table(stage: Stage, passed: float, seconds: float, width: int | None = None) -> "Table":
    """What each process has done after so many of the seconds. Columns of `SPARE` are left out if `width` is little."""
    rows = _rows(stage)
    narrow = width is not None and 3 * len(rows[0]) + _cells(rows) > width  # between columns are 3 cells
    for name in SPARE:
        if width is not None and 2 * len(rows[0]) + _cells(rows) > width:  # and here 2
            for row in rows:
                del row[name]
    return _made(rows, f"{passed:.1f} of {seconds:g} s", narrow=narrow)


def _rows(stage: Stage) -> list[dict[str, str]]:
    rows = []
    for worker, process in enumerate(stage.workers):
        role, row = "writer" if worker < board.WRITERS else "reader", board.row(worker)
        fields = (board.PUTS, board.GETS, board.LOST, board.TORN)
        put, got, lost, torn = (f"{stage.words[row + field]:,}" for field in fields)
        row_of = {"process": role, "pid": str(process.pid), "put": put, "got": got}
        rows.append(row_of | {"killed": str(stage.killed[worker]), "lost": lost, "torn": torn})
    return rows


def _made(rows: list[dict[str, str]], title: str, *, narrow: bool) -> "Table":
    from rich import box
    from rich.table import Table

    made = Table(box=None if narrow else box.SIMPLE, title=title, pad_edge=False)
    for name in rows[0]:
        made.add_column(name, justify="left" if name == "process" else "right", no_wrap=True)
    for row in rows:
        made.add_row(*row.values())
    return made


def _cells(rows: list[dict[str, str]]) -> int:
    """What the columns take, without the gaps."""
    return sum(max(map(len, (name, *(row[name] for row in rows)))) for name in rows[0])


def text(account: Account, width: int | None = None) -> str:
    """The account, for people; on a terminal of a width, lines are broken between words."""
    sound = account.check == "ok"
    why = "" if sound else f": {account.check}"
    rows = [
        ("put", f"{account.puts:,}", f"values of up to {PAYLOAD >> 10} KiB"),
        ("got", f"{account.gets:,}", "values, each one checked"),
        ("killed", f"{account.kills:,}", "processes, with SIGKILL"),
        ("lost", f"{account.lost:,}", "values: stored, but an older one or none is there"),
        ("torn", f"{account.torn:,}", "values: not as they were put"),
        ("speed", f"{account.speed:,}", f"calls a second on {os.cpu_count()} processors, checks included"),
        ("longest", f"{account.longest_ms:,}", "ms that a call took, queueing for a processor too"),
        ("check", "ok" if sound else "FAILED", f"of every structure in the segment, at the end{why}"),
    ]
    if account.died:
        rows.append(("died", f"{account.died:,}", "processes that nobody had killed"))
    whole = _UNBROKEN if width is None else width
    column = 12 if whole >= NARROW else max(len(number) for _, number, _ in rows)
    lines = []
    for title, number, what in rows:
        head = f"  {title:<8}{number:>{column}}  "
        if whole - len(head) >= LEAST:
            lines += textwrap.wrap(what, whole, initial_indent=head, subsequent_indent=" " * len(head))
        else:
            lines += [head.rstrip(), *textwrap.wrap(what, whole, initial_indent="    ", subsequent_indent="    ")]
    good, bad = "Nothing lost, nothing torn.", "FAILED: this must not happen. Please report it."
    end = textwrap.wrap(good if account.good else bad, whole)
    return "\n".join(["", *lines, "", *end])
