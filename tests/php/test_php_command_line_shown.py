"""What `shmvar php show`, `info` and `put` say: the order of arrays, who is attached, and remedies that work."""

import json

import pytest

from shmvar import php
from shmvar.cli import main


@pytest.fixture
def run(capsys):
    """Runs `shmvar php` with these words in this process; returns its exit status and what it printed."""

    def call(*words):
        capsys.readouterr()
        status = main.main(["php", *map(str, words)])
        said = capsys.readouterr()
        return status, said.out, said.err

    return call


@pytest.fixture
def segment(php_key):
    with php.attach(php_key, 1 << 20, create=True) as segment:
        yield segment


def test_show_has_arrays_and_properties_in_the_order_of_php(segment, run):
    segment[1] = {5: 1, 3: 2}
    segment[2] = php.PhpObject("A", {"x": 1, "\0A\0private": 2, "a": 3})
    found = [one["repr"] for one in json.loads(run("show", segment.key, "--json")[1])]
    assert found == ["{5: 1, 3: 2}", "PhpObject('A', {'x': 1, '\\x00A\\x00private': 2, 'a': 3})"]
