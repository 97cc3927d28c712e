"""The pictures of `shmvar top` and `shmvar demo` are drawn by the programs themselves, and load nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "tools" / "top_picture.py"


@pytest.mark.usefixtures("private_shm")
def test_it_has_the_keys_and_the_numbers(seg, key, tmp_path):
    seg["n"] = 1
    picture = tmp_path / "top.svg"
    options = ["--seconds", "0.05", "--details", "1"]
    subprocess.run([sys.executable, PROGRAM, picture, *options], check=True, timeout=60)
    text = picture.read_text()
    assert text.startswith("<svg") and key in text and "processes" in text and "<script" not in text
    assert "url(http" not in text


def test_the_demo_draws_its_table_and_its_account(tmp_path):
    picture = tmp_path / "demo.svg"
    command = [sys.executable, ROOT / "tools" / "demo_picture.py", picture, "--seconds", "1.5"]
    subprocess.run(command, check=True, timeout=300)
    text = picture.read_text().replace("&#160;", " ")
    for part in ("writer", "reader", "SIGKILL", "Nothing lost, nothing torn.", "1.5 s"):
        assert part in text
    assert "<script" not in text and "url(http" not in text


@pytest.mark.parametrize("name", ["demo.svg", "top.svg"])
def test_the_pictures_of_the_readme_are_there_and_load_nothing(name):
    text = (ROOT / "docs" / "pictures" / name).read_text()
    assert text.startswith("<svg") and "url(http" not in text and len(text) < 100_000
    assert f"docs/pictures/{name}" in (ROOT / "README.md").read_text()
