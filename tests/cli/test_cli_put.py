"""`shmvar put`: values from stdin and from JSON; what a put that fails leaves."""

import io
import re
import sys

import pytest

import shmvar
from shmvar.cli import main as cli


@pytest.fixture
def stdin(monkeypatch):
    """Sets what the command reads from stdin."""
    return lambda data: monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"text", "text"),
        (b"text\n", "text"),
        (b"text\n\n", "text\n"),
        (b"a\r\nb\r\n", "a\r\nb\r"),
        (b"5\n", 5),
        (b"{'a': [1, None]}\n", {"a": [1, None]}),
        (b"[1,\n 2]\n", [1, 2]),
        (b"'-'", "-"),
        (b"-", "-"),
        (b"", ""),
        (b"\n", ""),
        ("é\n".encode(), "é"),
        (b"long " * 100_000, "long " * 100_000),
    ],
    ids=lambda each: repr(each)[:20],
)
def test_a_dash_is_what_stdin_says(seg, key, stdin, data, value):
    stdin(data)
    assert cli.main(["put", key, "i", "-"]) == 0
    assert seg["i"] == value and type(seg["i"]) is type(value)


def test_a_dash_in_quotes_is_a_dash(seg, key, stdin):
    stdin(b"stdin")
    for word in ("'-'", '"-"'):
        assert cli.main(["put", key, "i", word]) == 0
        assert seg.pop("i") == "-"


@pytest.mark.parametrize("json", [[], ["--json"]], ids=["literal", "json"])
def test_stdin_that_is_no_text_is_refused(seg, key, stdin, capsys, json):
    stdin(b"\xff\xfe\x00")
    assert cli.main(["put", key, "i", "-", *json]) == 1
    assert "UTF-8" in capsys.readouterr().err and len(seg) == 0


def test_a_new_segment_evicts_what_it_is_told_to(key, capsys):
    assert cli.main(["put", key, "i", "1", "--size", "64K", "--evict", "lru"]) == 0
    with shmvar.attach(key, create=False) as segment:
        assert segment.evict == "lru"
        # It belongs to the segment: none named takes it as it is, another one is refused.
        assert cli.main(["put", key, "i", "2"]) == 0 and cli.main(["put", key, "i", "3", "--evict", "ttl"]) == 2
        assert "evict='lru'" in capsys.readouterr().err and segment["i"] == 2
        for number in range(1_000):
            segment[number] = b"x" * 100
        assert cli.main(["info", key]) == 0
        said = capsys.readouterr().out
        assert re.search(r"^evict\s+lru$", said, re.M) and re.search(r"^evicted\s+[1-9]\d+$", said, re.M)
        segment.destroy()
    assert cli.main(["put", key, "i", "1"]) == 0 and cli.main(["info", key]) == 0
    assert re.search(r"^evict\s+nothing$", capsys.readouterr().out, re.M)
    shmvar.destroy(key)


def test_no_stdin_is_refused(seg, key, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", None)
    assert cli.main(["put", key, "i", "-"]) == 1
    assert "stdin" in capsys.readouterr().err and len(seg) == 0


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("null", None),
        ('{"a": [true, 1.5, "é"]}', {"a": [True, 1.5, "é"]}),
        ('"text"', "text"),
        ("5", 5),
        (" [1]\n", [1]),
        ('"\\ud83d\\ude00"', "😀"),
    ],
)
def test_json_is_read_as_json(seg, key, stdin, text, value):
    stdin(text.encode())
    for word in (text, "-"):
        assert cli.main(["put", key, "i", word, "--json"]) == 0
        assert seg["i"] == value and type(seg.pop("i")) is type(value)


@pytest.mark.parametrize("text", ["None", "{'a': 1}", "text", "", "[1,]", "NaN", "-Infinity", "[" * 100_000])
def test_what_is_no_json_is_a_matter_of_usage(new_key, stdin, capsys, text):
    key = new_key()
    stdin(text.encode())
    for word in (text, "-"):
        assert cli.main(["put", key, "i", "--json", "--", word]) == 2
        assert "JSON" in capsys.readouterr().err and not shmvar.exists(key)


