"""Builds the wheels and the source distribution that are published, and checks them: `make wheels`.

    python tools/wheels.py [--out dist] [--home URL] [--site URL] [--only TARGET] [--all] [--again] [--dry-run]

What is built is what is committed: a tree of its own, made by `git archive` and `tools/publish.py`. One machine builds
for all (maturin, with zig as the linker), for the stable ABI of Python, so there are four wheels, and one more for each
free-threaded interpreter that is found. A target whose standard library is not installed is skipped and named, as is an
interpreter that is not here; the last line says what was built and what was not. With `--all`, as a release is made,
the standard libraries are fetched, and whatever is missing is an error.

With `--again` everything is built a second time, from nothing, in another folder, and must be the same bytes: the time
within the archives is that of the commit, paths of this machine are not in the binaries, and versions are those of
Cargo.lock.

The checks: `twine check --strict`, `check-wheel-contents`, `auditwheel` (the name of the wheel says no newer system
than its symbols need), and a limit of size. What can run here is then installed and tested by `tools/pythons.py`.
"""

import argparse
import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pythons

ROOT = Path(__file__).resolve().parent.parent
UNWINDER = "libgcc_s.so.1"
LARGEST = 2_500_000  # bytes of a wheel: docs/architecture.md, "The size of a wheel"
# The target of Rust, and the oldest system that the wheel runs on: the name that pip knows it by.
TARGETS = {
    "x86_64-unknown-linux-gnu": "manylinux2014",
    "aarch64-unknown-linux-gnu": "manylinux2014",
    "x86_64-unknown-linux-musl": "musllinux_1_2",
    "aarch64-unknown-linux-musl": "musllinux_1_2",
}


class Steps:
    """Runs commands, or only prints them."""

    def __init__(self, dry: bool) -> None:
        self.dry = dry

    def run(self, *words: object, cwd: Path | None = None, env: dict[str, str] | None = None) -> None:
        """Runs a command that must succeed, and says so; not where programs are looked for, which is long."""
        set_ = [f"{name}={shlex.quote(value)}" for name, value in (env or {}).items() if name != "PATH"]
        print("$", *set_, shlex.join(map(str, words)), flush=True)
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
    elif unwinder := unwinder_of(target):
        flags.append(f"-Clink-arg={unwinder}")
    here = Path(sys.executable).parent
    return {
        "SOURCE_DATE_EPOCH": committed,
        "RUSTFLAGS": " ".join(flags),
        # Zig is a package of this environment, which need not be the first Python that is found.
        "CARGO_ZIGBUILD_PYTHON_PATH": sys.executable,
        "PATH": f"{here}{os.pathsep}{os.environ['PATH']}",
        "CARGO_TARGET_DIR": str(folder.parent / "target"),
    }


def unwinder_of(target: str) -> Path | None:
    """The library that unwinds stacks on a system with glibc, for the linker: None if it is not here.

    glibc ends a thread by unwinding its stack with this library, and so does CPython up to 3.13 with the threads that
    wait when it ends. Left to itself, zig puts an unwinder of its own into the wheel. Two of them on one stack end in
    SIGSEGV.
    """
    machine = target.partition("-")[0]
    for compiler in [f"{machine}-linux-gnu-gcc", *(["cc"] if machine == platform.machine() else [])]:
        if shutil.which(compiler):
            command = [compiler, f"-print-file-name={UNWINDER}"]
            found = Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
            if found.is_absolute():
                return found.resolve()
    return None


def here(target: str) -> bool:
    """Whether the compiler has the standard library of a target."""
    command = ["rustc", "--print", "target-libdir", "--target", target]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode == 0 and any(Path(done.stdout.strip()).glob("libstd-*.rlib"))


