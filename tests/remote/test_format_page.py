"""docs/remote-format.md is true: its example byte by byte, and its program, which reads what the package stored."""

import re
import subprocess
import sys

import pytest
from helpers import machine, pages

import shmvar

PAGE = pages.ROOT / "docs" / "remote-format.md"
if not PAGE.exists():
    pytest.skip("the page is not beside the tests", allow_module_level=True)
TEXT = PAGE.read_text()
TEXT = TEXT[TEXT.index("## An example") :]
EXAMPLE, PROGRAM = re.findall(r"^```python\n(.*?)^```$", TEXT, re.M | re.S)


def rows(title):
    """The cells of the table whose first title this is."""
    table = re.search(rf"^\| {title} \|.*\n\| ---.*\n((?:\|.*\n)+)", TEXT, re.M)[1]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


@pytest.fixture
def example(own_server):
    """A server with the example alone."""
    own = own_server()
    names = {"shmvar": shmvar}
    exec(EXAMPLE.replace("valkey://localhost/#demo", own.url("demo")), names)
    yield own, names["segment"]
    names["segment"].detach()


def test_the_keys_of_the_example_are_those(example):
    own, segment = example
    (blob,) = own.call("HKEYS", segment._requests.keys[3])
    found = {}
    for name in own.call("KEYS", "*"):
        kind = own.call("TYPE", name).decode()
        shown = name.replace(blob, b"B").replace(segment._requests.id, b"I").decode()
        found[shown] = kind, own.call("STRLEN", name) if kind == "string" else None
    stated = {name.strip("`"): (kind, holds) for name, kind, holds in rows("key")}
    assert {name: kind for name, (kind, _) in found.items()} == {name: kind for name, (kind, _) in stated.items()}
    for name, (_, length) in found.items():
        if length is not None:
            assert stated[name][1] == f"{length} bytes"
    head = own.call("HGETALL", "shmvar:{sdemo}")
    said = dict(re.findall(r"`(\w+)` (\w+)", stated["shmvar:{sdemo}"][1]))
    assert said.pop("id") == "I" and {name: head[name.encode()].decode() for name in said} == said
    assert {name.decode() for name in head if not name.startswith(b"c:")} == {*said, "id", "seq", "at"}


def test_the_records_of_the_example_are_those(example):
    own, segment = example
    records = own.call("HGETALL", segment._requests.keys[1])
    (blob,) = own.call("HKEYS", segment._requests.keys[3])
    stated = rows("variable")
    assert {field.strip("`").encode() for _, field, _, _ in stated} == records.keys()
    for index, field, record, charged in stated:
        index = index.strip("`") if "`" in index else int(index)
        stat = segment.stat(index)
        assert stat.size == int(charged)
        at = 0
        data = records[field.strip("`").encode()]
        for word in record.split("`")[1].split():
            expected = {"V": stat.version.to_bytes(8, "big"), "B": blob}.get(word)
            if word == "D":
                assert int.from_bytes(data[at : at + 8], "big") == int(
                    own.call("ZSCORE", segment._requests.keys[2], field[1:-1])
                )
                at += 8
                continue
            expected = bytes.fromhex(word) if expected is None else expected
            assert data[at : at + len(expected)] == expected, (index, word)
            at += len(expected)
        assert at == len(data)
    assert sum(int(charged) for *_, charged in stated) == segment.info().used


def test_the_program_reads_what_the_package_has_stored(example, tmp_path):
    own, segment = example
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, str(program), f"unix://{own.socket}", "sdemo"],
        capture_output=True,
        text=True,
        timeout=60 * machine.SLOWER,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    stated = re.search(r"it prints, in some order:\n\n((?:    .*\n)+)", TEXT)[1]
    assert sorted(done.stdout.splitlines()) == sorted(line.strip() for line in stated.splitlines())
    assert len(segment) == len(done.stdout.splitlines())
