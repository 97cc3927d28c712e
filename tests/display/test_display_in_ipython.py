"""IPython itself shows segments, and completes their indexes: a shell in a process of its own."""

import ast
import json
import sys

import helpers
import pytest
from helpers.shown_html import shown

pytest.importorskip("IPython", reason="needs IPython")

SHELL = """
import io, json
from IPython.core.completer import provisionalcompleter
from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

shell = InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
shell.display_formatter.active_types = ["text/plain", "text/html"]
shell.user_ns["seg"] = seg = shmvar.attach(key)

def complete(line):
    with provisionalcompleter():
        return [line[: c.start] + c.text + line[c.end :] for c in shell.Completer.completions(line, len(line))]
"""


def in_shell(key, code):
    """What a program prints that has a shell."""
    return helpers.run(SHELL + code, key).stdout


def test_a_segment_as_the_last_line_of_a_cell_is_html_with_its_repr_beside_it(seg, key):
    seg["x"] = "value"
    code = """
for shown in (seg, seg.info(), seg.stat("x"), seg.check(), seg.lock(), seg.queue()):
    print(json.dumps([*shell.display_formatter.format(shown), repr(shown)]))
"""
    lines = in_shell(key, code).splitlines()
    assert len(lines) == 6
    for line in lines:
        bundle, metadata, text = json.loads(line)
        assert set(bundle) == {"text/html", "text/plain"} and metadata == {}
        assert shown(bundle["text/html"]).text and bundle["text/plain"] == text


def index_of(completed):
    """The index that a completed line names, whether or not its quote and bracket were closed."""
    text = completed.removeprefix("seg[").removesuffix("]")
    quote = text[0] if text[0] in "'\"" else ""
    return ast.literal_eval(text if text.endswith(quote) and len(text) > 1 else text + quote)


LINES = {
    'seg["pri': ["price", "prices"],
    "seg['pri": ["price", "prices"],
    "seg[12": [12, 123, 1200],
    'seg["<': ["<b>"],
    'seg["it': ["it's"],
    "seg['say": ['say "no"'],
    'seg["12': ["12x"],
    'seg["a': ["a\nb\x1b\u202e"],
    'seg["none': [],
}
"""What was typed, and the indexes that are offered."""


def test_indexes_are_completed(seg, key):
    indexes = ["price", "prices", 12, 123, 1200, -7, "12x", "<b>", "it's", 'say "no"', "a\nb\x1b\u202e"]
    seg.put_many(dict.fromkeys(indexes))
    completed = json.loads(in_shell(key, f"print(json.dumps([complete(line) for line in {list(LINES)}]))"))
    for (line, then), found in zip(LINES.items(), completed, strict=True):
        assert sorted(map(index_of, found)) == sorted(then), line


def test_an_open_bracket_offers_texts_first_and_escapes_what_they_hold(seg, key):
    seg.put_many({5: 1, "b": 2, "a\nb\x1b[31m\u202e": 3})
    offered = json.loads(in_shell(key, "print(json.dumps(seg._ipython_key_completions_()))"))
    assert offered == ["a\nb\x1b[31m\u202e", "b", 5]
    completed = json.loads(in_shell(key, "print(json.dumps(complete('seg[')))"))
    assert {"seg['b'", "seg[5", "seg['a\\nb\\x1b[31m\\u202e'"} <= {line.rstrip("]") for line in completed}


def test_a_handle_that_is_detached_has_no_completions_and_no_traceback(seg):
    seg.detach()
    assert seg._ipython_key_completions_() == []


def test_importing_and_displaying_imports_no_ipython(seg, key):
    code = "s = shmvar.attach(key); s._repr_mimebundle_(); s._ipython_key_completions_(); s.info()._repr_html_()\n"
    code += "print(sorted({'IPython', 'rich', 'anywidget', 'argparse', 'numpy'} & set(sys.modules)))"
    assert helpers.run(code, key).stdout.strip() == "[]"
    assert "shmvar" in sys.modules
