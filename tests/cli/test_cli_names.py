"""A KEY or INDEX on the command line: numbers, texts, and texts in quotes, in the form that `ls` and `show` print."""

import json

import pytest

import shmvar
from shmvar.cli import arguments
from shmvar.cli import main as cli

TEXTS = [
    "5",
    "-1",
    "+7",
    "0x1f",
    "",
    "'",
    '"',
    "'5'",
    '"5"',
    "it's",
    "a\nb\t\\c",
    "\x1b[2J",
    "é",
    "'a' 'b'",
    "\\",
    "a b",
    "-",
    "--json",
    "\u200b\U0001f600",
]


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_the_form_that_show_prints_is_that_text(text):
    assert arguments.name(repr(text)) == text
    assert arguments.name("'" + repr(text)[1:-1].replace("'", "\\'") + "'") == text or "\\'" in repr(text)


@pytest.mark.parametrize(
    "word",
    [
        "'",
        '"',
        "'a",
        "a'",
        "'a\"",
        "'a'b'",
        "'a' 'b'",
        "'''a'''",
        "b'a'",
        "r'a'",
        "f'a'",
        "'a\nb'",
        "'\\x1'",
        "('a')",
        " 'a'",
    ],
)
def test_what_is_no_text_in_quotes_is_the_text_itself(word):
    assert arguments.name(word) == word


def test_numbers_stay_numbers():
    words = {"5": 5, "-1": -1, "+7": 7, "0x1f": 31, "-0X1F": -31, "0": 0, "00": 0}
    assert {word: arguments.name(word) for word in words} == words
    assert [arguments.name(word) for word in ("5.0", "1e3", "five", "0b1", "1_0")] == [
        "5.0",
        "1e3",
        "five",
        "0b1",
        "1_0",
    ]


def test_every_command_reaches_an_index_that_looks_like_a_number(seg, key, capsys):
    seg.update({5: "int", "5": "text"})
    assert cli.main(["get", key, "'5'"]) == 0 and capsys.readouterr().out == "text\n"
    assert cli.main(["get", key, '"5"']) == 0 and capsys.readouterr().out == "text\n"
    assert cli.main(["get", key, "5"]) == 0 and capsys.readouterr().out == "int\n"
    assert cli.main(["has", key, "'6'"]) == 1 and "no variable '6'" in capsys.readouterr().err
    assert cli.main(["put", key, "'-1'", "there"]) == 0 and seg["-1"] == "there" and -1 not in seg
    assert cli.main(["remove", key, "'5'"]) == 0 and seg.copy() == {5: "int", "-1": "there"}
    assert cli.main(["show", key]) == 0
    shown = [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()[1:]]
    assert sorted(map(str, map(arguments.name, shown))) == ["-1", "5"]
    assert {arguments.name(word) for word in shown} == set(seg)


def test_a_key_that_looks_like_a_number_is_reached_and_destroyed(new_key, capsys):
    number = abs(hash(new_key())) % 10**15 + 10**15
    with shmvar.attach(str(number)) as segment:
        segment["x"] = 1
        try:
            assert cli.main(["get", str(number), "x"]) == 1 and cli.main(["get", f"'{number}'", "x"]) == 0
            capsys.readouterr()
            assert cli.main(["ls"]) == 0
            keys = [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()]
            assert f"'{number}'" in keys
            assert cli.main(["info", f"'{number}'", "--json"]) == 0
            assert json.loads(capsys.readouterr().out)["key"] == str(number)
            assert cli.main(["remove", str(number)]) == 1 and cli.main(["remove", f"'{number}'"]) == 0
            assert not shmvar.exists(str(number))
        finally:
            shmvar.destroy(str(number))


# --- names that are nearly right


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("usres", "'users'"),
        ("Users", "'users'"),
        ("session:1235", "'session:1234'"),
        ("5", "'5'"),
        ("'7'", "7"),
        ("it's", '"its\'"'),
    ],
)
@pytest.mark.parametrize("command", ["get", "has", "remove"])
def test_a_close_index_is_suggested(seg, key, capsys, command, wrong, meant):
    seg.update({"users": 1, "session:1234": 1, "5": 1, 7: 1, 4711: 1, "its'": 1})
    before = seg.copy()
    assert cli.main([command, key, wrong]) == 1
    said = capsys.readouterr()
    assert said.err.endswith(f": did you mean {meant}?\n") and "no variable" in said.err and not said.out
    assert seg == before
    assert cli.main(["has", key, meant]) == 0


@pytest.mark.parametrize("wrong", ["xyz", "99", "4712", "''", "-5"])
def test_no_index_is_suggested_where_none_is_close(seg, key, capsys, wrong):
    seg.update({"users": 1, "session:1234": 1, 123456: 1, 4711: 1})
    assert cli.main(["get", key, wrong]) == 1
    assert "did you mean" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", [["get", "KEY", "1"], ["show", "KEY"], ["info", "KEY"], ["remove", "KEY"], ["watch", "KEY"]]
)
def test_a_close_key_is_suggested(new_key, private_shm, capsys, command):
    text, number = new_key(), new_key(int)
    with shmvar.attach(text), shmvar.attach(number):
        for wrong, meant in ((text + "0", repr(text)), (f"'{number}'", str(number)), (text.upper(), repr(text))):
            assert cli.main([{"KEY": wrong}.get(word, word) for word in command]) == 1
            assert capsys.readouterr().err.endswith(f": did you mean {meant}?\n")
        assert cli.main([{"KEY": "xyzzy"}.get(word, word) for word in command]) == 1
        assert "did you mean" not in capsys.readouterr().err


def test_a_suggestion_in_a_large_segment_takes_no_time(seg, key, capsys):
    seg.put_many({f"session:{number}": 1 for number in range(100_000)})
    assert cli.main(["get", key, "'sesion'"]) == 1
    assert "no variable 'sesion'" in capsys.readouterr().err
