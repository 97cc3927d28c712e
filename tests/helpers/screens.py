"""Runs a command on a terminal of its own, of a size, and says what is on the screen: `pyte` is the terminal."""

import errno
import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
import termios
import time

import helpers

WIDER = 4
"""A line that is too long wraps, and then looks like two: on a screen so many times as wide it stands out."""

_DROPPED = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "CLICOLOR", "COLORTERM", "PYTHONUNBUFFERED")


def environment(**changes):
    """The variables of this process without those that speak of terminals, and with these; None removes one."""
    names = {name: text for name, text in os.environ.items() if name not in _DROPPED and not name.startswith("TTY_")}
    changed = names | {"TERM": "xterm-256color"} | changes
    return {name: text for name, text in changed.items() if text is not None}


class Terminal:
    """A program on a pseudo-terminal, which is its controlling one: Ctrl-C and a change of size reach it as signals.

    `program`: the words of `shmvar`; with `whole=True` the words of any program. `stdout="pipe"`: stdout is no
    terminal, and is in `printed` after the end; stdin and stderr are. Other names are variables of the environment.
    """

    def __init__(self, *program, columns=80, lines=24, stdout="terminal", whole=False, **variables):
        self.leader, follower = os.openpty()
        try:
            self.columns, self.lines = columns, lines
            self._tell_size()
            self.settings_before = termios.tcgetattr(self.leader)
            words = program if whole else (sys.executable, "-m", "shmvar", *program)
            # The terminal that the leader of a session opens is the controlling one. A `preexec_fn` would do that, too,
            # but it makes `Popen` fork, and forked children of this process count as attached to its segments.
            self.child = subprocess.Popen(
                ["sh", "-c", 'exec "$@" <>"$0"', os.ttyname(follower), *map(str, words)],
                stdin=follower,
                stdout=follower if stdout == "terminal" else subprocess.PIPE,
                stderr=follower,
                env=environment(**variables),
                start_new_session=True,
            )
        except BaseException:
            os.close(self.leader)
            raise
        finally:
            os.close(follower)
        self.raw = b""
        """All that the program has written to the terminal."""
        self.printed = b""
        self.closed = False
        """Whether the program has let go of the terminal."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        helpers.end(self.child)
        os.close(self.leader)

    def _tell_size(self):
        fcntl.ioctl(self.leader, termios.TIOCSWINSZ, struct.pack("HHHH", self.lines, self.columns, 0, 0))

    def resize(self, columns, lines):
        """Changes the size: the kernel tells the program. What is on the screen is as if it always had this size."""
        self.columns, self.lines = columns, lines
        self._tell_size()

    def type(self, text):
        """Types on the keyboard; "\\x03" is Ctrl-C."""
        os.write(self.leader, text.encode())

    def read(self, seconds=0.0):
        """Reads what the program has written; waits at most so long for something. False: there was nothing."""
        pipe = None if self.child.stdout is None or self.child.stdout.closed else self.child.stdout
        ready = select.select(([] if self.closed else [self.leader]) + [pipe] * (pipe is not None), [], [], seconds)[0]
        for source in ready:
            if source is pipe:
                more = os.read(pipe.fileno(), 1 << 16)
                self.printed += more
                if not more:
                    pipe.close()
                continue
            try:
                self.raw += os.read(self.leader, 1 << 16)
            except OSError as error:  # the last program has closed it
                assert error.errno == errno.EIO
                self.closed = True
        return bool(ready)

    def until(self, condition, seconds=30.0, what="it"):
        """Reads until the condition is true."""
        end_at = time.monotonic() + seconds * helpers.machine.SLOWER
        while not condition():
            assert time.monotonic() < end_at, f"{what} did not happen; on the screen is\n" + "\n".join(self.shown())
            if not self.read(0.05) and self.closed:
                time.sleep(0.01)
        return self

    def ended(self, status=0):
        """Waits for the end; None: any exit status."""
        done = lambda: self.closed and (self.child.stdout is None or self.child.stdout.closed)  # noqa: E731
        self.until(done, 60, "the end")
        self.child.wait(60)
        self.settings_after = termios.tcgetattr(self.leader)
        assert status in (None, self.child.returncode), f"status {self.child.returncode}: {self.shown()}"
        return self

    def interrupted(self):
        """Ctrl-C, and waits for the end."""
        os.killpg(self.child.pid, signal.SIGINT)
        return self.ended(None)

    def left_alone(self):
        """Whether the terminal is as before: its settings (echo, line by line, …), its cursor, its one screen."""
        shows = b"\x1b[?25l" not in self.raw.rpartition(b"\x1b[?25h")[2]
        main = b"\x1b[?1049h" not in self.raw.rpartition(b"\x1b[?1049l")[2]
        return self.settings_after == self.settings_before and shows and main

    def screen(self, columns=None, lines=None):
        """The screen, as pyte has it: `buffer[line][column]` has `data`, `fg`, `bold`; `cursor.hidden`, `mode`."""
        import pyte

        screen = pyte.Screen(columns or self.columns, lines or self.lines)
        stream = pyte.ByteStream(screen)
        stream.feed(self.raw)
        return screen

    def shown(self):
        """The lines on the screen, without spaces at their ends and empty lines after the last."""
        return _without_ends(self.screen().display)

    def everything(self):
        """The same of all lines, those that have left the screen at the top too."""
        return _without_ends(self.screen(lines=self.raw.count(b"\n") + self.lines).display)

    def too_long(self):
        """Lines that this terminal would have wrapped."""
        columns, lines = self.columns * WIDER, self.raw.count(b"\n") + self.lines
        buffer = self.screen(columns, lines).buffer
        beyond = [[buffer[at][column].data for column in range(self.columns, columns)] for at in range(lines)]
        return ["".join(cells).rstrip() for cells in beyond if "".join(cells).strip()]

    def coloured(self):
        """Each text on the screen that has a colour or a style, from the top: `{"text": "colour and style"}`."""
        screen = self.screen(lines=self.raw.count(b"\n") + self.lines)
        found = {}
        for at in range(screen.lines):
            run, last = "", ""
            for column in range(self.columns + 1):
                cell = screen.buffer[at][column] if column < self.columns else None
                style = _style(cell) if cell else ""
                if style != last:
                    if last and run.strip():
                        found.setdefault(run.strip(), last)
                    run, last = "", style
                run += cell.data if cell else ""
        return found

    def escapes(self):
        """Whether the program has written any escape sequence or control character but line ends."""
        return any(byte < 32 and byte not in b"\r\n" for byte in self.raw) or b"\x7f" in self.raw


def _style(cell):
    names = [cell.fg] if cell.fg != "default" else []
    names += [f"on {cell.bg}"] if cell.bg != "default" else []
    return " ".join(names + [name for name in ("bold", "reverse", "italics", "underscore") if getattr(cell, name)])


def _without_ends(lines):
    lines = [line.rstrip() for line in lines]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def run(*program, status=0, **options):
    """Runs a command to its end; returns its `Terminal`, to be asked what was shown."""
    with Terminal(*program, **options) as terminal:
        return terminal.ended(status)


EACH = """
import sys
from shmvar.cli.main import main
for words in sys.argv[1].split(";"):
    print("@@@", words.partition(",")[0], flush=True)
    main(words.split(","))
"""
"""Runs several commands in one process: `ls;show,KEY`."""


def each(*commands, **options):
    """Runs several commands, one after the other, in one process; returns its `Terminal` and the lines of each."""
    words = ";".join(",".join(map(str, command)) for command in commands)
    found = run(sys.executable, "-c", EACH, words, whole=True, **options)
    parts = "\n".join(found.everything()).split("@@@ ")[1:]
    return found, [part.splitlines()[1:] for part in parts]
