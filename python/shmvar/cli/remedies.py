"""What errors of the library advise, in the words of the command line."""

import re

_REMEDIES = (
    ("attach with a larger size", r"\g<0> (on the command line: --size with put, load or copy)"),
    ("perm for group or others, or create=False", "--perm 666"),
    (
        r"use sys\.set_int_max_str_digits\(\) to increase the limit( - [^;]*)?",
        "the environment variable PYTHONINTMAXSTRDIGITS=0 lifts the limit",
    ),
    (
        r"Remedy: the int (-?[0-9]+) as the key",
        r"\g<0>: {\1: …}, and without --json, for JSON has no such keys",
    ),
    (r"attach with trust=True, if", "--trust, if"),
)


def in_words(text: str) -> str:
    """The text of an error, with remedies that one can type."""
    for advised, typed in _REMEDIES:
        text = re.sub(advised, typed, text)
    return text
