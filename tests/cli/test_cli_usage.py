"""Exit status 2: an impossible KEY or INDEX is a wrong use of the command, not an error of a value or a segment."""

import argparse
import json

import pytest

import shmvar
from shmvar import _text
from shmvar.cli import arguments
from shmvar.cli import main as cli

BEYOND = ["99999999999999999999", "-9223372036854775809", "x" * 1025, "é" * 513]
COMMANDS = {
    "get": ["get", "KEY", "INDEX"],
    "get --json": ["get", "KEY", "INDEX", "--json"],
    "has": ["has", "KEY", "INDEX"],
    "put": ["put", "KEY", "INDEX", "1"],
    "remove": ["remove", "KEY", "INDEX"],
    "watch": ["watch", "KEY", "INDEX", "--timeout", "0.1"],
}


@pytest.mark.parametrize("index", BEYOND, ids=len)
@pytest.mark.parametrize("command", COMMANDS)
def test_an_index_out_of_range_is_a_matter_of_usage(seg, key, capsys, command, index):
    seg[1] = 1
    assert cli.main([{"KEY": key, "INDEX": index}.get(word, word) for word in COMMANDS[command]]) == 2
    said = capsys.readouterr()
    assert "index" in said.err and "value" not in said.err and not said.out and dict(seg) == {1: 1}


@pytest.mark.parametrize("key", ["99999999999999999999", "k" * 129, ""], ids=len)
@pytest.mark.parametrize("command", ["get K 1", "show K", "info K", "watch K", "dump K F", "remove K", "put K 1 1"])
def test_a_key_out_of_range_is_a_matter_of_usage(capsys, tmp_path, command, key):
    words = {"K": key, "F": str(tmp_path / "file")}
    assert cli.main([words.get(word, word) for word in command.split()]) == 2
    assert "key" in capsys.readouterr().err


def test_a_key_out_of_range_is_a_matter_of_usage_for_load(seg, key, capsys, tmp_path):
    assert cli.main(["dump", key, str(tmp_path / "file")]) == 0
    assert cli.main(["load", "k" * 129, str(tmp_path / "file")]) == 2
    assert "key" in capsys.readouterr().err


class Raises:
    def __reduce__(self):
        return int, ("no number",)


def test_a_value_that_raises_is_the_values_fault(seg, key, capsys):
    seg[1] = Raises()
    assert cli.main(["get", key, "1", "--trust"]) == 1
    assert "reading the value raised ValueError" in capsys.readouterr().err
    assert cli.main(["get", key, "2"]) == 1
    assert "no variable 2" in capsys.readouterr().err
    assert isinstance(seg, shmvar.Segment)


@pytest.mark.parametrize("text", ["...", "[...]", "{'a': (..., 1)}"])
def test_an_ellipsis_is_a_text_for_it_is_no_data(seg, key, text):
    assert cli.main(["put", key, "i", text]) == 0
    assert seg["i"] == text


# --- help, and names that are nearly right


def test_the_program_alone_prints_its_help(capsys):
    assert cli.main([]) == 0
    said = capsys.readouterr()
    assert "usage: shmvar" in said.out and "doctor" in said.out and "--version" in said.out and not said.err


NEARLY = {
    "lst": "ls",
    "gett": "get",
    "gte k i": "get",
    "sl": "ls",
    "shwo": "show",
    "delet": "delete",
    "Doctor": "doctor",
    "remvoe 5": "remove",
    "get k i --jsn": "--json",
    "get k i --turst": "--trust",
    "put k i 1 --tll 5": "--ttl",
    "put k i 1 --szie=5M": "--size",
    "ls --Json": "--json",
    "--versoin": "--version",
}


@pytest.mark.parametrize("line", NEARLY)
def test_a_close_name_is_suggested(capsys, line):
    with pytest.raises(SystemExit) as ended:
        cli.main(line.split())
    said = capsys.readouterr()
    assert ended.value.code == 2 and not said.out
    assert f"did you mean {NEARLY[line]}?" in said.err and "usage:" in said.err


@pytest.mark.parametrize("line", ["xyzzy", "get k i --frobnicate", "ls 5 6 7", "--frobnicate"])
def test_nothing_is_suggested_where_nothing_is_close(capsys, line):
    with pytest.raises(SystemExit) as ended:
        cli.main(line.split())
    said = capsys.readouterr()
    assert ended.value.code == 2 and "did you mean" not in said.err and "usage:" in said.err
    assert line.split()[-1] in said.err