def possible(steps: Steps, targets: list[str], every: bool) -> tuple[list[str], list[str]]:
    """Those that can be built for, and what is missing for the others. With `every`, what can be fetched is."""
    if every:
        steps.run("rustup", "target", "add", *targets)
    missing = {}
    for target in [] if steps.dry else targets:
        machine = target.partition("-")[0]
        if not here(target):
            missing[target] = f"the standard library for {target} is not installed (rustup target add {target})"
        elif target.endswith("-gnu") and unwinder_of(target) is None:
            missing[target] = f"{UNWINDER} for {target} is not here ({machine}-linux-gnu-gcc brings it)"
    return [target for target in targets if target not in missing], list(missing.values())


def free_threaded(steps: Steps) -> tuple[list[Path], list[str]]:
    """The interpreters that have no stable ABI and are here, and what is said of the others."""
    found = {name: pythons.find(name) for name in pythons.FREE_THREADED}
    return [path for path in found.values() if path], [
        f"{name} is not here, so no wheel is built for it" for name, path in found.items() if path is None
    ]


def build(steps: Steps, folder: Path, out: Path, targets: list[str], interpreters: list[Path]) -> None:
    """The source distribution and all wheels."""
    maturin = [sys.executable, "-m", "maturin"]
    steps.run(*maturin, "sdist", "--out", out, cwd=folder, env=environment(folder, ""))
    native = f"{platform.machine()}-unknown-linux-gnu"
    wanted: list[tuple[str, list[object]]] = [(target, []) for target in targets]
    wanted += [(native, ["-i", path]) for path in interpreters if native in targets]
    for target, interpreter in wanted:
        words = ["build", "--release", "--locked", "--zig", "--target", target, "--compatibility", TARGETS[target]]
        steps.run(*maturin, *words, *interpreter, "--out", out, cwd=folder, env=environment(folder, target))


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
    wrong = [
        f"{wheel.name} has {wheel.stat().st_size:,} bytes, more than {LARGEST:,}"
        for wheel in wheels
        if wheel.stat().st_size > LARGEST
    ]
    for wheel in wheels:
        steps.run(*show(wheel))
        if not steps.dry and (newer := audited(wheel)):
            wrong.append(newer)
        if not steps.dry and "manylinux" in wheel.name and not unwinds_with_the_system(wheel):
            wrong.append(f"{wheel.name} does not load {UNWINDER}: a thread that waits when Python ends is a SIGSEGV")
    return wrong


def leaks(wheel: Path, folders: list[Path]) -> list[str]:
    """What in a wheel names a folder of this machine: it is nobody's business, and not the same elsewhere."""
    with zipfile.ZipFile(wheel) as archive:
        return [
            f"{wheel.name}: {name} has the name of {folder}"
            for name in archive.namelist()
            for folder in folders
            if bytes(folder) in archive.read(name)
        ]


def unwinds_with_the_system(wheel: Path) -> bool:
    """Whether its extension module loads the library that glibc unwinds with."""
    with zipfile.ZipFile(wheel) as archive:
        modules = [archive.read(name) for name in archive.namelist() if name.endswith(".so")]
    return bool(modules) and all(UNWINDER.encode() in module for module in modules)


def audited(wheel: Path) -> str:
    """What is wrong with the name of a wheel: it needs a newer system. Nothing if auditwheel agrees with it."""
    told = subprocess.run(show(wheel, "--json"), capture_output=True, text=True, check=True).stdout
    return contradicted(wheel.name, json.loads(told))


def show(wheel: Path, *options: str) -> list[str]:
    """The command that tells what a wheel needs. It searches no folder of this machine, which may have another libc:
    there `libc.so` is no library at all, and auditwheel ends with an error."""
    return [sys.executable, "-m", "auditwheel", "show", "--ldpaths", "", *options, str(wheel)]


