"""The scripts that run in the server. Each `.lua` file of the folder `lua` says what it does and returns."""

from __future__ import annotations

import hashlib
import os

_FOLDER = os.path.join(os.path.dirname(__file__), "lua")


class Script:
    """A script: its text, and what the server calls it once it knows it."""

    def __init__(self, name: str, flags: str = "", *also: str) -> None:
        self.reads = "no-writes" in flags
        # Each function of these is made anew by each call, so no script has more of them than it needs.
        text = b"".join(map(_text, (*(() if self.reads else ("common",)), *also, name)))
        # With this line the server refuses a script before its first write where memory is out, unless a flag allows
        # it; without it, the first command that takes memory fails, perhaps in the middle.
        self.text = b"#!lua" + (f" flags={flags}".encode() if flags else b"") + b"\n" + text
        self.sha = hashlib.sha1(self.text, usedforsecurity=False).hexdigest().encode()


def _text(name: str) -> bytes:
    with open(os.path.join(_FOLDER, f"{name}.lua"), "rb") as file:
        return file.read()


SINGLE = Script("single")
SINGLE_FREES = Script("single", "allow-oom")
"""For removals: a server without memory can be emptied."""
BATCH = Script("batch")
SEGMENT = Script("segment", "allow-oom")
ATTACH = Script("attach")
ATTACH_OLD = Script("attach", "allow-oom")
"""For what must be there: a server without memory opens it, and gives it a larger limit."""
DESTROY = Script("destroy", "allow-oom")
READ = Script("read", "no-writes")
CHECK = Script("check", "no-writes")
VERSIONS = Script("versions", "no-writes")
LOCK = Script("lock", "", "owners")
LOCK_FREES = Script("lock", "allow-oom")
"""For letting go, which asks for nobody's owner: a server without memory keeps nothing locked for ever."""
SESSION = Script("session", "allow-oom", "owners")
SWEEP = Script("sweep", "allow-oom", "owners")
HELD = Script("held", "no-writes", "owners")
QUEUE = Script("queue")
"""For `put`, which asks for nobody's owner."""
QUEUE_FREES = Script("queue", "allow-oom", "owners")
"""For all others: a server without memory hands on what it has."""
QUEUES = Script("queues", "no-writes", "owners")
