"""Chunks of large values straight from the socket into the memory where they stay.

The library's parser would copy each byte three times. This is the one place that reads a socket of the library, and
only one on which no answer is outstanding: then nothing is in the library's own buffers. Whatever is not exactly what
was expected ends the connection, and `Unexpected` sends the caller to `Link.run`, which judges errors and repeats.
"""

from __future__ import annotations

from shmvar._remote.callers import callers_own
from shmvar._remote.link import generation, now

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, TypeVar

    from shmvar._remote.link import Link

    _Taken = TypeVar("_Taken")

AHEAD = 3
"""Requests that are under way at a time: while one chunk arrives, the server prepares the next two."""


class Unexpected(Exception):
    """The chunks did not come this way: ask for them through the library."""


def receive(
    link: Link,
    requests: Sequence[bytes],
    lengths: Sequence[int],
    ahead: int,
    end: float,
    take: Callable[[Stream], _Taken],
) -> _Taken:
    """What `take` makes of the answers to these requests: strings of these lengths, one after the other.

    `end`: by `link.now`, when it is given up, however steadily bytes arrive.

    Raises Unexpected.
    """
    connection = None if link.server.tls else link._take()
    if connection is None:
        raise Unexpected
    whole = False
    try:
        link._busy.add(connection)
        socket = getattr(connection, "_sock", None)
        # A fork before the line above would have left the parent's connection here; after it, `forget` has met it.
        if socket is None or connection.made_in != generation():
            raise Unexpected
        stream = Stream(socket, requests, lengths, ahead, end)
        taken = take(stream)
        whole = stream.ended
        return taken
    except OSError as error:
        own = callers_own(error)
        if own is not None:
            raise own from None
        raise Unexpected from None
    finally:
        link._busy.discard(connection)
        if whole:
            link._give(connection)
        else:
            # An answer may be outstanding.
            connection.disconnect()


class Stream:
    """The bytes of the answers, as they arrive."""

    def __init__(self, socket: Any, requests: Sequence[bytes], lengths: Sequence[int], ahead: int, end: float) -> None:
        self.position = 0
        """How many bytes were taken."""
        self._socket, self._requests, self._lengths, self._end = socket, requests, lengths, end
        # The next request to be sent, the next answer, and what is left of this one.
        self._next, self._answer, self._left = min(ahead, len(requests)), 0, 0
        socket.sendall(b"".join(requests[: self._next]))
        self._begin(b"")

    @property
    def ended(self) -> bool:
        """Whether every answer was taken whole."""
        return self._answer == len(self._lengths) and not self._left

    def fill(self, view: memoryview) -> None:
        """Fills this memory with the next bytes."""
        while len(view):
            got = self._socket.recv_into(view[: self._left])
            if not got or now() > self._end:
                raise Unexpected
            self.position += got
            self._left -= got
            view = view[got:]
            if not self._left:
                self._begin(b"\r\n")

    def take(self, length: int) -> bytes:
        """The next few bytes."""
        room = bytearray(length)
        self.fill(memoryview(room))
        return bytes(room)

    def skip(self, length: int) -> None:
        """Passes over the next bytes."""
        room = memoryview(bytearray(min(length, 1 << 16)))
        while length:
            part = room[:length]
            self.fill(part)
            length -= len(part)

    def _begin(self, before: bytes) -> None:
        """Reads what stands between two strings, and asks for one more."""
        last = self._answer == len(self._lengths)
        expected = before if last else b"%b$%d\r\n" % (before, self._lengths[self._answer])
        found = b""
        while len(found) < len(expected):
            more = self._socket.recv(len(expected) - len(found))
            found += more
            # A missing chunk, an error, a chunk of another length: shorter than what is expected, perhaps.
            if not more or not expected.startswith(found):
                raise Unexpected
        if last:
            return
        self._left = self._lengths[self._answer]
        self._answer += 1
        if self._answer > 1 and self._next < len(self._requests):
            self._socket.sendall(self._requests[self._next])
            self._next += 1
