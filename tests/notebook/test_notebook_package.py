"""`shmvar.notebook` without the packages that it may use: what works, and what is said to be missing."""

import importlib.resources

import helpers

BLOCK = """
import importlib.abc
class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"anywidget", "ipywidgets", "IPython", "tqdm", "rich", "traitlets"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocked())
"""


def test_importing_it_imports_none_of_them():
    helpers.run(
        BLOCK
        + """
import shmvar.notebook
assert shmvar.notebook.__all__ == ["progress", "watch"]
assert not {"asyncio", "threading"} & set(sys.modules), "imported though nothing needs it yet"
"""
    )


def test_importing_shmvar_does_not_import_it():
    helpers.run("assert not [name for name in sys.modules if name.startswith('shmvar.notebook')]")


def test_watch_says_what_to_install(key):
    done = helpers.run(
        BLOCK
        + """
import shmvar.notebook
segment = shmvar.attach(key)
try:
    shmvar.notebook.watch(segment)
except ModuleNotFoundError as error:
    print(error.name, error)
""",
        key,
    )
    assert done.stdout.startswith("anywidget ") and 'pip install "shmvar[notebook]"' in done.stdout


def test_the_package_has_what_the_browser_runs():
    folder = importlib.resources.files("shmvar.notebook")
    assert "export default { render }" in folder.joinpath("widget.js").read_text("utf-8")
    assert ".shmvar-watch" in folder.joinpath("widget.css").read_text("utf-8")
