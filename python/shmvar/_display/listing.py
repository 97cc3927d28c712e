"""Many segments as a table, for `%shm`: as HTML, and as text for a terminal."""

from __future__ import annotations

from shmvar import _text
from shmvar._display import columns
from shmvar._display.elements import Html, badge, bar, code, document, element, joined, quiet, table
from shmvar._display.small import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from shmvar._core import SegmentInfo

TITLES = ("key", "variables", "used", "size", "memory", "processes", "state", "owner", "mode", "created")
OF_SERVERS = ("key", "variables", "used", "size", "memory", "created")
"""A server says nothing of owner, mode and processes of a segment."""
_NUMBERS = ("variables", "size", "memory", "processes")
MOST_ROWS = 100


def html(found: Sequence[SegmentInfo], titles: Sequence[str] = TITLES) -> Html:
    """The table of these segments, and how many more there are."""
    if not found:
        return document(element("div", quiet("no segments"), class_="sv-line"))
    rows = ([_row(info)[title] for title in titles] for info in found[:MOST_ROWS])
    shown = table(titles, rows, "segments", _numbers(titles))
    return document(joined(shown, element("div", quiet(_rest(found)), class_="sv-line")))


def plain(found: Sequence[SegmentInfo], titles: Sequence[str] = TITLES) -> str:
    """The same in columns."""
    if not found:
        return "no segments"
    rows = ([_texts(info)[title] for title in titles] for info in found[:MOST_ROWS])
    return f"{columns.of(titles, rows, _numbers(titles))}\n{_rest(found)}"


def _numbers(titles: Sequence[str]) -> list[int]:
    return [at for at, title in enumerate(titles) if title in _NUMBERS]


def _rest(found: Sequence[SegmentInfo]) -> str:
    more = len(found) - MOST_ROWS
    return f"… {_text.number(more)} more" if more > 0 else f"{_text.number(len(found))} in all"


def _texts(info: SegmentInfo) -> dict[str, str]:
    """What is said of a segment, by title."""
    key = _text.cut(_text.one_line(f"/dev/shm/{info.name}" if info.key is None else repr(info.key)), 40)
    state = _text.cut(_text.one_line(info.state if info.why is None else f"{info.state}: {info.why}"), 60)
    told = dict.fromkeys(TITLES, "-") | {"key": key, "state": state, "memory": _text.size(info.resident)}
    told |= {"owner": _user(info.uid), "mode": f"{info.perm:03o}"}
    if info.state != "usable":  # nothing is known of its contents
        return told
    numbers = {"variables": _text.number(info.count), "processes": _text.number(info.attached)}
    sizes = {"used": _text.size(info.used), "size": _text.size(info.size)}
    return told | numbers | sizes | {"created": time(info.created_at)}


def _row(info: SegmentInfo) -> dict[str, str]:
    """The same as HTML."""
    told = _texts(info) | {"key": code(repr(info.key) if info.key is not None else f"/dev/shm/{info.name}", 40)}
    if info.state != "usable":
        return told | {"state": badge(told["state"], warning=True)}
    share = f"{100 * info.used / info.size:.0f} % used" if info.size else "nothing used"
    return told | {"used": joined(bar(info.used, info.size, share, 50), told["used"])}


def _user(uid: int) -> str:
    import pwd

    try:
        return _text.one_line(pwd.getpwuid(uid).pw_name)
    except KeyError:
        return str(uid)
