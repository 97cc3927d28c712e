"""Each command of the command line with a URL: it works, or says in one line why not; and no text has the password."""

import contextlib
import io
import json
import os
import subprocess
import sys
import threading

import helpers
import pytest
from helpers import servers

import shmvar
from shmvar.cli import main


@pytest.fixture
def run(capsys):
    """Runs a command in this process; returns its exit status and what it printed."""

    def call(*words):
        status = main.main([*map(str, words)])
        said = capsys.readouterr()
        assert len(said.err.splitlines()) <= 1 and (status == 0) == (not said.err)
        return status, said.out, said.err

    return call


# The words of each command, with what they do to a segment that has {"a": 1}; its exit status is 0.
COMMANDS = {
    "put": ["put KEY b [1,2]", "send KEY b 2"],
    "get": ["get KEY a", "get KEY a --json --trust"],
    "has": ["has KEY a"],
    "remove": ["remove KEY a", "remove KEY", "delete KEY a"],
    "ls": ["ls SERVER", "ls SERVER --json"],
    "info": ["info KEY", "info KEY --json"],
    "show": ["show KEY", "show KEY --json", "show KEY --sort size --prefix a --limit 1 --reverse"],
    "watch": ["watch KEY a --count 1", "watch KEY --count 1"],
    "dump": ["dump KEY FILE"],
    "load": ["load KEY DUMP", "load KEY DUMP --size 64M"],
    "copy": ["copy KEY LOCAL", "copy LOCAL KEY", "copy KEY OTHER a"],
    "php": [],
    "doctor": ["doctor SERVER", "doctor KEY --json", "doctor SERVER --no-fix"],
    "top": ["top KEY --once --interval 0.05", "top KEY --json --once --interval 0.05"],
    "demo": [],
    "completion": [],
    "manual": [],
}
WITHOUT = {
    "php": "what PHP shares is of this machine",
    "demo": "it makes segments of its own, of this machine",
    "completion": "it prints a script",
    "manual": "it prints a page",
}


def test_every_command_is_here():
    commands = {
        name: parser for name, parser in main.commands()._commands.choices.items() if name == parser.prog.split()[-1]
    }
    assert commands.keys() == COMMANDS.keys()
    assert {name for name, lines in COMMANDS.items() if not lines} == WITHOUT.keys()
    for name, lines in COMMANDS.items():
        if lines and name not in ("ls", "doctor"):
            said = " ".join(commands[name].format_help().split())
            assert "valkey://host/#KEY" in said or "the URL of a segment on a server" in said, name


@pytest.mark.parametrize("line", [line for lines in COMMANDS.values() for line in lines])
def test_each_command_takes_a_url(server, key, new_key, seg, run, tmp_path, line):
    seg["a"] = 1
    local = f"command-line-{os.getpid()}"
    words = {"KEY": key, "OTHER": new_key(), "SERVER": server.url(), "LOCAL": local}
    words |= {"FILE": str(tmp_path / "new"), "DUMP": str(tmp_path / "dump")}
    with shmvar.attach(local) as segment:
        segment["a"] = 1
    try:
        assert run("dump", key, words["DUMP"])[0] == 0
        if line.startswith("watch"):
            stop = threading.Event()
            writer = threading.Thread(target=lambda: [seg.add("a") for _ in iter(lambda: stop.wait(0.05), True)])
            writer.start()
        try:
            status, said, wrong = run(*(words.get(word, word) for word in line.split()))
        finally:
            if line.startswith("watch"):
                stop.set()
                writer.join()
        assert status == 0 and not wrong, said + wrong
        if "--json" in line:
            json.loads(said)
        if line in ("remove KEY", "remove KEY a", "delete KEY a"):
            assert not shmvar.exists(key) or "a" not in seg
        elif line.startswith("copy KEY"):
            with shmvar.attach(words[line.split()[2]]) as target:
                assert target["a"] == 1
        else:
            assert seg["a"] >= 1
    finally:
        shmvar.destroy(local)


