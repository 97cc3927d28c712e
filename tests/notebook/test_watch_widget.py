"""The widget of `watch`: what it takes, when it follows, what it leaves behind. The test plays the browser."""

import asyncio
import gc
import os
import threading
import weakref

import helpers
import pytest

import shmvar
import shmvar.notebook

anywidget = pytest.importorskip("anywidget", reason="anywidget is not installed")
import ipywidgets  # noqa: E402 - it comes with anywidget

from shmvar.notebook import _front_end, _widget  # noqa: E402

NAMES = ("shmvar-watch", "shmvar-show")


def threads():
    return [thread for thread in threading.enumerate() if thread.name in NAMES]


@pytest.fixture(autouse=True)
def no_thread_is_left():
    assert not threads()
    yield
    ipywidgets.Widget.close_all()
    helpers.until(lambda: not threads(), what="the end of the threads")


@pytest.fixture
def kernel(monkeypatch):
    """The program takes itself for one in a kernel."""
    monkeypatch.setattr(_front_end, "shell", lambda: object())


def say(widget, **message):
    """What a browser sends."""
    widget.comm.handle_msg({"content": {"data": {"method": "custom", "content": message}}, "buffers": []})


def shown(widget):
    return {row["whole"]: row["text"] for row in widget.picture.get("rows", ())}


def test_nothing_runs_before_it_is_displayed_in_a_notebook(seg):
    seg["a"] = 1
    widget = shmvar.notebook.watch(seg)
    assert repr(widget).splitlines()[0].startswith(f"shmvar {seg.key!r}: 1 variable,")
    bundle, _ = widget._repr_mimebundle_()
    assert bundle["text/plain"] == repr(widget) and not threads()


def test_displayed_it_follows_at_once_and_needs_no_word_of_the_browser(seg, kernel):
    seg["a"] = 1
    widget = shmvar.notebook.watch(seg)
    bundle, _ = widget._repr_mimebundle_()
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == widget.model_id
    helpers.until(lambda: shown(widget) == {"'a'": "1"})
    seg["a"] = 2
    helpers.until(lambda: shown(widget) == {"'a'": "2"})
    assert len(threads()) == 2


def test_it_ends_with_its_last_view_and_begins_again_with_a_new_one(seg, kernel):
    widget = shmvar.notebook.watch(seg)
    widget._repr_mimebundle_()
    say(widget, kind="view", view="one", visible=True)
    say(widget, kind="view", view="two", visible=False)
    say(widget, kind="gone", view="one")
    assert len(threads()) == 2
    say(widget, kind="gone", view="two")
    helpers.until(lambda: not threads())
    seg["a"] = "meanwhile"
    say(widget, kind="view", view="three", visible=True)
    helpers.until(lambda: shown(widget) == {"'a'": "'meanwhile'"})
    assert len(threads()) == 2


def test_hidden_it_sends_nothing_and_seen_again_it_catches_up(seg, kernel):
    seg["a"] = 1
    widget = shmvar.notebook.watch(seg)
    widget._repr_mimebundle_()
    helpers.until(lambda: shown(widget))
    say(widget, kind="view", view="one", visible=False)
    sent = []
    widget.observe(sent.append, "picture")
    for _ in range(100):
        seg.add("a")
    assert not sent
    say(widget, kind="view", view="one", visible=True)
    helpers.until(lambda: shown(widget) == {"'a'": "101"})


def test_displayed_twice_it_follows_once(seg, kernel):
    widget = shmvar.notebook.watch(seg)
    widget._repr_mimebundle_()
    widget._repr_mimebundle_()
    say(widget, kind="view", view="one", visible=True)
    say(widget, kind="view", view="two", visible=True)
    assert len(threads()) == 2


@pytest.mark.parametrize("end", ["close", "comm"])
def test_closed_it_ends(seg, kernel, end):
    widget = shmvar.notebook.watch(seg)
    widget._repr_mimebundle_()
    assert len(threads()) == 2
    widget.close() if end == "close" else widget.comm.handle_close({})
    helpers.until(lambda: not threads())
    if end == "close":
        widget.close()


def test_forgotten_it_ends(seg, kernel):
    widget = shmvar.notebook.watch(seg)
    widget._repr_mimebundle_()
    # These two keep every widget until it is closed.
    ipywidgets.widgets.widget._instances.pop(widget.model_id)
    widget.comm.on_msg(None)
    weak = weakref.ref(widget)
    del widget
    helpers.until(lambda: gc.collect() is not None and weak() is None)
    helpers.until(lambda: not threads())


def test_many_widgets_of_one_segment_and_none_is_left(seg, kernel):
    widgets = [shmvar.notebook.watch(seg) for _ in range(8)]
    for widget in widgets:
        widget._repr_mimebundle_()
    seg["a"] = 1
    helpers.until(lambda: all(shown(widget) == {"'a'": "1"} for widget in widgets))
    assert len(threads()) == 16


def test_a_forked_child_neither_sends_nor_stops(seg, kernel):
    widget = shmvar.notebook.watch(seg)
    widget._repr_mimebundle_()

    def child():
        say(widget, kind="view", view="one", visible=True)
        say(widget, kind="gone", view="one")
        widget.close()

    helpers.in_child(child)
    seg["a"] = 1
    helpers.until(lambda: shown(widget) == {"'a'": "1"})


