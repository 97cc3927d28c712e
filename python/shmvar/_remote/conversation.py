"""One connection of a listener: what was asked on it and is not answered yet, and what the server says.

The socket is used as it is: the client library's own reader does not tell when messages were missed, and does not bound
what a server may make it keep.
"""

from __future__ import annotations

import collections
import contextlib
import selectors
import ssl

from shmvar._remote.connections import now, pack
from shmvar._remote.messages import BadMessage, Parser, Refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence
    from typing import Any, Protocol

    from shmvar._remote.messages import Message

    class _Hearer(Protocol):
        """Who is told what the server says."""

        def message(self, channel: bytes, data: bytes) -> None: ...
        def stands(self, channel: bytes) -> None: ...
        def answered(self, channels: Sequence[bytes]) -> None:
            """Each of these stands, or was refused."""

        def refused(self, channels: Sequence[bytes], text: str) -> None: ...
        def server_runs(self, run: bytes) -> None: ...


_PING, _SILENCE = 1.0, 3.0
"""Seconds between two PINGs, and after one of them without any byte until the connection is taken as lost."""
_PORTION = 64 << 10
"""Bytes that are read at once."""
_MANY = 500
"""Channels of one request."""


class Moved(Exception):
    """The segment is on another server now, or its messages are."""


class _Request:
    """A request that is not answered yet."""

    __slots__ = ("answers", "kind", "names")

    def __init__(self, kind: bytes, names: Sequence[bytes]) -> None:
        self.kind = kind
        self.names = names
        self.answers = 0
        """How many of the names have theirs."""


class Conversation:
    """A connection. `near` is a socket that ends `rest` when another thread wants something."""

    def __init__(self, connection: Any, near: socket.socket, hearer: _Hearer) -> None:
        self._connection = connection
        self._hearer = hearer
        self._sock = connection._sock
        self._sock.setblocking(False)
        self._parser = Parser()
        self._out = bytearray()
        self._sent: collections.deque[_Request] = collections.deque()
        # Whether there may be more to read, which no selector would tell.
        self._more = False
        self._unanswered: float | None = None
        self._next_ping = now() + _PING
        self._selector = selectors.DefaultSelector()
        self._selector.register(near, selectors.EVENT_READ)
        self._selector.register(self._sock, selectors.EVENT_READ)
        self._watched = selectors.EVENT_READ

    def close(self) -> None:
        """Ends the connection."""
        self._selector.close()
        with contextlib.suppress(Exception):
            self._connection.disconnect()

    def forget(self) -> None:
        """In a forked child: the connection is the parent's, for whom it would end if it were shut down."""
        for it in (self._sock, self._selector):
            with contextlib.suppress(Exception):
                it.close()

    def ask_run(self) -> None:
        """Asks for the run id of the server. Before the first channel: the server takes no such request afterwards."""
        self._send(b"INFO", (), b"server")

    def ask(self, names: Sequence[bytes], kind: bytes = b"SSUBSCRIBE") -> None:
        """Asks for channels, those of each segment by themselves: in a cluster a request may not name two slots."""
        groups: dict[bytes, list[bytes]] = {}
        for name in names:
            groups.setdefault(name.partition(b"}")[0], []).append(name)
        for group in groups.values():
            for first in range(0, len(group), _MANY):
                portion = group[first : first + _MANY]
                self._send(kind, portion, *portion)

    def drop(self, names: Sequence[bytes]) -> None:
        """Gives channels up."""
        self.ask(names, b"SUNSUBSCRIBE")

    def _send(self, kind: bytes, names: Sequence[bytes], *arguments: bytes) -> None:
        self._sent.append(_Request(kind, names))
        self._out += pack(kind, *arguments)

    def ping_is_due(self) -> bool:
        """Whether a second has passed: then a PING is sent. Raises where none was answered."""
        if now() < self._next_ping:
            return False
        if self._unanswered is None:
            self._unanswered = now()
        elif now() - self._unanswered > _SILENCE:
            raise ConnectionError(f"the server has said nothing for {_SILENCE:g} s")
        self._next_ping = now() + _PING
        self._send(b"PING", ())
        return True

    def rest(self) -> bool:
        """Sends what is to be sent, and sleeps until there is something to do. Returns whether another thread asks."""
        while self._out:
            try:
                del self._out[: self._sock.send(self._out)]
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                break
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._out else 0)
        if events != self._watched:
            self._watched = events
            self._selector.modify(self._sock, events)
        asked = False
        for key, happened in self._selector.select(0 if self._more else max(self._next_ping - now(), 0)):
            if key.fileobj is not self._sock:
                asked = True
            elif happened & selectors.EVENT_READ:
                self._more = True
        return asked

    def receive(self) -> None:
        """Takes in what the server has said. Raises for a lost connection."""
        if not self._more:
            return
        try:
            data = self._sock.recv(_PORTION)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            self._more = False
            return
        if not data:
            raise ConnectionError("the server has closed the connection")
        self._more = len(data) == _PORTION or isinstance(self._sock, ssl.SSLSocket)
        self._unanswered = None
        for message in self._parser.feed(data):
            self._take(message)

    def _take(self, message: Message) -> None:
        if isinstance(message, list) and len(message) == 3 and message[0] == b"smessage":
            _, name, data = message
            if not isinstance(name, bytes) or not isinstance(data, bytes):
                raise BadMessage("a message without a channel or a text")
            self._hearer.message(name, data)
            return
        if not self._sent:
            if isinstance(message, list) and message[:1] == [b"sunsubscribe"]:
                raise Moved("the server has ended the subscription")
            raise BadMessage("an answer that nobody asked for")
        request = self._sent[0]
        if isinstance(message, Refusal):
            self._refused(request, str(message))
        elif isinstance(message, list) and len(message) == 3:
            kind, name, _ = message
            if kind != request.kind.lower() or name != request.names[request.answers]:
                if kind == b"sunsubscribe":
                    raise Moved("the server has ended the subscription")
                raise BadMessage(f"an answer {kind!r} to {request.kind!r}")
            self._confirmed(request)
        elif request.kind == b"INFO" and isinstance(message, bytes):
            self._sent.popleft()
            runs = [line[7:] for line in message.splitlines() if line.startswith(b"run_id:")]
            self._hearer.server_runs(runs[0] if runs and len(runs[0]) <= 64 else b"")
        elif request.kind == b"PING" and message in (b"PONG", [b"pong", b""]):
            self._sent.popleft()
        else:
            raise BadMessage(f"no answer to {request.kind!r}")

    def _confirmed(self, request: _Request) -> None:
        """The server's word for the next channel of a request."""
        name = request.names[request.answers]
        request.answers += 1
        subscribes = request.kind == b"SSUBSCRIBE"
        if subscribes:
            self._hearer.stands(name)
        if request.answers == len(request.names):
            self._sent.popleft()
            if subscribes:
                self._hearer.answered(request.names)

    def _refused(self, request: _Request, text: str) -> None:
        self._sent.popleft()
        if request.kind == b"INFO":
            self._hearer.server_runs(b"")
        elif request.kind == b"SSUBSCRIBE" and (text.startswith(("NOPERM", "NOAUTH")) or "nknown command" in text):
            self._hearer.refused(request.names, text)
            self._hearer.answered(request.names)
        else:
            raise ConnectionError(text)
