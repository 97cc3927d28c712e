"""Builds the wheels and the source distribution that are published, and checks them: `make wheels`.

    python tools/wheels.py [--out dist] [--home URL] [--site URL] [--only TARGET] [--again] [--dry-run]

What is built is what is committed: a tree of its own, made by `git archive` and `tools/publish.py`. One machine builds
for all (maturin, with zig as the linker), for the stable ABI of Python, so there are four wheels, and one more for each
free-threaded interpreter that is found. With `--again` everything is built a second time, from nothing, and must be the
same bytes: the time within the archives is that of the commit, paths of this machine are not in the binaries, and
versions are those of Cargo.lock.

The checks: `twine check --strict`, `check-wheel-contents`, `auditwheel show`, and a limit of size. A wheel that can run
here is installed into a fresh environment, from a folder and without an index, and the quick tests run on it.
"""

import argparse
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LARGEST = 800_000  # bytes of a wheel
# The target of Rust, and the oldest system that the wheel runs on: the name that pip knows it by.
TARGETS = {
    "x86_64-unknown-linux-gnu": "manylinux2014",
    "aarch64-unknown-linux-gnu": "manylinux2014",
    "x86_64-unknown-linux-musl": "musllinux_1_2",
    "aarch64-unknown-linux-musl": "musllinux_1_2",
}
FREE_THREADED = ("python3.14t", "python3.15t")  # those that PyO3 supports
QUICK = ["-x", "-q", "-m", "not slow", "tests/api", "tests/values/test_values.py"]


class Steps:
    """Runs commands, or only prints them."""

    def __init__(self, dry: bool) -> None:
        self.dry = dry

    def run(self, *words: object, cwd: Path | None = None, env: dict[str, str] | None = None) -> None:
        """Runs a command that must succeed."""
        said = shlex.join(map(str, words))
        print(
            f"$ {' '.join(f'{name}={shlex.quote(value)}' for name, value in (env or {}).items())} {said}".replace(
                "$  ", "$ "
            )
        )
        if not self.dry:
            subprocess.run([*map(str, words)], check=True, cwd=cwd, env=os.environ | (env or {}))


def tree(steps: Steps, folder: Path, home: str, site: str) -> None:
    """What is committed, with the addresses at which it is published."""
    if not steps.dry:
        shutil.rmtree(folder.parent, ignore_errors=True)
        folder.mkdir(parents=True)
    archive = folder.with_suffix(".tar")
    steps.run("git", "archive", "--format=tar", "-o", archive, "HEAD", cwd=ROOT)
    steps.run("tar", "-x", "-f", archive, "-C", folder)
    steps.run(sys.executable, ROOT / "tools/publish.py", folder, "--home", home, "--site", site)


