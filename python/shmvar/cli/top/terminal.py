"""Takes the terminal, gives it back however the program ends, and writes what has changed on it.

While it is taken there is a second screen (the first one comes back as it was), the cursor is not shown, and keys
arrive without Enter and are not echoed. Ctrl-C and Ctrl-Z stay signals.
"""

import contextlib
import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Sequence
from types import FrameType
from typing import Any, Self

_TAKE = "\x1b[?1049h\x1b[?25l\x1b[2J"
_GIVE_BACK = "\x1b[0m\x1b[?25h\x1b[?1049l"
_PIECE = 1024  # bytes that a terminal takes at once, if it takes any
_PATIENCE = 0.5  # seconds
ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_SIGNALS = (*ENDS, signal.SIGTSTP, signal.SIGCONT, signal.SIGWINCH)


class Interrupted(Exception):
    """A signal that ends the program arrived while the terminal took nothing (Ctrl-S, a connection that hangs)."""


class Terminal:
    """A context manager. In it, signals are noted (`signals`) instead of acted on, and `wake` is readable then.

    Writing raises `Interrupted` rather than to wait on after a signal that ends the program.
    """

    def __init__(self) -> None:
        self.out = sys.stdout.fileno()
        self.keyboard = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else None
        self.lines: list[str] = []  # what is on the screen
        self.taken = False
        self._before: list[Any] | None = None
        self._noted: list[int] = []
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self.wake, self._written = os.pipe()
        for descriptor in (self.wake, self._written):
            os.set_blocking(descriptor, False)
        try:
            self._wakeup = signal.set_wakeup_fd(self._written, warn_on_full_buffer=False)
            for number in _SIGNALS:
                self._handlers[number] = signal.signal(number, self._note)
            self.take()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self.give_back()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self.wake)
        os.close(self._written)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._noted.append(number)

    def signals(self) -> list[int]:
        """The signals since the last call."""
        self._quieten()
        noted, self._noted = self._noted, []
        return noted

    def take(self) -> None:
        """Also after the program was stopped: whatever has been written meanwhile is written over."""
        if self.keyboard is not None:
            self._before = termios.tcgetattr(self.keyboard) if self._before is None else self._before
            tty.setcbreak(self.keyboard, termios.TCSADRAIN)
        self.taken = True
        self.lines = []
        self._write(_TAKE)

    def give_back(self) -> None:
        """The terminal as it was. Where there is none any more, nothing. A second call does nothing."""
        if not self.taken:
            return
        self.taken = False
        with contextlib.suppress(OSError, termios.error):
            if not select.select([], [self.out], [], _PATIENCE)[1]:
                # As Ctrl-Q does: what Ctrl-S has stopped goes on only after it was stopped in this way, too.
                termios.tcflow(self.out, termios.TCOOFF)
                termios.tcflow(self.out, termios.TCOON)
            if select.select([], [self.out], [], _PATIENCE)[1]:
                os.write(self.out, _GIVE_BACK.encode())
        if self._before is not None and self.keyboard is not None:
            with contextlib.suppress(termios.error, OSError):
                termios.tcsetattr(self.keyboard, termios.TCSANOW, self._before)
        self._before = None

    def stop(self) -> None:
        """Ctrl-Z: gives the terminal back and stops, as the shell expects; goes on when the shell says so."""
        self.give_back()
        handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, handler)
        self.take()

    def size(self) -> tuple[int, int]:
        """Columns and lines."""
        try:
            columns, lines = os.get_terminal_size(self.out)
        except OSError:
            return 80, 24
        return columns or 80, lines or 24

    def typed(self) -> bytes | None:
        """What has been typed; None: there is nobody any more to type."""
        if self.keyboard is None:
            return b""
        try:
            return os.read(self.keyboard, 1024) or None
        except OSError:
            return None

    def show(self, lines: Sequence[str]) -> None:
        """Writes the lines that differ from those on the screen. Each has to be as wide as the screen."""
        if len(lines) != len(self.lines):
            self.lines = []
        old = [*self.lines, *[None] * (len(lines) - len(self.lines))]
        changed = [f"\x1b[{at};1H{line}" for at, line in enumerate(lines, 1) if line != old[at - 1]]
        if changed:
            self._write(("" if self.lines else "\x1b[2J") + "".join(changed))
        self.lines = list(lines)

    def _write(self, text: str) -> None:
        data = text.encode(sys.stdout.encoding or "utf-8", "backslashreplace")
        while data:
            if any(number in ENDS for number in self._noted):
                raise Interrupted
            writable = select.select([self.wake], [self.out], [])[1]
            if writable:
                data = data[os.write(self.out, data[:_PIECE]) :]
            else:
                self._quieten()

    def _quieten(self) -> None:
        """Takes what the signals have written into the pipe; they stay noted."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self.wake, 512):
                pass

    def wait(self, others: Sequence[Any], seconds: float) -> list[Any]:
        """Waits for a key, a signal or one of `others`; returns which are there: "key", "signal", or of `others`."""
        read: list[Any] = [self.wake, *others]
        if self.keyboard is not None:
            read.append(self.keyboard)
        ready = select.select(read, [], [], max(seconds, 0.0))[0]
        names: dict[Any, str] = {self.wake: "signal", self.keyboard: "key"}
        return [names.get(one, one) for one in ready]
