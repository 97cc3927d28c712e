"""Without the extra `shmvar[cli]` each command works, and a terminal gets plain columns."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from helpers import screens

import shmvar

HOSTILE = "\x1b]0;title\x07\x1b[31mred\u202e [bold red]markup[/] \x9b2J\r\x08"


def without_rich(*words, **options):
    """Runs commands (in the form of `screens.EACH`) on a terminal where `rich` is not to be found."""
    program = f"import sys; sys.modules['rich'] = None{screens.EACH}"
    return screens.run(sys.executable, "-c", program, ";".join(words), whole=True, columns=200, lines=100, **options)


def test_without_rich_a_terminal_has_plain_columns(seg):
    seg.update({"one": HOSTILE, "日本": 2, "three": 3})
    found = without_rich("ls", f"show,{seg.key}", f"info,{seg.key}", "doctor", f"watch,{seg.key},--timeout,0.1")
    assert b"\x1b" not in found.raw and b"Traceback" not in found.raw
    lines = found.everything()
    assert f"segment {seg.key!r}" in "\n".join(lines)
    at = next(number for number, line in enumerate(lines) if line.startswith("INDEX"))
    rows = dict(line.split("  ", 1) for line in lines[at : at + 4])
    assert rows.keys() == {"INDEX", "'one'", "'three'", "'日本'"}
    column = lines[at].index("TYPE")
    assert lines[at + 1][column:].startswith("str") and lines[at + 2][column:].startswith("int")
    assert "'日本'   int" in lines[at + 3], "two cells for each of these characters"


def test_without_rich_each_command_does_what_it_does_with_it(seg, tmp_path):
    seg["one"] = 1
    dump = tmp_path / "dump"
    words = [f"get,{seg.key},one", f"put,{seg.key},two,22", f"has,{seg.key},two", f"dump,{seg.key},{dump}"]
    words += [f"load,{seg.key},{dump}", f"copy,{seg.key},{seg.key}-copy", f"remove,{seg.key}-copy"]
    words += [f"show,{seg.key},--json", "ls,--json", "doctor,--json", "completion,bash", "manual"]
    found = without_rich(*words)
    parts = "\n".join(found.everything()).split("@@@ ")[1:]
    assert len(parts) == len(words) and not any("Traceback" in part or "rich" in part for part in parts)
    assert seg.copy() == {"one": 1, "two": 22}
    assert not shmvar.exists(f"{seg.key}-copy")


def test_without_rich_top_prints_tables_and_says_what_is_missing(seg):
    found = without_rich("top,--count,1,--interval,0.05")
    said = "\n".join(found.everything())
    assert "pip install 'shmvar[cli]'" in said and "KEY" in said and "CHG/S" in said and "Traceback" not in said


def test_without_rich_the_demo_prints_lines():
    # Of five seconds its process gets a processor in one at least, however busy the machine; the first line is of 1 s.
    found = without_rich("demo,--seconds,5")
    said = "\n".join(found.everything())
    assert "Nothing lost, nothing torn." in said and b"\x1b" not in found.raw
    assert re.search(r"^ +1 s +[\d,]+ calls +\d+ kills +0 lost +0 torn", said, re.M), said


def test_the_library_needs_nothing_but_python(key):
    """In an interpreter that finds the standard library and this package alone."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["dependencies"] == []
    program = f"""
import importlib.abc, sys
class Nothing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top != "shmvar":
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Nothing())
import shmvar
from shmvar.cli.main import main
with shmvar.attach({key!r}) as segment:
    segment[1] = {{"a": [1.5, None]}}
    assert segment.modify(1, lambda value: value | {{"b": 2}}) == {{"a": [1.5, None], "b": 2}}
    assert segment.memoize(lambda n: n + 1)(1) == 2
    with segment.lock("l"):
        segment.queue("q").put(b"item")
    assert segment.wait(1, newer_than=0) and segment.queue("q").get() == b"item"
assert main(["get", {key!r}, "1"]) == 0 and main(["show", {key!r}]) == 0 and main(["top", {key!r}, "--once"]) == 0
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("{'a': [1.5, None], 'b': 2}\n")
