"""What a live table shows at a moment: which rows, what is read for them, and that it is harmless. Without threads."""

import json
import os

import pytest

import shmvar
from shmvar.notebook import _picture
from shmvar.notebook._picture import UNREAD, WIDTH, Pictures
from shmvar.notebook._rates import Rates

EVIL = "\x1b[31m\u202e<img src=x onerror=alert(1)>\x00\n\t\x9b\ud800"


class Watcher:
    """Pictures of a segment whose changes the test tells."""

    def __init__(self, segment, rows=50, indices=None, most=1024):
        self.segment = segment
        self.rates = Rates(0.0, most)
        self.pictures = Pictures(segment, indices, rows)

    def told(self, *indexes, now=1.0):
        for index in indexes:
            self.rates.note(index, self.segment.version(index), now)

    def picture(self, now=1.0):
        return self.pictures.make(self.pictures.look(self.rates, now))

    def rows(self, now=1.0):
        return {row["whole"]: row for row in self.picture(now)["rows"]}


@pytest.fixture
def reads(monkeypatch):
    """The indexes whose values were read."""
    found, function = [], _picture.variables

    def variables(segment, indexes, width):
        found.extend(indexes)
        return function(segment, indexes, width)

    monkeypatch.setattr(_picture, "variables", variables)
    return found


def test_what_did_not_change_is_not_read_again(seg, reads):
    seg.update({1: "a", 2: "b"})
    watcher = Watcher(seg)
    watcher.picture()
    seg[2] = "c"
    watcher.told(2)
    assert reads == [1, 2]
    assert watcher.rows()["2"]["text"] == "'c'" and reads == [1, 2, 2]
    watcher.told(2)  # in the same instant
    watcher.picture()
    watcher.picture()
    assert reads == [1, 2, 2, 2]


def test_an_index_whose_counts_were_dropped_is_not_believed_to_stand_still(seg, reads):
    """Where more indexes change than are counted, one that is shown may have changed unseen, or be gone."""
    seg.update({number: "old" for number in range(4)})
    watcher = Watcher(seg, rows=4, most=2)
    watcher.picture()
    seg.update({0: "new", 1: "new", 2: "new"})
    watcher.told(0, 1, 2)
    assert [row["text"] for row in watcher.rows().values()].count("'new'") == 3
    del seg[0]
    seg.update({1: "newer", 3: "newer"})
    watcher.told(0, 3, 1, 3)
    assert {index: row["text"] for index, row in watcher.rows().items()} == {
        "1": "'newer'",
        "2": "'new'",
        "3": "'newer'",
    }


def test_a_removed_index_makes_room_for_those_that_are_there(seg):
    seg.update({number: number for number in range(6)})
    watcher = Watcher(seg, rows=3)
    shown = [int(index) for index in watcher.rows()]
    del seg[shown[0]]
    watcher.told(shown[0])
    picture = watcher.picture()
    assert [row["gone"] for row in picture["rows"]] == [True, False, False] and picture["more"] == "… 3 more"
    watcher.told(*[shown[1]] * 3)
    for number in (7, 8, 9):
        seg[number] = number
        watcher.told(number, number)
    assert str(shown[0]) not in watcher.rows()
    watcher.rates = Rates(100.0)  # after a pause
    rows = watcher.rows(100.0)
    assert len(rows) == 3 and str(shown[0]) not in rows and not any(row["gone"] for row in rows.values())


def test_rows_that_are_shown_stay_while_others_are_many(seg):
    seg.update({number: number for number in range(3000)})
    watcher = Watcher(seg, rows=20)
    shown = list(watcher.rows())
    seg.update({number: -number for number in range(3000, 9000)})  # the table is made anew
    assert list(watcher.rows()) == shown
    assert watcher.picture()["more"] == "… 8,980 more"


def test_the_ids_of_rows_are_those_of_their_indexes(seg):
    seg.update({5: 1, "5": 2})
    watcher = Watcher(seg)
    ids = {index: row["id"] for index, row in watcher.rows().items()}
    assert len(set(ids.values())) == 2
    seg[5] = 3
    watcher.told(5)
    assert {index: row["id"] for index, row in watcher.rows().items()} == ids


def test_an_array_in_place_says_its_dtype_and_shape(seg):
    seg.array("field", (200, 300), "f4")
    (row,) = Watcher(seg).rows().values()
    assert row["text"] == "in place: <f4 (200, 300)"


def test_hostile_texts_are_harmless_and_short(seg):
    index = EVIL.replace("\ud800", "")  # which no index may have
    seg.update({index: EVIL, "long" * 256: "long" * 9000, 7: {EVIL: [EVIL]}})
    picture = Watcher(seg).picture()
    text = json.dumps(picture, ensure_ascii=False, allow_nan=False)
    assert all(c.isprintable() for c in text) and text.encode()
    assert all(len(row["index"]) <= WIDTH and len(row["text"]) <= WIDTH for row in picture["rows"])
    assert len(text) < 10_000


class Bomb:
    """Its pickle runs code."""

    def __reduce__(self):
        return os._exit, (99,)


def test_values_run_no_code_though_the_handle_trusts(seg):
    assert seg.trusted
    seg.update({"bomb": Bomb(), 1: [Bomb()]})
    watcher = Watcher(seg)
    assert [row["text"] for row in watcher.rows().values()] == [UNREAD, UNREAD]
    seg["bomb"] = [Bomb(), Bomb()]
    watcher.told("bomb")
    assert watcher.rows()["'bomb'"]["text"] == UNREAD
    assert "bomb" in _picture.as_text(seg, None, 50)


def test_an_array_that_is_not_read_has_its_dtype_and_shape_as_in_the_display_of_the_segment(seg):
    numpy = pytest.importorskip("numpy")
    seg.update({"large": numpy.zeros((1000, 1000)), "little": 1})
    seg.array("in place", 3)
    watcher = Watcher(seg)
    texts = {index: row["text"] for index, row in watcher.rows().items()}
    assert texts == {
        "'in place'": "in place: <f8 (3,)",
        "'large'": "array: <f8 (1000, 1000)",
        "'little'": "1",
    }
    from shmvar._display import facts, variables

    assert {repr(row["index"]): variables._value(row)[0] for row in facts.of(seg).rows} == texts
    seg["large"] = numpy.zeros(1000000, dtype="i4")
    watcher.told("large")
    assert watcher.rows()["'large'"]["text"] == "array: <i4 (1000000,)"


def test_damaged_values_are_said_to_be(seg):
    shmvar._core._put_pickle(seg, "damaged", b"\x80\x05Nb.")
    (row,) = Watcher(seg).rows().values()
    assert row["wrong"] and row["text"]


def test_the_table_as_text(seg):
    seg.update({"a": 1, 5: EVIL})
    text = _picture.as_text(seg, None, 1)
    assert text.splitlines()[1].split() == ["INDEX", "TYPE", "SIZE", "VERSION", "VALUE"]
    assert len(text.splitlines()) == 4 and text.splitlines()[3] == "… 1 more"
    assert text.replace("\n", "").isprintable()
    seg.clear()
    assert _picture.as_text(seg, None, 50).startswith(f"shmvar {seg.key!r}: 0 variables")
