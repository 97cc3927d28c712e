"""`shmvar top` and segments that come and go, are many, hostile, damaged, refused or held up: it disturbs nobody."""

import json
import os
import signal
import subprocess
import sys

import helpers
import pytest
from helpers.live_screens import LiveTerminal

import shmvar
from shmvar._core import _activity
from shmvar.cli.top import columns, sorting
from shmvar.cli.top.facts import Rates, Row
from shmvar.cli.top.keys import Keys

pytestmark = pytest.mark.usefixtures("private_shm")

HOSTILE = [
    "\x1b[2J\x1b]0;title\x07",
    "\u202eright to left",
    "a\nb\tc",
    "[bold red]markup[/]",
    "北京" * 20,
    "\x9b31m",
    "x" * 120,
]


def top(*words, **options):
    terminal = LiveTerminal("top", "--interval", 0.1, *words, **options)
    terminal.until(lambda: shows(terminal, "changes/s"))
    return terminal


def shows(terminal, text):
    return any(text in line for line in terminal.shown())


def ended(terminal):
    terminal.type("q")
    terminal.ended(0)
    assert terminal.left_alone() and not terminal.too_long()


def looked_at(*words, status=0):
    """What one look says, by key."""
    command = [sys.executable, "-m", "shmvar", "top", "--json", "--once", "--interval", "0.05", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == status, done.stderr
    return {row["key"] if row["key"] is not None else row["name"]: row for row in json.loads(done.stdout)["segments"]}


def test_keys_of_all_kinds_are_harmless_text(new_key):
    try:
        for text in HOSTILE:
            shmvar.attach(text, 1 << 20).detach()
        with top("--sort", "key", columns=80) as terminal:
            terminal.until(lambda: shows(terminal, f"{len(HOSTILE)} segments") and shows(terminal, "'[bold red]ma"))
            terminal.type("G ")
            terminal.until(lambda: shows(terminal, "processes "))
            raw = terminal.raw
            assert (
                b"\x1b]" not in raw and b"\x07" not in raw and "\u202e".encode() not in raw and b"\xc2\x9b" not in raw
            )
            ended(terminal)
    finally:
        for text in HOSTILE:
            shmvar.destroy(text)


def test_segments_that_come_go_and_come_again_are_followed(seg, new_key):
    with top() as terminal:
        terminal.until(lambda: shows(terminal, "1 segment "))
        for _ in range(3):
            key = new_key()
            with shmvar.attach(key, 1 << 20):
                terminal.until(lambda: shows(terminal, "2 segments"))
            shmvar.destroy(key)
            terminal.until(lambda: shows(terminal, "1 segment "))
        ended(terminal)


def test_two_hundred_segments_are_scrolled(new_key):
    made = [shmvar.attach(key, 1 << 20) for key in (new_key(int) for _ in range(200))]
    keys = sorted(segment.key for segment in made)
    with top("--sort", "key", lines=24) as terminal:
        terminal.until(lambda: shows(terminal, "200 segments") and shows(terminal, str(keys[0])))
        terminal.type("G")
        terminal.until(lambda: shows(terminal, str(keys[-1])) and not shows(terminal, str(keys[0])))
        terminal.type("\x1b[5~")
        terminal.type("k")
        terminal.until(lambda: shows(terminal, str(keys[-22])))
        terminal.type("gr")
        terminal.until(lambda: shows(terminal, str(keys[0])))
        ended(terminal)
    for segment in made:
        segment.detach()


def test_what_is_no_sound_segment_is_listed_with_the_reason(seg, key, new_key):
    short, foreign = new_key(), new_key()
    with shmvar.attach(short, 1 << 20) as segment:
        path = helpers.path_of(segment)
    os.truncate(path, 100)
    with open(str(path).replace(short, foreign), "w") as file:
        file.write("nothing of ours " * 100)
    found = looked_at()
    assert [found[name]["state"] for name in (key, short, foreign)] == ["usable", "damaged", "foreign"]
    assert found[short]["changes_per_second"] is None and found[foreign]["why"]
    with top() as terminal:
        terminal.until(lambda: shows(terminal, "damaged: ") and shows(terminal, "foreign: "))
        terminal.type("G k k ")
        ended(terminal)
    assert looked_at("no such key", status=1)["no such key"]["state"] == "missing"


@pytest.mark.skipif(not helpers.IS_ROOT, reason="needs root, for another user")
def test_a_segment_that_this_user_may_not_read_is_refused_and_nothing_more(seg, key):
    modules = "from shmvar.cli import main\nfrom shmvar.cli.top import plain\nimport datetime, json\nmain.commands()\n"
    drop = modules + helpers.as_user()["drop"]
    done = helpers.run("sys.exit(main.main(['top', '--json', '--once', '--interval', '0.05']))", drop=drop)
    (row,) = json.loads(done.stdout)["segments"]
    assert row["state"] == "refused" and row["key"] is None and row["changes_per_second"] is None


@pytest.mark.skipif(not helpers.IS_ROOT, reason="needs root, for another user")
@pytest.mark.parametrize("key", ["test-refused", 880001, "é" * 60], ids=["text", "number", "hashed"])
def test_a_key_of_a_segment_that_this_user_may_not_read_is_not_missing(key, new_key):
    modules = "from shmvar.cli import main\nfrom shmvar.cli.top import plain\nimport datetime, difflib, json\n"
    drop = f"{modules}main.commands()\n" + helpers.as_user()["drop"]
    code = "sys.exit(main.main(['top', '--json', '--once', '--interval', '0.05', *sys.argv[1:]]))"
    with shmvar.attach(key, 1 << 20), shmvar.attach(new_key(), 1 << 20):
        try:
            done = helpers.run(code, key, drop=drop)
            (row,) = json.loads(done.stdout)["segments"]
            assert (row["state"], row["why"]) == ("refused", "this user may not read it")
            assert row["key"] == key and row["changes_per_second"] is None and row["resident"] > 0
            done = helpers.run(code, key, "no such key", drop=drop, check=False)
            assert done.returncode == 1 and "'no such key'" in done.stderr
            assert {row["state"] for row in json.loads(done.stdout)["segments"]} == {"refused", "missing"}
        finally:
            shmvar.destroy(key)


def test_a_look_takes_no_number_wakes_nobody_and_changes_nothing(seg, key):
    seg["n"] = 1
    before, mark = _activity(seg), os.stat(helpers.path_of(seg)).st_mtime_ns
    found = looked_at(key)[key]
    assert _activity(seg) == before and os.stat(helpers.path_of(seg)).st_mtime_ns == mark
    assert (found["attached"], found["count"], found["changes_per_second"]) == (1, 1, 0)


def test_a_stopped_writer_holds_nothing_up_and_is_named(seg, key, children):
    seg["n"] = 1
    child = helpers.start("s = shmvar.attach(key)\nprint('go', flush=True)\nsys.stdin.read()", key)
    children.append(child)
    with helpers.Raw(seg) as raw:
        raw.hold_lock(child.pid)
        os.kill(child.pid, signal.SIGSTOP)
        with top(key, columns=200) as terminal:
            terminal.type(" ")
            terminal.until(lambda: shows(terminal, f"process {child.pid} writes"))
            terminal.until(lambda: shows(terminal, "has the writer lock"))
            with helpers.promptly():
                ended(terminal)
        raw.free_lock()


def test_details_name_processes_locks_and_what_changed_last(seg, key, children):
    child = helpers.start(helpers.HOLD_A_LOCK, key)
    children.append(child)
    seg["first"], seg["\x1blast"] = 1, "text"
    with top(key, columns=120, lines=30) as terminal:
        terminal.type(" ")
        terminal.until(lambda: shows(terminal, "last change"))
        text = "\n".join(terminal.shown())
        assert f"locks        'a' by {child.pid} " in text and str(os.getpid()) in text
        assert "'\\x1blast' (str), 'first' (int)" in text
        ended(terminal)


SAMPLES = """
from shmvar.cli.top import looking, observer
from shmvar.cli.top.observer import Observer
import json, select
observer.SLOW = 1.0
def activity(facts, real=looking.activity):
    if facts["key"] == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGBUS) if sys.argv[3] == "dies" else time.sleep(600)
    return real(facts)
looking.activity = activity
import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
seen = Observer([])
for _ in range(2):
    seen.ask()
    while (sample := seen.receive()) is None:
        select.select([seen], [], [], 0.1)
    print(json.dumps({row.key: [row.state, row.changes] for row in sample.rows}))
seen.close()
seen.close()
"""


@pytest.mark.parametrize(("how", "state"), [("dies", "damaged"), ("sleeps", "busy")])
def test_a_segment_that_kills_or_stops_a_look_is_left_alone_and_the_others_are_shown(seg, key, new_key, how, state):
    other = new_key()
    with shmvar.attach(other, 1 << 20) as there:
        there["n"] = 1
        first, second = map(json.loads, helpers.run(SAMPLES, "", key, how).stdout.splitlines())
    assert first[key] == second[key] == [state, None]
    assert second[other] == ["usable", 1]


def test_rates_are_over_the_time_that_passed_and_unknown_for_a_new_segment():
    def row(name, changes, seen_at, created_at=1.0):
        return Row(name, name, "usable", changes=changes, seen_at=seen_at, created_at=created_at)

    rates = Rates()
    first = [row("a", 100, 10.0), row("b", 5, 10.0), row("c", 5, 10.0)]
    rates.set(first)
    assert [each.rate for each in first] == [None] * 3
    second = [row("a", 350, 12.5), row("b", 5, 12.0, created_at=2.0), row("c", 4, 12.0), row("d", 7, 12.0)]
    rates.set(second)
    assert [each.rate for each in second] == [100.0, None, None, None]
    again = [row("b", 25, 13.0, created_at=2.0)]
    rates.set(again)
    assert again[0].rate == 20.0


def test_rows_are_sorted_by_any_column_and_what_is_unknown_is_last():
    rows = [Row("b", "b", "usable", count=1, rate=5.0), Row("a", 7, "usable", count=9), Row("x", None, "foreign")]
    rows.append(Row("c", "a", "usable", count=4, rate=0.0))
    for order, reverse, names in (
        ("key", False, "acbx"),
        ("key", True, "bcax"),
        ("vars", False, "acbx"),
        ("vars", True, "bcax"),
        ("changes", False, "bcax"),
        ("changes", True, "cbax"),
        ("held", False, "acbx"),
    ):
        assert "".join(row.name for row in sorting.ordered(rows, order, reverse)) == names, (order, reverse)
    order = sorting.DEFAULT
    for _ in sorting.ORDERS:
        order = sorting.next_order(order, 1)
    assert order == sorting.DEFAULT and sorting.next_order(sorting.next_order(order, 1), -1) == order


def test_a_key_that_arrives_in_pieces_is_one_key():
    keys = Keys()
    assert keys.read(b"j\x1b[A\x1bOBq\x1b[5~ \r") == ["j", "up", "down", "q", "page up", "space", "enter"]
    assert [keys.read(piece) for piece in (b"\x1b[", b"5", b"~k")] == [[], [], ["page up", "k"]]
    assert keys.read(b"\x1b[" + b"1" * 100) != [] and keys.read("é".encode()) == ["é"]


@pytest.mark.parametrize("marks", [columns.FINE, columns.PLAIN])
def test_a_bar_has_its_width_and_is_neither_empty_nor_full_where_the_segment_is_not(marks):
    for width in (1, 5, 12):
        for part in range(-1, width * 8 + 3):
            share = part / (width * 8)
            filled, rest = columns.bar(share, width, marks)
            assert len(filled + rest) == width and bool(filled) == (part > 0)
            assert (filled == marks.full * width) == (share >= 1)
    assert [columns.percent(share) for share in (None, 0, 1e-9, 0.5, 0.9999, 1, 2)] == (
        ["-", "0%", "<1%", "50%", "99%", "100%", "100%"]
    )
    rates = [columns.rate(number) for number in (None, 0, 0.04, 9.9, 123456, 2.5e6)]
    assert rates == ["-", "0", "0.0", "9.9", "123,456", "2.5M"]
