"""`shmvar show`: which variables it lists, in which order, and how many."""

import json

import pytest

from shmvar.cli import listing, printing
from shmvar.cli import main as cli


@pytest.fixture
def shown(seg, key, capsys):
    """Fills a segment; returns the indexes that `show` lists with these options, which are the same in both forms."""
    for number, index in enumerate(["user:b", 10, "user:a", -3, "5", "users"]):
        seg.put(index, "x" * number * 100, ttl={1: 500, 2: 100, 3: 900}.get(number))

    def run(*options):
        assert cli.main(["show", key, *options, "--json"]) == 0
        found = [row["index"] for row in json.loads(capsys.readouterr().out)]
        assert cli.main(["show", key, *options]) == 0
        assert [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()[1:]] == list(map(repr, found))
        return found

    return run


def test_it_sorts(shown):
    assert shown() == shown("--sort", "index") == [-3, 10, "5", "user:a", "user:b", "users"]
    assert shown("--sort", "size") == ["users", "5", -3, "user:a", 10, "user:b"]
    assert shown("--sort", "expires") == ["user:a", 10, -3, "5", "user:b", "users"]
    assert shown("--sort", "size", "--reverse") == shown("--sort", "size")[::-1]
    assert shown("--reverse") == shown()[::-1]


def test_it_filters_and_limits(shown):
    assert shown("--prefix", "user:") == ["user:a", "user:b"]
    assert shown("--prefix", "5") == ["5"] and shown("--prefix=") == ["5", "user:a", "user:b", "users"]
    assert shown("--prefix", "none") == []
    assert shown("--limit", "2") == [-3, 10] and shown("--limit", "100") == shown()
    assert shown("--sort", "size", "--limit", "1") == ["users"]
    assert shown("--prefix", "user", "--sort", "size", "--reverse", "--limit", "2") == ["user:b", "user:a"]


def test_on_a_terminal_it_says_that_there_are_more(shown, key, capsys, monkeypatch):
    monkeypatch.setattr(printing, "on_terminal", lambda: True)
    for options, last in ((["--limit", "2"], "… 4 more"), (["--limit", "2", "--prefix", "user"], "… 1 more")):
        assert cli.main(["show", key, *options]) == 0
        assert capsys.readouterr().out.splitlines()[-1].strip() == last
    for options in ([], ["--limit", "6"], ["--prefix", "none", "--limit", "1"]):
        assert cli.main(["show", key, *options]) == 0
        assert "more" not in capsys.readouterr().out


@pytest.mark.parametrize("wrong", [["--limit", "0"], ["--limit", "x"], ["--sort", "version"], ["--sort", ""]], ids=str)
def test_wrong_options_are_a_matter_of_usage(shown, key, capsys, wrong):
    with pytest.raises(SystemExit) as ended:
        cli.main(["show", key, *wrong])
    said = capsys.readouterr().err
    assert ended.value.code == 2 and wrong[0] in said and "command" not in said.splitlines()[-1]


@pytest.mark.parametrize("how", ["index", "size", "expires"])
def test_what_vanishes_meanwhile_is_left_out(seg, key, capsys, monkeypatch, how):
    seg.update(dict.fromkeys(range(5), 1))
    by_index = listing._by_index

    def removes(indexes):
        found = by_index(indexes)
        seg.remove(3)
        return found

    monkeypatch.setattr(listing, "_by_index", removes)
    assert cli.main(["show", key, "--sort", how, "--json"]) == 0
    assert [row["index"] for row in json.loads(capsys.readouterr().out)] == [0, 1, 2, 4]
