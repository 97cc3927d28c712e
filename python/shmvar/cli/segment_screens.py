"""What `ls`, `info` and `show` have on a terminal. Imported only there: it needs `rich`."""

import os
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from rich.cells import cell_len
from rich.text import Text

import shmvar
from shmvar import _core, _preview, _text
from shmvar.cli import printing
from shmvar.cli.screen import BAR, PERCENT, Column, Screen, of_expiry, of_type

SEGMENT_COLUMNS = (
    Column("KEY"),
    Column("COUNT", right=True),
    Column("FULL", spare=1),
    Column("USED", spare=4, right=True),
    Column("SIZE", spare=2, right=True),
    Column("MEMORY", spare=6, right=True),
    Column("PROCS", spare=3, right=True),
    Column("OWNER", spare=5),
    Column("MODE", spare=7),
    Column("CREATED", spare=8),
    Column("STATE"),
)
OF_SERVERS = ("KEY", "COUNT", "FULL", "USED", "SIZE", "MEMORY", "CREATED")  # a server says nothing of the rest
VARIABLE_COLUMNS = (
    Column("INDEX"),
    Column("TYPE", spare=1),
    Column("SIZE", spare=2, right=True),
    Column("VERSION", spare=4, right=True),
    Column("EXPIRES", spare=3, right=True),
    Column("VALUE"),
)
STATES = {"usable": "good", "damaged": "bad"}  # others want attention
SHM = "/dev/shm"
MOST_PIDS = 20
MAP_WIDTH = 72  # cells, at most
MAP_PARTS = 1024  # of the addresses: how finely the end of what has memory is found


class Use(NamedTuple):
    """How the map shows a use of memory; without colours, too. A cell has the use with most bytes times `weight`."""

    char: str
    name: str
    weight: int


MAP = {
    "used": Use("█", "in use", 4),
    "table": Use("▒", "table", 4),
    "held": Use("▓", "held by views", 8),
    "filling": Use("+", "being filled", 8),
    "spare": Use("░", "free and kept", 2),
    "absent": Use("·", "no memory", 1),
}


# --- ls


def segments(screen: Screen, found: Sequence[shmvar.SegmentInfo], *, of_server: bool) -> None:
    """The segments of this machine, or of a server, and how full the memory file system is."""
    columns = [column for column in SEGMENT_COLUMNS if not of_server or column.title in OF_SERVERS]
    shown = [[row[column.title] for column in columns] for row in (_segment(screen, info) for info in found)]
    screen.table(columns, shown)
    count = f"{_text.number(len(found))} {'segment' if len(found) == 1 else 'segments'}"
    memory = sum(info.resident for info in found)
    end = screen.own(f"{count}, {_text.size(memory)} of memory", "secondary")
    if of_server or not (bar := _memory_file_system(screen)):
        screen.line(end)
        return
    whole = end.copy().append_text(screen.own(f"; {SHM} ", "secondary")).append_text(bar)
    if cell_len(whole.plain) <= screen.width:
        screen.print(whole)
    else:
        screen.line(end)
        screen.line(screen.own(f"{SHM} ", "secondary").append_text(bar))


def _segment(screen: Screen, info: shmvar.SegmentInfo) -> dict[str, Text]:
    usable = info.state == "usable"
    state = info.state if info.why is None else f"{info.state}: {info.why}"
    none = screen.own("-", "secondary")
    row = {
        "KEY": screen.text(repr(info.key) if info.key is not None else f"{SHM}/{info.name}"),
        "MEMORY": screen.own(_text.size(info.resident)),
        "OWNER": screen.text(printing.user(info.uid), "secondary"),
        "MODE": screen.own(printing.mode(info.perm), "secondary"),
        "STATE": screen.text(state, STATES.get(info.state, "attention")),
    }
    if not usable:  # nothing is known of its contents
        return dict.fromkeys((column.title for column in SEGMENT_COLUMNS), none) | row
    return row | {
        "COUNT": screen.own(_text.number(info.count)),
        "FULL": _bar(screen, info),
        "USED": screen.own(_text.size(info.used)),
        "SIZE": screen.own(_text.size(info.size)),
        "PROCS": screen.own(str(info.attached), "" if info.attached else "secondary"),
        "CREATED": screen.own(printing.time(info.created_at, "minutes"), "secondary"),
    }


def _bar(screen: Screen, info: shmvar.SegmentInfo, width: int = BAR) -> Text:
    """How full a segment is."""
    return screen.bar(info.used, info.size, width, style="good" if info.evict else "")


def _memory_file_system(screen: Screen) -> Text | None:
    """How full it is, if it has a limit."""
    try:
        found = os.statvfs(SHM)
    except OSError:
        return None
    if not found.f_blocks:
        return None
    bar = screen.bar(found.f_blocks - found.f_bavail, found.f_blocks)
    return bar.append_text(screen.own(f" of {_text.size(found.f_blocks * found.f_frsize)}", "secondary"))


# --- info


