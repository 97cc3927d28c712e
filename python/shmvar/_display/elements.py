"""Tags, attributes, bars and tables. No other file writes a tag, so this is where every text becomes harmless.

What matters for reading is in the `style` of an element: a notebook that is not trusted is shown without style sheets,
roles and labels, but with these. The colours there are seen on white and on black.
"""

from __future__ import annotations

from shmvar import _text
from shmvar._display.style import SHEET

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LONGEST_TEXT = 300
"""Characters of a message. What is longer is cut: an error may quote a name of a kilobyte."""
LONGEST_NAME = 140
ACCENT, WARNING = "#3b82f6", "#d97706"
TRACK = "rgba(128,128,128,0.25)"


class Html(str):
    """Text that is HTML already. Only this module makes it."""

    __slots__ = ()


def element(tag: str, *parts: str, **attributes: str | None) -> Html:
    """An element. A part that is no `Html` is text. In names of attributes, `_` at the end is left out, or is `-`."""
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{_text.html(value)}"'
        for name, value in attributes.items()
        if value is not None
    )
    return Html(f"<{tag}{written}>{joined(*parts)}</{tag}>")


def joined(*parts: str) -> Html:
    """The parts one after the other."""
    return Html("".join(part if isinstance(part, Html) else _text.html(part) for part in parts))


def document(*parts: str) -> Html:
    """A whole display: the parts with the style sheet that is theirs alone.

    JupyterLab hands each output to MathJax, which would draw what stands between dollars in a name as a formula, with
    the styles and addresses in it. The two other classes are what its versions 3 and 2 leave alone.
    """
    classes = "shmvar mathjax_ignore tex2jax_ignore"
    return element("div", Html(f"<style>{SHEET}</style>"), *parts, class_=classes)


def code(text: str, width: int = LONGEST_TEXT) -> Html:
    """A name or a value, cut to so many characters. If it was cut, the pointer shows more of it."""
    short = _text.cut(_text.one_line(text), width)
    more = None if short == _text.one_line(text) else _text.cut(_text.one_line(text), LONGEST_TEXT)
    return element("code", short, title=more)


def quiet(text: str, title: str | None = None) -> Html:
    """Text that stands back."""
    return element("span", text, class_="sv-quiet", style="opacity:0.7", title=title)


def fact(*parts: str, title: str | None = None) -> Html:
    """One thing in a line of several, apart from the next one, and itself not broken."""
    return element("span", *parts, style="margin-right:14px;white-space:nowrap", title=title)


def name(kind: str, name: str) -> Html:
    """What a display is of, in its head line."""
    return element("span", quiet(f"{kind} "), code(name, LONGEST_NAME), class_="sv-key", style="margin-right:14px")


def badge(text: str, warning: bool = False, title: str | None = None) -> Html:
    """A word that stands out."""
    colour = WARNING if warning else "#6b7280"
    style = f"border:1px solid {colour};border-radius:4px;padding:0 5px;margin-right:4px;white-space:nowrap"
    return element("span", text, class_="sv-badge", style=style, title=title)


def message(error: BaseException) -> str:
    """An error as one line of text."""
    return _text.cut(_text.one_line(f"{type(error).__name__}: {error}"), LONGEST_TEXT)


def failure(what: str, error: BaseException) -> Html:
    """What is shown where a display could not be made."""
    said = element("div", badge("not shown", warning=True), message(error), class_="sv-line")
    return joined(element("div", code(what), class_="sv-line"), said)


def bar(part: int, whole: int, label: str, width: int = 110) -> Html:
    """A bar that is filled in part, for the eye; the label says the same."""
    share = min(max(part / whole, 0), 1) if whole > 0 else 0.0
    colour = WARNING if share > 0.9 else ACCENT
    filled = element("span", style=f"display:block;height:100%;width:{100 * share:.1f}%;background-color:{colour}")
    style = (
        f"display:inline-block;width:{width}px;height:9px;border-radius:3px;overflow:hidden;vertical-align:middle;"
        f"margin-right:6px;background-color:{TRACK}"
    )
    return element("span", filled, class_="sv-bar", style=style, role="img", aria_label=label, title=label)


def facts(pairs: Iterable[tuple[str, str]]) -> Html:
    """A table of names and what they are, one in a line."""
    left = "text-align:left"
    rows = [
        element("tr", element("th", name, scope="row", style=left), element("td", what, style=left))
        for name, what in pairs
    ]
    return element("table", element("tbody", *rows), class_="sv-facts")


def table(titles: Sequence[str], rows: Iterable[Sequence[str]], label: str, numbers: Sequence[int] = ()) -> Html:
    """A table in a box that scrolls, of a limited height. `numbers` are the columns that are aligned to the right."""
    sides = ["text-align:right" if at in numbers else "text-align:left" for at in range(len(titles))]
    head = element("tr", *map(lambda title, side: element("th", title, scope="col", style=side), titles, sides))
    body = [element("tr", *map(lambda part, side: element("td", part, style=side), row, sides)) for row in rows]
    whole = element("table", element("thead", head), element("tbody", *body), class_="sv-table")
    # Who has no mouse scrolls with the keys once the box has the focus.
    box = {"role": "region", "aria_label": label, "tabindex": "0"}
    return element("div", whole, class_="sv-box", style="max-height:22em;overflow:auto;max-width:100%", **box)
