"""A wheel is tried on the interpreters that are here, and on nothing that only looks like one."""

import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "tools" / "pythons.py"
MINE = f"python3.{sys.version_info[1]}" + ("t" if "t" in sys.abiflags else "")


@pytest.fixture
def pythons(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import pythons

    return pythons


def program(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
    return path


def test_an_interpreter_is_what_it_is_called_and_works(tmp_path, monkeypatch, pythons):
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    # pyenv's own file of that name, which says that no such version was chosen; another version; one without venv.
    for number, line in enumerate(("echo no such command >&2; exit 127", "echo python3.9", "exit 1")):
        program(tmp_path / "path" / "python3.99", line)
        assert pythons.find("python3.99") is None, number
    for version in ("3.99.2", "3.99.10", "3.98.11"):
        program(tmp_path / "pyenv" / "versions" / version / "bin" / "python3.99", "echo python3.99")
    assert pythons.find("python3.99").parts[-3] == "3.99.10", "pyenv's newest"
    there = program(tmp_path / "path" / "python3.99", "echo python3.99")
    assert pythons.find("python3.99") == there, "the path comes first"


def test_the_interpreter_of_the_tests_is_found_wherever_it_is(tmp_path, monkeypatch, pythons):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    found = pythons.find(MINE)
    assert found is not None and pythons.works(found, MINE) and not pythons.works(found, MINE + "t")


def test_the_index_has_the_wheels_and_nothing_else(tmp_path, pythons):
    dist = tmp_path / "dist"
    dist.mkdir()
    name = "shmvar-1-cp311-abi3-linux_x86_64.whl"
    for other in (name, "other-1-py3-none-any.whl", "shmvar-1.tar.gz"):
        (dist / other).write_bytes(other.encode())
    with pythons.index(dist, tmp_path) as address:
        assert urllib.request.urlopen(f"{address}shmvar/{name}", timeout=30).read() == name.encode()
        page = urllib.request.urlopen(f"{address}shmvar/", timeout=30).read().decode()
        assert page.count("href") == 1 and f'href="{name}"' in page
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"{address}other/", timeout=30)


def test_a_free_threaded_interpreter_needs_a_wheel_of_its_own(tmp_path, pythons):
    (tmp_path / "shmvar-1-cp311-abi3-linux_x86_64.whl").touch()
    assert pythons.fits(tmp_path, "python3.14") and not pythons.fits(tmp_path, "python3.14t")
    (tmp_path / "shmvar-1-cp314-cp314t-linux_x86_64.whl").touch()
    assert pythons.fits(tmp_path, "python3.14t") and not pythons.fits(tmp_path, "python3.15t")
    assert not pythons.fits(tmp_path / "nothing", "python3.14")


def test_the_first_screen_is_the_programs_before_the_tour_and_what_they_say(pythons):
    text, printed = pythons.first_screen((ROOT / "README.md").read_text())
    assert text.count("attach(4711)") == 2 and ".destroy()" in text and printed == ["Ada 16"]


def test_what_is_not_here_is_named_and_an_error_where_all_are_asked_for(tmp_path, monkeypatch, pythons):
    monkeypatch.setattr(pythons, "find", lambda name: None if name == "python3.13" else Path(name))
    tried = []
    monkeypatch.setattr(pythons, "tried", lambda name, *rest: tried.append(name) or name != "python3.12")
    (tmp_path / "shmvar-1-cp311-abi3-linux_x86_64.whl").touch()

    def end(*options):
        tried.clear()
        monkeypatch.setattr(sys, "argv", ["pythons", str(tmp_path), *options])
        return pythons.main()

    assert end() == 1 and tried == ["python3.11", "python3.12", "python3.14"], "one that fails does not end it"
    fine = ["--only", "python3.11", "--only", "python3.13"]
    assert end(*fine) == 0 and tried == ["python3.11"] and end(*fine, "--all") == 1
    assert end("--only", "python3.13") == 1, "a trial on nothing shows nothing"


def test_the_tests_of_the_interpreter_that_ran_them_are_not_run_again(tmp_path, monkeypatch, pythons):
    monkeypatch.setattr(pythons, "find", lambda name: Path(sys.executable if name == MINE else name))
    asked = {}
    monkeypatch.setattr(
        pythons, "tried", lambda name, path, dist, place, tests, parallel: asked.update({name: tests}) or 1
    )
    for abi in ("abi3", MINE.replace("python3.", "cp3")):
        (tmp_path / f"shmvar-1-cp311-{abi}-linux_x86_64.whl").touch()
    for options, others in ([], pythons.QUICK), (["--few"], pythons.FEW), (["--few", "--", "tests/x"], ["tests/x"]):
        for tested in [], ["--tested"]:
            monkeypatch.setattr(sys, "argv", ["pythons", *tested, *options[:1], str(tmp_path), *options[1:]])
            assert pythons.main() == 0 and asked.pop(MINE) == ([] if tested else others)
            assert asked and all(tests == others for tests in asked.values())


def test_the_few_tests_are_there(pythons):
    files = [word for word in pythons.FEW if word.startswith("tests/")]
    assert len(files) > 10 and [file for file in files if not (ROOT / file).is_file()] == []


def test_a_folder_without_a_wheel_is_refused(tmp_path):
    done = subprocess.run([sys.executable, PROGRAM, tmp_path], capture_output=True, text=True)
    assert done.returncode == 2 and f"there is no wheel in {tmp_path}" in done.stderr


def test_the_versions_are_those_of_the_classifiers(pythons):
    text = (ROOT / "pyproject.toml").read_text()
    for name in pythons.VERSIONS:
        assert ("t" in name[6:]) or f'"Programming Language :: Python :: {name[6:]}"' in text
    assert text.count('"Programming Language :: Python :: 3.') == sum(
        not name.endswith("t") for name in pythons.VERSIONS
    )
