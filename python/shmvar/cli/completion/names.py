"""Keys and indexes of living segments as words of a command line, which `arguments.name` reads back as they are."""

import sys

import shmvar
from shmvar import _preview, _text
from shmvar._core import _activity, _first
from shmvar.cli import arguments, urls

MOST = 300
"""So many are offered: more could not be read by anybody."""

LOOKED_AT = 200_000
"""In a larger segment only the first of its variables are looked at: a TAB must not take seconds."""

_FIRST = 2_000


def word_of(name: int | str, typed: str) -> str | None:
    """How `name` may be typed by somebody who has typed the beginning `typed`. None if it does not begin so.

    A text that would be read as something else (a number, an option, a URL), or that no terminal should be sent, is
    given as Python writes it, in quotes of its own.
    """
    if isinstance(name, int):
        forms = [str(name)]
    else:
        quoted = repr(name) if _encodable(name) else ascii(name)
        forms = [name, quoted] if _reads_as_itself(name) else [quoted]
    return next((form for form in forms if form.startswith(typed)), None)


def _reads_as_itself(text: str) -> bool:
    # A shell may leave a ~ at the start as it is, and then it is somebody's home.
    plain = bool(text) and text.isprintable() and text[0] not in "-~" and not urls.is_url(text)
    return plain and arguments.name(text) == text and _encodable(text)


def _encodable(text: str) -> bool:
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def keys(typed: str) -> list[tuple[str, str]]:
    """The keys of this machine's segments, with a few words about each."""
    found = {info.key: _about(info) for info in shmvar.segments() if info.key is not None}
    return _words(found, typed)


def _about(info: shmvar.SegmentInfo) -> str:
    if info.state != "usable":
        return info.state
    return f"{info.count:,} variables, {_text.size(info.used)}"


def indexes(key: int | str, typed: str) -> list[tuple[str, str]]:
    """The indexes of a segment of this machine. A TAB asks no server: that could take long, and needs a password."""
    if urls.is_url(key):
        return []
    with shmvar.attach(key, create=False, readonly=True, trust=False) as segment:
        few = _activity(segment)["count"] <= LOOKED_AT
        found, _ = _first(segment, LOOKED_AT if few else _FIRST)
    return _words(dict.fromkeys(found, ""), typed)


def php_keys(typed: str) -> list[tuple[str, str]]:
    """The keys of PHP's segments, decimal, or hexadecimal where somebody has begun so."""
    from shmvar.cli.php import kernel

    found = kernel.keys_of_php()
    if typed[:2].lower() != "0x":
        return _words(dict.fromkeys(found, ""), typed)
    words = [f"{typed[:2]}{key & 0xFFFFFFFF:08x}" for key in found]
    return [(word, "") for word in words if word.startswith(typed)][:MOST]


def php_indexes(key: int, typed: str) -> list[tuple[str, str]]:
    """The indexes of a segment of PHP's."""
    from shmvar import php

    with php.attach(key, create=False) as segment:
        return _words(dict.fromkeys(segment, ""), typed)


def _words(found: dict[int | str, str], typed: str) -> list[tuple[str, str]]:
    """Numbers first, then texts."""
    words = []
    for name in sorted(found, key=_preview.order):
        word = word_of(name, typed)
        if word is not None:
            words.append((word, found[name]))
            if len(words) == MOST:
                break
    return words
