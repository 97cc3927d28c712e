"""Changes that are carried out exactly once, however often the network made us send them.

Each change has a number. The server keeps the number and the answer of the last change of each *slot*, so that it
recognises a repetition, and a late copy that was still in a socket when a later change of the slot was answered. A slot
belongs to one call at a time.
"""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import weakref

from shmvar._errors import LockLostError, SegmentFullError, SegmentNotFoundError, SegmentUnavailableError
from shmvar._remote import names, scripts
from shmvar._remote.link import Link, OutOfMemory, generation
from shmvar._remote.owners import Held, held_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from shmvar._remote.link import Waited
    from shmvar._remote.owners import Hold
    from shmvar._remote.scripts import Script


class Slot:
    """Where the server keeps the last answer of a client."""

    __slots__ = ("field", "made_in", "number")

    def __init__(self) -> None:
        self.made_in = generation()
        self.field = b"c:" + secrets.token_hex(6).encode()
        self.number = 0


_SEGMENTS = 1000
"""Of so many segments, the slots are kept for the handles to come."""
_left: dict[bytes, list[Slot]] = {}


def slots_left(data: bytes) -> list[Slot]:
    """The slots that handles on the segment with this D have left to later ones of this process.

    A slot comes here only when its last request has its answer. So the next one, of another handle, is for the server
    what it would be of the same handle, by whatever connection it comes. `append` and `pop` are atomic.
    """
    found = _left.get(data)
    if found is not None:
        return found
    # Handles that use a list which is forgotten keep it, and do not share it with later ones.
    for forgotten in list(_left)[: max(len(_left) - _SEGMENTS + 1, 0)]:
        _left.pop(forgotten, None)
    return _left.setdefault(data, [])


