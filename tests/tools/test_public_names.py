"""The public names are read from the stubs as they are, and a change of one is found."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import shmvar

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "tools" / "public_names.py"
sys.path.insert(0, str(ROOT / "tools"))

import public_names  # noqa: E402

PACKAGE = {
    "__init__.py": """
        '''What it is.'''
        from shmvar._core import Handle, attach, attach as other
        TYPE_CHECKING = False
        if TYPE_CHECKING:
            from shmvar._far import Far as Far
        LIMIT: int = 5
        '''How many.'''
        __all__ = ["Handle", "attach", "LIMIT", "Broken"]
        class Broken(ValueError):
            def __init__(self, text: str = "", place: int = 0) -> None:
                self.place = place
                self._own = 1
        """,
    "_core.pyi": """
        from typing import overload
        class Handle:
            '''A handle.'''
            @property
            def key(self) -> int: ...
            @overload
            def get(self, index: int, /) -> object: ...
            @overload
            def get(self, index: int, default: str, /) -> str:
                '''Return it.'''
            @staticmethod
            def make(perm: int = 384, *names: str, **options: int) -> Handle: ...
            def _hidden(self) -> None: ...
            def __len__(self) -> int: ...
        def attach(key: int, *, perm: int = 384, size=None) -> Handle:
            '''Open it.'''
        """,
    "_core.py": "def attach(wrong): ...",
    "_base.py": "class _Base(dict):\n    def put(self, x: int) -> None: ...\n    def get(self) -> None: ...",
    "_far.py": "from shmvar._base import _Base\nclass Far(_Base):\n    def put(self, y: str) -> None: ...",
    "cli/__init__.py": "__all__ = ['nothing']",
    "php/__init__.py": "from shmvar.php._native import dumps\n__all__ = ['dumps']\n__all__ += ['MODE']\nMODE = 4",
    "php/_native.pyi": "def dumps(value: object, *, max_depth: int = 4096) -> bytes: ...",
}
LISTING = """
shmvar
    class Broken(ValueError)
        __init__(text: str = '', place: int = 0) -> None
        place
    class Far(dict)
        get() -> None
        put(y: str) -> None
    class Handle
        __len__() -> int
        get(index: int, /) -> object
        get(index: int, default: str, /) -> str
        property key -> int
        make(perm: int = 0o600, *names: str, **options: int) -> Handle
    LIMIT: int
    attach(key: int, *, perm: int = 0o600, size=None) -> Handle

shmvar.php
    MODE = 4
    dumps(value: object, *, max_depth: int = 4096) -> bytes
"""


@pytest.fixture
def tree(tmp_path):
    """A small package in which the names stand in every way that ours has."""
    for name, text in PACKAGE.items():
        path = tmp_path / "python" / "shmvar" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = text.splitlines()
        path.write_text("\n".join(line.removeprefix(" " * 8) for line in lines))
    (tmp_path / "docs").mkdir()
    return tmp_path


def run(tree, *options):
    command = [sys.executable, PROGRAM, "--tree", tree, *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_every_kind_of_name_is_listed_as_it_is_called(tree):
    assert public_names.listing(public_names.read(tree)) == public_names.HEAD + LISTING


def test_names_have_their_texts(tree):
    found = {name.full: name for module in public_names.read(tree) for name in module.walk()}
    assert found["shmvar"].doc == "What it is." and found["shmvar.LIMIT"].doc == "How many."
    assert found["shmvar.Handle.get"].doc == "Return it." and found["shmvar.attach"].doc == "Open it."
    assert found["shmvar.attach"].file == "python/shmvar/_core.pyi"
    assert found["shmvar.php.dumps"].module == "shmvar.php"


def test_a_change_is_found_and_shown_until_it_is_written_down(tree):
    first = run(tree)
    assert first.returncode == 1 and "make api" in first.stdout
    assert run(tree, "--write").returncode == 0 and run(tree).returncode == 0
    stub = tree / "python/shmvar/_core.pyi"
    stub.write_text(stub.read_text().replace("key: int, *", "key: int | str, *"))
    changed = run(tree)
    assert changed.returncode == 1
    lines = changed.stdout.splitlines()
    assert "-    attach(key: int, *, perm: int = 0o600, size=None) -> Handle" in lines
    assert "+    attach(key: int | str, *, perm: int = 0o600, size=None) -> Handle" in lines


def test_a_name_that_is_exported_and_nowhere_defined_is_an_error(tree):
    path = tree / "python/shmvar/php/__init__.py"
    path.write_text(path.read_text() + "\n__all__ += ['loads']\n")
    found = run(tree)
    assert found.returncode == 1 and "exports 'loads'" in found.stderr


MODULES = {module.full: module for module in public_names.read(ROOT)}


@pytest.mark.parametrize("module", MODULES.values(), ids=lambda module: module.full)
def test_the_names_of_the_stubs_are_there_at_run_time(module):
    try:
        there = importlib.import_module(module.full)
    except ImportError as error:
        pytest.skip(f"not here: {error}")
    names = {name.path for name in module.members}
    assert set(there.__all__) <= names
    for top in module.members:
        found = getattr(there, top.path)
        for member in top.members:
            # What `__init__` sets is there when there is an instance.
            assert member.kind == "attribute" or hasattr(found, member.path.rpartition(".")[2]), member.full


def test_no_class_has_a_public_name_that_no_stub_says():
    for top in MODULES["shmvar"].members:
        if top.kind == "class" and top.path in shmvar.__all__:
            said = {member.path.rpartition(".")[2] for member in top.members}
            assert {name for name in vars(getattr(shmvar, top.path)) if not name.startswith("_")} <= said
