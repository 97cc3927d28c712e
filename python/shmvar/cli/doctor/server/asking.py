"""Asks a server. What this user may not ask, or what the server does not know, cannot be seen: that is no error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import shmvar

if TYPE_CHECKING:
    from shmvar._remote.link import Link


UNSEEN: Any = object()
"""Instead of an answer."""


class Server:
    """A server that has answered."""

    def __init__(self, link: Link, unseen: list[str] | None = None) -> None:
        self.link = link
        self.unseen = [] if unseen is None else unseen
        """The commands that were refused, as people write them."""

    @property
    def user(self) -> str:
        """Who we are."""
        return self.link.server.user or "default"

    def ask(self, *words: bytes, name: str = "") -> Any:
        """The answer to a command; UNSEEN if it is refused. `name`: what `unseen` says then."""
        try:
            return self.link.call(*words)
        except (shmvar.SegmentAccessError, shmvar.IncompatibleSegmentError, shmvar.CorruptSegmentError):
            said = name or words[0].decode()
            if said not in self.unseen:
                self.unseen.append(said)
            return UNSEEN


def refused_only(error: shmvar.SegmentAccessError) -> bool:
    """Whether the server has let us in, and refuses one command."""
    return "permission" in str(error).lower() or "NOPERM" in str(error)