@pytest.mark.parametrize(
    "line",
    ["put KEY a 1 --perm 660", "load KEY DUMP --evict lru", "copy KEY OTHER --perm 666", "put KEY a 1 --evict ttl"],
)
def test_what_only_a_segment_of_this_machine_has_is_said(key, new_key, seg, run, tmp_path, line):
    words = {"KEY": key, "OTHER": new_key(), "DUMP": str(tmp_path / "dump")}
    assert run("dump", key, words["DUMP"])[0] == 0
    status, _, wrong = run(*(words.get(word, word) for word in line.split()))
    assert status == 2 and "is for segments of this machine" in wrong
    assert not shmvar.exists(words["OTHER"])


# The doctor has a finding, and `top` a row for it.
@pytest.mark.parametrize("name", [name for name, lines in COMMANDS.items() if lines and name not in ("doctor", "top")])
def test_a_server_that_cannot_be_reached_is_one_line(run, tmp_path, name):
    shmvar_file = tmp_path / "dump"
    shmvar_file.write_bytes(b"shmvar dump 1\n" + b'{"variables": 0, "sha256": "')
    line = COMMANDS[name][0]
    if name == "load":
        return  # the dump is read first
    words = {"KEY": "valkey://127.0.0.1:1/#x", "SERVER": "valkey://127.0.0.1:1/", "FILE": str(tmp_path / "new")}
    with helpers.promptly():
        status, said, wrong = run(*(words.get(word, word) for word in line.split()))
    assert status == 1 and not said and "cannot be reached" in wrong


def test_what_is_missing_is_named_by_its_url(run, key, seg):
    assert run("get", key, "no")[2] == f"shmvar: no variable 'no' in the segment {key}\n"
    seg["colour"] = 1
    assert run("get", key, "color")[2].endswith("did you mean 'colour'?\n")
    for words in (["get", "a"], ["info"], ["remove"], ["watch"]):
        status, _, wrong = run(words[0], f"{key}-missing", *words[1:])
        assert status == 1 and f"there is no segment {key}-missing" in wrong
    status, _, wrong = run("copy", key, f"{key}-2", "colour", "nothing")
    assert status == 1 and "no variable 'nothing'" in wrong and not shmvar.exists(f"{key}-2")


WATCH = """
from shmvar.cli.main import main
print("ready", flush=True)
sys.exit(main(["watch", key, *sys.argv[2:]]))
"""


def test_a_watch_tells_each_change_and_ends_when_the_segment_is_gone(key, seg, children):
    seg["old"] = 1
    child = helpers.start(WATCH, key, "--json", stderr=subprocess.PIPE)
    children.append(child)

    def told(change, **expected):
        """The watch begins some time after it is ready: until its first word the change is made again."""
        lines = []
        reader = threading.Thread(target=lambda: lines.append(child.stdout.readline()))
        reader.start()
        while not lines:
            change()
            reader.join(0.5)
        said = json.loads(lines[0])
        assert {name: said[name] for name in expected} == expected
        return said

    said = told(lambda: seg.put("new", [1, 2]), index="new", value=[1, 2], there=True)
    assert said["version"] <= seg.version("new")
    seg["new"] = [3]

    def line():
        return json.loads(child.stdout.readline())

    said = line()
    while said["value"] != [3]:
        said = line()
    assert said["version"] == seg.version("new")
    seg.remove("new")
    said = line()
    assert (said["index"], said["there"], said["value"]) == ("new", False, None)
    seg.destroy()
    _, wrong = child.communicate(timeout=60 * helpers.machine.SLOWER)
    assert child.returncode == 1 and "is gone" in wrong and len(wrong.splitlines()) == 1


