"""The examples of docstrings run, and give what they say; the site shows them as blocks."""

import doctest
import sys
from pathlib import Path

import pytest

import shmvar

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import public_names  # noqa: E402

# Those of notebooks are for a cell, and those of PHP have tests of their own (tests/php).
ELSEWHERE = ("shmvar.notebook", "shmvar.php")
PARSER = doctest.DocTestParser()
EXAMPLES = {
    name.full: name.doc
    for module in public_names.read(ROOT)
    if module.full not in ELSEWHERE
    for name in module.walk()
    if PARSER.get_examples(name.doc)
}


def test_there_are_examples():
    assert len(EXAMPLES) >= 12 and {"shmvar", "shmvar.Segment", "shmvar.attach", "shmvar.Lock"} <= EXAMPLES.keys()


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_of_a_docstring_runs(name, key, monkeypatch):
    if ".array(" in EXAMPLES[name]:
        pytest.importorskip("numpy")
    attach = shmvar.attach
    monkeypatch.setattr(shmvar, "attach", lambda _, *args, **options: attach(key, *args, **options))
    with attach(key) as segment:
        segment.update({"session": 1, "stock": 3} if name != "shmvar" else {})
        jobs = segment.queue("jobs")
        if name.endswith("TakenItem"):
            jobs.put({"resize": "cat.png"})
        names = {
            "__name__": "__main__",
            "shmvar": shmvar,
            "segment": segment,
            "jobs": jobs,
            "resize": lambda job: None,
            "work": lambda job: None,
        }
        test = PARSER.get_doctest(EXAMPLES[name], names, name, None, 0)
        said = []
        result = doctest.DocTestRunner(verbose=False).run(test, out=said.append, clear_globs=False)
        assert result.failed == 0, "".join(said)
