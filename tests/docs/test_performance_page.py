"""docs/performance.md has every row and aim that the programs of bench/ print, and what the last run has found."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCH, PAGE = ROOT / "bench", ROOT / "docs" / "performance.md"
if not PAGE.exists():
    pytest.skip("the page is not beside the tests", allow_module_level=True)
sys.path.insert(0, str(BENCH))

import every as programs  # noqa: E402
import page  # noqa: E402
from stores import php, registry  # noqa: E402

pytestmark = pytest.mark.timeout(300)
FOUND, PEERS = (json.loads((page.PLOTS / f"{name}.json").read_text()) for name in ("rows", "peers"))


@pytest.mark.parametrize("name", programs.WITH_ROWS)
def test_the_page_has_each_row_of_a_program_with_its_aim(name):
    command = [sys.executable, BENCH / f"{name}.py", "--smoke", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    if not done.stdout:
        pytest.skip(done.stderr)
    printed = [(row["name"], row["aim"]) for row in json.loads(done.stdout)["rows"]]
    assert printed == [(row["name"], row["aim"]) for row in FOUND["programs"][name]], "make performance"
    assert len(dict(printed)) == len(printed), "each row has a name of its own"


def test_the_page_is_what_the_last_run_found():
    for file, text in page.pages(FOUND, PEERS).items():
        assert file.read_text() == text, f"python bench/page.py; {file.name}"


def test_the_page_names_every_store_and_each_plot_exists():
    text = PAGE.read_text()
    assert [name for name in [*registry.ALL, *php.NAMES] if f"| {name} |" not in text] == []
    plots = re.findall(r"\]\((plots/[\w-]+\.svg)\)", text)
    assert len(plots) >= 4 and all((PAGE.parent / plot).exists() for plot in plots)


def test_a_page_whose_markers_do_not_fit_is_refused():
    text = "<!-- begin: a -->\nold\n<!-- end: a -->\nwords\n"
    assert page.filled(text, {"a": "new"}) == "<!-- begin: a -->\nnew\n<!-- end: a -->\nwords\n"
    with pytest.raises(ValueError, match="'b'"):
        page.filled(text, {"a": "new", "b": "more"})
