"""Calls of queues, which may be tried several times, and what this process holds: docs/remote.md, "Queues"."""

from __future__ import annotations

import math
import weakref

from shmvar._core import _unfilled
from shmvar._errors import CorruptSegmentError, LockLostError, SegmentFullError
from shmvar._own_errors import comes_again
from shmvar._queue_errors import QueueFullError
from shmvar._remote.names import shown
from shmvar._remote.queue_holds import Block, Hold
from shmvar._remote.queue_items import Item, within
from shmvar._remote.queue_waiting import LONGEST, ROOM_POLL, nap_of
from shmvar._remote.records import Stored

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from shmvar._remote.queue_base import ServerQueue

AT_ONCE = b"1024"
"""Bytes of a record that `get` is given with its answer, which the server keeps: a longer one is taken and finished."""
PLENTY = 100
"""So many times the bytes of a value are memory enough: the objects of plain data need less. An empty dict, which is a
byte or two of a pickle, takes 72."""


class Put:
    """One put, which may be tried several times."""

    def __init__(self, queue: ServerQueue, stored: Stored, waits: bool = True) -> None:
        self.queue = queue
        self.stored = stored
        # What is put is the value as it was at the call, however long the put waits for room.
        stored.keep()
        self.nap = LONGEST
        """For how long a message may be waited for now, in seconds."""
        self.full: SegmentFullError | None = None
        """Why there was no room, where that was the segment."""
        self.waiting = 0
        self._most = b"%d" % max(queue.maxsize if waits else 0, 0)

    def __call__(self) -> bool | None:
        """Puts the value if there is room. None: there is none."""
        queue, stored = self.queue, self.stored
        what = "the put to"

        def change(end: float) -> bytes:
            return queue._change(False, b"put", stored.kind, stored.payload, self._most, what=what, end=end)

        self.full, self.nap = None, LONGEST
        try:
            segment = queue.segment
            if stored.total:
                answer = segment._with_chunks([stored], f"{what} queue {shown(queue.name)}", change)
            else:
                answer = change(math.inf)
        except SegmentFullError as error:
            text = queue._full_text(error)
            self.full = SegmentFullError(text, error.needed, error.free, error.size)
            if not error.needed or error.needed > (error.size or 0):
                # The server's own memory is full, or this can never fit.
                raise self.full from None
            # Nobody tells of room that a variable leaves.
            self.nap = ROOM_POLL
            return None
        if answer[:1] == b"m":
            self.waiting = int(answer[1:])
            return None
        return True

    def error(self, seconds: float | None) -> QueueFullError:
        queue = self.queue
        name = shown(queue.name)
        if self.full is not None:
            return QueueFullError(f"queue {name}: the segment had no room for the item{within(seconds)}: {self.full}")
        return QueueFullError(
            f"queue {name} had no room{within(seconds)}: at most {queue.maxsize} items may wait in it, and now "
            f"{self.waiting} do"
        )


class Get:
    """One get, which may be tried several times."""

    def __init__(self, queue: ServerQueue) -> None:
        self.queue = queue
        self.nap = LONGEST
        self.got: tuple[Item, bytes, bytes] | None = None
        """What was removed last, for a task that is cancelled."""

    def __call__(self) -> tuple[Any] | None:
        """Removes the first item and returns its value. None: there is none."""
        queue = self.queue
        while True:
            answer = queue._poll(b"get", AT_ONCE, queue._grace(), what="the get from")
            if answer[:1] == b"n":
                self.nap = nap_of(answer)
                return None
            if answer[:1] == b"o":
                item = Item(queue.name, answer[1:])
                self.got = item, item.record.kind, item.record.payload
                return (item.value(*self.got[1:], queue.segment._trusted),)
            # A long one: it is taken, so that it waits again if this process dies meanwhile.
            hold = Hold(queue)
            try:
                if hold.take() is not None:
                    value = self._read(hold)
                    if value is not None:
                        return value
                elif hold.nap < LONGEST:
                    self.nap = hold.nap
                    return None
            except BaseException:
                # An interrupt, or what kept the item from being read may pass: then it is given back.
                hold.abandon()
                raise

    def _read(self, hold: Hold) -> tuple[Any] | None:
        """The value of what is held, which then goes. None: the hold has ended meanwhile.

        An item that cannot be rebuilt goes, too, or it would be in the way of all others. What else is raised may pass:
        what a signal handler raises, a lack of memory.
        """
        values: list[Any] = []
        try:
            hold.fetch()
        except LockLostError:
            hold.forget()
            return None
        except CorruptSegmentError:
            if not hold.end(False):
                return None
            raise
        assert hold.item is not None and hold.body is not None
        try:
            hold.item.value_into(values, *hold.body, self.queue.segment._trusted)
        except Exception as error:
            if values or not self._is_of_the_value(error, hold):
                raise
            if not hold.end(False):
                return None
            raise
        if not hold.end(False):
            return None
        self.got = hold.item, *hold.body
        return (values[0],)

    def _is_of_the_value(self, error: Exception, hold: Hold) -> bool:
        """Whether an error of decoding what is held would come for ever."""
        item, body, trusted = hold.item, hold.body, self.queue.segment._trusted
        assert item is not None and body is not None
        if not comes_again(error, lambda: item.value(*body, trusted)):
            return False
        if not isinstance(error, MemoryError):
            return True
        # Where there is plenty all the same, the value asks for more than there can be.
        try:
            _unfilled(PLENTY * len(body[1]))
        except MemoryError:
            return False
        return True

    def undo(self) -> None:
        """Puts what was removed back, as the first: nobody has got it."""
        if self.got is None:
            return
        item, kind, body = self.got
        self.got = None
        stored = Stored.of_body(kind, body)
        queue = self.queue
        ticket, attempts = b"%d" % item.ticket, b"%d" % item.attempts

        def change(end: float) -> bytes:
            return queue._change(
                True, b"again", ticket, stored.kind, stored.payload, attempts, what="the return to", end=end
            )

        if stored.total:
            queue.segment._with_chunks([stored], f"the return to queue {shown(queue.name)}", change)
        else:
            change(math.inf)


class Take:
    """One take, which may be tried several times."""

    def __init__(self, item: Block) -> None:
        item._enterable()
        self.item = item
        self.hold: Hold | None = None
        self.nap = LONGEST

    def __call__(self) -> tuple[Any] | None:
        """Takes the first item and returns its value. None: there is none."""
        item = self.item
        hold = self.hold = Hold(item._queue)
        try:
            found = hold.take()
            if found is None:
                self.nap = hold.nap
                return None
            if item._hold is None:
                # Also where the value cannot be rebuilt: the caller then learns how often that has happened.
                item._attempts = found.attempts
            value = (hold.value(),)
            item._enterable()
            hold.block = weakref.ref(item)
            item._hold = hold
        except LockLostError:
            if hold.item is None:
                raise
            hold.forget()
            self.nap = 0.0
            return None
        except BaseException:
            if hold.item is not None and not hold.ended:
                item._give_back(hold)
            raise
        return value

    def interrupted(self) -> None:
        """There is no block that could give the item back: what interrupts came between the taking and the block."""
        hold = self.hold
        if hold is not None and self.item._hold is hold:
            self.item._hold = None
            hold.abandon()

    def undo(self) -> None:
        """Gives the item back: its task was cancelled."""
        if self.item._hold is not None:
            self.item._leave(True)
