"""docs/upgrades.md says what the code does: its numbers, its error, its commands."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import helpers
import pytest
from helpers import pages

import shmvar

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "upgrades.md"
if not PAGE.exists():
    pytest.skip("the page is not beside the tests", allow_module_level=True)
TEXT = PAGE.read_text()
FORMAT_AT = 8  # in the identity: docs/format.md


def number(path, pattern):
    return int(re.search(pattern, (ROOT / path).read_text())[1])


def row(start):
    return next(line for line in TEXT.splitlines() if line.startswith(f"| {start} |")).strip("|").split(" | ")


def test_the_numbers_are_those_of_the_code():
    segments = number("src/format/numbers.rs", r"pub const FORMAT: u32 = (\d+);")
    assert int(row("a segment on this machine")[1]) == segments
    assert f"this package reads version {segments}" in TEXT
    assert int(row("a segment on a server")[1]) == number("python/shmvar/_remote/identity.py", r'version != b"(\d+)"')
    dumps = re.findall(r"shmvar dump (\d+)\\n", (ROOT / "src/codec/dump_line.rs").read_text())
    _, written, read, *_ = row("a dump")
    assert written == dumps[-1] and f"loads {' and '.join(dumps)};" in read
    assert all((ROOT / f"tests/dump/golden-{version}.dump").exists() for version in dumps), (
        "each one is loaded by a test"
    )


def test_the_table_of_formats_ends_with_that_of_this_version():
    segments = number("src/format/numbers.rs", r"pub const FORMAT: u32 = (\d+);")
    assert [line for line in TEXT.splitlines() if re.match(rf"\| {segments} \| \d", line)]
    known = re.findall(r"^\| (\d+) \| ", (ROOT / "docs/format.md").read_text().split("## Versions")[1], re.M)
    assert known[-1] == str(segments)


def test_the_changelog_speaks_of_the_format_and_of_this_page():
    text = (ROOT / "CHANGELOG.md").read_text()
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["version"]
    assert "docs/upgrades.md" in text.split("## [")[0]
    assert f"## [{version}]" in text and text.index("## [Unreleased]") < text.index(f"## [{version}]")


def test_a_segment_of_another_format_is_refused_by_name_left_as_it_is_and_removed(key):
    with shmvar.attach(key) as segment:
        segment[1] = "old"
    path = Path(helpers.SHM) / f"shmvar.s.{key}"

    def start():  # the file is as long as the segment's addresses
        with open(path, "rb") as file:
            return file.read(1 << 20)

    with open(path, "r+b") as file:
        file.seek(FORMAT_AT)
        file.write((3).to_bytes(4, "little"))
    before = start()
    said = re.search(r"^    (format version 3.*); if nobody needs it any more, …$", TEXT, re.M)[1]
    for options in ({}, {"readonly": True}, {"create": False}):
        with pytest.raises(shmvar.IncompatibleSegmentError, match=re.escape(said)):
            shmvar.attach(key, **options)
    assert start() == before
    assert "foreign" in command("ls").stdout
    assert command("remove", key).returncode == 0 and not shmvar.exists(key)


def test_the_commands_move_what_is_stored(key, tmp_path):
    commands = re.findall(r"^    shmvar ((?:dump|remove|load) prices.*)$", TEXT, re.M)
    assert [line.split()[0] for line in commands] == ["dump", "remove", "load"]
    with shmvar.attach(key) as segment:
        segment.update({"EUR": 1.09, 5: [1]})
        segment.put("gone soon", 1, ttl=1e6)
        segment.queue("jobs").put("one")
    for line in commands:
        words = [key if word == "prices" else word for word in line.split()]
        done = command(*words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    with shmvar.attach(key, create=False) as segment:
        assert segment.copy() == {"EUR": 1.09, 5: [1], "gone soon": 1}
        assert segment.stat("gone soon").expires_in > 9e5 and segment.queue("jobs").get_nowait() == "one"
    first = (tmp_path / "prices.dump").read_bytes().splitlines()[0]
    assert first.decode() == f"shmvar dump {row('a dump')[1]}"


KEYS = [
    "docrev/a",
    "docrev b",
    'in "quotes"',
    "it's",
    "5",
    5,
    -5,
    2**63 - 1,
    "line\nend",
    "-x",
    "é\u2028",
    "/" * 20,
    "..",
]


@pytest.fixture
def of_all_kinds(key, monkeypatch):
    """Segments whose keys no shell and no file system likes, which are all that `shmvar.segments` lists."""
    number = int.from_bytes(os.urandom(4))
    made = [one - number if isinstance(one, int) else f"{one}{key}" for one in KEYS]
    listed = shmvar.segments

    def ours():
        return [one for one in listed() if one.key in made]

    monkeypatch.setattr(shmvar, "segments", ours)
    yield made
    for one in made:
        shmvar.destroy(one)


def programs():
    return [compile(source, f"line {at} of the page", "exec") for at, source in pages.blocks("docs/upgrades.md")]


def test_the_programs_move_the_segments_of_all_keys(of_all_kinds, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    dump_all, load_all = programs()
    for number, key in enumerate(of_all_kinds):
        with shmvar.attach(key, (number + 1) << 20, perm=0o640, evict="lru" if number % 2 else None) as segment:
            segment.update({"value": number, number: key})
    exec(dump_all, {})
    said = capsys.readouterr().out
    for key in of_all_kinds:
        assert re.search(rf"^\d+\.dump: {re.escape(repr(key))}$", said, re.M)
        with shmvar.attach(key, create=False) as segment:
            segment.clear()
    exec(load_all, {})
    assert len(capsys.readouterr().out.splitlines()) == len(of_all_kinds)
    for number, key in enumerate(of_all_kinds):
        with shmvar.attach(key, create=False) as segment:
            assert segment.copy() == {"value": number, number: key}
            info = segment.info()
            assert (info.size, info.perm) == ((number + 1) << 20, 0o640) and info.evict == (
                "lru" if number % 2 else None
            )
    assert sorted(os.listdir(tmp_path)) == sorted([*(f"{n}.dump" for n in range(len(KEYS))), "segments.json"])


def test_a_segment_that_cannot_be_dumped_is_said(of_all_kinds, tmp_path, monkeypatch, capsys):
    """One that is no segment is named, and a failure ends the program before it says that it came to its end."""
    monkeypatch.chdir(tmp_path)
    dump_all, _ = programs()
    first, second = of_all_kinds[1:3]
    for key in (first, second):
        shmvar.attach(key, 4096).detach()
    with shmvar.attach(first) as segment, open(helpers.path_of(segment), "r+b") as file:
        name = os.path.basename(file.name)
        file.write(b"nothing of ours")
    exec(dump_all, {})
    assert f"NOT DUMPED: {name} foreign" in capsys.readouterr().out
    assert [made["key"] for made in json.loads((tmp_path / "segments.json").read_text())] == [second]
    os.remove("segments.json")
    os.remove("0.dump")
    os.mkdir("0.dump")
    with pytest.raises(OSError, match=r"0\.dump"):
        exec(dump_all, {})
    assert capsys.readouterr().out.splitlines()[-1] == f"0.dump: {second!r}" and not os.path.exists("segments.json")


def command(*words, cwd=None):
    program = [sys.executable, "-m", "shmvar", *map(str, words)]
    return subprocess.run(program, capture_output=True, text=True, timeout=100, check=False, cwd=cwd)