def contradicted(name: str, told: dict[str, Any]) -> str:
    """What is wrong with a name, by what auditwheel has told of the wheel.

    A wheel for musl needs musl's one library. Zig has it linked by the name that musl gives it, auditwheel knows that
    of Alpine only (`libc.musl-x86_64.so.1`), and musl's loader takes any `libc.` for itself (`ldso/dynlink.c`,
    `load_library`). So where that library is all that auditwheel complains about, what is asked for is the symbols.
    """
    tag = r"(many|musl)linux_(\d+)_(\d+)_(\w+)"
    named = [re.fullmatch(tag, part) for part in name.removesuffix(".whl").split("-")[-1].split(".")]
    oldest = next((found.groups() for found in named if found), None)
    musl = oldest and oldest[0] == "musl" and list(told["external_libs"]) == ["libc.so"]
    needed = told["sym_tag" if musl else "overall_tag"]
    found = re.fullmatch(tag, needed)
    if oldest and found and (found[1], found[4]) == (oldest[0], oldest[3]):
        true = (int(found[2]), int(found[3])) <= (int(oldest[1]), int(oldest[2]))
    else:
        true = False
    return "" if true else f"{name} needs {needed}, and of libraries {', '.join(told['external_libs']) or 'no other'}"


def try_out(steps: Steps, out: Path, targets: list[str]) -> None:
    """Installs what this machine can run, without an index, and runs the quick tests on it."""
    # The loader of glibc alone runs manylinux; pip picks the wheel that fits the interpreter.
    if f"{platform.machine()}-unknown-linux-gnu" in targets:
        steps.run(sys.executable, ROOT / "tools/pythons.py", out)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Builds the wheels and the source distribution, and checks them.")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="where they go; made anew (dist)")
    parser.add_argument("--work", type=Path, default=ROOT / "target-wheels", help="what is kept in between")
    parser.add_argument("--home", default="", metavar="URL", help="where the repository can be read")
    parser.add_argument("--site", default="", metavar="URL", help="where the built site is")
    parser.add_argument("--only", action="append", choices=tuple(TARGETS), help="this target; may be given again")
    parser.add_argument(
        "--all", action="store_true", help="fetch what is missing; what then is still missing is an error"
    )
    parser.add_argument("--again", action="store_true", help="build everything twice, and compare the bytes")
    parser.add_argument("--no-tests", action="store_true", help="do not install what can run here")
    parser.add_argument("--dry-run", action="store_true", help="only print the commands")
    options = parser.parse_args()
    steps, out, work = Steps(options.dry_run), options.out.resolve(), options.work.resolve()
    if not options.dry_run:
        shutil.rmtree(out, ignore_errors=True)
        shutil.rmtree(work, ignore_errors=True)
    targets, missing = possible(steps, options.only or list(TARGETS), options.all)
    interpreters, not_here = free_threaded(steps)
    for line in missing + not_here:
        print(f"skipped: {line}", flush=True)
    # Of the free-threaded interpreters a release has at least one.
    if not targets or (options.all and not options.dry_run and (missing or not interpreters)):
        print("nothing is built" if options.all else "nothing can be built", file=sys.stderr)
        return 1
    tree(steps, work / "first" / "source", options.home, options.site)
    build(steps, work / "first" / "source", out, targets, interpreters)
    wrong = check(steps, out)
    for wheel in out.glob("*.whl"):
        wrong += leaks(wheel, [work, Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))])
    if options.again:
        # In another folder, with a name of another length.
        tree(steps, work / "the-second" / "source", options.home, options.site)
        build(steps, work / "the-second" / "source", work / "again", targets, interpreters)
        if not options.dry_run:
            wrong += [f"{name}: two builds of one commit are not the same bytes" for name in same(out, work / "again")]
    if not options.no_tests:
        try_out(steps, out, targets)
    for line in wrong:
        print(line, file=sys.stderr)
    if not wrong and not options.dry_run:
        for file in sorted(out.iterdir()):
            print(f"{digest(file)}  {file.name}  {file.stat().st_size:,} bytes")
    built = [*targets, *(path.name for path in interpreters)]
    print(f"built for: {', '.join(built)}; not built: {'; '.join(missing + not_here) or 'nothing'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
