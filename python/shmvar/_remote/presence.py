"""The presence of this process at a segment, as others see it who wait for what it holds: docs/remote.md, "Locks".

While a process holds something of a segment it is subscribed to a channel of its own, so that the server sees when it
dies, and a thread renews its session. There is one such thread for each link. It takes no lock, for destructors and
signal handlers, which may come in the middle of anything, leave their work to it.
"""

from __future__ import annotations

import collections
import contextlib
import math
import os
import sys
import threading
import weakref
from functools import partial

from shmvar._errors import DetachedError, Error, SegmentNotFoundError, SegmentUnavailableError
from shmvar._remote import owners, scripts, threads
from shmvar._remote.link import OutOfMemory, generation, now
from shmvar._remote.listener import listener_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from shmvar._remote.link import Link, Waited
    from shmvar._remote.numbered import Requests
    from shmvar._remote.owners import Hold
    from shmvar._remote.subscription import Subscription

_LINGER = 5.0
"""Seconds for which presence stays though nothing is held: a lock in a loop would otherwise pay for it each time."""
_CONFIRMATION = 1.0
"""Seconds for which the first acquisition waits until the server has confirmed that this process is present."""
_AGAIN = 0.2
"""Seconds until a renewal or a release that failed is tried again."""
_LOOK = 1.0
"""Seconds after which the thread looks around by itself."""
_PORTION = 1000
_NOBODY = b"-"
"""The server on which this process is present, where it is present on none: then others wait for its deadline."""


