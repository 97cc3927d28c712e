"""The threads behind a live table: what they send, when they read and sleep, and that they end. Without a widget."""

import contextlib
import gc
import json
import threading
import time

import helpers
import pytest

import shmvar
from shmvar.notebook import _follow, _picture
from shmvar.notebook._follow import ENDED, INTERVAL, NOBODY, Following
from shmvar.notebook._picture import LIVE


class Browser:
    """Keeps what it is sent."""

    def __init__(self):
        self.pictures = []
        self.times = []

    def send(self, picture):
        json.dumps(picture, allow_nan=False)
        self.pictures.append(picture)
        self.times.append(time.monotonic())

    @property
    def last(self):
        return self.pictures[-1]

    def row(self, index):
        return next((row for row in self.last["rows"] if row["whole"] == repr(index)), None)

    def text(self, index):
        return (self.row(index) or {"text": None})["text"]


@pytest.fixture
def browser():
    return Browser()


@pytest.fixture
def follow(seg, browser):
    """Starts to follow, and has seen the first picture; ends it after the test."""
    made = []

    def begin(indices=None, rows=50, segment=seg, **options):
        count = len(browser.pictures)
        made.append(Following(segment, indices, rows, browser.send, **options))
        made[-1].start()
        helpers.until(lambda: len(browser.pictures) > count)
        return made[-1]

    yield begin
    for following in made:
        following.stop()
        has_ended(following)


def has_ended(following):
    helpers.until(lambda: not any(thread.is_alive() for thread in following.threads), what="the end of the threads")


def test_what_is_there_is_shown_and_what_changes_is_shown_anew(seg, browser, follow):
    seg.update({2: "two", 1: [1], "a": 1.5})
    follow()
    assert [row["index"] for row in browser.last["rows"]] == ["1", "2", "'a'"]
    assert [row["text"] for row in browser.last["rows"]] == ["[1]", "'two'", "1.5"]
    assert browser.last["head"]["count"] == "3" and browser.last["more"] == "" and browser.last["state"] == LIVE
    seg[2] = "other"
    helpers.until(lambda: browser.text(2) == "'other'")
    assert browser.row(2)["version"] == seg.version(2)
    assert browser.last["rows"][0]["index"] == "2"  # the busiest is the first
    seg["new"] = None
    helpers.until(lambda: browser.text("new") == "None")


def test_a_removed_variable_is_said_to_be_gone_and_comes_back(seg, browser, follow):
    seg["a"] = 1
    follow()
    del seg["a"]
    helpers.until(lambda: browser.row("a")["gone"])
    assert "removed" in browser.text("a") and browser.last["head"]["count"] == "0"
    seg["a"] = 2
    helpers.until(lambda: browser.text("a") == "2" and not browser.row("a")["gone"])


def test_each_change_of_another_process_is_counted(seg, key, browser, follow):
    seg["n"] = 0
    follow()
    # Each waits for the one before to be seen, so none is left out.
    helpers.run(
        """
        s = shmvar.attach(key)
        for _ in range(30):
            s.add("n"); s.add("m"); time.sleep(0.03)
        """,
        key,
    )
    helpers.until(lambda: browser.text("n") == "30" and browser.text("m") == "30")
    counts = browser.row("n")["counts"]
    assert 25 <= sum(counts) <= 30, counts
    assert sum(browser.last["head"]["told"]) <= sum(browser.last["head"]["made"]) <= 60


def test_a_quiet_segment_causes_no_message_and_both_threads_sleep(seg, browser, follow):
    seg["a"] = 1
    following = follow()
    seg.add("a")
    helpers.until(lambda: browser.text("a") == "2")
    reads = []
    with watched(_picture, "variables", reads):
        count, switches = len(browser.pictures), thread_switches(following)
        time.sleep(1.5)
        assert len(browser.pictures) == count and not reads
        # A wait has slices of seconds, or of half a second; a thread that polled would be woken more often.
        assert thread_switches(following) - switches < 15


def thread_switches(following):
    """How often the threads have gone to sleep."""
    found = 0
    for thread in following.threads:
        with open(f"/proc/self/task/{thread.native_id}/status") as status:
            found += sum(int(line.split()[1]) for line in status if line.startswith("voluntary_ctxt_switches"))
    return found


