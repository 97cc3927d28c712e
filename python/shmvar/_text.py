"""Texts for people: what is stored as harmless text, and numbers with units.

Keys, indexes, values, names of classes, locks and users come from whoever may write to a segment. A text must command
neither the terminal nor the browser that shows it, nor turn the text beside it around.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_UNITS = (("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10))
_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"}


def harmless(text: str) -> str:
    """Return `text` with escapes for every character that is not printable, but for line ends and tabs.

    Python calls control characters, marks of writing direction, invisible ones and lone surrogates not printable.
    """
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)


def one_line(text: str) -> str:
    r"""Return `text`, harmless and without line ends and tabs, which become `\n` and `\t`."""
    return harmless(text).replace("\n", "\\n").replace("\t", "\\t")


def html(text: str) -> str:
    """Return `one_line` of `text` for HTML, in an element or in an attribute within quotes."""
    return "".join(_HTML.get(c, c) for c in one_line(text))


def cut(text: str, width: int, length: "Callable[[str], int]" = len) -> str:
    """Return `text`, or its beginning and `…` where it takes more than `width` columns; 1 column is left at least.

    Args:
        text: any text.
        width: in columns.
        length: how many columns a text takes: `rich.cells.cell_len` for a terminal, where some characters take two.
    """
    # No character takes more than two columns, so a longer text is cut in any case; it is not measured as a whole.
    if len(text) <= 2 * width + 2 and length(text) <= width:
        return text
    text = text[: max(width - 1, 0)]
    while text and length(text) > width - 1:
        text = text[:-1]
    return text + "…"


def number(value: int) -> str:
    """Return a number with commas: `1,000,000`."""
    return f"{value:,}"


def size(value: int) -> str:
    """Return a number of bytes in the largest unit that it fills: `1.5 MiB`."""
    for unit, shift in _UNITS:
        # What would be rounded to 1024.0 of a unit is 1.0 of the next one.
        if value >= (1 << shift) - ((1 << (shift - 10)) // 20 if shift > 10 else 0):
            return f"{value / (1 << shift):.1f} {unit}"
    return f"{value} B"


def seconds(value: float) -> str:
    """Return a length of time, short: `0.2 s`, `5 min`, `2 h`, `3 d`. `value` is in seconds, from 0 on."""
    if value < 120:
        return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"
    for unit, length, longest in (("min", 60, 7200), ("h", 3600, 172_800)):
        if value < longest:
            return f"{value / length:.0f} {unit}"
    return f"{value / 86_400:,.0f} d"
