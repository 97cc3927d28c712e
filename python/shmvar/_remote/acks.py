"""Waits for replicas: what `acks` and `fsync` of a URL ask for, and what a large value needs.

With `acks` or `fsync` a change returns once replicas, or the primary's file, have it.

The server is asked on the connection of the change and in the same round trip: `WAIT` knows only what its own
connection wrote. On one that wrote nothing it says yes at once, so a repetition writes something, too.
"""

from __future__ import annotations

from shmvar._remote.connections import now, pack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from shmvar._remote.link import Link
    from shmvar._remote.url import Server

AHEAD = 64 << 20
"""Bytes of chunks after which a replica is waited for: one that falls 256 MiB behind is disconnected by its primary."""
_STEP = 10_000


def tail(server: Server, seconds: float) -> list[bytes]:
    """Requests that go behind a change, which wait for so long."""
    milliseconds = max(1, int(seconds * 1000))
    requests = []
    if server.acks:
        requests.append(pack(b"WAIT", server.acks, milliseconds))
    if server.fsync:
        requests.append(pack(b"WAITAOF", 1, 0, milliseconds))
    return requests


def short(server: Server, answers: list[Any]) -> str:
    """What is missing yet, by the answers to `tail`."""
    if server.acks and not (isinstance(answers[0], int) and answers[0] >= server.acks):
        return f"{answers[0]} of the {server.acks} replicas that acks asks for have it"
    if server.fsync and not (isinstance(answers[-1], list) and answers[-1][:1] == [1]):
        return "it is not in the append-only file yet"
    return ""


def send_chunk(link: Link, request: tuple[Any, ...], length: int, end: float) -> None:
    """Sends a chunk of a large value, and after each 64 MiB of them waits for a replica, if there is any."""
    link.ahead += length
    full = link.ahead >= AHEAD
    if full:
        link.ahead = 0
    if not full or not _has_replica(link):
        link.run(request, link.waited(end=end), 1)
        return
    wait = pack(b"WAIT", 1, _STEP)
    _, reached = link.run((*request, wait), link.waited(end=end), 2)
    # As a rule this is the same connection: another one says at once what it knows.
    while reached == 0 and now() < end and _has_replica(link):
        (reached,) = link.run((wait,), link.waited(end=end))


def _has_replica(link: Link) -> bool:
    return b"connected_slaves:0" not in link.call(b"INFO", b"replication")
