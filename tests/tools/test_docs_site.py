"""The site: its pages are complete, its links are turned right, and what is wrong in it is found."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tools" / "docs_site"


@pytest.fixture
def module(monkeypatch):
    """Imports a module of the tool; afterwards nothing of it stays, for the names are common ones."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    monkeypatch.syspath_prepend(str(FOLDER))
    names = [path.stem for path in FOLDER.glob("*.py")]
    before = {name: sys.modules.pop(name, None) for name in names}

    def load(name):
        return __import__(name)

    yield load
    for name in names:
        sys.modules.pop(name, None)
        if before[name] is not None:
            sys.modules[name] = before[name]


# --- the whole


def test_every_page_can_be_made_of_what_the_repository_has(module):
    build, check = module("build"), module("check")
    made, pictures = build.sources(ROOT)
    assert check.blocks(made, ROOT) == []
    assert {"index", "guide/together", "reference/segment", "performance", "compared", "changelog"} <= made.keys()
    assert "docs/plots/aims.svg" in pictures and all((ROOT / picture).exists() for picture in pictures)
    assert all(text.lstrip().startswith("# ") for text in made.values()), "each has a title"


def test_no_section_of_the_guide_is_lost_and_each_block_of_it_is_on_a_page(module):
    build, check, markdown = module("build"), module("check"), module("markdown")
    made, _ = build.sources(ROOT)
    guide = (ROOT / "docs/guide.md").read_text()
    pages = "\n".join(text for path, text in made.items() if path.startswith("guide/"))
    assert sorted(check.python_blocks(guide)) == sorted(check.python_blocks(pages))
    titles = {text for _, text, _ in markdown.headings(pages)}
    assert {text for _, text, _ in markdown.headings(guide)} <= titles


