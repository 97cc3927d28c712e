"""`shmvar php …`: each command with what PHP stored and for PHP to read, in a pipe and on terminals; hostile texts."""

import ctypes
import io
import json
import signal
import subprocess
import sys

import helpers
import pytest
from helpers import screens, system_v
from helpers.hostile_texts import TEXTS, assert_harmless, assert_of_terminal
from helpers.marks import needs_php, needs_root

import shmvar
from shmvar import php
from shmvar.cli import main
from shmvar.cli.completion import place
from shmvar.cli.php import kernel

GETNCNT = 14
COMMANDS = ["ls", "info K", "show K", "get K 1", "put K 1 1", "remove K 1", "clear K", "destroy K"]


@pytest.fixture
def run(capsys):
    """Runs `shmvar php` with these words in this process; returns its exit status and what it printed."""

    def call(*words):
        capsys.readouterr()
        status = main.main(["php", *map(str, words)])
        said = capsys.readouterr()
        assert len(said.err.splitlines()) <= 1 and (status == 0) == (not said.err)
        return status, said.out, said.err

    return call


@pytest.fixture
def segment(php_key):
    with php.attach(php_key, 1 << 20, create=True) as segment:
        yield segment


def wrong(capsys, *words):
    """What is said of a wrong use."""
    try:
        status = main.main(["php", *map(str, words)])
    except SystemExit as ended:
        status = ended.code
    assert status == 2
    return capsys.readouterr().err


# --- values


@pytest.mark.parametrize("form", [str, hex, lambda key: str(key - 2**32), lambda key: f"0X{key:X}"], ids=range(4))
def test_a_key_may_be_written_in_any_way(php_key, run, form):
    key = php_key | 0x8000_0000 if form(0).startswith("-") else php_key
    try:
        assert run("put", form(key), 1, "5") == (0, "", "")
        assert run("get", form(key), 1) == (0, "5\n", "")
        with php.attach(key, create=False) as segment:
            assert segment[1] == 5
            segment.destroy()
    finally:
        system_v.remove(system_v.objects({key - 2**32 * (key >> 31)}))


@needs_php
def test_php_reads_what_is_put_and_its_values_are_printed(php_key, run, in_php):
    given = [(1, "[1, 2.5, None]", [1, 2.5, None]), (-2, "text", "text"), ("0x10", "{'a': 1}", {"a": 1})]
    for index, word, value in given:
        assert run("put", php_key, index, word) == (0, "", "")
        at = int(str(index), 0)
        assert in_php("return shm_get_var(shm_attach($a[0]), $a[1]);", php_key, at) == value
    code = """class Point { public $x = 1; protected $y = [2.0]; }
    enum Suit: string { case Hearts = 'h'; }
    foreach ($a[1] as $index => $value) shm_put_var(shm_attach($a[0]), $index, $value);
    shm_put_var(shm_attach($a[0]), 20, new Point);
    shm_put_var(shm_attach($a[0]), 21, Suit::Hearts);"""
    in_php(code, php_key, {10: {"é": [True]}, 11: "line\nend", 12: b"\xff", 13: -0.0})
    assert run("get", php_key, 10)[1] == "{'é': [True]}\n" and run("get", php_key, 10, "--json")[1] == '{"é": [true]}\n'
    assert run("get", php_key, 11)[1] == "line\nend\n" and run("get", php_key, 11, "--json")[1] == '"line\\nend"\n'
    assert run("get", php_key, 12)[1] == "b'\\xff'\n" and run("get", php_key, 13)[1] == "-0.0\n"
    status, said, error = run("get", php_key, 12, "--json")
    assert status == 1 and not said and "no form as JSON" in error
    shown = run("get", php_key, 20)[1]
    assert "PhpObject('Point'" in shown and "[2.0]" in shown
    assert json.loads(run("get", php_key, 20, "--json")[1]) == {
        "class": "Point",
        "properties": {"x": 1, "\0*\0y": [2.0]},
    }
    assert json.loads(run("get", php_key, 21, "--json")[1]) == {"class": "Suit", "case": "Hearts"}
    assert run("get", php_key, 21, "--raw")[1] == 'E:11:"Suit:Hearts";'


def test_a_text_is_printed_byte_for_byte(segment):
    text = b's:4:"\xff\x00\r\n";'
    segment._put_text(1, text)
    command = [sys.executable, "-m", "shmvar", "php", "get", str(segment.key), "1", "--raw"]
    assert subprocess.run(command, capture_output=True, timeout=100, check=True).stdout == text


def test_a_value_may_come_from_stdin_or_be_json(segment, run, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"{'a': 1}\n")))
    assert run("put", segment.key, 1, "-")[0] == 0 and segment[1] == {"a": 1}
    assert run("put", segment.key, 1, '{"b": null}', "--json")[0] == 0 and segment[1] == {"b": None}


