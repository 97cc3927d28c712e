"""How objects of shmvar look in a notebook. Nothing here runs before a notebook asks for it."""

from shmvar import _preview, _text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container
    from typing import Any

COMPLETIONS = 1_000
"""So many indexes are offered for completion at most."""


def html(shown: object) -> str:
    """Return an object as HTML."""
    return f"<pre>{_text.html(repr(shown))}</pre>"


def mimebundle(
    shown: object, include: "Container[str] | None" = None, exclude: "Container[str] | None" = None
) -> "dict[str, Any]":
    """Return an object in the forms that a front end may choose from, by their MIME types."""
    forms = {"text/plain": repr, "text/html": html}
    wanted = [form for form in forms if (not include or form in include) and (not exclude or form not in exclude)]
    return {form: forms[form](shown) for form in wanted}


def completions(segment: "Any") -> "list[int | str]":
    """Return indexes of a segment that a shell may offer after `segment[`."""
    return _preview.first(segment, COMPLETIONS)[0]
