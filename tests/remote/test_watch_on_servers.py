"""The live table and the progress bar of `shmvar.notebook` on a server: what they follow and when they end."""

import contextlib
import io
import threading
import time

import helpers
import pytest

import shmvar
import shmvar.notebook
from shmvar.notebook import progress
from shmvar.notebook._follow import Following


@pytest.fixture
def segment(key):
    opened = shmvar.attach(key)
    yield opened
    opened.detach()


def shown(pictures):
    return {row["whole"]: row["text"] for row in pictures[-1]["rows"]} if pictures else None


def ends(following):
    helpers.until(lambda: not any(thread.is_alive() for thread in following.threads), 30)


def test_a_table_follows_a_segment_on_a_server(segment, key):
    segment["a"] = 1
    pictures = []
    following = Following(segment, None, 50, pictures.append)
    following.start()
    helpers.until(lambda: shown(pictures) == {"'a'": "1"})
    other = shmvar.attach(key)
    other["b"] = [2]
    other.add("a")
    helpers.until(lambda: shown(pictures) == {"'a'": "2", "'b'": "[2]"})
    del other["a"]
    helpers.until(lambda: "removed" in shown(pictures)["'a'"])
    count = len(pictures)
    time.sleep(1.0)
    assert len(pictures) == count
    following.stop()
    ends(following)
    other.detach()


def test_a_table_of_a_destroyed_segment_says_so(segment, key):
    pictures = []
    following = Following(segment, None, 50, pictures.append)
    following.start()
    helpers.until(lambda: pictures)
    shmvar.destroy(key)
    ends(following)
    assert (pictures[-1]["state"], pictures[-1]["why"]) == ("ended", "the segment was destroyed")


def test_the_widget_and_the_bar_take_a_segment_on_a_server(segment, key):
    pytest.importorskip("anywidget", reason="anywidget is not installed")
    widget = shmvar.notebook.watch(segment)
    assert "0 variables" in repr(widget)
    widget.close()
    adds = threading.Thread(target=lambda: [segment.add("done") for _ in range(30)])
    adds.start()
    out = io.StringIO()
    with contextlib.redirect_stderr(out):
        assert progress(segment, "done", 30, timeout=60) == 30
    adds.join()
    assert "100 %, 30 of 30" in out.getvalue()
    segment["done"] = "text"
    with pytest.raises(TypeError, match="is no number but of the type str"):
        progress(segment, "done", 30)
