"""Tries a built wheel on every Python that is here: `python tools/pythons.py DIST` (`make pythons`, and `make wheels`).

For each version that the package is for, in a fresh environment: the wheel is installed from an index on this machine
and from nowhere else, the first screen of the README runs, and then the quick tests. A version that is not here is
named as skipped; one that fails does not keep the others from being tried. The last line says where it was tried.

An interpreter is found by its name (`python3.12`, `python3.14t`), or where pyenv keeps those that it has.
"""

import argparse
import contextlib
import functools
import http.server
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FREE_THREADED = ("python3.14t", "python3.15t")  # those that PyO3 supports
VERSIONS = ("python3.11", "python3.12", "python3.13", "python3.14", *FREE_THREADED)
QUICK = ["-q", "-m", "not slow", "tests/api", "tests/values/test_values.py"]
# Those of what Pythons differ in, and only quick ones of them: pickles, arrays, words of errors, tasks, interpreters.
SOME = {
    "api": ("segment", "mapping", "atomic_ops", "errors", "memoize"),
    "values": ("values", "main_classes", "in_place", "text", "reentrancy"),
    "coordination": ("locks_async", "queues_async"),
    "environment": ("interpreters",),
}
FEW = ["-q", "-m", "not slow", *(f"tests/{folder}/test_{name}.py" for folder in SOME for name in SOME[folder])]
# Prints its name, if it is what it is called and can make environments.
WHAT = (
    "import ensurepip, sys, sysconfig, venv; "
    "print('python3.%d%s' % (sys.version_info[1], 't' if sysconfig.get_config_var('Py_GIL_DISABLED') else ''))"
)


