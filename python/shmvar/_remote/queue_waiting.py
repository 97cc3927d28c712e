"""Waiting for an item of a queue, or for room in it: threads. Tasks are in `queue_tasks`."""

from __future__ import annotations

import math

from shmvar._remote.link import now
from shmvar._remote.listener import listener_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol, TypeVar

    from shmvar._remote.queue_base import ServerQueue
    from shmvar._remote.subscription import Subscription, _Signal

    _T = TypeVar("_T", covariant=True)

    class _Attempt(Protocol[_T]):
        """One call of a queue, which may be tried several times."""

        nap: float
        """For how many seconds a message may be waited for before the next try."""

        def __call__(self) -> _T | None: ...


# All times are in seconds.

LONGEST = 5.0
"""A message may be lost: whoever waits looks again after this time."""
HELD_POLL = 0.1
"""While somebody holds items, a waiter looks this often whether the holder has died: nobody is notified of that."""
DYING_POLL = 0.05
ROOM_POLL = 0.1
"""Who waits for room in the segment looks this often: nobody is notified of what a variable leaves."""
_DETACH_POLL = 0.25
"""So often a thread that sleeps looks whether its handle was detached."""


def nap_of(answer: bytes) -> float:
    """How long a waiter may sleep after `n<held> <dying>`."""
    held, dying = map(int, answer[1:].split())
    return nap_while(held, dying)


def nap_while(held: int, dying: int) -> float:
    return DYING_POLL if dying else HELD_POLL if held else LONGEST


def subscribed(queue: ServerQueue, room: bool, signal: _Signal | None = None) -> Subscription:
    """A subscription to what the queue says of items or, with `room`, of room."""
    segment = queue.segment
    data = segment._requests.data
    # The last channel tells of the end of the segment, and of much that is nothing to us.
    channels = (b"%b%b:%b" % (data, b"r" if room else b"q", queue._field), data + b"*")
    return listener_of(segment._open).subscribe(channels, signal=signal)


def tell(messages: list[tuple[bytes, bytes]] | None) -> bool:
    """Whether these messages are a reason to try again."""
    return messages is None or any(not name.endswith(b":*") or text.startswith(b"gone") for name, text in messages)


class Silence:
    """The time without a subscription that stands: who hears of nothing for the time-out of the handle asks itself."""

    def __init__(self, queue: ServerQueue) -> None:
        self._queue = queue
        self._since = now()

    def is_long(self) -> bool:
        return now() - self._since >= self._queue.segment._open.server.timeout

    def ask(self) -> None:
        """Raises SegmentUnavailableError where the server does not answer. It changes nothing."""
        # The listener has tried to connect all the time: a try or two are left.
        self._queue._look(now() + self._queue.segment._open.attempt)
        self._since = now()


def wait(queue: ServerQueue, room: bool, seconds: float | None, attempt: _Attempt[_T]) -> _T | None:
    """What `attempt` returns as soon as that is not None. None: it never was for so many seconds."""
    until = math.inf if seconds is None else now() + seconds
    got = attempt()
    if got is not None or seconds == 0:
        return got
    with subscribed(queue, room) as subscription:
        silence = Silence(queue)
        while subscription.stands(min(until, now() + _DETACH_POLL)) or now() < until:
            queue.segment._open  # noqa: B018 - it raises DetachedError
            standing = subscription.standing
            if not standing:
                if not silence.is_long():
                    continue
                silence.ask()
            # What came before the subscription stood sends no message any more. Without one, as on a server that takes
            # no more connections, a try that finds nothing is repeated after the same time.
            got = attempt()
            if got is not None:
                return got
            if not standing:
                continue
            _sleep(queue, room, subscription, attempt.nap, until)
            silence = Silence(queue)
            if now() >= until:
                break
    # The last try, also of one that never had a subscription.
    return attempt()


def _sleep(queue: ServerQueue, room: bool, subscription: Subscription, nap: float, until: float) -> None:
    """Sleeps until a try may help."""
    end = min(until, now() + nap)
    while True:
        if tell(subscription.wait(min(end, now() + _DETACH_POLL))):
            return
        queue.segment._open  # noqa: B018 - it raises DetachedError
        if now() < end:
            continue
        if room or nap == LONGEST or now() >= until:
            return
        # A try that finds nothing is recorded; a look is not.
        waiting, held, dying = queue._look()
        if waiting:
            return
        nap = nap_while(held, dying)
        end = min(until, now() + nap)
