"""What `shmvar php show`, `info` and `put` say: the order of arrays, who is attached, and remedies that work."""

import json
import os
import re
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


def sizes_in(said):
    return [int(size) for size in re.findall(r"--size (\d+)", said)]


def test_the_size_that_a_put_without_room_asks_for_is_enough(php_key, run):
    text = "x" * 120
    status, _, said = run("put", php_key, 1, text, "--size", 80)
    assert status == 1 and "destroy" not in said and "nothing was stored: --size " in said
    (size,) = sizes_in(said)
    assert run("put", php_key, 1, text, "--size", size - 8)[0] == 1  # nothing is left of what failed
    assert run("put", php_key, 1, text, "--size", size)[0] == 0 and run("get", php_key, 1)[1] == f"{text}\n"
    # Now there is a segment, whose size stays.
    status, _, said = run("put", php_key, 2, text, "--size", 4096)
    assert status == 1 and f"remove others, or remove the segment (shmvar php destroy {php_key})" in said
    (size,) = sizes_in(said)
    assert run("destroy", php_key)[0] == 0
    for index in (1, 2):
        assert run("put", php_key, index, text, "--size", size)[0] == 0
    assert run("destroy", php_key)[0] == 0


def test_what_is_beyond_the_limits_is_printed_as_the_error_says(segment, run):
    deep = []
    for _ in range(4_999):
        deep = [deep]
    text = php.dumps(deep, max_depth=None)
    segment._put_text(2, text)
    status, _, said = run("get", segment.key, 2)
    assert status == 1 and said.rstrip().endswith("inside each other; shmvar php get --raw prints the text")
    assert run("get", segment.key, 2, "--raw")[1] == text.decode()
    ((shown),) = json.loads(run("show", segment.key, "--json")[1])
    assert shown["error"].endswith("inside each other; shmvar php get --raw prints the text")
    segment._put_text(2, b"i:5")
    assert "(shmvar php get --raw prints the text)" in run("get", segment.key, 2)[2]
    assert run("get", segment.key, 2, "--raw")[1] == "i:5"


def test_a_damaged_segment_is_emptied_as_the_error_says(segment, run):
    segment[1], segment[2] = "first", "second"
    with php.Shmop(segment.key, "w") as opened:
        at = opened.read(0, opened.size).index(segment.raw(2)) - 24
        opened.write((1 << 24).to_bytes(8, "little"), at + 8)
    remedy = "shmvar php clear empties the segment, shmvar php destroy removes it"
    for words in (["get", segment.key, 2], ["info", segment.key], ["show", segment.key]):
        status, _, said = run(*words)
        assert status == 1 and remedy in said and "()" not in said
    assert remedy in json.loads(run("info", segment.key, "--json")[1])["damage"]
    assert run("clear", segment.key)[0] == 0 and len(segment) == 0


@pytest.mark.parametrize(("value", "instead"), [("{1, 2}", "[1, 2]"), ("1.5-2j", "[1.5, -2.0]")])
def test_the_remedy_for_what_php_has_not_can_be_typed(segment, run, value, instead):
    status, _, said = run("put", segment.key, 1, value)
    assert status == 1 and "Remedy: a list" in said and "value" not in said.partition("Remedy")[2]
    assert run("put", segment.key, 1, instead)[0] == 0


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
