"""What is offered at a TAB: words that read back as what they stand for, few, and without running or asking much."""

import os
import random
import shutil
import signal
import socket
import string
import subprocess
import sys

import helpers
import pytest

import shmvar
from shmvar.cli import arguments, main
from shmvar.cli.completion import answer, bash_words, line, names, place

BREAKS = " \t\n\"'@><=;|&(:"
LETTERS = "ab5-~!$`\\'\"\n\t :=@*{}#%^&|<>()é北\x1b\u202e\ud800\u3000 ;"


def texts(count):
    """Texts of letters that mean something to a shell, to Python or to a terminal; the same in every run."""
    drawn = random.Random(16)
    return ["".join(drawn.choices(LETTERS, k=drawn.randrange(12))) for _ in range(count)]


def asked(capsys, shell, text):
    """The lines of the answer."""
    assert answer.answer([shell, text, BREAKS], main.commands) == 0
    signal.setitimer(signal.ITIMER_REAL, 0)
    return capsys.readouterr().out.splitlines()


def offered(words, typed):
    found = place.offers(main.commands().parser, words, typed)
    return found if found is None else [word for word, _ in found]


def test_a_word_reads_back_as_its_name_and_is_printable():
    commands = main.commands()
    for name in (*texts(1000), 0, -5, 2**63 - 1, -(2**63)):
        word = names.word_of(name, "")
        assert arguments.name(word) == name and word.isprintable()
        assert commands.parse(["show", word]).key == name
        assert names.word_of(name, word[:2]) == word


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
def test_what_bash_inserts_is_read_back_by_bash():
    """The line as readline makes it: it puts the text in place of its piece and closes the quote."""
    drawn = random.Random(17)
    lines, words = [], []
    for text in texts(1500):
        word = names.word_of(text, "")
        typed = word[: drawn.randrange(12)]
        begin = "shmvar get k " + _typed(typed, drawn.choice(["", "'", '"']))
        read = line.read(begin)
        assert read.typed == typed
        start = bash_words.start_of_piece(begin, BREAKS)
        (inserted,) = bash_words.inserted([word], begin, read, BREAKS)
        if read.quote and inserted.startswith(read.quote) and begin[start - 1] == read.quote:
            start -= 1
        made = begin[:start] + inserted
        lines.append(made + read.quote * (not made.endswith(read.quote)))
        words.append(word)
    script = "\n".join(f'set -- {made}\nprintf \'%s\\0\' "$#" "${{@: -1}}"' for made in lines)
    done = subprocess.run(
        ["bash", "--norc", "-c", script], capture_output=True, timeout=60, check=True, env={"LC_ALL": "C.UTF-8"}
    )
    found = done.stdout.decode().split("\0")[:-1]
    assert found == [part for word in words for part in ("4", word)]


def _typed(text, quote):
    """How somebody types the beginning of a word."""
    if quote == "'":
        return quote + text.replace("'", "'\\''")
    if quote == '"':
        return quote + "".join(f"\\{c}" if c in '\\"$`' else c for c in text)
    safe = string.ascii_letters + string.digits + ":=@%"
    return "".join(c if c in safe or not c.isascii() else f"\\{c}" for c in text)


def test_lines_are_read_as_a_shell_reads_them():
    for text, words, typed in (
        ("shmvar get 'a b' c", ["shmvar", "get", "a b"], "c"),
        ('shmvar get "a\\"b$" ', ["shmvar", "get", None], ""),
        ("shmvar get a\\ b\\", ["shmvar", "get"], "a b"),
        ("cd /x && shmvar show", ["shmvar"], "show"),
        ("FOO=1 shmvar show ", ["FOO=1", "shmvar", "show"], ""),
        ("shmvar get $(x) y", ["shmvar"][:0] or [], None),
    ):
        read = line.read(text)
        if typed is not None:
            assert (read.words, read.typed) == (words, typed), text
    assert line.read("shmvar ls >fi").to_file and not line.read("shmvar ls >fi x").to_file
    assert (
        line.read("shmvar get 'it\\'s", fish=True).typed == "it's" and line.read("shmvar get 'it\\'s").typed == "it\\s"
    )


