"""What `watch` has on a terminal: a line a change, in columns. Imported only there: it needs `rich`."""

import datetime
import sys
from collections.abc import Iterable

from rich.cells import cell_len
from rich.text import Text

from shmvar import _text
from shmvar.cli.screen import GAP, Screen, of_type

NARROW = 60  # cells: below, there are no parts of seconds and no versions
TINY = 32  # cells: below, there are no times
VERSION = 7
LEAST_INDEX = 8


class Lines:
    """Prints changes, each in one line of the terminal's width at that moment."""

    def __init__(self, screen: Screen, indexes: Iterable[int | str]) -> None:
        self._screen = screen
        self._index = max((cell_len(_text.one_line(repr(index))) for index in indexes), default=0)
        self._version = VERSION
        own = screen.own
        self._print(own("TIME", "title"), own("INDEX", "title"), own("VERSION", "title"), own("VALUE", "title"))

    def change(self, index: int | str, version: int, kind: str, text: str, error: str | None, *, refused: bool) -> None:
        """Prints a change to a value of type `kind`. Version 0: it was removed.

        `error`: why it cannot be shown; `refused`: because reading it would run code.
        """
        screen = self._screen
        precision = "seconds" if screen.width < NARROW else "milliseconds"
        now = datetime.datetime.now().time().isoformat(precision)
        if error is not None:
            value = screen.text(f"<{error}>", "code" if refused else "bad")
        else:
            # What is cut anyway need not be looked at character by character.
            value = screen.text(text[: screen.width * 4], of_type(kind) if version else "secondary")
        shown = screen.text(repr(index))
        self._index = max(self._index, cell_len(shown.plain))
        self._print(screen.own(now, "secondary"), shown, screen.own(str(version), "secondary"), value)
        sys.stdout.flush()

    def _print(self, time: Text, index: Text, version: Text, value: Text) -> None:
        screen, width = self._screen, self._screen.width
        line = screen.own("")
        if width >= TINY:
            line.append_text(self._column(time, 8 if width < NARROW else 12))
        line.append_text(self._column(index, max(min(self._index, width // 3), LEAST_INDEX)))
        if width >= NARROW:
            self._version = max(self._version, len(version))  # on a server they are long
            line.append(" " * (self._version - len(version))).append_text(self._column(version, len(version)))
        screen.print(screen.cut(line.append_text(value)))

    def _column(self, text: Text, width: int) -> Text:
        text = self._screen.cut(text, width)
        return text.copy().append(" " * (width - cell_len(text.plain) + GAP))
