"""`help()` of what the extension module has for PHP shows the same text as the stub, and its examples are true."""

import ast
import doctest
import inspect
import types
from pathlib import Path

import pytest
from helpers import system_v

from shmvar import php
from shmvar.php import _native


def walk():
    """Each class, function and method of the stub, by its path; of overloads the last one is kept."""
    found = {}
    for node in ast.parse(Path(php.__file__).with_name("_native.pyi").read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found[(node.name,)] = node
        if isinstance(node, ast.ClassDef):
            found |= {(node.name, part.name): part for part in node.body if isinstance(part, ast.FunctionDef)}
    return found


STUB = walk()


def at_run_time(path):
    owner = vars(_native)[path[0]]
    return owner if len(path) == 1 else vars(owner)[path[1]]


@pytest.mark.parametrize("path", [path for path in STUB if not any(name[0] == "_" for name in path)], ids=".".join)
def test_the_stub_documents_everything_public(path):
    assert ast.get_docstring(STUB[path])


@pytest.mark.parametrize("path", [path for path in STUB if ast.get_docstring(STUB[path])], ids=".".join)
def test_the_docstring_at_run_time_is_the_stubs(path):
    member = at_run_time(path)
    if isinstance(member, types.WrapperDescriptorType):  # a slot has a text of CPython's own
        assert inspect.getdoc(member)
    else:
        assert inspect.getdoc(member) == ast.get_docstring(STUB[path])


def test_the_stub_names_what_is_there():
    there = {name for name in vars(_native) if not name.startswith("__")} - {"_php_members"}
    assert there == {path[0] for path in STUB if len(path) == 1}


@pytest.mark.parametrize("name", ["", "Segment", "attach"])
def test_the_examples_are_true(name, php_key):
    text = (getattr(php, name) if name else php).__doc__
    assert ">>> " in text
    # A key of the test's own in place of the example's.
    text = text.replace("0x50485001", hex(php_key))
    example = doctest.DocTestParser().get_doctest(text, {"php": php}, name or "php", None, 0)
    runner = doctest.DocTestRunner(verbose=False)
    try:
        assert runner.run(example).failed == 0
    finally:
        system_v.remove(system_v.objects({php_key}))