class Presence:
    """What others see of this process at one segment, through one link. `presence_of` finds it."""

    def __init__(self, link: Link, requests: Requests) -> None:
        self.link = link
        self.made_in = generation()
        self.held = requests.held
        self.due = math.inf
        """When the session is renewed next."""
        self.idle_at: float | None = None
        """Since when nothing is held, as far as the thread has looked."""
        self._id, self._keys = requests.id, requests.keys
        self._channel = requests.data + b"p:" + owners.process()
        # What keeps the session alive. Changed by any thread, one item at a time.
        self._things: dict[Any, None] = {}
        self._subscriptions: dict[None, Subscription] = {}
        self._lasts_until = math.inf
        self._swept = b""
        # When the server of then is swept once more, the next one last.
        self._sweeps: list[float] = []

    @property
    def lost_contact(self) -> bool:
        """Whether the session may have ended: no renewal has succeeded for a lease."""
        return now() > self._lasts_until

    @property
    def used(self) -> bool:
        return bool(self._things)

    def begin(self, thing: object) -> None:
        """To be called before something is taken, which keeps the session alive until `end`.

        Raises:
            SegmentAccessError: the user has no right to subscribe.
        """
        fresh = not self._things
        self._things[thing] = None
        if fresh:
            self._lasts_until = math.inf
            self.due = now() + self.link.server.lease / 5
        keeper = _keeper_of(self.link)
        keeper.takes(self)
        if fresh and self.link.server.lease / 5 < _LOOK:
            keeper.wake()
        subscription = self._subscription()
        if not subscription.standing:
            # Where it does not come in time, others give us the whole lease.
            subscription.stands(now() + min(_CONFIRMATION, self.link.attempt))

    def arguments(self) -> tuple[bytes, ...]:
        """What a script that takes something has to know: lease, grace, run, pid."""
        server = self.link.server
        return b"%d" % (server.lease * 1e6), b"%d" % (server.grace * 1e6), self._run(), b"%d" % os.getpid()

    def taken(self, sent: float) -> None:
        """A request of then has taken something: the session lasted for half a lease from then, at least."""
        at_least = sent + self.link.server.lease / 2
        if self._lasts_until == math.inf or self._lasts_until < at_least:
            self._lasts_until = at_least

    def end(self, thing: object) -> None:
        """It is let go."""
        self._things.pop(thing, None)

    def later(self, call: Callable[[], object]) -> None:
        """Has the thread do something, and again as long as it fails and what was taken stays. It does not block."""
        if self.made_in == generation() and not sys.is_finalizing():
            # At the end of the interpreter no thread starts; then the session decides.
            with contextlib.suppress(RuntimeError):
                _keeper_of(self.link).does(call, self)

    def abandoned(self, hold: Hold) -> None:
        """Lets go a lock whose owner or handle has ended."""
        if self.held.drop(hold):
            self.undone(hold)

    def undone(self, hold: Hold, slot: bytes = b"c:", number: int = 0) -> None:
        """Has the thread let go a lock that may be ours, and bar the request that took it."""
        self.end(hold)
        self.later(partial(self._undo, hold, slot, number))

    def free(self, hold: Hold, end: float) -> None:
        """Lets go a lock at once. `end`: of the tries, by the clock of `link.now`. It may be repeated."""
        self._undo(hold, b"c:", 0, end)
        self.end(hold)

    def gives_up(self, began: float) -> bool:
        """Whether what was to be done, and has failed since then, is given up: others have what was taken by then.

        While the process holds something else, its session keeps that, too. Whatever the process takes later would do
        the same, so the thread sweeps then.
        """
        every = self._all()
        if any(one.used for one in every) or now() - began <= self.link.server.lease:
            return False
        for one in every:
            one._swept = b""
        return True

    def _all(self) -> list[Presence]:
        """The presences of this process at the segment: this one, and those through other links."""
        return [one for one in list(_presences.values()) if one._channel == self._channel]

    def _undo(self, hold: Hold, slot: bytes, number: int, end: float = math.inf) -> None:
        arguments = (self._id, slot, number, b"undo", hold.field, hold.token)
        self.link.script(scripts.LOCK_FREES, self._keys, arguments, self._waited(end))

    def renew(self) -> None:
        """Renews the session. Called by the thread."""
        with contextlib.suppress(Error):
            self._subscription().ready()
        run, sent, lease = self._run(), now(), self.link.server.lease
        # Without presence, as soon as it is back.
        self.due = sent + (min(lease / 5, _AGAIN) if run == _NOBODY else lease / 5)
        # Those that are taken, not those that somebody is about to take.
        holds = {hold.token: hold for hold in self.held.all() if hold.presence is self}
        pairs = [part for hold in holds.values() for part in (hold.field, hold.token)]
        try:
            for first in range(0, max(len(pairs), 1), 2 * _PORTION):
                mine = (self._id, owners.process(), b"%d" % (lease * 1e6), run, b"%d" % os.getpid())
                arguments = (*mine, *pairs[first : first + 2 * _PORTION])
                answer = self.link.script(scripts.SESSION, self._keys[:2], arguments, self._waited())
                for token in list(holds) if answer == b"g" else answer[1:]:
                    if token in holds:
                        holds[token].lost = True
        except (Error, OutOfMemory):
            self.due = now() + min(lease / 5, _AGAIN)
        else:
            self._lasts_until = sent + lease
            if answer != b"g":
                self._sweep(answer[0])

    def _sweep(self, run: bytes) -> None:
        """Lets go what this process does not know of, on a server that was not swept, and again later.

        Args:
            run: of the server that has renewed the session.
        """
        lease = self.link.server.lease
        if run == self._swept and (not self._sweeps or self._sweeps[-1] > now()):
            return
        # SYNC: who takes something is on the list before it draws its number. Drawn after this one, it does not count.
        limit = owners.next_token().partition(b".")[2]
        tokens = [thing.token for one in self._all() for thing in list(one._things)]
        if not all(tokens):
            # One may have been drawn already. The next renewal is soon.
            self.due = min(self.due, now() + _AGAIN)
            return
        arguments = (self._id, owners.process(), limit, *tokens)
        try:
            answer = self.link.script(scripts.SWEEP, self._keys[:2], arguments, self._waited())
        except (Error, OutOfMemory):
            # With the next renewal.
            return
        if answer != self._swept:
            self._swept, self._sweeps = answer, [now() + 6 * lease, now() + lease]
        else:
            self._sweeps.pop()

    def close(self) -> None:
        """Called by the thread when nothing has been held for a while."""
        subscription = self._subscriptions.pop(None, None)
        if subscription is not None:
            subscription.close()

    def _waited(self, end: float = math.inf) -> Waited:
        # The renewals of all segments of this link wait for each other.
        return self.link.waited(end=min(end, now() + min(max(self.link.server.lease / 5, 0.1), 2.0)))

    def _run(self) -> bytes:
        subscription = self._subscriptions.get(None)
        return (subscription and subscription.run) or _NOBODY

    def _subscription(self) -> Subscription:
        found = self._subscriptions.get(None)
        if found is None:
            made = listener_of(self.link).subscribe((self._channel,), self._told, run=True)
            found = self._subscriptions.setdefault(None, made)
            if found is not made:
                made.close()
        return found

    def _told(self, channel: bytes | None, _data: bytes) -> None:
        """Called by the listener, with None when the connection was lost: others may think that we are dead."""
        if channel is None and self.made_in == generation():
            self.due = now()
            _keeper_of(self.link).wake()


