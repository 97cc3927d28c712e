"""Reads the words of a command line. Each function takes a word and returns its value.

`argparse` makes a message of usage of an `ArgumentTypeError`, and of a `ValueError`.
"""

import argparse
import os
import re
from typing import Any

AS_TEXT = "as a text it has to be in quotes of its own: \"'…'\""
"""What to do with a value that is not read or not stored as what it is."""

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


# One text in quotes, without a prefix, as `repr` writes it.
_QUOTED = re.compile(r"""'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*\"""")


def name(text: str) -> int | str:
    """A KEY or an INDEX: an int if the word reads as a decimal or hexadecimal one, otherwise a text.

    A text in quotes, as `ls` and `show` print it, is what stands between them, whatever that looks like.
    """
    utf8(text)
    if re.fullmatch(r"[+-]?[0-9]+", text):
        return int(text)
    if re.fullmatch(r"[+-]?0[xX][0-9a-fA-F]+", text):
        return int(text, 16)
    if _QUOTED.fullmatch(text):
        inner = literal(text)
        return inner if isinstance(inner, str) else text
    return text


def php_key(text: str) -> int:
    """A KEY of PHP's, decimal or hexadecimal. Whether it has 32 bits is said by who attaches."""
    number = name(text)
    if isinstance(number, int):
        return number
    raise argparse.ArgumentTypeError(f"{text!r} is no key of PHP's, which are numbers of 32 bits: 4711, -5, 0x1267")


def php_index(text: str) -> int:
    """An INDEX of a segment of PHP's."""
    number = name(text)
    if isinstance(number, int):
        return number
    raise argparse.ArgumentTypeError(f"{text!r} is no index of PHP's, which are numbers: 1, -5, 0x1f")


def utf8(text: str) -> str:
    """The word, unless it has bytes that are not UTF-8: then it is no key, no index and no value."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(f"{ascii(os.fsencode(text))[1:]} is not UTF-8, which a text must be") from None
    return text


def literal(text: str) -> Any:
    """A VALUE: a Python literal if the word reads as one, otherwise the text itself.

    Raises `ValueError` for a literal that Python does not read, because it has too many digits or is nested too deeply:
    nobody means that as a text.
    """
    try:
        return _read(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        pass
    from shmvar.cli import literals

    if (why := literals.why_not_read(text, _read)) is not None:
        raise ValueError(f"VALUE {why}; {AS_TEXT}")
    return text


def _read(text: str) -> Any:
    """A Python literal. What is none, or is not read, raises one of many exceptions."""
    import ast
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "\d" is a text like any other
        parsed = ast.parse(text.lstrip(" \t"), mode="eval")
    if any(isinstance(node, ast.Constant) and node.value is ... for node in ast.walk(parsed)):
        raise ValueError("... is a literal, too, but nobody means it as a value")
    return ast.literal_eval(parsed)


def json_value(text: str) -> Any:
    """A VALUE that is JSON. Raises `ValueError` if it is not."""
    import json

    from shmvar._text import cut

    def refuse(constant: str) -> Any:
        raise ValueError(f"JSON has no {constant}")

    def finite(digits: str) -> float:
        number = float(digits)
        if number in (float("inf"), float("-inf")):
            raise ValueError(f"{cut(digits, 40)} is beyond the largest float")
        return number

    try:
        return json.loads(text, parse_constant=refuse, parse_float=finite)
    except ValueError as error:
        wrong = isinstance(error, json.JSONDecodeError) or str(error).startswith("JSON ")
        what = "is not JSON" if wrong else "is JSON that Python does not read"  # too many digits, or too large
        raise ValueError(f"VALUE {what}: {error}") from None
    except RecursionError:
        from shmvar.cli import literals

        deep = literals.depth(text)
        why = f"nested {deep:,} deep, and {literals.READ_BY_JSON} deep is what Python reads in any case"
        raise ValueError(f"VALUE is JSON that is {why}; without --json, {AS_TEXT}") from None


def mode(text: str) -> int:
    """Permission bits in octal, as in 660 or 0o660."""
    if not re.fullmatch(r"(0o?)?[0-7]{1,3}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a mode: give three octal digits, as in 660")
    return int(text.removeprefix("0o"), 8)


def size(text: str) -> int:
    """A number of bytes, at least 1; K, M, G and T stand for powers of 1024. A size is read as it is printed, too."""
    form = r"([0-9]+)(\.[0-9]{1,9})?(?: ?(?:([KMGT])(?:i?B)?|B))?"
    found = re.fullmatch(form, text, re.IGNORECASE | re.ASCII)
    if found:
        unit = _UNITS[(found[3] or "").upper()]
        number = int(found[1]) * unit + round(float(found[2] or 0) * unit)
        if number and (unit > 1 or not found[2]):
            return number
    raise argparse.ArgumentTypeError(
        f"{text!r} is not a size: give a number of bytes from 1 on, as in 4096, 64M, 1.5G or 2T"
    )


def seconds(text: str, longest: float | None = None) -> float:
    """A number of seconds above 0, at most `longest`; infinity is no number of seconds."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if 0 < number < float("inf") and (longest is None or number <= longest):
        return number
    limits = "above 0" if longest is None else f"above 0 and up to {longest:.0f}"
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds {limits}")


def seconds_of_a_day(text: str) -> float:
    """A number of seconds above 0, at most a day."""
    return seconds(text, 86_400)


def count(text: str) -> int:
    """A number of times, at least 1."""
    if not re.fullmatch(r"[0-9]{1,18}", text) or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)
