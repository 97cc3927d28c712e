"""Copies between segments of this machine and on a server, and the command line with URLs."""

import itertools
import json
import os

import numpy
import pytest

import shmvar
from shmvar.cli import main

VALUES = {
    "int": 5,
    "long": -(10**700),
    "float": 0.5,
    "text": "x" * 300,
    "large": b"y" * 9_000_000,
    "array": numpy.arange(50_000, dtype="f4"),
    "many": {"a": [numpy.ones(9_000)], "b": bytearray(b"z" * 40_000)},
    7: None,
}
LOCAL = itertools.count(1)


@pytest.fixture
def ends(new_key):
    """Two segments of each kind."""
    keys = [f"copying-{os.getpid()}-{next(LOCAL)}" for _ in range(2)]
    yield {"local": keys, "remote": [new_key(), new_key()]}
    for key in keys:
        shmvar.destroy(key)


@pytest.mark.parametrize("from_", ["local", "remote"])
@pytest.mark.parametrize("to", ["local", "remote"])
def test_values_and_their_time_to_live_are_copied_as_they_are(ends, from_, to):
    source, target = shmvar.attach(ends[from_][0]), shmvar.attach(ends[to][1])
    source.put_many(VALUES)
    source.put("ttl", [1], ttl=1000)
    target["int"] = "old"
    assert shmvar.copy(source, target) == len(VALUES) + 1 == len(target)
    for index, value in VALUES.items():
        numpy.testing.assert_equal(target[index], value)
    assert 900 < target.stat("ttl").expires_in <= 1000 and target.stat("int").expires_in is None
    assert target.add("int") == 6 and target.add("float") == 1.5
    target.clear()
    assert shmvar.copy(source, target, ["text", "missing", 7]) == 2 and set(target) == {"text", 7}
    with pytest.raises(TypeError, match="one index"):
        shmvar.copy(source, target, "text")
    source.detach(), target.detach()


def test_a_dump_of_either_loads_into_either(ends, tmp_path):
    dumps = [str(tmp_path / name) for name in ("local", "remote")]
    for kind, file in zip(ends, dumps, strict=True):
        with shmvar.attach(ends[kind][0]) as segment:
            segment.put_many(VALUES)
            segment.put("ttl", "x", ttl=1000)
        assert main.main(["dump", ends[kind][0], file]) == 0
    for kind, file in zip(ends, reversed(dumps), strict=True):
        assert main.main(["load", ends[kind][1], file]) == 0
        with shmvar.attach(ends[kind][1]) as segment:
            assert set(segment) == {*VALUES, "ttl"} and segment.stat("ttl").expires_in > 900
            numpy.testing.assert_equal(segment["many"], VALUES["many"])


def test_arrays_queues_and_what_does_not_fit_in_dumps_of_either(ends, tmp_path):
    path = tmp_path / "dump"
    large = {"array": numpy.arange(70_000), "several": [numpy.ones(20_000), b"x" * 40_000], "text": "x" * 50_000}
    for kind, other in (("local", "remote"), ("remote", "local"), ("remote", "remote")):
        with shmvar.attach(ends[kind][0]) as segment, shmvar.attach(ends[other][1]) as target:
            segment.put_many(large)
            if kind == "local":
                segment.array("field", 5, "i8")[:] = 7
            for item in (1, b"2" * 30_000, numpy.arange(9_000)):
                segment.queue("jobs").put(item)
            assert segment.dump(path) == len(segment)
            assert target.load(path) == len(segment) == len(target)
            for index in segment:
                numpy.testing.assert_equal(target[index], segment[index])
            assert [target.queue("jobs").get_nowait() for _ in range(2)] == [1, b"2" * 30_000]
            assert target.queue("jobs").get_nowait().sum() == numpy.arange(9_000).sum()
            target.clear(), segment.clear(), segment.queue("jobs").clear()
            with open(path, "r+b") as file:
                file.seek(100)
                file.write(b"?")
            with pytest.raises(shmvar.DumpError):
                target.load(path)
            assert len(target) == 0


def test_a_load_on_a_server_says_how_far_it_came(ends, tmp_path):
    with shmvar.attach(ends["local"][0]) as segment:
        segment.update({number: b"x" * 100_000 for number in range(30)})
        segment.dump(tmp_path / "dump")
    with shmvar.attach(ends["remote"][1], 1_000_000) as target:
        with pytest.raises(shmvar.SegmentFullError, match="of 30 variables and items were loaded") as caught:
            target.load(tmp_path / "dump")
        assert 0 < len(target) < 30 and str(caught.value).startswith(f"{len(target)} of")


def test_the_command_line_takes_urls(server, key, capsys):
    def run(*words):
        status = main.main([*words])
        return status, capsys.readouterr()

    assert run("put", key, "a", "[1, 2]")[0] == 0 and shmvar.attach(key)["a"] == [1, 2]
    assert run("put", key, "5", "text", "--ttl", "1000")[0] == 0
    status, said = run("get", key, "a")
    assert status == 0 and said.out == "[1, 2]\n"
    assert run("has", key, "a")[0] == 0 and run("has", key, "b")[0] == 1
    status, said = run("show", key, "--json")
    assert status == 0 and {row["index"] for row in json.loads(said.out)} == {"a", 5}
    status, said = run("info", key, "--json")
    assert status == 0 and json.loads(said.out)["count"] == 2
    status, said = run("ls", server.url(), "--json")
    assert status == 0 and key.partition("#")[2] in {info["key"] for info in json.loads(said.out)}
    assert run("remove", key, "a")[0] == 0 and run("remove", key)[0] == 0 and run("get", key, "a")[0] == 1
    status, said = run("get", "valkey://127.0.0.1:1/#x", "a")
    assert status == 1 and "cannot be reached" in said.err
    status, said = run("get", "valkey://127.0.0.1:1/?no=1#x", "a")
    assert status in (1, 2) and "no option no" in said.err
    status, said = run("ls", "somewhere")
    assert status in (1, 2) and "URL" in said.err


def test_values_go_between_php_and_a_server(new_key, php_key):
    from shmvar import php

    values = {1: {"text": "é", "bytes": b"\xff"}, -2: [1, 2.5, None], 3: "x" * 100_000}
    with shmvar.attach(new_key()) as remote, php.attach(php_key, 1 << 20) as segment:
        remote.put_many(values)
        assert shmvar.copy(remote, segment) == 3 and dict(segment) == values
        remote.clear()
        segment[4] = php.PhpObject("Point", {"x": 1})
        assert shmvar.copy(segment, remote) == 4 and remote.get_many([1, -2, 3]) == values
        # Nothing on a server is trusted: an object comes back where somebody says so.
        with pytest.raises(shmvar.UntrustedValueError, match=r"variable 4 .*trust=True"):
            shmvar.copy(remote, segment, [4])
        with shmvar.attach(remote.url, create=False, trust=True) as trusting:
            segment.clear()
            assert shmvar.copy(trusting, segment, [4]) == 1 and segment[4] == php.PhpObject("Point", {"x": 1})
        remote["text"] = 1
        with pytest.raises(shmvar.UnsupportedError, match=r"'text'.*nothing was copied"):
            shmvar.copy(remote, segment)
        segment.destroy()