def works(interpreter: str | Path, name: str) -> bool:
    """Whether a file is that interpreter. That it lies on the path means little: pyenv has files that only complain."""
    try:
        done = subprocess.run([interpreter, "-c", WHAT], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and done.stdout.strip() == name


def find(name: str) -> Path | None:
    """The interpreter of that name, or nothing."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    known = [Path(folder) / name for folder in os.get_exec_path()]
    known += sorted(pyenv.glob(f"*/bin/{name}"), key=newest, reverse=True)
    running = Path(sys._base_executable if hasattr(sys, "_base_executable") else sys.executable)
    return next((path for path in [*known, running] if os.access(path, os.X_OK) and works(path, name)), None)


def newest(path: Path) -> list[int]:
    """The version of pyenv that a path is of, as numbers."""
    return [int(number) for number in re.findall(r"\d+", path.parent.parent.name)]


@contextlib.contextmanager
def index(dist: Path, work: Path) -> Iterator[str]:
    """Serves the wheels of a folder as an index of packages that has nothing else; gives its address."""
    pages = work / "index" / "shmvar"
    shutil.rmtree(pages.parent, ignore_errors=True)
    pages.mkdir(parents=True)
    for wheel in sorted(dist.glob("shmvar-*.whl")):
        shutil.copy(wheel, pages)
    links = "".join(f'<a href="{wheel.name}">{wheel.name}</a>\n' for wheel in sorted(pages.iterdir()))
    (pages / "index.html").write_text(f"<!DOCTYPE html>\n{links}")
    handler = functools.partial(Quiet, directory=str(pages.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Says nothing of each file that it serves."""

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


def first_screen(readme: str) -> tuple[str, list[str]]:
    """Its programs, one after the other, and what their comments say is printed."""
    programs = re.findall(r"^```python\n(.*?)^```$", readme.split("\n## A short tour")[0], re.DOTALL | re.MULTILINE)
    text = "\n".join(programs)
    return text, re.findall(r"^print\(.*\)  # (.*)$", text, re.MULTILINE)


def run(*words: object, **more: object) -> None:
    """Runs a command that must succeed, without the settings of pip and of Python that this machine has."""
    settings = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
    subprocess.run([*map(str, words)], check=True, env=settings, **more)  # type: ignore[call-overload]


def stranger(interpreter: Path, dist: Path, place: Path) -> Path:
    """A fresh environment into which the wheel was installed as from an index, and in which the README is true."""
    shutil.rmtree(place, ignore_errors=True)
    run(interpreter, "-m", "venv", place)
    python = place / "bin/python"
    pip = [python, "-m", "pip", "--isolated", "--quiet", "--disable-pip-version-check", "install"]
    with index(dist, place) as address:
        run(*pip, "--no-cache-dir", "--only-binary", ":all:", "--index-url", address, "shmvar")
    program, printed = first_screen((ROOT / "README.md").read_text())
    # The key that it has may be in use here.
    program = program.replace("attach(4711)", f"attach('readme-{os.getpid()}')")
    done = subprocess.run([python, "-I", "-c", program], capture_output=True, text=True, cwd=place, timeout=120)
    if done.returncode or not printed or done.stdout.splitlines() != printed:
        raise SystemExit(f"the first screen of the README on {python}:\n{done.stdout}{done.stderr}not {printed}")
    run(place / "bin/shmvar", "--version")
    return python


def fits(dist: Path, name: str) -> bool:
    """Whether one of the wheels may be for it: the free-threaded need their own, the stable ABI is for the rest."""
    tags = [wheel.name.split("-")[2:4] for wheel in dist.glob("shmvar-*.whl")]
    return (
        ["cp311", "abi3"] in tags
        if not name.endswith("t")
        else any(abi == name.replace("python3.", "cp3") for _, abi in tags)
    )


def packages(python: Path) -> None:
    """What the tests need. What cannot be had for that interpreter is named; its tests skip or fail."""
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["test"]
    pip = [str(python), *["-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--only-binary", ":all:"]]
    if subprocess.run([*pip, *wanted], capture_output=True).returncode == 0:
        return
    for package in wanted:
        if subprocess.run([*pip, package], capture_output=True).returncode:
            print(f"{package} cannot be installed for {python}")


def tried(name: str, interpreter: Path, dist: Path, place: Path, tests: list[str], parallel: bool) -> bool:
    """Whether all of it went well on one interpreter."""
    print(f"\n{name}: {interpreter}", flush=True)
    try:
        python = stranger(interpreter, dist, place)
        if not tests:
            return True
        packages(python)
        side_by_side = ["-n", "auto", "--dist", "loadgroup"] if parallel else []
        run(python, "-m", "pytest", "-p", "no:cacheprovider", *side_by_side, *tests, cwd=ROOT)
    except (subprocess.SubprocessError, SystemExit) as error:
        print(f"{name}: {error}", flush=True)
        return False
    return True


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Tries a built wheel on every Python that is here.")
    parser.add_argument("dist", type=Path, help="the folder of the wheels")
    parser.add_argument("--work", type=Path, help="where the environments are made (a folder that is removed)")
    parser.add_argument("--only", action="append", choices=VERSIONS, help="this version; may be given again")
    parser.add_argument("--all", action="store_true", help="a version that is not here is an error")
    parser.add_argument(
        "--tested", action="store_true", help="the tests ran on the version that runs this, so not again"
    )
    parser.add_argument("--few", action="store_true", help="of the quick tests only those of what Pythons differ in")
    parser.add_argument("-n", dest="parallel", action="store_true", help="tests run side by side")
    parser.add_argument("tests", nargs="*", help="for pytest, after --; the quick tests")
    options = parser.parse_args()
    chosen = options.tests or (FEW if options.few else QUICK)
    if not list(options.dist.glob("shmvar-*.whl")):
        parser.error(f"there is no wheel in {options.dist}")
    good: list[str] = []
    bad: list[str] = []
    missing: list[str] = []
    with tempfile.TemporaryDirectory() as temporary:
        work = (options.work or Path(temporary)).resolve()
        for name in options.only or VERSIONS:
            if (interpreter := find(name)) is None:
                missing.append(f"{name} is not here")
                continue
            if not fits(options.dist, name):
                missing.append(f"{options.dist} has no wheel for {name}")
                continue
            tests = [] if options.tested and works(sys.executable, name) else chosen
            went_well = tried(name, interpreter, options.dist.resolve(), work / name, tests, options.parallel)
            (good if went_well else bad).append(name)
    for line in missing:
        print(f"skipped: {line}")
    print(f"tried on: {', '.join(good) or 'none'}; failed on: {', '.join(bad) or 'none'}; skipped: {len(missing)}")
    return 1 if bad or not good or (options.all and missing) else 0


if __name__ == "__main__":
    sys.exit(main())
