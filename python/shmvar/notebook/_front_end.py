"""Where a program runs: in a kernel, whose front end shows more than text, or elsewhere. Nothing is imported for it."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def shell() -> Any | None:
    """The running IPython if it is that of a kernel. None: a terminal, plain Python, a file."""
    ipython = sys.modules.get("IPython")
    found = None if ipython is None else ipython.get_ipython()
    return found if getattr(found, "kernel", None) is not None else None