class Keeper:
    """The thread of a link: it renews sessions, and lets go what others have left to it."""

    def __init__(self) -> None:
        self.made_in = generation()
        self.ended = False
        # Changed by any thread, one item at a time.
        self._presences: dict[Presence, None] = {}
        self._calls: collections.deque[tuple[Callable[[], object], Presence, float]] = collections.deque()
        self._starts: list[None] = [None]
        self._alarm = threading.Lock()
        self._alarm.acquire()

    def takes(self, presence: Presence) -> None:
        """Renews the session of a presence as long as it is used."""
        if presence not in self._presences:
            self._presences[presence] = None
            self._start()

    def does(self, call: Callable[[], object], presence: Presence) -> None:
        """Makes a call soon, and again and again while it fails, until the presence gives up."""
        self._calls.append((call, presence, now()))
        self._start()

    def wake(self) -> None:
        # It is awake already, or another thread wakes it at this moment.
        with contextlib.suppress(RuntimeError):
            self._alarm.release()

    def _start(self) -> None:
        with contextlib.suppress(IndexError):
            self._starts.pop()
            try:
                threads.start(self._serve, "shmvar-locks")
            except BaseException:
                self._starts.append(None)
                raise
        self.wake()

    def _serve(self) -> None:
        while True:
            try:
                return self._work()
            except Exception:
                # There is no memory, say, and nobody hears of it here: what is held must be kept nevertheless.
                self._alarm.acquire(timeout=_AGAIN)

    def _work(self) -> None:
        while self.made_in == generation():
            failed = self._make_calls()
            for presence in list(self._presences):
                self._look_after(presence)
            if not self._presences and not self._calls:
                # SYNC: who leaves something says so first, and then looks whether a thread must be started.
                self._starts.append(None)
                if not self._presences and not self._calls:
                    return
                try:
                    self._starts.pop()
                except IndexError:
                    return  # Another thread was started for it.
            soonest = min((presence.due for presence in list(self._presences) if presence.used), default=math.inf)
            if failed:
                soonest = min(soonest, now() + _AGAIN)
            self._alarm.acquire(timeout=min(max(soonest - now(), 0), _LOOK))

    def _make_calls(self) -> bool:
        """Makes the calls that are waiting. Returns whether some have to be made again."""
        failed = []
        with contextlib.suppress(IndexError):
            while True:
                call, presence, began = self._calls.popleft()
                try:
                    call()
                except (SegmentNotFoundError, DetachedError):
                    continue
                except Exception as error:
                    # The server is away; or a right is missing, and may come back.
                    if not presence.gives_up(began):
                        failed.append((call, presence, began))
                    if isinstance(error, SegmentUnavailableError):
                        # The others would fail as well, and the sessions have to be renewed.
                        break
        self._calls.extend(failed)
        return bool(failed)

    def _look_after(self, presence: Presence) -> None:
        if presence.used:
            presence.idle_at = None
            if presence.due <= now():
                try:
                    presence.renew()
                except Exception:
                    # The system has no more files or threads, say. Others must not lose what they hold for it.
                    presence.due = now() + _AGAIN
        elif presence.idle_at is None:
            presence.idle_at = now()
        elif now() - presence.idle_at >= _LINGER:
            # SYNC: who begins to use it says so first, and then looks whether it is on the list.
            self._presences.pop(presence, None)
            if presence.used:
                self._presences[presence] = None
            else:
                presence.close()
                if presence.used:
                    # SYNC: who began to use it meanwhile may have found the subscription that is closed now.
                    presence.due = 0.0
                    self._presences[presence] = None


_presences: weakref.WeakValueDictionary[tuple[int, bytes], Presence] = weakref.WeakValueDictionary()
_keepers: weakref.WeakKeyDictionary[Link, Keeper] = weakref.WeakKeyDictionary()


def presence_of(link: Link, requests: Requests) -> Presence:
    """The presence of this process at a segment. To be asked for anew after a fork."""
    name = (id(link), requests.data)
    found = _presences.get(name)
    if found is None or found.made_in != generation():
        found = _presences[name] = Presence(link, requests)
    return found


def _keeper_of(link: Link) -> Keeper:
    found = _keepers.get(link)
    if found is None or found.made_in != generation():
        found = _keepers[link] = Keeper()
    return found
