"""What every call of a queue on a server needs: its names, its requests, and what an item's bytes are."""

from __future__ import annotations

import math

from shmvar._errors import SegmentFullError
from shmvar._queue_errors import QueueEmptyError
from shmvar._remote import blobs, scripts
from shmvar._remote.names import field_of, shown
from shmvar._remote.queue_items import as_item, queues_of, within

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from shmvar._remote.handle import Handle
    from shmvar._remote.mapping import Mapping
    from shmvar._remote.queue_items import Item


class ServerQueue:
    """One queue, through one handle. `RemoteQueue` adds the calls."""

    __slots__ = ("__weakref__", "_field", "_maxsize", "_name", "_segment")

    def __init__(self, segment: Mapping, name: int | str, maxsize: int) -> None:
        self._segment = segment
        self._name = name
        self._field = field_of(name)
        self._maxsize = maxsize

    @property
    def name(self) -> int | str:
        return self._name

    @property
    def segment(self) -> Mapping:
        return self._segment

    @property
    def maxsize(self) -> int:
        return self._maxsize

    def qsize(self) -> int:
        waiting, held = self._counts()
        if held and not self._segment._readonly:
            # Whose holder has died is found out by looking.
            waiting = self._look()[0]
        return waiting

    def _change(self, frees: bool, op: bytes, *arguments: bytes, what: str, end: float = math.inf) -> bytes:
        """A change of the queue: see queue.lua."""
        script = scripts.QUEUE_FREES if frees else scripts.QUEUE
        return self._segment._change(script, (op, self._field, *arguments), f"{what} queue {shown(self._name)}", end)

    def _poll(self, op: bytes, *arguments: bytes, what: str, slots: list[tuple[bytes, int]] | None = None) -> bytes:
        """A change of the queue that records nothing where it changes nothing."""
        segment = self._segment
        segment._writable()
        what = f"{what} queue {shown(self._name)}"
        return segment._requests.change(
            segment._open, scripts.QUEUE_FREES, (op, self._field, *arguments), what, unrecorded=b"nb", slots=slots
        )

    def _grace(self) -> bytes:
        return grace_of(self._segment)

    def _look(self, end: float = math.inf) -> tuple[int, int, int]:
        """How many items wait, how many are held, how many holders look dead. What dead ones have is given back.

        `end`: when the server has to have answered, by `link.now`.
        """
        segment = self._segment
        requests, link = segment._requests, segment._open
        arguments = (requests.id, b"", 0, b"look", self._field, self._grace())
        answer = link.script(scripts.QUEUE_FREES, requests.keys, arguments, link.waited(end=end))
        if answer == b"g":
            raise requests.gone()
        waiting, held, dying = answer
        return waiting, held, dying

    def _counts(self) -> tuple[int, int]:
        """How many items wait and are held, by a read."""
        ((_, waiting, held, _),) = queues_of(read_queues(self._segment, self._field))
        return waiting, held

    def _body(self, item: Item) -> tuple[bytes, bytes] | None:
        """How the bytes of an item are to be read, and the bytes. None: a chunk is missing."""
        record, segment = item.record, self._segment
        if not item.is_large:
            return record.kind, record.payload
        with as_item(self._name):
            stub = record.stub(self._name, segment._largest())
        body = blobs.download(segment._open, segment._requests.data, stub)
        return None if body is None else (stub.kind, body)

    def _empty_error(self, seconds: float | None) -> QueueEmptyError:
        name, waiting = shown(self._name), self.qsize()
        if not waiting:
            return QueueEmptyError(f"queue {name} had no item{within(seconds)}")
        return QueueEmptyError(f"queue {name}: no item could be taken{within(seconds)}; now {waiting} items wait in it")

    def _full_text(self, error: SegmentFullError) -> str:
        requests = self._segment._requests
        return f"{requests.name}, queue {shown(self._name)}: {str(error).removeprefix(f'{requests.name}: ')}"


def grace_of(handle: Handle) -> bytes:
    """For how long a connection may be gone before its process counts as dead, in us."""
    return b"%d" % max(1, round(handle._url.server.grace * 1e6))


def read_queues(handle: Handle, *field: bytes) -> Any:
    """What queues.lua returns: of all queues that have items, or of one."""
    requests, link = handle._requests, handle._open
    arguments = (requests.id, grace_of(handle), *field)
    answer = link.script(scripts.QUEUES, requests.keys[:2], arguments, link.waited(), handle._readonly)
    if answer == b"g":
        raise requests.gone()
    return answer
