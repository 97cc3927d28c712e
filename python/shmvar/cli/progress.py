"""A bar on stderr that shows how far a command is: only on a terminal, only if it takes a while, and wiped at the end.

It needs no thread and no `rich`: it is drawn by the calls that tell how far it is. It never hides the cursor, so a
command that is killed leaves the terminal usable.
"""

import os
import sys
import time
from typing import TextIO

SHOWN_AFTER = 0.5  # seconds: what takes less shows nothing
EVERY = 0.1  # seconds between two drawings
WIDEST = 40  # cells of the bar
TEXT = 45  # cells that are left for the text, so that the bar has the same width all the time


class Progress:
    """Called with how many of how many are done; with nothing, to show that time passes."""

    def __init__(self, what: str, terminal: TextIO, *, escapes: bool) -> None:
        self._what = what
        self._terminal = terminal
        self._escapes = escapes
        self._began = time.monotonic()
        self._due = self._began + SHOWN_AFTER
        self._drawn = 0
        self._done, self._all = 0, 0

    def __call__(self, done: int | None = None, all: int | None = None) -> None:
        if done is not None:
            self._done = done
        if all is not None:
            self._all = all
        now = time.monotonic()
        if now >= self._due:
            self._due = now + EVERY
            self._write(*self._line(now - self._began))

    def wipe(self) -> None:
        """Removes it from the screen."""
        if self._drawn:
            self._write("", "", "")
            self._terminal.write("\r")
            self._terminal.flush()

    def _write(self, full: str, rest: str, text: str) -> None:
        """Draws over what was drawn before: the two parts of the bar, and the text."""
        length = len(full) + len(rest) + len(text)
        if self._escapes:
            bar = f"\x1b[32m{full}\x1b[0;2m{rest}\x1b[0m" if full or rest else ""
            self._terminal.write(f"\r{bar}{text}\x1b[K")
        else:
            self._terminal.write(f"\r{full}{rest}{text}{' ' * (self._drawn - length)}")
        self._terminal.flush()
        self._drawn = max(length, 1)

    def _line(self, passed: float) -> tuple[str, str, str]:
        from shmvar import _text

        number = _text.size if self._what == "bytes" else _text.number
        what = "" if self._what == "bytes" else f" {self._what}"
        if not self._all:
            return self._fitting(f"{number(self._done)}{what}, {_text.seconds(passed)}", 0.0)
        share = min(max(self._done / self._all, 0.0), 1.0)
        counts = f"{int(share * 100):>3} %  {number(self._done)} of {number(self._all)}{what}"
        if 0 < share < 1:
            return self._fitting(f"{counts}, {_text.seconds(passed / share * (1 - share))} left", share)
        return self._fitting(f"{counts}, {_text.seconds(passed)}", share)

    def _fitting(self, text: str, share: float) -> tuple[str, str, str]:
        """A bar before the text, where there is room for both; one cell of the line stays free, so nothing wraps."""
        try:
            width = os.get_terminal_size(self._terminal.fileno()).columns
        except (OSError, ValueError):
            width = 0
        width = (width or 80) - 1
        room = min(width - max(len(text), TEXT) - 2, WIDEST)
        if room < 5 or not self._all:
            return "", "", text[:width]
        full, rest = ("━", "─") if (self._terminal.encoding or "").lower().startswith("utf") else ("=", ".")
        cells = int(share * room)
        return full * cells, rest * (room - cells), f"  {text}"


def for_terminal(what: str, *, escapes: bool) -> Progress | None:
    """The bar, where stderr is a terminal."""
    if sys.stderr is None or not sys.stderr.isatty():
        return None
    return Progress(what, sys.stderr, escapes=escapes)
