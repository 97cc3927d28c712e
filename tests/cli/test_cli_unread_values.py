"""`shmvar put` and `get` of values that Python does not read or write: too many digits, brackets nested too deeply."""

import json
import os
import subprocess
import sys
import time

import pytest

import shmvar
from shmvar.cli import arguments, literals
from shmvar.cli import main as cli

LONG = "9" * 5_000
UNLIMITED = {"PYTHONINTMAXSTRDIGITS": "0"}


def nested(deep, inner="", pair="[]"):
    return pair[0] * deep + inner + pair[1] * deep


def run(*words, **environment):
    """Runs the program in a process of its own; returns what has come of it."""
    command = [sys.executable, "-m", "shmvar", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, env=os.environ | environment)


@pytest.mark.parametrize("text", [LONG, f"-{LONG}", f"[1, {{'a': {LONG}}}]", f"9_{LONG}", f" {LONG}\n"], ids=range(5))
def test_a_number_of_too_many_digits_is_no_text(new_key, capsys, text):
    key = new_key()
    assert cli.main(["put", key, "i", "--", text]) == 2
    said = capsys.readouterr().err
    assert f"a number of {5_000 + text.count('_'):,} digits" in said and "4,300" in said and len(said) < 300
    assert not shmvar.exists(key)
    if " " not in text and "_" not in text:
        assert run("put", key, "i", "--", text, **UNLIMITED).returncode == 0
        with shmvar.attach(key, create=False) as segment:
            assert segment["i"] == int(text[:-2_500]) * 10**2_500 + int(text[-2_500:]) * (-1 if text[0] == "-" else 1)


@pytest.mark.parametrize(
    "text", [nested(250), nested(9_000, "1"), nested(250, "1,", "()"), "{1: " * 250 + "'['" + "}" * 250]
)
def test_a_literal_that_is_nested_too_deeply_is_no_text(new_key, capsys, text):
    key = new_key()
    assert cli.main(["put", key, "i", text]) == 2
    said = capsys.readouterr().err
    assert f"nested {9_000 if len(text) > 9_000 else 250:,} deep" in said and len(said) < 300
    assert not shmvar.exists(key)
    assert ("--json" in said) == (len(text) < 9_000)
    if text == nested(250):
        assert cli.main(["put", key, "i", text, "--json"]) == 0
        with shmvar.attach(key, create=False) as segment:
            assert repr(segment["i"]) == text


@pytest.mark.parametrize("text", [LONG, nested(250)], ids=["digits", "nested"])
def test_as_a_text_it_is_put_in_quotes_as_the_error_says(seg, key, capsys, text):
    assert cli.main(["put", key, "i", text]) == 2 and "in quotes of its own" in capsys.readouterr().err
    assert cli.main(["put", key, "i", f"'{text}'"]) == 0 and seg["i"] == text


@pytest.mark.parametrize(
    "text",
    [
        f"0{LONG}",
        f"9__{LONG}",
        f"{LONG}_",
        f"x{LONG}",
        f"{LONG} {LONG}",
        f"f({LONG})",
        f"[{LONG}",
        nested(250) + "]",
        "[" + nested(250),
        nested(250, "true"),
        nested(250, "x"),
        nested(199, "5[" + nested(40, "1") + "]"),
        "f" + nested(250, "", "()"),
        nested(250) + nested(250),
        nested(300, "'"),
        "]" * 300,
        "{[" * 150 + "]}" * 150,
        "'" * 301,
    ],
    ids=range(18),
)
def test_what_is_no_literal_is_a_text_however_long_or_deep(text):
    assert arguments.literal(text) == text


def test_what_python_reads_is_read():
    assert repr(arguments.literal(nested(200))) == nested(200)
    assert arguments.literal("9" * 4_300) == 10**4_300 - 1
    assert arguments.literal("0x" + "9" * 5_000) == int("0x" + "9" * 5_000, 16)


def test_a_long_text_is_a_text_soon():
    before = time.process_time()
    for text in ("([{'" * 100_000, "9" * 4_000 + (" " + "9" * 4_000) * 100, "'a' " * 100_000 + "b", "\"'" * 100_001):
        assert arguments.literal(text) == text
    assert literals.depth(nested(1_000_000)) == 1_000_000
    assert time.process_time() - before < 30


@pytest.mark.parametrize("times", [1, 2, 3])
def test_json_within_texts_of_json_is_a_text_soon(times):
    text = json.dumps([{"id": 1, "ok": True, "msg": r"hello \ \""}] * 2_000)
    for _ in range(times):
        text = json.dumps(text)[1:-1]
    before = time.process_time()
    assert arguments.literal(text) == text and literals.depth(text) == 2
    assert time.process_time() - before < 30


@pytest.mark.parametrize("deep", [520, 600, 900, 1_100, 60_000])
def test_json_that_is_nested_too_deeply_to_be_pickled_is_a_line(new_key, deep):
    key = new_key()
    done = run("put", key, "i", nested(deep), "--json")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("shmvar: VALUE is ") and not shmvar.exists(key)
    assert f"nested {deep:,} deep" in done.stderr
    assert "without --json, as a text it has to be in quotes of its own" in done.stderr and "400 deep" in done.stderr
    assert run("put", key, "i", f"'{nested(deep)}'").returncode == 0
    assert run("put", key, "j", nested(400), "--json").returncode == 0
    with shmvar.attach(key, create=False) as segment:
        assert segment["i"] == nested(deep) and repr(segment["j"]) == nested(400)
        segment.destroy()


def test_a_number_of_json_with_too_many_digits_has_a_remedy_that_works(seg, key, capsys):
    assert cli.main(["put", key, "i", LONG, "--json"]) == 2
    said = capsys.readouterr().err
    assert "PYTHONINTMAXSTRDIGITS=0" in said and "sys." not in said and "not JSON" not in said
    assert run("put", key, "i", LONG, "--json", **UNLIMITED).returncode == 0
    assert seg["i"] == 10**5_000 - 1


@pytest.mark.parametrize("options", [[], ["--json"]], ids=["text", "json"])
def test_get_of_a_number_of_too_many_digits_has_a_remedy_that_works(seg, key, capsys, options):
    seg["i"] = 10**5_000 - 1
    assert cli.main(["get", key, "i", *options]) == 1
    said = capsys.readouterr().err
    assert "PYTHONINTMAXSTRDIGITS=0" in said and "sys." not in said
    assert run("get", key, "i", *options, **UNLIMITED).stdout == f"{LONG}\n"
