"""The map of the memory of a segment: a strip over its addresses, in which colours say what each part is used for.

Each cell stands for as many addresses as the others; where it holds several things they are stacked, in tenths. The
strip is made of plain elements with colours of their own: notebooks that are not trusted show those, and no SVG.
"""

from __future__ import annotations

from itertools import groupby

from shmvar import _text
from shmvar._display.elements import TRACK, Html, element, fact, joined, quiet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

KINDS = {
    "used": ("in use", "#3b82f6"),
    "table": ("table and small values", "#0f9f8a"),
    "held": ("held by views", "#d97706"),
    "filling": ("being filled or freed", "#db2777"),
    "spare": ("free and warm", "#9aa0a6"),
}
"""What memory is used for, with its colour, from the bottom of a cell to its top. What is left has no memory."""
_TENTHS = 10
_UNWRITTEN = "what was never written to takes no memory yet"


def of(totals: dict[str, int], cells: Sequence[dict[str, int]]) -> Html:
    """The strip and its legend."""
    sizes = ", ".join(f"{name} {_text.size(totals.get(kind, 0))}" for kind, (name, _) in KINDS.items())
    label = f"memory: set aside are {sizes}; {_UNWRITTEN}"
    return joined(_strip(cells, label), _legend(totals))


def _strip(cells: Sequence[dict[str, int]], label: str) -> Html:
    parts = []
    for shares, alike in groupby(map(_shares, cells)):
        width = 100 * len(list(alike)) / len(cells)
        parts.append(element("span", style=f"width:{width:.4g}%;{_colours(shares)}"))
    style = f"display:flex;height:16px;border-radius:3px;overflow:hidden;margin:6px 0 4px 0;background-color:{TRACK}"
    return element("div", *parts, class_="sv-map", style=style, role="img", aria_label=label, title=label)


def _shares(cell: dict[str, int]) -> tuple[int, ...]:
    """How many tenths of a cell are of each kind. What is there at all is seen."""
    whole = sum(cell.values()) or 1
    shares = [-(-_TENTHS * cell.get(kind, 0) // whole) for kind in KINDS]
    while sum(shares) > _TENTHS:
        shares[shares.index(max(shares))] -= 1
    return tuple(shares)


def _colours(shares: Sequence[int]) -> str:
    stops, at = [], 0
    for share, (_, colour) in zip(shares, KINDS.values(), strict=True):
        if share:
            start, at = at, at + share
            stops += [f"{colour} {10 * start}%", f"{colour} {10 * at}%"]
    if not stops:
        return "height:100%"
    if at < _TENTHS:
        stops += [f"transparent {10 * at}%", "transparent 100%"]
    elif len(stops) == 2:
        return f"height:100%;background-color:{stops[0].split()[0]}"
    return f"height:100%;background:linear-gradient(to top,{','.join(stops)})"


def _legend(totals: dict[str, int]) -> Html:
    parts: list[str] = []
    for kind, (name, colour) in KINDS.items():
        if not totals.get(kind) and kind == "filling":
            continue
        style = (
            f"display:inline-block;width:10px;height:10px;border-radius:2px;margin-right:5px;background-color:{colour}"
        )
        parts += [fact(element("span", style=style), f"{name} {_text.size(totals.get(kind, 0))}"), " "]
    return element("div", quiet("memory set aside "), *parts, class_="sv-line", title=_UNWRITTEN)
