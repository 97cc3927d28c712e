"""A variable of a segment of PHP's in a line: its type, its size, and a short text of its value.

A value is data: an object of PHP is a `PhpObject`, and nothing of its class is looked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import shmvar
from shmvar._preview import LARGEST_SHOWN, WIDTH, ShortRepr, shortened
from shmvar.cli import remedies

if TYPE_CHECKING:
    from shmvar import php

FIELDS = ("index", "type", "size", "repr", "error")
"""What `variables` says of each. `size` is that of the text that `serialize` made."""

# By the first byte of that text.
TYPES = {b"N": "null", b"b": "bool", b"i": "int", b"d": "float", b"s": "string", b"S": "string", b"a": "array"}
TYPES |= {b"O": "object", b"C": "object", b"E": "enum"}


def variables(segment: php.Segment, indexes: Iterable[int], width: int = WIDTH) -> Iterator[dict[str, Any]]:
    """Yields the `FIELDS` of each of these variables; one that vanishes meanwhile is left out.

    `repr` is None where the value is large, and `error` says why it cannot be read. `width`: characters of `repr`, at
    most.
    """
    for index in indexes:
        facts: dict[str, Any] = dict.fromkeys(FIELDS) | {"index": index}
        try:
            text = segment._get_text(index)
        except shmvar.CorruptSegmentError as error:
            yield facts | {"error": remedies.in_words(str(error))}
            continue
        if text is not None:
            yield facts | _described(text, width)


def _described(text: bytes, width: int) -> dict[str, Any]:
    from shmvar import php

    facts: dict[str, Any] = {"type": TYPES.get(text[:1]), "size": len(text)}
    if len(text) > LARGEST_SHOWN:
        return facts
    try:
        return facts | {"repr": shortened(_ShortRepr(width).repr(php.loads(text)), width)}
    except Exception as error:  # it is damaged, or nested too deeply to be shown
        return facts | {"error": remedies.in_words(f"{type(error).__name__}: {error}")}


class _ShortRepr(ShortRepr):
    """Shows an object of PHP as its class and its properties, and no more of it than of a dict."""

    def repr_PhpObject(self, found: php.PhpObject, level: int) -> str:
        name = shortened(repr(found.class_name), self.maxstring)
        properties = self.repr1(found.properties, level - 1) if level > 0 else "{...}"
        return f"PhpObject({name}, {properties})"

    def repr_PhpCustom(self, found: php.PhpCustom, level: int) -> str:
        return f"PhpCustom({shortened(repr(found.class_name), self.maxstring)}, {self.repr1(found.data, level - 1)})"
