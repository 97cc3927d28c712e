"""`progress`: on a terminal, in a file, with tqdm and without, and what ends it."""

import contextlib
import fcntl
import io
import math
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time

import helpers
import numpy as np
import pytest

import shmvar
from shmvar.notebook import progress

NO_TQDM = """
import importlib.abc
class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "tqdm":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocked())
"""
PROGRAM = """
from shmvar.notebook import progress
segment = shmvar.attach(key)
print("go", flush=True)
print("done", progress(segment, "done", int(sys.argv[2]), timeout=100))
"""


@contextlib.contextmanager
def adding(segment, index, count, amount=1, pause=0.0):
    """Another thread adds meanwhile."""

    def add():
        for _ in range(count):
            segment.add(index, amount)
            time.sleep(pause)

    thread = threading.Thread(target=add)
    thread.start()
    yield
    thread.join()


def lines(segment, index, total, **options):
    """What it prints into a file, and what it returns."""
    out = io.StringIO()
    with contextlib.redirect_stderr(out):
        found = progress(segment, index, total, **options)
    return out.getvalue(), found


def test_it_returns_when_the_counter_has_reached_the_total(seg):
    with adding(seg, "done", 50, pause=0.005):
        text, found = lines(seg, "done", 50)
    assert found == 50
    assert text.endswith("\n") and text.splitlines()[-1].startswith("'done': 100 %, 50 of 50 in ")
    assert text.replace("\n", "").isprintable() and len(text.splitlines()) <= 11


def test_what_is_complete_already_returns_at_once(seg):
    seg["done"] = 7
    assert lines(seg, "done", 5)[1] == 7
    assert lines(seg, "done", 7)[1] == 7
    assert lines(seg, "missing", 0)[1] == 0
    text, _ = lines(seg, "done", 5)
    assert len(text.splitlines()) == 1 and "100 %, 5 of 5" in text


def test_floats_and_large_numbers_count(seg):
    with adding(seg, "done", 8, amount=0.25):
        text, found = lines(seg, "done", 2.0)
    assert found == 2.0 and "2 of 2" in text
    seg["huge"] = 10**40
    assert lines(seg, "huge", 10**39)[1] == 10**40
    with adding(seg, "inf", 1, amount=math.inf):
        assert lines(seg, "inf", 3)[1] == math.inf


def test_a_description_stands_for_the_index(seg):
    seg["done"] = 1
    text, _ = lines(seg, "done", 1, desc="Frames \x1b[31m\u202e" + "x" * 100)
    assert text.startswith("Frames \\x1b[31m\\u202exxx") and "…: 100 %" in text


def test_a_counter_that_is_removed_counts_as_0_and_goes_on(seg):
    seg["done"] = 4
    found = []
    out = io.StringIO()

    def run():
        with contextlib.redirect_stderr(out):
            found.append(progress(seg, "done", 5))

    thread = threading.Thread(target=run)
    thread.start()
    helpers.until(thread.is_alive)
    del seg["done"]
    for _ in range(4):
        seg.add("done")
    time.sleep(0.3)
    assert thread.is_alive()
    seg.add("done")
    thread.join(20)
    assert found == [5]


def test_a_timeout_that_is_over_raises_and_says_how_far_it_came(seg):
    seg["done"] = 3
    with pytest.raises(shmvar.WaitTimeoutError, match=r"'done' is at 3 of 9"):
        lines(seg, "done", 9, timeout=0.05)
    with pytest.raises(shmvar.WaitTimeoutError):
        lines(seg, "done", 9, timeout=0)


def test_a_counter_that_changes_all_the_time_does_not_outlive_the_timeout(seg):
    with adding(seg, "done", 60, pause=0.01), pytest.raises(shmvar.WaitTimeoutError):
        lines(seg, "done", 10**9, timeout=0.2)


def test_a_destroyed_segment_raises_and_closes_the_bar(key):
    segment = shmvar.attach(key)
    segment["done"] = 1
    out = io.StringIO()
    timer = threading.Timer(0.2, shmvar.destroy, [key])
    timer.start()
    with contextlib.redirect_stderr(out), pytest.raises(shmvar.SegmentNotFoundError):
        progress(segment, "done", 5)
    timer.join()
    assert out.getvalue().startswith("'done': 20 %, 1 of 5") and out.getvalue().endswith("\n")
    segment.detach()
    with pytest.raises(shmvar.DetachedError):
        progress(segment, "done", 5)


class Bomb:
    """Its pickle runs code."""

    def __reduce__(self):
        return os._exit, (99,)


@pytest.mark.parametrize("value", ["5", [5], True, None, Bomb(), b"x" * 10_000, 1j], ids=lambda v: type(v).__name__)
def test_what_is_no_number_is_a_type_error_and_runs_no_code(seg, value):
    seg["done"] = value
    with pytest.raises(TypeError, match=r"variable 'done' is no number but of the type"):
        lines(seg, "done", 5)


def test_numbers_of_numpy_count(seg):
    seg["done"] = np.float64(5.5)
    assert lines(seg, "done", np.int64(5))[1] == 5.5


def test_no_number_does_not_end_it(seg):
    seg["done"] = math.nan
    timer = threading.Timer(0.1, seg.put, ["done", 5])
    timer.start()
    assert lines(seg, "done", 5)[1] == 5
    timer.join()