def test_a_command_that_does_not_exist_is_told_from_those_that_do(capsys):
    with pytest.raises(SystemExit):
        cli.main(["xyzzy"])
    said = capsys.readouterr().err
    assert "'xyzzy' is no command" in said and "doctor" in said and "put" in said


DASHES = {"put k i -y": "-y", "get k -x": "-x", "put k -x=1": "-x=1", "put k i -- -y": None, "put k": None}


@pytest.mark.parametrize("line", DASHES)
def test_a_word_that_is_taken_for_an_option_is_named(capsys, line, private_shm):
    word = DASHES[line]
    try:
        status = cli.main(line.split())
    except SystemExit as ended:
        status = ended.code
    said = capsys.readouterr().err
    hint = f"; {word} is read as an option: words that begin with - come after --"
    assert (hint in said) if word else "read as an option" not in said
    assert status == (0 if line == "put k i -- -y" else 2)
    shmvar.destroy("k")


@pytest.mark.parametrize("which", ["KEY", "INDEX", "VALUE"])
def test_a_word_that_is_not_utf8_is_named(capsys, which):
    words = {"KEY": "k", "INDEX": "i", "VALUE": "1"} | {which: "a\udcff"}
    with pytest.raises(SystemExit) as ended:
        cli.main(["put", *words.values()])
    assert ended.value.code == 2
    assert f"argument {which}: 'a\\xff' is not UTF-8" in capsys.readouterr().err


def test_a_size_is_read_as_it_is_printed():
    for size in (1, 999, 1 << 10, 3 << 19, 1 << 20, 1 << 30, 5 << 39, 1 << 40):
        assert arguments.size(_text.size(size)) == size == arguments.size(_text.size(size).replace(" ", "").lower())
    assert [arguments.size(text) for text in ("4096", "64M", "2G", "1.5G", "2t", "0.5KiB", "7B")] == (
        [4096, 64 << 20, 2 << 30, 3 << 29, 2 << 40, 512, 7]
    )
    for text in ("", "0", "0.0G", "1.5", "1.5B", "-1", "1e3", "5X", "5 ", "1..5G", ".5G", "5KB5", "\u0665", "5Ki"):
        with pytest.raises(argparse.ArgumentTypeError, match="is not a size: give a number of bytes from 1 on"):
            arguments.size(text)


def test_the_remedy_of_a_full_segment_is_one_of_the_command_line(capsys, new_key, private_shm, tmp_path):
    key, other = new_key(), new_key()
    assert cli.main(["put", key, "i", "1", "--size", "10"]) == 1
    assert "on the command line: --size with put, load or copy" in capsys.readouterr().err
    assert cli.main(["put", key, "i", "1" * 500]) == 0
    assert cli.main(["dump", key, str(tmp_path / "file")]) == 0
    assert cli.main(["load", other, str(tmp_path / "file"), "--size", "100"]) == 1
    assert "--size with put" in capsys.readouterr().err


# --- what is printed


def test_modes_in_json_are_octal_text(new_key, private_shm, capsys):
    key = new_key()
    for perm, text in ((0o600, "600"), (0o640, "640"), (0o604, "604")):
        with shmvar.attach(key, perm=perm, create=True) as segment:
            for command in (["info", key, "--json"], ["ls", "--json"]):
                assert cli.main(command) == 0
                found = json.loads(capsys.readouterr().out)
                (info,) = [found] if isinstance(found, dict) else [each for each in found if each["key"] == key]
                assert info["perm"] == text and int(info["perm"], 8) == segment.info().perm == perm
            segment.destroy()


def test_damage_that_a_command_meets_names_the_command_that_says_more(capsys, monkeypatch, private_shm):
    def damaged(_args):
        raise shmvar.CorruptSegmentError("key 5: the segment is damaged")

    monkeypatch.setattr("shmvar.cli.listing._ls", damaged)
    assert cli.main(["ls"]) == 1
    assert capsys.readouterr().err == "shmvar: key 5: the segment is damaged; shmvar doctor says what to do\n"


@pytest.mark.parametrize(
    "line", ["get k i --\x1b[31mopt", "\x1b[31mget k", "get k", "info k i\x9b31m\u202e", "php get \x1bk"]
)
def test_a_wrong_command_line_is_told_in_one_harmless_line(capsys, line):
    words = [*line.split(" "), *(["--\x1b[31m\nopt"] if line == "get k" else [])]
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.replace("\n", "").isprintable()
    assert "error: " in said.splitlines()[-1] and "\\x" in said.splitlines()[-1]
