"""What `ls`, `show`, `info`, `watch` and `doctor` have on a terminal of a segment on a server."""

import pytest
from helpers import screens

HOSTILE = "\x1b]0;title\x07\x1b[31mred\u202e [red]markup[/red]"


@pytest.mark.parametrize("width", [40, 120])
def test_a_segment_on_a_server_has_the_same_screens(server, seg, key, width):
    seg.update({1: 1, HOSTILE: HOSTILE * 10, "large": bytes(70_000)})
    seg.put("soon", 1, ttl=30)
    seg.queue(HOSTILE).put(1)
    # No word of these may have a comma or a semicolon.
    commands = [["ls", server.url()], ["show", key], ["info", key], ["doctor", server.url()]]
    found, (ls, show, info, doctor) = screens.each(*commands, columns=width)
    assert found.too_long() == [] and found.left_alone()
    text = found.raw.decode()
    assert not any(char in text for char in "\x07\u202e") and "\x1b]" not in text and "\x1b[31mred" not in text
    assert ls[0].split()[:2] == ["KEY", "COUNT"] and any("'large'" in line and "not read" in line for line in show)
    assert any(line.split()[:1] == ["url"] for line in info) and "healthy" in doctor[-1]
    if width == 120:
        assert show[0].split() == ["INDEX", "TYPE", "SIZE", "VERSION", "EXPIRES", "VALUE"] and " %" in ls[1]


def test_a_watch_of_a_server_has_columns(seg, key):
    with screens.Terminal("watch", key, NO_COLOR="1") as terminal:
        terminal.until(lambda: b"VALUE" in terminal.raw)
        seg["visits"] = 1
        terminal.until(lambda: terminal.raw.count(b"\n") > 1)
        time, index, version, value = terminal.everything()[1].split()
        assert (index, int(version), value) == ("'visits'", seg.version("visits"), "1") and time.count(":") == 2
        terminal.type("\x03")
        terminal.ended(0)
