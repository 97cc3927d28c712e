"""Large values: chunks that are sent and fetched beside the scripts.

A chunk is written with ten minutes to live; the change that stores the value makes all of its chunks stay, in one
instant. A writer that is killed on the way leaves the old value, and chunks that expire.
"""

from __future__ import annotations

from shmvar._remote.records import CHUNK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from shmvar._remote.link import Link
    from shmvar._remote.records import Stored, Stub

_TIME_TO_LIVE = b"\r\n$2\r\nNX\r\n$2\r\nPX\r\n$6\r\n600000\r\n"


def upload(link: Link, data: bytes, stored: Stored) -> None:
    """Sends the chunks of a value.

    CRASH: here, or before the change that follows: the chunks expire.
    """
    body = memoryview(stored.body)
    for number, first in enumerate(range(0, len(body), CHUNK)):
        chunk = body[first : first + CHUNK]
        name = chunk_name(data, stored.blob, number)
        # NX: a late copy must not give a time to live to a chunk that was made to stay meanwhile.
        head = b"*6\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n" % (len(name), name, len(chunk))
        link.run((head, chunk, _TIME_TO_LIVE), link.waited(), 1)


def download(link: Link, data: bytes, stub: Stub) -> bytes | None:
    """The bytes of a value. None: a chunk is missing, because the value was replaced meanwhile."""
    chunks = []
    for number in range(stub.count):
        chunk = link.call(b"GET", chunk_name(data, stub.blob, number))
        if chunk is None or len(chunk) != min(CHUNK, stub.total - number * CHUNK):
            return None
        chunks.append(chunk)
    return b"".join(chunks)


def chunk_name(data: bytes, blob: bytes, number: int) -> bytes:
    return b"%bb:%b:%d" % (data, blob, number)
