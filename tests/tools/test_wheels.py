"""What is released is built as the workflow and `make wheels` say, and two builds that differ are found."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "tools" / "wheels.py"
WORKFLOW = ROOT / ".github" / "workflows" / "release.yml"


@pytest.fixture
def wheels(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import wheels

    return wheels


def dry(tmp_path, *options):
    command = [sys.executable, PROGRAM, "--dry-run", "--out", tmp_path / "dist", "--work", tmp_path / "work", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not list(tmp_path.iterdir()), "it has done nothing"
    return done.stdout.splitlines()


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs the repository, of which what is committed is built")
def test_it_builds_for_each_system_of_the_issue_and_once_more_to_compare(tmp_path, wheels):
    lines = dry(tmp_path, "--again")
    built = [line for line in lines if " build " in line]
    for target, oldest in wheels.TARGETS.items():
        found = [
            line for line in built if f"--target {target} --compatibility {oldest} " in line and " -i " not in line
        ]
        assert len(found) == 2 and found[0].replace("/dist", "/work/again") == found[1]
        assert all("--locked --zig" in line and re.search(r"SOURCE_DATE_EPOCH=\d{10}", line) for line in found)
        assert ("-crt-static" in found[0]) == target.endswith("musl")
    first = "\n".join(lines)
    for step in (
        "git archive",
        "publish.py",
        "maturin sdist",
        "twine check --strict",
        "check_wheel_contents",
        "--no-index",
    ):
        assert step in first
    assert {oldest for oldest in wheels.TARGETS.values()} == {"manylinux2014", "musllinux_1_2"}


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs the repository, of which what is committed is built")
def test_a_part_of_it_is_only_that(tmp_path):
    lines = dry(tmp_path, "--only", "aarch64-unknown-linux-musl", "--no-tests", "--home", "https://example.org/x")
    built = [line for line in lines if " build " in line]
    assert len(built) == 1 and "aarch64-unknown-linux-musl" in built[0]
    assert any("--home https://example.org/x" in line for line in lines) and not any(
        "-m pytest" in line for line in lines
    )


def test_builds_that_are_not_the_same_bytes_and_wheels_that_are_too_large_are_found(tmp_path, wheels):
    one, two = tmp_path / "one", tmp_path / "two"
    for folder, text in ((one, b"1"), (two, b"2")):
        folder.mkdir()
        (folder / "same.whl").write_bytes(b"same")
        (folder / "other.whl").write_bytes(text)
    (two / "more.whl").write_bytes(b"")
    assert wheels.same(one, two) == ["more.whl", "other.whl"] and wheels.same(one, one) == []
    (one / "same.whl").write_bytes(bytes(wheels.LARGEST + 1))
    (wrong,) = wheels.check(wheels.Steps(dry=True), one)
    assert wrong.startswith("same.whl has 800,001 bytes")


def test_the_workflow_does_what_the_tools_here_can_do():
    yaml = pytest.importorskip("yaml")
    found = yaml.safe_load(WORKFLOW.read_text())
    jobs = found["jobs"]
    assert set(jobs["publish"]["needs"]) == {"same", "manylinux", "musllinux"} and "tag" in jobs["publish"]["if"]
    assert jobs["publish"]["permissions"]["id-token"] == "write" and found["permissions"] == {"contents": "read"}
    for name, job in jobs.items():
        assert all(step.get("uses") or step.get("run") for step in job["steps"])
        needed = job.get("needs", [])
        assert {needed} <= jobs.keys() if isinstance(needed, str) else set(needed) <= jobs.keys(), name
    # The Pythons of the classifiers, and each option and path that a command names.
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    versions = [name.split(" :: ")[-1] for name in project["classifiers"] if re.fullmatch(r".*Python :: 3\.\d+", name)]
    assert [version for version in jobs["manylinux"]["strategy"]["matrix"]["python"] if "t" not in version] == versions
    text = WORKFLOW.read_text()
    assert re.search(r"^wheels: ", (ROOT / "Makefile").read_text(), re.M) and "make wheels " in text
    for option in re.findall(r"--(?:no-tests|home|again|only)\b", text):
        assert f'"{option}"' in PROGRAM.read_text()
    for path in re.findall(r"\btests/[\w/.]+", text):
        assert (ROOT / path).exists()
