"""`shmvar top` leaves the terminal as it was, however it ends, and comes back after Ctrl-Z."""

import os
import re
import shutil
import signal
import sys

import pytest
from helpers.live_screens import LiveTerminal

pytestmark = pytest.mark.usefixtures("private_shm")


def top(*words, **options):
    terminal = LiveTerminal("top", "--interval", 0.1, *words, **options)
    terminal.until(lambda: shows(terminal, "changes/s"))
    return terminal


def shows(terminal, text):
    return any(text in line for line in terminal.shown())


@pytest.mark.parametrize("key", ["q", "Q", "\x03"])
def test_keys_that_quit(key):
    with top() as terminal:
        assert terminal.screen().cursor.hidden
        terminal.type(key)
        terminal.ended(0)
        assert terminal.left_alone()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT])
def test_signals_that_end_it(number):
    with top() as terminal:
        os.kill(terminal.child.pid, number)
        terminal.ended(0 if number == signal.SIGINT else 128 + number)
        assert terminal.left_alone()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_although_the_terminal_takes_nothing(number):
    with top() as terminal:
        terminal.type("\x13")  # Ctrl-S
        terminal.until(lambda: not terminal.read(0.6))
        os.kill(terminal.child.pid, number)
        terminal.ended(0 if number == signal.SIGINT else 128 + number)
        assert terminal.left_alone()


def test_an_error_inside_is_printed_on_the_screen_that_was_there_before():
    code = """
    import sys
    from shmvar.cli.top import drawing, loop
    from shmvar.cli import main
    drawn, calls = drawing.frame, []
    def frame(*arguments):
        calls.append(1)
        if len(calls) > 3:
            raise RuntimeError('drawn')
        return drawn(*arguments)
    drawing.frame = frame
    sys.exit(main.main(['top', '--interval', '0.1']))
    """
    with LiveTerminal(sys.executable, "-c", re.sub(r"^    ", "", code, flags=re.MULTILINE), whole=True) as terminal:
        terminal.ended(1)
        assert terminal.left_alone() and b"RuntimeError: drawn" in terminal.raw.rpartition(b"\x1b[?1049l")[2]


def test_what_is_typed_in_pieces_and_what_means_nothing_is_harmless():
    with top() as terminal:
        for piece in ("\x1b", "[", "B", "\x1b[200~x\x1b[201~", "é\x00\x7fzz\x1b[99;99R", "\x1b[<0;1;1M"):
            terminal.type(piece)
            terminal.read(0.05)
        terminal.type("?")
        terminal.until(lambda: shows(terminal, "Ctrl-C"))
        terminal.type("q")
        terminal.ended(0)
        assert terminal.left_alone()


def test_a_terminal_that_changes_its_size_is_filled_again():
    with top(columns=200, lines=50) as terminal:
        for columns, lines in ((80, 24), (40, 10), (200, 50)):
            terminal.resize(columns, lines)
            terminal.until(lambda last=lines: len(terminal.shown()) == last and " q " in terminal.shown()[-1][:4])
        terminal.type("q")
        terminal.ended(0)
        assert terminal.left_alone()


@pytest.mark.parametrize(("variables", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colours_are_left_out_where_nobody_wants_them(seg, variables, coloured):
    seg["n"] = bytes(1000)
    with top(**variables) as terminal:
        terminal.until(lambda: shows(terminal, "'test-"))
        colours = re.findall(rb"\x1b\[[0-9;]*\b(?:3[0-7]|4[0-7]|9[0-7])m", terminal.raw)
        assert bool(colours) == coloured
        assert b"\x1b[7m" in terminal.raw  # the selected row and the titles stand out in either case
        terminal.type("q")
        terminal.ended(0)


def test_a_dumb_terminal_gets_tables_and_no_escapes(seg, key):
    with LiveTerminal("top", "--interval", 0.1, "--count", 2, TERM="dumb") as terminal:
        terminal.ended(0)
        assert not terminal.escapes() and sum(line.startswith("KEY") for line in terminal.shown()) == 2
        assert terminal.left_alone()


def test_so_many_looks_and_then_it_ends_by_itself():
    with top("--count", 3) as terminal:
        terminal.ended(0)
        assert terminal.left_alone()


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
def test_ctrl_z_gives_the_terminal_back_and_fg_goes_on(tmp_path):
    with LiveTerminal("bash", "--norc", "-i", whole=True, PS1="ready ", HOME=str(tmp_path)) as terminal:
        command = f"{sys.executable} -m shmvar top --interval 0.1"
        terminal.type(f"stty -g >{tmp_path}/before; {command}\n")
        for turn in range(2):
            terminal.until(
                lambda: shows_top(terminal) and terminal.raw.rpartition(b"\x1b[?1049h")[2].count(b"changes/s")
            )
            terminal.type("\x1a")
            terminal.until(lambda turn=turn: terminal.raw.count(b"Stopped") == turn + 1)
            terminal.type(f"stty -g >{tmp_path}/stopped; echo at $((40 + 2))\n")
            terminal.until(lambda turn=turn: terminal.raw.count(b"at 42") == turn + 1)
            assert not terminal.screen().cursor.hidden and not shows_top(terminal)
            terminal.type("fg\n")
        terminal.until(lambda: shows_top(terminal))
        terminal.type("q")
        terminal.until(lambda: b"\x1b[?1049l" in terminal.raw[-200:])
        terminal.type(f"stty -g >{tmp_path}/after; exit\n")
        terminal.ended(0)
        texts = {(tmp_path / name).read_text() for name in ("before", "stopped", "after")}
        assert len(texts) == 1


def shows_top(terminal):
    """Whether the screen of the program is the one that is shown."""
    return terminal.raw.rfind(b"\x1b[?1049h") > terminal.raw.rfind(b"\x1b[?1049l")
