"""Large values: chunks that are sent and fetched beside the scripts.

A chunk is written with ten minutes to live, or longer where the whole value may take longer; the change that stores the
value makes all of its chunks stay, in one instant. A writer that is killed on the way leaves the old value, and chunks
that expire.
"""

from __future__ import annotations

import contextlib
import math
import os
from struct import unpack

from shmvar._core import _buffers_of, _unfilled
from shmvar._errors import Error
from shmvar._remote import wire
from shmvar._remote.link import SLOWEST, now, pack
from shmvar._remote.records import CHUNK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any, TypeVar

    from shmvar._remote.link import Link
    from shmvar._remote.records import Stored, Stub, _Apart

    _Taken = TypeVar("_Taken")

_LIFE = 600
"""The least seconds that a chunk lives until its value is stored."""
_AHEAD = 64 << 20
"""Bytes of chunks after which a replica is waited for: one that falls 256 MiB behind is disconnected by its primary."""
_LONGEST_STEP = 10_000
"""Milliseconds of the first wait, for which the time-out of a request with a chunk leaves room."""
_TOGETHER = 4
"""Chunks that are sent before their answers are awaited."""
_ALL = 64
"""Chunks that are asked for at once where a value is replaced again and again: the server has them in memory twice."""
_HEAD = 4096
"""The first bytes of a value with buffers: mostly its table and its pickle are in it."""


