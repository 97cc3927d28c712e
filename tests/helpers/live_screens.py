"""A program on a terminal that draws on one screen for long: only what is new is drawn by `pyte`."""

import pyte

from helpers.screens import Terminal


class LiveTerminal(Terminal):
    """A `Terminal` whose `shown` costs what has been written since the last time."""

    def __init__(self, *program, **options):
        super().__init__(*program, **options)
        self._screen = pyte.Screen(self.columns, self.lines)
        self._stream = pyte.ByteStream(self._screen)
        self._drawn = 0

    def resize(self, columns, lines):
        self.screen()
        self._screen.resize(lines, columns)
        super().resize(columns, lines)

    def screen(self, columns=None, lines=None):
        if columns is not None or lines is not None:
            return super().screen(columns, lines)
        self._stream.feed(self.raw[self._drawn :])
        self._drawn = len(self.raw)
        return self._screen
