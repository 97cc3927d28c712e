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
import selectors
import socket
import ssl
import threading
import weakref

from shmvar._errors import Error, IncompatibleSegmentError
from shmvar._remote.link import generation, now, pack
from shmvar._remote.messages import BadMessage, Parser, Refusal
from shmvar._remote.subscription import Subscription

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from shmvar._remote.link import Link
    from shmvar._remote.messages import Message
    from shmvar._remote.subscription import Signal

_LINGER = 5.0
"""Seconds for which a subscription stays that nobody uses: a wait in a loop would otherwise pay for one each time."""
_PING, _SILENCE = 1.0, 3.0
"""Seconds between two PINGs, and after one of them without any byte until the connection is taken as lost."""
_FIRST_PAUSE, _LONGEST_PAUSE, _AFTER_FAULT = 0.01, 0.5, 5.0
_PORTION = 64 << 10
"""Bytes that are read at once."""
_MANY = 500
"""Channels of one request."""


class Channel:
    """A channel to which the thread has subscribed, or is about to."""

    __slots__ = ("fault", "gone", "idle_at", "name", "stands", "users")

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.users: dict[Subscription, None] = {}
        """Changed by any thread, one item at a time."""
        self.stands = 0
        """The number of the connection on which the server has given its word."""
        self.gone = False
        """The thread is about to give it up."""
        self.idle_at: float | None = None
        """Since when nobody uses it, as far as the thread has looked."""
        self.fault: Error | None = None
        """Why the server refuses it."""


class _Request:
    """A request on the connection that is not answered yet."""

    __slots__ = ("answered", "kind", "names")

    def __init__(self, kind: bytes, names: Sequence[bytes] = ()) -> None:
        self.kind = kind
        self.names = names
        self.answered = 0
        """How many of the names have their answer."""


