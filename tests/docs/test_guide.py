"""The Python code of the guide runs, and each expression gives what the comment behind it says; README's runs."""

import ast
import re
from pathlib import Path

import pytest

import shmvar

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "guide.md").read_text()
README = (ROOT / "README.md").read_text()
CHAPTERS = [
    "Why is my nested change lost?",
    "How do I take a copy?",
    "Working together",
    "Caches",
    "Arrays that processes write in place",
]
TOUR = ["A dict that other processes see", "Working together", "Arrays that are not copied"]


def blocks(chapter, page=GUIDE, level="##"):
    """Yields the line in the page and the source of each block of a chapter."""
    start = page.index(f"\n{level} {chapter}\n")
    end = page.find(f"\n{level} ", start + 1)
    for found in re.finditer(r"```python\n(.*?)```", page[start:end], re.DOTALL):
        yield page.count("\n", 0, start + found.start()) + 2, found[1]


def said(line):
    """The value that the comment behind an expression states, in a tuple; empty if it states none."""
    _, _, remark = line.partition("  # ")
    try:
        return (ast.literal_eval(remark),)
    except (SyntaxError, ValueError):
        return ()


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_python_of_a_chapter_runs_and_gives_what_its_remarks_say(seg, chapter):
    if "numpy" in "".join(source for _, source in blocks(chapter)):
        pytest.importorskip("numpy")
    names, compared = {"segment": seg, "__name__": "guide"}, 0
    exec("import shmvar, time", names)
    for at, source in blocks(chapter):
        lines = source.splitlines()
        for statement in ast.parse(source).body:
            code = ast.get_source_segment(source, statement)
            expected = said(lines[statement.end_lineno - 1])
            if isinstance(statement, ast.Expr) and expected:
                value = eval(code, names)
                assert (value, type(value)) == (expected[0], type(expected[0])), f"line {at + statement.lineno - 1}"
                compared += 1
            else:
                exec(ast.unparse(statement), names)  # with decorators
    assert compared


@pytest.mark.parametrize("chapter", TOUR)
def test_the_python_of_a_chapter_of_readme_runs(new_key, chapter):
    for at, source in blocks(chapter, README, "###"):
        if "numpy" in source:
            pytest.importorskip("numpy")
        code = re.sub(r'attach\("\w+"', lambda _: f'attach("{new_key()}"', source)
        assert code != source
        exec(compile("\n" * (at - 1) + code, "README.md", "exec"), {"shmvar": shmvar})


@pytest.mark.parametrize("page", ["README.md", "docs/guide.md"])
def test_each_link_of_a_page_leads_somewhere(page):
    """To a file that exists, and to a heading that its page has, by the rule of GitHub for the names of headings."""
    for path, heading in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)", (ROOT / page).read_text()):
        to = (ROOT / page).parent / path if path else ROOT / page
        assert to.exists(), path
        if heading:
            titles = re.findall(r"^#+ (.*)$", to.read_text(), re.MULTILINE)
            assert heading in [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]
