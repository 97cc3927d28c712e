"""Listens to a server: one thread and one connection for each link and process, for all that its handles wait for.

It takes no lock, for a lock may be held at a fork, or by a frame that a signal handler interrupts. Other threads leave
their subscriptions in a queue, and wake the thread through a pair of sockets; only the thread touches the connection.
SYNC: where two of them could miss each other, each first says what it does and then looks at what the other one said.
"""

from __future__ import annotations

import collections
import contextlib
import os
import random
import socket
import time
import weakref

from shmvar._errors import Error, IncompatibleSegmentError, SegmentUnavailableError
from shmvar._remote import threads
from shmvar._remote.connections import generation, now
from shmvar._remote.conversation import Conversation, Moved
from shmvar._remote.refusals import refused
from shmvar._remote.subscription import Channel, Subscription

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from shmvar._remote.link import Link
    from shmvar._remote.subscription import _Signal

_LINGER = 5.0
"""Seconds for which a subscription stays that nobody uses: a wait in a loop would otherwise pay for one each time."""
_FIRST_PAUSE, _LONGEST_PAUSE, _AFTER_FAULT = 0.01, 0.5, 5.0
_SLICE = 0.1
"""Seconds after which one looks whether the pause after a fault is to end."""
_LONGEST_TRY = 2.0
"""Seconds of one try to connect."""


