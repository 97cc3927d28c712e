"""Who looks at a widget, from what browsers say and what they do not say: without a browser."""

from shmvar.notebook._views import ASK_AFTER, GIVE_UP_AFTER, MOST, Views


class Loop:
    """An event loop that is free, or not."""

    def __init__(self):
        self.free = True
        self.closed = False

    def soon(self, call):
        if self.closed:
            raise RuntimeError("closed")
        if self.free:
            call()


def sends(views, begin, end, step=0.5):
    """Sends something again and again; the time at which nobody was left, or None."""
    now = begin
    while now < end:
        if views.are_lost(now):
            return now
        now += step
    return None


def test_views_come_are_hidden_and_go():
    views = Views(0.0, None)
    assert views.are_none and not views.are_visible
    views.heard("one", True, 1.0)
    views.heard("two", False, 1.0)
    assert views.are_visible
    views.heard("one", False, 2.0)
    assert not views.are_visible and not views.are_none
    views.gone("one")
    views.gone("one")
    views.gone("never there")
    views.gone("two")
    assert views.are_none


def test_pages_that_vanish_without_a_word_are_not_remembered_for_ever():
    views = Views(0.0, None)
    for number in range(10 * MOST):
        views.heard(str(number), True, 1.0)
    assert len(views._views) == MOST


def test_a_browser_that_answers_is_asked_from_time_to_time_and_never_given_up():
    loop = Loop()
    views = Views(0.0, loop.soon)
    asked, now = 0, 0.0
    while now < 20 * ASK_AFTER:
        assert not views.are_lost(now)
        if views.asked != asked:
            asked = views.asked
            views.heard("one", True, now + 0.1)
        now += 0.5
    assert 15 < asked < 21


def test_a_browser_that_does_not_answer_is_given_up():
    views = Views(0.0, Loop().soon)
    views.heard("one", True, 0.0)
    lost = sends(views, 0.0, 1000.0)
    assert lost is not None and lost >= ASK_AFTER + GIVE_UP_AFTER
    assert views.asked == 1
    views.forget()
    assert views.are_none
    views.heard("one", True, lost + 1)
    assert not views.are_lost(lost + 2)


def test_a_kernel_that_runs_a_cell_for_an_hour_gives_nobody_up():
    loop = Loop()
    views = Views(0.0, loop.soon)
    views.heard("one", True, 0.0)
    loop.free = False
    assert sends(views, 0.0, 3600.0) is None
    loop.free = True
    views.heard("one", True, 3600.0)  # the answer that had to wait
    assert sends(views, 3600.0, 3600.0 + ASK_AFTER) is None


def test_a_closed_event_loop_hears_nobody():
    loop = Loop()
    views = Views(0.0, loop.soon)
    loop.closed = True
    assert sends(views, 0.0, 1000.0) is not None


def test_without_an_event_loop_nobody_is_given_up():
    assert sends(Views(0.0, None), 0.0, 10_000.0, step=10) is None
