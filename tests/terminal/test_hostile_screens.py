"""Whatever a segment holds, and whatever it is called, commands print harmless text, in a pipe and on a terminal."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from helpers import screens
from helpers.hostile_texts import TEXTS, assert_harmless, assert_of_terminal, fill, for_key, left_by, plant
from helpers.live_screens import LiveTerminal

import shmvar
from shmvar.cli import main as cli

pytest.importorskip("pyte", reason="needs pyte")
SHELLS = ("bash", "zsh", "fish")


@pytest.fixture
def hostile_key(key):
    """A key that is hostile itself."""
    made = key + for_key(TEXTS[0] + TEXTS[7] + TEXTS[13])
    yield made
    shmvar.destroy(made)


@pytest.fixture
def full(hostile_key):
    with shmvar.attach(hostile_key, 64 << 20) as segment:
        locks = fill(segment)
        segment.put(TEXTS[3], TEXTS, ttl=10_000)
        yield segment
        for lock in locks:
            lock.release()


def drawn(key):
    """Commands that draw; no line of theirs may be longer than the terminal is wide."""
    return ["ls"], ["info", key], ["show", key], ["show", "--sort", "expires", key], ["doctor", "--no-fix"]


def told(key, folder):
    """Commands that print one thing, however long, or refuse something."""
    dump, no_dump = folder / "dump", folder / f"no{TEXTS[7]}dump"
    no_dump.write_text(f"shmvar dump 1\n{TEXTS[0]}\n")
    yield from (["ls", "--json"], ["info", "--json", key], ["show", "--json", key], ["top", "--once", "--json", key])
    yield from (["dump", key, dump], ["load", key, dump], ["load", key, no_dump], ["copy", key, key, "x" + TEXTS[7]])
    yield from (["get", key, number] for number in (0, 5, 7, 14, 25, 26, 1000, 1007, 1044, 2000))
    yield from (["get", "--json", key, number] for number in (4, 7, 8, 18, 22, 26))
    # The value's own code may say what it likes in its error.
    yield from (["get", "--trust", key, number] for number in (1000, 1007, 1030, 1044, 3000))
    yield from ([word, key, repr(TEXTS[at] + "?")] for word in ("get", "remove") for at in (0, 7, 9))
    yield from (["info", key[:-1]], ["info", key[:-9] + TEXTS[7]])


def asked(key):
    """What a shell asks at a TAB."""
    yield from (["__complete", shell, line] for shell in SHELLS for line in ("shmvar get ", f"shmvar get '{key}' "))


@pytest.fixture
def in_pipe(capsys):
    """Runs a command as in a pipe; returns what it prints and what it complains."""

    def run(words):
        capsys.readouterr()
        assert cli.main([str(word) for word in words]) in (0, 1), words
        said = capsys.readouterr()
        return said.out, said.err

    return run


def each(call, items):
    """Two at a time: a process begins while the other one ends."""
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(call, items))


class Talks:
    """Unpickling it raises an error whose text is hostile."""

    def __reduce__(self):
        return (int, ("".join(TEXTS),))


def test_in_a_pipe_nothing_but_the_value_itself_is_anything_but_text(full, hostile_key, in_pipe, tmp_path):
    full[3000] = Talks()
    for words in (*drawn(hostile_key), ["top", "--once"], *told(hostile_key, tmp_path)):
        printed, complained = in_pipe(words)
        assert_harmless(complained, 20_000)
        # A text that was asked for comes as it is: it goes to a program, or to a file.
        if words[0] != "get" or "--json" in words:
            assert_harmless(printed, 200_000)


def test_what_a_shell_is_offered_is_text(full, hostile_key):
    def check(words):
        done = subprocess.run([sys.executable, "-m", "shmvar", *words], capture_output=True, timeout=300, check=True)
        assert done.stderr == b""
        assert_harmless(done.stdout.decode())

    each(check, asked(hostile_key))


def test_on_a_terminal_no_command_lets_anything_through(full, hostile_key, tmp_path):
    full[3000] = Talks()

    def check(words):
        shown = screens.run(*words, columns=100, status=None)
        assert shown.child.returncode in (0, 1), shown.shown()
        assert_of_terminal(shown.raw)

    each(check, told(hostile_key, tmp_path))


@pytest.mark.parametrize("columns", [40, 100])
def test_a_screen_is_harmless_and_as_wide_as_its_terminal(full, hostile_key, columns):
    def check(words):
        shown = screens.run(*words, columns=columns, status=None)
        assert shown.child.returncode in (0, 1), shown.shown()
        assert_of_terminal(shown.raw, columns)
        assert not shown.too_long(), words

    each(check, drawn(hostile_key))


@pytest.mark.parametrize("columns", [40, 100])
def test_top_is_harmless_and_as_wide_as_its_terminal(full, hostile_key, columns):
    with screens.Terminal("top", hostile_key, "--interval", "0.1", columns=columns) as top:
        top.until(lambda: hostile_key[:9] in "".join(top.shown()), what="the segment")
        for typed in ("s", "?", "\x1b", "r", " "):
            full[TEXTS[0]] = TEXTS
            top.type(typed)
            top.read(0.3)
        # So many locks are held that what follows is further down.
        scrolled = lambda: [full.touch(TEXTS[0]), top.type("d"), b"last change" in top.raw][-1]  # noqa: E731
        # Half a line that is drawn may end in half of a wide character, so the screen itself is not asked.
        top.until(scrolled, what="the details")
        top.resize(columns, 12)
        top.type("q")
        top.ended(None)
        assert_of_terminal(top.raw)  # it goes from line to line by itself
        assert not top.too_long() and top.left_alone()


def test_what_changes_is_told_in_harmless_lines(full, hostile_key):
    with screens.Terminal("watch", hostile_key, columns=60) as watch:
        watch.until(lambda: full.info().attached > 1, what="the watcher")
        for at, text in enumerate(TEXTS):
            full[text] = TEXTS[-at]
        full["end"] = 1

        def comes():
            full["end"] = 1
            return "end" in "".join(watch.shown())

        watch.until(comes, what="the last change")
        watch.interrupted()
        assert_of_terminal(watch.raw, 60)


def test_a_file_with_a_name_of_a_segment_is_named_harmlessly(private_shm, full, in_pipe):
    names = [f"shmvar.s.{text}".encode("utf-8", "surrogateescape")[:200] for text in (*TEXTS, "\udc80\udcff")]
    names = [name.replace(b"/", b"|").replace(b"\0", b"") for name in names]
    paths = [os.path.join(b"/dev/shm", name) for name in names]
    try:
        for path in paths:
            with open(path, "xb") as file:
                file.write(b"foreign" * 1000)
        for info in shmvar.segments():
            assert_harmless("".join(info._repr_mimebundle_().values()))
        for words in drawn(str(full.key)):
            assert_harmless("".join(in_pipe(words)))
        for words in (["ls"], ["doctor", "--no-fix"]):
            shown = screens.run(*words, columns=60, status=None)
            assert_of_terminal(shown.raw, 60)
            assert not shown.too_long(), words
    finally:
        for path in paths:
            os.unlink(path)


# --- nothing that is printed is unpickled with trust


def test_no_command_without_trust_sets_a_bomb_off(seg, key, new_key, in_pipe, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, sys.path)]))
    plant(seg, tmp_path)
    dump, copy = tmp_path.parent / f"{tmp_path.name}.dump", new_key()
    commands = [*drawn(key), ["top", "--once", key], ["show", "--json", key], ["dump", key, dump], ["load", copy, dump]]
    commands += [["copy", key, copy], ["show", copy], ["has", key, "alone"]]
    commands += [["get", key, index] for index in ("alone", "imported", "beside", "7")]
    for words in commands:  # a load needs the dump
        in_pipe(words)
    each(lambda words: screens.run(*words, columns=80, status=None), [*drawn(key), *asked(key)])
    with screens.Terminal("watch", key, columns=80) as shown:
        shown.until(lambda: seg.touch("alone") and "alone" in "".join(shown.shown()), what="the change")
        shown.interrupted()
    with LiveTerminal("top", key, "--interval", "0.1", columns=80) as top:
        top.until(lambda: key[:9] in "".join(top.shown()), what="the segment")
        top.type(" ")  # the details of a segment, where the queues push what changed last off the screen
        scrolled = lambda: [seg.touch("alone"), top.type("d"), "last change" in "".join(top.shown())][-1]  # noqa: E731
        top.until(scrolled, what="the last change")
        top.interrupted()
    dump.unlink()
    assert left_by(tmp_path) == []
    in_pipe(["get", "--trust", key, "alone"])
    assert left_by(tmp_path) == ["alone"]
