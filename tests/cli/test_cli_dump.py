"""`shmvar show`, `dump` and `load`: values as they are stored, and a damaged dump loads nothing."""

import array
import hashlib
import json
import os
import pickle
import subprocess
import sys
import time

import helpers
import pytest

import shmvar
from shmvar.cli import main as cli

VALUES = {
    0: None, 1: -1, -(2**63): True, 2: 1.5, 3: "text\n", 4: [1, {"a": (2, 3)}], 5: b"x" * 70_000, 6: bytearray(9000),
    7: {1, 2}, 8: 2**200, "": "empty index", "é\n": 3 + 4j, "long" * 200: frozenset([1]), 9: [], 10: "\ud800",
}  # fmt: skip


class Evil:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("/dev/shm/shmvar-was-run",)


def shm(*args, stdin=None, check=True):
    """The command line, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "shmvar", *map(str, args)], input=stdin, capture_output=True, timeout=60, check=False
    )
    assert not check or done.returncode == 0, done.stderr
    return done


@pytest.fixture
def filled(seg):
    seg.update(VALUES)
    return seg


@pytest.fixture
def dumped(filled, key, tmp_path):
    path = tmp_path / "dump"
    assert cli.main(["dump", key, str(path)]) == 0
    return path


def test_a_dump_holds_every_value_and_a_load_brings_it_back(filled, dumped, new_key, key):
    again = new_key()
    assert cli.main(["load", again, str(dumped)]) == 0
    with shmvar.attach(again, create=False) as loaded:
        assert dict(loaded) == VALUES and {type(loaded[i]) for i in VALUES} == {type(v) for v in VALUES.values()}
        loaded.check()
    assert os.stat(dumped).st_mode & 0o777 == 0o600, "values may be private"
    filled[1] = "changed"
    filled["new"] = "stays"
    assert cli.main(["load", key, str(dumped)]) == 0
    assert dict(filled) == VALUES | {"new": "stays"}


def test_the_format_is_as_the_guide_says(seg, key, tmp_path):
    seg.update({"b": 7, 1: "x"})
    path = tmp_path / "dump"
    assert cli.main(["dump", key, str(path)]) == 0
    head = b"shmvar dump 2\n"
    values = [b'{"index": 1, "length": 6}\n\x80\x04\x8c\x01x.\n', b'{"index": "b", "length": 5}\n\x80\x04K\x07.\n']
    dumps = []
    for body in (head + values[0] + values[1], head + values[1] + values[0]):  # in no particular order
        end = {"variables": 2, "items": 0, "sha256": hashlib.sha256(body).hexdigest()}
        dumps.append(body + json.dumps(end).encode() + b"\n")
    assert path.read_bytes() in dumps


def test_what_has_a_time_to_live_has_the_rest_of_it_after_a_load(seg, key, new_key, tmp_path):
    seg.put("soon", b"s" * 70_000, ttl=500)
    seg.put(1, 1, ttl=1000)
    seg[2] = "stays"
    seg.put("gone", 0, ttl=0.01)
    again, path = new_key(), str(tmp_path / "dump")
    time.sleep(0.02)
    assert cli.main(["dump", key, path]) == 0 and cli.main(["load", again, path]) == 0
    with shmvar.attach(again, create=False) as loaded:
        assert dict(loaded) == {"soon": b"s" * 70_000, 1: 1, 2: "stays"}
        assert 490 < loaded.stat("soon").expires_in < 500 < 990 < loaded.stat(1).expires_in < 1000
        assert loaded.stat(2).expires_in is None
        loaded.put(2, "ends", ttl=1)
        assert cli.main(["load", again, path]) == 0 and loaded.stat(2).expires_in is None
        loaded.check()


def test_dump_and_load_go_through_pipes(filled, key, new_key):
    done = shm("dump", key, "-")
    again = new_key()
    assert shm("load", again, "-", "--size", "8M", "--perm", "640", stdin=done.stdout).stdout == b""
    with shmvar.attach(again, create=False) as loaded:
        assert dict(loaded) == VALUES and loaded.size == 8 << 20 and loaded.info().perm == 0o640


def test_arrays_and_objects_are_moved_without_running_their_code(seg, key, new_key, tmp_path):
    numpy = pytest.importorskip("numpy")
    seg[1] = numpy.arange(100_000).reshape(100, 1000)
    seg[2] = array.array("d", range(5000))
    seg[3] = memoryview(b"m" * 20_000)
    seg[4] = Evil()
    again, path = new_key(), str(tmp_path / "dump")
    assert cli.main(["dump", key, path]) == 0 and cli.main(["load", again, path]) == 0
    assert not os.path.exists("/dev/shm/shmvar-was-run")
    with shmvar.attach(again, create=False) as loaded:
        assert (loaded[1] == seg[1]).all() and loaded[1].dtype == seg[1].dtype and loaded[1].shape == (100, 1000)
        assert loaded[2] == seg[2] and bytes(loaded[3]) == bytes(seg[3])
        assert loaded.stat(4).type == seg.stat(4).type == "posix.mkdir"
        loaded.check()


def test_f31_no_cut_of_a_dump_and_no_changed_byte_loads_anything(seg, key, new_key, tmp_path, capsys):
    seg.update({1: "one", "two": [2] * 40, 3: b"3" * 300})
    path, damaged = tmp_path / "dump", tmp_path / "damaged"
    assert cli.main(["dump", key, str(path)]) == 0
    sound = path.read_bytes()
    again = new_key()
    attempts = [sound[:cut] for cut in range(0, len(sound), 7)] + [sound[:-1], sound + b"x", sound + sound]
    attempts += [sound[:at] + bytes([sound[at] ^ 1]) + sound[at + 1 :] for at in range(0, len(sound), 3)]
    for data in attempts:
        damaged.write_bytes(data)
        assert cli.main(["load", again, str(damaged)]) == 1, data
        said = capsys.readouterr().err
        assert said.startswith("shmvar: ") and "nothing was loaded" in said and said.count("\n") == 1
    assert not shmvar.exists(again)


@pytest.mark.parametrize(
    "line",
    [
        b'{"index": 1.5, "length": 2, "expires_in": null}',
        b'{"index": true, "length": 2, "expires_in": null}',
        b'{"index": 9223372036854775808, "length": 2, "expires_in": null}',
        b'{"index": 1, "length": -2, "expires_in": null}',
        b'{"index": 1, "length": 999999999999999, "expires_in": null}',
        b'{"index": 1, "length": 2, "expires_in": -1}',
        b'{"index": 1, "length": 2, "expires_in": 1e999}',
        b'{"index": 1, "length": 2, "expires_in": NaN}',
        b'{"index": 1, "length": 2, "expires_in": 1' + b"0" * 400 + b"}",
        b'{"index": 1, "length": 2}',
        b'{"index": 1, "length": 2, "expires_in": null, "more": 1}',
        b"[1, 2]",
        b"[" * 9000,
        b'{"index": "' + b"x" * 20_000,
    ],
)
def test_a_forged_dump_with_a_right_check_sum_is_refused(line, new_key, tmp_path, capsys):
    body = b"shmvar dump 1\n" + line + b"\nN.\n"
    end = {"variables": 1, "sha256": hashlib.sha256(body).hexdigest()}
    path = tmp_path / "forged"
    path.write_bytes(body + json.dumps(end).encode() + b"\n")
    key = new_key()
    assert cli.main(["load", key, str(path)]) == 1 and not shmvar.exists(key)
    assert "nothing was loaded" in capsys.readouterr().err


@pytest.mark.parametrize("pickle", [b"no pickle", b"N", b"NN", b"N.N.", b"\x80\x09N.", b"\x80\x05\x97.", b"Px\n."])
def test_what_is_not_one_pickle_is_not_stored(pickle, seg, new_key, tmp_path, capsys):
    body = b'shmvar dump 1\n{"index": 1, "length": %d, "expires_in": null}\n%b\n' % (len(pickle), pickle)
    end = {"variables": 1, "sha256": hashlib.sha256(body).hexdigest()}
    path = tmp_path / "forged"
    path.write_bytes(body + json.dumps(end).encode() + b"\n")
    key = new_key()
    assert cli.main(["load", key, str(path)]) == 1 and not shmvar.exists(key)
    assert "variable 1" in capsys.readouterr().err
    with pytest.raises(ValueError):
        shmvar._core._put_pickle(seg, 1, pickle)
    assert 1 not in seg


def test_f36_a_load_that_does_not_fit_changes_nothing(dumped, new_key, capsys):
    key = new_key()
    assert cli.main(["load", key, str(dumped), "--size", "20000"]) == 1
    said = capsys.readouterr().err
    assert key in said and "does not fit" in said and said.endswith("nothing was loaded\n")
    assert not shmvar.exists(key)


def test_a_dump_of_a_damaged_value_names_it_and_leaves_no_file(seg, key, tmp_path, capsys):
    seg[5] = "x" * 100
    with helpers.Raw(seg) as raw:
        at, _ = raw.record(5)
        raw.write(at + 90, b"\xff" * 14)
        raw.write(at, b"\x80\x05\x8c\xff")
    path = tmp_path / "dump"
    path.write_bytes(b"an older one")
    assert cli.main(["dump", key, str(path)]) == 1
    assert "variable 5 is damaged" in capsys.readouterr().err
    assert path.read_bytes() == b"an older one" and os.listdir(tmp_path) == ["dump"]


def test_dump_and_load_say_what_is_missing(new_key, tmp_path, capsys):
    assert cli.main(["dump", new_key(), str(tmp_path / "none")]) == 1
    assert cli.main(["load", new_key(), str(tmp_path / "none")]) == 1
    assert cli.main(["show", new_key()]) == 1
    assert capsys.readouterr().err.count("\n") == 3 and not os.listdir(tmp_path)


# --- show


def shown(key, capsys, *options):
    assert cli.main(["show", key, *options]) == 0
    return capsys.readouterr().out


def test_show_lists_each_variable_with_what_stat_says(filled, key, capsys):
    found = {row["index"]: row for row in json.loads(shown(key, capsys, "--json"))}
    assert found.keys() == VALUES.keys()
    for index, row in found.items():
        stat = filled.stat(index)._asdict()
        assert {name: row[name] for name in stat} == stat and row["error"] is None
    assert (found[1]["repr"], found[0]["repr"], found[3]["repr"]) == ("-1", "None", r"'text\n'")
    assert found[4]["repr"] == "[1, {'a': (2, 3)}]" and found[5]["repr"] is None, "too large to be read for this"
    lines = shown(key, capsys).splitlines()
    assert lines[0].split("\t") == ["INDEX", "TYPE", "SIZE", "VERSION", "EXPIRES", "VALUE"]
    assert len(lines) == 1 + len(VALUES) and all(line.count("\t") == 5 for line in lines)
    assert [line.split("\t")[0] for line in lines[1:4]] == [repr(-(2**63)), "0", "1"]


def test_show_says_dtype_and_shape_of_what_is_in_place(seg, key, capsys):
    np = pytest.importorskip("numpy")
    for dtype in ("<f4", ">i8", "|b1", "|u1", "<c16", "<U5", "|S3"):
        seg.array(dtype, (3, 0, 70_000), dtype, order="F")
    seg.array("record", 2, [("a", "f4"), ("b", "U3")])
    seg.array("none", ())
    seg.array("large", 300_000, "i2")
    seg.buffer("raw", 1000)
    rows = {row["index"]: row for row in json.loads(shown(key, capsys, "--json"))}
    for dtype in ("<f4", ">i8", "|b1", "|u1", "<c16", "<U5", "|S3"):
        assert rows[dtype]["in_place"] and (rows[dtype]["dtype"], rows[dtype]["shape"]) == (dtype, [3, 0, 70_000])
        assert np.dtype(rows[dtype]["dtype"]) == seg.array(dtype).dtype
    assert (rows["record"]["dtype"], rows["record"]["shape"]) == ("|V16", [2])
    assert (rows["none"]["dtype"], rows["none"]["shape"]) == ("<f8", [])
    assert (rows["raw"]["dtype"], rows["raw"]["shape"]) == (None, None) and rows["raw"]["in_place"]
    lines = {line.split("\t")[0]: line.split("\t")[5] for line in shown(key, capsys).splitlines()}
    assert lines["'large'"] == "in place: <i2 (300000,)" and lines["'raw'"] == "in place: bytes"


def test_show_runs_no_code_and_bears_damage(seg, key, capsys):
    seg.update({1: Evil(), 2: "\x1b[2J", 3: "x" * 100, 4: list(range(1000)), "\x1b]0;": 1})
    with helpers.Raw(seg) as raw:
        raw.write(raw.record(3)[0], b"\xff" * 90)
    text = shown(key, capsys)
    assert not os.path.exists("/dev/shm/shmvar-was-run") and "\x1b" not in text
    rows = {row["index"]: row for row in json.loads(shown(key, capsys, "--json"))}
    assert rows[1]["type"] == "posix.mkdir" and rows[1]["repr"] is None and rows[1]["error"] is None
    assert rows[3]["repr"] is None and rows[3]["error"]
    assert rows[4]["repr"].startswith("[0, 1, 2") and len(rows[4]["repr"]) <= 60
    assert dict.fromkeys(seg) and seg[2] == "\x1b[2J"


def test_show_of_an_empty_segment_is_an_empty_list(seg, key, capsys):
    assert json.loads(shown(key, capsys, "--json")) == []
    assert shown(key, capsys) == ""


def forged(path, *variables):
    """A dump with the right check sum."""
    body = b"shmvar dump 1\n"
    for index, pickled in variables:
        body += json.dumps({"index": index, "length": len(pickled), "expires_in": None}).encode() + b"\n"
        body += pickled + b"\n"
    end = {"variables": len(variables), "sha256": hashlib.sha256(body).hexdigest()}
    path.write_bytes(body + json.dumps(end).encode() + b"\n")
    return str(path)


@pytest.mark.parametrize("index", ["é" * 1024, "é" * 513, "\ud800", "x" * 1025, 2**63], ids=range(5))
def test_an_index_that_cannot_be_is_damage_and_nothing_is_loaded(index, new_key, tmp_path, capsys):
    key, value = new_key(), pickle.dumps(1)
    assert cli.main(["load", key, forged(tmp_path / "file", (1, value), (index, value))]) == 1
    assert not shmvar.exists(key) and "a line that no dump has" in capsys.readouterr().err


def test_the_longest_index_is_loaded(new_key, tmp_path):
    key = new_key()
    assert cli.main(["load", key, forged(tmp_path / "file", ("é" * 512, pickle.dumps(1)))]) == 0
    with shmvar.attach(key) as segment:
        assert dict(segment) == {"é" * 512: 1}


def test_a_dump_that_cannot_be_written_names_the_file_that_was_asked_for(seg, key, tmp_path, capsys):
    assert cli.main(["dump", key, str(tmp_path / "nowhere" / "file")]) == 1
    assert "nowhere/file" in capsys.readouterr().err and os.listdir(tmp_path) == []