@contextlib.contextmanager
def watched(module, name, calls):
    """Notes the calls of a function of a module."""
    function = getattr(module, name)

    def noting(*arguments, **options):
        calls.append(arguments)
        return function(*arguments, **options)

    setattr(module, name, noting)
    try:
        yield
    finally:
        setattr(module, name, function)


def test_a_storm_of_changes_is_some_messages_and_the_last_state_is_shown(seg, browser, follow):
    follow()
    end = time.monotonic() + 1.5
    changes = 0
    while time.monotonic() < end:
        seg.add("n")
        changes += 1
    helpers.until(lambda: browser.text("n") == str(changes))
    pauses = [later - earlier for earlier, later in zip(browser.times, browser.times[1:], strict=False)]
    assert changes > 1000 and min(pauses) >= INTERVAL * 0.99, pauses
    # Of the first that is told it is not known how many came before.
    assert sum(browser.last["head"]["told"]) < sum(browser.last["head"]["made"]) <= changes


def test_only_what_has_changed_and_is_shown_is_read_again(seg, browser, follow):
    seg.update({number: number for number in range(100)})
    reads = []
    with watched(_picture, "variables", reads):
        follow(rows=10)
        (shown,) = (indexes for _, indexes, _ in reads)
        assert len(shown) == 10 and browser.last["more"] == "… 90 more"
        seg[shown[3]] = "new"
        helpers.until(lambda: browser.text(shown[3]) == "'new'")
        assert reads[-1][1] == [shown[3]] and len(reads) == 2
        other = next(number for number in range(100) if number not in shown)
        seg[other] = "new"
        helpers.until(lambda: browser.text(other) == "'new'")
        assert reads[-1][1] == [other] and len(browser.last["rows"]) == 10
        assert {row["index"] for row in browser.last["rows"]} < {str(index) for index in [other, *shown]}


def test_hidden_nothing_is_read_or_sent_and_on_return_it_catches_up(seg, browser, follow):
    seg["a"] = 0
    following = follow()
    reads = []
    with watched(_picture, "variables", reads):
        following.set_visible(False)
        following.set_visible(False)
        count = len(browser.pictures)
        for _ in range(20):
            seg.add("a")
        rates = following._rates
        helpers.until(lambda: rates.get("a") is not None and rates.get("a").version == seg.version("a"))
        time.sleep(2 * INTERVAL)
        assert len(browser.pictures) == count and not reads
        following.set_visible(True)
        helpers.until(lambda: len(browser.pictures) > count)
    assert browser.text("a") == "20" and sum(browser.row("a")["counts"]) >= 1
    assert following.goes_on


def test_hidden_for_more_than_a_minute_both_threads_end(seg, browser, follow, monkeypatch):
    following = follow()
    monkeypatch.setattr(_follow, "WINDOW", 0.01)
    following.set_visible(False)
    time.sleep(0.02)
    seg.add("a")
    has_ended(following)
    assert not following.goes_on and all(picture["state"] == LIVE for picture in browser.pictures)


def test_a_destroyed_segment_is_said_to_be_and_everything_ends(key, browser, follow):
    segment = shmvar.attach(key)
    segment["a"] = 1
    following = follow(segment=segment)
    helpers.run("shmvar.destroy(key)", key)
    has_ended(following)
    assert browser.last["state"] == ENDED and browser.last["why"] == "the segment was destroyed"
    assert browser.text("a") == "1" and not following.goes_on
    segment.detach()


def test_destroyed_while_it_is_hidden_it_says_so_too(key, browser, follow):
    segment = shmvar.attach(key)
    following = follow(segment=segment)
    following.set_visible(False)
    segment.destroy()
    has_ended(following)
    assert browser.last["state"] == ENDED
    segment.detach()


def test_a_detached_handle_is_said_to_be_and_everything_ends(key, browser, follow):
    segment = shmvar.attach(key)
    following = follow(segment=segment)
    segment.detach()
    has_ended(following)
    assert browser.last["state"] == ENDED and browser.last["why"] == "the handle was detached"


