"""Values of classes of another process's `__main__` on a server: the reads of `test_main_classes.py`, there."""

import helpers
import pytest
from helpers.main_classes import DEFINED, READS, TRUST, shows_the_way, store

import shmvar


@pytest.fixture
def trusting(key):
    with shmvar.attach(key, trust=True) as segment:
        yield segment


@pytest.mark.parametrize("read", READS)
def test_every_read_says_what_is_missing_and_names_the_way_out(trusting, key, read):
    store(key, "{'p': VALUES['Point']}")
    with pytest.raises(AttributeError) as caught:
        READS[read](trusting, "p")
    assert type(caught.value) is AttributeError and shows_the_way(str(caught.value), "Point")
    assert trusting.stat("p").type == "__main__.Point" and len(trusting) == 1


def test_large_values_items_and_who_does_not_trust_say_so_too(trusting, key):
    code = "s = shmvar.attach(key, trust=True)\ns[1] = [bytearray(3 << 20), Point(1)]\ns.queue('jobs').put(Point(1))"
    helpers.run(DEFINED + code, key)
    for read in (trusting.get, trusting.view):
        with pytest.raises(AttributeError) as caught:
            read(1)
        assert shows_the_way(str(caught.value), "Point")
    with pytest.raises(AttributeError) as caught:
        trusting.queue("jobs").get(timeout=60)
    assert shows_the_way(str(caught.value), "Point")
    with shmvar.attach(key) as careful, pytest.raises(shmvar.UntrustedValueError, match="module that they can import"):
        careful[1]


def test_what_the_error_without_trust_advises_works(key, tmp_path):
    (tmp_path / "shapes.py").write_text("class Point:\n    x = 3\n")
    there = f"sys.path.insert(0, {str(tmp_path)!r})\n"
    helpers.run(there + "from shapes import Point\nshmvar.attach(key)['p'] = Point()", key)
    with shmvar.attach(key) as careful, pytest.raises(shmvar.UntrustedValueError) as caught:
        careful["p"]
    assert "needs shapes.Point" in str(caught.value) and str(caught.value).endswith(f"or {TRUST}")
    read = helpers.run(there + "p = shmvar.attach(key, trust=True)['p']\nprint(type(p).__module__, p.x)", key)
    assert read.stdout.split() == ["shapes", "3"]
