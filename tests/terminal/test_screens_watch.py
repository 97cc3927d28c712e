"""`shmvar watch` on a terminal: a line a change, in columns, cut to the width that the terminal has at that moment."""

import json
import re

import pytest
from helpers import screens

HOSTILE = "\x1b]0;title\x07\x1b[31mred\u202e [red]markup[/red]\n\t"


class Odd:
    """A value that needs code."""


def watching(seg, *words, **options):
    """A `watch` that has begun: it looks from before it prints the titles on."""
    terminal = screens.Terminal("watch", seg.key, *words, **options)
    try:
        return terminal.until(lambda: b"INDEX" in terminal.raw and b"\n" in terminal.raw)
    except BaseException:
        terminal.__exit__()
        raise


def rows(terminal):
    """What each line says of index, version and value."""
    found = [re.split(r"  +", line) for line in terminal.everything() if re.match(r"\d\d:\d\d:\d\d\.\d{3}  ", line)]
    return [row[1:] for row in found]


def changed(terminal, seg, index, value):
    """Stores a value, and waits for its line."""
    count = terminal.raw.count(b"\n")
    seg[index] = value
    terminal.until(lambda: terminal.raw.count(b"\n") > count)


def test_it_has_a_line_in_columns_for_each_change(seg):
    seg["a long index"] = 1
    with watching(seg) as terminal:
        for index, value in {"visits": 1, "user": {"name": "Ada"}, 7: "text", "bytes": b"\0\1"}.items():
            changed(terminal, seg, index, value)
        count = terminal.raw.count(b"\n")
        del seg["visits"]
        terminal.until(lambda: terminal.raw.count(b"\n") > count)
        found = [[row[0], row[2]] for row in rows(terminal)]
        assert found == [
            ["'visits'", "1"],
            ["'user'", "{'name': 'Ada'}"],
            ["7", "'text'"],
            ["'bytes'", "b'\\x00\\x01'"],
            ["'visits'", "gone"],
        ]
        lines = terminal.everything()
        assert len({line.rindex(row[-1]) for line, row in zip(lines[1:], rows(terminal), strict=True)}) == 1
        assert lines[0].split() == ["TIME", "INDEX", "VERSION", "VALUE"] and lines[0].index("VALUE") == 39
        colours = terminal.coloured()
        assert (colours["1"], colours["b'\\x00\\x01'"]) == ("cyan", "magenta")
        terminal.type("\x03")  # the usual end
        terminal.ended(0)
        assert terminal.left_alone() and terminal.everything()[-1] == "^C"


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_no_line_is_longer_than_the_terminal_and_long_values_are_cut_at_the_end(seg, width):
    with watching(seg, columns=width, NO_COLOR="1") as terminal:
        for index, value in {
            "x" * 300: "y" * 300,
            "日本語" * 50: "値は" * 100,
            HOSTILE: HOSTILE * 10,
            "million": "z" * (1 << 20),
            "list": list(range(1000)),
        }.items():
            changed(terminal, seg, index, value)
        changed(terminal, seg, "odd", Odd())
        assert terminal.too_long() == [] and not terminal.escapes()
        lines = terminal.everything()[1:]
        assert len(lines) == 6 and all(line.endswith("…") for line in lines)
        for char in "\x07\x1b\u202e":
            assert char not in terminal.raw.decode()


def test_a_new_width_counts_from_the_next_line_on(seg):
    with watching(seg, NO_COLOR="1") as terminal:
        changed(terminal, seg, 1, "x" * 500)
        terminal.resize(120, 24)
        changed(terminal, seg, 1, "x" * 500)
        assert [len(line) for line in terminal.raw.decode().split("\r\n")[1:3]] == [80, 120]


def test_json_and_a_pipe_are_as_they_were(seg):
    with screens.Terminal("watch", seg.key, "a", "--json", "--count", "1") as terminal:
        terminal.until(lambda: seg.put("a", "x" * 500) or terminal.read(0.05) or terminal.closed)
        terminal.ended(0)
        found = json.loads(terminal.raw.decode())
        assert (found["index"], found["value"]) == ("a", "x" * 500) and not terminal.escapes()
    with screens.Terminal("watch", seg.key, "a", "--count", "1", stdout="pipe") as terminal:
        terminal.until(lambda: seg.put("a", "x" * 500) or terminal.read(0.05) or terminal.closed)
        terminal.ended(0)
        index, version, value = terminal.printed.decode().split("\t")
        assert (index, value) == ("'a'", repr("x" * 500) + "\n") and int(version) <= seg.version("a")


def test_giving_up_is_an_error_as_before(seg):
    found = screens.run("watch", seg.key, "a", "--timeout", "0.1", status=1)
    assert found.shown()[-1].startswith("shmvar: ") and found.left_alone()
