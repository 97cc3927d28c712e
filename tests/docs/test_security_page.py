"""SECURITY.md promises nothing without a test: each line of a table names one, and each named test exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "SECURITY.md"
NAMED = re.compile(r"`([\w/]+\.(?:py|rs))::(\w+)`")

if not PAGE.exists():
    pytest.skip("the page is not beside the tests", allow_module_level=True)

LINES = [line for line in PAGE.read_text().splitlines() if line.startswith("|") and not line.startswith("| --- |")]
ROWS = [line for line in LINES if not line.startswith("| | shown by")]


def exists(file, name):
    """Is there such a test? A file of `src/` is named with its folder, one of `tests/` without."""
    start = r"^def " if file.endswith(".py") else r"^ *fn "
    paths = [ROOT / file] if file.startswith("src/") else (ROOT / "tests").rglob(file)
    return any(re.search(start + re.escape(name) + r"\(", path.read_text(), re.M) for path in paths if path.exists())


@pytest.mark.parametrize("file, name", sorted(set(NAMED.findall(PAGE.read_text()))))
def test_each_test_that_the_page_names_exists(file, name):
    assert exists(file, name), f"SECURITY.md names {file}::{name}"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[2:40])
def test_each_line_names_a_test_or_says_why_there_is_none(row):
    what, shown = row.strip("| ").rsplit(" | ", 1)
    assert what and (NAMED.findall(shown) or re.match(r"— \w+ \w+", shown)), row


def test_the_page_is_read_as_it_is_meant():
    assert len(ROWS) > 30 and len(NAMED.findall(PAGE.read_text())) > 40
    assert not exists("test_damage.py", "test_that_nobody_has_written") and not exists("none.py", "test_x")
    # A name in a wrong form would otherwise be taken for plain text.
    assert len(re.findall(r"::", PAGE.read_text())) == len(NAMED.findall(PAGE.read_text()))
