"""What the doctor knows and says, as plain data that has a form as JSON."""

import os
from typing import Any

Facts = dict[str, Any]
Finding = dict[str, str]

NEARLY_FULL = 0.95  # of a segment or of the memory file system: from here on it is a warning


def finding(level: str, about: str, text: str, remedy: str = "") -> Finding:
    """One finding. `level` is "problem" (needs a person), "warning" (may become a problem) or "repaired"."""
    return {"level": level, "about": about, "text": text, "remedy": remedy}


def may_repair(uid: int) -> bool:
    """Whether the user of this process may do something about the object of user `uid`."""
    return os.geteuid() in (0, uid)
