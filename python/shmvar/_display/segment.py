"""The display of a segment: head line, table of variables, map of the memory."""

from __future__ import annotations

from shmvar import _text
from shmvar._display import elements, facts, head, memory, variables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def of(segment: Any) -> elements.Html:
    """The display of a handle and its segment, now."""
    return _parts(segment, facts.of(segment), handle=True)


def _parts(segment: Any, seen: facts.Facts, handle: bool) -> elements.Html:
    """The parts that there is something to say in."""
    parts = [head.of(segment, seen, handle)]
    if seen.rows:
        parts.append(variables.of(seen))
    elif seen.numbers is not None and not seen.total:
        parts.append(elements.element("div", elements.quiet("no variables"), class_="sv-line"))
    if seen.memory is not None:
        parts.append(memory.of(*seen.memory))
    return elements.joined(*parts)


def once(segment: Any) -> tuple[str, str]:
    """The display as HTML, and as more text than `repr`: for `%shm KEY`, whose handle is no matter of anybody's."""
    seen = facts.of(segment)
    plain = [_text.one_line(repr(segment))]
    if seen.rows:
        plain.append(variables.plain(seen))
    return elements.document(_parts(segment, seen, handle=False)), "\n".join(plain)
