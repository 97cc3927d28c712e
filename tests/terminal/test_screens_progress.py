"""Bars of what takes a while: on a terminal only, on stderr, and nothing is left of one at the end."""

import io
import re
import sys
import types

import pytest
from helpers import screens

import shmvar
from shmvar.cli import printing, progress

SLOW = """
import sys, time
from shmvar.cli import progress
from shmvar.cli.main import main
progress.SHOWN_AFTER = progress.EVERY = 0.0
sys.exit(main(sys.argv[1:]))
"""


class Terminal(io.StringIO):
    """A stderr that is a terminal, of 80 columns as far as anybody knows."""

    encoding = "utf-8"

    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    found = Terminal()
    # Not in `sys` itself: pytest sets that one anew before the test begins.
    monkeypatch.setattr(progress, "sys", types.SimpleNamespace(stderr=found))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return found


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes when it is told to."""

    class Clock:
        now = 100.0

        def monotonic(self):
            return self.now

    found = Clock()
    monkeypatch.setattr(progress, "time", found)
    return found


def drawn(terminal):
    """Each line that was drawn, without what goes back and wipes."""
    return [re.sub(r"\x1b\[[0-9;]*[Km]", "", line).rstrip() for line in terminal.getvalue().split("\r")[1:]]


def test_it_shows_how_much_is_done_and_how_long_it_will_take(terminal, clock):
    with printing.progress("variables") as told:
        told(0, 1000)
        clock.now += 1
        told(250, 1000)
        clock.now += 1
        told(1000, 1000)
    first, second, *rest = drawn(terminal)
    assert first == "━" * 8 + "─" * 24 + "   25 %  250 of 1,000 variables, 3.0 s left"
    assert second == "━" * 32 + "  100 %  1,000 of 1,000 variables, 2.0 s"
    assert max(map(len, drawn(terminal))) < 80
    assert rest == ["", ""]  # wiped, and back at the beginning of the line


def test_bytes_have_units_and_a_total_that_is_not_known_has_no_bar(terminal, clock):
    with printing.progress("bytes") as told:
        clock.now += 10
        told(3 << 20, 12 << 20)
    assert "25 %  3.0 MiB of 12.0 MiB, 30 s left" in drawn(terminal)[0]
    with printing.progress("segments") as told:
        clock.now += 10
        told(1234, 0)
    assert "1,234 segments, 10 s" in drawn(terminal)


def test_what_is_done_in_a_moment_shows_nothing(terminal, clock):
    with printing.progress("variables") as told:
        for number in range(1000):
            told(number, 1000)
        clock.now += progress.SHOWN_AFTER * 0.9
        told(1000, 1000)
    assert terminal.getvalue() == ""


def test_it_is_drawn_at_times_and_not_for_each_call(terminal, clock):
    with printing.progress("variables") as told:
        for number in range(10_000):
            clock.now += 0.001
            told(number, 10_000)
    assert 90 <= len(drawn(terminal)) <= 102


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_error_wipes_it_too(terminal, clock, error):
    with pytest.raises(error), printing.progress("variables") as told:
        clock.now += 1
        told(1, 2)
        raise error
    assert drawn(terminal)[-2:] == ["", ""]


def test_time_goes_on_while_nothing_is_done(terminal, clock):
    with printing.progress("objects") as told:
        told(0, 3)
        for _ in range(2):
            clock.now += 5
            told()
    assert [line.split("objects, ")[1] for line in drawn(terminal)[:2]] == ["5.0 s", "10 s"]


@pytest.mark.parametrize("where", ["pipe", "dumb", "none"])
def test_without_a_terminal_nothing_is_written(monkeypatch, terminal, clock, where):
    if where == "dumb":
        monkeypatch.setenv("TERM", "dumb")
    else:
        monkeypatch.setattr(progress.sys, "stderr", io.StringIO() if where == "pipe" else None)
    with printing.progress("variables") as told:
        clock.now += 10
        told(1, 2)
    assert terminal.getvalue() == "" and (where != "pipe" or progress.sys.stderr.getvalue() == "")


def test_without_colours_it_has_no_escape_sequence_and_wipes_with_spaces(monkeypatch, terminal, clock):
    monkeypatch.setenv("NO_COLOR", "1")
    with printing.progress("variables") as told:
        clock.now += 1
        told(99, 100)
        clock.now += 10
        told(100, 100)
    pieces = terminal.getvalue().split("\r")
    assert "\x1b" not in terminal.getvalue() and pieces[3].isspace() and len(pieces[3]) >= len(pieces[2].rstrip())


# --- of commands


def slow(*words, **options):
    """Runs a command that shows each step."""
    return screens.run(sys.executable, "-c", SLOW, *words, whole=True, **options)


@pytest.mark.parametrize("width", [30, 80, 200])
def test_a_copy_shows_its_progress_and_leaves_nothing_of_it(seg, new_key, width):
    seg.update(dict.fromkeys(range(50), 1))
    found = slow("copy", seg.key, new_key(), columns=width)
    assert b" of 50 variables" in found.raw and found.shown() == [] and found.left_alone()
    assert found.too_long() == [] and all(len(line) < width for line in drawn(io.StringIO(found.raw.decode())))


def test_the_doctor_shows_how_many_objects_it_has_looked_at(seg, private_shm):
    found = slow("doctor", stdout="pipe")
    assert b"0 of 1 objects" in found.raw and found.shown() == []
    assert found.printed.decode().splitlines()[-1] == "healthy"


def test_an_error_stands_alone_on_the_screen(seg, new_key):
    seg.update({number: bytes(1000) for number in range(50)})
    found = slow("copy", seg.key, new_key(), "--size", "20K", status=1)
    assert found.shown()[0].startswith("shmvar: ") and found.left_alone()
    shmvar.destroy(seg.key)
