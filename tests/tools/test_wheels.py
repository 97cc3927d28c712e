"""What is released is built as the workflow and `make wheels` say, and two builds that differ are found."""

import platform
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "tools" / "wheels.py"
WORKFLOW = ROOT / ".github" / "workflows" / "release.yml"


@pytest.fixture
def wheels(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import wheels

    return wheels


@pytest.fixture
def no_targets(monkeypatch, tmp_path):
    """A compiler that has the standard library of no target, and a rustup that fetches none."""
    for name, line in (("rustc", "echo /nowhere"), ("rustup", f"echo $* >>{tmp_path}/asked")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return tmp_path / "asked"


def dry(tmp_path, *options):
    command = [sys.executable, PROGRAM, "--dry-run", "--out", tmp_path / "dist", "--work", tmp_path / "work", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not list(tmp_path.iterdir()), "it has done nothing"
    return done.stdout.splitlines()


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs the repository, of which what is committed is built")
def test_it_builds_for_each_system_of_the_issue_and_once_more_to_compare(tmp_path, wheels):
    lines = dry(tmp_path, "--again")
    built = [line for line in lines if " build " in line]
    for target, oldest in wheels.TARGETS.items():
        found = [
            line for line in built if f"--target {target} --compatibility {oldest} " in line and " -i " not in line
        ]
        again = found[0].replace("/dist", "/work/again").replace("/work/first/", "/work/the-second/")
        assert len(found) == 2 and again == found[1] != found[0], "the second time in another folder"
        assert all("--locked --zig" in line and re.search(r"SOURCE_DATE_EPOCH=\d{10}", line) for line in found)
        assert ("-crt-static" in found[0]) == target.endswith("musl")
        assert f"CARGO_ZIGBUILD_PYTHON_PATH={sys.executable} " in found[0], "zig is a package of this very environment"
    first = "\n".join(lines)
    for step in (
        "git archive",
        "publish.py",
        "maturin sdist",
        "twine check --strict",
        "check_wheel_contents",
        "tools/pythons.py",
    ):
        assert step in first
    assert {oldest for oldest in wheels.TARGETS.values()} == {"manylinux2014", "musllinux_1_2"}


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs the repository, of which what is committed is built")
def test_a_part_of_it_is_only_that(tmp_path):
    lines = dry(tmp_path, "--only", "aarch64-unknown-linux-musl", "--no-tests", "--home", "https://example.org/x")
    built = [line for line in lines if " build " in line]
    assert len(built) == 1 and "aarch64-unknown-linux-musl" in built[0]
    assert "built for: aarch64-unknown-linux-musl; not built: " in lines[-1]
    assert any("--home https://example.org/x" in line for line in lines) and not any(
        "tools/pythons.py" in line for line in lines
    )


@pytest.mark.parametrize("options", [[], ["--all"]])
def test_a_target_that_cannot_be_built_for_is_named_and_in_a_release_is_an_error(tmp_path, no_targets, options):
    work = ["--out", tmp_path / "dist", "--work", tmp_path / "work"]
    done = subprocess.run([sys.executable, PROGRAM, *work, *options], capture_output=True, text=True)
    for target in ("x86_64-unknown-linux-gnu", "aarch64-unknown-linux-musl"):
        line = f"skipped: the standard library for {target} is not installed (rustup target add {target})"
        assert line in done.stdout.splitlines()
    assert done.returncode == 1 and ("nothing is built" if options else "nothing can be built") in done.stderr
    assert no_targets.exists() == bool(options), "nothing is fetched that nobody asked for"


def test_of_several_targets_those_that_can_be_are_built_unless_all_are_asked_for(monkeypatch, wheels):
    monkeypatch.setattr(wheels, "here", lambda target: target.startswith("x86_64"))
    dry, asked = wheels.Steps(dry=False), []
    monkeypatch.setattr(dry, "run", lambda *words, **more: asked.append(words))
    targets, missing = wheels.possible(dry, list(wheels.TARGETS), every=False)
    assert targets == ["x86_64-unknown-linux-gnu", "x86_64-unknown-linux-musl"] and not asked
    assert [line.split()[4] for line in missing] == ["aarch64-unknown-linux-gnu", "aarch64-unknown-linux-musl"]
    assert wheels.possible(dry, list(wheels.TARGETS), every=True) == (targets, missing)
    assert asked == [("rustup", "target", "add", *wheels.TARGETS)]


def told(tag, *libraries, symbols=None):
    """What auditwheel says of a wheel."""
    return {"overall_tag": tag, "sym_tag": symbols or tag, "external_libs": dict.fromkeys(libraries)}


def test_a_name_that_says_an_older_system_than_is_needed_is_found(wheels):
    name = "shmvar-0.2.0-cp311-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"
    for fine in ("manylinux_2_17_x86_64", "manylinux_2_5_x86_64"):
        assert wheels.contradicted(name, told(fine)) == ""
    for other in ("manylinux_2_34_x86_64", "manylinux_2_17_aarch64", "musllinux_1_2_x86_64", "linux_x86_64"):
        assert wheels.contradicted(name, told(other)) == f"{name} needs {other}, and of libraries no other"
    another = told("linux_x86_64", "libfoo.so", symbols="manylinux_2_17_x86_64")
    assert wheels.contradicted(name, another) == f"{name} needs linux_x86_64, and of libraries libfoo.so"
    assert wheels.contradicted(name.replace("many", "musl"), told(fine))


def test_a_wheel_for_musl_needs_the_library_of_musl_and_no_other(wheels):
    name, fine = "shmvar-0.2.0-cp311-abi3-musllinux_1_2_aarch64.whl", "musllinux_1_2_aarch64"
    assert wheels.contradicted(name, told(fine)) == ""
    assert wheels.contradicted(name, told("linux_aarch64", "libc.so", symbols=fine)) == ""
    for symbols in ("musllinux_1_3_aarch64", "musllinux_1_2_x86_64", "manylinux_2_17_aarch64", "linux_aarch64"):
        assert wheels.contradicted(name, told("linux_aarch64", "libc.so", symbols=symbols))
    for libraries in (["libc.so", "libgcc_s.so.1"], ["libgcc_s.so.1"], []):
        assert wheels.contradicted(name, told("linux_aarch64", *libraries, symbols=fine))


def test_a_folder_of_this_machine_in_a_wheel_is_found(tmp_path, wheels):
    wheel = tmp_path / "x.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("fine.so", bytes(1000) + b"/shmvar/src/lib.rs")
        archive.writestr("list.json", f'"path+file://{tmp_path}/source"' * 9)
    assert wheels.leaks(wheel, [tmp_path, Path("/nowhere")]) == [f"x.whl: list.json has the name of {tmp_path}"]
    assert wheels.leaks(wheel, [Path("/nowhere")]) == []


def test_builds_that_are_not_the_same_bytes_and_wheels_that_are_too_large_are_found(tmp_path, wheels):
    one, two = tmp_path / "one", tmp_path / "two"
    for folder, text in ((one, b"1"), (two, b"2")):
        folder.mkdir()
        (folder / "same.whl").write_bytes(b"same")
        (folder / "other.whl").write_bytes(text)
    (two / "more.whl").write_bytes(b"")
    assert wheels.same(one, two) == ["more.whl", "other.whl"] and wheels.same(one, one) == []
    (one / "same.whl").write_bytes(bytes(wheels.LARGEST + 1))
    (wrong,) = wheels.check(wheels.Steps(dry=True), one)
    assert wrong.startswith(f"same.whl has {wheels.LARGEST + 1:,} bytes")


def test_the_workflow_does_what_the_tools_here_can_do():
    yaml = pytest.importorskip("yaml")
    found = yaml.safe_load(WORKFLOW.read_text())
    jobs = found["jobs"]
    assert set(jobs["publish"]["needs"]) == {"same", "manylinux", "musllinux"} and "tag" in jobs["publish"]["if"]
    assert jobs["publish"]["permissions"]["id-token"] == "write" and found["permissions"] == {"contents": "read"}
    for name, job in jobs.items():
        assert all(step.get("uses") or step.get("run") for step in job["steps"])
        needed = job.get("needs", [])
        assert {needed} <= jobs.keys() if isinstance(needed, str) else set(needed) <= jobs.keys(), name
    # The Pythons of the classifiers, and each option and path that a command names.
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    versions = [name.split(" :: ")[-1] for name in project["classifiers"] if re.fullmatch(r".*Python :: 3\.\d+", name)]
    assert [version for version in jobs["manylinux"]["strategy"]["matrix"]["python"] if "t" not in version] == versions
    text = WORKFLOW.read_text()
    assert re.search(r"^wheels: ", (ROOT / "Makefile").read_text(), re.M) and "make wheels " in text
    assert re.search(r'make wheels .*WHEELS_OPTIONS="--all ', text), "a release is whole or not made"
    for option in re.findall(r"--(?:all|no-tests|home|again|only)\b", text):
        assert f'"{option}"' in PROGRAM.read_text()
    for path in re.findall(r"\btests/[\w/.]+", text):
        assert (ROOT / path).exists()


def test_a_wheel_that_unwinds_by_itself_is_found(tmp_path, wheels):
    """glibc unwinds the stack of a thread that ends with its own library: another one in the wheel meets that stack."""
    for name, content in ("good", b"\0libgcc_s.so.1\0libc.so.6\0"), ("bad", b"\0libc.so.6\0"):
        with zipfile.ZipFile(tmp_path / f"{name}.whl", "w") as archive:
            archive.writestr("shmvar/_core.abi3.so", content)
            archive.writestr("shmvar/text.py", "libgcc_s.so.1")
    assert wheels.unwinds_with_the_system(tmp_path / "good.whl")
    assert not wheels.unwinds_with_the_system(tmp_path / "bad.whl")


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_the_unwinder_of_this_machine_is_found_and_of_others_only_with_their_compiler(wheels):
    assert wheels.unwinder_of(f"{platform.machine()}-unknown-linux-gnu").name.startswith("libgcc_s.so")
    assert wheels.unwinder_of("riscv64-unknown-linux-gnu") is None or shutil.which("riscv64-linux-gnu-gcc")
