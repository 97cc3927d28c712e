"""`make demo` says what it does, builds what is ready soon, and leaves to the tests what is released."""

import os
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROFILES = tomllib.loads((ROOT / "Cargo.toml").read_text())["profile"]


def dry(goal):
    """The lines that `make` would run if nothing were there, and what it would print first."""
    # A `make` that runs this test hands its options on.
    without = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "--dry-run", "--always-make", "PYTHON=python3", goal]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, env=without)
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def demo():
    return dry("demo")


def test_each_step_is_said_before_it_is_done(demo):
    places = [
        next(number for number, line in enumerate(demo) if text in line)
        for text in ("1 of 3:", "-m venv", "2 of 3:", "maturin build", "3 of 3:", "bin/shmvar demo")
    ]
    assert places == sorted(places) and len(set(places)) == len(places)


def test_the_progress_of_the_build_is_seen(demo):
    [build] = [line for line in demo if "maturin build" in line]
    assert ">" not in build and "quiet" not in build


def test_the_demo_is_built_without_the_steps_that_take_longest(demo):
    [build] = [line for line in demo if "maturin build" in line]
    assert "--profile demo" in build
    profile = PROFILES["demo"]
    assert profile["inherits"] == "release" and profile["lto"] == "off"
    assert profile["codegen-units"] > 1 and profile["opt-level"] == 0


def test_the_demo_runs_where_rich_cannot_be_installed(demo):
    [number] = [number for number, line in enumerate(demo) if '["cli"]' in line and " install " in line]
    assert "||" in "".join(demo[number : number + 2])


def test_the_two_environments_are_apart(demo):
    assert not [line for line in demo if ".venv/" in line]
    tests = dry(".venv/test")
    assert not [line for line in tests if ".venv-demo" in line or "--profile" in line]
    assert [line for line in tests if "install" in line and '".[test]"' in line]
