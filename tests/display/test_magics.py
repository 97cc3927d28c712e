"""The magics of `%load_ext shmvar`, in a real shell of IPython."""

import builtins
import importlib
import os
import re
import sys

import pytest

import shmvar

pytest.importorskip("IPython", reason="needs IPython")

from helpers.shown_html import shown


@pytest.fixture(scope="module")
def shell():
    """A shell that keeps no history, and collects what it displays."""
    from IPython.core.displaypub import CapturingDisplayPublisher
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    main = sys.modules["__main__"]  # a shell puts a module of its own there, which children could not be started with
    made = InteractiveShell(config=Config({"HistoryManager": {"enabled": False}}))
    made.display_pub = CapturingDisplayPublisher(shell=made, parent=made)
    saved = InteractiveShell._instance
    InteractiveShell._instance = made  # what `display` asks
    yield made
    InteractiveShell._instance = saved
    sys.modules["__main__"] = main
    for name in ("get_ipython", "display", "__IPYTHON__"):
        vars(builtins).pop(name, None)


@pytest.fixture
def run(shell, capsys):
    """Runs a cell; returns what it displays, prints, and says in an error."""
    shell.run_line_magic("load_ext", "shmvar")

    def run(cell):
        shell.display_pub.outputs.clear()
        capsys.readouterr()
        result = shell.run_cell(cell)
        said = capsys.readouterr()
        return {
            "data": [output["data"] for output in shell.display_pub.outputs],
            "printed": said.out,
            "error": result.error_in_exec,
            "said": said.err + said.out,
        }

    yield run
    shell.user_ns.clear()
    shell.init_user_ns()
    shell.run_line_magic("unload_ext", "shmvar")


def refused(ran, text):
    """Whether the cell ended in one line that says this."""
    from IPython.core.error import UsageError

    assert type(ran["error"]) is UsageError and text in str(ran["error"]), ran
    assert "Traceback" not in ran["said"] and len([line for line in ran["said"].splitlines() if line]) == 1


def test_shm_lists_segments(run, new_key):
    keys = [new_key(), new_key(int)]
    for key in keys:
        with shmvar.attach(key, 1 << 20) as seg:
            seg.put_many(dict.fromkeys(range(1500), 1))
    [data] = run("%shm")["data"]
    found = shown(data["text/html"])
    for key in keys:
        [row] = [row for row in found.rows() if row[0] == repr(key)]
        assert row[1] == "1,500" and row[3] == "1.0 MiB" and row[6] == "usable"
        assert re.search(rf"^{re.escape(repr(key))} +1,500 ", data["text/plain"], re.M)


def test_shm_key_shows_one_and_lets_go_of_it(run, new_key):
    text, number = new_key(), new_key(int)
    for key in (text, number):
        with shmvar.attach(key) as seg:
            seg["x"] = f"value of {key}"
    for word, key in ((text, text), (f"'{text}'", text), (number, number), (hex(number), number)):
        [data] = run(f"%shm {word}")["data"]
        found = shown(data["text/html"])
        assert repr(key) in found.text and found.rows()[0][5] == repr(f"value of {key}")
        assert "read-only" not in found.text and "0 processes attached" in found.text
        assert repr(f"value of {key}") in data["text/plain"] and repr(key) in data["text/plain"]


def test_in_a_terminal_each_variable_is_one_line(run, new_key):
    numpy = pytest.importorskip("numpy")
    key = new_key()
    with shmvar.attach(key) as seg:
        seg.put_many({"a\nb\x1b": numpy.zeros((3, 2)), "text": "one\ntwo\x1b[31m\u202e", "long" * 99: 1})
        seg.put_many({number: number for number in range(30)})
        lines = run(f"%shm {key}")["data"][0]["text/plain"].splitlines()
    assert len(lines) == 1 + 1 + 20 + 1 and lines[-1] == "… 13 more"
    with shmvar.attach(key) as seg:
        seg.put_many({number: 0 for number in range(30)})
        for number in range(30):
            del seg[number]
        lines = run(f"%shm {key}")["data"][0]["text/plain"].splitlines()
    assert len(lines) == 1 + 1 + 3 and all(line.isprintable() and len(line) < 160 for line in lines)
    assert "array([[0., 0.],\\n" in lines[2] and "'a\\nb\\x1b'" in lines[2]


