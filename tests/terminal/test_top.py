"""`shmvar top` on a terminal: what it shows, at any size, and that the terminal is left as it was, however it ends."""

import contextlib
import json
import subprocess
import sys

import helpers
import pytest
from helpers.live_screens import LiveTerminal

import shmvar

pytestmark = pytest.mark.usefixtures("private_shm")

WRITER = """
s = shmvar.attach(key)
print('go', flush=True)
for _ in sys.stdin:
    for _ in range(1000):
        s.add('n', 1)
    print('done', flush=True)
"""


@contextlib.contextmanager
def top(*words, columns=80, lines=24, interval=0.1, **options):
    """`shmvar top` once it shows facts."""
    with LiveTerminal("top", "--interval", interval, *words, columns=columns, lines=lines, **options) as terminal:
        terminal.until(lambda: any("segment" in line for line in terminal.shown()[:1]) and shows(terminal, "changes/s"))
        yield terminal


def shows(terminal, text):
    return any(text in line for line in terminal.shown())


def row(terminal, key):
    """The row of a segment, whose key may be cut."""
    return next((line for line in terminal.shown() if line.startswith(repr(key)[:10])), None)


def quit(terminal, key="q", status=0):
    terminal.type(key)
    terminal.ended(status)
    assert terminal.left_alone()


@pytest.mark.parametrize(("columns", "lines"), [(40, 10), (80, 24), (200, 50), (20, 5), (7, 2), (1, 1)])
def test_the_screen_is_filled_and_no_line_is_longer(seg, key, columns, lines):
    seg["n"] = 1
    with LiveTerminal("top", "--interval", 0.1, columns=columns, lines=lines) as terminal:
        terminal.until(lambda: terminal.raw.count(b";1H") >= lines)
        for key_pressed in " ?\x1b[B":
            terminal.type(key_pressed)
            terminal.read(0.1)
        assert not terminal.too_long()
        quit(terminal)


@pytest.mark.parametrize(
    ("columns", "titles"), [(40, "KEY USE CHG/S PROCS"), (80, "KEY VARS USED USE CHG/S PROCS WAIT")]
)
def test_what_matters_most_fits(seg, key, columns, titles):
    seg["n"] = 1
    with top(columns=columns) as terminal:
        terminal.until(lambda: title_of(terminal).replace("▼", "").split() == titles.split())
        last = "1" if columns == 40 else "0"
        terminal.until(lambda: row(terminal, key) is not None and row(terminal, key).split()[-1] == last)
        quit(terminal)


def test_on_a_wide_screen_there_is_everything(seg, key):
    seg["n"] = bytes(40_000)
    views = [seg.view("n")]
    seg["n"] = 1
    with top(columns=200, lines=50) as terminal:
        titles = "KEY VARS USED SIZE USE CHG/S PROCS WAIT HELD MEMORY STATE"
        terminal.until(lambda: title_of(terminal).replace("▼", "").split() == titles.split())
        terminal.until(lambda: row(terminal, key) is not None and "usable" in row(terminal, key))
        size = shmvar.attach(key).info().held >> 10
        terminal.until(lambda: f"{size}.0 KiB" in row(terminal, key))
        quit(terminal)
    del views


def test_changes_a_second_are_counted_over_the_time_that_passed(seg, key, children):
    child = helpers.start(WRITER, key)
    children.append(child)
    with top("--sort", "key", interval=0.5) as terminal:
        terminal.until(lambda: row(terminal, key) is not None and " 0 " in row(terminal, key))
        rates = set()

        def enough():
            found = row(terminal, key)
            rates.add(found.split()[-3] if found else "0")
            return any(rate not in ("0", "-") for rate in rates)

        child.stdin.write("go\n")
        child.stdin.flush()
        terminal.until(enough)
        (rate,) = [float(rate.replace(",", "")) for rate in rates if rate not in ("0", "-")]
        # 1,000 changes in about half a second, or in longer if the machine is busy, or in two looks, one of them late.
        assert 10 < rate <= 20_000
        quit(terminal)


def test_lines_of_json_count_the_changes(seg, key, children):
    child = helpers.start(WRITER, key)
    children.append(child)

    process = subprocess.Popen(
        [sys.executable, "-m", "shmvar", "top", key, "--json", "--interval", "0.2"], stdout=subprocess.PIPE, text=True
    )
    children.append(process)
    first = json.loads(process.stdout.readline())
    child.stdin.write("go\n")
    child.stdin.flush()
    changes, before = 0, first["segments"][0]["changes"]
    while changes < 1_000:
        (segment,) = json.loads(process.stdout.readline())["segments"]
        assert segment["key"] == key and segment["attached"] == 2 and segment["waiting"] == 0
        assert (segment["changes_per_second"] > 0) == (segment["changes"] > before + changes)
        changes = segment["changes"] - before
    assert changes == 1_000


def test_keys_sort_reverse_pause_and_explain(new_key):
    keys = [new_key(int) for _ in range(3)]
    made = [shmvar.attach(key, 1 << 20) for key in keys]
    for segment, count in zip(made, (2, 3, 1), strict=True):
        segment.put_many(dict.fromkeys(range(count), 0))

    def order(terminal):
        rows = [(line.split() or [""])[0] for line in terminal.shown()[3:6]]
        return [keys.index(int(name)) for name in rows] if all(name.isdigit() for name in rows) else rows

    with top("--sort", "key") as terminal:
        terminal.until(lambda: len(terminal.shown()) > 6 and order(terminal) == [0, 1, 2])
        for typed, mark, wanted in ((">", "▼VARS", [1, 0, 2]), ("r", "▲VARS", [2, 0, 1]), ("<", "KEY ▼", [2, 1, 0])):
            terminal.type(typed)
            terminal.until(lambda mark=mark, wanted=wanted: mark in title_of(terminal) and order(terminal) == wanted)
        terminal.type("p")
        terminal.until(lambda: shows(terminal, " paused ") and not terminal.read(0.3))
        made[0]["more"] = 1
        assert not terminal.read(0.3) and row_of(terminal, keys[0])[1] == "2"
        terminal.type("p")
        terminal.until(lambda: row_of(terminal, keys[0])[1] == "3")
        terminal.type("?")
        terminal.until(lambda: shows(terminal, "sort by another column"))
        terminal.type("\x1b")
        terminal.until(lambda: not shows(terminal, "sort by another column"))
        quit(terminal)
    for segment in made:
        segment.detach()


def row_of(terminal, key):
    return next((line.split() for line in terminal.shown() if line.startswith(str(key))), ["", ""])


def title_of(terminal):
    """The line of the titles."""
    return [*terminal.shown(), "", "", ""][2]
