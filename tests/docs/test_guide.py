"""The Python of README, guide and recipes runs as pasted, and gives what its remarks say; each link leads somewhere."""

import os
import re
import subprocess
import sys
import tempfile

import helpers
import pytest
from helpers import pages

PAGES = ["README.md", "docs/guide.md", "docs/recipes.md"]
WITHOUT_NUMPY = "import sys; sys.modules['numpy'] = sys.modules['pandas'] = None; "


def pasted(page, how, prefix="", start=""):
    """Pastes a page into a fresh interpreter (`helpers.pages`); returns what that printed."""
    done = python(f"{start}import sys; from helpers import pages; pages.main(*sys.argv[1:])", page, how, prefix)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def python(code, *arguments):
    """Runs a program of its own that can import `helpers`, where the files that a page writes are nobody's."""
    paths = [helpers.TESTS, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    with tempfile.TemporaryDirectory() as folder:
        return subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, paths))},
            timeout=100 * helpers.machine.SLOWER,
            check=False,
        )


def left_out(printed):
    """The lines of the page whose blocks were left out, and what each of them needs."""
    return {int(line): what for line, what in re.findall(r"^left out: line (\d+) needs (.*)$", printed, re.M)}


def lacking(page):
    """The same of the blocks that cannot run here: numpy is not installed, say."""
    found = {at: pages.lacks(source) for at, source in pages.blocks(page)}
    return {at: what for at, what in found.items() if what}


@pytest.mark.parametrize("page", PAGES)
def test_the_python_of_a_page_runs_in_a_small_shm_and_gives_what_its_remarks_say(page):
    printed = pasted(page, "blocks")
    assert left_out(printed) == lacking(page)
    compared = int(re.search(r"^compared: (\d+)$", printed, re.M)[1])
    assert compared >= {"README.md": 3, "docs/guide.md": 25, "docs/recipes.md": 3}[page]


@pytest.mark.parametrize("page", PAGES)
def test_the_python_of_a_page_runs_line_by_line_at_a_prompt(page):
    assert left_out(pasted(page, "lines")) == lacking(page)


@pytest.mark.parametrize("page", PAGES)
def test_the_python_of_a_page_runs_beside_the_segments_of_others(page, key):
    assert left_out(pasted(page, "blocks", key)) == lacking(page)
    assert not [name for name in os.listdir(helpers.SHM) if key in name]


@pytest.mark.parametrize("page", PAGES)
def test_without_numpy_only_the_blocks_that_need_it_are_left_out(page):
    left, here = left_out(pasted(page, "blocks", start=WITHOUT_NUMPY)), lacking(page)
    assert set(left.values()) - set(here.values()) <= {"numpy", "pandas"}
    assert left.keys() >= here.keys()
    for at, source in pages.blocks(page):
        if not re.search(r"numpy|\bnp\.|pandas|\.array\(", source):
            assert at not in left or at in here


PROGRESS = """
import sys, traceback
from helpers import pages
keys = pages.with_prefix(sys.argv[1])
import shmvar
names, sources = {"shmvar": shmvar}, [source for _, source in pages.blocks("docs/guide.md", "Progress")]
try:
    for _ in range(2):  # as somebody does who runs a cell again
        print(sum(pages.run_block(source, names) for source in sources), names["squares"][-1])
    print(names["jobs"]["done"])
    assert "return number" in sources[0]
    sources[0] = sources[0].replace("return number", "return 1 // (number - 5) + number")
    for source in sources:
        pages.run_block(source, names)
except ZeroDivisionError as error:
    print("raised", names["jobs"]["done"])
finally:
    for key in keys:
        shmvar.destroy(key)
"""


def test_the_progress_of_the_guide_runs_again_in_its_notebook_and_raises_what_a_worker_raised(key):
    done = python(PROGRESS, key)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines() == ["1 39601", "1 39601", "200", "raised 200"]


def test_what_is_wrong_in_a_page_is_found():
    """The tests above would see a name that is imported nowhere, a remark that is not true, a missing empty line."""
    with pytest.raises(NameError):
        pages.run_block("shmvar.attach(1)", {})
    with pytest.raises(AssertionError, match="gave 2: 1"):
        pages.run_block("1 + 1  # 3", {})
    with pytest.raises(AssertionError):
        pages.run_block("1 + 1  # 2.0", {})
    assert pages.run_block("1 + 1  # 2\n2 + 2  # no value\nif True:\n    3 * 3  # 9", {}) == 2
    for wrong in ("if True:\n    pass\npass", "x = (1", "unknown"):
        with pytest.raises((SyntaxError, NameError, AssertionError)):
            pages.Prompt({}).paste(wrong)
    pages.Prompt({}).paste("if True:\n    pass\n\npass\nfor _ in ():\n    pass")


def test_each_python_block_is_marked_as_such():
    """Python that is indented, or in a block of another name, would not be run."""
    for page in PAGES:
        text = (pages.ROOT / page).read_text()
        marks = re.findall(r"^```(\w*)$", text, re.M)
        assert marks.count("") >= len(marks) / 2 and set(marks) <= {"", "python", "rust", "yaml", "php"}
        prose = re.sub(r"^```.*?^```$", "", text, flags=re.S | re.M)
        assert not re.search(r"^    (import|from|with|def|[\w.]+ =) ", prose, re.M)


def test_readme_says_how_to_install_before_it_says_what_to_run():
    text = (pages.ROOT / "README.md").read_text()
    places = [text.index(part) for part in ("pip install shmvar", "```python", "shmvar demo", "## A short tour")]
    assert places == sorted(places)


@pytest.mark.parametrize("page", PAGES)
def test_each_link_of_a_page_leads_somewhere(page):
    """To a file that exists, and to a heading that its page has, by the rule of GitHub for the names of headings."""
    here = pages.ROOT / page
    for path, heading in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)", here.read_text()):
        to = here.parent / path if path else here
        assert to.exists(), path
        if heading:
            titles = re.findall(r"^#+ (.*)$", to.read_text(), re.MULTILINE)
            assert heading in [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]
