"""The table of variables: the first ones of a segment, each in one line, and how many more there are."""

from __future__ import annotations

from shmvar import _text
from shmvar._display import columns
from shmvar._display.elements import Html, code, element, joined, quiet, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from shmvar._display.facts import Facts

TITLES = ("index", "type", "size", "version", "expires in", "value")
_NUMBERS = (2, 3, 4)
_INDEX, _TYPE, _VALUE = 40, 32, 60
"""Characters that are shown of each."""
MOST_LINES = 20
"""Variables in plain text."""


def of(facts: Facts) -> Html:
    """The table, and the number of those that are not in it."""
    shown = table(TITLES, map(_row, facts.rows), "variables", _NUMBERS)
    more = facts.total - len(facts.rows)
    if more <= 0:
        return shown
    return joined(shown, element("div", quiet(f"… {_text.number(more)} more"), class_="sv-line"))


def plain(facts: Facts) -> str:
    """The same as text in columns, with fewer of the variables."""
    rows = [_texts(variable) for variable in facts.rows[:MOST_LINES]]
    more = facts.total - len(rows)
    return columns.of(TITLES, rows, _NUMBERS) + (f"\n… {_text.number(more)} more" if more > 0 else "")


def _texts(variable: dict[str, Any]) -> tuple[str, ...]:
    """What is said of a variable: each part in one line, and not long."""
    index, kind = (_text.one_line(text) for text in (repr(variable["index"]), variable["type"] or ""))
    expires = "" if variable["expires_in"] is None else _text.seconds(variable["expires_in"])
    size = "" if variable["size"] is None else _text.size(variable["size"])
    version = _text.number(variable["version"]) if variable["version"] else ""
    return _text.cut(index, _INDEX), _text.cut(kind, _TYPE), size, version, expires, _value(variable)[0]


def _row(variable: dict[str, Any]) -> tuple[str, ...]:
    """The same as HTML, where a pointer over what was cut shows more of it."""
    _index, _kind, *others, _ = _texts(variable)
    text, why = _value(variable)
    shown = code(text, 2 * _VALUE) if why is None else quiet(text, why or None)
    return code(repr(variable["index"]), _INDEX), code(variable["type"] or "", _TYPE), *others, shown


def _value(variable: dict[str, Any]) -> tuple[str, str | None]:
    """A short text of the value. If it stands for one that is not shown, also why that is."""
    if variable["error"] is not None:
        return _text.cut(_text.one_line(f"not readable: {variable['error']}"), 2 * _VALUE), ""
    shape = "" if variable["shape"] is None else f" {tuple(variable['shape'])}"
    if variable["in_place"]:
        return _text.cut(_text.one_line(f"in place: {variable['dtype'] or 'bytes'}{shape}"), _VALUE), None
    if variable["repr"] is not None:
        return _text.cut(_text.one_line(variable["repr"]), _VALUE), None
    if variable["dtype"] is not None:
        return _text.cut(_text.one_line(f"array: {variable['dtype']}{shape}"), _VALUE), None
    return "…", "large, or it needs code to be rebuilt: a display does not read it"
