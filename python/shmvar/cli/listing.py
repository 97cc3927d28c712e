"""The commands `ls`, `info` and `show`: lists of segments and of variables, and facts about a segment."""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import shmvar
from shmvar import _preview, _text
from shmvar.cli import arguments, opening, printing, urls
from shmvar.cli.outcome import DONE
from shmvar.cli.parser import Commands, add_json, add_names

if TYPE_CHECKING:
    from shmvar.cli.screen import Screen

SEGMENT_TITLES = ("KEY", "COUNT", "USED", "SIZE", "MEMORY", "PROCS", "OWNER", "MODE", "CREATED", "STATE")
VARIABLE_TITLES = ("INDEX", "TYPE", "SIZE", "VERSION", "EXPIRES", "VALUE")
# A server says nothing of owner, mode and processes of a segment.
SERVER_TITLES = ("KEY", "COUNT", "USED", "SIZE", "MEMORY", "CREATED")
_NOT_OF_SERVERS = ("uid", "perm", "attached", "evict", "evicted", "held", "spare")
MOST_ON_SCREEN = 1000  # variables, where nobody asks for more; a pipe gets all


def add_commands(commands: Commands) -> None:
    """Adds them to the parser."""
    ls = commands.add("ls", _ls, "list the segments, and other files that have names of segments")
    ls.add_argument("url", metavar="URL", nargs="?", help="of a server, valkey://host: list the segments there")
    add_json(ls)

    info = commands.add("info", _info, "show facts about a segment")
    add_names(info, "KEY")
    add_json(info)

    show = commands.add("show", _show, "list the variables of a segment, with values that are short and run no code")
    add_names(show, "KEY")
    show.add_argument("--prefix", metavar="TEXT", help="only indexes that are texts and begin with this one")
    order = "by index, or the largest first, or what expires soonest first"
    show.add_argument("--sort", choices=("index", "size", "expires"), default="index", help=order)
    show.add_argument("--reverse", action="store_true", help="the other way round")
    show.add_argument("--limit", type=arguments.count, metavar="N", help="only the first N")
    add_json(show)


# --- ls


def _ls(args: argparse.Namespace) -> int:
    found = sorted(_segments(args.url), key=lambda info: info.name)
    if args.json:
        # Without `locks` and `queues`, which only an attached process knows.
        unknown = {"locks", "queues"}
        known = [{name: part for name, part in printing.facts(i).items() if name not in unknown} for i in found]
        print(printing.as_json(known))
    elif not found:
        if printing.on_terminal():
            print("no segments")
    elif (screen := printing.screen()) is not None:
        from shmvar.cli import segment_screens

        segment_screens.segments(screen, found, of_server=urls.is_url(args.url))
    elif urls.is_url(args.url):
        printing.table(SERVER_TITLES, map(_server_row, found))
    else:
        printing.table(SEGMENT_TITLES, map(_segment_row, found))
    return DONE


def _segments(url: str | None) -> list[shmvar.SegmentInfo]:
    """The segments of this machine, or of a server, which may take a while."""
    if not urls.is_url(url):
        return shmvar.segments(url)
    from shmvar._remote import opening as remote

    with printing.progress("segments") as told:
        return remote.segments(url, told)


def _server_row(info: shmvar.SegmentInfo) -> tuple[str, ...]:
    sizes = (_text.size(info.used), _text.size(info.size), _text.size(info.resident))
    return (repr(info.key), str(info.count), *sizes, printing.time(info.created_at, "minutes"))


def _segment_row(info: shmvar.SegmentInfo) -> tuple[str, ...]:
    what = repr(info.key) if info.key is not None else _text.one_line(f"/dev/shm/{info.name}")
    rights = (printing.user(info.uid), printing.mode(info.perm))
    state = info.state if info.why is None else _text.one_line(f"{info.state}: {info.why}")
    if info.state != "usable":  # nothing is known of its contents
        return (what, "-", "-", "-", _text.size(info.resident), "-", *rights, "-", state)
    sizes = (_text.size(info.used), _text.size(info.size), _text.size(info.resident))
    created = printing.time(info.created_at, "minutes")
    return (what, str(info.count), *sizes, str(info.attached), *rights, created, state)


# --- info


def _info(args: argparse.Namespace) -> int:
    with opening.for_reading(args) as segment:
        info = segment.info()
        if args.json:
            print(printing.as_json(printing.facts(info) | printing.named(info)))
        elif (screen := printing.screen()) is not None:
            from shmvar.cli import segment_screens

            segment_screens.facts(screen, segment, info, _facts(segment, info))
        else:
            printing.table((), _facts(segment, info).items())
    return DONE


