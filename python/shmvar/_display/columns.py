"""Plain text in columns, for a terminal that shows what a notebook would draw."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def of(titles: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """A table of texts that take one line each. `numbers` are the columns that are aligned to the right."""
    lines = [titles, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]

    def written(line: Sequence[str]) -> str:
        parts = enumerate(zip(line, widths, strict=True))
        return "  ".join(part.rjust(width) if at in numbers else part.ljust(width) for at, (part, width) in parts)

    return "\n".join(written(line).rstrip() for line in lines)
