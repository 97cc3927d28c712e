"""Who looks at a widget, from what browsers say and what they do not say: without a browser."""

import asyncio

import pytest

from shmvar.notebook._views import ASK_AFTER, MOST, Views


def test_views_come_are_hidden_and_go():
    views = Views(0.0)
    assert views.are_visible and not views.are_none  # displayed, and a view is to come
    views.heard("one", True, 1.0)
    views.heard("two", False, 1.0)
    assert views.are_visible
    views.heard("one", False, 2.0)
    assert not views.are_visible and not views.are_none
    views.expect(3.0)
    assert views.are_visible
    views.heard("three", False, 4.0)
    assert not views.are_visible
    for view in ("one", "one", "never there", "two", "three"):
        views.gone(view)
    assert views.are_none


def test_pages_that_vanish_without_a_word_are_not_remembered_for_ever():
    views = Views(0.0)
    for number in range(10 * MOST):
        views.heard(str(number), True, 1.0)
    assert len(views._views) == MOST


def test_views_that_answer_are_asked_from_time_to_time_and_stay():
    views = Views(0.0)
    for now in range(1, int(20 * ASK_AFTER)):
        asked = views.asked
        if views.ask(float(now)):
            assert views.asked == asked + 1
            views.heard("one", True, now + 0.1)
            views.forget(float(now))
            assert not views.are_none
    assert 15 < views.asked <= 20


def test_views_that_do_not_answer_are_forgotten_and_may_come_back():
    views = Views(0.0)
    views.heard("here", True, 0.0)
    views.heard("away", True, 0.0)
    assert not views.ask(ASK_AFTER - 1)
    assert views.ask(ASK_AFTER)
    assert not views.ask(ASK_AFTER + 1)  # not with each picture
    views.heard("here", False, ASK_AFTER + 2)
    views.forget(ASK_AFTER)
    assert not views.are_visible and not views.are_none
    assert views.ask(ASK_AFTER + 3, at_once=True)
    views.forget(ASK_AFTER + 3)
    assert views.are_none and not views.ask(1000.0)
    views.heard("away", True, 1001.0)
    assert views.are_visible


def test_answers_are_missed_only_by_an_event_loop_that_was_free_to_hear_them(monkeypatch):
    widgets = pytest.importorskip("shmvar.notebook._widget", reason="anywidget is not installed")
    monkeypatch.setattr(widgets, "_LATE", 0.05)
    forgotten = []

    async def main():
        loop = asyncio.get_running_loop()
        widgets._look_for_answers(loop, forgotten.append, 7.0, 0.1)
        end = loop.time() + 0.3
        while loop.time() < end:  # a cell runs
            pass
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not forgotten
        while not forgotten:
            await asyncio.sleep(0.01)

    asyncio.run(main())
    assert forgotten == [7.0]
