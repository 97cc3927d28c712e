"""Displays of a segment with a slot that is busy for ever: they wait for nobody, and say what is not shown."""

import struct

import helpers
import pytest
from helpers.shown_html import shown

import shmvar
from shmvar import _display

BUSY = 1


@pytest.fixture
def damaged(seg):
    """A segment of 100 variables. Of one the slot is busy, though no change is under way."""
    seg.put_many({number: "text" for number in range(100)})
    with helpers.Raw(seg) as raw:
        at = raw.slot(50)[0]
        word = raw.unpack("<Q", at)[0]
        raw.pack("<Q", at, word | BUSY)
        yield seg
        raw.pack("<Q", at, word)


@pytest.mark.parametrize("readonly", [False, True])
def test_a_display_shows_the_others_and_says_that_one_is_half_changed(damaged, key, readonly):
    with shmvar.attach(key, readonly=readonly) as handle:
        with helpers.promptly():
            found = shown(_display.html(handle))
            plain = _display.mimebundle(handle, include=["text/plain"])
        assert "half changed" in found.text and "a variable is half changed and not shown" in found.text
        assert [row[0] for row in found.rows()] == [str(number) for number in range(100) if number != 50]
        assert plain


@pytest.mark.parametrize("readonly", [False, True])
def test_the_tab_key_offers_the_others(damaged, key, readonly):
    with shmvar.attach(key, readonly=readonly) as handle, helpers.promptly():
        assert handle._ipython_key_completions_() == [number for number in range(100) if number != 50]


def test_check_names_the_damage_as_the_display_says(damaged):
    with pytest.raises(shmvar.CorruptSegmentError, match="busy"):
        damaged.check()


def test_popitem_names_the_damage_at_once(damaged):
    words = "is busy and no change is under way"
    with helpers.promptly(), pytest.raises(shmvar.CorruptSegmentError, match=words):
        for _ in range(100):
            damaged.popitem()


def test_where_nothing_is_half_changed_nothing_is_said(seg):
    seg.put_many({number: "text" for number in range(100)})
    with helpers.Raw(seg) as raw:
        assert struct.unpack("<Q", raw.read(raw.slot(50)[0], 8))[0] & BUSY == 0
    found = shown(_display.html(seg))
    assert "half changed" not in found.text and len(found.rows()) == 100
