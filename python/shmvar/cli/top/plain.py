"""Tables and lines of JSON, where there is no terminal to take, or where a script asks for them."""

import select
import sys
import time
from collections.abc import Iterable, Iterator

from shmvar import _text
from shmvar.cli import printing, suggestions
from shmvar.cli.outcome import DONE, Refused
from shmvar.cli.top import columns, sorting
from shmvar.cli.top.facts import MISSING, USABLE, Rates, Row, Sample, as_json
from shmvar.cli.top.observer import Observer

TITLES = ("KEY", "VARS", "USED", "SIZE", "CHG/S", "PROCS", "WAIT", "HELD", "MEMORY", "STATE")
_DROPPED = ("MEMORY", "SIZE", "HELD", "USED", "WAIT", "VARS", "PROCS")  # where a terminal is narrow, in this order


def run(wanted: list[int | str], order: str, reverse: bool, interval: float, count: int | None, *, json: bool) -> int:
    """Prints so many tables, or lines of JSON; without `count`, until Ctrl-C. Returns the exit status."""
    observer = Observer(wanted)
    rows: list[Row] = []
    ended = False
    try:
        for number, sample in enumerate(_samples(observer, interval), 1):
            rows = sorting.ordered(sample.rows, order, reverse)
            if json:
                print(printing.as_json({"at": time.time(), "segments": [as_json(row) for row in rows]}), flush=True)
            else:
                if number > 1:
                    print()
                _print(rows, timed=count != 1)
            ended = number == count
            if ended:
                break
    except KeyboardInterrupt:
        pass  # the usual end
    finally:
        observer.close()
    if ended:
        refuse_missing(rows)
    return DONE


def refuse_missing(rows: Iterable[Row]) -> None:
    """Raises `Refused` for the first key that somebody asked for and no segment has."""
    for row in rows:
        if row.state == MISSING:
            if row.url or row.key is None:
                raise Refused(f"there is no segment {columns.name_of(row)}")
            raise Refused(f"no segment with key {row.key!r}{suggestions.for_key(row.key)}")


def _print(rows: list[Row], *, timed: bool) -> None:
    """A table. A terminal gets numbers at the right, and the time above, where there are several."""
    cells = [_row(row) for row in rows]
    if (screen := printing.screen()) is None:
        printing.table(TITLES, cells)
    else:
        from shmvar.cli.screen import Column

        if timed:
            print(printing.time(time.time()).split()[1])
        rank = {title: len(_DROPPED) - at for at, title in enumerate(_DROPPED)}
        shown = [Column(title, rank.get(title, 0), right=title not in ("KEY", "STATE")) for title in TITLES]
        screen.table(shown, [[screen.text(cell) for cell in row] for row in cells])
    sys.stdout.flush()


def _samples(observer: Observer, interval: float) -> Iterator[Sample]:
    """A sample after each interval. One before the first is taken, to know what changed."""
    rates = Rates()
    rates.set(_sample(observer).rows)
    due = time.monotonic()
    while True:
        due = max(due + interval, time.monotonic())
        time.sleep(max(due - time.monotonic(), 0))
        sample = _sample(observer)
        rates.set(sample.rows)
        yield sample


def _sample(observer: Observer) -> Sample:
    observer.ask()
    while True:
        left = (observer.overdue_at or 0) - time.monotonic()
        select.select([observer], [], [], max(left, 0))
        sample = observer.receive()
        if sample is not None:
            if sample.error is not None:
                raise Refused(sample.error)
            return sample


def _row(row: Row) -> tuple[str, ...]:
    name = columns.name_of(row)
    if row.state != USABLE:
        return (name, *["-"] * 8, columns.state_of(row))
    sizes = [None if number is None else _text.size(number) for number in (row.used, row.size, row.held, row.resident)]
    used, size, held, memory = (text or "-" for text in sizes)
    processes, waiting, count = (
        "-" if number is None else str(number) for number in (row.processes, row.waiting, row.count)
    )
    return (name, count, used, size, columns.rate(row.rate), processes, waiting, held, memory, columns.state_of(row))
