"""What the doctor knows and says, as plain data that has a form as JSON."""

import os
from typing import Any, NamedTuple

Facts = dict[str, Any]
Finding = dict[str, str]

ORDER = ("problem", "warning", "repaired")  # the levels of findings, as they are shown
WIDEST = 24  # the column of names of rows; a longer name moves its own text to the right
NEARLY_FULL = 0.95  # of a segment or of the memory file system: from here on it is a warning


class Row(NamedTuple):
    """A fact for people: a name and a text; on a terminal in a style, and behind a bar of this share."""

    name: str
    text: str
    style: str = ""
    share: float | None = None


def finding(level: str, about: str, text: str, remedy: str = "") -> Finding:
    """One finding. `level` is "problem" (needs a person), "warning" (may become a problem) or "repaired"."""
    return {"level": level, "about": about, "text": text, "remedy": remedy}


def may_repair(uid: int) -> bool:
    """Whether the user of this process may do something about the object of user `uid`."""
    return os.geteuid() in (0, uid)