class _Moved(Exception):
    """The segment is on another server now."""


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
        self._connections = 0
        self._connection: Any = None
        self._selector: Any = None
        self._asked: collections.deque[Subscription] = collections.deque()
        self._sent: collections.deque[_Request] = collections.deque()
        self._out = bytearray()
        self._starts: list[None] = [None]
        self._near, self._far = socket.socketpair()
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
        signal: Signal | None = None,
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
        return Subscription(self.link, listener_of, tuple(channels), on_message, run, signal, limit)

    def join(self, subscription: Subscription) -> bool:
        """Takes a subscription on. False: this listener has ended."""
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
                threading.Thread(target=self._run, name="shmvar-listener", daemon=True).start()
            except BaseException:
                # The system has no more threads: the next one to join tries again with another listener.
                self.ended = True
                self._close_all()
                raise
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
        connection, self._connection = self._connection, None
        # Closed, not shut down, which would end it for the parent, too.
        for it in (getattr(connection, "_sock", None), self._selector, self._near, self._far):
            if it is not None:
                with contextlib.suppress(Exception):
                    it.close()

    # --- the thread

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        try:
            while not self._is_over():
                began = now()
                try:
                    self._take_asked()
                    self._connect()
                    self._serve()
                except Exception as error:
                    if self.made_in == generation():
                        self._lose(error)
                if now() - began > 2 * _PING:
                    pause = _FIRST_PAUSE
                if not self._is_over():
                    self._wait_at_most(_AFTER_FAULT if self.fault else pause * random.uniform(0.5, 1.0))
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
        self._moves = getattr(link, "moves", 0)
        forks = _forks
        connect = getattr(link, "connect", None) or link._connect
        connection = connect(now() + link.attempt)
        self._connection = connection
        if forks != _forks:
            # A child may have it, too, and would keep it open for as long as it lives.
            connection.disconnect()
            raise ConnectionError("this process was forked while it connected")
        self._sock = connection._sock
        self._sock.setblocking(False)
        self._parser = Parser()
        self._out.clear()
        self._sent.clear()
        self._more = False
        self._unanswered: float | None = None
        self._next_ping = now() + _PING
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._near, selectors.EVENT_READ)
        self._selector.register(self._sock, selectors.EVENT_READ)
        self._watched = selectors.EVENT_READ
        self.run = None
        if self._asks_run:
            # Before the first subscription: afterwards the server takes no such request.
            self._send(_Request(b"INFO"), b"server")
        self.fault = None
        self._connections += 1
        self.number = self._connections
        self._ask(list(self.channels))

    def _lose(self, error: Exception) -> None:
        """The connection is lost, or was not made: all who wait have to look again."""
        try:
            self.link._judged(error, self.link.waited())
            self.fault = None
        except Error as final:
            # What is no answer of a server to a connection says nothing of the next one.
            self.fault = None if isinstance(error, BadMessage | Refusal | _Moved) else final
        except Exception:
            self.fault = None
        self._drop_connection()
        self._tell_all()

    def _drop_connection(self) -> None:
        # SYNC: the number first: who looks after it was told finds that nothing stands.
        self.number = 0
        self.run = None
        connection, self._connection = self._connection, None
        if self._selector is not None:
            self._selector.close()
            self._selector = None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.disconnect()

    def _tell_all(self) -> None:
        told: dict[Subscription, None] = dict.fromkeys(list(self._asked))
        for channel in list(self.channels.values()):
            channel.fault = None
            told.update(dict.fromkeys(list(channel.users)))
        for subscription in told:
            subscription.look_again()

    def _serve(self) -> None:
        """Receives messages until nobody uses this listener. Raises for a lost connection."""
        while True:
            self._take_asked()
            if now() >= self._next_ping:
                self._tick()
                if self._is_over():
                    return
            if getattr(self.link, "moves", 0) != self._moves:
                raise _Moved("the segment has moved")
            self._flush()
            for key, events in self._selector.select(0 if self._more else max(self._next_ping - now(), 0)):
                if key.fileobj is self._near:
                    self._drain()
                elif events & selectors.EVENT_READ:
                    self._more = True
            if self.made_in != generation():
                return
            if self._more:
                self._receive()

    def _wait_at_most(self, seconds: float) -> None:
        """A pause without a connection."""
        until = now() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self._near, selectors.EVENT_READ)
            while (left := until - now()) > 0 and self.made_in == generation():
                if selector.select(left):
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
                    raise _Moved("the run id of the server is asked for, which needs another connection")
            if self.number:
                self._ask(new)
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
        if self.number:
            self._ask(dropped, b"SUNSUBSCRIBE")

    def _tick(self) -> None:
        if self._unanswered is not None and now() - self._unanswered > _SILENCE:
            raise ConnectionError(f"the server has said nothing for {_SILENCE:g} s")
        if self._unanswered is None:
            self._unanswered = now()
        self._next_ping = now() + _PING
        self._send(_Request(b"PING"))
        self._sweep()

    # --- the connection

    def _ask(self, names: Sequence[bytes], kind: bytes = b"SSUBSCRIBE") -> None:
        """Asks for channels, those of each segment by themselves: in a cluster a request may not name two slots."""
        groups: dict[bytes, list[bytes]] = {}
        for name in names:
            groups.setdefault(name.partition(b"}")[0], []).append(name)
        for group in groups.values():
            for first in range(0, len(group), _MANY):
                portion = group[first : first + _MANY]
                self._send(_Request(kind, portion), *portion)

    def _send(self, request: _Request, *arguments: bytes) -> None:
        self._sent.append(request)
        self._out += pack(request.kind, *arguments)

    def _flush(self) -> None:
        while self._out:
            try:
                del self._out[: self._sock.send(self._out)]
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                break
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._out else 0)
        if events != self._watched:
            self._watched = events
            self._selector.modify(self._sock, events)

    def _receive(self) -> None:
        try:
            data = self._sock.recv(_PORTION)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            self._more = False
            return
        if not data:
            raise ConnectionError("the server has closed the connection")
        # With TLS there may be more that a selector does not see.
        self._more = len(data) == _PORTION or isinstance(self._sock, ssl.SSLSocket)
        self._unanswered = None
        for message in self._parser.feed(data):
            self._take(message)

    def _take(self, message: Message) -> None:
        if isinstance(message, list) and len(message) == 3 and message[0] == b"smessage":
            name, data = message[1:]
            channel = self.channels.get(name) if isinstance(name, bytes) else None
            # Of one that was given up a message may have been on its way.
            if channel is not None and isinstance(data, bytes):
                for subscription in list(channel.users):
                    subscription.deliver(channel.name, data)
            return
        if not self._sent:
            raise BadMessage("an answer that nobody asked for")
        request = self._sent[0]
        if isinstance(message, Refusal):
            self._sent.popleft()
            self._refused(request, str(message))
        elif isinstance(message, list) and len(message) == 3:
            kind, name, _ = message
            expected = request.names[request.answered] if request.names else None
            if kind != request.kind.lower() or name != expected:
                if kind == b"sunsubscribe":
                    raise _Moved("the server has ended the subscription")
                raise BadMessage(f"an answer {kind!r} to {request.kind!r}")
            self._confirm(request)
        elif request.kind == b"INFO" and isinstance(message, bytes):
            self._sent.popleft()
            runs = [line[7:] for line in message.splitlines() if line.startswith(b"run_id:")]
            self.run = runs[0] if runs and len(runs[0]) <= 64 else b""
        elif request.kind == b"PING" and (message == b"PONG" or message == [b"pong", b""]):
            self._sent.popleft()
        else:
            raise BadMessage(f"no answer to {request.kind!r}")

    def _confirm(self, request: _Request) -> None:
        """The server's word for the next channel of a request."""
        channel = self.channels.get(request.names[request.answered])
        request.answered += 1
        if channel is not None and request.kind == b"SSUBSCRIBE":
            channel.stands = self.number
        if request.answered == len(request.names):
            self._sent.popleft()
            if request.kind == b"SSUBSCRIBE":
                self._wake_users(request.names)

    def _refused(self, request: _Request, text: str) -> None:
        if request.kind == b"INFO":
            self.run = b""
            return
        fault: Error | None = None
        if text.startswith(("NOPERM", "NOAUTH")):
            fault = self.link._refused(text)
        elif "nknown command" in text:
            fault = IncompatibleSegmentError(f"{self.link.server.place} is too old: it says {text}")
        if fault is None or request.kind != b"SSUBSCRIBE":
            raise ConnectionError(text)
        for name in request.names:
            channel = self.channels.get(name)
            if channel is not None:
                channel.fault = fault
        self._wake_users(request.names)

    def _wake_users(self, names: Iterable[bytes]) -> None:
        woken: dict[Subscription, None] = {}
        for name in names:
            channel = self.channels.get(name)
            if channel is not None:
                woken.update(dict.fromkeys(list(channel.users)))
        for subscription in woken:
            subscription.signal.set()


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
