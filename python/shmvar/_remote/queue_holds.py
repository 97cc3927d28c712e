"""What this process holds of queues, and how it lets go: docs/remote.md, "Queues"."""

from __future__ import annotations

import math
import weakref

from shmvar._errors import (
    CorruptSegmentError,
    DetachedError,
    Error,
    LockLostError,
    SegmentNotFoundError,
)
from shmvar._remote import scripts
from shmvar._remote.link import generation, now
from shmvar._remote.names import shown
from shmvar._remote.owners import next_token
from shmvar._remote.presence import presence_of
from shmvar._remote.queue_items import Item, taken
from shmvar._remote.queue_waiting import LONGEST, nap_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from shmvar._remote.numbered import Requests
    from shmvar._remote.queue_base import ServerQueue

_PATIENCE = 2.0
"""Seconds for which the thread that renews waits for the server before it goes on with other things."""


class Hold:
    """That this process has an item. The server knows it by its token, which no other taking has.

    The token is drawn once the presence knows of the taking.
    """

    __slots__ = (
        "__weakref__",
        "_link",
        "_requests",
        "block",
        "body",
        "ended",
        "item",
        "made_in",
        "nap",
        "presence",
        "queue",
        "token",
    )

    def __init__(self, queue: ServerQueue) -> None:
        segment = queue.segment
        self.queue = queue
        self.token = b""
        self.made_in = generation()
        # The item is given back through a handle that was detached meanwhile, too.
        self._link, self._requests = segment._open, segment._requests
        self.presence = presence_of(self._link, self._requests)
        self.item: Item | None = None
        self.ended = False
        self.block: weakref.ref[Block] | None = None
        """Whose `with` block it is of."""
        self.body: tuple[bytes, bytes] | None = None
        self.nap = LONGEST

    def take(self) -> Item | None:
        """Takes the first item. None: there is none."""
        queue, presence = self.queue, self.presence
        drop_forgotten(self._requests)
        self.token = b""
        slots: list[tuple[bytes, int]] = []
        sent = now()
        try:
            presence.begin(self)
            self.token = next_token()
            answer = queue._poll(b"take", self.token, *presence.arguments(), what="the take from", slots=slots)
            if answer[:1] == b"n":
                presence.end(self)
                self.nap = nap_of(answer)
                return None
            if answer.endswith(b" ") and answer.count(b" ") == 2:
                # Only what the slot keeps: a copy came just before it was barred. The record is where it was taken to.
                ticket = answer.split(b" ")[1]
                answer += self._link.call(b"HGET", b"%bt:%b" % (self._requests.data, queue._field), ticket) or b""
            if answer[:1] == b"e" or (answer.endswith(b" ") and answer.count(b" ") == 2):
                # It was taken, and handed on before this was known.
                presence.end(self)
                self.nap = 0.0
                return None
            presence.taken(sent)
            self.item = taken(queue.name, answer)
            holds_of(self._requests).add(self)
        except BaseException:
            # It may have been taken, or may yet be.
            presence.end(self)
            if slots and self.made_in == generation():
                presence.later(_Undo(self, slots[0]))
            raise
        return self.item

    def value(self) -> Any:
        """The value of the item. Raises LockLostError if the item was handed on meanwhile."""
        self.fetch()
        assert self.item is not None and self.body is not None
        return self.item.value(*self.body, self.queue.segment._trusted)

    def fetch(self) -> None:
        """Fetches the bytes of the item. Raises LockLostError if the item was handed on meanwhile."""
        assert self.item is not None
        queue = self.queue
        found = queue._body(self.item)
        if found is None:
            if not self._is_there(self.item):
                raise self.lost()
            raise CorruptSegmentError(f"an item of queue {shown(queue.name)}: a chunk of its value is missing")
        self.body = found

    def _is_there(self, item: Item) -> bool:
        name = b"%bh:%b" % (self._requests.data, self.queue._field)
        holder = self._link.call(b"HGET", name, b"%d" % item.ticket)
        return holder is not None and holder.partition(b" ")[2] == self.token

    def end(self, failed: bool, end: float = math.inf) -> bool:
        """Finishes the item or, after an exception, gives it back. False: this hold has ended already.

        `end`: when that has to be over, by `link.now`.
        """
        op, what = (b"back", "the return to") if failed else (b"done", "the end of an item of")
        queue = self.queue
        assert self.item is not None
        arguments = (op, queue._field, b"%d" % self.item.ticket, self.token)
        what = f"{what} queue {shown(queue.name)}"
        # Who has lost a lock finishes nothing, but gives back what it can.
        answer = self._requests.change(self._link, scripts.QUEUE_FREES, arguments, what, end, guarded=not failed)
        self.forget()
        return answer != b"e"

    def forget(self) -> None:
        self.ended = True
        self.presence.end(self)
        holds_of(self._requests).discard(self)

    def abandon(self) -> None:
        """Gives the item back soon, in another thread: this one may do nothing that takes time."""
        if self.item is not None and not self.ended and self.made_in == generation():
            self.presence.later(_Ending(self, True))

    def finish_later(self) -> None:
        """Finishes the item as soon as that is possible; until then it stays this process's."""
        self.presence.later(_Ending(self, False))

    def lost(self) -> LockLostError:
        return LockLostError(
            f"{self._requests.name}: the item of queue {shown(self.queue.name)} is not this process's any more: the "
            "server had not heard of the process for its lease, or its connection was gone for `grace`, and the item "
            "was given back; nothing has changed"
        )


