"""Texts for people: nothing that is stored commands a terminal or a browser, and numbers are short."""

import html
import sys

import pytest

from shmvar import _text

HOSTILE = "\x1b[31mred\x1b]52;c;eA==\x07 \u202eleft \u2066iso\u2069 \u200b\u00ad\ufeff \x9b31m \x00 \x7f \ud800 <b>&\"'"


def test_every_character_that_is_not_printable_is_escaped():
    for code in [*range(0x3000), *range(0xD800, 0xE010), 0xFEFF, 0xFFFF, 0x1D173, 0xE0001, 0x10FFFF]:
        shown = _text.one_line(chr(code))
        assert shown.isprintable(), hex(code)
        assert shown == chr(code) or shown.startswith("\\"), hex(code)
    assert _text.harmless("a\nb\tc\r") == "a\nb\tc\\r" and _text.one_line("a\nb\tc") == "a\\nb\\tc"
    assert _text.harmless("ä日本🎉 é") == "ä日本🎉 é"


def test_a_text_for_html_is_text_alone():
    shown = _text.html(HOSTILE)
    assert not set("<>\"'") & set(shown) and shown.isprintable()
    assert html.unescape(shown) == _text.one_line(HOSTILE)


def wide(text):
    return sum(2 if ord(c) > 0x2E80 else 1 for c in text)


@pytest.mark.parametrize("width", [1, 2, 3, 10, 40])
@pytest.mark.parametrize("text", ["", "a", "abc", "a" * 11, "日本語日本語", "a日" * 20, "a" * 10_000])
def test_a_text_that_is_cut_fits_and_says_so(text, width):
    for length in (len, wide):
        shown = _text.cut(text, width, length)
        assert length(shown) <= width
        if length(text) <= width:
            assert shown == text
        else:
            assert shown.endswith("…") and text.startswith(shown[:-1])
            assert length(shown) >= width - 1  # no more than need be is cut


def test_only_the_beginning_of_a_long_text_is_measured():
    measured = []

    def length(text):
        measured.append(len(text))
        return len(text)

    _text.cut("a" * 1_000_000, 20, length)
    assert sum(measured) < 100


def test_numbers():
    assert [_text.number(n) for n in (0, 999, 1_000_000)] == ["0", "999", "1,000,000"]
    sizes = {
        0: "0 B",
        1023: "1023 B",
        1_048_000: "1023.4 KiB",
        1536: "1.5 KiB",
        5 << 20: "5.0 MiB",
        3 << 30: "3.0 GiB",
        8 << 40: "8.0 TiB",
    }
    assert {n: _text.size(n) for n in sizes} == sizes
    assert _text.size(sys.maxsize) == "8388608.0 TiB"
    for shift in (20, 30, 40):
        almost = [_text.size((1 << shift) - (1 << (shift - 10)) * part // 100) for part in (0, 1, 4, 6, 100)]
        assert almost[:3] == [_text.size(1 << shift)] * 3 and almost[3].startswith("1023.9 ") and "1023.0" in almost[4]
    times = {0: "0.0 s", 3.21: "3.2 s", 59.4: "59 s", 119: "119 s", 300: "5 min", 7300: "2 h", 259_300: "3 d"}
    assert {t: _text.seconds(t) for t in times} == times
