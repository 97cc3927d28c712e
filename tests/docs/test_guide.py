"""The Python code of the guide runs, and each expression gives what the comment behind it says."""

import ast
import re
from pathlib import Path

import pytest

GUIDE = (Path(__file__).parents[2] / "docs" / "guide.md").read_text()
CHAPTERS = ["Why is my nested change lost?", "Working together"]


def blocks(chapter):
    """Yields the line in the guide and the source of each block of a chapter."""
    start = GUIDE.index(f"\n## {chapter}\n")
    end = GUIDE.find("\n## ", start + 1)
    for found in re.finditer(r"```python\n(.*?)```", GUIDE[start:end], re.DOTALL):
        yield GUIDE.count("\n", 0, start + found.start()) + 2, found[1]


def said(line):
    """The value that the comment behind an expression states, in a tuple; empty if it states none."""
    _, _, remark = line.partition("  # ")
    try:
        return (ast.literal_eval(remark),)
    except (SyntaxError, ValueError):
        return ()


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_python_of_a_chapter_runs_and_gives_what_its_remarks_say(seg, chapter):
    names, compared = {"segment": seg}, 0
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
                exec(code, names)
    assert compared