def test_a_new_segment_has_the_size_and_the_mode_that_were_asked_for(php_key, run):
    assert run("put", php_key, 1, "1", "--size", "64K", "--perm", "640")[0] == 0
    assert system_v.size_of(php_key) == 65536 and system_v.permissions_of(php_key) == 0o640
    assert run("put", php_key, 2, "1", "--size", "1M")[0] == 0 and system_v.size_of(php_key) == 65536


@pytest.mark.parametrize(
    ("words", "why"), [(["{1, 2}"], "set"), ([str(2**63)], "ints have 64"), (["x" * 200, "--size", "100"], "bytes")]
)
def test_a_put_that_fails_leaves_no_new_segment_and_changes_no_old_one(php_key, run, words, why):
    status, _, error = run("put", php_key, 1, *words)
    assert status == 1 and why in error
    assert not system_v.objects({php_key})
    with php.attach(php_key, 100) as segment:
        segment[1] = 5
        assert run("put", php_key, 1, *words)[0] == 1 and dict(segment) == {1: 5}


def test_a_variable_and_a_segment_are_removed(segment, run):
    segment.update({1: 1, 2: 2})
    assert run("remove", segment.key, 1) == (0, "", "") and dict(segment) == {2: 2}
    for command in ("get", "remove"):
        assert run(command, segment.key, 1)[2] == (
            f"shmvar: no variable 1 in PHP's segment {segment.key} (0x{segment.key:08x})\n"
        )
    assert run("destroy", segment.key) == (0, "", "")
    for words in (["get", 1], ["show"], ["info"], ["remove", 1], ["destroy"]):
        status, said, error = run(words[0], segment.key, *words[1:])
        assert status == 1 and not said and f"{segment.key:x}" in error


def test_who_forgot_or_wrote_the_word_php_is_told(php_key, run, new_key):
    with shmvar.attach(php_key) as segment:
        assert "leave out the word php" in run("get", php_key, 1)[2]
        segment.destroy()


# --- lists


def test_all_segments_of_php_are_listed_and_no_others(segment, new_php_key, run):
    segment.update({1: 1, 2: "x"})
    damaged, foreign, tiny = (new_php_key() for _ in range(3))
    system_v.make(damaged, system_v.segment_bytes([], 1000, end=2000))
    system_v.make(foreign, b"PHP_SN\0\0" + bytes(100))
    system_v.make(tiny, b"PHP")
    listed = {one["key"]: one for one in json.loads(run("ls", "--json")[1])}
    assert listed.keys() & {segment.key, damaged, foreign, tiny} == {segment.key, damaged}
    found = listed[segment.key]
    assert found["hex"] == f"0x{segment.key:08x}" and found["count"] == 2 and found["size"] == 1 << 20
    assert found["perm"] == "666" and found["state"] == "usable" and found["attached"] >= 1
    assert found["used"] == segment.info().used
    assert listed[damaged]["state"] == "damaged" and listed[damaged]["count"] is None and listed[damaged]["why"]
    lines = [line.split("\t") for line in run("ls")[1].splitlines()]
    assert lines[0] == ["KEY", "HEX", "COUNT", "USED", "SIZE", "PROCS", "OWNER", "MODE", "STATE"]
    assert {line[0]: line[-1].partition(":")[0] for line in lines[1:]}[str(damaged)] == "damaged"
    assert len({len(line) for line in lines}) == 1


@needs_root
def test_what_this_user_may_not_look_at_is_marked(new_php_key):
    secret, shared, readable = (new_php_key() for _ in range(3))
    for key, mode in ((secret, 0o600), (shared, 0o666), (readable, 0o644)):
        with php.attach(key, 1000, mode, create=True) as segment:
            segment[1] = 1
    # Root runs it first, for that user may not read the folders of what it imports.
    before = "import contextlib, io\nfrom shmvar.cli import main\n"
    before += "with contextlib.redirect_stdout(io.StringIO()): main.main(['php', 'ls', '--json'])\n"
    code = "sys.exit(main.main(['php', 'ls', '--json']))"
    done = helpers.run(code, drop=before + helpers.as_user()["drop"])
    listed = {one["key"]: one for one in json.loads(done.stdout)}
    assert [listed[key]["state"] for key in (secret, shared, readable)] == ["refused", "usable", "refused"]
    assert "may not look" in listed[secret]["why"] and "only read" in listed[readable]["why"]
    assert listed[shared]["count"] == 1 and listed[secret]["count"] is None


