"""What is published can be read without the repository: its links lead somewhere, its metadata is what is true."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "tools" / "publish.py"
HOME = "https://example.org/somebody/shmvar"
LINKS = re.compile(r"\]\(([^()\s]+)\)")


@pytest.fixture
def tree(tmp_path):
    """A copy of what `publish.py` looks at."""
    for name in ("README.md", "pyproject.toml", "Cargo.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def publish(tree, *options):
    return subprocess.run([sys.executable, PROGRAM, tree, *options], capture_output=True, text=True, check=False)


def project(tree):
    return tomllib.loads((tree / "pyproject.toml").read_text())["project"]


def test_each_link_of_the_description_leads_to_a_file_of_the_tag(tree):
    assert publish(tree, "--home", HOME).returncode == 0
    text = (tree / "README.md").read_text()
    tag = "v" + tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["version"]
    links = LINKS.findall(text)
    assert len(links) == len(LINKS.findall((ROOT / "README.md").read_text())) > 30
    for link in links:
        kind, path = re.fullmatch(rf"{HOME}/(blob|raw)/{tag}/([^#]+)(?:#.*)?", link).groups()
        assert (ROOT / path).exists() and (kind == "raw") == path.endswith((".png", ".svg")), link


def test_without_a_home_the_description_has_no_links_and_the_same_words(tree):
    assert publish(tree).returncode == 0
    text = (tree / "README.md").read_text()
    assert "](" not in text and "![" not in text
    assert "The guide says which call to use when." in text and "licensed under mit or apache-2.0" in text.lower()
    assert re.findall(r"^```.*?^```$", text, re.S | re.M) == re.findall(
        r"^```.*?^```$", (ROOT / "README.md").read_text(), re.S | re.M
    )
    assert "urls" not in project(tree)


def test_the_addresses_are_those_that_were_given(tree):
    assert publish(tree, "--home", HOME + "/", "--site", "https://docs.example.org/shmvar").returncode == 0
    found = project(tree)["urls"]
    assert found["Source"] == HOME and found["Homepage"] == found["Documentation"] == "https://docs.example.org/shmvar"
    assert found["Changelog"].startswith(HOME) and found["Issues"] == f"{HOME}/issues"
    assert project(tree)["scripts"] == {"shmvar": "shmvar.cli.main:main"}
    refused = publish(tree, "--home", HOME)
    assert refused.returncode == 1 and "already" in refused.stderr


@pytest.mark.parametrize("wrong", ["http://example.org", 'https://example.org/"', "example.org"])
def test_what_is_no_address_is_refused(tree, wrong):
    before = (tree / "pyproject.toml").read_text()
    refused = publish(tree, "--home", wrong)
    assert refused.returncode == 2 and "no address" in refused.stderr
    assert (tree / "pyproject.toml").read_text() == before


def test_a_working_tree_is_not_changed(tree):
    (tree / ".git").write_text("")
    before = (tree / "README.md").read_text()
    assert publish(tree, "--home", HOME).returncode == 2
    assert (tree / "README.md").read_text() == before


def test_links_and_pictures_of_every_kind(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import publish

    text = "[a](docs/a.md) ![p](docs/p.svg)\n[`x[i]`](#x) [w](https://example.com)\n\n    [code](docs/a.md)\n"
    assert publish.description(text, HOME, "v1") == (
        f"[a]({HOME}/blob/v1/docs/a.md) ![p]({HOME}/raw/v1/docs/p.svg)\n"
        f"[`x[i]`]({HOME}/blob/v1/README.md#x) [w](https://example.com)\n\n    [code](docs/a.md)\n"
    )
    assert publish.description(text, None, "v1") == ("a \n`x[i]` [w](https://example.com)\n\n    [code](docs/a.md)\n")


def test_the_classifiers_are_known_and_name_the_pythons_that_are_tested():
    found = project(ROOT)["classifiers"]
    assert found == sorted(found, key=lambda name: [name.split(" :: ")]) and len(set(found)) == len(found)
    versions = [name.split(" :: ")[-1] for name in found if re.fullmatch(r".*Python :: 3\.\d+", name)]
    workflow = (ROOT / ".github/workflows/ci.yml").read_text()
    tested = re.search(r"python: \[(.*)\]", workflow)[1].replace('"', "").split(", ")
    assert versions == tested
    assert project(ROOT)["requires-python"] == f">={tested[0]}"
    known = pytest.importorskip("trove_classifiers")
    assert set(found) <= known.classifiers


# Twice the same text, so it has to be changed twice.
def test_the_crate_and_the_package_are_described_alike():
    crate = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]
    assert crate["description"] == project(ROOT)["description"] and crate["license"] == project(ROOT)["license"]


@pytest.mark.parametrize(
    "system, processor", [("macos", "aarch64"), ("windows", "x86_64"), ("linux", "riscv64"), ("android", "aarch64")]
)
def test_a_build_for_another_system_ends_with_the_reason(build_script, system, processor):
    said = [line for line in build_script(system, processor) if not line.startswith("cargo::rerun-if-changed=")]
    assert said[0].endswith(f"This build is for {system}, {processor}.")
    assert all(line.startswith("cargo::error=") and len(line) < 140 for line in said)
    assert "Linux container" in said[-1]


@pytest.mark.parametrize("processor", ["x86_64", "aarch64"])
def test_a_build_for_linux_goes_on(build_script, processor):
    assert not any("cargo::error" in line for line in build_script("linux", processor))


@pytest.fixture(scope="module")
def build_script(tmp_path_factory):
    """Runs build.rs as Cargo does for a target; returns the lines that it printed."""
    if shutil.which("rustc") is None:
        pytest.skip("not here: rustc")
    program = tmp_path_factory.mktemp("build") / "build"
    command = ["rustc", "--edition", "2024", str(ROOT / "build.rs"), "-o", str(program)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)

    def run(system, processor):
        done = subprocess.run(
            [program],
            cwd=ROOT,
            env={"CARGO_CFG_TARGET_OS": system, "CARGO_CFG_TARGET_ARCH": processor},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.splitlines()

    return run