class Listener:
    """The thread of a link, from its start to its end. `listener_of` finds the present one."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.made_in = generation()
        self.ended = False
        self.channels: dict[bytes, Channel] = {}
        """Changed by the thread only."""
        self.number = 0
        """Of the present connection, 0: there is none."""
        self.run: bytes | None = None
        """The run id of the server on the present connection, if somebody asks for it."""
        self.fault: Error | None = None
        """Why the last try to connect failed, if no repetition will mend it."""
        self._asks_run = False
        self._messages = 0
        self._connections = 0
        self._stood = 0
        """The number of the last connection on which the server gave its word for a channel."""
        self._connecting: Any = None
        self._conversation: Conversation | None = None
        self._asked: collections.deque[Subscription] = collections.deque()
        self._starts: list[None] = [None]
        try:
            self._near, self._far = socket.socketpair()
        except OSError as error:
            raise SegmentUnavailableError(
                f"{link.place}: this process can open no more files ({error})", False
            ) from None
        self._near.setblocking(False)
        self._far.setblocking(False)
        _all.add(self)

    # --- called by any thread

    def subscribe(
        self,
        channels: Iterable[bytes],
        on_message: Callable[[bytes | None, bytes], object] | None = None,
        *,
        run: bool = False,
        signal: _Signal | None = None,
        limit: int = 1000,
    ) -> Subscription:
        """Subscribes to channels of one segment, until the subscription is closed.

        Args:
            channels: their names.
            on_message: called in the thread of the listener with each channel and message, and with None where some
                may be missing. Without it, messages are kept for `Subscription.wait`.
            run: whether the run id of the server is needed.
            signal: whose `set` is called when there may be something new.
            limit: how many messages are kept.
        """
        made = Subscription(self.link, listener_of, tuple(channels), on_message, run, signal, limit)
        try:
            made.join()
        except BaseException:
            made.close()
            raise
        return made

    def join(self, subscription: Subscription) -> bool:
        """Takes a subscription on. False: this listener has ended."""
        # What a server refused to others a while ago is no answer to this one: it ends the pause.
        self.fault = None
        found: list[Channel] = []
        for name in subscription.names:
            channel = self.channels.get(name)
            if channel is None or (subscription.wants_run and self.run is None):
                break
            channel.users[subscription] = None
            if channel.gone:
                break
            found.append(channel)
        else:
            # Nothing is left to do for the thread.
            subscription.channels = tuple(found)
            return not self.ended
        self._asked.append(subscription)
        with contextlib.suppress(IndexError):
            self._starts.pop()
            try:
                threads.start(self._run, "shmvar-listener")
            except RuntimeError as error:
                # The next one to join tries again with another listener.
                self.ended = True
                self._close_all()
                text = f"{self.link.place} cannot be listened to: this process can start no more threads ({error})"
                raise SegmentUnavailableError(text, False) from None
        self.wake()
        return not self.ended

    def wake(self) -> None:
        """Makes the thread look at what it is asked for, and whether the link has moved."""
        with contextlib.suppress(OSError):
            self._far.send(b".")

    def leave(self, subscription: Subscription) -> None:
        """Takes a subscription off. Its channels stay for a while."""
        for name in subscription.names:
            channel = self.channels.get(name)
            if channel is not None:
                channel.users.pop(subscription, None)

    def forget(self) -> None:
        """In a forked child: the connection is the parent's, and ends with the parent."""
        self.ended = True
        self._close_all()

    def _close_all(self) -> None:
        conversation, connecting = self._conversation, self._connecting
        if conversation is not None:
            conversation.forget()
        # Closed, not shut down, which would end it for the parent, too.
        for it in (getattr(connecting, "_sock", None), self._near, self._far):
            if it is not None:
                with contextlib.suppress(Exception):
                    it.close()

    # --- the thread

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        try:
            while not self._is_over():
                before = self._stood
                try:
                    self._take_asked()
                    self._connect()
                    self._serve()
                except Exception as error:
                    if self.made_in == generation():
                        self._lose(error)
                if self._stood != before:
                    pause = _FIRST_PAUSE
                if not self._is_over():
                    self._rest(_AFTER_FAULT if self.fault else pause * random.uniform(0.5, 1.0))
                    pause = min(pause * 2, _LONGEST_PAUSE)
        finally:
            self.ended = True
            if self.made_in == generation():
                self._drop_connection()
                if _listeners.get(self.link) is self:
                    _listeners.pop(self.link, None)
                self._tell_all()
                self._near.close()
                self._far.close()

    def _is_over(self) -> bool:
        """Whether nobody uses it any more: then whoever comes next makes another one."""
        if self.made_in != generation():
            return True
        if not self.channels and not self._asked:
            self.ended = True
            # SYNC: who joins adds itself first, and then looks whether this has ended.
            if self._asked:
                self.ended = False
        return self.ended

    def _connect(self) -> None:
        link = self.link
        self._moves = link.moves
        forks = _forks
        # Nobody is heard meanwhile, and no new subscription is made.
        connection = link.connect(now() + min(link.attempt, _LONGEST_TRY))
        self._connecting = connection
        if forks != _forks:
            # A child may have it, too, and would keep it open for as long as it lives.
            connection.disconnect()
            raise ConnectionError("this process was forked while it connected")
        self._conversation = conversation = Conversation(connection, self._near, self)
        self._connecting = None
        self.run = None
        if self._asks_run:
            conversation.ask_run()
        self.fault = None
        self._connections += 1
        self.number = self._connections
        conversation.ask(list(self.channels))

    def _lose(self, error: Exception) -> None:
        """The connection is lost, or was not made: all who wait have to look again."""
        self.fault = None
        if self._conversation is None:
            # Only what a server says to a new connection tells that no other one will be better.
            try:
                self.link._judged(error, self.link.waited())
            except Error as final:
                self.fault = final
            except Exception:
                pass
        # The primary may be another server by now.
        self.link._locator.doubt(self.link._address)
        self._drop_connection()
        self._tell_all()

    def _drop_connection(self) -> None:
        # SYNC: the number first: who looks after it was told finds that nothing stands.
        self.number = 0
        self.run = None
        conversation, self._conversation = self._conversation, None
        if conversation is not None:
            conversation.close()
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.disconnect()

    def _tell_all(self) -> None:
        told: dict[Subscription, None] = dict.fromkeys(list(self._asked))
        for channel in list(self.channels.values()):
            channel.fault = None
            told.update(dict.fromkeys(list(channel.users)))
        for subscription in told:
            subscription.look_again()

    def _serve(self) -> None:
        """Hears messages until nobody uses this listener. Raises for a lost connection."""
        conversation = self._conversation
        assert conversation is not None
        while True:
            self._take_asked()
            if conversation.ping_is_due():
                # An old primary that says nothing of a planned failover answers on.
                self.link.look(wait=False)
                self._sweep()
                if self._is_over():
                    return
            if self.link.moves != self._moves:
                raise Moved("the segment has moved")
            if conversation.rest():
                self._drain()
            if self.made_in != generation():
                return
            conversation.receive()

    def _rest(self, seconds: float) -> None:
        """A pause without a connection."""
        # Not a sleep that another thread could end: that takes a file, and the system may have no more.
        end = now() + seconds
        while (left := end - now()) > 0 and not (seconds == _AFTER_FAULT and self.fault is None):
            time.sleep(min(left, _SLICE))
        if self.made_in == generation():
            self._drain()
            self._take_asked()
            self._sweep()

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while len(self._near.recv(1024)) == 1024:
                pass

    def _take_asked(self) -> None:
        while self._asked:
            subscription = self._asked.popleft()
            if subscription.closed or subscription.listener is not self:
                continue
            new = [name for name in dict.fromkeys(subscription.names) if name not in self.channels]
            for name in new:
                self.channels[name] = Channel(name)
            channels = tuple(self.channels[name] for name in subscription.names)
            for channel in channels:
                channel.users[subscription] = None
            subscription.channels = channels
            if subscription.closed:
                # SYNC: `leave` may have looked before it was on these lists.
                self.leave(subscription)
            if subscription.wants_run and not self._asks_run:
                self._asks_run = True
                if self.number:
                    raise Moved("the run id of the server is asked for, which needs another connection")
            if self._conversation is not None:
                self._conversation.ask(new)
            subscription.signal.set()

    def _sweep(self) -> None:
        """Gives up what nobody has used for a while."""
        dropped = []
        for channel in list(self.channels.values()):
            if channel.users:
                channel.idle_at = None
            elif channel.idle_at is None:
                channel.idle_at = now()
            elif channel.fault or now() - channel.idle_at >= _LINGER:
                channel.gone = True
                # SYNC: who joins adds itself first, and then looks whether the channel is gone.
                if channel.users:
                    channel.gone = False
                else:
                    del self.channels[channel.name]
                    if not channel.fault:
                        dropped.append(channel.name)
        if self._conversation is not None:
            self._conversation.drop(dropped)

    # --- what the server says: see `conversation`

    def message(self, channel: bytes, data: bytes) -> None:
        found = self.channels.get(channel)
        self._messages += 1
        # Of one that was given up a message may have been on its way.
        if found is not None:
            # SYNC: who joins adds itself first, and then looks at the last message: it is one of these, or delivered.
            found.last = (self._messages, data)
            for subscription in list(found.users):
                subscription.deliver(channel, data)

    def stands(self, channel: bytes) -> None:
        found = self.channels.get(channel)
        self._stood = self.number
        if found is not None:
            found.last = (0, b"")
            found.stands = self.number

    def answered(self, channels: Sequence[bytes]) -> None:
        for subscription in self._users(channels):
            subscription.signal.set()

    def refused(self, channels: Sequence[bytes], text: str) -> None:
        if text.startswith("NO"):
            fault: Error = refused(self.link.server, self.link.place, text)
        else:
            fault = IncompatibleSegmentError(f"{self.link.place} is too old: it says {text}")
        for name in channels:
            if name in self.channels:
                self.channels[name].fault = fault

    def server_runs(self, run: bytes) -> None:
        self.run = run

    def _users(self, names: Iterable[bytes]) -> Iterable[Subscription]:
        users: dict[Subscription, None] = {}
        for name in names:
            if name in self.channels:
                users.update(dict.fromkeys(list(self.channels[name].users)))
        return users


_all: weakref.WeakSet[Listener] = weakref.WeakSet()
_listeners: dict[Link, Listener] = {}
_forks = 0
"""Forks that this process has begun."""


def listener_of(link: Link) -> Listener:
    """The listener of this link in this process.

    Two threads that find none at once make two, and one of them serves those who have got it until they end.
    """
    found = _listeners.get(link)
    if found is None or found.ended or found.made_in != generation():
        found = _listeners[link] = Listener(link)
    return found


def _forking() -> None:
    global _forks
    _forks += 1


def _forked() -> None:
    _listeners.clear()
    for listener in list(_all):
        listener.forget()


os.register_at_fork(before=_forking, after_in_child=_forked)
