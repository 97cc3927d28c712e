"""Large values: chunks that are sent and fetched beside the scripts.

A chunk is written with ten minutes to live, or longer where the whole value may take longer; the change that stores the
value makes all of its chunks stay, in one instant. A writer that is killed on the way leaves the old value, and chunks
that expire.
"""

from __future__ import annotations

import contextlib
import os

from shmvar._errors import Error
from shmvar._remote.link import SLOWEST, now, pack
from shmvar._remote.records import CHUNK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from shmvar._remote.link import Link
    from shmvar._remote.records import Stored, Stub

_LIFE = 600
"""The least seconds that a chunk lives until its value is stored."""
_AHEAD = 64 << 20
"""Bytes of chunks after which a replica is waited for: one that falls 256 MiB behind is disconnected by its primary."""
_LONGEST_STEP = 10_000
"""Milliseconds of the first wait, for which the time-out of a request with a chunk leaves room."""


class Upload:
    """The chunks of the large values of one call."""

    def __init__(self, link: Link, data: bytes, values: Sequence[Stored]) -> None:
        self._link, self._data, self._values = link, data, values
        seconds = link.server.timeout + sum(len(stored.body) for stored in values) / SLOWEST
        self.end = now() + seconds
        """When the whole call has to be over, however slow the network is."""
        # The first chunk is still there when the last one has arrived, with as much time again for the change.
        self._life = b"%d" % (max(_LIFE, 2 * seconds) * 1000)

    def send(self) -> None:
        """Sends all chunks.

        CRASH: here, or before the change that follows: the chunks expire.
        """
        for stored in self._values:
            upload(self._link, self._data, stored, self._life, self.end)

    def drop(self) -> None:
        """Removes the chunks where the value was not stored: nobody is charged for them.

        Nobody else has their names, and a late copy of one of them expires. If this fails, all expire.
        """
        if self.is_parents():
            return
        names = [
            chunk_name(self._data, stored.blob, number)
            for stored in self._values
            for number in range(-(-len(stored.body) // CHUNK))
        ]
        with contextlib.suppress(Error):
            for first in range(0, len(names), 1000):
                self._link.call(b"UNLINK", *names[first : first + 1000])

    def is_parents(self) -> bool:
        """Whether this process was forked during the call: the names are the parent's then, and so may be the value."""
        return any(stored.named_in != os.getpid() for stored in self._values)

    def renew(self) -> None:
        """Gives new names to all, before they are sent again: a late copy of the old ones may arrive yet."""
        for stored in self._values:
            stored.renew()


def upload(link: Link, data: bytes, stored: Stored, life: bytes, end: float) -> None:
    """Sends the chunks of one value, each with `life` milliseconds to live."""
    tail = b"\r\n$2\r\nNX\r\n$2\r\nPX\r\n$%d\r\n%b\r\n" % (len(life), life)
    body = memoryview(stored.body)
    for number, first in enumerate(range(0, len(body), CHUNK)):
        chunk = body[first : first + CHUNK]
        name = chunk_name(data, stored.blob, number)
        # NX: a late copy must not give a time to live to a chunk that was made to stay meanwhile.
        head = b"*6\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n" % (len(name), name, len(chunk))
        _send(link, (head, chunk, tail), len(chunk), end)


def _send(link: Link, request: tuple[Any, ...], length: int, end: float) -> None:
    """Sends a chunk of a large value, and after each 64 MiB of them waits for a replica, if there is any."""
    link.ahead += length
    full = link.ahead >= _AHEAD
    if full:
        link.ahead = 0
    if not full or not _has_replica(link):
        link.run(request, link.waited(end=end), 1)
        return
    wait = pack(b"WAIT", 1, _LONGEST_STEP)
    _, reached = link.run((*request, wait), link.waited(end=end), 2)
    # As a rule this is the same connection: another one says at once what it knows.
    wait = pack(b"WAIT", 1, int(link.attempt * 500))
    while reached == 0 and now() < end and _has_replica(link):
        (reached,) = link.run((wait,), link.waited(end=end))


def _has_replica(link: Link) -> bool:
    return b"connected_slaves:0" not in link.call(b"INFO", b"replication")


def download(link: Link, data: bytes, stub: Stub) -> bytes | None:
    """The bytes of a value. None: a chunk is missing, because the value was replaced meanwhile."""
    chunks = []
    end = now() + link.server.timeout + stub.total / SLOWEST
    for number in range(stub.count):
        (chunk,) = link.run([pack(b"GET", chunk_name(data, stub.blob, number))], link.waited(end=end))
        if chunk is None or len(chunk) != min(CHUNK, stub.total - number * CHUNK):
            return None
        chunks.append(chunk)
    return b"".join(chunks)


def chunk_name(data: bytes, blob: bytes, number: int) -> bytes:
    return b"%bb:%b:%d" % (data, blob, number)
