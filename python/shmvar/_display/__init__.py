"""What a notebook shows of a segment and its kin: HTML without scripts, and plain text beside it.

The objects of the extension module call these functions in their methods `_repr_html_`, `_repr_mimebundle_` and
`_ipython_key_completions_`. Whatever is shown came from a segment, so it is hostile: every text goes through
`shmvar._text`, no value is unpickled with trust, nothing is read that is large, and nothing waits for a writer.

| file | what |
| --- | --- |
| `facts` | what is shown of a segment, read once, whatever state it is in |
| `segment` | the display of a segment: its parts, one below the other |
| `head`, `variables`, `memory` | these parts: the head line, the table of variables, the map of the memory |
| `small` | the displays of `SegmentInfo`, `VariableInfo`, `CheckReport`, `Lock` and `Queue` |
| `listing` | many segments as a table, for `%shm` |
| `elements` | tags, attributes, bars and tables: the only file that writes HTML |
| `style` | the style sheet |
| `completing` | which indexes the Tab key offers |
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container
    from typing import Any

HTML, PLAIN = "text/html", "text/plain"


def html(object: Any) -> str:
    """The display of an object as HTML. It raises nothing: a notebook would print the traceback instead."""
    from shmvar._display import elements, segment, small

    try:
        shown = small.of(object)
        return elements.document(segment.of(object) if shown is None else shown)
    except Exception as error:
        return elements.document(elements.failure(plain(object), error))


def plain(object: Any) -> str:
    """The plain text of an object: its `repr`, as a terminal shows it."""
    try:
        return repr(object)
    except Exception as error:  # the memory is full, or the segment is damaged
        return f"<{type(object).__module__}.{type(object).__qualname__}: {type(error).__name__}>"


def mimebundle(
    object: Any, include: Container[str] | None = None, exclude: Container[str] | None = None
) -> dict[str, str]:
    """The display in each form that is asked for, by its MIME type. IPython shows the best one that it can."""
    wanted = [form for form in (HTML, PLAIN) if (not include or form in include) and form not in (exclude or ())]
    return {form: html(object) if form == HTML else plain(object) for form in wanted}


def completions(segment: Any) -> list[int | str]:
    """The indexes that IPython offers after `segment[`; none where they are many, or cannot be read."""
    from shmvar._display import completing

    try:
        return completing.indexes(segment)
    except Exception:  # the Tab key is no place for a traceback
        return []
