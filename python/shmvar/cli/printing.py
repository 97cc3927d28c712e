"""How things are printed: for people on a terminal, for programs in a pipe, and as JSON."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import shmvar
from shmvar import _preview, _text
from shmvar.cli import remedies
from shmvar.cli.progress import Progress, for_terminal

if TYPE_CHECKING:
    from shmvar.cli.screen import Screen


MEASURED = 200
"""Rows that say how wide columns are on a terminal without `rich`: there may be a million."""


def as_json(value: Any, default: Callable[[Any], Any] | None = None) -> str:
    """`value` as one line of JSON. Raises `TypeError` or `ValueError` where it has no such form.

    `{1: "a", "1": "b"}` has none: of two keys that are the same text in JSON whoever reads it takes one.

    `default` makes something that has one of what has none.
    """
    import json

    text = json.dumps(value, allow_nan=False, ensure_ascii=False, default=default)
    _refuse_merged_keys(value, default)
    if text.isprintable():
        return text
    # JSON itself escapes the control characters of ASCII only: neither those of C1, which a terminal obeys as well, nor
    # marks of writing direction.
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def _refuse_merged_keys(value: Any, default: Callable[[Any], Any] | None) -> None:
    """Raises `ValueError` if two keys of a dict in `value`, which has a form as JSON, are the same text there."""
    import json

    seen: dict[int, Any] = {}  # one that is in several places is looked at once; kept, for its id stays its own
    left = [value]
    while left:
        found = left.pop()
        if default is not None and not isinstance(found, (dict, list, tuple, str, int, float, type(None))):
            found = default(found)
        if not isinstance(found, (dict, list, tuple)) or id(found) in seen:
            continue
        seen[id(found)] = found
        if isinstance(found, dict):
            if len({type(key) for key in found}) > 1:  # of one type, different keys are different texts
                names: dict[str, Any] = {}
                for key in found:
                    name = json.dumps({key: 0})
                    if name in names:
                        raise ValueError(f"the keys {names[name]!r} and {key!r} of a dict are the same there")
                    names[name] = key
            found = found.values()
        left.extend(found if default else (part for part in found if isinstance(part, (dict, list, tuple))))


def on_terminal() -> bool:
    """Whether stdout is a terminal."""
    return sys.stdout is not None and sys.stdout.isatty()


def escapes() -> bool:
    """Whether a terminal may get escape sequences: colours, and going back. See https://no-color.org."""
    return not os.environ.get("NO_COLOR") and not is_dumb()


def is_dumb() -> bool:
    """Whether a terminal cannot go back on its line, or nobody has said what it can."""
    return os.environ.get("TERM", "") in ("", "dumb", "unknown")


def screen() -> Screen | None:
    """What prints columns and colours on a terminal. None: there is no terminal, or no `rich`, and text is plain."""
    if not on_terminal():
        return None
    try:
        from shmvar.cli.screen import Screen
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "rich":
            raise
        return None
    return Screen(escapes=escapes() and sys.stdout.isatty())


def table(titles: Sequence[str], rows: Iterable[Sequence[str]], *, spare: Sequence[str] = ()) -> None:
    """Prints `rows` in columns, below `titles` if there are any.

    In a pipe there are tabs between columns, and nothing is wrapped or cut: for grep and cut. On a terminal the first
    and the last column are what people look for; where they have too little room, columns of `spare` are left out, in
    this order. Without `rich`, a terminal gets columns that nothing is left out of.
    """
    if (found := screen()) is not None:
        found.plain_table(titles, rows, spare)
        return
    rows = itertools.chain([titles] if titles else [], rows)
    for line in _aligned(rows) if on_terminal() else map("\t".join, rows):
        print(line)


def _aligned(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Rows as lines, in columns as wide as the first of them need; what comes later may be wider."""
    rows = iter(rows)
    first = list(itertools.islice(rows, MEASURED))
    widths = [max(map(_cells, column)) for column in itertools.zip_longest(*first, fillvalue="")]
    for row in itertools.chain(first, rows):
        yield "  ".join(cell + " " * (width - _cells(cell)) for cell, width in zip(row, widths, strict=False)).rstrip()


def _cells(text: str) -> int:
    """About how many cells of a terminal a text takes: what counts is that columns stand below one another."""
    if text.isascii():
        return len(text)
    import unicodedata

    return sum(2 if unicodedata.east_asian_width(char) in "WF" else not unicodedata.combining(char) for char in text)


@contextlib.contextmanager
def progress(what: str) -> Iterator[Progress | Callable[..., None]]:
    """Gives a function that is called with how many of how many `what` are done; of "bytes", with numbers of bytes.

    On a terminal this shows a bar, if it takes longer than a moment; it is wiped away at the end. It writes to stderr,
    so what is printed meanwhile can go to a file.
    """
    bar = None if is_dumb() else for_terminal(what, escapes=escapes())
    if bar is None:
        yield lambda *_: None
        return
    try:
        yield bar
    finally:
        bar.wipe()


def styled(line: str, style: str = "", *, hanging: int = 0) -> None:
    """Prints `one_line` of a line (it may have names that others chose); on a terminal in one of `screen.STYLES`.

    On a terminal a long line is broken between words, and what follows is indented by `hanging`.
    """
    if (found := screen()) is not None:
        found.line(found.text(line, style), hanging=hanging)
    else:
        print(_text.one_line(line))


def user(uid: int) -> str:
    """The name of a user, or the number where there is none."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def time(timestamp: float, precision: str = "seconds") -> str:
    """A local time, from seconds since 1970. `precision` is a `timespec` of `datetime.isoformat`."""
    import datetime

    return datetime.datetime.fromtimestamp(timestamp).isoformat(" ", precision)


def facts(info: shmvar.SegmentInfo) -> dict[str, Any]:
    """The properties of a segment, for JSON: its mode as octal text, as people and `--perm` write it."""
    return info._asdict() | {"perm": mode(info.perm)}


def mode(perm: int) -> str:
    """Permission bits as octal text."""
    return f"{perm:03o}"


def named(info: shmvar.SegmentInfo) -> dict[str, Any]:
    """The locks and the queues of a segment, for JSON."""
    return {"locks": locks(info), "queues": queues(info)}


def locks(info: shmvar.SegmentInfo) -> list[dict[str, Any]]:
    """The named locks that are held, for JSON: as keys of an object, 5 and "5" could not be told apart."""
    return [{"name": name, "pid": pid} for name, pid in info.locks.items()]


def queues(info: shmvar.SegmentInfo) -> list[dict[str, Any]]:
    """The queues that have items, for JSON: as a list, for the reason of `locks`."""
    return [{"name": name, **info.queues[name]} for name in sorted(info.queues, key=_preview.order)]


def queue(found: dict[str, Any]) -> str:
    """One of `queues`, for people."""
    return _text.one_line(
        f"{found['name']!r}: {found['waiting']} wait, {found['held']} held, {_text.size(found['used'])}"
    )


def lock(found: dict[str, Any]) -> str:
    """One of `locks`, for people: its name, which may hold any text, and the pid of its owner."""
    return _text.one_line(f"{found['name']!r} by {found['pid']}")


def no_form(json: bool, error: Exception) -> str:
    """Why a value cannot be printed, after its `as_json` (or its `repr`) has raised `error`."""
    return remedies.in_words(f"no form as {'JSON' if json else 'text'}: {type(error).__name__}: {error}")