def test_a_destroyed_segment_ends_it_and_the_text_says_so(key, kernel):
    segment = shmvar.attach(key)
    widget = shmvar.notebook.watch(segment)
    widget._repr_mimebundle_()
    helpers.until(lambda: widget.picture)
    segment.destroy()
    helpers.until(lambda: widget.picture["state"] == "ended")
    helpers.until(lambda: not threads())
    assert widget.picture["why"] == "the segment was destroyed"
    say(widget, kind="view", view="one", visible=True)  # a new view of it
    helpers.until(lambda: not threads())
    head, why, *_ = repr(widget).splitlines()
    assert head.startswith(f"shmvar {key!r}: ") and why.startswith("the segment was destroyed: ")
    segment.detach()
    assert repr(widget) == "<shmvar.notebook.watch: the handle was detached>"


def test_the_text_of_a_segment_that_another_handle_destroyed_says_so(new_key, kernel):
    key = new_key()
    with shmvar.attach(key) as segment:
        segment["a"] = 1
        widget = shmvar.notebook.watch(segment, ["a"])
        assert "destroyed" not in repr(widget)
        shmvar.destroy(key)
        said = widget._repr_mimebundle_()[0]["text/plain"]
        assert "the segment was destroyed: " in said and "'a'" in said
    widget.close()


def test_a_page_that_vanished_without_a_word_is_asked_for_when_another_goes(seg, kernel, monkeypatch):
    monkeypatch.setattr(_widget, "ANSWER_WITHIN", 0.1)
    monkeypatch.setattr(_widget, "_LATE", 0.1)

    async def main():
        widget = shmvar.notebook.watch(seg)
        widget._repr_mimebundle_()
        for view in ("vanished", "closed", "open"):
            say(widget, kind="view", view=view, visible=True)
        say(widget, kind="gone", view="closed")
        while not widget.picture.get("asked"):
            await asyncio.sleep(0.01)
        say(widget, kind="view", view="open", visible=True)  # the answer
        while "vanished" in widget._views._views:
            await asyncio.sleep(0.01)
        # On a slow machine the answer may come late: then it stops for an instant, and begins anew with other threads.
        while widget.picture["state"] != "live" or len(threads()) != 2:
            await asyncio.sleep(0.01)
        say(widget, kind="view", view="vanished too", visible=True)
        say(widget, kind="gone", view="open")
        while widget.picture["state"] != "paused":
            await asyncio.sleep(0.01)
        while threads():
            await asyncio.sleep(0.01)
        say(widget, kind="view", view="came back", visible=True)
        while widget.picture["state"] != "live" or len(threads()) != 2:
            await asyncio.sleep(0.01)

    asyncio.run(main())


def test_what_a_browser_sends_may_be_anything(seg, kernel):
    widget = shmvar.notebook.watch(seg)
    for message in ({}, {"view": 5}, {"view": "x" * 10_000, "kind": "view"}, {"kind": ["gone"], "view": "a"}):
        say(widget, **message)
    for content in (None, [], "view", 3):
        widget.comm.handle_msg({"content": {"data": {"method": "custom", "content": content}}, "buffers": []})
    say(widget, kind="gone", view="never there")


def test_two_segments_are_two_tables(seg, new_key, kernel):
    other = shmvar.attach(new_key())
    seg["a"], other["b"] = 1, 2
    one, two = shmvar.notebook.watch(seg), shmvar.notebook.watch(other)
    one._repr_mimebundle_()
    two._repr_mimebundle_()
    helpers.until(lambda: shown(one) == {"'a'": "1"} and shown(two) == {"'b'": "2"})
    two.close()
    other.detach()


def test_wrong_arguments_are_refused(seg):
    for wrong in (None, 4711, "key", {}, shmvar):
        with pytest.raises(TypeError, match="segment must be a segment"):
            shmvar.notebook.watch(wrong)
    with pytest.raises(TypeError, match="indices is a str"):
        shmvar.notebook.watch(seg, "abc")
    with pytest.raises(TypeError):
        shmvar.notebook.watch(seg, [1.5])
    with pytest.raises(OverflowError):
        shmvar.notebook.watch(seg, [1 << 70])
    for rows in (0, -1, 1001):
        with pytest.raises(ValueError, match="rows must be"):
            shmvar.notebook.watch(seg, rows=rows)
    for rows in ("many", 2.0, None):
        with pytest.raises(TypeError, match="rows must be an int, not "):
            shmvar.notebook.watch(seg, rows=rows)
    with pytest.raises(TypeError, match="indices must be a list of indexes, or None, not int"):
        shmvar.notebook.watch(seg, 5)
    seg.detach()
    with pytest.raises(shmvar.DetachedError):
        shmvar.notebook.watch(seg, [1])


def test_nothing_that_it_shows_is_fetched_from_anywhere():
    folder = os.path.dirname(shmvar.notebook.__file__)
    for name in ("widget.js", "widget.css"):
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            text = file.read().replace("http://www.w3.org/2000/svg", "")
        for word in ("http:", "https:", "import ", "@import", "url(", "innerHTML", "insertAdjacentHTML", "eval("):
            assert word not in text, f"{word} in {name}"
