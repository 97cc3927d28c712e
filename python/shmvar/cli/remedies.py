"""What errors of the library advise, in the words of the command line."""

import re

_RAW = "; shmvar php get --raw prints the text"

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
    # Of segments of PHP's.
    (r"(?:\. Remedy: a larger max_\w+, if the text is trusted)?; loads\(segment\.raw\([^)]*\)[^)]*\) reads it", _RAW),
    (r"\. Remedy: a larger max_\w+, if the text is trusted", _RAW),
    (r"; raw\([^)]*\) returns the text", _RAW),
    (r" \(raw\([^)]*\) returns the text\)", " (shmvar php get --raw prints the text)"),
    (
        r"clear\(\) empties the segment, destroy\(\) removes it",
        "shmvar php clear empties the segment, shmvar php destroy removes it",
    ),
    (r"take a lock on both sides \(lock=\)", "take a semaphore on both sides (--lock)"),
    (r"Remedy: sorted\(value\) or list\(value\)", "Remedy: a list, in [] and not in {}"),
    (r"Remedy: \[value\.real, value\.imag\]", "Remedy: a list of the two parts, as in [1.5, -2.0]"),
)


def in_words(text: str) -> str:
    """The text of an error, with remedies that one can type."""
    for advised, typed in _REMEDIES:
        text = re.sub(advised, typed, text)
    return text
