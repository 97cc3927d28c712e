"""`shmvar demo` on narrow terminals: words are whole, and so are numbers."""

import re

import pytest
from helpers import screens

from shmvar.cli.demo import show
from shmvar.cli.demo.stage import Account

GOOD = Account(6.0, 1_234_567, 765_432, 61, 0, 0, 0, 12.3, "ok")
BAD = GOOD._replace(lost=3, died=2, check="damaged: " + "a reason with many words " * 5)
WIDTHS = [30, 40, 50, 63, 64, 80, 120]


class Stage:
    """What a table is made of, in which all numbers are large."""

    def __init__(self):
        class Process:
            pid = 4_194_303

        self.workers = [Process] * show.board.WORKERS
        self.words = [1_234_567] * show.board.SIZE
        self.killed = [321] * show.board.WORKERS


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("account", [GOOD, BAD], ids=["good", "bad"])
def test_the_account_is_wrapped_between_words(account, width):
    shown = show.text(account, width)
    assert all(len(line) <= width for line in shown.splitlines())
    assert shown.split() == show.text(account).split()


def test_in_a_pipe_each_fact_is_one_line():
    lines = show.text(BAD).splitlines()
    assert [line.split()[0] for line in lines[1:10]] == [
        *("put", "got", "killed", "lost", "torn", "speed", "longest", "check", "died")
    ]
    assert lines[1].startswith("  put        1,234,567  values of up to ")


@pytest.mark.parametrize("width", range(20, 121, 5))
def test_the_table_leaves_out_columns_and_cuts_no_number(width):
    from rich.console import Console

    console = Console(width=width, file=None, force_terminal=False)
    with console.capture() as captured:
        console.print(show.table(Stage(), 1.0, 6.0, width))
    lines = [line for line in captured.get().splitlines() if line.strip()]
    titles = next(line for line in lines if "process" in line).split()
    full = ["process", "pid", "put", "got", "killed", "lost", "torn"]
    assert titles == [title for title in full if title in titles] and "put" in titles
    assert (titles == full) == (width >= 70)
    numbers = {"1,234,567", "4194303", "321", "writer", "reader"}
    rows = [line.split() for line in lines if re.match(r" *(writer|reader)", line)]
    assert len(rows) == show.board.WORKERS and {word for row in rows for word in row} <= numbers
    assert all(len(row) == len(titles) for row in rows)


@pytest.mark.parametrize("variables", [{}, {"NO_COLOR": "1"}], ids=["live", "lines"])
def test_on_a_terminal_of_40_columns_no_word_is_cut(private_shm, variables):
    with screens.Terminal("demo", "--seconds", "2", columns=40, lines=60, **variables) as terminal:
        terminal.ended(0)
        raw = terminal.raw.decode()
        assert "…" not in raw
        shown = [line.rstrip() for line in terminal.shown()]
    text = " ".join(" ".join(shown).split())
    assert "another takes its place. Each value has its number and a checksum." in text
    assert "an older one or none is there" in text and "Nothing lost, nothing torn." in text
