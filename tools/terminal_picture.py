"""A picture (SVG) of what a program has printed, for the tools that make one of a command."""

import io
import re

from rich.console import Console


def recorder(width: int, height: int | None = None) -> Console:
    """A terminal of that size, with colours, which keeps what is printed on it."""
    return Console(
        record=True, width=width, height=height, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )


def picture(console: Console, title: str) -> str:
    """What was printed, in a window with that title. It names no font that would have to be loaded from elsewhere."""
    # The names of its parts are drawn from the text, so the same text gives the same file.
    text = console.export_svg(title=title)
    text = re.sub(r"\s*@font-face \{.*?\}", "", text, flags=re.DOTALL)
    return text.replace("Fira Code, monospace", "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace")
