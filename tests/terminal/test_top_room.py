"""`shmvar top` where there is little room: nothing is out of reach. And what it says of keys that do not exist."""

import json
import re
import subprocess
import sys

import pytest
from helpers.live_screens import LiveTerminal

import shmvar
from shmvar.cli.top import columns, sorting
from shmvar.cli.top.details import lines
from shmvar.cli.top.facts import Details, Row

pytestmark = pytest.mark.usefixtures("private_shm")

LONG = "http://localhost:8080/t/x"


def top(*words, **options):
    terminal = LiveTerminal("top", "--interval", 0.1, *words, **options)
    terminal.until(lambda: shows(terminal, "segment"))
    return terminal


def shows(terminal, text):
    return any(text in line for line in terminal.shown())


def ended(terminal, status=0):
    terminal.type("q")
    terminal.ended(status)
    assert terminal.left_alone() and not terminal.too_long()


def test_the_help_is_whole_on_forty_columns_and_scrolls_on_fewer_lines(seg):
    with top(columns=40, lines=12) as terminal:
        terminal.type("?")
        terminal.until(lambda: shows(terminal, "q, Ctrl-C      quit") and shows(terminal, "this list, or no more"))
        assert not shows(terminal, "…") and shows(terminal, "sort by another column")
        terminal.type(" ")  # the details are not drawn over it
        terminal.until(lambda: not terminal.read(0.3) and shows(terminal, "this list, or no more"))
        terminal.resize(40, 8)
        terminal.until(lambda: len(terminal.shown()) == 8 and not shows(terminal, "this list"))
        assert shows(terminal, "q, Ctrl-C")
        terminal.type("G")
        terminal.until(lambda: shows(terminal, "this list, or no more") and not shows(terminal, "Ctrl-C"))
        terminal.type("g")
        terminal.until(lambda: shows(terminal, "q, Ctrl-C"))
        ended(terminal)


@pytest.mark.parametrize(("columns", "lines"), [(40, 12), (80, 24)])
def test_details_are_broken_into_lines_and_scrolled(seg, key, columns, lines):
    for number in range(30):
        seg[f"the variable of number {number}"] = number
    seg.lock("some lock").acquire()
    with top(key, columns=columns, lines=lines) as terminal:
        terminal.type(" ")
        terminal.until(lambda: shows(terminal, "size") and shows(terminal, "more lines: d"))
        seen = ""
        for _ in range(40):
            seen += "\n".join(terminal.shown())
            if not shows(terminal, "more line"):
                break
            before = terminal.shown()
            terminal.type("d")
            terminal.until(lambda before=before: terminal.shown() != before)
        for text in ("some lock", "last change", "number 29", "number 10'", "created", "mode 600"):
            assert text in seen, text
        assert not any("…" in line for line in terminal.shown()[5:])
        terminal.type("u" * 40)
        terminal.until(lambda: shows(terminal, "more lines: d"))
        ended(terminal)
    seg.lock("some lock").release()


def test_a_fact_of_any_text_is_broken_between_words_and_nothing_is_lost():
    row = Row("n", "北京" * 30, "usable", used=1, size=100, perm=0o600)
    words = ["x" * 90, "北京" * 50, "a b  c", "\x1b[2J"]
    details = Details("n", changed=[(word, "str", 1) for word in words])
    for width in (1, 2, 3, 14, 15, 39, 40, 80, 200):
        drawn = lines(row, details, width, whole_name=True)
        if width >= 39:
            assert all(line.cell_len <= width for line in drawn), width
            text = re.sub(r"\s", "", "".join(line.plain for line in drawn))
            for word in words[:2]:
                assert word in text
            assert "\\x1b[2J" in text and "\x1b" not in text


def test_a_long_key_is_whole_on_eighty_columns():
    with shmvar.attach(LONG, 1 << 20), top(columns=80) as terminal:
        terminal.until(lambda: shows(terminal, repr(LONG)))
        assert not shows(terminal, "HELD")
        ended(terminal)
    shmvar.destroy(LONG)


