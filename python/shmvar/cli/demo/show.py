"""Runs the demo, shows it live and prints the account."""

import os
import signal
from typing import TYPE_CHECKING

from shmvar.cli import printing
from shmvar.cli.demo import board
from shmvar.cli.demo.samples import PAYLOAD
from shmvar.cli.demo.stage import Account, Stage, play
from shmvar.cli.outcome import DONE, REFUSED

if TYPE_CHECKING:
    from rich.table import Table

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
            print(INTRO, flush=True)
            (_live if printing.screen() is not None and printing.escapes() else _lines)(stage, seconds)
        account = stage.account()
    if as_json:
        import json

        print(json.dumps(account._asdict() | {"speed": account.speed, "good": account.good}))
    else:
        print(text(account))
    return DONE if account.good else REFUSED


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
            print(f"{due:>4} s {calls:>12,} calls {stage.kills:>5} kills {lost:>3} lost {torn:>3} torn", flush=True)
            due += 1


def _live(stage: Stage, seconds: float) -> None:
    """A table that changes ten times a second, on a terminal."""
    from rich.live import Live

    with Live(table(stage, 0.0, seconds), auto_refresh=False, transient=True) as live:
        shown = 0.0
        for passed in play(stage, seconds):
            if passed - shown >= 0.1:
                live.update(table(stage, passed, seconds), refresh=True)
                shown = passed


def table(stage: Stage, passed: float, seconds: float) -> "Table":
    """What each process has done after so many of the seconds."""
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE, title=f"{passed:.1f} of {seconds:g} s", pad_edge=False)
    made.add_column("process")
    for title in ("pid", "put", "got", "killed", "lost", "torn"):
        made.add_column(title, justify="right")
    for worker, process in enumerate(stage.workers):
        role, row = "writer" if worker < board.WRITERS else "reader", board.row(worker)
        fields = (board.PUTS, board.GETS, board.LOST, board.TORN)
        put, got, lost, torn = (f"{stage.words[row + field]:,}" for field in fields)
        made.add_row(role, str(process.pid), put, got, str(stage.killed[worker]), lost, torn)
    return made


def text(account: Account) -> str:
    """The account, for people."""
    rows = [
        ("put", f"{account.puts:,}", f"values of up to {PAYLOAD >> 10} KiB"),
        ("got", f"{account.gets:,}", "values, each one checked"),
        ("killed", f"{account.kills:,}", "processes, with SIGKILL"),
        ("lost", f"{account.lost:,}", "values: stored, but an older one or none is there"),
        ("torn", f"{account.torn:,}", "values: not as they were put"),
        ("speed", f"{account.speed:,}", f"calls a second on {os.cpu_count()} processors, checks included"),
        ("longest", f"{account.longest_ms:,}", "ms that a call took, queueing for a processor too"),
        ("check", account.check, "of every structure in the segment, at the end"),
    ]
    if account.died:
        rows.append(("died", f"{account.died:,}", "processes that nobody had killed"))
    lines = [f"  {title:<8}{number:>12}  {what}" for title, number, what in rows]
    good, bad = "Nothing lost, nothing torn.", "FAILED: this must not happen. Please report it."
    return "\n".join(["", *lines, "", good if account.good else bad])
