"""What `php ls`, `php info` and `php show` have on a terminal. Imported only there: it needs `rich`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

from shmvar import _text
from shmvar.cli import printing
from shmvar.cli.php import opening
from shmvar.cli.screen import PERCENT, Column, Screen

if TYPE_CHECKING:
    from shmvar import php

SEGMENT_COLUMNS = (
    Column("KEY"),
    Column("HEX"),
    Column("COUNT", spare=1, right=True),
    Column("FULL", spare=2),
    Column("USED", spare=5, right=True),
    Column("SIZE", spare=3, right=True),
    Column("PROCS", spare=4, right=True),
    Column("OWNER", spare=6),
    Column("MODE", spare=7),
    Column("STATE"),
)
VARIABLE_COLUMNS = (Column("INDEX"), Column("TYPE", spare=1), Column("SIZE", spare=2, right=True), Column("VALUE"))
STATES = {"usable": "good", "damaged": "bad"}  # others want attention
TYPES = {"array": "container", "string": "text", "object": "text", "enum": "text"}  # others are numbers
WIDEST_BAR = 36


def segments(screen: Screen, found: Sequence[dict[str, Any]]) -> None:
    """The segments, and how many there are."""
    screen.table(SEGMENT_COLUMNS, (_segment(screen, facts) for facts in found))
    many = f"{_text.number(len(found))} {'segment' if len(found) == 1 else 'segments'}"
    size = sum(facts["size"] for facts in found)
    screen.line(screen.own(f"{many}, {_text.size(size)}", "secondary"))


def _segment(screen: Screen, facts: dict[str, Any]) -> list[Text]:
    none = screen.own("-", "secondary")
    known = facts["count"] is not None
    state = facts["state"] if facts["why"] is None else f"{facts['state']}: {facts['why']}"
    return [
        screen.own(str(facts["key"])),
        screen.own(facts["hex"], "secondary"),
        screen.own(_text.number(facts["count"])) if known else none,
        screen.bar(facts["used"], facts["size"]) if known else none,
        screen.own(_text.size(facts["used"])) if known else none,
        screen.own(_text.size(facts["size"])),
        screen.own(str(facts["attached"]), "" if facts["attached"] else "secondary"),
        screen.text(printing.user(facts["uid"]), "secondary"),
        screen.own(facts["perm"], "secondary"),
        screen.text(state, STATES.get(facts["state"], "attention")),
    ]


def facts(screen: Screen, info: php.SegmentInfo, shown: dict[str, str]) -> None:
    """Facts about a segment: how full it is, then what is `shown`, field by field."""
    title = screen.text(opening.named(info.key), "title")
    variables = f"  {_text.number(info.count)} {'variable' if info.count == 1 else 'variables'}"
    screen.line(title.append_text(screen.own(variables)))
    sizes = screen.own(f"  {_text.size(info.used)} of {_text.size(info.size)}")
    width = min(screen.width - len(sizes) - PERCENT, WIDEST_BAR)
    screen.line(screen.bar(info.used, info.size, max(width, 5)).append_text(sizes))
    screen.print(Text())
    rest = [(name, text) for name, text in shown.items() if name not in ("key", "count")]
    screen.table((Column(""), Column("")), [[screen.own(name, "secondary"), screen.text(text)] for name, text in rest])


def variables(screen: Screen, found: Sequence[dict[str, Any]], more: int, *, hint: bool) -> None:
    """The variables of a segment; `more` are not shown, and `hint` says how they are."""
    screen.table(VARIABLE_COLUMNS, (_variable(screen, variable) for variable in found), cut_last=True)
    if more > 0:
        how = ": --limit N shows N of them" if hint else ""
        screen.line(screen.own(f"… {more:,} more{how}", "secondary"))


def _variable(screen: Screen, variable: dict[str, Any]) -> list[Text]:
    style = TYPES.get(variable["type"] or "string", "number")
    if variable["error"] is not None:
        value = screen.text(f"<{variable['error']}>", "bad")
    elif variable["repr"] is not None:
        value = screen.text(variable["repr"], style)
    else:
        value = screen.own("… not read", "code")
    return [
        screen.own(str(variable["index"])),
        screen.own(variable["type"] or "", style),
        screen.own("" if variable["size"] is None else _text.size(variable["size"])),
        value,
    ]