def test_shm_of_a_key_with_spaces_or_that_is_a_number_in_quotes(run, new_key):
    odd = new_key() + " and 'more'"
    with shmvar.attach(odd) as seg:
        try:
            assert repr(odd) in shown(run(f"%shm {odd!r}")["data"][0]["text/html"]).text
        finally:
            seg.destroy()
    refused(run("%shm '4711'"), 'no segment of key "4711"')


def test_shm_refuses_in_one_line(run, shell, new_key):
    key = new_key()
    with shmvar.attach(key):
        refused(run(f"%shm {key}x"), f"did you mean {key!r}?")
        refused(run(f"%shm {key} {key}"), "one KEY")
        for word in (f"'{key}", f'"{key}', f"'{key}'x", "'"):
            for magic in ("shm", "shm_watch", "shm_pull", "shm_push"):
                refused(run(f"%{magic} {word} a"), f"no closing quote, or something right behind it: {word}")
            assert complete(shell, f"%shm_pull {word} x") is not None
        refused(run("%shm " + "k" * 200), "128")
        refused(run("%shm valkey://user:secret@[bad/#k"), "")
        assert "secret" not in run("%shm valkey://user:secret@[bad/#k")["said"]


def test_push_and_pull_move_variables_by_name(run, shell, new_key):
    key = new_key()
    assert run("prices = {'apples': 3}; total = 5.5")["error"] is None
    ran = run(f"%shm_push {key} prices total prices")
    assert ran["error"] is None and ran["printed"] == f"pushed to {key}: prices, total\n"
    with shmvar.attach(key, create=False) as seg:
        assert seg.copy() == {"prices": {"apples": 3}, "total": 5.5}
        seg.put_many({"total": 7, "new": [1], 5: "a number", "two words": 1, "for": 1, "print": 1, "_hidden": 1})
    ran = run(f"%shm_pull {key} total")
    assert ran["printed"] == f"pulled from {key}: total\nreplaced: total\n" and shell.user_ns["total"] == 7
    assert "new" not in shell.user_ns
    ran = run(f"del prices, total\n%shm_pull {key}")
    assert ran["printed"].splitlines()[0] == f"pulled from {key}: new, prices, total"
    assert ran["printed"].splitlines()[1].endswith("say them to have them all the same: print")
    assert shell.user_ns["prices"] == {"apples": 3} and shell.user_ns["new"] == [1]
    assert "two words" not in shell.user_ns and "_hidden" not in shell.user_ns and "print" not in shell.user_ns


def test_what_was_pushed_can_be_pulled_by_its_name_though_python_has_it_too(run, shell, new_key):
    key = new_key()
    assert run(f"id = 5; sum = 7\n%shm_push {key} id sum")["error"] is None
    ran = run(f"del id, sum\n%shm_pull {key} id")
    assert ran["printed"] == f"pulled from {key}: id\n" and shell.user_ns["id"] == 5 and "sum" not in shell.user_ns


def test_pull_without_names_replaces_no_code(run, shell, new_key):
    key = new_key()
    with shmvar.attach(key) as seg:
        seg.put_many({"np": 1, "work": 2, "Made": 3, "data": 4, "exit": 5, "In": 6})
    run("import math as np\ndef work(): pass\nclass Made: pass\ndata = 0\n")
    hidden = shell.user_ns["In"]
    ran = run(f"%shm_pull {key}")
    assert f"pulled from {key}: data\nreplaced: data\n" in ran["printed"] and "Made, np, work" in ran["printed"]
    assert shell.user_ns["np"].__name__ == "math" and shell.user_ns["data"] == 4 and shell.user_ns["In"] is hidden
    run(f"%shm_pull {key} np")
    assert shell.user_ns["np"] == 1  # this is what was said