class Upload:
    """The chunks of the large values of one call."""

    def __init__(self, link: Link, data: bytes, values: Sequence[Stored]) -> None:
        self._link, self._data, self._values = link, data, values
        seconds = link.server.timeout + sum(stored.total for stored in values) / SLOWEST
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

    def drop(self, seconds: float = math.inf) -> None:
        """Removes the chunks where the value was not stored: nobody is charged for them.

        Nobody else has their names, and a late copy of one of them expires. If this fails, all expire.

        Args:
            seconds: after which no other try is begun.
        """
        if self.is_parents():
            return
        end = now() + seconds
        names = [
            chunk_name(self._data, stored.blob, number)
            for stored in self._values
            for number in range(-(-stored.total // CHUNK))
        ]
        with contextlib.suppress(Error):
            for first in range(0, len(names), 1000):
                self._link.run([pack(b"UNLINK", *names[first : first + 1000])], self._link.waited(end=end))

    def is_parents(self) -> bool:
        """Whether this process was forked during the call: the names are the parent's then, and so may be the value."""
        return any(stored.named_in != os.getpid() for stored in self._values)

    def renew(self) -> None:
        """Gives new names to all, before they are sent again: a late copy of the old ones may arrive yet."""
        for stored in self._values:
            stored.renew()


def upload(link: Link, data: bytes, stored: Stored, life: bytes, end: float) -> None:
    """Sends the chunks of one value, each with `life` milliseconds to live, from the memory where they are."""
    tail = b"\r\n$2\r\nNX\r\n$2\r\nPX\r\n$%d\r\n%b\r\n" % (len(life), life)
    # While a slot is on its way, each chunk is at one of two nodes, and is asked for where it is.
    together = 1 if link.of_slot else _TOGETHER
    requests: list[bytes | memoryview] = []
    count = size = 0
    for number, pieces in enumerate(_chunks(stored.parts)):
        name = chunk_name(data, stored.blob, number)
        # NX: a late copy must not give a time to live to a chunk that was made to stay meanwhile.
        length = sum(map(len, pieces))
        head = b"*6\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n" % (len(name), name, length)
        requests += head, *pieces, tail
        count, size = count + 1, size + length
        if count == together:
            _send(link, requests, count, size, end)
            requests, count, size = [], 0, 0
    if count:
        _send(link, requests, count, size, end)


def _send(link: Link, requests: list[Any], count: int, size: int, end: float) -> None:
    """Sends chunks of a large value, and after each 64 MiB of them waits for a replica, if there is any."""
    link.ahead += size
    full = link.ahead >= _AHEAD
    if full:
        link.ahead = 0
    if not full or not _has_replica(link):
        link.run(requests, link.waited(end=end), count)
        return
    wait = pack(b"WAIT", 1, _LONGEST_STEP)
    reached = link.run([*requests, wait], link.waited(end=end), count + 1)[-1]
    # As a rule this is the same connection: another one says at once what it knows.
    wait = pack(b"WAIT", 1, int(link.attempt * 500))
    while reached == 0 and now() < end and _has_replica(link):
        (reached,) = link.run((wait,), link.waited(end=end))


def _has_replica(link: Link) -> bool:
    return b"connected_slaves:0" not in link.call(b"INFO", b"replication")


def _chunks(parts: Sequence[bytes | memoryview]) -> Iterator[list[memoryview]]:
    """These bytes in chunks, each as the pieces of memory that it consists of."""
    chunk: list[memoryview] = []
    room = CHUNK
    for part in parts:
        rest = memoryview(part)
        while len(rest):
            piece, rest = rest[:room], rest[room:]
            chunk.append(piece)
            room -= len(piece)
            if not room:
                yield chunk
                chunk, room = [], CHUNK
    if chunk:
        yield chunk


def download(link: Link, data: bytes, stub: Stub, at_once: bool = False) -> bytes | None:
    """The bytes of a value. None: a chunk is missing, because the value was replaced meanwhile.

    `at_once`: all chunks are asked for together. A server carries out what it has read of one connection before it
    turns to another one, so that nobody replaces the value between two of them.
    """
    whole = _received(link, data, stub, at_once, lambda stream: _all_of(stub, stream))
    return _through_library(link, data, stub, at_once) if whole is None else whole


def download_apart(link: Link, data: bytes, stub: Stub, at_once: bool) -> _Apart | bytes | None:
    """As `download`; of a value with buffers, if possible, the pickle and each buffer in memory of its own."""
    if stub.kind == b"p":
        return download(link, data, stub, at_once)
    found = _received(link, data, stub, at_once, lambda stream: _apart(stub, stream))
    return _through_library(link, data, stub, at_once) if found is None else found


def _received(
    link: Link, data: bytes, stub: Stub, at_once: bool, take: Callable[[wire.Stream], _Taken]
) -> _Taken | None:
    """What `take` makes of the chunks. None: they must be asked for through the library."""
    if stub.count > _MOST:
        return None
    requests = [pack(b"GET", chunk_name(data, stub.blob, number)) for number in range(stub.count)]
    lengths = [min(CHUNK, stub.total - first) for first in range(0, stub.total, CHUNK)]
    # MemoryError: what the stub claims may not be there.
    with contextlib.suppress(wire.Unexpected, MemoryError):
        end = now() + link.server.timeout + stub.total / SLOWEST
        return wire.receive(link, requests, lengths, _ALL if at_once else wire.AHEAD, end, take)
    return None


_MOST = 1 << 16
"""More chunks, 256 GiB, are asked for one by one: so many may only be claimed."""


def _all_of(stub: Stub, stream: wire.Stream) -> bytes:
    room = _unfilled(stub.total)
    stream.fill(memoryview(room))
    return bytes(room)


def _apart(stub: Stub, stream: wire.Stream) -> _Apart:
    """The pickle and the buffers of a value."""
    total = stub.total
    head = stream.take(min(total, _HEAD))
    if total < 16:
        raise wire.Unexpected
    count, length = unpack("<QQ", head[:16])
    begins = 16 + 16 * count
    # What is damaged is fetched again as it is, for the error.
    if begins + length > total:
        raise wire.Unexpected
    if begins + length > len(head):
        head += stream.take(begins + length - len(head))
    places = _buffers_of(head, total)
    if places is None:
        raise wire.Unexpected
    buffers = []
    for at, size in places:
        buffer = _unfilled(size)
        view = memoryview(buffer)
        early = head[at : at + size]
        view[: len(early)] = early
        stream.skip(max(at - stream.position, 0))
        stream.fill(view[len(early) :])
        buffers.append(buffer)
    stream.skip(total - stream.position)
    return head[begins : begins + length], buffers


def _through_library(link: Link, data: bytes, stub: Stub, at_once: bool) -> bytes | None:
    chunks: list[bytes] = []
    end = now() + link.server.timeout + stub.total / SLOWEST
    together = _ALL if at_once else 1
    for first in range(0, stub.count, together):
        numbers = range(first, min(first + together, stub.count))
        requests = [pack(b"GET", chunk_name(data, stub.blob, number)) for number in numbers]
        for number, chunk in zip(numbers, link.run(requests, link.waited(end=end)), strict=True):
            if chunk is None or len(chunk) != min(CHUNK, stub.total - number * CHUNK):
                return None
            chunks.append(chunk)
    return b"".join(chunks)


def chunk_name(data: bytes, blob: bytes, number: int) -> bytes:
    return b"%bb:%b:%d" % (data, blob, number)