def test_what_may_stand_where(key, seg):
    seg[5], seg["5"], seg["text"] = 1, 2, 3
    assert offered([], "do") == ["doctor"] and offered([], "dele") == ["delete"] and "__complete" not in offered([], "")
    assert offered(["get", key], "") == ["5", "'5'", "text"] and offered(["get", key], "'") == ["'5'", "'text'"]
    assert offered(["get", key, "5"], "") == ["--trust", "--json", "--help"] and offered(["get", key, "5"], "x") == []
    assert offered(["get", "--trust", key], "t") == ["text"] and offered(["get", "--", key, "5"], "-") == []
    assert offered(["get", "--trust"], "--tr") == [] and offered(["watch", key, "5"], "te") == ["text"]
    assert offered(["show", "--sort"], "") == ["index", "size", "expires"]
    assert offered(["show"], "--sort=s") == ["--sort=size"] and offered(["show", "--limit"], "") == []
    assert offered(["put", key, "new"], "") == [] and offered(["nothing"], "") == [] == offered(["nothing"], "--")
    assert offered(["dump", key], "") is place.FILES is offered(["load", key], "x")
    assert key in offered(["copy", "a"], "") and offered(["completion"], "") == ["bash", "zsh", "fish"]
    assert offered(["get", None], "") == [] and key in offered(["top", "a", "b"], key[:4])


def test_other_objects_are_no_obstacle(key, new_key, seg, capsys):
    short = new_key()
    with shmvar.attach(short, 1 << 20) as segment:
        path = helpers.path_of(segment)
    os.truncate(path, 10)
    assert f"{short}\tdamaged" in asked(capsys, "zsh", "shmvar info ")
    assert asked(capsys, "zsh", f"shmvar get {short} ") == [] == asked(capsys, "zsh", "shmvar get nowhere-at-all ")
    assert asked(capsys, "zsh", "") == ["words"] == asked(capsys, "bash", "shmvar get $x ")


def test_few_are_offered_of_many(seg, key, monkeypatch):
    seg.put_many({f"index {n}": n for n in range(names.MOST + 50)})
    assert len(offered(["get", key], "")) == names.MOST and len(offered(["get", key], "index 34")) == 11
    monkeypatch.setattr(names, "LOOKED_AT", 100)
    monkeypatch.setattr(names, "_FIRST", 20)
    assert len(offered(["get", key], "")) == 20


def test_a_stopped_writer_holds_no_tab_up(seg, key, children):
    seg.put_many({n: bytes(100) for n in range(50)})
    child = helpers.start("s = shmvar.attach(key)\nprint('go', flush=True)\nsys.stdin.read()", key)
    children.append(child)
    command = [sys.executable, "-m", "shmvar", "__complete", "bash", f"shmvar get {key} ", BREAKS]
    with helpers.Raw(seg) as raw:
        raw.hold_lock(child.pid)
        os.kill(child.pid, signal.SIGSTOP)
        with helpers.promptly():
            assert subprocess.run(command, capture_output=True, timeout=60).returncode == 0
        raw.free_lock()


def test_no_server_is_asked(capsys):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        url = f"valkey://127.0.0.1:{server.getsockname()[1]}/#key"
        assert asked(capsys, "zsh", f"shmvar get '{url}' ") == ["words"]
        assert asked(capsys, "bash", f"shmvar get {url[:20]}") == ["words"]
        with pytest.raises(TimeoutError):
            server.accept()


def test_a_tab_imports_little_and_runs_no_value(seg, key):
    class Loud:
        def __reduce__(self):
            return os.mkdir, ("/nowhere/at/all",)

    seg["loud"] = Loud()
    code = f"""
    from shmvar.cli import main
    assert main.main(['__complete', 'zsh', 'shmvar get {key} ']) == 0
    heavy = {{'rich', 'numpy', 'redis', 'inspect', 'dataclasses', 'asyncio', 'subprocess', 'difflib', 'ast'}}
    print(sorted(heavy & set(sys.modules)))
    """
    assert helpers.run(code).stdout.split("\n") == ["words", "loud", "[]", ""]
