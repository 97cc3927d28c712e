"""Tables on terminals of 60 columns and more: the index and the value of `show`, the keys of `ls` can be read."""

import fcntl
import itertools
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

import shmvar
from shmvar.cli import main as cli
from shmvar.cli import printing

WIDTHS = [60, 61, 72, 79, 80, 99, 100, 119, 120, 200]
INDEXES = [4711, -(2**63), "user:1234:session:ab", "'quoted'", "été", ""]


def printed_on_terminal(width, *words, status=0):
    """What the program prints on a terminal of this width."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    environment = {name: text for name, text in os.environ.items() if name not in ("COLUMNS", "LINES")}
    command = [sys.executable, "-m", "shmvar", *words]
    with subprocess.Popen(command, stdin=follower, stdout=follower, env=environment | {"TERM": "xterm"}) as child:
        os.close(follower)
        out = b""
        while True:
            try:
                more = os.read(leader, 65536)
            except OSError:  # the child has closed the terminal
                break
            out += more
        os.close(leader)
    assert status is None or child.returncode == status
    return re.sub(r"\x1b\[[0-9;]*m", "", out.decode()).replace("\r\n", "\n")


@pytest.fixture
def lines(monkeypatch, capsys):
    """Runs the program as on a terminal of a width, in this process; returns the lines."""

    def run(width, *words, status=0):
        monkeypatch.setattr(printing, "on_terminal", lambda: True)
        monkeypatch.setenv("COLUMNS", str(width))
        assert cli.main(words) == status
        return capsys.readouterr().out.splitlines()

    return run


def fill(segment):
    for number, index in enumerate(INDEXES):
        segment.put(index, f"value {number} " + "which is long " * number * 5, ttl=[None, 1e6][number % 2])
    segment["complex"] = complex(1, 2)
    segment["array"] = bytearray(100_000)


@pytest.mark.parametrize("width", WIDTHS)
def test_show_has_each_index_and_its_value_in_one_line(seg, key, lines, width):
    fill(seg)
    shown = lines(width, "show", key)
    assert all(len(line) <= width for line in shown) and len(shown) == len(seg) + 1
    assert shown[0].startswith("INDEX ") and shown[0].rstrip().endswith(" VALUE")
    for number, index in enumerate(INDEXES):
        (line,) = [line for line in shown if line.startswith(f"{index!r} ")]
        assert f"  'value {number} " in line


@pytest.mark.parametrize("width", [60, 80])
def test_show_on_a_real_terminal(seg, key, width):
    fill(seg)
    out = printed_on_terminal(width, "show", key)
    for number, index in enumerate(INDEXES):
        (line,) = [line for line in out.splitlines() if line.startswith(f"{index!r} ")]
        assert f"'value {number} " in line and len(line) <= width


@pytest.mark.parametrize("width", WIDTHS)
def test_a_long_index_is_shown_whole_over_several_lines(seg, key, lines, width):
    index = "".join(f"{number:04}" for number in range(100))
    seg[index], seg["short"] = "v" * 59, 1
    shown = lines(width, "show", key)
    at = shown[0].index(next(filter(None, shown[0][5:].split())), 5)
    assert "".join(line[:at].strip() for line in shown[1:]).replace("'short'", "") == repr(index)
    assert any("'vvvvvvvvvvv" in line for line in shown) and all(len(line) <= width for line in shown)


def test_a_wide_terminal_and_a_pipe_have_every_column(seg, key, lines, capsys):
    fill(seg)
    assert lines(250, "show", key)[0].split() == ["INDEX", "TYPE", "SIZE", "VERSION", "EXPIRES", "VALUE"]
    done = subprocess.run([sys.executable, "-m", "shmvar", "show", key], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == "INDEX\tTYPE\tSIZE\tVERSION\tEXPIRES\tVALUE"


@pytest.mark.parametrize("width", WIDTHS)
def test_ls_has_each_key_in_one_line(new_key, private_shm, lines, width):
    keys = [new_key(), new_key(int), "user sessions of Ann"]
    made = [shmvar.attach(key, 1 << 20) for key in keys]
    try:
        shown = lines(width, "ls")
        assert all(len(line) <= width for line in shown) and shown[0].rstrip().endswith("STATE")
        for key in keys:
            (line,) = [line for line in shown if line.startswith(f"{key!r} ")]
            assert line.rstrip().endswith(" usable")
    finally:
        for segment in made:
            segment.destroy()


LONG = ["a-key-of-the-longest-kind-" + "x" * 102, "a key of many words " * 6, -(2**63)]


@pytest.fixture
def with_long_keys(new_key, private_shm):
    """Makes segments of long keys, and a file that is no segment; returns what each is called."""
    made = [shmvar.attach(key, 1 << 20) for key in LONG]
    made[0]["i"] = 1
    (stray := Path("/dev/shm/shmvar.i.77")).write_bytes(b"no segment")
    yield [repr(key) for key in LONG] + [stray.name]
    for segment in made:
        segment.destroy()
    stray.unlink()


@pytest.mark.parametrize("width", WIDTHS)
def test_ls_shows_a_long_key_whole_over_several_lines(with_long_keys, lines, width):
    shown = lines(width, "ls")
    assert all(len(line) <= width for line in shown)
    end = shown[0].index(" COUNT")
    keys = "".join(line[:end].strip() for line in shown).replace(" ", "")
    for name in with_long_keys[:3]:
        assert name.replace(" ", "") in keys


@pytest.mark.parametrize("width", [40, *WIDTHS])
def test_doctor_hides_nothing_and_breaks_lines_between_words(with_long_keys, lines, capsys, width, monkeypatch):
    shown = lines(width, "doctor", status=1)
    assert all(len(line) <= width for line in shown)
    together = "".join(shown).replace(" ", "")
    for name in with_long_keys:
        assert name.replace(" ", "") in together
    # Findings are prose: what a pipe has in one line each is here word by word.
    monkeypatch.setattr(printing, "on_terminal", lambda: False)
    assert cli.main(["doctor"]) == 1
    text = capsys.readouterr().out
    finding = text[text.index("problem: /dev/shm/shmvar.i.77") :].splitlines()[:2]
    assert finding[1].startswith("  remedy: ")
    assert " ".join(" ".join(finding).split()) in " ".join(" ".join(shown).split())


@pytest.mark.parametrize("width", [60, 80])
def test_doctor_on_a_real_terminal(seg, key, private_shm, width):
    out = printed_on_terminal(width, "doctor", status=None)
    assert f"segment {key!r}" in out and all(len(line) <= width for line in out.splitlines())


def test_the_demo_fits_80_columns():
    out = printed_on_terminal(80, "demo", "--seconds", "1")
    # What it shows live is erased again: the lines move the cursor, and are no text.
    lines = [line for line in out.splitlines() if "\x1b" not in line]
    assert "Nothing lost" in out and max(map(len, lines)) < 80


@pytest.mark.parametrize("width", [20, 30, 40, 50, 60, 80, 120])
def test_the_footer_of_ls_is_whole_at_any_width(seg, private_shm, lines, width):
    shown = lines(width, "ls")
    assert all(len(line) <= width for line in shown)
    footer = " ".join(" ".join(shown[[line.startswith("1 segment") for line in shown].index(True) :]).split())
    assert re.fullmatch(r"1 segment, [\d.]+ KiB of memory;? /dev/shm [━╸─]+ +<?\d+ % of [\d.]+ [GM]iB", footer)
    assert len(shown) <= 4 or width < 40


@pytest.mark.parametrize("width", [20, 40])
def test_the_title_of_info_has_the_whole_key(new_key, lines, width):
    key = new_key() + "-with-a-long-name" * 4
    with shmvar.attach(key) as segment:
        shown = lines(width, "info", key)
        assert "".join(shown).replace(" ", "").startswith(f"{key!r}0variables")
        segment.destroy()


@pytest.mark.parametrize("width", WIDTHS)
def test_info_hides_nothing(seg, key, lines, width):
    names = [f"a lock with a long name {number}" for number in range(5)]
    locks = [seg.lock(name) for name in names]
    for lock in locks:
        lock.acquire()
    shown = lines(width, "info", key)
    assert all(len(line) <= width for line in shown)
    text = "".join(itertools.chain.from_iterable(line[13:].rstrip() for line in shown)).replace(" ", "")
    for name in names:
        assert name.replace(" ", "") in text
    for lock in locks:
        lock.release()
