"""The examples that no other test runs: threads with one handle, a pool that gets one, Python and Rust."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import shmvar

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def example(key, tmp_path):
    """Runs a copy of an example whose key is the test's own."""

    def run(name, *words):
        text = (EXAMPLES / name).read_text()
        changed = re.sub(r'"example-\w+"|\b(?:31_415|987654)\b', repr(key), text)
        assert changed != text
        program = tmp_path / name
        program.write_text(changed)
        return subprocess.run(
            [sys.executable, program, *words], capture_output=True, text=True, timeout=300, check=False
        )

    return run


def test_threads_share_one_handle(example, key):
    done = example("thread_pool.py")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"32 digests; that of 0 is [0-9a-f]{16}\.\.\.\n", done.stdout)
    assert not shmvar.exists(key)


def test_a_pool_gets_the_handle_as_an_argument(example, key):
    done = example("multiprocessing_pool.py")
    assert done.returncode == 0, done.stderr
    first, *rest = done.stdout.splitlines()
    assert first == "0 ['cat', 'dog', 'saw', 'the']" and len(rest) == 2
    assert not shmvar.exists(key)


def test_python_asks_and_prints_what_was_answered(example, key):
    """As exchange.rs answers: the fields of its `Summary`, with their names."""
    assert example("exchange.py", "answer").returncode == 1, "nobody has asked"
    assert example("exchange.py", "ask").stdout == "asked\n"
    with shmvar.attach(key, create=False) as segment:
        values = segment[1]["values"]
        rust = (EXAMPLES / "exchange.rs").read_text()
        fields = re.findall(r"^    (\w+): ", rust[rust.index("struct Summary") :].split("}")[0], re.M)
        known = {"name": segment[1]["name"], "count": len(values), "mean": sum(values) / 4, "largest": max(values)}
        segment[2] = {field: known[field] for field in fields}
    done = example("exchange.py", "answer")
    assert done.returncode == 0 and json.loads(done.stdout.replace("'", '"'))["mean"] == 3.875
    assert not shmvar.exists(key)
    assert example("exchange.py").returncode == 2


def test_the_program_of_phps_functions_does_what_the_readme_says(example):
    readme = (EXAMPLES.parent / "README.md").read_text()
    session = re.findall(r"^    \$ python examples/shared_memory.py (.*)\n    (.*)$", readme, re.M)
    assert [words.split()[0] for words, _ in session] == ["send", "get", "delete"]
    for words, said in session:
        done = example("shared_memory.py", *shlex.split(words))
        assert done.returncode == 0 and done.stdout == f"{said}\n", done.stderr


def test_the_program_in_rust_is_compiled_with_the_tests():
    """Cargo builds each file of `examples` whenever it builds the tests."""
    manifest = (EXAMPLES.parent / "Cargo.toml").read_text()
    assert "autoexamples = false" not in manifest and (EXAMPLES / "exchange.rs").exists()
