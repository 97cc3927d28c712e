"""Takes a named lock of a segment on a server: the tries, and what is undone where they end badly."""

from __future__ import annotations

import math

from shmvar._errors import SegmentFullError
from shmvar._remote import owners, scripts
from shmvar._remote.arguments import detached, float_of, read_only
from shmvar._remote.link import now
from shmvar._remote.listener import listener_of
from shmvar._remote.numbered import shown
from shmvar._remote.owners import Hold
from shmvar._remote.presence import presence_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from shmvar._remote.handle import Handle
    from shmvar._remote.owners import Owner

_POLL, _POLL_DYING = 0.1, 0.05
"""Seconds that a waiter sleeps at most, and where the owner is missed."""


class Taking:
    """One acquisition: each of its tries, and what has to be undone if it ends badly."""

    def __init__(self, segment: Handle, field: bytes, owner: Owner) -> None:
        self._segment = segment
        self._requests = segment._requests
        presence = presence_of(segment._open, self._requests)
        self._owner = owner
        self.hold = Hold(owner, field, presence, id(self._requests))
        self.pause = _POLL
        """Seconds until the next try, at most."""
        self._slots: list[tuple[bytes, int]] = []
        # Whether the lock may be ours, though nobody has said so.
        self._unsure = False

    def attempt(self) -> bool:
        """Takes the lock if that is possible at once."""
        hold, requests, link = self.hold, self._requests, self._segment._open
        hold.presence.begin(hold)
        hold.token = hold.token or owners.next_token()
        self._slots.clear()
        arguments = (b"take", hold.field, hold.token, *hold.presence.arguments())
        what, sent = f"the taking of lock {shown(hold.field)}", now()
        self._unsure = True
        # Not guarded: whoever holds thousands would name all of them to take one more.
        answer = requests.change(
            link, scripts.LOCK, arguments, what, guarded=False, unrecorded=b"hdm", slots=self._slots
        )
        if answer[:1] == b"o":
            hold.fence = int(answer[1:])
            hold.presence.taken(sent)
            return True
        self._unsure = False
        if answer[:1] == b"m":
            limit = int(answer[1:])
            raise SegmentFullError(
                f"{requests.name}: {limit} named locks are held, as many as a segment of its size can have: one for "
                "each KiB. Remedies: release some, or raise the size with `resize`",
                1024,
                0,
                limit * 1024,
            )
        self.pause = _POLL_DYING if answer == b"d" else _POLL
        return False

    def within(self, until: float) -> bool:
        """Takes the lock as soon as it can be had. False: `until` came first, by the clock of `link.now`, or a signal
        handler of this thread has taken the lock, for which the thread would wait in vain.
        """
        if self.attempt():
            return True
        if now() >= until:
            return False
        with self.subscription() as subscription:
            # A message that was sent before the subscription stands is nowhere: the next try is what counts.
            standing = subscription.stands(min(until, now() + self.pause))
            while not self.attempt():
                left = until - now()
                if left <= 0 or self._requests.held.find(self._owner, self.hold.field) is not None:
                    return False
                if standing:
                    standing = subscription.wait(now() + min(left, self.pause)) is not None
                else:
                    standing = subscription.stands(now() + min(left, self.pause))
        return True

    def subscription(self, signal: Any = None) -> Any:
        """To what is said when the lock is let go."""
        channel = self._requests.data + b"f:" + self.hold.field
        return listener_of(self._segment._open).subscribe((channel,), signal=signal)

    def keep(self, owner: Owner) -> None:
        """The lock is the owner's from now on. Raises DetachedError where the handle was detached meanwhile."""
        self._requests.held.add(owner, self.hold)
        # Detaching lets go what is on the list: one of the two sees the other.
        if self._segment._link is None:
            raise detached(self._requests.name)

    def give_up(self) -> None:
        """The lock was not taken, or must not be ours: called after whatever has happened, and does not block."""
        hold = self.hold
        self._requests.held.drop(hold)
        if self._unsure and self._slots:
            hold.presence.undone(hold, *self._slots[0])
        else:
            hold.presence.end(hold)


def writable(segment: Handle) -> None:
    """Raises DetachedError, or ReadOnlyError for a handle that can take nothing."""
    segment._open  # noqa: B018 - it raises DetachedError
    if segment._readonly:
        raise read_only(segment._requests.name)


def held_locks(segment: Handle, *field: bytes) -> Any:
    """What the script `held` returns."""
    requests, link = segment._requests, segment._open
    arguments = (requests.id, b"%d" % (link.server.grace * 1e6), *field)
    answer = link.script(scripts.HELD, requests.keys[:2], arguments, link.waited(), segment._readonly)
    if answer == b"g":
        raise requests.gone()
    return answer


def seconds_of(timeout: Any) -> float | None:
    """A timeout. None: without end."""
    if timeout is None:
        return None
    seconds = float_of(timeout)
    if math.isnan(seconds) or seconds < 0:
        raise ValueError(f"timeout must be None or at least 0 seconds, not {timeout}")
    return seconds if seconds < 2**63 else None
