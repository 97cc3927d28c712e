"""What errors advise on the command line can be typed there, and helps."""

import collections
import pathlib

import helpers
import pytest

import shmvar
from shmvar.cli import main, remedies


@pytest.mark.skipif(not helpers.IS_ROOT, reason="needs root, for another user")
def test_a_shared_segment_of_another_user_is_written_to_with_perm(new_key):
    drop = "from shmvar.cli import main\nimport ast, difflib\nmain.commands()\n"
    drop += helpers.as_user()["drop"]
    with shmvar.attach(new_key(), perm=0o666) as segment:
        code = "sys.exit(main.main(['put', *sys.argv[1:]]))"
        done = helpers.run(code, segment.key, "i", 1, drop=drop, check=False)
        assert done.returncode == 1 and done.stderr.rstrip().endswith("to share it, say so: --perm 666"), done.stderr
        assert "create=" not in done.stderr and segment == {}
        helpers.run(code, segment.key, "i", 1, "--perm", "666", drop=drop)
        assert segment == {"i": 1}


def test_a_value_that_needs_trust_is_read_as_the_error_says(seg, key, capsys):
    seg["i"] = collections.Counter("a"), pathlib.Path
    assert main.main(["get", key, "i"]) == 1
    said = capsys.readouterr().err
    remedy = "or --trust, if you trust all who may write to it: they can run code in your process"
    assert said.rstrip().endswith(remedy) and "trust=" not in said
    assert main.main(["get", key, "i", "--trust"]) == 0 and "Counter" in capsys.readouterr().out


def test_other_texts_stay_as_they_are():
    text = "no segment of key 5, and a larger size is not what helps; Remedy: a str"
    assert remedies.in_words(text) == text