def test_variables_are_listed_with_what_they_are(segment, run):
    values = {5: None, -1: True, 2: 7, 3: 0.5, 4: "text", 6: [1], 7: php.PhpObject("A\\B", {"x": 1})}
    values |= {8: php.PhpEnum("Suit", "H"), 9: php.PhpCustom("Old", b"x"), 10: "y" * 100_000}
    segment.update(values)
    segment._put_text(11, b"i:5")
    found = {one["index"]: one for one in json.loads(run("show", segment.key, "--json")[1])}
    assert list(found) == sorted([*values, 11])
    types = {5: "null", -1: "bool", 2: "int", 3: "float", 4: "string", 6: "array", 7: "object", 8: "enum", 9: "object"}
    assert {index: found[index]["type"] for index in types} == types
    assert found[7]["repr"] == "PhpObject('A\\\\B', {'x': 1})" and found[8]["repr"] == "PhpEnum('Suit', 'H')"
    assert found[10]["repr"] is None and found[10]["size"] > 100_000 and found[10]["error"] is None
    assert "UnserializeError" in found[11]["error"] and found[11]["type"] == "int"
    lines = run("show", segment.key, "--limit", 3)[1].splitlines()
    assert lines[0] == "INDEX\tTYPE\tSIZE\tVALUE" and [line.split("\t")[0] for line in lines[1:]] == ["-1", "2", "3"]
    status, said, error = run("get", segment.key, 11)
    assert status == 1 and not said and "11" in error and "doctor" not in error


def test_a_value_that_is_nested_deeply_or_holds_itself_is_a_line(segment, run):
    deep = b"i:1;"
    for _ in range(3000):
        deep = b"a:1:{i:0;" + deep + b"}"
    segment._put_text(1, deep)
    segment._put_text(2, b'O:1:"A":1:{s:1:"a";r:1;}')
    for index in (1, 2):
        assert json.loads(run("show", segment.key, "--json")[1])[index - 1]["size"]
        for option in ([], ["--json"]):
            status, said, error = run("get", segment.key, index, *option)
            assert status in (0, 1) and len(said.splitlines()) <= 1, error


def test_facts_are_those_of_the_kernel_and_of_the_header(segment, run):
    segment[1] = "x"
    found = json.loads(run("info", hex(segment.key), "--json")[1])
    info = segment.info()
    assert found["key"] == segment.key and found["id"] == segment.id and found["permissions"] == "666"
    assert (found["size"], found["total"], found["free"], found["count"]) == (info.size, info.total, info.free, 1)
    lines = dict(line.split("\t") for line in run("info", segment.key)[1].splitlines())
    assert lines["key"] == f"{segment.key} (0x{segment.key:08x})" and lines["size"] == "1,048,576 bytes (1.0 MiB)"
    assert lines["detached_at"] == "never" or lines["detached_at"][:2] == "20"


# --- the semaphore


@pytest.mark.parametrize("command", COMMANDS[1:])
def test_with_lock_a_command_waits_for_the_semaphore(segment, command):
    segment[1] = 1
    semaphore = php.Semaphore(segment.key)
    words = [str(segment.key) if word == "K" else word for word in command.split()]
    with semaphore:
        child = subprocess.Popen([sys.executable, "-m", "shmvar", "php", *words, "--lock", str(segment.key)], stdout=-1)
        try:
            semctl = ctypes.CDLL(None).semctl
            helpers.until(lambda: semctl(semaphore.id, 0, GETNCNT) == 1)
            assert child.poll() is None and dict(segment) == {1: 1}
        except BaseException:
            child.kill()
            raise
    child.communicate(timeout=60 * helpers.machine.SLOWER)
    assert child.returncode == 0
    assert semaphore.acquire(timeout=0), "it was given back"
    semaphore.release()
    semaphore.close()


def test_ctrl_c_ends_the_wait_for_the_semaphore(segment):
    with php.Semaphore(segment.key) as semaphore:
        child = subprocess.Popen(
            [sys.executable, "-m", "shmvar", "php", "show", str(segment.key), "--lock", str(segment.key)],
            stderr=subprocess.PIPE,
            text=True,
        )
        semctl = ctypes.CDLL(None).semctl
        helpers.until(lambda: semctl(semaphore.id, 0, GETNCNT) == 1)
        child.send_signal(signal.SIGINT)
        assert child.communicate(timeout=60 * helpers.machine.SLOWER)[1] == "" and child.returncode == 130


@pytest.mark.parametrize("command", COMMANDS[1:])
def test_with_a_lock_that_two_may_hold_a_command_does_nothing(segment, run, command):
    segment[1] = "old"
    several = php.Semaphore(segment.key, 2)
    words = [segment.key if word == "K" else word for word in command.split()]
    status, out, error = run(*words, "--lock", segment.key)
    assert status and not out and "1 more may be held meanwhile" in error
    assert dict(segment) == {1: "old"} and several.acquire(0) and several.acquire(0)
    several.close()


# --- wrong uses