def test_a_table_of_a_server_says_nothing_that_a_server_does_not_know(server, run, key, seg):
    said = run("ls", server.url())[1]
    assert said.splitlines()[0].split("\t") == ["KEY", "COUNT", "USED", "SIZE", "MEMORY", "CREATED"]
    assert "4294967295" not in said and repr(seg.key) in said
    said = run("info", key)[1]
    assert said.splitlines()[0] == f"url\t{key}" and "4294967295" not in said and "perm" not in said


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_list_and_a_copy_of_many_show_how_far_they_are(server, key, new_key, seg, monkeypatch):
    seg.put_many({number: number for number in range(20)})
    for words in (["ls", server.url()], ["copy", key, new_key()], ["doctor", server.url(), "--no-fix"]):
        terminal = Terminal()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", terminal)
            patch.setenv("TERM", "xterm")
            # A bar is drawn several times a second, if it takes a while; each of what it is told is drawn here.
            patch.setattr("shmvar.cli.progress.SHOWN_AFTER", 0.0)
            patch.setattr("shmvar.cli.progress.EVERY", 0.0)
            assert main.main(words) in (0, 1)
        what = "variables" if words[0] == "copy" else "segments"
        assert f" of {20 if words[0] == 'copy' else ''}" in terminal.getvalue() and what in terminal.getvalue()
    # Where nobody looks, nothing is written.
    terminal = io.StringIO()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", terminal)
        assert main.main(["ls", server.url()]) == 0 and terminal.getvalue() == ""


def test_no_text_has_the_password(own_server, run, tmp_path, monkeypatch):
    """Neither a password that is right nor one that is wrong, in any command's output, whatever it says."""
    guarded = own_server(port=servers.free_port())
    guarded.call("ACL", "SETUSER", "app", "on", ">hunter-two", "~*", "&*", "+@all")
    guarded.call("ACL", "SETUSER", "default", "resetpass", ">other", "-@all")
    dump = str(tmp_path / "dump")
    with shmvar.attach(guarded.tcp("a", "app:hunter-two@")) as segment:
        segment["a"] = 1
    words = {"FILE": dump, "DUMP": dump, "LOCAL": f"command-line-{os.getpid()}"}
    texts = []
    try:
        for word in ("hunter-two", "wrong-word"):
            for key in ("a", "missing"):
                words |= {"KEY": guarded.tcp(key, f"app:{word}@"), "SERVER": guarded.tcp("", f"app:{word}@")}
                words["OTHER"] = guarded.tcp("other", f"app:{word}@")
                for line in (line for lines in COMMANDS.values() for line in lines):
                    if line.startswith("watch"):
                        continue
                    with contextlib.suppress(SystemExit), pytest.MonkeyPatch.context() as patch:
                        patch.setattr(sys, "stdin", None)
                        texts += main_texts(run, [words.get(part, part) for part in line.split()])
    finally:
        shmvar.destroy(words["LOCAL"])
    assert texts and not [text for text in texts if "hunter" in text or "wrong-word" in text]


def main_texts(run, words):
    try:
        status, said, wrong = run(*words)
    except AssertionError:
        return []
    assert status in (0, 1)
    return [said, wrong]


def test_a_wrong_use_does_not_quote_the_password(capsys):
    for words in (["get", "valkey://app:hunter-two@host/#k", "a", "valkey://app:hunter-two@host/#k"], ["get", "--kez"]):
        with pytest.raises(SystemExit) as caught:
            main.main(words)
        assert caught.value.code == 2
    said = capsys.readouterr()
    assert "hunter" not in said.err + said.out and "valkey://app@host/#k" in said.err


def test_without_the_client_library_a_command_says_what_to_install():
    code = "import sys; sys.modules['redis'] = None; from shmvar.cli.main import main; sys.exit(main(sys.argv[1:]))"
    for words in (["get", "valkey://127.0.0.1:1/#x", "a"], ["doctor", "valkey://127.0.0.1:1"], ["ls", "valkey://h"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=100, check=False
        )
        assert done.returncode == 1 and 'pip install "shmvar[valkey]"' in done.stderr, done.stderr
        assert len(done.stderr.splitlines()) == 1
