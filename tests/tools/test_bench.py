"""The harness of bench/ measures and judges as it says, and every program there still runs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = next(folder for folder in Path(__file__).parents if (folder / "pyproject.toml").is_file())
BENCH = ROOT / "bench"
sys.path.insert(0, str(BENCH))

import every as programs  # noqa: E402
import ratios  # noqa: E402
from ratios import Aim  # noqa: E402

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def bench(monkeypatch):
    """A bench whose loops are numbers: the nanoseconds that a call takes. `order` has them as they were measured."""
    made = ratios.Bench(ratios.Effort(5, 5, 10))
    made.order = []

    def stretch(loop, turns):
        made.order.append((loop, tuple(turns)))
        return loop

    monkeypatch.setattr(ratios, "stretch", stretch)
    return made


def test_an_aim_is_so_many_times_the_reference_and_so_much_more():
    assert Aim(1.25, 0.3).bound(1000) == 1550
    assert Aim(plus_us=3).bound(10**9) == 3000
    assert [str(aim) for aim in (Aim(0.6), Aim(1.5, 3), Aim(plus_us=3))] == ["0.6 x", "1.5 x + 3 us", "3 us"]


def test_a_row_is_met_up_to_its_bound_and_missed_beyond(bench):
    assert bench.row("a", 60, "plain", 100, Aim(0.6), count=1).met is True
    assert bench.row("b", 61, "plain", 100, Aim(0.6), count=1).met is False
    assert bench.row("c", 10**6, "plain", 100, count=1).met is None
    missed = bench.rows[1]
    assert (missed.ratio, missed.bound, missed.aim, missed.verdict()) == (0.61, 60, "0.6 x", "MISSED")


def test_ours_and_the_reference_alternate_and_take_the_same_turns(bench):
    draws = iter(range(100))
    bench.row("a", 1, "plain", 2, turns=lambda calls: [next(draws) for _ in range(calls)], count=2, beside={"limit": 3})
    loops = [loop for loop, _ in bench.order]
    assert loops == [1, 2, 3] * 5
    rounds = [{turns for _, turns in bench.order[at : at + 3]} for at in range(0, 15, 3)]
    assert all(len(turns) == 1 for turns in rounds)
    assert len(set.union(*rounds)) == 5, "each round has turns of its own"
    assert bench.rows[0].beside == {"limit": 3}


def test_of_several_references_the_strictest_judges(bench):
    others = {"a map": (90, Aim(1))}
    row = bench.row("a", 100, "a copy", 100, Aim(1.25), others=others, count=1)
    assert (row.what, row.reference, row.met, row.beside) == ("a map", 90, False, {"a copy": 100})
    assert row.aim == "1.25 x a copy, or 1 x a map"
    row = bench.row("b", 100, "a copy", 70, Aim(1.25), others=others, count=1)
    assert (row.what, row.met) == ("a copy", False)


def test_one_disturbed_stretch_decides_nothing(monkeypatch):
    times = iter([50, 100, 50, 100, 50, 100, 9000, 100, 50, 9000])
    monkeypatch.setattr(ratios, "stretch", lambda *_: next(times))
    row = ratios.Bench(ratios.Effort(5, 5, 10)).row("a", None, "plain", None, Aim(0.6), count=1)
    assert (row.ours, row.reference, row.ratio, row.met) == (50, 100, 0.5, True)


def test_a_stretch_has_enough_calls_for_the_clock_and_not_too_many_of_a_slow_one(monkeypatch):
    monkeypatch.setattr(ratios, "stretch", lambda loop, turns: loop)
    count = ratios.enough_calls([100, 200], range, ratios.FULL)
    assert count * 100 >= ratios.STRETCH_NS
    assert ratios.enough_calls([100, 10**9], range, ratios.FULL) == 1


def test_the_summary_names_what_was_missed(bench):
    bench.row("good", 50, "plain", 100, Aim(0.6), count=1)
    bench.row("bad", 70, "plain", 100, Aim(0.6), count=1)
    bench.row("without", 70, "plain", 100, count=1)
    lines = ratios.summary(bench.rows).splitlines()
    assert lines[0] == "1 of 2 aims met"
    assert [line.split()[0] for line in lines[1:]] == ["bad"]


@pytest.mark.slow
@pytest.mark.parametrize("name", programs.OTHERS)
def test_each_program_that_has_marks_of_its_own_still_runs(name):
    command = [sys.executable, BENCH / f"{name}.py", *programs.OTHERS[name]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0 and done.stdout, done.stderr


def test_all_programs_are_known_to_the_one_that_runs_them():
    no_measurements = {"every", "hide_vdso", "page", "peers", "ratios"}
    assert {path.stem for path in BENCH.glob("*.py")} - no_measurements == {*programs.WITH_ROWS, *programs.OTHERS}


def test_a_run_ends_with_the_aims_and_keeps_the_rows(tmp_path):
    file = tmp_path / "rows.json"
    command = [sys.executable, BENCH / "every.py", "--smoke", "--only", "batches,containers", "--json", file]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].endswith("aims met")
    found = json.loads(file.read_text())
    assert list(found["programs"]) == ["batches", "containers"]
    assert all(row["met"] is None for rows in found["programs"].values() for row in rows), "a smoke run judges nothing"
    file.write_text(json.dumps(found | {"programs": {"views": ["kept"], "batches": ["old"]}}))
    subprocess.run([*command[:3], "--only", "batches", "--json", file], capture_output=True, timeout=250, check=True)
    programs_now = json.loads(file.read_text())["programs"]
    assert programs_now == {"views": ["kept"], "batches": programs_now["batches"]} != {"batches": ["old"]}
    assert [row["name"] for row in programs_now["batches"]] == [row["name"] for row in found["programs"]["batches"]]
