"""bench/peers.py: what it finds, what it says of it, and that it leaves nothing behind."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import helpers
import pytest

ROOT = next(folder for folder in Path(__file__).parents if (folder / "pyproject.toml").is_file())
BENCH = ROOT / "bench"
sys.path.insert(0, str(BENCH))

import peers  # noqa: E402
from stores import child, faults, registry, report  # noqa: E402
from stores.store import Missing, Store  # noqa: E402

pytestmark = pytest.mark.timeout(300)


def cell(kind, call, ns, against, shmvar=100.0):
    figures = {"ns": ns, "reference ns": ns / against, "against reference": against}
    return {"test": kind, "kind": kind, "call": call, **figures, "shmvar ns": shmvar, "against shmvar": ns / shmvar}


FOUND = {
    "machine": {"python": "3.11"},
    "stores": {
        "shmvar": {
            "version": "shmvar 1",
            "note": "",
            "way_to_add": "seg.add(i)",
            "way_to_wait": "seg.wait(i)",
            "rows": [
                cell("int", "get", 100.0, 0.5),
                cell("int", "put", 100.0, 0.4),
                {"test": "hand-over", "ns": 500.0, "reference ns": 250.0, "against reference": 2.0},
                {"test": "hand-over, asleep", "ns": 30_000.0, "reference ns": 30_000.0, "against reference": 1.0},
                {"test": "counter", "ns": 60.0, "reference ns": 600.0, "against reference": 0.1, "added": 9, "lost": 0},
                {"test": "torn", "reads": 1000, "torn": 0, "errors": {}},
                {"test": "kills", "rounds": 5, "clean": 5, "outcomes": {"clean": 5}, "longest s": 0.01},
            ],
        },
        "Other": {
            "version": "other 2",
            "note": "a note",
            "way_to_add": "none documented",
            "way_to_wait": "polls",
            "rows": [
                cell("int", "get", 50.0, 0.25),
                cell("int", "put", 2_000_000.0, 8000.0),
                {"test": "hand-over", "error": "RuntimeError: the echo failed: KeyError: 'bp12x3h'"},
                {"test": "torn", "reads": 1000, "torn": 12, "errors": {"EOFError": 2}},
                {"test": "kills", "rounds": 3, "clean": 1, "outcomes": {"clean": 1, "hung": 2}, "longest s": 0.01},
            ],
        },
    },
    "skipped": {"Absent": "pip install absent"},
}


def test_the_best_of_a_column_is_bold_and_what_was_not_measured_is_a_dash():
    lines = report.cells(FOUND, ("int", "str")).splitlines()
    assert lines[0] == "|  | int: get | int: put | str of 40: get | str of 40: put |"
    assert lines[2] == "| shmvar | 100 ns (0.5) | **100 ns (0.4)** | - | - |"
    assert lines[3] == "| Other | **50 ns (0.25)** | 2 ms (8,000) | - | - |"


def test_the_table_of_pairs_says_times_ways_and_failures():
    lines = report.pairs(FOUND).splitlines()
    assert lines[2] == "| shmvar | 500 ns (2) | 30 µs (1) | seg.wait(i) | 60 ns (0.1) | seg.add(i) |"
    assert lines[3] == "| Other | the echo failed: KeyError: the store | - | - | - | none documented |"


def test_the_table_of_faults_says_what_was_seen():
    lines = report.faults(FOUND).splitlines()
    assert lines[2] == "| shmvar | 0 of 1,000 | 0 of 9 | - | 5 of 5 |  |"
    assert lines[3] == "| Other | 12 of 1,000; 2 EOFError | - | - | 1 of 3 | 2 hung |"


def test_rows_in_which_another_store_is_quicker_are_named():
    assert report.ahead(FOUND).splitlines()[2:] == ["| int: get | Other 0.5 |"]


def test_what_is_not_installed_is_named_with_what_installs_it():
    assert "| Absent | skipped | pip install absent |" in report.versions(FOUND)

    class Absent(Store):
        packages = ("no-such-distribution",)

    with pytest.raises(Missing, match="pip install no-such-distribution"):
        Absent.version()


def test_a_time_is_written_with_three_figures():
    assert [report.short(each) for each in (7.0, 123.4, 1234.0, 5.6e6, 2e9)] == [
        "7 ns",
        "123 ns",
        "1.23 µs",
        "5.6 ms",
        "2 s",
    ]


def test_the_reason_of_a_child_is_its_last_exception():
    said = "Traceback:\n  File\nKeyError: 'x'\n/usr/lib/tracker.py:1: UserWarning: leaked Error\n  warnings.warn()\n"
    assert child.reason(said) == "KeyError: 'x'"
    assert child.reason("") == "?"


def test_a_host_that_fails_or_does_not_end_is_a_finding(monkeypatch):
    assert peers.measured("no such store", "bp0x0", "smoke") == [{"test": "all", "error": "ended with 1"}]
    monkeypatch.setitem(peers.SECONDS, "smoke", 0.05)
    begin = time.monotonic()
    assert peers.measured("shmvar", "bp0x0", "smoke") == [{"test": "all", "error": "not done after 0.05 s"}]
    assert time.monotonic() - begin < 60


def test_a_survivor_that_does_not_answer_is_a_hang(monkeypatch):
    monkeypatch.setattr(child, "PATIENCE", 0.05)
    silent = subprocess.Popen(["sleep", "60"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert faults.asked(silent) is None
    finally:
        child.end(silent)


def test_every_store_says_what_it_is():
    for name, store in registry.ALL.items():
        assert store.name == name and set(store.kinds) <= set(report.KINDS)
        assert store.can_add == (store.way_to_add[:4] != "none")


NO_MOUNTS = ["unshare", "--user"]


@pytest.mark.slow
@pytest.mark.parametrize("prefix", [[], NO_MOUNTS], ids=["", "without a /dev/shm of its own"])
def test_a_smoke_run_finds_what_it_must_and_leaves_nothing(tmp_path, prefix):
    if prefix and not helpers.unshare_works("--user"):
        pytest.skip("needs root and `unshare --user`")
    file, names = tmp_path / "peers.json", "shmvar,SharedMemory + pickle,Manager dict"
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    before = set(os.listdir("/dev/shm"))
    command = [*prefix, sys.executable, BENCH / "peers.py", "--smoke", "--only", f"{names},PHP APCu", "--json", file]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    found = json.loads(file.read_text())
    assert set(found["stores"]) | set(found["skipped"]) == {*names.split(","), "PHP APCu"}
    ours = report.tests_of(found["stores"]["shmvar"])
    assert ours["torn"]["torn"] == 0 < ours["torn"]["reads"] and not ours["torn"]["errors"]
    assert ours["counter"]["lost"] == 0 < ours["counter"]["added"]
    assert ours["kills"]["outcomes"] == {"clean": ours["kills"]["rounds"]}
    assert set(report.rows_of(found["stores"]["shmvar"])) == set(report.COLUMNS)
    assert "| shmvar |" in done.stdout and "Manager dict" in done.stdout
    left = {name for name in set(os.listdir("/dev/shm")) - before if "bp" in name}
    assert not left and os.listdir(tmp_path) == ["peers.json"]
