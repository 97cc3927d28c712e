"""Completion in bash, zsh and fish: live keys and indexes, also hostile ones, arrive in the program as they are."""

import os
import shutil
import sys

import pytest
from helpers.screens import Terminal

import shmvar
from shmvar.cli import arguments

HOSTILE = [
    "$(touch PWNED)`touch PWNED`",
    "a;touch PWNED",
    "it's",
    'say "hi" \\n',
    "'quoted'",
    "5",
    "-rf",
    "line\nend\x1b[31m\u202eright",
    "~",
    "*{a,b}:b=c@d",
    "=ls&|<x>#%1^a",
    "$HOME!!",
    "",
]
SHELLS = {
    "bash": ("bash", "--norc", "--noprofile", "-i"),
    "zsh": ("zsh", "-f", "-i"),
    "fish": ("fish", "--no-config", "-i"),
}
SET_UP = {
    "bash": 'eval "$(shmvar completion bash)"',
    "zsh": 'autoload -U compinit; compinit -u -D; eval "$(shmvar completion zsh)"',
    "fish": "shmvar completion fish | source",
}
# What is asked goes to the program; what is run is only written down.
PROGRAM = f"""#!/bin/sh
case "$1" in
__complete|completion) exec {sys.executable} -m shmvar "$@" ;;
esac
printf '%s\\0' "$#" "$@" >>"$RECORD"
"""


class Shell(Terminal):
    """An interactive shell in a folder of its own, in which `shmvar` completes, and writes down what it is run with."""

    def __init__(self, name, folder):
        if not shutil.which(name):
            pytest.skip(f"{name} is not installed")
        self.record = folder / "record"
        self.record.touch()
        (folder / "bin").mkdir()
        (folder / "bin" / "shmvar").write_text(PROGRAM)
        (folder / "bin" / "shmvar").chmod(0o755)
        super().__init__(
            *("env", "-C", folder, *SHELLS[name]),
            whole=True,
            columns=120,
            lines=50,
            PATH=f"{folder / 'bin'}:{os.environ['PATH']}",
            PS1="$ ",
            HOME=str(folder),
            XDG_CONFIG_HOME=str(folder),
            XDG_DATA_HOME=str(folder),
            RECORD=str(self.record),
            PYTHONPATH=os.pathsep.join(filter(None, sys.path)),
            LC_ALL="C.UTF-8",
        )
        self.runs = 0
        self.until(lambda: b"$ " in self.raw or b"# " in self.raw, 20, "a prompt")
        self.type(SET_UP[name] + "\n")
        assert self.run("shmvar ready\n") == ["ready"]

    def run(self, line):
        """Types a line, with tabs for TAB and a line end; returns the words that the program got."""
        self.runs += 1
        self.type(line)
        self.until(lambda: len(self._runs()) == self.runs, 8, f"the run of {line!r}")
        return self._runs()[-1]

    def _runs(self):
        words, found = self.record.read_text().split("\0")[:-1], []
        while words:
            length = int(words[0]) + 1
            found.append(words[1:length])
            words = words[length:] if len(words) >= length else []
        return found


@pytest.fixture(params=SHELLS)
def shell(request, tmp_path):
    with Shell(request.param, tmp_path) as found:
        found.name = request.param
        yield found
        assert not list(tmp_path.glob("**/PWNED"))


@pytest.fixture
def bash(tmp_path):
    with Shell("bash", tmp_path) as found:
        yield found
        assert not list(tmp_path.glob("**/PWNED"))


def test_hostile_indexes_arrive_as_they_are_and_nothing_in_them_is_run(shell, new_key):
    for index in HOSTILE:
        key = new_key()
        with shmvar.attach(key, 1 << 20) as segment:
            segment[index] = 1
            words = shell.run(f"shmvar get {key} \t\n")
        assert [*words[:2], arguments.name(words[2])] == ["get", key, index], (index, words)


@pytest.mark.parametrize("quote", ["'", '"'])
def test_in_an_open_quote_bash_inserts_what_belongs_there(bash, new_key, quote):
    for index in HOSTILE:
        key = new_key()
        with shmvar.attach(key, 1 << 20) as segment:
            segment[index] = 1
            words = bash.run(f"shmvar get {key} {quote}\t\n")
        assert arguments.name(words[2]) == index, (index, words)


def test_keys_commands_options_choices_and_files_are_completed_and_nothing_unknown_is_looked_up(
    shell, seg, key, tmp_path
):
    seg["only"] = 1
    for text in ("$(touch PWNED);`touch PWNED`", "'line\nend"):
        shmvar.attach(key + text, 1 << 20).detach()
        try:
            # What has a line end is given in quotes of its own: so it has to be typed.
            begin = '\\"' if "\n" in text else ""
            words = shell.run(f"shmvar show {begin}{key}{text[0]}\t --json\n".replace("$", "\\$"))
        finally:
            shmvar.destroy(key + text)
        assert [arguments.name(words[1]), words[0], words[-1]] == [key + text, "show", "--json"]

    shmvar.attach(f"{key}:user:1", 1 << 20).detach()
    try:
        assert shell.run(f"shmvar info {key}:us\t\n") == ["info", f"{key}:user:1"]
        assert shell.run(f'shmvar info "{key}:us\t\n') == ["info", f"{key}:user:1"]
    finally:
        shmvar.destroy(f"{key}:user:1")

    (tmp_path / "a file").touch()
    assert shell.run(f"shmvar sho\t{key} --pre\tx --sort siz\t --sort=ex\t\n") == (
        ["show", key, "--prefix", "x", "--sort", "size", "--sort=expires"]
    )
    assert shell.run(f"shmvar load {key} a\t\n") == ["load", key, "a file"]
    assert shell.run("shmvar show valkey://h/#a\t\n") == ["show", "valkey://h/#a"]

    for unknown in ("$key", "`touch PWNED`", "$(touch PWNED)", '"$(touch PWNED)"'):
        if shell.name != "fish" or "`" not in unknown:
            shell.type(f"shmvar get {unknown} \t")
            shell.type("\x15")  # Ctrl-U takes the line away
    assert shell.run(f"shmvar get {key} \t\n") == ["get", key, "only"]