def _facts(segment: shmvar.Segment, info: shmvar.SegmentInfo) -> dict[str, str]:
    """Each field of a segment's `info`, for people."""
    shown = printing.facts(info) | {"key": repr(info.key), "count": str(info.count)}
    shown |= {"uid": f"{info.uid} ({printing.user(info.uid)})", "created_at": printing.time(info.created_at)}
    for field in ("size", "used", "free", "largest_put", "resident", "held", "spare"):
        number = shown[field]
        shown[field] = f"{number:,} bytes" if number < 1024 else f"{number:,} bytes ({_text.size(number)})"
    shown["evict"] = info.evict or "nothing"
    shown["locks"] = ", ".join(map(printing.lock, printing.locks(info))) or "none held"
    shown["queues"] = ", ".join(map(printing.queue, printing.queues(info))) or "none"
    if not isinstance(segment, shmvar.Segment):
        shown = {"url": segment.url} | {field: value for field, value in shown.items() if field not in _NOT_OF_SERVERS}
    return {field: str(value) for field, value in shown.items()}


# --- show


def _show(args: argparse.Namespace) -> int:
    screen = None if args.json else printing.screen()
    limit = args.limit
    if limit is None and screen is not None:
        limit = MOST_ON_SCREEN
    with opening.for_many(args.key) as segment:
        indexes = _sorted(segment, args.prefix, args.sort)
        if args.reverse:
            indexes.reverse()
        # On a screen a value is cut where its column ends, which is before the end of a text that is twice as wide.
        width = _preview.WIDTH if screen is None else 2 * screen.width
        found = _preview.variables(segment, indexes[:limit], width)
        if args.json:
            print(printing.as_json(list(found)))
        elif screen is not None:
            _show_on(screen, list(found), len(indexes), limit, args.limit)
        else:
            _print(found)
    return DONE


def _show_on(screen: Screen, found: list[dict[str, Any]], all: int, limit: int, asked: int | None) -> None:
    from shmvar.cli import segment_screens

    if not found:
        print("no variables")
        return
    segment_screens.variables(screen, found)
    if all > limit:
        more = f"… {all - limit:,} more"
        hint = "" if asked is not None else ": --limit N shows N of them, --prefix TEXT those that begin so"
        screen.line(screen.own(more + hint, "secondary"))


def _print(found: Iterable[dict[str, Any]]) -> None:
    """Plain text, of each variable as it is read: there may be a million."""
    rows = map(_variable_row, found)
    if (first := next(rows, None)) is not None:
        printing.table(VARIABLE_TITLES, itertools.chain([first], rows))
    elif printing.on_terminal():
        print("no variables")


def _sorted(segment: shmvar.Segment, prefix: str | None, order: str) -> list[int | str]:
    """The indexes of all variables, or of those with a prefix, in this order; equal ones by index."""
    indexes = _by_index(segment.keys() if prefix is None else segment.keys(prefix))
    if order == "index":
        return indexes
    with printing.progress("variables") as told:
        return _by_fact(segment, indexes, order, told)


def _by_index(indexes: Iterable[int | str]) -> list[int | str]:
    """As `_preview.order` has it, in an eighth of the time: of a million, none is compared through a tuple."""
    numbers: list[int] = []
    texts: list[str] = []
    for index in indexes:
        if isinstance(index, str):
            texts.append(index)
        else:
            numbers.append(index)
    numbers.sort()
    texts.sort()
    return [*numbers, *texts]


def _by_fact(
    segment: shmvar.Segment, indexes: list[int | str], order: str, told: Callable[[int, int], None]
) -> list[int | str]:
    """The indexes by size, the largest first, or by the time until they expire."""
    place: dict[int | str, float] = {}
    for number, index in enumerate(indexes):
        told(number, len(indexes))
        try:
            found = segment.stat(index)
        except KeyError:
            continue  # it vanished meanwhile
        except shmvar.CorruptSegmentError:
            place[index] = -math.inf  # damage comes first
            continue
        expires = math.inf if found.expires_in is None else found.expires_in
        place[index] = -found.size if order == "size" else expires
    return sorted(place, key=place.__getitem__)


def _variable_row(variable: dict[str, Any]) -> tuple[str, ...]:
    """One line each, also in a file: an index or a value may hold line ends."""
    expires = "" if variable["expires_in"] is None else f"{variable['expires_in']:.1f} s"
    text = variable["repr"] if variable["error"] is None else f"<{variable['error']}>"
    if variable["in_place"] and variable["error"] is None:
        shape = "" if variable["shape"] is None else f" {tuple(variable['shape'])}"
        text = f"in place: {variable['dtype'] or 'bytes'}{shape}"
    size = "" if variable["size"] is None else _text.size(variable["size"])
    row = (repr(variable["index"]), variable["type"] or "", size, str(variable["version"] or ""), expires, text or "…")
    return tuple(map(_text.one_line, row))
