"""`shmvar watch`, `put --ttl`, and locks in `info` and `doctor`."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time

import helpers
import pytest

import shmvar
from shmvar.cli import main as cli
from shmvar.cli import watching


class Odd:
    """A value that needs code."""


class Watcher:
    """A running `shmvar watch`."""

    def __init__(self, *words):
        program = [sys.executable, "-m", "shmvar", "watch", *map(str, words)]
        self.child = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.lines = queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.child.stdout:
            self.lines.put(line)

    def line(self):
        return self.lines.get(timeout=60)

    def settle(self, seg, index):
        """Waits until the watch runs and has printed everything that was there before."""
        for number in range(3000):
            seg[index] = f"ready {number}"
            with contextlib.suppress(queue.Empty):
                assert "ready" in self.lines.get(timeout=0.02)
                break
            assert self.child.poll() is None, self.child.stderr.read()
        seg[index] = "settled"
        while "settled" not in self.line():
            pass
        return self

    def ended(self, status, what=""):
        assert self.child.wait(60) == status
        said = self.child.stderr.read()
        assert what in said and said.count("\n") == bool(status), said


@pytest.fixture
def watch(key, children):
    """Starts `shmvar watch` of the test's segment."""

    def start(*words):
        watcher = Watcher(key, *words)
        children.append(watcher.child)
        return watcher

    return start


def test_each_change_of_a_variable_is_a_line_until_ctrl_c(seg, watch):
    watcher = watch("x").settle(seg, "x")
    for value in ("a\tb\nc\x1b", 5, [1, {"two": 3.0}]):
        seg["x"] = value
        index, version, text = watcher.line().rstrip("\n").split("\t")
        assert (index, int(version), text) == ("'x'", seg.version("x"), repr(value))
    seg["y"] = 1
    del seg["x"]
    assert watcher.line() == "'x'\t0\tgone\n"
    seg["x"] = 6
    assert watcher.line().endswith("\t6\n")
    seg.put("x", 7, ttl=0.5)
    # A watch that was held up for so long sees only the last change.
    assert (line := watcher.line()) == "'x'\t0\tgone\n" or (line.endswith("\t7\n") and "gone" in watcher.line())
    seg["x"] = Odd()
    said = watcher.line()
    assert "not read without --trust" in said and "or --trust, if you trust" in said and "trust=" not in said
    watcher.child.send_signal(signal.SIGINT)
    watcher.ended(0)


@pytest.mark.parametrize("index", ["x", None])
def test_who_may_only_read_sees_the_changes_too(seg, key, index):
    done = threading.Event()

    def write():
        for number in range(3000):
            if done.wait(0.1):
                return
            seg["x"] = number

    thread = threading.Thread(target=write)
    thread.start()
    try:
        with shmvar.attach(key, readonly=True) as reader:
            changes = watching.of_some(reader, ["x"], 60) if index else watching.of_all(reader, 60)
            found = [next(changes) for _ in range(3)]
    finally:
        done.set()
        thread.join()
    assert {change.index for change in found} == {"x"} and [change.error for change in found] == [None] * 3
    assert found[0].value < found[1].value < found[2].value
    assert found[0].version < found[1].version < found[2].version


def test_without_index_each_variable_is_watched_those_to_come_too(seg, watch):
    seg.update({1: "one", 2: "two"})
    watcher = watch("--json").settle(seg, "first")

    def line():
        return json.loads(watcher.line())

    seg[2] = "new"
    assert line() == {"index": 2, "version": seg.version(2), "there": True, "error": None, "value": "new"}
    for number in range(3, 40):
        seg[number] = [number]
        found = line()
        assert (found["index"], found["value"], found["there"]) == (number, [number], True)
    del seg[1]
    assert line() == {"index": 1, "version": 0, "there": False, "error": None, "value": None}
    seg["5"] = 5
    assert line()["value"] == 5
    seg.put("5", 6, ttl=0.5)
    found = line()
    if found["there"]:  # a watch that was held up for so long sees only the last change
        assert found["value"] == 6
        found = line()
    assert found == {"index": "5", "version": 0, "there": False, "error": None, "value": None}
    seg[6] = b"no JSON"
    found = line()
    assert found["there"] and found["value"] is None and "no form as JSON" in found["error"]
    seg.destroy()
    watcher.ended(1, "was destroyed")


def test_several_indexes_are_watched_and_no_others(seg, watch):
    seg.update({1: "one", "b": "two"})
    watcher = watch(1, "b", 3).settle(seg, 3)
    seg["other"] = 1
    for index, value in (("b", 5), (1, 6), (3, 7)):
        seg[index] = value
        assert watcher.line() == f"{index!r}\t{seg.version(index)}\t{value}\n"
    del seg["b"]
    assert watcher.line() == "'b'\t0\tgone\n"


def test_what_was_put_and_removed_in_order_is_told_in_order(seg, watch):
    watcher = watch().settle(seg, "first")
    watcher.child.send_signal(signal.SIGSTOP)
    try:
        seg["pending"] = 1
        seg["data"] = 2
        del seg["first"]
        seg["done"] = 3
    finally:
        watcher.child.send_signal(signal.SIGCONT)
    found = [watcher.line().split("\t")[0] for _ in range(4)]
    assert found == ["'pending'", "'data'", "'first'", "'done'"]
    watcher.child.send_signal(signal.SIGINT)
    watcher.ended(0)


