"""The guide's chapter "Past one machine" works as it is written, and so do the programs and the recipe beside it.

Its settings start a server, its programs run at the same time, its commands print what they print there; only the
address is the test's own.
"""

import os
import re
import shlex
import subprocess
import sys

import helpers
import pytest
from helpers import pages, servers

import shmvar
from shmvar.cli import main

GUIDE = pages.ROOT / "docs" / "guide.md"
EXAMPLES = pages.ROOT / "examples" / "remote"
if not GUIDE.exists():
    pytest.skip("the page is not beside the tests", allow_module_level=True)
pytest.importorskip("numpy")
CHAPTER = re.search(r"^## Past one machine\n(.*?)^## ", GUIDE.read_text(), re.M | re.S)[1]
ADDRESS = "valkey://localhost"


def settings():
    """The lines that the chapter has for the server's file, before those for replicas, as options."""
    block = re.search(r"make the best of it[^\n]*\n[^\n]*\n\n((?:    [^\n]*\n)+)", CHAPTER)[1]
    return [word for line in block.splitlines() for word in ("--" + line.split()[0], *line.split()[1:])]


def part(title):
    return re.search(rf"^### {title}\n(.*?)^### ", CHAPTER, re.M | re.S)[1]


@pytest.fixture
def as_in_the_guide(own_server):
    """A server with these settings."""
    return own_server(*settings(), port=servers.free_port())


def program(words, **options):
    return subprocess.Popen(
        [sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )


def said(process, timeout=100):
    printed, _ = process.communicate(timeout=timeout * helpers.machine.SLOWER)
    assert process.returncode == 0, printed
    return printed


def test_it_begins_with_what_can_be_lost():
    titles = re.findall(r"^### (.*)$", CHAPTER, re.M)
    assert titles[0] == "What can be lost" and titles[1] == "Ten minutes, from nothing"
    for setting in (
        "maxmemory-policy noeviction",
        "appendonly yes",
        "min-replicas-to-write 1",
        "min-replicas-max-lag 10",
    ):
        assert setting in part("What can be lost"), setting


def test_its_settings_leave_the_doctor_nothing_to_say(as_in_the_guide, capsys):
    assert main.main(["doctor", as_in_the_guide.tcp()]) == 0
    assert capsys.readouterr().out.endswith("\n\nhealthy\n")


def test_its_programs_share_a_counter_a_lock_and_an_array(as_in_the_guide, tmp_path, children):
    text = part("Ten minutes, from nothing")
    own = as_in_the_guide.tcp().rstrip("#").rstrip("/")
    names = re.findall(r"`(\w+\.py)`[^`]*?```python\n(.*?)^```$", text, re.M | re.S)
    assert [name for name, _ in names] == ["meter.py", "look.py"]
    for name, source in names:
        assert ADDRESS in source
        (tmp_path / name).write_text(source.replace(ADDRESS, own))
    command = re.search(r"^    \$ (python look.py.*)\n    (.*)$", text, re.M)
    running = [program(shlex.split(words)[1:], cwd=tmp_path) for words in command[1].split("&")]
    children += running
    # The one that looks on began first.
    printed = [said(process) for process in running]
    assert printed == [command[2] + "\n", "", ""]
    # The commands that follow, and what they print.
    environment = os.environ | {"SHMVAR_TEST": "1"}
    after = text[text.index("The command line sees it") :]
    for line, prints in re.findall(r"^    \$ shmvar (.*)\n((?:    (?!\$).*\n)*)", after, re.M):
        words = shlex.split(line.replace(ADDRESS, own))
        words = [f"past-{os.getpid()}" if word == "meters" else word for word in words]
        done = program(["-m", "shmvar", *words], env=environment)
        children.append(done)
        out = said(done)
        if prints:
            assert out == prints.replace("    ", ""), line
        if words[0] == "copy":
            with shmvar.attach(words[2], create=False) as copied:
                assert copied["rounds"] == 200
                copied.destroy()
    assert not shmvar.exists(f"{own}/#meters")


def test_its_urls_can_be_read(tmp_path, monkeypatch):
    """Each URL of the chapter is one that the package takes."""
    from shmvar._remote.url import parse

    secret = tmp_path / "secret"
    secret.write_text("word\n")
    found = re.findall(r"valkeys?://[^\s`\")]+", CHAPTER)
    assert len(found) > 8
    for url in found:
        parse(url.replace("/run/secrets/valkey", str(secret)).rstrip(":.,"))


@pytest.mark.parametrize("where", ["here", "server"])
def test_the_examples_are_the_same_programs_here_and_there(where, new_key, key, children):
    url = key if where == "server" else f"past-{os.getpid()}"
    try:
        look = program([str(EXAMPLES / "look.py"), url, "150"])
        meters = [program([str(EXAMPLES / "meter.py"), url, "50"]) for _ in range(3)]
        children += [look, *meters]
        assert [said(meter) for meter in meters] == ["meter: 50 rounds\n"] * 3
        assert said(look) == "look: 150 rounds, 150 in the array\n"
    finally:
        shmvar.destroy(url)


RECIPE = """
import time

def compute():
    shared.add("computed")
    time.sleep(0.2)
    return {"rows": 42}

hour = int(sys.argv[2])
assert report(compute, hour) == report(compute, hour) == {"rows": 42}
"""


@pytest.mark.parametrize("where", ["here", "server"])
def test_the_recipe_computes_once_whoever_comes_first(where, key, new_key):
    url = key if where == "server" else f"past-{os.getpid()}"
    ((_, source),) = pages.blocks("docs/recipes.md", "The same code on two machines")
    source = source[: source.index("report(lambda")]
    try:
        code = f"import os\nos.environ['SHARED'] = key\n{source}{RECIPE}"
        for hour in (7, 8):
            helpers.run_in_processes(code, url, hour, count=4)
        with shmvar.attach(url) as segment:
            assert segment["computed"] == 2 and segment["hour"] == 8
    finally:
        shmvar.destroy(url)
