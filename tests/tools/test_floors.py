"""The check of the floors (`tools/floors.py`) finds circles and upward imports in small bad trees, by file and line."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = next(folder for folder in Path(__file__).parents if (folder / "pyproject.toml").is_file())

# A good tree: two floors, a re-export, a circle that only tests make.
GOOD = {
    "src/lib.rs": "mod heap;\nmod py;\n",
    "src/py/mod.rs": "pub mod up;\nmod deep;\npub use deep::Deep;\n",
    "src/py/up.rs": "use super::Deep;\npub struct Up(Deep);\n#[macro_export]\nmacro_rules! up { () => {} }\n",
    "src/py/deep.rs": "use crate::heap::Low;\npub struct Deep(Low);\npub fn dig() {}\n",
    "src/heap/mod.rs": "mod low;\npub use self::low::{LIMIT, Low};\n",
    "src/heap/low.rs": "pub struct Low;\npub const LIMIT: u32 = 1;\n",
}


@pytest.fixture
def check(tmp_path):
    """Writes files and checks them: what is printed, line by line, or nothing if no rule is broken."""

    def check(files, *options):
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        program = [sys.executable, ROOT / "tools/floors.py", "--tree", tmp_path, *options]
        done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)
        assert not done.stderr
        lines = done.stdout.splitlines()
        if done.returncode == 0 and not options:
            assert len(lines) == 1 and lines[0].startswith("floors: ")
            return []
        assert done.returncode == (0 if options else 1)
        return lines

    return check


def places(lines):
    """The file and the line at the beginning of each line."""
    return [":".join(line.split(":", 2)[:2]) for line in lines]


def test_a_good_tree_passes(check):
    assert check(GOOD) == []


def test_a_circle_of_two_files_is_named_from_both_sides(check):
    a = "// What this file is for.\nuse crate::heap::b::B;\npub struct A(B);\n"
    b = "pub struct B;\n\nfn f(_: &crate::heap::a::A) {}\n"
    mods = {"src/lib.rs": "mod heap;", "src/heap/mod.rs": "mod a;\nmod b;"}
    lines = check(mods | {"src/heap/a.rs": a, "src/heap/b.rs": b})
    assert lines == [
        "src/heap/a.rs:2: circle 1 (2 files, of 2 that reach each other): uses `crate::heap::b::B` of src/heap/b.rs",
        "src/heap/b.rs:3: circle 1 (2 files, of 2 that reach each other): uses `crate::heap::a::A` of src/heap/a.rs",
    ]


def test_a_name_that_is_re_exported_leads_to_the_file_that_defines_it(check):
    mod = "mod a;\nmod b;\npub use a::A;\npub use b::*;\n"
    a = "use crate::heap::B;\npub struct A(B);\n"
    b = "use super::A;\npub struct B(Box<A>);\n"
    lines = check({"src/lib.rs": "mod heap;", "src/heap/mod.rs": mod, "src/heap/a.rs": a, "src/heap/b.rs": b})
    assert places(lines) == ["src/heap/a.rs:1", "src/heap/b.rs:1"]


def test_a_child_that_uses_what_its_mod_file_defines_may_not_be_used_by_that_file(check):
    tree = {"src/lib.rs": "mod heap;", "src/heap/low.rs": "pub fn f() -> u32 {\n    super::LIMIT\n}\n"}
    assert check(tree | {"src/heap/mod.rs": "mod low;\npub const LIMIT: u32 = 1;\n"}) == []
    lines = check(tree | {"src/heap/mod.rs": "mod low;\npub const LIMIT: u32 = 1;\nfn g() -> u32 { low::f() }\n"})
    assert places(lines) == ["src/heap/low.rs:2", "src/heap/mod.rs:3"]


def test_of_many_circles_the_shortest_is_shown(check):
    tree = {
        "src/lib.rs": "mod heap;",
        "src/heap/mod.rs": "pub mod a;\npub mod b;\npub mod c;\n",
        "src/heap/a.rs": "pub use super::b::B as A;\n",
        "src/heap/b.rs": "pub struct B;\nuse super::c::C;\n",
        "src/heap/c.rs": "pub struct C;\nfn f(_: super::d::D) {}\nuse super::{\n    e::E,\n    b::{self, B},\n};\n",
    }
    assert places(check(tree)) == ["src/heap/b.rs:2", "src/heap/c.rs:5"]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (1, "use crate::py::up::Up;"),
        (1, "use crate::py::Deep;"),
        (2, "use crate::{\n    py::{up as renamed, Deep},\n};"),
        (3, "use crate::py::{\n    self,\n    Deep as Other,\n};"),
        (1, "use crate::py::deep::*;"),
        (1, "pub(super) use crate::py::up::Up as _;"),
        (2, "fn f() {\n    crate::py::deep::dig();\n}"),
        (2, "fn f() {\n    super::super::py::deep::dig()\n}"),
        (2, "use crate::py;\nfn f(_: &py::up::Up) {}"),
        (2, "use crate::py::up as renamed;\nfn f(_: Option<renamed::Up>) {}"),
        (3, "fn f() {\n    if true {\n        use crate::py::Deep;\n    }\n}"),
        (3, "mod inner {\n    fn f() {\n        super::super::super::py::deep::dig()\n    }\n}"),
        (1, "type T = <crate::py::Deep as Clone>::Item;"),
        (1, "const N: usize = 0..crate::py::deep::N;"),
        (2, "macro_rules! m {\n    () => { $crate::py::deep::dig() };\n}"),
        (2, "fn f() {\n    crate::up!()\n}"),
        (2, "fn f() {\n    up!();\n}"),
        (1, "impl From<crate::py::Deep> for u8 {}"),
        (2, '#[cfg(not(test))]\nuse crate::py::Deep;'),
        (2, '#[cfg(any(test, feature = "x"))]\nuse crate::py::Deep;'),
        (1, "use crate::py::deep::made_by_a_macro;"),
    ],
)  # fmt: skip
def test_however_a_name_is_written_it_is_found_in_its_line(check, line, text):
    lines = check(GOOD | {"src/heap/low.rs": text + "\npub struct Low;\npub const LIMIT: u32 = 1;\n"})
    upward = [line for line in lines if "upward, from heap to py" in line]
    assert places(upward) == [f"src/heap/low.rs:{line}"], lines


@pytest.mark.parametrize(
    "text",
    [
        "// use crate::py::Deep;\n/// crate::py::Deep\n//! crate::py::Deep",
        "/* use crate::py::Deep; /* crate::py::Deep */ crate::py::Deep */",
        'const A: &str = "crate::py::Deep \\" crate::py::Deep";',
        'const A: &str = r#"" crate::py::Deep "#;\nconst B: &[u8] = br"crate::py::Deep\\";',
        "const A: (char, char, u8) = ('\"', '\\'', b'\"'); // crate::py::Deep \"",
        "#[cfg(test)]\nmod tests {\n    use crate::py::*;\n}",
        "#[rustfmt::skip]\n#[cfg(all(test, not(loom)))]\n#[allow(unused)]\nuse crate::py::{Deep, up};",
        "#[cfg(test)]\npub fn f<A, B>(_: crate::py::Deep) -> [u8; 2] {\n    crate::py::deep::dig()\n}",
        "#[test]\nfn f() {\n    crate::py::deep::dig();\n}",
        "struct S {\n    #[cfg(test)]\n    seen: Vec<crate::py::Deep>,\n    b: u8,\n}",
        '#[cfg(test)]\n#[path = "low_tests.rs"]\nmod tests;',
        "#![cfg(test)]\nuse crate::py::Deep;",
        "use crate::py;",
        "pub(in crate::heap) fn f() {}",
        "use std::{py::Deep, fmt};\nuse ::py::Deep as Other;",
        "fn f<'a>(x: &'a Deep) -> impl Fn() + use<'a> { x.py::<u8>() }",
    ],
)
def test_tests_comments_and_literals_are_left_out(check, text):
    tests = {"src/heap/low_tests.rs": "use crate::py::Deep;", "src/heap/low/tests.rs": "use crate::py::Deep;"}
    assert check(GOOD | tests | {"src/heap/low.rs": text}) == []


def test_a_name_that_a_glob_brings_leads_to_its_definition_as_well(check):
    text = "use crate::py::*;\npub struct Low;\npub const LIMIT: u32 = 1;\nfn f(_: Deep, _: u8) {}\n"
    upward = [line for line in check(GOOD | {"src/heap/low.rs": text}) if "upward" in line]
    assert upward == [
        "src/heap/low.rs:1: upward, from heap to py: uses `crate::py::*` of src/py/mod.rs",
        "src/heap/low.rs:4: upward, from heap to py: uses `Deep` of src/py/deep.rs",
    ]


def test_a_name_within_a_function_is_not_the_modules(check):
    mod = GOOD["src/py/mod.rs"] + "fn f() {\n    struct Deep;\n}\n"
    lines = check(GOOD | {"src/py/mod.rs": mod, "src/heap/low.rs": "use crate::py::r#Deep;\npub struct Low;\n"})
    assert "src/heap/low.rs:1: upward, from heap to py: uses `crate::py::Deep` of src/py/deep.rs" in lines


def test_lines_are_counted_through_comments_and_literals_of_many_lines(check):
    comment = "/* one\n /* two */\n three */\n"
    literals = 'const A: &str = "\n\n";\nconst B: &str = r##"\n"# \'\n"##;\n'
    text = comment + literals + "use crate::py::Deep;\n"
    assert "src/heap/low.rs:10" in places(check(GOOD | {"src/heap/low.rs": text}))


def test_a_macro_is_of_the_file_that_defines_it(check):
    tree = {
        "src/lib.rs": "#[macro_use]\nmod crash;\nmod error;\n",
        "src/crash.rs": "macro_rules! point {\n    () => { $crate::error::pass() };\n}\n",
        "src/error.rs": "pub fn pass() {\n    point!();\n}\n",
    }
    lines = [line for line in check(tree) if "circle" in line]
    assert places(lines) == ["src/crash.rs:2", "src/error.rs:2"]
    assert "`point!` of src/crash.rs" in lines[1]


def test_what_a_macro_call_defines_is_of_its_file(check):
    made = "macro_rules! shared { ($($t:tt)*) => { $($t)* } }\nshared! {\n    pub struct Low { a: u8 }\n}\n"
    files = {"src/heap/low.rs": made, "src/heap/mod.rs": "pub mod low;\npub use low::*;\n"}
    assert check(GOOD | files) == []
    assert "src/heap/low.rs" in "".join(check(GOOD | files, "--list"))


def test_a_floor_beside_the_others_uses_only_what_is_named_for_it(check):
    tree = GOOD | {
        "src/lib.rs": "mod heap;\nmod php;\nmod py;\npub mod error;\n",
        "src/error.rs": "pub struct Error;\n",
        "src/php.rs": "use crate::error::Error;\n\nuse crate::heap::Low;\npub struct Chain;\n",
    }
    (line,) = check(tree)
    assert line.startswith("src/php.rs:3: php stands beside heap: uses ")
    tree["src/php.rs"] = "use crate::error::Error;\npub struct Chain;\n"
    assert check(tree) == []
    tree["src/heap/mod.rs"] = GOOD["src/heap/mod.rs"] + "use crate::php::Chain;\n"
    (line,) = check(tree)
    assert line.startswith("src/heap/mod.rs:") and ": upward, from heap to php: uses " in line


def test_a_file_without_a_floor_is_named(check):
    lines = check(GOOD | {"src/lib.rs": "mod heap;\nmod py;\nmod cellar;\n", "src/cellar.rs": ""})
    assert lines == ["src/cellar.rs:1: stands on no floor: name it in the list in tools/floors.py"]


def test_methods_stand_in_the_folder_of_their_type(check):
    tree = GOOD | {
        "src/lib.rs": "mod heap;\nmod py;\npub mod error;\n",
        "src/error.rs": "pub struct Error<T>(T);\n",
        "src/heap/mod.rs": "mod low;\nmod inner;\npub use self::low::{LIMIT, Low};\n",
        "src/heap/inner/mod.rs": "use super::Low;\nimpl Low {\n    fn f() {}\n}\n",
    }
    assert check(tree) == []
    wrong = (
        "use crate::heap::Low;\npub struct Deep(Low);\nimpl Deep {}\nimpl Clone for Low {}\n\nimpl Low {\n}\n"
        "impl<const N: usize> From<[u8; { N }]> for Low {}\n"
        "impl<T: Fn() -> u8> crate::error::Error<T>\nwhere\n    for<'a> &'a T: Copy,\n{\n}\n"
    )
    assert check(tree | {"src/py/deep.rs": wrong}) == [
        "src/py/deep.rs:6: methods of `Low`, which src/heap/low.rs defines, outside of its folder",
        "src/py/deep.rs:9: methods of `Error`, which src/error.rs defines, outside of its folder",
    ]


PYTHON = {
    "python/shmvar/__init__.py": "from shmvar._core import attach\nfrom ._show import show\n",
    "python/shmvar/__main__.py": "from shmvar.cli import main\nmain()\n",
    "python/shmvar/_core.pyi": "def attach() -> None: ...\n",
    "python/shmvar/_show.py": "from . import _line, _core\n\n\ndef show():\n    import os\n",
    "python/shmvar/_line.py": "import json\n",
    "python/shmvar/cli/__init__.py": "import shmvar\nfrom .words import WORDS\n",
    "python/shmvar/cli/words.py": "from shmvar import _line as line\nfrom .. import attach\n",
}


def test_a_good_package_passes(check):
    assert check(PYTHON) == []


@pytest.mark.parametrize(
    "text",
    [
        "def f():\n    from shmvar._show import show\n",
        "if TYPE_CHECKING:\n    from ._show import show\n",
        "try:\n    from . import _show\nexcept ImportError: pass\n",
        "from . import (\n    _show as other,\n)\n",
        "class A:\n    import os, shmvar._show\n",
    ],
)
def test_a_circle_of_python_modules_is_found_wherever_the_import_stands(check, text):
    lines = check(PYTHON | {"python/shmvar/_line.py": text})
    assert places(lines) == ["python/shmvar/_line.py:2", "python/shmvar/_show.py:1"]
    assert "circle 1 (2 files, of 2 that reach each other)" in lines[0]


def test_an_upward_import_of_a_python_module_is_found(check):
    words = {"python/shmvar/cli/words.py": "import json\nfrom .. import __main__\n"}
    line = {"python/shmvar/_line.py": "def f():\n    from .cli import words\n\n    import shmvar\n"}
    lines = check(PYTHON | words | line)
    upward = [line for line in lines if "upward" in line]
    assert "python/shmvar/_line.py:2: upward, from modules to cli: uses `shmvar.cli.words` of " in upward[0]
    assert "python/shmvar/_line.py:4: upward, from modules to package: uses `shmvar` of " in upward[1]
    assert "python/shmvar/cli/words.py:2: upward, from cli to program" in upward[2]


def test_files_and_arrows_can_be_listed(check):
    files = check(GOOD, "--list")
    assert files[files.index("heap:") :][:3] == ["heap:", "    src/heap/low.rs", "    src/heap/mod.rs"]
    assert check(GOOD, "--arrows") == ["py -> heap: 1"]
