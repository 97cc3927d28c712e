"""`shmvar get --json`: a value whose keys JSON cannot tell apart has no such form."""

import json
import time

import pytest

from shmvar import php
from shmvar.cli import main as cli
from shmvar.cli import printing

MERGED = [{1: 2, "1": 3}, [{"a": ({None: 1, "null": 2},)}], {True: 1, "true": 2}, {"x": {"1.5": 1, 1.5: 2}}]


@pytest.mark.parametrize("value", MERGED, ids=str)
def test_keys_that_would_be_one_are_refused(seg, key, capsys, value):
    seg["i"] = value
    assert cli.main(["get", key, "i", "--json"]) == 1
    said = capsys.readouterr()
    assert not said.out and "the value has no form as JSON: ValueError: the keys " in said.err
    assert cli.main(["get", key, "i"]) == 0 and capsys.readouterr().out == f"{value!r}\n"


@pytest.mark.parametrize("value", [{1: 2, "2": 3}, {}, {False: [{0.5: {}}]}, {"a": {1: 2}, "b": {"1": 2}}], ids=str)
def test_other_keys_are_texts(seg, key, capsys, value):
    seg["i"] = value
    assert cli.main(["get", key, "i", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(value))


def test_the_error_names_both_keys(seg, key, capsys):
    seg["i"] = {"1": 3, 1: 2}
    assert cli.main(["get", key, "i", "--json"]) == 1
    assert capsys.readouterr().err.endswith("the keys '1' and 1 of a dict are the same there\n")


def test_what_stands_for_an_object_is_looked_into():
    def as_data(found):
        return {"properties": found.properties}

    printing.as_json([php.PhpObject("A", {1: 1, "2": 2})], as_data)
    with pytest.raises(ValueError, match="the keys 1 and '1'"):
        printing.as_json([php.PhpObject("A", {"x": php.PhpObject("B", {1: 1, "1": 2})})], as_data)


def test_it_costs_little():
    value = [{"a": n, "b": [n, n]} for n in range(200_000)]
    before = time.process_time()
    printing._refuse_merged_keys(value, None)
    assert time.process_time() - before < 20
    shared = []
    for _ in range(20):
        shared = [shared, shared]
    printing._refuse_merged_keys(shared, None)
