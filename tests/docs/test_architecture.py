"""docs/architecture.md and CONTRIBUTING.md name files that exist, and each folder has its line."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ["docs/architecture.md", "CONTRIBUTING.md"]


def named(page):
    """What stands in backticks and looks like a path within the repository."""
    text = (ROOT / page).read_text()
    return {
        word
        for word in re.findall(r"`([\w./-]+)`", text)
        if re.match(r"(src|python|tests|docs|bench|fuzz|tools)/", word)
    }


@pytest.mark.parametrize("page", PAGES)
def test_each_path_that_a_page_names_exists(page):
    paths = named(page)
    assert len(paths) > 5
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []


def test_each_folder_of_the_sources_has_its_line():
    paths = {path.rstrip("/") for path in named("docs/architecture.md")}
    floors = {f"src/{folder.name}" for folder in (ROOT / "src").iterdir() if folder.is_dir()}
    assert floors - paths == set()
    root_files = {f"src/{file.name}" for file in (ROOT / "src").glob("*.rs")} - {"src/lib.rs", "src/fuzzing.rs"}
    assert root_files - paths == set()
    text = (ROOT / "docs/architecture.md").read_text()
    command_line = ROOT / "python/shmvar/cli"
    packages = [folder.name for folder in command_line.iterdir() if (folder / "__init__.py").exists()]
    assert [name for name in packages if f"`{name}/`" not in text] == []


def test_each_folder_of_tests_has_its_line():
    text = (ROOT / "docs/testing.md").read_text()
    folders = [folder.name for folder in (ROOT / "tests").iterdir() if folder.is_dir() and folder.name != "__pycache__"]
    assert [name for name in sorted(folders) if f"| `{name}` |" not in text] == []


def test_each_floor_maps_its_files():
    """The module documentation of a floor's mod.rs has a row for each of its files."""
    for floor in sorted((ROOT / "src").iterdir()):
        if not floor.is_dir():
            continue
        head = "\n".join(line for line in (floor / "mod.rs").read_text().splitlines() if line.startswith("//!"))
        files = {path.stem if path.is_file() else path.name for path in floor.iterdir()} - {"mod"}
        missing = [name for name in sorted(files) if f"`{name}`" not in head and f"`{name}/`" not in head]
        assert missing == [], f"{floor.name}/mod.rs"