def test_detached_before_it_begins_it_says_so(key, browser, follow):
    segment = shmvar.attach(key)
    segment.detach()
    has_ended(follow(segment=segment))
    assert browser.last["why"] == "the handle was detached" and browser.last["rows"] == []


def test_where_nobody_answers_it_says_that_it_pauses_and_ends(seg, browser, follow):
    following = follow(asked=lambda: 7)
    assert browser.last["asked"] == 7
    following.pause()
    has_ended(following)
    assert not following.goes_on
    assert browser.last["state"] == NOBODY and browser.last["asked"] == 7


def test_where_there_is_nobody_to_send_to_everything_ends(seg, key):
    def send(_picture):
        raise LookupError

    following = Following(seg, None, 50, send)
    following.start()
    has_ended(following)


def test_stopped_both_threads_end_at_once_whatever_they_do(seg, browser):
    before = threading.active_count()
    for turn in range(20):
        following = Following(seg, None, 50, browser.send)
        following.start()
        if turn % 2:
            helpers.until(lambda: browser.pictures)
        following.stop()
        following.stop()
        has_ended(following)
        browser.pictures.clear()
    assert threading.active_count() == before


def test_many_at_once_each_see_everything(seg):
    browsers = [Browser() for _ in range(10)]
    all_of_them = [Following(seg, None, 50, browser.send) for browser in browsers]
    for following in all_of_them:
        following.start()
    seg["a"] = 1
    for _ in range(100):
        seg.add("a")
    helpers.until(lambda: all(browser.pictures and browser.text("a") == "101" for browser in browsers))
    for following in all_of_them:
        following.stop()
    for following in all_of_them:
        has_ended(following)


def test_chosen_indexes_are_shown_in_their_order_and_others_are_not_counted(seg, browser, follow):
    seg.update({"done": 1, "other": 2, 5: 3})
    follow(indices=["missing", 5, "done"])
    assert [(row["index"], row["gone"]) for row in browser.last["rows"]] == [
        ("'missing'", True),
        ("5", False),
        ("'done'", False),
    ]
    assert browser.text("missing") == "not there" and browser.last["more"] == ""
    seg.add("other")
    seg.add("missing")
    helpers.until(lambda: browser.text("missing") == "1")
    assert sum(browser.last["head"]["told"]) == 1
    assert [row["index"] for row in browser.last["rows"]] == ["'missing'", "5", "'done'"]


def test_chosen_texts_with_a_common_beginning_are_followed(seg, browser, follow):
    follow(indices=["job:1", "job:2"])
    seg["job:2"] = "x"
    helpers.until(lambda: browser.text("job:2") == "'x'")


def test_a_forked_child_has_no_threads_and_stops_nothing_of_its_parents(seg, browser, follow):
    following = follow()

    def child():
        assert not following.goes_on
        following.set_visible(False)
        following.stop()
        gc.collect()
        assert threading.active_count() == 1

    for _ in range(5):
        seg.add("a")
        assert helpers.reap(helpers.fork(child)) == 0
    assert following.goes_on
    count = seg.add("a")
    helpers.until(lambda: browser.text("a") == str(count))


def test_a_program_that_ends_with_a_live_table_ends_quietly(key):
    done = helpers.run(
        """
        from shmvar.notebook._follow import Following
        s = shmvar.attach(key)
        f = Following(s, None, 50, lambda picture: None)
        f.start()
        for _ in range(1000):
            s.add("a")
        """,
        key,
    )
    assert done.stdout == done.stderr == ""


def test_more_indexes_than_are_counted_change_and_what_is_shown_is_true(seg, browser, follow):
    seg.update({number: 0 for number in range(5000)})
    follow(rows=10)
    for turn in range(1, 4):
        seg.update({number: turn for number in range(5000)})
    helpers.until(lambda: all(row["text"] == "3" for row in browser.last["rows"]))
    seg.clear()
    helpers.until(lambda: all(row["gone"] for row in browser.last["rows"]) and browser.last["head"]["count"] == "0")
    assert browser.last["more"] == ""


def test_a_read_only_handle_follows(seg, key, browser, follow):
    seg["a"] = 1
    reader = shmvar.attach(key, readonly=True)
    follow(segment=reader)
    seg["a"] = "changed"
    helpers.until(lambda: browser.text("a") == "'changed'")
    reader.detach()
