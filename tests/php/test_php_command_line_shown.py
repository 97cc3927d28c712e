"""What `shmvar php show`, `info` and `put` say: the order of arrays, who is attached, and remedies that work."""

import json
import os
import time

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


def test_info_does_not_count_itself(php_key, run):
    php.attach(php_key).detach()
    before = int(time.time())
    time.sleep(1.1)  # the kernel's times are whole seconds

    def facts():
        return json.loads(run("info", php_key, "--json")[1])

    first = facts()
    assert first["attached"] == 0 and first["last_pid"] == os.getpid()
    assert first["attached_at"] <= before + 1 and first["detached_at"] <= before + 1
    with php.attach(php_key, create=False):
        assert facts()["attached"] == 1
        assert ["attached", "1"] in [line.split() for line in run("info", php_key)[1].splitlines()]
    [listed] = [one for one in json.loads(run("ls", "--json")[1]) if one["key"] == first["key"]]
    assert facts()["attached"] == listed["attached"] == 0


def test_info_of_what_was_never_attached_but_by_its_maker_says_never(php_key, run):
    with php.attach(php_key):
        assert ["detached_at", "never"] in [line.split() for line in run("info", php_key)[1].splitlines()]
