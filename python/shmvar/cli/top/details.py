"""What is told of the selected segment, in lines that are broken between words."""

import datetime

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from shmvar import _text
from shmvar.cli.screen import STYLES
from shmvar.cli.top import columns
from shmvar.cli.top.facts import USABLE, Details, Row

_TITLES = 13  # columns for the titles, on a screen that is wide enough
_NARROW = 60
_MOST = 40  # lines for one fact: there may be a thousand processes


def lines(row: Row, details: Details | None, width: int, *, whole_name: bool) -> list[Text]:
    """All of it, the most important first; with the name, where there is no room for it elsewhere."""
    pairs = [("key", columns.name_of(row))] if whole_name else []
    found = []
    for title, text in pairs + _pairs(row, details):
        start = f"{title}: " if width < _NARROW else f"{title:<{_TITLES}}"
        hanging = 1 if width < _NARROW else _TITLES
        for number, part in enumerate(_wrapped(_text.one_line(text), len(start), hanging, width)):
            found.append(Text.assemble((" " * hanging if number else start, STYLES["secondary"]), part))
    return found


def _wrapped(text: str, first: int, hanging: int, width: int) -> list[str]:
    """The text in parts: the first one begins at column `first`, the others at `hanging`."""
    parts: list[str] = []
    rest = text[: _MOST * width]
    while rest and len(parts) < _MOST:
        room = max(width - (hanging if parts else first), 1)
        if cell_len(rest) <= room:
            return [*parts, rest]
        fits = set_cell_size(rest[: room + 1], room).rstrip() if cell_len(rest[:room]) > room else rest[:room]
        while fits and not rest.startswith(fits):
            fits = fits[:-1]  # half of a wide character became a space
        end = fits.rfind(" ") if rest[len(fits) : len(fits) + 1] != " " else len(fits)
        fits = fits[:end] if end > 0 else fits or rest[:1]
        parts.append(fits)
        rest = rest[len(fits) :].lstrip(" ")
    return parts or [""]


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
    if row.waiting:
        pairs.append(("waiting", f"about {row.waiting}, for a change or for a lock"))
    if details is None or details.name != row.name:
        return pairs
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
    if row.created_at:
        created = f"{datetime.datetime.fromtimestamp(row.created_at):%Y-%m-%d %H:%M:%S}"
        pairs.append(("created", created if row.url else f"{created}, mode {row.perm:03o}"))
    return pairs


def _process(pid: int, commands: dict[int, str]) -> str:
    return f"{pid} {commands[pid]}" if pid in commands else str(pid)
