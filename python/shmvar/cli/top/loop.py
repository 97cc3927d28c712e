"""The live screen: waits for keys, signals, facts and time."""

import os
import signal
import sys
import time

from rich.console import Console
from rich.text import Text

from shmvar.cli.outcome import DONE
from shmvar.cli.top import columns, drawing, sorting
from shmvar.cli.top.drawing import View
from shmvar.cli.top.facts import Rates, Sample
from shmvar.cli.top.keys import Keys
from shmvar.cli.top.observer import Observer
from shmvar.cli.top.plain import refuse_missing
from shmvar.cli.top.terminal import ENDS, Interrupted, Terminal

SHM = "/dev/shm"


class Screen:
    """What is shown, and what keys and samples change in it."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.ended = False
        self._rates = Rates()

    def take(self, sample: Sample) -> None:
        """New facts. The selected segment stays selected, wherever it is now."""
        self._rates.set(sample.rows)
        view = self.view
        view.rows, view.details, view.error = sample.rows, sample.details, sample.error
        view.at = time.time()
        view.memory = _memory()
        self._sort()

    def _sort(self) -> None:
        self.view.rows = sorting.ordered(self.view.rows, self.view.order, self.view.reverse)

    def press(self, key: str, width: int, height: int) -> None:
        """A key, on a screen of this size."""
        view = self.view
        room = drawing.body_height(view, height)
        steps = {"up": -1, "k": -1, "down": 1, "j": 1, "page up": -room, "page down": room}
        far = len(view.rows) + len(drawing.HELP)
        steps |= {"home": -far, "g": -far, "end": far, "G": far}
        if key in ("q", "Q"):
            self.ended = True
        elif key in ("?", "h", "H"):
            view.helps, view.help_first = not view.helps, 0
        elif key == "escape":
            if view.helps:
                view.helps = False
            else:
                view.detailed = False
        elif key in ("space", "enter"):
            view.detailed, view.details_first = not view.detailed, 0
            view.chosen = True
            view.details = None
        elif key in ("d", "u"):
            view.details_first += 1 if key == "d" else -1  # as far as there are lines: `drawing` sees to that
        elif key in ("p", "P"):
            view.paused = not view.paused
        elif key in ("s", ">", "right", "<", "left", "r", "R"):
            if key in ("r", "R"):
                view.reverse = not view.reverse
            else:
                step = -1 if key in ("<", "left") else 1
                view.order = sorting.next_order(view.order, step, drawing.orders(view, width))
            self._sort()
        elif key in steps and view.helps:
            last = len(drawing.HELP) - drawing.help_height(height)
            view.help_first = max(min(view.help_first + steps[key], last), 0)
        elif key in steps:
            self._select(steps[key])

    def _select(self, step: int) -> None:
        rows = self.view.rows
        if rows:
            at = min(max(self._selected() + step, 0), len(rows) - 1)
            self.view.selected, self.view.chosen = rows[at].name, True
            self.view.details, self.view.details_first = None, 0

    def _selected(self) -> int:
        """Where the selected row is; the first one if there is none."""
        return next((at for at, row in enumerate(self.view.rows) if row.name == self.view.selected), 0)

    def scroll(self, room: int) -> None:
        """Makes the selected row one of those that are shown."""
        view = self.view
        if not view.rows:
            view.first = 0
            return
        if not view.chosen:
            view.first, view.selected = 0, view.rows[0].name
        selected = self._selected()
        if view.rows[selected].name != view.selected:
            # It is gone: what stands at the top now takes its place.
            selected = min(view.first, len(view.rows) - 1)
            view.selected = view.rows[selected].name
        view.first = min(max(view.first, selected - room + 1, 0), selected, max(len(view.rows) - room, 0))


class Painter:
    """Turns the lines of the screen into what a terminal is sent."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, markup=False, emoji=False)
        self._marks = columns.marks_for(sys.stdout.encoding or "ascii")

    def lines(self, screen: Screen, width: int, height: int) -> list[str]:
        """Lines with colours, or without where there are to be none."""
        screen.scroll(drawing.body_height(screen.view, height))
        drawn = drawing.frame(screen.view, width, height, self._marks)
        with self._console.capture() as capture:
            self._console.print(Text("\n").join(drawn), end="", no_wrap=True, overflow="ignore", crop=False)
        return capture.get().split("\n")


def run(wanted: list[int | str], view: View, count: int | None) -> int:
    """Shows the screen until somebody quits, or so many samples have been shown. Returns the exit status."""
    # The other process starts before this one is different from what it was.
    observer = Observer(wanted)
    try:
        with Terminal() as terminal:
            try:
                status = _shown(observer, terminal, Screen(view), count)
            except Interrupted:
                return _signals(terminal) or DONE
    finally:
        observer.close()
    if status is None:
        refuse_missing(view.rows)
    return status or DONE


def _shown(observer: Observer, terminal: Terminal, screen: Screen, count: int | None) -> int | None:
    """Shows the screen until it ends. Returns the exit status, or None if that is because of `count`."""
    view, painter, keys = screen.view, Painter(), Keys()
    due, drawn = time.monotonic(), False
    samples = 0
    while not screen.ended:
        now = time.monotonic()
        if now >= due and not view.paused:
            observer.ask(view.selected if view.detailed else None)
            due = now + view.interval
        if not drawn:
            terminal.show(painter.lines(screen, *terminal.size()))
            drawn = True
        times = [] if view.paused else [due]
        times += [observer.overdue_at] if observer.overdue_at is not None else []
        ready = terminal.wait([observer], min(times, default=now + 60) - time.monotonic())
        sample = observer.receive()
        if sample is not None and not view.paused:
            screen.take(sample)
            samples += 1
            drawn = False
            screen.ended = count is not None and samples >= count
        if "key" in ready:
            typed = terminal.typed()
            if typed is None:
                return DONE
            for key in keys.read(typed):
                screen.press(key, *terminal.size())
                drawn = False
                due = now if key in ("space", "enter", "p", "P") else due
        if "signal" in ready:
            ended = _signals(terminal)
            if ended is not None:
                return ended
            drawn = False
    if samples != count:
        return DONE
    terminal.show(painter.lines(screen, *terminal.size()))
    return None


def _signals(terminal: Terminal) -> int | None:
    """Does what signals ask for. Returns the exit status, if one of them ends the program."""
    for number in terminal.signals():
        if number == signal.SIGINT:
            return DONE  # the usual end
        if number in ENDS:
            return 128 + number
        if number == signal.SIGTSTP:
            terminal.stop()
        elif number == signal.SIGCONT and terminal.taken:
            terminal.take()
        elif number == signal.SIGWINCH:
            terminal.lines = []
    return None


def _memory() -> tuple[int, int] | None:
    """Of the memory file system: bytes in use, and all of them."""
    try:
        found = os.statvfs(SHM)
    except OSError:
        return None
    return (found.f_blocks - found.f_bfree) * found.f_frsize, found.f_blocks * found.f_frsize