def test_pull_takes_what_startup_files_define_and_says_what_it_leaves(run, shell, new_key):
    key = new_key()
    with shmvar.attach(key) as seg:
        seg.put_many({"rate": 5, "limits": [9], "open": 3, "exit": 4, "In": 5, "Out": 8, "get_ipython": 7, "other": 6})
    shell.user_ns.update({"rate": 1, "limits": [1]})
    shell.user_ns_hidden.update(shell.user_ns)  # as IPython does after its startup files
    try:
        ran = run(f"%shm_pull {key}")
    finally:
        for name in ("rate", "limits"):
            del shell.user_ns_hidden[name]
    pulled, replaced, left = ran["printed"].splitlines()
    assert pulled == f"pulled from {key}: limits, other, rate" and replaced == "replaced: limits, rate"
    assert left.startswith("left, because Python or IPython has these names") and left.count(":") == 1
    assert left.endswith(": In, Out, exit, get_ipython, open")
    assert shell.user_ns["rate"] == 5 and shell.user_ns["limits"] == [9] and shell.user_ns["In"] != 5


def test_a_name_that_is_missing_moves_nothing(run, shell, new_key):
    key = new_key()
    run("a = 1")
    refused(run(f"%shm_push {key} a b c"), "no such variable in this notebook: b, c. Nothing was pushed")
    assert not shmvar.exists(key)
    with shmvar.attach(key) as seg:
        seg["x"] = 1
    refused(run(f"%shm_pull {key} x y"), "no variable y in")
    assert "x" not in shell.user_ns
    for name in ("for", "5", "a.b", "'x'"):
        refused(run(f"%shm_pull {key} x {name}"), name)
    assert "x" not in shell.user_ns
    refused(run("%shm_push"), "%shm_push KEY name")
    refused(run(f"%shm_push {key}"), "%shm_push KEY name")
    refused(run("%shm_pull"), "%shm_pull KEY")
    refused(run("%shm_watch"), "%shm_watch KEY")
    refused(run(f"%shm_pull {key}-none x"), "no segment")


def test_a_push_that_fails_leaves_no_segment_behind(run, new_key):
    key = new_key()
    run("f = lambda: 0; a = 1")
    ran = run(f"%shm_push {key} a f")
    assert ran["error"] is not None and not shmvar.exists(key)


class Reduced:
    """Raises an error of its own when it is pickled."""

    def __reduce__(self):
        raise LookupError("two\nlines \x1b[31m")


def test_a_push_says_which_name_cannot_be_stored_and_why(run, shell, new_key):
    key = new_key()
    with shmvar.attach(key, 1 << 20) as seg:
        seg["small"] = 0
        run("import math; small = 1; f = lambda: 0; big = bytes(2 << 20)")
        shell.user_ns["odd"] = Reduced()
        for name, cause in (("math", TypeError), ("f", Exception), ("odd", LookupError)):
            ran = run(f"%shm_push {key} small {name}")
            refused(ran, f"{name} cannot be pickled: {type(ran['error'].__cause__).__name__}: ")
            assert isinstance(ran["error"].__cause__, cause) and "\x1b" not in ran["said"]
            assert str(ran["error"]).endswith(". Nothing was pushed")
        ran = run(f"%shm_push {key} small big")
        refused(ran, "small, big (the largest is big, 2.0 MiB): SegmentFullError: ")
        assert isinstance(ran["error"].__cause__, shmvar.SegmentFullError)
        refused(run(f"%shm_push {key} big"), "big: SegmentFullError: ")
        assert seg.copy() == {"small": 0}


def test_pull_is_of_one_instant_and_push_is_one_batch(run, shell, new_key, monkeypatch):
    """Each is one call, so nobody sees half."""
    key = new_key()
    for name in ("put", "get", "update", "copy", "items", "__getitem__", "__setitem__"):
        monkeypatch.setattr(shmvar.Segment, name, None)
    run("a = 1; b = 2")
    assert run(f"%shm_push {key} a b")["error"] is None
    run("a = b = 0")
    assert run(f"%shm_pull {key} a b")["error"] is None and shell.user_ns["a"] == 1
    run("a = b = 0")
    assert run(f"%shm_pull {key}")["error"] is None and shell.user_ns["b"] == 2


