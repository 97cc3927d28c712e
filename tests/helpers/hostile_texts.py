"""Texts that would command a terminal or a browser, turn lines around or flood them; and values that are bombs."""

import re
import struct
import unicodedata

import numpy as np

from shmvar import _core

TEXTS = [
    "\x1b[2J\x1b[31mred",
    "\x1b]8;;http://127.0.0.1/\x1b\\link\x1b]8;;\x1b\\",
    "\x1b]52;c;cHduZWQ=\x07",
    "\x1b]0;title\x07\x1bP+q544e\x1b\\\x1b[6n\x1b[?1049l",
    "\x9b31m\x9d52;c;x\x9c\x85next line\x84",
    "a\rb\x08\x08c\x7f\x00d\x0b\x0c",
    "first\nsecond\tthird\u2028fourth\u2029fifth",
    "\u202egnp.txt\u202c \u2066a\u2067b\u2068c\u2069 \u061c\u200e\u200f",
    "zero\u200bwidth\u200d\u2060\ufeff\u00ad\u034f\u180e",
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "\"'><b onmouseover=\"alert(1)\" style='x:expression(1)'>&amp;&#60;&lt;!--]]><![CDATA[",
    "</code></td></table></div></style><style>*{display:none}",
    "javascript:alert(1)//`${alert(1)}`{{7*7}}",
    "[bold red]markup[/] [link=http://127.0.0.1/]x[/link] [/nothing] \\[",
    "Z\u0351\u0362" + "a\u0300\u0301\u0302\u0336\u0489" * 60,
    "\u5bbd" * 300,
    "\U0001f468\u200d\U0001f469\u200d\U0001f467\U0001f3fd\u20e3\ufe0f" * 12,
    "\ufdfd\u1242b\u0b95\u0bcd" * 20,
    "\U000e0041\U000e007f\ue000\U0010ffff\ufffe",
    "%s %n {0.__class__} $(id) `id` ; rm -rf / | && ~ *",
    "$\\alpha$ \\href{http://127.0.0.1}{x} ![x](http://127.0.0.1/x.png) <http://127.0.0.1>",
    "x" * 1000,
]
"""Each may be an index: 1,024 bytes of UTF-8 at most."""

VALUES = [*TEXTS, "\udc80\ud800 lone \udfff", "y" * 50_000 + "\x1b[31m", b"\x1b[31m\x9b", {TEXTS[0]: TEXTS[7]}, [TEXTS]]


def for_key(text):
    """As much of a text as has room in a key, behind the name that a test gives it."""
    return text.encode()[:80].decode(errors="ignore")


def instance_of(module, name):
    """The pickle of an instance of this class, which need not exist: protocol 4."""
    named = [text.encode("utf-8", "surrogatepass") for text in (module, name)]
    return b"\x80\x04" + b"".join(b"X" + struct.pack("<I", len(text)) + text for text in named) + b"\x93)\x81."


CLASSES = [
    *(("__main__", text) for text in TEXTS),
    *((text, "C") for text in TEXTS),
    ("module", "N" * (1 << 20)),
    ("m" * (1 << 20), "\x1b[31m"),
    ("\udc80", "\ud800"),
]


def fill(segment):
    """Stores all of that, and holds locks and has queues that are named so; returns the locks."""
    segment.put_many(dict.fromkeys(TEXTS, 1))
    for at, value in enumerate(VALUES):
        segment[at] = value
    for at, (module, name) in enumerate(CLASSES):
        _core._put_pickle(segment, 1000 + at, instance_of(module, name))
    segment[2000] = np.array([(TEXTS[0], 1)], dtype=[(TEXTS[9], "U40"), (TEXTS[7], "i4")])
    segment[2001] = np.zeros(50_000, dtype=[(TEXTS[9], "i4"), (TEXTS[0], "i4")])
    locks = [segment.lock(text) for text in TEXTS]
    for text, lock in zip(TEXTS, locks, strict=True):
        lock.acquire()
        segment.queue(text).put(text)
    return locks


# --- bombs: what leaves a file if anything is unpickled with trust, or a module is imported by a name in a pickle


class Bomb:
    """Unpickling it makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        import os

        return (os.makedirs, (self.path,))


def bombs(folder):
    """Values that leave something in this folder, each another way; and a module that does so when it is imported."""
    (folder / "imported_bomb.py").write_text(f"open({str(folder / 'imported')!r}, 'w').close()\nclass C: pass\n")
    one = lambda name: Bomb(str(folder / name))  # noqa: E731
    objects = np.empty(3, object)
    objects[:] = [one("objects")] * 3
    return {
        "alone": one("alone"),
        "in list": [one("in list")],
        "in dict": {"key": one("in dict")},
        "beside": [np.zeros(50_000), one("beside")],
        "large": [b"x" * 40_000, one("large")],
        "masked": [np.ma.array([1, 2]), one("masked")],
        "objects": objects,
        "first": (one("first"), *range(100)),
    }


def plant(segment, folder):
    """Stores all of them, also as items of queues."""
    for name, bomb in bombs(folder).items():
        segment[name] = bomb
        segment.queue(f"queue {name}").put(bomb)
    _core._put_pickle(segment, "imported", instance_of("imported_bomb", "C"))
    _core._put_pickle(segment, 7, b"\x80\x04" + instance_of("imported_bomb", "C")[2:-1] + b"}b.")


def left_by(folder):
    """What bombs have left there."""
    return sorted(path.name for path in folder.iterdir() if path.name != "imported_bomb.py")


# --- what is shown

OWN = re.compile(r"\x1b\[[\d;]*m|\x1b\[\?(25|7|1049|2026)[hl]|\x1b\[[\d;]*[ABCDGHJKdr]|\r")
"""What programs write to a terminal to draw: colours, the cursor, the other screen. Texts of segments bring none."""
BROUGHT = ("\x1b[2J\x1b[31mred", "\x1b]8;", "\x1b]52;", "\x1b]0;title", "\x1b[6n", "\x1bP", "\x9b", "\x85")
"""What only `TEXTS` have."""


def assert_harmless(text, longest=None):
    """A text commands nothing, turns nothing around, and has an end; line ends and tabs may be in it.

    So may characters that only a newer Unicode has than this Python: texts made in Rust have them as they are.
    """
    odd = {c for c in text if not (c.isprintable() or c in "\n\t")}
    wrong = {ascii(c) for c in odd if unicodedata.category(c) != "Cn"}
    assert not wrong, f"{sorted(wrong)} in {text[:3000]!a}"
    assert longest is None or len(text) <= longest, f"{len(text)} characters: {text[:500]!a}"


def assert_of_terminal(raw, columns=None):
    """The same of what was written to a terminal of this width, which may draw; None: a line may be of any length."""
    text = raw.decode()
    for mine in BROUGHT:
        assert mine not in text, ascii(mine)
    text = OWN.sub("", text)
    assert_harmless(text)
    assert columns is None or max(map(len, text.split("\n"))) <= 20 * columns, "a line has no end"