def test_memory_that_views_hold_has_its_column_and_a_key_that_is_cut_is_whole_in_the_details():
    key = "key " * 20
    with shmvar.attach(key, 1 << 20) as segment:
        segment["n"] = bytes(40_000)
        view = segment.view("n")
        segment["n"] = 1
        with top(key, columns=80) as terminal:
            terminal.until(lambda: shows(terminal, "HELD") and shows(terminal, "…"))
            terminal.type(" ")
            told = lambda: " ".join(" ".join(terminal.shown()).split())  # noqa: E731
            terminal.until(lambda: repr(key)[:-2] in told())
            ended(terminal)
        del view
    shmvar.destroy(key)


def test_only_columns_that_are_shown_are_sorted_by_and_another_order_is_named(seg):
    with top("--sort", "memory", columns=80) as terminal:
        terminal.until(lambda: shows(terminal, "by memory") and not shows(terminal, "MEMORY"))
        terminal.type("s")
        terminal.until(lambda: shows(terminal, "KEY ▲"))
        for _ in range(7):
            terminal.type("s")
            terminal.until(lambda: not terminal.read(0.15))
            assert sum(line.count("▼") + line.count("▲") for line in terminal.shown()) == 1
        ended(terminal)


def test_the_next_order_is_one_that_is_shown():
    shown = {"key", "full", "changes"}
    assert [sorting.next_order("memory", step, shown) for step in (1, -1)] == ["key", "changes"]
    assert [sorting.next_order("full", step, shown) for step in (1, -1)] == ["changes", "key"]
    assert sorting.next_order("key", 1, {"key"}) == "key"


def test_keys_have_room_before_what_says_nothing():
    for width in (40, 80, 100, 120, 200):
        for longest in (1, 20, 60, 200):
            plan = columns.layout(width, longest, ("HELD",))
            least = min(longest, width // 3, columns.MOST_KEY)
            assert plan.key >= least, (width, longest)
            assert plan.key + sum(room + plan.gap for _, room in plan.columns) <= width


@pytest.mark.parametrize("words", [["--once"], ["--count", "1"], ["--json", "--count", "1"]])
def test_a_key_that_does_not_exist_is_an_error_where_it_ends_by_itself(seg, key, words):
    command = [sys.executable, "-m", "shmvar", "top", *words, "--interval", "0.05", "missing", key]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (1, "shmvar: no segment with key 'missing'\n")
    if "--json" in words:
        states = {row["key"]: row["state"] for row in json.loads(done.stdout)["segments"]}
        assert states == {"missing": "missing", key: "usable"}
    else:
        assert "'missing'\t-" in done.stdout and f"{key!r}\t0" in done.stdout
    command.remove("missing")
    assert subprocess.run(command, capture_output=True, timeout=60).returncode == 0


def test_what_is_missing_is_not_counted_and_is_told_at_the_end(seg, key):
    with top("missing", key, "--count", 5, columns=100) as terminal:
        terminal.until(lambda: shows(terminal, "1 segment, 1 missing"))
        terminal.ended(1)
        assert terminal.left_alone() and b"no segment with key 'missing'" in terminal.raw.rpartition(b"\x1b[?1049l")[2]


def test_tables_on_a_dumb_terminal_have_numbers_at_the_right_and_the_time():
    name = "http://localhost/t/x"
    with shmvar.attach(name, 1 << 20) as segment:
        segment["n"] = 1
        with LiveTerminal("top", "--interval", 0.1, "--count", 2, TERM="dumb") as terminal:
            terminal.ended(0)
            shown = [line for line in terminal.shown() if line]
    shmvar.destroy(name)
    times, titles, rows = shown[::3], shown[1::3], shown[2::3]
    assert len(rows) == 2 and all(re.fullmatch(r"\d\d:\d\d:\d\d", time) for time in times)
    for title, row in zip(titles, rows, strict=True):
        assert row.startswith(f"{name!r} ") and row.endswith("usable")
        assert row[title.index("VARS") + 3] == "1" and title.startswith("KEY ")
