"""What the scripts say of changes to those who listen: docs/remote.md, "Waiting"."""

from __future__ import annotations

import re

_NOTICE = re.compile(rb"([-~=]?)([0-9]{1,16})(?:@([0-9]{1,16}))?(?: (.+))?", re.DOTALL)
STORED, REMOVED, DEADLINE, NO_VARIABLE = b"", b"-", b"~", b"="
"""The last: a version was given to something else than a variable, a fence."""
_MOST = 1 << 53


class Notice:
    """A message of one change."""

    __slots__ = ("deadline", "field", "kind", "version")

    def __init__(self, kind: bytes, version: int, deadline: int | None, field: bytes | None) -> None:
        self.kind = kind
        self.version = version
        """Of the variable; of a removal its own."""
        self.deadline = deadline
        """In microseconds of the server's clock."""
        self.field = field
        """b"*": of any variables."""


def notice_of(data: bytes) -> Notice | None:
    """The message, taken apart. None for anything else, which means that everything has to be looked at."""
    found = _NOTICE.fullmatch(data)
    if found is None:
        return None
    kind, version, deadline, field = found.groups()
    if int(version) >= _MOST:
        return None
    return Notice(kind, int(version), None if deadline is None else int(deadline), field)
