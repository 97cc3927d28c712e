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


@pytest.mark.parametrize("options", [[], ["--json"]], ids=["literal", "json"])
def test_the_remedy_of_a_key_that_php_would_merge_works_on_the_command_line(segment, run, options):
    status, _, said = run("put", segment.key, 30, '{"5": 1}', *options)
    assert status == 1 and said.rstrip().endswith(
        "the int 5 as the key: {5: …}, and without --json, for JSON has no such keys"
    )
    assert run("put", segment.key, 30, "{5: 1}")[0] == 0 and segment[30] == {5: 1}
