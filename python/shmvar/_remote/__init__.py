"""Segments on a Valkey or Redis server, for `valkey://host/#KEY`: docs/remote.md.

The extension module imports this package with the first URL. Nobody else does, so whoever uses none needs neither the
client library nor the time to import it.

| file | what |
| --- | --- |
| `url` | what a URL says |
| `opening` | `attach`, `destroy`, `exists`, `segments` |
| `segment`, `mapping` | `RemoteSegment`: its own calls, and those of a dict |
| `waiting` | `wait` and its kin |
| `changes`, `heard` | every change of a segment |
| `handle` | what every call needs |
| `displayed` | how they look in a notebook |
| `identity` | which segment a URL and an id mean |
| `arguments` | arguments of calls |
| `names`, `records` | keys and fields on the server; values to bytes and back |
| `blobs` | chunks of large values |
| `wire` | bytes of chunks straight from the socket |
| `numbered` | changes that are carried out once |
| `listener`, `subscription` | the thread that listens to a server, and what others have at it |
| `conversation`, `messages` | its connection, and what the server says there |
| `notices` | messages of changes |
| `threads` | how a thread of this package is started |
| `renewals` | functions that are called again and again |
| `near`, `near_memory`, `near_listener` | the near cache: its calls, what is shared on this host, its thread |
| `aio`, `workers` | coroutines, and the threads that make their calls |
| `locking`, `locks`, `task_locks`, `taking` | named locks, for threads and for tasks |
| `owners`, `presence` | who owns what is taken, and what others see of it while it lives |
| `scripts`, `lua/` | what runs in the server |
| `queues`, `queue` | `RemoteQueue` and `RemoteTakenItem` |
| `queue_calls`, `queue_holds` | tries of their calls; what this process holds |
| `queue_waiting`, `queue_tasks` | how threads and tasks wait for queues |
| `queue_base`, `queue_items` | what every call of a queue needs; items as the server has them |
| `link` | requests: what becomes of one until it has its answer |
| `waited`, `refusals`, `acks` | how long that may take; what the server says; the replicas that a change waits for |
| `pool`, `locate`, `sentinels` | connections to the primary of a segment; where that is |
| `connections` | how one is made and read; the only file that knows the client library |
| `callers` | errors of the caller's own signal handlers |
"""

from shmvar._remote.opening import attach, destroy, exists, segments
from shmvar._remote.segment import RemoteSegment

__all__ = ["RemoteSegment", "attach", "destroy", "exists", "segments"]