class _Ending:
    """The end of a hold that the presence's thread is to bring about, however long the server is away."""

    def __init__(self, hold: Hold, failed: bool) -> None:
        self.hold = hold
        self.failed = failed

    def __call__(self) -> None:
        try:
            self.carry_out(now() + _PATIENCE)
        except (SegmentNotFoundError, DetachedError):
            self.hold.forget()

    def carry_out(self, end: float) -> None:
        self.hold.end(self.failed, end)


class _Undo(_Ending):
    """Gives back what a take may have taken, and bars the copies of its request that are still on their way."""

    def __init__(self, hold: Hold, slot: tuple[bytes, int]) -> None:
        super().__init__(hold, True)
        self.slot = slot

    def carry_out(self, end: float) -> None:
        hold = self.hold
        link, requests = hold.presence.link, hold._requests
        arguments = (requests.id, *self.slot, b"undo", hold.queue._field, hold.token)
        link.script(scripts.QUEUE_FREES, requests.keys, arguments, link.waited(end=end))


class Block:
    """A `with` block, and what it has taken. `RemoteTakenItem` adds the calls."""

    __slots__ = ("__weakref__", "_attempts", "_hold", "_queue", "_timeout")

    def __init__(self, queue: ServerQueue, timeout: float | None) -> None:
        self._queue = queue
        self._timeout = timeout
        self._attempts = 0
        self._hold: Hold | None = None

    @property
    def attempts(self) -> int:
        return self._attempts

    @property
    def queue(self) -> ServerQueue:
        return self._queue

    def __del__(self) -> None:
        # The block never ended: the task was never finished, or nobody called `__exit__`.
        hold = getattr(self, "_hold", None)
        if hold is not None:
            hold.abandon()

    def _enterable(self) -> None:
        self._queue.segment._writable()
        if self._hold is not None:
            raise RuntimeError("the item is taken already: call take() for another one")

    def _leave(self, failed: bool) -> None:
        """Ends the block. Whatever interrupts it, the item is finished or given back."""
        hold = self._hold
        if hold is None:
            raise RuntimeError("the item was not taken: it is taken by `with`")
        try:
            if hold.made_in != generation():
                if failed:
                    return
                raise RuntimeError(
                    f"the item of queue {shown(self._queue.name)} is not done: this process does not hold it (was it "
                    "forked?)"
                )
            if failed:
                self._give_back(hold)
            else:
                self._finish(hold)
        finally:
            # CRASH: an interrupt before this line leaves the hold to the destructor, which gives it back.
            self._hold = None

    def _give_back(self, hold: Hold) -> None:
        try:
            hold.end(True)
        except Error:
            hold.abandon()
        except BaseException:
            hold.abandon()
            raise

    def _finish(self, hold: Hold) -> None:
        # Detaching has given back what was taken through the handle.
        self._queue.segment._open  # noqa: B018 - it raises DetachedError
        try:
            there = hold.end(False)
        except LockLostError:
            # Not of the item but of a lock: what was done under it may be of no worth.
            hold.abandon()
            raise
        except BaseException as error:
            # The work is done, so nobody is to begin it again.
            hold.finish_later()
            if isinstance(error, Error):
                error.add_note(
                    "the item stays taken, and is finished as soon as that is possible, unless this process ends before"
                )
            raise
        if not there:
            raise hold.lost()


_holds: weakref.WeakKeyDictionary[Requests, set[Hold]] = weakref.WeakKeyDictionary()


def holds_of(requests: Requests) -> set[Hold]:
    """What was taken through the handle of these requests."""
    return _holds.setdefault(requests, set())


def drop_forgotten(requests: Requests) -> None:
    """Gives back what no block has any more, and no destructor has given back: a signal handler interrupted that."""
    for hold in list(_holds.get(requests, ())):
        if hold.block is not None and hold.block() is None:
            hold.abandon()
            hold.block = None


def give_back_all(requests: Requests) -> None:
    """Gives back what was taken through a handle that is detached."""
    for hold in list(_holds.get(requests, ())):
        if hold.made_in == generation():
            try:
                hold.end(True, now() + _PATIENCE)
            except Error:
                hold.abandon()