def environment(folder: Path, target: str) -> dict[str, str]:
    """Variables with which two builds of one commit are the same bytes, wherever they are made."""
    committed = subprocess.run(
        ["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    cargo = os.environ.get("CARGO_HOME", str(Path.home() / ".cargo"))
    flags = [f"--remap-path-prefix={folder}=/shmvar", f"--remap-path-prefix={cargo}=/cargo"]
    if target.endswith("-musl"):
        flags.append("-Ctarget-feature=-crt-static")  # a library that is loaded cannot bring a libc of its own
    return {
        "SOURCE_DATE_EPOCH": committed,
        "RUSTFLAGS": " ".join(flags),
        "CARGO_TARGET_DIR": str(folder.parent / "target"),
    }


def build(steps: Steps, folder: Path, out: Path, targets: list[str]) -> None:
    """The source distribution and all wheels."""
    maturin = [sys.executable, "-m", "maturin"]
    steps.run(*maturin, "sdist", "--out", out, cwd=folder, env=environment(folder, ""))
    steps.run("rustup", "target", "add", *targets)
    for target in targets:
        words = ["build", "--release", "--locked", "--zig", "--target", target, "--compatibility", TARGETS[target]]
        steps.run(*maturin, *words, "--out", out, cwd=folder, env=environment(folder, target))
    native = f"{platform.machine()}-unknown-linux-gnu"
    for name in FREE_THREADED:
        if (found := shutil.which(name)) is None:
            print(f"skipped: {name} is not here, so no wheel is built for it")
        elif native in targets:
            words = ["build", "--release", "--locked", "--zig", "--target", native, "--compatibility", TARGETS[native]]
            steps.run(*maturin, *words, "-i", found, "--out", out, cwd=folder, env=environment(folder, native))


def same(first: Path, second: Path) -> list[str]:
    """The files of two folders that are not the same bytes."""
    names = {path.name for folder in (first, second) for path in folder.iterdir()}
    return [name for name in sorted(names) if digest(first / name) != digest(second / name)]


def digest(file: Path) -> str:
    """Of what is in it; empty if there is no such file."""
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else ""


def check(steps: Steps, out: Path) -> list[str]:
    """Runs the checks of others, and returns what is wrong by ours."""
    files = sorted(out.iterdir()) if out.exists() else []
    wheels = [file for file in files if file.suffix == ".whl"]
    steps.run(sys.executable, "-m", "twine", "check", "--strict", *files)
    steps.run(sys.executable, "-m", "check_wheel_contents", *wheels)
    for wheel in wheels:
        steps.run(sys.executable, "-m", "auditwheel", "show", wheel)
    return [
        f"{wheel.name} has {wheel.stat().st_size:,} bytes, more than {LARGEST:,}"
        for wheel in wheels
        if wheel.stat().st_size > LARGEST
    ]


def try_out(steps: Steps, out: Path, work: Path) -> None:
    """Installs what this machine can run, without an index, and runs the quick tests on it."""
    # The loader of glibc alone runs manylinux; pip picks the wheel that fits the interpreter.
    interpreters = [sys.executable, *filter(None, map(shutil.which, FREE_THREADED))]
    for number, interpreter in enumerate(interpreters):
        place = work / f"try-{number}"
        if not steps.dry:
            shutil.rmtree(place, ignore_errors=True)
        steps.run(interpreter, "-m", "venv", place)
        python = place / "bin/python"
        steps.run(python, "-m", "pip", "install", "--quiet", "--no-index", "--find-links", out, "shmvar")
        steps.run(place / "bin/shmvar", "--version")
        steps.run(python, "-m", "pip", "install", "--quiet", "--find-links", out, "shmvar[test]")
        steps.run(python, "-m", "pytest", "-p", "no:cacheprovider", *QUICK, cwd=ROOT)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Builds the wheels and the source distribution, and checks them.")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="where they go; made anew (dist)")
    parser.add_argument("--work", type=Path, default=ROOT / "target-wheels", help="what is kept in between")
    parser.add_argument("--home", default="", metavar="URL", help="where the repository can be read")
    parser.add_argument("--site", default="", metavar="URL", help="where the built site is")
    parser.add_argument("--only", action="append", choices=tuple(TARGETS), help="this target; may be given again")
    parser.add_argument("--again", action="store_true", help="build everything twice, and compare the bytes")
    parser.add_argument("--no-tests", action="store_true", help="do not install what can run here")
    parser.add_argument("--dry-run", action="store_true", help="only print the commands")
    options = parser.parse_args()
    steps, out, work = Steps(options.dry_run), options.out.resolve(), options.work.resolve()
    if not options.dry_run:
        shutil.rmtree(out, ignore_errors=True)
        shutil.rmtree(work, ignore_errors=True)
    targets = options.only or list(TARGETS)
    # Both times in the same place: how a crate is called in a binary may depend on where it was.
    source = work / "build" / "source"
    tree(steps, source, options.home, options.site)
    build(steps, source, out, targets)
    wrong = check(steps, out)
    if options.again:
        tree(steps, source, options.home, options.site)
        build(steps, source, work / "again", targets)
        if not options.dry_run:
            wrong += [f"{name}: two builds of one commit are not the same bytes" for name in same(out, work / "again")]
    if not options.no_tests:
        try_out(steps, out, work)
    for line in wrong:
        print(line, file=sys.stderr)
    if not wrong and not options.dry_run:
        for file in sorted(out.iterdir()):
            print(f"{digest(file)}  {file.name}  {file.stat().st_size:,} bytes")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
