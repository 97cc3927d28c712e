"""docs/testing.md is true: each test that it names exists, each test of a failure mode and each folder has its line."""

import collections
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "testing.md"
TESTS = ROOT / "tests"

if not PAGE.exists():
    pytest.skip("the page is not beside the tests", allow_module_level=True)


def functions():
    """Names of test functions, by what the page calls their place: a Python file, a program of tests/rust, or `lib`."""
    found = collections.defaultdict(set)
    for path in TESTS.rglob("test_*.py"):
        found[path.name] |= set(re.findall(r"^(?:async )?def (test_\w+)\(", path.read_text(), re.M))
    for folder, unit in ((TESTS / "rust", None), (ROOT / "src", "lib")):
        for path in folder.rglob("*.rs"):
            place = unit or path.relative_to(folder).parts[0].removesuffix(".rs")
            found[place] |= set(re.findall(r"^ *fn (\w+)\(", path.read_text(), re.M))
    return found


def rows(first):
    """The cells of each line of the table whose first title this is."""
    lines = iter(PAGE.read_text().splitlines())
    next(line for line in lines if line.startswith(f"| {first} |"))
    next(lines)
    for line in lines:
        if not line.startswith("|"):
            break
        yield [cell.strip() for cell in line.strip("|").split("|")]


FUNCTIONS = functions()
FAILURES = {}
for number, what, shown in rows("failure"):
    assert number not in FAILURES and what
    parts = [re.findall(r"`([\w.]+)`", part) for part in shown.split("; ")]
    FAILURES[number] = {(place, name) for place, *names in parts for name in names}


def test_each_failure_mode_has_its_line():
    assert list(FAILURES) == [f"F{number}" for number in range(1, 64)]


@pytest.mark.parametrize("number", FAILURES)
def test_each_test_that_the_page_names_exists(number):
    assert FAILURES[number]
    missing = {(place, name) for place, name in FAILURES[number] if name not in FUNCTIONS[place]}
    assert not missing


def test_each_test_with_the_number_of_a_failure_is_named_there():
    numbered = {
        (f"F{number}", place, name)
        for place, names in FUNCTIONS.items()
        for name in names
        for number in re.findall(r"f(\d+)_", re.match(r"(?:test_)?((?:[a-z]\d+_)*)", name)[1])
    }
    assert len(numbered) > 200
    assert not numbered - {(number, place, name) for number, shown in FAILURES.items() for place, name in shown}


@pytest.mark.parametrize(
    "title, folder", [("folder of `tests/`", TESTS), ("test program of `tests/rust/`", TESTS / "rust")]
)
def test_each_folder_has_its_line(title, folder):
    there = {path.stem for path in folder.iterdir() if path.is_dir() or path.suffix == ".rs"}
    assert {cells[0].strip("`") for cells in rows(title)} == there - {"__pycache__", "common"}


def test_each_module_of_the_soak_has_its_line():
    named = set(re.findall(r"(\w+)\.py", " ".join(cells[0] for cells in rows("module of `tests/soak/`"))))
    kinds = ("variable", "atomic", "change", "queue", "segment", "in_place", "eviction", "child")
    named |= {f"{what}_operations" for what in kinds}
    there = {path.stem for path in (TESTS / "soak").glob("*.py")}
    assert named == there - {"__init__", "__main__", "test_soak"}


PAGES = [page for pattern in ("*.md", "docs/*.md") for page in sorted(ROOT.glob(pattern))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_test_file_that_a_page_names_exists(page):
    """Files and folders are found by their name, whatever folder they are in."""
    named = re.findall(r"`(?:tests/)?(test_\w+\.py)\b|`tests/([\w/]+(?:\.\w+)?)", page.read_text())
    names = {Path(file or path).name for file, path in named}
    assert not {name for name in names if name not in ("tests", "") and not any(TESTS.rglob(name))}


def test_the_name_of_a_test_file_is_unique():
    """A page names a test by its file, without the folder."""
    files = collections.Counter(path.name for path in TESTS.rglob("test_*.py"))
    assert not [name for name, count in files.items() if count > 1]
