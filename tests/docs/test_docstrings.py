"""`help()` at run time shows the same text as the stub."""

import ast
import inspect
import types
from pathlib import Path

import helpers
import pytest

import shmvar
from shmvar import _core


def walk():
    """Each class, function and method of the stub, by its path; of overloads the last one is kept."""
    found = {}
    for node in ast.parse(Path(shmvar.__file__).with_name("_core.pyi").read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found[(node.name,)] = node
        if isinstance(node, ast.ClassDef):
            found |= {(node.name, part.name): part for part in node.body if isinstance(part, ast.FunctionDef)}
    return found


STUB = walk()


def public(path):
    return not any(name.startswith("_") for name in path)


def at_run_time(path):
    owner = vars(_core)[path[0]]
    return owner if len(path) == 1 else vars(owner)[path[1]]


def is_slot(path):
    """Is it a slot like `__getitem__`, which has a text of CPython's own?"""
    return isinstance(at_run_time(path), types.WrapperDescriptorType)


@pytest.mark.parametrize("path", [path for path in STUB if public(path)], ids=".".join)
def test_the_stub_documents_everything_public(path):
    assert ast.get_docstring(STUB[path])


@pytest.mark.parametrize("path", [path for path in STUB if ast.get_docstring(STUB[path])], ids=".".join)
def test_the_docstring_at_run_time_is_the_stubs(path):
    if is_slot(path):
        assert inspect.getdoc(at_run_time(path))
    else:
        assert inspect.getdoc(at_run_time(path)) == ast.get_docstring(STUB[path])


def test_everything_that_the_package_exports_has_a_docstring():
    for name in set(shmvar.__all__) - {"__version__"}:
        assert getattr(shmvar, name).__doc__, name
    assert shmvar.__doc__ and _core.__doc__


def test_every_function_with_phps_name_has_a_docstring():
    functions = [name for name in vars(shmvar) if name.startswith("shm_")]
    assert functions and all(getattr(shmvar, name).__doc__ for name in functions)


def test_what_keys_values_and_items_return_is_documented(seg):
    for view in (seg.keys(), seg.values(), seg.items()):
        assert vars(type(view))["__doc__"]


def test_dir_lists_every_public_name_before_any_was_used():
    helpers.run("names = dir(shmvar); assert names == sorted(names) and {*shmvar.__all__, '__doc__'} <= {*names}")
    assert set(shmvar.__all__) <= set(dir(shmvar))
