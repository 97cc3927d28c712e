"""What `acks` and `fsync` of a URL ask for: a change returns once replicas, or the primary's file, have it.

The server is asked on the connection of the change and in the same round trip: `WAIT` knows only what its own
connection wrote. On one that wrote nothing it says yes at once, so a repetition writes something, too.
"""

from __future__ import annotations

from shmvar._remote.connections import pack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from shmvar._remote.url import Server


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