def test_watch_shows_the_widget_or_says_what_to_install(run, new_key, monkeypatch):
    notebook = importlib.import_module("shmvar.notebook")
    key, watched = new_key(), []

    class Widget:
        def __init__(self, segment):
            watched.append(segment)

        def _repr_html_(self):
            return "<i>a widget</i>"

    monkeypatch.setattr(notebook, "watch", Widget, raising=False)
    with shmvar.attach(key):
        [data] = run(f"%shm_watch {key}")["data"]
        assert data["text/html"] == "<i>a widget</i>" and watched[0].key == key and not watched[0].detached
        refused(run(f"%shm_watch {key}-none"), "no segment")

        def missing(segment):
            watched.append(segment)
            raise ModuleNotFoundError("pip install shmvar[notebook]")

        monkeypatch.setattr(notebook, "watch", missing)
        refused(run(f"%shm_watch {key}"), "pip install shmvar[notebook]")
        assert watched[-1].detached and len(watched) == 2
        watched[0].detach()


class Own:
    """A class that data-only decoding refuses."""


def test_an_untrusted_value_is_refused_with_its_own_error(run, shell, new_key):
    key = new_key()
    with shmvar.attach(key, perm=0o666) as seg:
        seg.put_many({"plain": 1, "own": Own()})
    ran = run(f"%shm_pull {key} plain own")
    assert isinstance(ran["error"], shmvar.UntrustedValueError) and "plain" not in shell.user_ns


def test_more_variables_than_a_notebook_wants_are_refused(run, shell, new_key, monkeypatch):
    from shmvar.notebook import _magics

    monkeypatch.setattr(_magics, "MOST_PULLED", 3)
    key = new_key()
    with shmvar.attach(key) as seg:
        seg.put_many({f"name{number}": 1 for number in range(4)})
    refused(run(f"%shm_pull {key}"), "more than 3 variables have names: say which")
    assert "name1" not in shell.user_ns


def complete(shell, line):
    from IPython.core.completer import provisionalcompleter

    with provisionalcompleter():
        return [line[: found.start] + found.text for found in shell.Completer.completions(line, len(line))]


def test_keys_and_names_are_completed(run, shell, new_key):
    key, odd = new_key(), new_key() + "\n'x"
    run("pears = 1; _hidden = 1")
    with shmvar.attach(key) as seg, shmvar.attach(odd) as other:
        try:
            seg.put_many({"apples": 1, "two words": 1, 5: 1})
            for magic in ("shm", "shm_watch", "shm_push", "shm_pull"):
                assert complete(shell, f"%{magic} {key[:-1]}").count(f"%{magic} {key}") == 1
                assert not [line for line in complete(shell, f"%{magic} {odd[:-3]}") if "\n" in line]
            assert f"%shm_pull {key} apples" in complete(shell, f"%shm_pull {key} app")
            assert not [line for line in complete(shell, f"%shm_pull {key} two") if "words" in line]
            assert f"%shm_push {key} pears" in complete(shell, f"%shm_push {key} pe")
            assert complete(shell, "%shm_pull no-such-segment ap") is not None
            with shmvar.attach(f"{os.getpid()}77777777") as digits:  # a text, which this word does not name
                assert not complete(shell, f"%shm {digits.key[:-2]}")
                digits.destroy()
        finally:
            other.destroy()


def test_unloading_takes_them_away(run, shell):
    assert complete(shell, "%shm_pu") == ["%shm_pull", "%shm_push"]
    shell.run_line_magic("unload_ext", "shmvar")
    assert complete(shell, "%shm_pu") == [] and "not found" in run("%shm")["said"]
    shell.run_line_magic("load_ext", "shmvar")
