"""How long a call waits, what is known of what it sent, and the error when time is up."""

from __future__ import annotations

from shmvar._errors import SegmentUnavailableError
from shmvar._remote.connections import generation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from shmvar._remote.url import Server


class Waited:
    """How long one call waits, and what is known of what it sent."""

    __slots__ = ("acked", "changes", "generation", "nothing", "sent", "short", "unsure", "until", "whole")

    def __init__(self, changes: str, until: float, acked: bool = True) -> None:
        self.changes = changes
        """What the request changes, for the error. Empty: nothing."""
        self.until = until
        self.acked = acked and bool(changes)
        """Whether replicas, or the file, must have the change."""
        self.whole = False
        """It has several keys of one slot, and uses others: it is not carried out while the slot is on its way."""
        self.nothing: tuple[bytes, ...] = ()
        """First letters of answers that say that nothing was written: neither replicas nor the file are waited for."""
        self.generation = generation()
        self.sent = False
        """The try that goes on has got as far as to send something."""
        self.unsure = False
        """A request was sent and not answered: it may have been carried out, or may yet be."""
        self.short = ""
        """What was missing when it was last answered: replicas, or the file."""


def unavailable(server: Server, place: str, reached: bool, why: str, waited: Waited) -> SegmentUnavailableError:
    """The error of a request that had no answer in time, or none that is enough."""
    maybe = waited.unsure and waited.changes
    what = f"; {waited.changes} may have been applied, or may yet be" if maybe else ""
    if waited.short:
        # The last try may have ended in another way than an earlier one that was answered.
        then = "" if why == waited.short else f", and then there was no answer ({why})"
        text = f"{place}: after {server.timeout:g} s {waited.short}{then}; {waited.changes} was applied there, and may"
        text += " be lost"
    elif reached:
        text = f"{place} has not answered for {server.timeout:g} s ({why}){what}"
    else:
        text = f"{server.place} cannot be reached ({why}). Is the server running, and the address right?"
    return SegmentUnavailableError(text, bool(maybe))
