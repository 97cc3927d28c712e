"""The commands `php ls`, `php info` and `php show`."""

from __future__ import annotations

import argparse
import struct
from typing import Any

import shmvar
from shmvar import _preview, _text
from shmvar.cli import printing, remedies
from shmvar.cli.outcome import DONE
from shmvar.cli.php import kernel, opening, preview

SEGMENT_TITLES = ("KEY", "HEX", "COUNT", "USED", "SIZE", "PROCS", "OWNER", "MODE", "STATE")
VARIABLE_TITLES = ("INDEX", "TYPE", "SIZE", "VALUE")
INFO_FIELDS = (
    *("key", "id", "size", "total", "used", "free", "count", "permissions", "uid", "gid", "attached", "creator_pid"),
    *("last_pid", "attached_at", "detached_at", "changed_at"),
)
MOST_ON_SCREEN = 1000  # variables, where nobody asks for more; a pipe gets all
UNKNOWN = "this user may not look whether it is PHP's"


# --- ls


def ls(args: argparse.Namespace) -> int:
    """The segments that are PHP's, and those of which that cannot be seen."""
    found = [facts for one in kernel.listed() if (facts := _segment(one)) is not None]
    if args.json:
        print(printing.as_json(found))
    elif not found:
        if printing.on_terminal():
            print("no segments of PHP's")
    elif (screen := printing.screen()) is not None:
        from shmvar.cli.php import screens

        screens.segments(screen, found)
    else:
        printing.table(SEGMENT_TITLES, map(_segment_row, found))
    return DONE


def _segment(one: kernel.Listed) -> dict[str, Any] | None:
    """What is known of a segment; None: it is not PHP's, or has vanished."""
    from shmvar import php

    facts = one._asdict() | {"hex": f"0x{one.key & 0xFFFFFFFF:08x}", "perm": printing.mode(one.perm)}
    facts |= dict.fromkeys(("count", "used", "free", "why")) | {"state": "usable"}
    try:
        known = kernel.is_php(one.key)
        if known is None:
            return facts | {"state": "refused", "why": UNKNOWN}
        if not known:
            return None
        with php.attach(one.key, create=False) as segment:
            info = segment.info()
            return facts | {"count": info.count, "used": info.used, "free": info.free}
    except (shmvar.SegmentNotFoundError, shmvar.IncompatibleSegmentError):
        return None  # it has vanished, or another one has its key now
    except shmvar.SegmentAccessError:
        return facts | {"state": "refused", "why": "this user may only read it, and attaching to it needs both"}
    except shmvar.CorruptSegmentError as error:
        return facts | {"state": "damaged", "why": remedies.in_words(str(error))}
    except (shmvar.Error, OSError) as error:
        return facts | {"state": "unknown", "why": remedies.in_words(str(error))}


def _segment_row(facts: dict[str, Any]) -> tuple[str, ...]:
    known = facts["count"] is not None
    state = _text.one_line(facts["state"] if facts["why"] is None else f"{facts['state']}: {facts['why']}")
    contents = (str(facts["count"]), _text.size(facts["used"])) if known else ("-", "-")
    rights = (str(facts["attached"]), printing.user(facts["uid"]), facts["perm"])
    return (str(facts["key"]), facts["hex"], *contents, _text.size(facts["size"]), *rights, state)


# --- info


def info(args: argparse.Namespace) -> int:
    """Facts about a segment. Its own attachment, for the moment of the look, is none of them."""
    seen: dict[str, int | None] = {}
    try:
        with opening.existing(args, lambda: seen.update(kernel.seen_of(args.key))) as segment:
            found = segment.info()
    except shmvar.CorruptSegmentError as error:
        _print_damaged(args, error)
        raise
    facts = {field: getattr(found, field) for field in INFO_FIELDS} | seen
    if args.json:
        print(printing.as_json(facts | {"permissions": printing.mode(found.permissions)}))
        return DONE
    shown = facts | {"key": opening.named(found.key), "permissions": printing.mode(found.permissions)}
    shown["uid"] = f"{found.uid} ({printing.user(found.uid)})"
    for field in ("size", "total", "used", "free"):
        number = facts[field]
        shown[field] = f"{number:,} bytes" if number < 1024 else f"{number:,} bytes ({_text.size(number)})"
    for field in ("attached_at", "detached_at", "changed_at"):
        shown[field] = "never" if facts[field] is None else printing.time(facts[field])
    rows = {field: str(value) for field, value in shown.items()}
    if (screen := printing.screen()) is not None:
        from shmvar.cli.php import screens

        screens.facts(screen, found, rows)
    else:
        printing.table((), rows.items())
    return DONE


def _print_damaged(args: argparse.Namespace, error: shmvar.CorruptSegmentError) -> None:
    """What the kernel and the header say of a segment that is damaged."""
    from shmvar import php

    key = kernel.signed(args.key)
    with php.Shmop(key, "a") as opened:
        numbers = struct.unpack("<4q", opened.read(8, 32))
    facts: dict[str, Any] = next((one._asdict() for one in kernel.listed() if one.key == key), {"key": key})
    facts |= dict(zip(("start", "end", "free", "total"), numbers, strict=True))
    facts["permissions"] = printing.mode(facts.pop("perm", 0))
    if args.json:
        print(printing.as_json(facts | {"damage": remedies.in_words(str(error))}))
    else:
        rows = facts | {"key": opening.named(key)}
        printing.table((), [(field, str(value)) for field, value in rows.items()])


# --- show


def show(args: argparse.Namespace) -> int:
    """The variables of a segment, by index. All are read before anything is printed: nobody waits for a pipe."""
    screen = None if args.json else printing.screen()
    limit = args.limit if args.limit is not None or screen is None else MOST_ON_SCREEN
    with opening.existing(args) as segment:
        indexes = sorted(segment)
        width = _preview.WIDTH if screen is None else 2 * screen.width
        found = list(preview.variables(segment, indexes[:limit], width))
    if args.json:
        print(printing.as_json(found))
    elif not found:
        if printing.on_terminal():
            print("no variables")
    elif screen is not None:
        from shmvar.cli.php import screens

        screens.variables(screen, found, 0 if limit is None else len(indexes) - limit, hint=args.limit is None)
    else:
        printing.table(VARIABLE_TITLES, map(_variable_row, found))
    return DONE


def _variable_row(variable: dict[str, Any]) -> tuple[str, ...]:
    text = variable["repr"] if variable["error"] is None else f"<{variable['error']}>"
    size = "" if variable["size"] is None else _text.size(variable["size"])
    return tuple(map(_text.one_line, (str(variable["index"]), variable["type"] or "", size, text or "…")))
