"""The picture of `shmvar top` is drawn by the program itself."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "tools" / "top_picture.py"


@pytest.mark.usefixtures("private_shm")
def test_it_has_the_keys_and_the_numbers(seg, key, tmp_path):
    seg["n"] = 1
    picture = tmp_path / "top.svg"
    options = ["--seconds", "0.05", "--details", "1"]
    subprocess.run([sys.executable, PROGRAM, picture, *options], check=True, timeout=60)
    text = picture.read_text()
    assert text.startswith("<svg") and key in text and "processes" in text and "<script" not in text
