"""`ls`, `show`, `info` and `doctor` on terminals: what fits, what is cut, what a colour means, and hostile texts."""

import os
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest
from helpers import screens

import shmvar
from shmvar import _core, _text
from shmvar.cli import listing, screen, segment_screens

ROOT = Path(__file__).parents[2]

WIDTHS = [40, 80, 200]
KINDS = {"colours": {}, "NO_COLOR": {"NO_COLOR": "1"}, "dumb": {"TERM": "dumb"}}
HOSTILE = "\x1b]0;title\x07\x1b[31mred\x1b[0m\u202eturned\u2066 [bold red]markup[/] \x9b2J\r\x08"


@pytest.fixture
def evil(monkeypatch):
    """An instance of a class whose name is hostile, in a module whose name is, too."""
    module = types.ModuleType("evil")
    kind = type(HOSTILE, (), {"__module__": "evil", "__qualname__": HOSTILE})
    setattr(module, HOSTILE, kind)
    monkeypatch.setitem(sys.modules, "evil", module)
    return kind()


@pytest.fixture
def filled(key, evil, private_shm):
    """A segment with everything that is hard to show, beside a file that is no segment."""
    with shmvar.attach(key, 16 << 20) as segment:
        segment.update(
            {
                1: "short",
                HOSTILE: HOSTILE * 10,
                "class": evil,
                "million": "x" * 500 + "y" * (1 << 20),
                "long": "word " * 1000,
                "wide": "値は日本語です" * 100,
                "日本語のキー": "😀" * 100,
                "accents": "e\u0301" * 300,
                "[red]index[/red]": "[link=file:///]here[/link]",
                "list": [list(range(100))] * 100,
                "image": bytes(70_000),
                "number": 10**300,
            }
        )
        segment.put("soon", 1, ttl=5)
        segment.put("later", 1, ttl=5e5)
        segment.array("grid", (10, 20), "f4")
        segment.queue(HOSTILE).put(HOSTILE)
        with segment.lock(HOSTILE + "!"):
            (stray := Path("/dev/shm/shmvar.i.77")).write_bytes(HOSTILE.encode())
            yield segment
            stray.unlink()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_terminal_and_nothing_hostile_reaches_it(filled, width, kind):
    commands = [["ls"], ["show", filled.key], ["info", filled.key], ["doctor"]]
    found, parts = screens.each(*commands, columns=width, **KINDS[kind])
    assert found.too_long() == [] and found.left_alone() and len(parts) == 4
    assert all(parts) and repr(filled.key) in "".join(line.split(" ")[0] for line in parts[0])
    assert found.escapes() == (kind == "colours")
    text = found.raw.decode()
    for char in "\x07\x08\x9b\u202e\u2066":
        assert char not in text
    assert "\x1b]" not in text and "\x1b[31mred" not in text
    # What looks like markup of `rich` is shown as it is.
    assert "'[red]index[/red]'" in "".join(line[: width // 2].strip() for line in parts[1]).replace("\n", "")
    assert "evil" in text or width == 40


@pytest.mark.parametrize("width", WIDTHS)
def test_columns_are_aligned_and_long_values_are_cut_at_the_end(filled, width):
    found = screens.run("show", filled.key, columns=width)
    shown = found.screen(lines=200)
    lines = [[shown.buffer[at][column].data for column in range(width)] for at in range(len(found.everything()))]
    titles = "".join(lines[0])
    value = titles.index("VALUE")
    ends = {}
    for line in lines[1:]:
        assert line[value - 2 : value] == [" ", " "]
        assert line[value] != " " or "".join(line[value:]).strip() == ""  # the second line of a long index
        ends["".join(line[: value - 2]).split("  ")[0].strip()] = "".join(line[value:]).rstrip()
    for index in ("'long'", "'wide'", "'日本語のキー'", "'million'"):
        shown = ends.get(index, "")
        assert shown.endswith("…") if index != "'million'" else "not read" in shown
    assert ends["1"] == "'short'"
    if width == 200:
        at = titles.index("SIZE") + len("SIZE")  # sizes end below the end of the title
        assert all(line[at - 1] in "B" and line[at] == " " for line in lines[1:] if line[value] != " ")


def test_colours_mean_something_and_never_stand_alone(new_key, private_shm):
    full, filling, empty = (shmvar.attach(new_key(), 1 << 20) for _ in range(3))
    try:
        full["x"], filling["x"] = bytes(1_030_000), bytes(880_000)
        found = screens.run("ls", columns=100)
        rows = found.everything()
        for segment, percent, colour in ((full, "98 %", "red"), (filling, "84 %", "brown"), (empty, "0 %", "default")):
            (at,) = [at for at, line in enumerate(rows) if line.startswith(repr(segment.key))]
            assert f" {percent} " in rows[at]
            assert found.screen(lines=20).buffer[at][rows[at].index(" %") - 1].fg == colour
        full.put("soon", 1, ttl=5)
        full.put("within a minute", 1, ttl=50)
        full.put("later", 1, ttl=5000)
        found = screens.run("show", full.key, columns=120)
        shown = found.coloured()
        assert [style for text, style in shown.items() if text.endswith(" s")] == ["red bold", "brown"]
        assert shown["int"] == "cyan" and shown["bytes"] == "magenta" and "83 min" in "".join(found.everything())
    finally:
        for segment in (full, filling, empty):
            segment.destroy()


def test_doctor_marks_what_is_a_problem(seg, private_shm):
    (stray := Path("/dev/shm/shmvar.i.77")).write_bytes(b"no segment")
    try:
        found = screens.run("doctor", status=1)
        plain = screens.run("doctor", status=1, NO_COLOR="1")
    finally:
        stray.unlink()
    assert found.coloured()["problem:"] == "red bold"
    lines = [line.strip() for line in plain.everything()]
    assert f"✓ segment {seg.key!r}" in lines and any(line.startswith("check") and "✓ sound" in line for line in lines)
    assert lines[-1] == "✗ 1 problem" and any(line.startswith("✗ problem: /dev/shm/shmvar.i.77") for line in lines)
    assert screens.run("doctor", status=0, NO_COLOR="1").everything()[-1] == "✓ healthy"


def test_the_guide_says_from_when_on_a_colour_warns():
    chapter = re.search(r"^## In a terminal\n(.*?)^## ", (ROOT / "docs" / "guide.md").read_text(), re.M | re.S)[1]
    for colour, style in {"red": "bad", "yellow": "attention", "green": "good", "dim": "secondary"}.items():
        assert colour in screen.STYLES[style] and re.search(rf"^\| {colour} \| ", chapter, re.M)
    assert all(mark in chapter for mark in screen.MARKS.values())
    assert all(f"`{use.char}`" in chapter for use in segment_screens.MAP.values())
    assert f"full to {screen.FULL:.0%}".replace("%", " %") in chapter
    assert f"full to {screen.FILLING:.0%}".replace("%", " %") in chapter
    assert screen.level(0.95) == "bad" and screen.level(0.8) == "attention" and screen.level(0.79) == "good"
    assert f"expires within {screen.VERY_SOON:.0f} seconds" in chapter.replace("that expires", "expires")
    assert (screen.of_expiry(9.9), screen.of_expiry(59.9), screen.of_expiry(60)) == ("bad", "attention", "secondary")


# --- what is no terminal with colours


def plain(*words, **variables):
    done = subprocess.run(
        [sys.executable, "-m", "shmvar", *map(str, words)],
        capture_output=True,
        text=True,
        check=True,
        env=screens.environment(**variables),
    )
    assert not done.stderr
    return done.stdout


def test_a_pipe_gets_plain_text_whatever_the_environment_says(filled):
    lines = plain("show", filled.key).splitlines()
    assert lines[0] == "INDEX\tTYPE\tSIZE\tVERSION\tEXPIRES\tVALUE" and len(lines) == len(filled) + 1
    assert {line.count("\t") for line in lines} == {5} and not any("\x1b" in line for line in lines)
    info = plain("info", filled.key).splitlines()
    assert info[0] == f"key\t{filled.key!r}" and {line.count("\t") for line in info} == {1}
    assert plain("ls", FORCE_COLOR="1", TTY_COMPATIBLE="1") == plain("ls", NO_COLOR="1") == plain("ls", TERM="dumb")
    assert plain("ls").splitlines()[0].startswith("KEY\tCOUNT\tUSED\tSIZE\t")
    found = screens.run("show", filled.key, "--limit", 3, stdout="pipe")
    assert found.printed.decode().splitlines() == lines[:4] and found.raw == b""


def test_a_pipe_does_not_pay_for_rich(seg):
    seg["one"] = 1
    words = f"ls;show,{seg.key};info,{seg.key};doctor;watch,{seg.key},one,--timeout,0.1"
    program = (
        f"{screens.EACH}\nassert not [name for name in sys.modules if name.partition('.')[0] == 'rich']; print('none')"
    )
    found = screens.run(sys.executable, "-c", program, words, whole=True, stdout="pipe")
    assert found.printed.decode().splitlines()[-1] == "none"


@pytest.mark.parametrize(("value", "colours"), [(None, True), ("", True), ("0", False), ("1", False)])
def test_no_color_counts_where_it_is_not_empty(seg, value, colours):
    seg["one"] = 1
    found = screens.run("show", seg.key, NO_COLOR=value)
    assert found.escapes() == colours and found.shown()[0].split()[:2] == ["INDEX", "TYPE"]


def test_a_terminal_that_knows_ascii_alone_gets_ascii(filled):
    commands = [["ls"], ["show", filled.key], ["info", filled.key], ["doctor"]]
    found, parts = screens.each(*commands, PYTHONIOENCODING="ascii", NO_COLOR="1")
    assert found.raw.isascii() and found.too_long() == [] and not found.escapes()
    assert "====" in "".join(map("".join, parts)) or "...." in "".join(parts[0])
    assert all("\\u2501" not in line and "\\u2500" not in line for part in parts for line in part)
    assert any(line.endswith("...") for line in parts[1])


# --- how much


def test_show_has_a_first_part_on_a_terminal_and_all_in_a_pipe(seg):
    seg.update(dict.fromkeys(range(25), 1))
    assert listing.MOST_ON_SCREEN == 1000
    program = f"from shmvar.cli import listing; listing.MOST_ON_SCREEN = 20{screens.EACH}"
    shown = [f"show,{seg.key}", f"show,{seg.key},--limit,22", f"show,{seg.key},--limit,25"]
    found = screens.run(sys.executable, "-c", program, ";".join(shown), whole=True)
    first, second, third = "\n".join(found.everything()).split("@@@ ")[1:]
    lines = first.splitlines()[1:]
    assert len(lines) == 22 and lines[-2].split()[0] == "19" and lines[-1].startswith("… 5 more: --limit N")
    lines = second.splitlines()[1:]
    assert len(lines) == 24 and lines[-1] == "… 3 more"
    assert len(third.splitlines()[1:]) == 26
    found = screens.run(sys.executable, "-c", program, shown[0], whole=True, stdout="pipe")
    assert len(found.printed.decode().splitlines()[1:]) == 26


def test_info_of_a_terminal_has_a_bar_and_a_map(seg):
    seg["value"] = bytes(100_000)
    view = seg.view("value")
    del seg["value"]
    lines = screens.run("info", seg.key, NO_COLOR="1").shown()
    assert len(lines) <= 22  # the title is still there, above the next prompt
    assert lines[0] == f"{seg.key!r}  0 variables" and "0 %" in lines[1] and lines[1].endswith("of 1.0 GiB")
    assert "▓" in lines[2] and "▓ held by views 100.0 KiB" in lines[3]
    assert any(line.split()[:2] == ["held", "102,400"] for line in lines)
    del view


def test_locks_and_queues_have_a_line_each_and_the_dead_are_named(seg, children):
    import helpers

    child = helpers.start(helpers.HOLD_A_LOCK, seg.key)
    children.append(child)
    seg.queue("jobs").put(1)
    with seg.lock("b"):
        lines = [line.split(maxsplit=1) for line in screens.run("info", seg.key, lines=50).shown()]
        assert ["locks", f"'a' by {child.pid}"] in lines and ["'b'", f"by {os.getpid()}"] in lines
        assert any(line[0] == "queues" and line[1].startswith("'jobs': 1 wait") for line in lines if line)
        child.kill()
        child.wait()
        found = screens.run("info", seg.key, lines=50)
        assert found.coloured()["a process died, and nobody has cleaned up yet"] == "brown"
        assert ["attached", f"1: {os.getpid()}"] in [line.split(maxsplit=1) for line in found.shown()]


def test_an_index_of_the_greatest_length_is_shown_whole(seg):
    index = "\x01" * 1024
    seg[index] = 1
    found = screens.run("show", seg.key, columns=60, NO_COLOR="1")
    titles, *lines = found.everything()
    width = titles.index(titles.split()[1])
    assert "".join(line[:width].strip() for line in lines) == repr(index) and found.too_long() == []


def test_where_a_terminal_cannot_go_back_the_demo_has_lines(private_shm):
    found = screens.run("demo", "--seconds", "1", NO_COLOR="1")
    assert not found.escapes() and "Nothing lost, nothing torn." in found.everything()


def test_the_legend_of_the_map_says_what_its_numbers_count(seg):
    # One value of each of many lengths: each has a slab, most pages of which nobody has written to.
    lengths = [int(40 * 1.2**n) for n in range(24)]
    for length in lengths:
        seg[length] = "x" * length
    totals, resident = _core._memory(seg, 1)[0], seg.info().resident
    assert totals["used"] > resident
    text = " ".join(" ".join(screens.run("info", seg.key, columns=60, lines=50).shown()).split())
    assert f"set aside: █ in use {_text.size(totals['used'])} " in text
    assert "(what was never written to takes no memory yet)" in text
    assert f"resident {resident:,} bytes" in text and "its own" not in text
    seg.clear()
    seg["x"] = "x" * 50_000
    seg.trim()
    rest = seg.info().resident - sum(size for use, size in _core._memory(seg, 1)[0].items() if use != "absent")
    text = " ".join(" ".join(screens.run("info", seg.key, columns=60, lines=50).shown()).split())
    assert rest > 0 and f"its own {_text.size(rest)} or more" in text and "never written" not in text