def test_it_is_built_without_a_warning_and_without_a_network(tmp_path):
    for needed in ("sphinx", "myst_parser", "furo"):
        pytest.importorskip(needed, reason=f"not here: {needed} (make site)")
    command = [sys.executable, FOLDER / "build.py", "--out", tmp_path / "site", "--work", tmp_path / "work"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    assert "each leads somewhere" in done.stdout
    assert (tmp_path / "site/reference/segment.html").exists()


# --- its parts

TEXT = """\
# Title

Before.

    $ shmvar ls
    KEY

* an item

    its second paragraph

## First `x`

```python
## no heading
[no](link.md)
```

    plain

## Second: a part?

### Below

| a | b |
| --- | --- |
| 5 ns | 20 of 20 |
"""


def test_a_text_is_cut_at_its_sections_and_not_within_code(module):
    markdown = module("markdown")
    found = markdown.sections(TEXT)
    assert list(found) == ["", "First `x`", "Second: a part?"]
    assert "## no heading" in found["First `x`"] and found["Second: a part?"].startswith("\n### Below")
    with pytest.raises(ValueError, match="two sections"):
        markdown.sections("## a\n## a\n")


def test_headings_have_the_names_that_github_gives_them(module):
    markdown = module("markdown")
    assert [name for _, _, name in markdown.headings(TEXT + "## Below\n")] == [
        "title", "first-x", "second-a-part", "below", "below-1",
    ]  # fmt: skip


def test_indented_blocks_get_a_language_and_paragraphs_of_lists_stay(module):
    text = module("markdown").with_languages(TEXT)
    assert "```console\n$ shmvar ls\nKEY\n```\n" in text and "```text\nplain\n```\n" in text
    assert "\n    its second paragraph\n" in text and text.count("```") == 6


def test_a_figure_and_its_unit_stay_on_one_line_of_a_cell(module):
    text = module("markdown").with_firm_spaces(TEXT + "5 ns\n")
    assert "| 5\u00a0ns | 20\u00a0of 20 |" in text and text.endswith("\n5 ns\n")


@pytest.mark.parametrize(
    "source, page, to, there",
    [
        ("README.md", "index", "docs/guide.md#queues", "guide/together.md#queues"),
        ("README.md", "index", "docs/guide.md", "guide/index.md"),
        ("README.md", "index", "#arrays-that-are-not-copied", "tour.md#arrays-that-are-not-copied"),
        ("docs/guide.md", "guide/dumps", "format.md#record", "../format.md#record"),
        ("docs/guide.md", "guide/dumps", "#is-it-safe", "safety.md#is-it-safe"),
        ("docs/guide.md", "guide/safety", "../SECURITY.md", "../security.md"),
        ("SECURITY.md", "security", "docs/guide.md#limits", "guide/memory.md#limits"),
        ("README.md", "tour", "examples/work_queue.py", "examples.md#work_queuepy"),
        ("README.md", "tour", "examples", "examples.md"),
        ("docs/remote.md", "remote", "../examples/remote", "examples.md#remote"),
        ("docs/performance.md", "performance", "plots/aims.svg", "pictures/aims.svg"),
        ("README.md", "index", "LICENSE-MIT", "license.md"),
    ],
)
def test_a_link_leads_to_where_its_heading_is(module, source, page, to, there):
    links = module("links").Links(ROOT)
    assert links.target(to, source, page) == there
    assert links.broken == []


@pytest.mark.parametrize("to", ["docs/guide.md#no-such-heading", "examples/none.py", "Makefile", "docs/none.md"])
def test_a_link_that_leads_nowhere_is_found(module, to):
    links = module("links").Links(ROOT)
    links.target(to, "README.md", "index")
    assert len(links.broken) == 1 and to.partition("#")[0] in links.broken[0]


def test_a_section_without_a_page_and_a_page_without_its_section_are_found(module):
    layout, markdown = module("layout"), module("markdown")
    there = {page.source: list(markdown.sections((ROOT / page.source).read_text())) for page in layout.PAGES}
    assert layout.check(there) == []
    there[layout.GUIDE] = [name for name in there[layout.GUIDE] if name != "Caches"] + ["Something new"]
    wrong = layout.check(there)
    assert (
        len(wrong) == 2 and "'Caches', which is not there" in wrong[0] and "'Something new' is on no page" in wrong[1]
    )


def test_a_block_that_no_test_runs_is_found(module):
    check = module("check")
    made = {"index": "```python\nimport shmvar  # nobody runs this\n```\n"}
    (wrong,) = check.blocks(made, ROOT)
    assert "no test runs" in wrong


GOOD = '<html><head><link rel="stylesheet" href="a.css"></head><body><h1 id="shmvar.put">x</h1>{}</body></html>'


@pytest.mark.parametrize(
    "body, why",
    [
        ('<a href="b.html#there">', None),
        ('<a href="#shmvar.put">', None),
        ('<a href="https://example.com">', None),
        ('<img src="data:image/png;base64,x">', None),
        ('<a href="none.html">', "no such file"),
        ('<a href="b.html#none">', "no such element"),
        ('<a href="../out.html">', "no such file"),
        ('<a href="http://example.com">', "no https"),
        ('<a href="javascript:x()">', "kind javascript"),
        ('<script src="https://example.com/x.js"></script>', "from elsewhere"),
        ('<img src="//example.com/x.png">', "from elsewhere"),
        ('<link rel="preconnect" href="https://example.com">', "from elsewhere"),
        ('<img src="none.png">', "not there"),
        ('<p id="a"><p id="a">', "two elements"),
        ("<h1>another</h1>", "2 titles"),
    ],
)
def test_what_a_browser_would_miss_is_found(module, tmp_path, body, why):
    (tmp_path / "a.html").write_text(GOOD.format(body))
    (tmp_path / "b.html").write_text('<h1 id="there">y</h1>')
    (tmp_path / "a.css").write_text("p { background: url(data:x) }")
    found = module("check").site(tmp_path, {"shmvar.put"})
    assert found == [] if why is None else len(found) == 1 and why in found[0]


def test_styles_that_load_fonts_and_names_that_are_not_defined_once_are_found(module, tmp_path):
    (tmp_path / "a.html").write_text(GOOD.format(""))
    (tmp_path / "a.css").write_text("@import 'https://example.com/font.css'; a { b: url(//example.com/f.woff) }")
    found = module("check").site(tmp_path, {"shmvar.put", "shmvar.get"})
    assert sorted(text.split(" ")[-1] for text in found) == ["elsewhere", "elsewhere", "once"]


def test_a_docstring_becomes_text_lists_and_examples(module):
    module("public_names")
    reference, names = module("reference"), module("public_names")
    doc = (
        "Put `value`. See `get`.\n\n>>> s.put(1)  # doctest: +SKIP\n1\n\nArgs:\n    index: where;\n        on.\n"
        "    ttl: how long.\n\nRaises:\n    BadError, TypeError: it is.\n\nReturns:\n    A number.\n"
    )
    put = names.Name("shmvar", "Segment.put", "method", ["(index: int) -> int"], doc, "")
    get = names.Name("shmvar", "Segment.get", "method", ["() -> int"], "Get it.", "")
    bad = names.Name("shmvar", "BadError", "class", ["(ValueError)"], "Bad.", "")
    segment = names.Name("shmvar", "Segment", "class", [""], "A segment.", "", [get, put])
    made = reference.Reference([names.Name("shmvar", "", "module", [], "", "", [bad, segment])])
    assert made.wrong == []
    text = made.pages["reference/segment"]
    assert "Put `value`. See {py:obj}`get <shmvar.Segment.get>`." in text
    assert "```pycon\n>>> s.put(1)\n1\n```" in text
    assert "- `index`: where; on.\n- `ttl`: how long." in text and "**Returns:** A number." in text
    assert "- {py:obj}`BadError <shmvar.BadError>`, `TypeError`: it is." in text
    assert "`````{py:method} Segment.put(index: int) -> int" in text
    assert "Derives from `ValueError`." in made.pages["reference/errors"]


def test_a_name_without_a_page_or_a_text_is_found(module):
    reference, names = module("reference"), module("public_names")
    method = names.Name("shmvar", "Segment.put", "method", ["()"], "", "")
    segment = names.Name("shmvar", "Segment", "class", [""], "A segment.", "", [method])
    other = names.Name("shmvar", "unheard_of", "function", ["()"], "What?", "")
    made = reference.Reference([names.Name("shmvar", "", "module", [], "", "", [segment, other])])
    assert len(made.wrong) == 2 and "no docstring for put" in made.wrong[1] and "unheard_of" in made.wrong[0]
