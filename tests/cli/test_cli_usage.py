"""Exit status 2: an impossible KEY or INDEX is a wrong use of the command, not an error of a value or a segment."""

import pytest

import shmvar
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
