"""Words that plainly are Python literals, but that Python does not read: too many digits, nested too deeply."""

import re
import sys
from collections.abc import Callable
from typing import Any

_DEEP = 50
"""Brackets inside each other that are read at once; Python reads 200, but no version promises that."""

READ_BY_JSON = 400
"""Brackets inside each other that --json reads, and that can be pickled, in any case."""

# A text in quotes, where brackets mean nothing; a bracket; a character behind a backslash, which begins no text (JSON
# within JSON has many such quotes, and each would be sought an end for); what is none of these; a quote that nothing
# closes.
_PART = re.compile(
    r"""(?sx) '{3}(?:[^\\]|\\.)*?'{3} | "{3}(?:[^\\]|\\.)*?"{3} | '(?:[^'\\\n]|\\.)*' | "(?:[^"\\\n]|\\.)*"
    | [][(){}] | \\. | [^][(){}'"\\]+ | ."""
)
_DIGITS = re.compile("[0-9_]+")
_NUMBER = re.compile("[1-9](?:_?[0-9])*")


def why_not_read(text: str, read: Callable[[str], Any]) -> str | None:
    """Why a literal is not read; None: the text is no literal. `read` raises an exception for what is none."""
    limit, longest = sys.get_int_max_str_digits(), 0

    def shorter(found: re.Match[str]) -> str:
        nonlocal longest
        digits = len(found[0]) - found[0].count("_")
        if not limit or digits <= limit or not _NUMBER.fullmatch(found[0]):
            return found[0]
        longest = max(longest, digits)
        return found[0][0]

    short = _DIGITS.sub(shorter, text)
    if longest and _is_literal(short, read):
        most = f"more than the {limit:,} that Python reads"
        return (
            f"has a number of {longest:,} digits, {most}: the environment variable PYTHONINTMAXSTRDIGITS=0 lifts that"
        )
    if (deep := depth(short)) > _DEEP and _is_literal(short, read):
        json = "; --json reads it if it is JSON" if deep <= READ_BY_JSON else ""
        return f"is a literal nested {deep:,} deep, which Python does not read{json}"
    return None


def depth(text: str) -> int:
    """How many brackets are inside each other, of a text that begins with one."""
    deep = deepest = 0
    if text.lstrip()[:1] not in tuple("([{"):
        return 0
    for part in _PART.findall(text):
        deep += (part in "([{") - (part in ")]}")
        deepest = max(deepest, deep)
    return deepest


def _is_literal(text: str, read: Callable[[str], Any]) -> bool:
    """Whether it is one, however deep it is: what is inside of many brackets is read first, and a number instead."""
    outer: list[list[str]] = [[]]
    try:
        for part in _PART.findall(text):
            if part in "([{":
                outer.append([])
            outer[-1].append(part)
            if part in ")]}":
                inner = "".join(outer.pop())
                if len(outer) % _DEEP == 0:
                    read(inner)
                    inner = " 0 "
                outer[-1].append(inner)
        read("".join(part for parts in outer for part in parts))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError, IndexError):
        return False
    return True
