"""What is not used costs nothing: `import shmvar` and the calls of a segment import nothing that displays need."""

import subprocess
import sys
from pathlib import Path

import pytest

import shmvar

PACKAGE = Path(shmvar.__file__).parent

OWN = {"_copying", "_core", "_errors", "_mapping_views", "_php_functions"}
IMPORTED = {"shmvar", *(f"shmvar.{name}" for name in OWN), "__future__", "_collections_abc", "errno"}
"""All that `import shmvar` imports, beside what a bare interpreter has imported for itself."""

FOR_DISPLAYS = {
    *("rich", "anywidget", "ipywidgets", "traitlets", "IPython", "ipykernel", "tqdm", "argcomplete", "shtab", "redis"),
    *("html", "json", "pickletools", "argparse", "difflib", "textwrap", "shutil", "logging", "asyncio", "typing", "re"),
    *("inspect", "traceback", "threading", "datetime", "pwd", "numpy", "pickle", "subprocess", "importlib.metadata"),
}
PARTS = {"_display", "_preview", "_text", "_dump", "_missing_names", "_remote", "cli", "notebook", "php"}


def imported_by(code, *, site=False):
    """The modules that a new interpreter imports for this code, without those that it imports for itself."""
    # Without the module `site`, which may import anything.
    isolated = [] if site else ["-I", "-S"]
    path = [str(PACKAGE.parent), *(path for path in sys.path if site and "site-packages" in path)]
    whole = f"import sys\nbefore = set(sys.modules)\nsys.path[:0] = {path!r}\n{code}\nprint(*set(sys.modules) - before)"
    done = subprocess.run(
        [sys.executable, *isolated, "-c", whole], capture_output=True, text=True, timeout=100, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


def heavy(modules):
    """Those of the modules that are of displays, or of what these need."""
    parts = {f"shmvar.{part}" for part in PARTS}
    return {name for name in modules if name.partition(".")[0] in FOR_DISPLAYS or name in FOR_DISPLAYS | parts}


@pytest.mark.parametrize("site", [False, True], ids=["alone", "with all that is installed"])
def test_importing_the_package_imports_these_modules_and_no_other(site):
    found = imported_by("import shmvar", site=site)
    assert found <= IMPORTED, f"`import shmvar` imports {sorted(found - IMPORTED)} as well"
    assert {"shmvar", "shmvar._core"} <= found


def test_the_whole_of_its_name_space_imports_no_display():
    """Names that come with the first use are listed, looked at and compared without what they need."""
    assert not heavy(imported_by("import shmvar\ndir(shmvar), shmvar.__all__, shmvar.__doc__, repr(shmvar.Segment)"))


CALLS = """
import shmvar
with shmvar.attach({key!r}) as segment:
    segment.update({{1: [1, 2.5, "text", None, b"bytes"], "two": {{"a": (1,)}}}})
    segment.put("soon", 1, ttl=100)
    segment.get(1), segment.view("two"), segment.get_many([1, 2]), list(segment.items()), segment.pop("soon")
    segment.add("count"), segment.swap("count", 5), segment.version(1), segment.compare_and_put(1, 0, 1)
    repr(segment), str(segment), repr(segment.info()), repr(segment.stat(1)), repr(segment.check())
    repr(segment.lock("lock")), repr(segment.queue("queue")), shmvar.segments(), hash(segment.info().key)
    with segment.lock("lock"):
        segment.queue("queue").put(1)
    segment.queue("queue").get()
    hasattr(segment, "_repr_html_"), hasattr(segment, "_repr_mimebundle_"), dir(segment)
"""


def test_calls_and_reprs_import_no_display(key):
    assert not heavy(imported_by(CALLS.format(key=key))) - {"pickle", "threading", "re"}


def test_a_display_imports_neither_the_command_line_nor_what_draws_there_nor_widgets(key):
    code = f"import shmvar\ns = shmvar.attach({key!r})\ns[1] = 1\nassert s._repr_html_() and s._repr_mimebundle_()"
    code += "\nassert s._ipython_key_completions_() == [1] and s.info()._repr_html_() and s.stat(1)._repr_html_()"
    found = imported_by(code, site=True)
    assert "shmvar._display" in found
    packages = {name.partition(".")[0] for name in found}
    assert not packages & {"rich", "anywidget", "ipywidgets", "IPython", "tqdm", "argparse", "json", "numpy", "redis"}
    assert not {name for name in found if name.startswith(("shmvar.cli", "shmvar.notebook", "shmvar._remote"))}


def test_the_notebook_module_imports_no_widget_before_one_is_made(key):
    found = imported_by("import shmvar.notebook\nshmvar.notebook.watch, shmvar.notebook.progress", site=True)
    assert not {name.partition(".")[0] for name in found} & {"rich", "anywidget", "ipywidgets", "IPython", "tqdm"}
    assert not {name for name in found if name.startswith(("shmvar.cli", "shmvar._display"))}


@pytest.mark.parametrize(
    "words", [["ls"], ["get", "KEY", "1"], ["show", "KEY"], ["info", "KEY"], ["top", "--once", "KEY"]]
)
def test_in_a_pipe_no_command_imports_what_draws_on_a_terminal(seg, key, words):
    seg[1] = 1
    words = [key if word == "KEY" else word for word in words]
    code = f"from shmvar.cli.main import main\nassert main({words!r}) == 0"
    assert not {name.partition(".")[0] for name in imported_by(code, site=True)} & {
        "rich",
        "anywidget",
        "IPython",
        "numpy",
    }