def facts(screen: Screen, segment: shmvar.Segment, info: shmvar.SegmentInfo, shown: dict[str, str]) -> None:
    """Facts about a segment: how full it is, what its memory is used for, then what is `shown`, field by field."""
    title = screen.text(repr(info.key), "title")
    variables = f"  {_text.number(info.count)} {'variable' if info.count == 1 else 'variables'}"
    screen.line(title.append_text(screen.own(variables)))
    sizes = screen.own(f"  {_text.size(info.used)} of {_text.size(info.size)}")
    width = min(screen.width - len(sizes) - PERCENT, MAP_WIDTH // 2)
    screen.line(_bar(screen, info, max(width, 5)).append_text(sizes))
    local = isinstance(segment, shmvar.Segment)
    if local:
        _map(screen, segment, info.resident)
    of_several = {"locks": _locks(screen, info), "queues": _queues(screen, info)}
    if local:
        of_several["attached"] = _attached(screen, info)
    rows = []
    said = {"key", "count"} | ({"why"} if info.why is None else set()) | ({"evicted"} if info.evict is None else set())
    for name, text in shown.items():
        if name in said:
            continue
        lines = of_several.get(name) or [screen.text(text, _of_fact(name, info))]
        rows += [[screen.own("" if number else name, "secondary"), line] for number, line in enumerate(lines)]
    screen.print(Text())
    screen.table((Column(""), Column("")), rows)


def _of_fact(name: str, info: shmvar.SegmentInfo) -> str:
    if name == "state":
        return STATES.get(info.state, "attention")
    return "attention" if name == "held" and info.held else ""


def _locks(screen: Screen, info: shmvar.SegmentInfo) -> list[Text]:
    """A line for each named lock that is held."""
    locks = sorted(printing.locks(info), key=lambda lock: _preview.order(lock["name"]))
    return [screen.text(printing.lock(lock)) for lock in locks] or [screen.own("none held", "secondary")]


def _attached(screen: Screen, info: shmvar.SegmentInfo) -> list[Text]:
    """How many living processes are attached, and who; and those that died, after which nobody has cleaned up yet."""
    try:
        seen = [seen for seen in _core._survey() if seen["kind"] == "segment" and seen["name"] == info.name]
    except (shmvar.Error, OSError):
        seen = []
    people = [person for one in seen for person in one["participants"]]
    pids = [str(person["pid"]) for person in people if person["alive"] is not False]
    who = f": {', '.join(pids[:MOST_PIDS])}{', …' * (len(pids) > MOST_PIDS)}" if pids else ""
    lines = [screen.text(f"{info.attached}{who}")]
    if dead := sum(person["alive"] is False for person in people):
        what = "a process" if dead == 1 else f"{_text.number(dead)} processes"
        lines.append(screen.own(f"{what} died, and nobody has cleaned up yet", "attention"))
    return lines


def _queues(screen: Screen, info: shmvar.SegmentInfo) -> list[Text]:
    return [screen.text(printing.queue(queue)) for queue in printing.queues(info)] or [screen.own("none", "secondary")]


def _map(screen: Screen, segment: shmvar.Segment, resident: int) -> None:
    """The addresses that have memory, from the first to the last, and how much is set aside for each use.

    That is counted in whole spans and slabs. A page of them that nobody has written to takes no memory yet, so this may
    come to more than `resident`.
    """
    totals, parts = _core._memory(segment, MAP_PARTS)
    while parts and not any(parts[-1][kind] for kind in MAP if kind != "absent"):
        parts.pop()
    width = min(screen.width, MAP_WIDTH, len(parts))
    line = screen.own("")
    for cell in range(width):
        some = parts[cell * len(parts) // width : (cell + 1) * len(parts) // width]
        kind = max(MAP, key=lambda kind: MAP[kind].weight * sum(part[kind] for part in some))
        line.append_text(screen.own(MAP[kind].char, kind))
    if width:
        screen.print(line)
    kinds = [kind for kind in MAP if totals[kind] and kind != "absent"]
    if not kinds:
        return
    legend = screen.own("set aside: ", "secondary")
    for kind in kinds:
        char, name, _ = MAP[kind]
        legend.append_text(screen.own(char, kind)).append_text(screen.own(f" {name} {_text.size(totals[kind])}  "))
    rest = resident - sum(totals[kind] for kind in kinds)
    if rest > 0:  # heads, lists of free memory, who is attached and who waits; more where something is not written yet
        legend.append_text(screen.own(f"its own {_text.size(rest)} or more", "secondary"))
    else:
        legend.append_text(screen.own("(what was never written to takes no memory yet)", "secondary"))
    screen.line(legend)


# --- show


def variables(screen: Screen, found: Iterable[dict[str, Any]]) -> None:
    """The variables of a segment."""
    screen.table(VARIABLE_COLUMNS, (_variable(screen, variable) for variable in found), cut_last=True)


def _variable(screen: Screen, variable: dict[str, Any]) -> list[Text]:
    size, expires = variable["size"], variable["expires_in"]
    return [
        screen.text(repr(variable["index"])),
        screen.text(variable["type"] or "", of_type(variable["type"])),
        screen.own("" if size is None else _text.size(size)),
        screen.own(str(variable["version"] or ""), "secondary"),
        screen.own("" if expires is None else _text.seconds(expires), of_expiry(expires)),
        _value(screen, variable),
    ]


def _value(screen: Screen, variable: dict[str, Any]) -> Text:
    if variable["error"] is not None:
        return screen.text(f"<{variable['error']}>", "bad")
    if variable["in_place"]:
        shape = "" if variable["shape"] is None else f" {tuple(variable['shape'])}"
        return screen.text(f"in place: {variable['dtype'] or 'bytes'}{shape}", "bytes")
    if variable["repr"] is not None:
        return screen.text(variable["repr"], of_type(variable["type"]))
    return screen.own("… not read", "code")
