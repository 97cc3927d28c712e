"""The order of the rows."""

from collections.abc import Callable, Container, Iterable
from typing import TYPE_CHECKING

from shmvar import _preview

if TYPE_CHECKING:
    from shmvar.cli.top.facts import Row

_Place = Callable[["Row"], float | int | None]

ORDERS: dict[str, _Place | None] = {
    "key": None,
    "vars": lambda row: row.count,
    "used": lambda row: row.used,
    "full": lambda row: row.full,
    "changes": lambda row: row.rate,
    "procs": lambda row: row.processes,
    "waiting": lambda row: row.waiting,
    "held": lambda row: row.held,
    "memory": lambda row: row.resident,
}
"""What can be sorted by, in the order of the columns. Numbers: the largest first. Keys: as they are."""

DEFAULT = "changes"


def next_order(order: str, step: int, shown: "Container[str]" = ORDERS) -> str:
    """The order beside this one, of those whose column is `shown`; after the last comes the first."""
    names = list(ORDERS)
    at = names.index(order)
    around = [names[(at + step * number) % len(names)] for number in range(1, len(names))]
    return next((name for name in around if name in shown), order)


def ordered(rows: "Iterable[Row]", order: str, reverse: bool) -> "list[Row]":
    """The rows in this order; equal ones by key. What is unknown, and what is no segment, comes last in any case."""
    from shmvar.cli.top.facts import USABLE

    by_key = sorted(
        rows, key=lambda row: (row.key is None, _preview.order(row.key if row.key is not None else row.name))
    )
    place = ORDERS[order]
    known = [row for row in by_key if row.state == USABLE and (place is None or place(row) is not None)]
    shown = set(map(id, known))
    if place is not None:
        known.sort(key=place, reverse=not reverse)  # type: ignore[arg-type]
    elif reverse:
        known.reverse()
    return known + [row for row in by_key if id(row) not in shown]