def test_wrong_arguments_are_refused(seg):
    for total in ("5", None, [5], 5j, True):
        with pytest.raises(TypeError, match="total must be"):
            progress(seg, "done", total)
    for total in (-1, math.nan, math.inf, -0.5):
        with pytest.raises(ValueError, match="total must be"):
            progress(seg, "done", total)
    with pytest.raises(TypeError):
        progress(seg, 1.5, 5)
    with pytest.raises(OverflowError):
        progress(seg, 1 << 64, 5)
    with pytest.raises(TypeError, match="segment must be"):
        progress({"done": 5}, "done", 5)
    with pytest.raises(ValueError, match="timeout"):
        progress(seg, "done", 5, timeout=-1)
    with pytest.raises(TypeError, match="timeout"):
        progress(seg, "done", 5, timeout="1")
    with pytest.raises(TypeError, match="desc"):
        progress(seg, "done", 5, desc=5)


def test_it_sleeps_until_the_counter_changes(seg):
    seg["done"] = 0
    wait = []
    out = io.StringIO()
    thread = threading.Thread(target=lambda: wait.append(progress(seg, "done", 1)))
    with contextlib.redirect_stderr(out):
        thread.start()
        helpers.until(lambda: thread.native_id is not None)
        time.sleep(0.3)
        before = switches(thread)
        time.sleep(1.0)
        assert switches(thread) - before < 10
        seg.add("done")
        thread.join(20)
    assert wait == [1]


def switches(thread):
    with open(f"/proc/self/task/{thread.native_id}/status") as status:
        return sum(int(line.split()[1]) for line in status if line.startswith("voluntary_ctxt_switches"))


@contextlib.contextmanager
def on_terminal(code, *args, columns=100):
    """A program whose stderr is a terminal. Gives the process and a function that returns all that it has shown."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    os.set_blocking(ours, False)
    program = helpers.command(code, *args)
    environment = os.environ | {"COLUMNS": str(columns), "LINES": "24", "TERM": "xterm"}
    child = subprocess.Popen(program, stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, env=environment, text=True)
    os.close(theirs)
    shown = []

    def text():
        with contextlib.suppress(OSError):  # the other end is closed
            while select.select([ours], [], [], 0)[0] and (part := os.read(ours, 1 << 16)):
                shown.append(part)
        return b"".join(shown).decode()

    try:
        yield child, text
    finally:
        helpers.end(child)
        os.close(ours)


@pytest.mark.parametrize("tqdm", [False, True], ids=["own", "tqdm"])
def test_a_bar_on_a_terminal(seg, key, tqdm):
    if tqdm:
        pytest.importorskip("tqdm", reason="tqdm is not installed")
    with on_terminal(("" if tqdm else NO_TQDM) + PROGRAM, key, 200) as (child, text):
        helpers.until(lambda: "0%" in text().replace(" ", ""), 30)
        for _ in range(100):
            seg.add("done")
        helpers.until(lambda: "50%" in text().replace(" ", ""), 30)
        for _ in range(150):
            seg.add("done")
        assert child.wait(60) == 0, text()
        helpers.until(lambda: "100%" in text().replace(" ", ""), 10)
        assert child.stdout.read() == "go\ndone 250\n"
        last = text().rstrip().rsplit("\r", 1)[-1]
        assert "'done'" in last and text().endswith("\n")
        assert ("200/200" if tqdm else "200 of 200") in last
        assert "\x1b" not in text().replace("\x1b[A", "")


def test_a_narrow_terminal_gets_one_line(seg, key):
    seg["done"] = 5
    with on_terminal(NO_TQDM + PROGRAM, key, 5, columns=40) as (child, text):
        assert child.wait(60) == 0
        helpers.until(lambda: "100 %" in text(), 10)
        assert all(len(line) < 40 for line in text().replace("\n", "").split("\r"))


def sleeps(child):
    """Whether its main thread waits for something."""
    with open(f"/proc/{child.pid}/stat") as stat:
        return stat.read().rsplit(")", 1)[1].split()[0] == "S"


@pytest.mark.parametrize("tqdm", [False, True], ids=["own", "tqdm"])
def test_ctrl_c_ends_it_and_the_bar(seg, key, tqdm):
    if tqdm:
        pytest.importorskip("tqdm", reason="tqdm is not installed")
    seg["done"] = 1
    with on_terminal(("" if tqdm else NO_TQDM) + PROGRAM, key, 4) as (child, text):
        helpers.until(lambda: "25%" in text().replace(" ", "") and sleeps(child), 30)
        child.send_signal(signal.SIGINT)
        assert child.wait(60) != 0
        helpers.until(lambda: "KeyboardInterrupt" in text(), 10)
        assert "\nTraceback" in text().replace("\r", "")


def test_many_processes_add_and_a_pipe_has_lines_without_control_characters(seg, key):
    reader = subprocess.Popen(
        helpers.command(PROGRAM, key, 400), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert reader.stdout.readline() == "go\n"
        helpers.run_in_processes("s = shmvar.attach(key)\nfor _ in range(100): s.add('done')", key, count=4)
        out, err = reader.communicate(timeout=100)
    finally:
        helpers.end(reader)
    assert out == "done 400\n"
    told = err.splitlines()
    assert told and len(told) <= 11 and "400 of 400" in told[-1]
    assert all(line.isprintable() for line in told)


def test_it_leaves_no_thread_behind(key, seg):
    seg["done"] = 1
    pytest.importorskip("tqdm", reason="tqdm is not installed")
    program = "import threading\n" + PROGRAM + "print(threading.enumerate())"
    with on_terminal(program, key, 1) as (child, text):
        assert child.wait(60) == 0, text()
        out, shown = child.stdout.read(), text()
    assert "1/1" in shown and out.count("started") == 1, out


def test_a_program_without_stderr_waits_all_the_same(seg, monkeypatch):
    seg["done"] = 2
    monkeypatch.setattr(sys, "stderr", None)
    assert progress(seg, "done", 2) == 2