def test_the_group_alone_prints_its_help(run):
    said = run()[1]
    assert "usage: shmvar php" in said and all(line.split()[0] in said for line in COMMANDS)


def test_a_wrong_use_is_told_from_an_error(segment, capsys):
    assert "no key of PHP's" in wrong(capsys, "show", "text")
    assert "no index of PHP's" in wrong(capsys, "get", segment.key, "text")
    assert "did you mean show?" in wrong(capsys, "shwo", 1)
    assert "did you mean --lock?" in wrong(capsys, "show", 1, "--lokc")
    for key in (0, 2**32, -(2**31) - 1, 2**70):
        assert "key" in wrong(capsys, "get", key, 1)
    for index in (2**63, -(2**63) - 1):
        for words in (["get", segment.key, index], ["put", segment.key, index, 1], ["remove", segment.key, index]):
            assert "index" in wrong(capsys, *words)


def test_no_command_formats_or_changes_what_is_not_php_s(new_php_key, run):
    key = new_php_key()
    content = b"somebody else's" + bytes(500)
    system_v.make(key, content)
    for command in COMMANDS[1:]:
        words = [key if word == "K" else word for word in command.split()]
        assert run(*words)[0] == 1
    with system_v.RawSegment(key) as raw:
        assert raw[:] == content


# --- hostile texts


@pytest.fixture
def hostile(segment):
    """Texts that would command a terminal, as values, as names of classes, of properties and of cases."""
    for index, text in enumerate(TEXTS):
        clean = text.encode(errors="surrogatepass")
        segment[index] = {text: [text]}
        for at, made in ((100, b'O:%d:"%s":1:{s:%d:"%s";N;}'), (200, b'C:%d:"%s":%d:{%s}'), (300, b'E:%d:"%s:%s";')):
            parts = (len(clean), clean, len(clean), clean) if at < 300 else (2 * len(clean) + 1, clean, clean)
            segment._put_text(at + index, made % parts)
        segment._put_text(400 + index, clean)
    return segment


def test_in_a_pipe_what_is_shown_is_harmless(hostile, run):
    for words in (["show", hostile.key], ["show", hostile.key, "--json"], ["ls"], ["info", hostile.key]):
        assert_harmless(run(*words)[1], 2_000_000)
    for index in hostile:
        _, said, error = run("get", hostile.key, index, "--json")
        assert_harmless(said + error)
        if index >= 100:
            _, said, error = run("get", hostile.key, index)
            assert_harmless(said + error)


@pytest.mark.parametrize("columns", [40, 100])
def test_on_a_terminal_it_is_harmless_and_as_wide_as_that(hostile, columns):
    pytest.importorskip("pyte", reason="needs pyte")
    for words in (["show", hostile.key], ["ls"], ["info", hostile.key]):
        shown = screens.run("php", *map(str, words), columns=columns, status=0)
        assert_of_terminal(shown.raw, columns)
        assert not shown.too_long(), words
    for index in (1, 7, 101, 107, 201, 301, 401):
        shown = screens.run("php", "get", str(hostile.key), str(index), columns=columns, status=None)
        assert_of_terminal(shown.raw)
    shown = screens.run("php", "get", str(hostile.key), "0", "--raw", columns=columns)
    assert_of_terminal(shown.raw)


def test_a_screen_has_what_a_pipe_has(segment):
    pytest.importorskip("pyte", reason="needs pyte")
    segment.update(dict.fromkeys(range(1100), "text"))
    text = screens.run("php", "show", str(segment.key), columns=80, status=0).raw.decode()
    assert "999" in text and "1050" not in text and "100 more: --limit N" in text and "string" in text
    text = screens.run("php", "ls", columns=120, status=0).raw.decode()
    assert str(segment.key) in text and f"0x{segment.key:08x}" in text and "usable" in text
    text = screens.run("php", "info", str(segment.key), columns=80, status=0).raw.decode()
    assert "1,100 variables" in text and "of 1.0 MiB" in text


# --- completion


def test_keys_and_indexes_are_completed(segment):
    segment.update({5: 1, -51: 1})

    def offered(*words, typed=""):
        return {word for word, _ in place.offers(main.commands().parser, words, typed)}

    assert offered("php") == {line.split()[0] for line in COMMANDS}
    assert offered("ph", typed="x") == set()
    assert str(segment.key) in offered("php", "get") and f"0x{segment.key:08x}" in offered("php", "get", typed="0x")
    assert offered("php", "show", "--lock") >= {str(segment.key)}
    assert offered("php", "get", str(segment.key)) == {"5", "-51"}
    assert offered("php", "get", hex(segment.key), typed="-5") == {"-51"}
    assert "--lock" in offered("php", "get", typed="--") and "--raw" in offered("php", "get", typed="--")
    assert segment.key in kernel.keys_of_php()
