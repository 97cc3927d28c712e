"""Programs frozen by PyInstaller: its analysis finds every module that the extension imports by name, and they run."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import installed_programs

import shmvar

PACKAGE = Path(shmvar.__file__).parent
RUST = Path(__file__).parents[2] / "src"

# The first string in each of these calls is the name of a module.
BY_NAME = re.compile(
    r"\b(?:import|calls::attribute|calls::cached_attribute|(?<!fn )class_of_file|LibraryClass::new"
    r"|PyImport_(?!GetModuleDict)\w+)\("
)
# Functions that pass on a name that they were given.
PASSED_ON = ("py, class.module, class.name", "py, module, class", "module.as_ptr()")


def arguments(text, start):
    """The text between the parentheses that open just before `start`."""
    depth, end = 1, start
    while depth:
        depth += {"(": 1, ")": -1}.get(text[end], 0)
        end += 1
    return text[start : end - 1].strip()


def named_in(sources):
    """The modules that Rust code imports by name, and the imports whose name is not visible."""
    names, unclear = set(), []
    for text in sources:
        text = re.sub(r"//.*", "", text)
        for found in BY_NAME.finditer(text):
            given = arguments(text, found.end())
            if name := re.search(r'"([\w.]+)"', given):
                names.add(name[1])
            elif given not in PASSED_ON:
                unclear.append(found[0] + given)
    return names, unclear


def seen_from(module="shmvar"):
    """What PyInstaller's analysis finds from a module: each import anywhere in its code, followed in the package."""
    found, todo = set(), [module]
    while todo:
        name = todo.pop()
        if name in found:
            continue
        found.add(name)
        path = PACKAGE.joinpath(*name.split(".")[1:])
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if name.split(".")[0] != "shmvar" or not path.exists():
            continue
        for node in parts(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                todo += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                todo += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def parts(node):
    """All nodes except those under `TYPE_CHECKING`, which some tools leave out."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)):
            yield from parts(child)


def test_analysis_sees_every_module_that_the_extension_module_imports_by_name():
    names, unclear = named_in(path.read_text() for path in sorted(RUST.rglob("*.rs")))
    assert not unclear, "an import by a name that this test does not understand"
    assert {"_pickle", "numpy", "datetime", "shmvar._task_watcher", "array", "sys", "uuid"} <= names
    missing = names - seen_from()
    assert not missing, f"to be added to python/shmvar/_frozen_imports.py: {sorted(missing)}"


def test_a_new_import_by_name_cannot_be_forgotten():
    """However the import is written."""
    ways = [
        'py.import("wave")?',
        'module.py()\n    .import("wave")',
        'LOADS.import(py, "wave", "open")?',
        'static X: LibraryClass = LibraryClass::new("wave", "open");',
        'THING.import(\n        value.py(),\n        "wave",\n        "open",\n    )?',
        'PyModule::import(py, "wave")',
        'calls::cached_attribute(py, &THING, c"wave", c"open")?',
        'calls::attribute(py, c"wave", name)?',
        'ffi::PyImport_ImportModule(c"wave".as_ptr())',
    ]
    for way in ways:
        assert named_in([way]) == ({"wave"}, []), way
    assert "wave" not in seen_from()
    assert named_in(["py.import(name)?"])[1] and not named_in(["// py.import(name)"])[1]


def test_what_analysis_sees_is_not_imported_by_importing_the_package(key):
    code = f"""
import sys
sys.path.append({str(PACKAGE.parent)!r})
import shmvar
print(*sorted(set(sys.modules) & {{"pickle", "_pickle", "typing", "numpy", "asyncio", "decimal", "uuid", "pathlib"}}))
with shmvar.attach({key!r}) as segment:
    segment[1] = "text"
    segment[1]
print("shmvar._frozen_imports" in sys.modules)
"""
    # Without the module `site`, which may import anything.
    command = [sys.executable, "-I", "-S", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "\nFalse\n"


PROGRAM = """
import sys
import shmvar
if sys.argv[1:] and sys.argv[1] == "command":
    from shmvar.cli.main import main
    raise SystemExit(main(sys.argv[2:]))
key = sys.argv[1]
assert getattr(sys, "frozen", False)
segment = shmvar.attach(key)

# Another program stored these values: no code here names their modules.
names = segment["names"]
for name in names:
    got, view = segment[name], segment.view(name)
    print("got", name, type(got).__module__, type(got).__name__)
with shmvar.attach(key, trust=False) as plain:
    for name in names:
        print("plain", name, type(plain[name]).__module__, type(plain[name]).__name__)

class Own:
    def __init__(self, number): self.number = number
segment["own"] = [Own(5), {"a": 1}, bytearray(300_000)]
assert segment["own"][0].number == 5 and segment.view("own")[2] == bytes(300_000)
assert type(segment.view("bytes")) is memoryview
assert segment.add("count", 2) == 2 and segment.modify("count", lambda old: old + 1) == 3
with segment.lock("name", timeout=20):
    segment.put_many({1: 1, 2: 2})
version = segment.version(1)
segment[1] = 2
assert segment.wait(1, 20, newer_than=version) > version
assert sorted(segment.keys(), key=str)[0] == 1 and dict(segment.items())[1] == 2
assert len(list(segment.values())) == len(segment) == segment.check().variables == segment.info().count
assert segment.stat(1).type == "int"

async def tasks():
    import asyncio
    async with segment.lock("async", timeout=20):
        waiting = asyncio.ensure_future(segment.changed("later", 20, newer_than=0))
        await asyncio.sleep(0)
        segment["later"] = 1
        await waiting
coroutine = tasks()
import asyncio
asyncio.run(coroutine)

try:
    segment["missing"]
except KeyError:
    pass
try:
    plain[1]
except shmvar.DetachedError:
    pass
try:
    with shmvar.attach(key, trust=False) as plain:
        plain["own"]
except shmvar.UntrustedValueError:
    pass
assert shmvar.ftok("/", "a") and shmvar.exists(key) and key in [info.key for info in shmvar.segments()]
print("done")
"""


@pytest.fixture(scope="module")
def frozen(tmp_path_factory):
    """The program, frozen."""
    if missing := [tool for tool in ("ldd", "objdump", "objcopy") if shutil.which(tool) is None]:
        pytest.skip(f"PyInstaller needs {' and '.join(missing)}")
    directory = tmp_path_factory.mktemp("frozen")
    (directory / "program.py").write_text(PROGRAM)
    # What the notebook needs is left out: the program has none, and with it the analysis takes three times as long.
    without = [f"--exclude-module={name}" for name in ("IPython", "anywidget", "ipywidgets")]
    command = [sys.executable, "-m", "PyInstaller", "--noconfirm", "--onedir", "--log-level", "WARN"]
    command += [*without, "program.py"]
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent), "PYINSTALLER_CONFIG_DIR": str(directory / "config")}
    done = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=1100, check=False
    )
    if "PythonLibraryNotFoundError" in done.stderr:
        pytest.skip("PyInstaller needs a shared library of Python, which this one has not")
    assert done.returncode == 0, done.stderr[-3000:]
    return directory / "dist" / "program" / "program"


def run_bare(program, *args, **options):
    """The program runs in an empty environment."""
    return subprocess.run(
        [program, *args], capture_output=True, text=True, timeout=100, check=False, env={}, cwd="/", **options
    )


def values():
    import array
    import collections
    import datetime
    import decimal
    import fractions
    import pathlib
    import uuid

    yield "bytes", b"x" * 100_000
    yield "bytearray", bytearray(100_000)
    yield "array", array.array("d", range(10_000))
    yield "short array", array.array("i", range(10))
    yield "ordered", collections.OrderedDict(a=1)
    yield "deque", collections.deque([1, 2], 5)
    yield "date", datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)  # noqa: UP017
    yield "decimal", decimal.Decimal("1.5")
    yield "fraction", fractions.Fraction(1, 3)
    yield "path", pathlib.PurePosixPath("/a/b")
    yield "uuid", uuid.UUID(int=5)
    yield "complex", 1j
    try:
        import numpy
    except ImportError:
        return
    yield "numpy", numpy.arange(100_000.0)
    yield "short numpy", numpy.array(range(5), dtype="datetime64[s]")
    yield "strings", numpy.array(["a", "bc"])
    yield "record", numpy.zeros(3000, dtype=[("a", "i4"), ("b", "f8", 3)])
    yield "number", numpy.float32(1.5)
    yield "in a dict", {"array": numpy.ones((300, 100), order="F")}


@installed_programs.needs("PyInstaller")
@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.xdist_group("frozen")
def test_a_frozen_program_does_all_that_another_does(frozen, key):
    with shmvar.attach(key) as segment:
        stored = dict(values())
        segment.update(stored)
        segment["names"] = list(stored)
        done = run_bare(frozen, key)
        assert done.returncode == 0, done.stdout + done.stderr
        lines = done.stdout.split("\n")
        for how in ("got", "plain"):
            for name, value in stored.items():
                assert f"{how} {name} {type(value).__module__} {type(value).__name__}" in lines
        assert lines[-2] == "done" and not done.stderr
        segment.check()


@installed_programs.needs("PyInstaller")
@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.xdist_group("frozen")
def test_the_command_line_works_frozen(frozen, key, tmp_path):
    run_bare(frozen, "command", "put", key, "1", "[1, 2]")
    file = str(tmp_path / "dump")
    for command in (["get", key, "1"], ["ls"], ["info", key], ["show", key], ["dump", key, file], ["load", key, file]):
        done = run_bare(frozen, "command", *command)
        assert done.returncode == 0 and "Traceback" not in done.stderr, (command, done.stdout, done.stderr)
        if command[0] == "get":
            assert done.stdout == "[1, 2]\n"
    done = run_bare(frozen, "command", "doctor", "--no-fix", "--json")
    assert done.returncode in (0, 1) and '"healthy"' in done.stdout, done.stderr
    assert run_bare(frozen, "command", "remove", key).returncode == 0
