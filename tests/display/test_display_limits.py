"""A display is bounded: what is read, how long it works, and how much HTML it makes, whatever is in the segment."""

import time

import pytest
from helpers.shown_html import shown

import shmvar
from shmvar import _core, _display, _preview
from shmvar._display import completing, facts, listing

LONGEST = 80_000
"""Bytes of one display. The longest texts in each cell make 60,000."""


@pytest.fixture(scope="module")
def million():
    """A segment of a million variables, which no test changes."""
    key = f"test-a-million-to-show-{time.time_ns():x}"
    with shmvar.attach(key, 1 << 30) as seg:
        try:
            for start in range(0, 1_000_000, 50_000):
                seg.put_many({number: number for number in range(start, start + 50_000)})
            seg.put("soon", 1, ttl=10_000)
            yield seg
        finally:
            seg.destroy()


@pytest.fixture
def reads(monkeypatch):
    """Counts what is asked of segments, as the display asks it: indexes, variables, counts."""
    counted = {"variables": 0, "first": []}
    variables, first = _preview.variables, _preview.first

    def counting(segment, indexes, *rest):
        indexes = list(indexes)
        counted["variables"] += len(indexes)
        return variables(segment, indexes, *rest)

    def asking(segment, count):
        counted["first"].append(count)
        return first(segment, count)

    monkeypatch.setattr(_preview, "variables", counting)
    monkeypatch.setattr(_preview, "first", asking)
    return counted


def test_of_a_million_variables_a_hundred_are_read_and_the_rest_is_counted(million, reads):
    html = _display.html(million)
    found = shown(html)
    assert "1,000,001 variables" in found.text and "… 999,901 more" in found.text and len(found.rows()) == 100
    assert reads == {"variables": 100, "first": [facts.ORDERED]}
    assert len(html) < LONGEST


def test_of_a_million_variables_nothing_looks_at_all(million, monkeypatch):
    """Where some expire, `info` and `len` look at every variable."""
    for name in ("info", "__len__", "__iter__", "keys"):
        monkeypatch.setattr(shmvar.Segment, name, None)
    found = shown(_display.html(million))
    assert "1,000,001 variables" in found.text and "unavailable" not in found.text and len(found.rows()) == 100


def test_where_the_memory_is_almost_full_nothing_asks_what_would_fit(seg, monkeypatch):
    """`info` would wait for a writer to find that out, and move what is stored."""
    lock = seg.lock("mine")
    lock.acquire()
    assert "'mine' by" in shown(_display.html(seg)).text

    class Little:
        f_bavail, f_frsize = 1000, 4096

    monkeypatch.setattr(facts.os, "statvfs", lambda _: Little)
    monkeypatch.setattr(shmvar.Segment, "info", None)
    found = shown(_display.html(seg))
    assert "locks" not in found.text and "unavailable" not in found.text
    assert "held" in shown(_display.html(lock)).text


def test_either_all_indexes_are_offered_or_where_they_are_many_none(million, seg):
    """Of some of them, who asks for another one would see nothing, as if it were not there."""
    assert _display.completions(million) == []
    seg.put_many(dict.fromkeys(range(completing.MOST)))
    assert _display.completions(seg) == list(range(completing.MOST))
    seg["one more"] = 1
    assert _display.completions(seg) == []


def test_previews_take_a_limited_time_and_the_facts_of_the_others_are_shown(seg, monkeypatch, reads):
    """As values that somebody made to take long would do."""
    seg.put_many({number: "text" for number in range(100)})
    clock = [0.0]
    monkeypatch.setattr(facts.time, "thread_time", lambda: clock[0])
    monkeypatch.setattr(facts, "READING", 10)
    variables = _preview.variables

    def slow(*arguments):
        clock[0] += 1
        return variables(*arguments)

    monkeypatch.setattr(_preview, "variables", slow)
    rows = shown(_display.html(seg)).rows()
    assert len(rows) == 100 and reads["variables"] == 10
    assert [row[5] for row in rows] == ["'text'"] * 10 + ["…"] * 90
    assert all(row[1] == "str" and row[3] for row in rows)


def test_a_variable_that_vanishes_or_is_damaged_after_the_time_is_no_error(seg, monkeypatch):
    seg.put_many({1: 1, 2: 2, 3: 3})
    monkeypatch.setattr(facts, "READING", -1)
    assert [row[0] for row in shown(_display.html(seg)).rows()] == ["1", "2", "3"]
    monkeypatch.setattr(_preview, "first", lambda *_: ([1, 2, 4], 3, 0))  # 4 is gone by now
    assert [row[0] for row in shown(_display.html(seg)).rows()] == ["1", "2"]


def test_values_of_60_kib_and_the_longest_names_make_no_long_display(seg):
    seg.put_many({f"{number:03}" + "i" * 1000: "v" * 60_000 for number in range(100)})
    _core._put_pickle(seg, "", b"\x80\x04c" + b"m" * 30_000 + b"\n" + b"n" * 30_000 + b"\n.")
    for number in range(3):
        seg.lock(f"{number}" + "l" * 1000).acquire()
        seg.queue(f"{number}" + "q" * 1000).put(1)
    html = _display.html(seg)
    found = shown(html)
    assert len(html) < LONGEST and len(found.rows()) == 100
    assert all(len(cell) <= 120 for row in found.rows() for cell in row)
    assert all(len(title) <= 300 for title in found.titles)


def test_arrays_and_large_values_are_not_read(seg, monkeypatch):
    numpy = pytest.importorskip("numpy")
    seg.put_many({number: numpy.zeros(20_000) for number in range(50)})
    seg.put_many({50 + number: list(range(30_000)) for number in range(50)})
    decoded = []
    monkeypatch.setattr(_preview, "_decode_data_only", lambda *args, **options: decoded.append(args))
    rows = shown(_display.html(seg)).rows()
    assert not decoded and [row[5] for row in rows] == ["array: <f8 (20000,)"] * 50 + ["…"] * 50


def test_many_segments_make_no_long_table(new_key):
    with shmvar.attach(new_key()) as seg:
        [info] = [info for info in shmvar.segments() if info.key == seg.key]
    found = shown(listing.html([info] * 1234))
    assert len(found.rows()) == 100 and "… 1,134 more" in found.text
    assert listing.plain([info] * 1234).count("\n") == 101 and "… 1,134 more" in listing.plain([info] * 1234)
    assert "no segments" in shown(listing.html([])).text and listing.plain([]) == "no segments"
