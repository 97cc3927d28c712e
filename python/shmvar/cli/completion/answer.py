"""Answers a shell that asks what may stand at the cursor: `shmvar __complete SHELL LINE [WORDBREAKS]`.

LINE is what is typed up to the cursor. The first line of the answer is `files`, for names of files, or `words`; each
line after it is a word: for bash as it is to be inserted, for the others as it is, a tab, and what it means. No word
has a control character. Where anything goes wrong there is no answer: a TAB must not write over what somebody types.
"""

import re
import signal
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from shmvar.cli.completion import bash_words, line, place
from shmvar.cli.outcome import DONE
from shmvar.cli.parser import Commands

ASKED = "__complete"
"""The first word of the question."""

_LONGEST = 2.0  # seconds: a writer may be stopped in the middle of a change
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\+?=")


def answer(words: Sequence[str], commands: Callable[[], Commands]) -> int:
    """Prints the answer to these words, which follow `ASKED`."""
    signal.signal(signal.SIGALRM, _give_up)
    signal.setitimer(signal.ITIMER_REAL, _LONGEST)
    try:
        text = "\n".join(_lines(*words, commands=commands))
        print(text, flush=True)
    except (Exception, KeyboardInterrupt, SystemExit):
        pass
    return DONE


def _give_up(_signal: int, _frame: object) -> NoReturn:
    raise SystemExit(0)


def _lines(shell: str, typed_line: str, breaks: str = "", *, commands: Callable[[], Commands]) -> list[str]:
    read = line.read(typed_line, fish=shell == "fish")
    if read.to_file:
        return ["files"]
    words = read.words
    while words and words[0] is not None and _ASSIGNMENT.match(words[0]):
        words = words[1:]
    if read.typed is None or not words:
        return ["words"]
    found = place.offers(commands().parser, words[1:], read.typed)
    if found is place.FILES:
        return ["files"]
    if shell == "bash":
        return ["words", *bash_words.inserted([word for word, _ in found], typed_line, read, breaks)]
    return ["words", *(f"{word}\t{about}" if about else word for word, about in found)]


def asked(words: Sequence[str] | None) -> Sequence[str] | None:
    """What follows `ASKED` in a command line (of this process's if `words` is None); None if it is no question."""
    words = sys.argv[1:] if words is None else words
    return words[1:] if words[:1] in ([ASKED], (ASKED,)) else None