def test_json_goes_from_one_segment_to_another(seg, key, stdin, capsys):
    seg["from"] = {"a": [1, 2.5, None, "text\n", True]}
    assert cli.main(["get", key, "from", "--json"]) == 0
    stdin(capsys.readouterr().out.encode())
    assert cli.main(["put", key, "to", "-", "--json"]) == 0
    assert seg["to"] == seg["from"]


# --- what a put that fails leaves

FAILS = {
    "a value that does not fit": ["i", "x" * 5000, "--size", "1000"],
    "an index out of range": ["99999999999999999999", "1"],
    "a long index": ["x" * 1025, "1"],
    "no stdin": ["i", "-"],
}


@pytest.mark.parametrize("how", FAILS)
def test_a_put_that_fails_leaves_no_new_segment(new_key, stdin, how):
    key = new_key()
    stdin(b"\xff")
    assert cli.main(["put", key, *FAILS[how]]) in (1, 2)
    assert not shmvar.exists(key)


@pytest.mark.parametrize("how", FAILS)
@pytest.mark.parametrize("there", [{}, {1: 1}], ids=["empty", "used"])
def test_a_put_that_fails_leaves_a_segment_that_was_there(new_key, stdin, how, there):
    stdin(b"\xff")
    with shmvar.attach(new_key(), 1000) as segment:
        segment.update(there)
        assert cli.main(["put", segment.key, *FAILS[how]]) in (1, 2)
        assert shmvar.exists(segment.key) and segment == there
        segment["still"] = "the same"
        with shmvar.attach(segment.key, create=False) as again:
            assert again["still"] == "the same"
        segment.destroy()


def test_a_put_that_fails_leaves_a_segment_that_another_process_found_meanwhile(new_key, monkeypatch):
    key, found = new_key(), []
    put = shmvar.Segment.put

    class Late:
        """The new segment, which somebody else attaches before the put fails."""

        def __init__(self, segment):
            self.segment = segment

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.segment.detach()

        def __getattr__(self, name):
            return getattr(self.segment, name)

        def put(self, *arguments, **options):
            found.append(shmvar.attach(key, create=False))
            found[0]["theirs"] = 1
            put(self.segment, *arguments, **options)

    attach = shmvar.attach
    monkeypatch.setattr(
        shmvar, "attach", lambda *a, **k: Late(attach(*a, **k)) if "create" not in k else attach(*a, **k)
    )
    assert cli.main(["put", key, "i", "x" * 5000, "--size", "1000"]) == 1
    assert shmvar.exists(key) and found[0].copy() == {"theirs": 1}
    found[0].destroy()
    found[0].detach()


def test_a_load_that_fails_at_once_leaves_no_new_segment(seg, key, new_key, tmp_path):
    other, file = new_key(), str(tmp_path / "dump")
    seg["i"] = "x" * 5000
    assert cli.main(["dump", key, file]) == 0
    assert cli.main(["load", other, file, "--size", "1000"]) == 1
    assert not shmvar.exists(other)


@pytest.mark.parametrize("word", ["1e400", "[-1e999]", '{"a": 1e309}'])
def test_a_number_of_json_beyond_a_float_is_not_stored_as_infinity(seg, key, capsys, word):
    assert cli.main(["put", key, "i", word, "--json"]) == 2
    assert "is beyond the largest float" in capsys.readouterr().err and len(seg) == 0
    assert cli.main(["put", key, "i", "[1e308, -0.0, 5]", "--json"]) == 0
    assert repr(seg["i"]) == "[1e+308, -0.0, 5]"


def test_a_number_of_json_beyond_a_float_is_cut_in_the_error(seg, key, capsys):
    assert cli.main(["put", key, "i", "9" * 60_000 + ".0", "--json"]) == 2
    said = capsys.readouterr().err
    assert "VALUE is JSON that Python does not read: 99999" in said and "beyond the largest float" in said
    assert len(said) < 300 and len(seg) == 0