def test_a_destroyed_segment_ends_the_watch_of_a_variable(seg, watch):
    watcher = watch(1).settle(seg, 1)
    seg.destroy()
    watcher.ended(1, "was destroyed")


def test_a_watch_ends_after_so_many_changes_or_so_long_without_one(seg, key, watch, capsys):
    for words in (["--count", 3], ["x", "--count", 3]):
        watcher = watch(*words)
        helpers.until(lambda watcher=watcher: seg.add("x") and watcher.child.poll() is not None, 60)
        watcher.ended(0)
        helpers.until(lambda watcher=watcher: watcher.lines.qsize() == 3)
    watch("x", "--count", 100_000, "--timeout", 3).settle(seg, "x").ended(1, "did not change")
    assert cli.main(["watch", key, "--timeout", "0.2"]) == 1
    assert "nothing changed within 0.2 s" in capsys.readouterr().err
    assert cli.main(["watch", "test-no-such-segment"]) == 1
    for words in (["--count", "0"], ["--timeout", "0"], ["--timeout", "nan"], ["--count", "x"]):
        with pytest.raises(SystemExit) as exit:
            cli.main(["watch", key, *words])
        assert exit.value.code == 2


def test_f61_who_watches_a_quiet_segment_sleeps(seg, watch):
    seg.update({number: number for number in range(300)})
    watcher = watch().settle(seg, "x")

    def turns():
        """How often the process went to sleep."""
        with open(f"/proc/{watcher.child.pid}/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("voluntary"))

    before = turns()
    time.sleep(3)
    assert turns() - before < 30, "it looks again twice a second"
    seg["x"] = "awake"
    assert watcher.line().endswith("'awake'\n")


def test_a_value_runs_code_only_with_trust(seg, watch):
    watcher = watch("x", "--trust").settle(seg, "x")
    seg["x"] = complex
    assert watcher.line().endswith("\t<class 'complex'>\n")


def test_put_takes_a_time_to_live(key, new_key, capsys):
    assert cli.main(["put", key, "1", "5", "--ttl", "1000"]) == 0
    with shmvar.attach(key, create=False) as seg:
        assert seg[1] == 5 and 990 < seg.stat(1).expires_in <= 1000
        assert cli.main(["show", key]) == 0
        assert " s\t5\n" in capsys.readouterr().out
        assert cli.main(["put", key, "1", "6"]) == 0
        assert seg.stat(1).expires_in is None
    for wrong in ("0", "-1", "inf", "nan", "x"):
        with pytest.raises(SystemExit):
            cli.main(["put", key, "1", "7", "--ttl", wrong])


def test_info_names_the_locks_that_are_held_and_their_owners(seg, key, capsys):
    with seg.lock(5), seg.lock("5"), seg.lock("a\x1bb\n"):
        assert cli.main(["info", key, "--json"]) == 0
        locks = json.loads(capsys.readouterr().out)["locks"]
        assert sorted(map(str, (lock["name"] for lock in locks))) == ["5", "5", "a\x1bb\n"]
        assert {lock["pid"] for lock in locks} == {os.getpid()} and len(locks) == 3
        assert cli.main(["info", key]) == 0
        out = capsys.readouterr().out
        assert f"'5' by {os.getpid()}" in out and "\x1b" not in out
    assert cli.main(["info", key]) == 0
    assert "locks\tnone held" in capsys.readouterr().out


def test_info_tells_queues_apart_that_json_could_not(seg, key, capsys):
    for name in (5, "5", "a\x1bb"):
        seg.queue(name).put(name)
    item = seg.queue("5").take()
    with item:
        assert cli.main(["info", key, "--json"]) == 0
        queues = json.loads(capsys.readouterr().out)["queues"]
        found = [(queue["name"], queue["waiting"], queue["held"]) for queue in queues]
        assert found == [(5, 1, 0), ("5", 0, 1), ("a\x1bb", 1, 0)]
        assert cli.main(["info", key]) == 0
        out = capsys.readouterr().out
        assert "queues\t5: 1 wait, 0 held, 1" in out and "'5': 0 wait, 1 held, 1" in out and "\x1b" not in out
    assert cli.main(["ls", "--json"]) == 0
    assert all("queues" not in known and "locks" not in known for known in json.loads(capsys.readouterr().out))
    for name in (5, "a\x1bb"):
        seg.queue(name).clear()
    assert cli.main(["info", key]) == 0
    assert "queues\tnone" in capsys.readouterr().out


def test_the_doctor_says_who_holds_which_lock(seg, private_shm, capsys):
    with seg.lock("accounts"), seg.lock(0):
        assert cli.main(["doctor"]) == 0
        out = capsys.readouterr().out
        assert f"'accounts' by {os.getpid()}" in out and f"0 by {os.getpid()}" in out
        assert cli.main(["doctor", "--json"]) == 0
        (found,) = json.loads(capsys.readouterr().out)["segments"]
        assert {"name": "accounts", "pid": os.getpid()} in found["info"]["locks"]
    assert cli.main(["doctor"]) == 0
    assert "locks held" not in capsys.readouterr().out