class Requests:
    """The changes of one handle."""

    # Of one whose destructor runs before `__init__` came so far: it holds nothing.
    held = Held()
    _slots: list[Slot] = []  # noqa: RUF012
    _left: list[Slot] = []  # noqa: RUF012

    def __init__(self, name: str, prefix: bytes, segment: bytes) -> None:
        self.name = name
        """Of the segment, for errors."""
        self.prefix = prefix
        self.id = segment
        data = b"%b:%b:" % (prefix, segment)
        self.data = data
        self.keys = (prefix, data + b"v", data + b"x", data + b"b")
        self.held = held_of(data)
        # Slots that no call uses. `append` and `pop` are atomic.
        self._slots = []
        self._left = slots_left(data)
        _all.add(self)

    def __del__(self) -> None:
        # The handle is gone: what was taken through it is let go.
        self.let_go()
        self.leave_slots()

    def leave_slots(self) -> None:
        """Leaves the slots to later handles. Those of calls that go on are left when this is collected."""
        with contextlib.suppress(IndexError):
            while True:
                self._left.append(self._slots.pop())

    def let_go(self) -> None:
        """Leaves what was taken through this handle to the thread that lets it go."""
        for hold in self.taken():
            hold.abandon()

    def taken(self) -> list[Hold]:
        """The locks that were taken through this handle."""
        return [hold for hold in self.held.all() if hold.handle == id(self)] if self.held.by else []

    def forget(self) -> None:
        """In a forked child: the slots are the parent's."""
        self._slots = []
        self._left = slots_left(self.data)

    def change(
        self,
        link: Link,
        script: Script,
        arguments: Sequence[bytes],
        what: str,
        end: float = math.inf,
        *,
        guarded: bool = True,
        unrecorded: bytes = b"",
        slots: list[tuple[bytes, int]] | None = None,
    ) -> bytes:
        """Carries out one change and returns the answer of the script, without those that are errors.

        Args:
            end: when the whole call has to be over, by `link.now`.
            guarded: whether it is refused where the caller has lost a lock that it holds.
            unrecorded: first letters of answers that the script does not record. A copy that may yet arrive is barred.
            slots: gets the slot and the number of the request, for whoever has to know what became of it.
        """
        # Before the slot is taken: a fork from here on is one within this call.
        waited = link.waited(what, end)
        waited.nothing = tuple(bytes([letter]) for letter in unrecorded)
        segment = self.id
        held = self.held.callers() if guarded else []
        if held:
            segment = b"+" + segment
            arguments = [*arguments, *(part for hold in held for part in (hold.field, hold.token)), b"%d" % len(held)]
        slot = self._slot()
        slot.number += 1
        if slots is not None:
            # Not the slot itself, which belongs to another call as soon as this one is answered.
            slots.append((slot.field, slot.number))
        try:
            answer: bytes = link.script(script, self.keys, (segment, slot.field, slot.number, *arguments), waited)
        except OutOfMemory as error:
            full = self.no_memory(error)
            if waited.unsure:
                # An earlier copy of the request had no answer: it was carried out, or must never be.
                answer = self._barred(link, slot, waited, b"n")
                if answer == b"n":
                    self._slots.append(slot)
                    raise full from None
            else:
                self._slots.append(slot)
                raise full from None
        # After any other error a copy may be on its way yet: the slot is thrown away.
        if waited.generation != generation():
            raise link.parents(what)
        if answer == b"g":
            raise self.gone()
        if answer == b"l":
            raise SegmentUnavailableError(f"{self.name}: {what} was overtaken by a later request", True)
        if waited.unsure and answer[:1] in unrecorded and answer:
            answer = self._barred(link, slot, waited, answer)
        self._slots.append(slot)
        if answer[:1] == b"x":
            raise self.lost(answer[1:], what, held)
        if answer[:1] == b"f":
            needed, free, size = map(int, answer[1:].split())
            raise SegmentFullError(
                f"{self.name}: {what} does not fit: needs {needed} bytes, {free} of {size} are free; `resize` raises "
                "the limit",
                needed,
                free,
                size,
            )
        return answer

    def _barred(self, link: Link, slot: Slot, waited: Waited, otherwise: bytes) -> bytes:
        """The answer that was recorded; where there is none, `otherwise`, and the request will never be carried out."""
        arguments = (self.id, slot.field, slot.number, b"fence")
        waited.nothing = ()
        answer: bytes = link.script(scripts.SEGMENT, self.keys, arguments, waited)
        return otherwise if answer == b"n" else answer

    def lost(self, field: bytes, what: str, named: Sequence[Hold] = ()) -> LockLostError:
        """The error of a change by somebody who holds a lock no more. `named`: what the change has named."""
        ours = [hold for hold in named if hold.field == field]
        # A call that outlives its task's block names what was let go since: that is not lost, nor what was taken anew.
        if all(map(self.held.has, ours)):
            for hold in ours:
                hold.lost = True
        return LockLostError(
            f"{self.name}: lock {shown(field)} is lost: its lease has ended, and it is another's or nobody's; "
            f"{what} has changed nothing"
        )

    def _slot(self) -> Slot:
        while True:
            try:
                slot = (self._slots or self._left).pop()
            except IndexError:
                # There is none, or another thread was faster.
                slot = Slot()
            # A call that was interrupted by a fork may have put the parent's there.
            if slot.made_in == generation():
                return slot

    def no_memory(self, error: OutOfMemory) -> SegmentFullError:
        """The error of a change that the server has refused because its own memory is full."""
        return SegmentFullError(
            f"{self.name}: the server's memory is full ({error}); nothing has changed. Remedies: a larger "
            "maxmemory, or fewer variables"
        )

    def gone(self) -> SegmentNotFoundError:
        """The error of every call after the segment was destroyed."""
        return SegmentNotFoundError(f"{self.name} is gone: it was destroyed, or the server has lost its data")


def shown(field: bytes) -> str:
    """The name of a lock in an error."""
    text = field[1:].decode(errors="replace")
    return names.shown(text) if field[:1] == b"s" else text


_all: weakref.WeakSet[Requests] = weakref.WeakSet()


def _forked() -> None:
    _left.clear()
    for requests in list(_all):
        requests.forget()


os.register_at_fork(after_in_child=_forked)
