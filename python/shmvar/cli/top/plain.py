"""Tables and lines of JSON, where there is no terminal to take, or where a script asks for them."""

import select
import time
from collections.abc import Iterator

from shmvar import _text
from shmvar.cli import printing
from shmvar.cli.outcome import DONE, Refused
from shmvar.cli.top import columns, sorting
from shmvar.cli.top.facts import USABLE, Rates, Row, Sample, as_json
from shmvar.cli.top.observer import Observer

TITLES = ("KEY", "VARS", "USED", "SIZE", "CHG/S", "PROCS", "WAIT", "HELD", "MEMORY", "STATE")


def run(wanted: list[int | str], order: str, reverse: bool, interval: float, count: int | None, *, json: bool) -> int:
    """Prints so many tables, or lines of JSON; without `count`, until Ctrl-C. Returns the exit status."""
    observer = Observer(wanted)
    try:
        for number, sample in enumerate(_samples(observer, interval), 1):
            rows = sorting.ordered(sample.rows, order, reverse)
            if json:
                print(printing.as_json({"at": time.time(), "segments": [as_json(row) for row in rows]}), flush=True)
            else:
                if number > 1:
                    print()
                printing.table(TITLES, [_row(row) for row in rows])
            if number == count:
                break
    except KeyboardInterrupt:
        pass  # the usual end
    finally:
        observer.close()
    return DONE


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
