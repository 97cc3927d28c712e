"""What an iterator over the changes of a segment knows: what it has told, and what it has to tell, in order.

`told` has the version of each variable that is there as far as the reader knows; `pending` what is to be told next. All
times are in seconds, deadlines in microseconds of the server's clock.
"""

from __future__ import annotations

import heapq
import math

from shmvar._errors import CorruptSegmentError
from shmvar._remote import scripts
from shmvar._remote.connections import now
from shmvar._remote.listener import listener_of
from shmvar._remote.names import field_of, index_of, plain_index
from shmvar._remote.notices import DEADLINE, NO_VARIABLE, REMOVED, notice_of
from shmvar._remote.records import Record
from shmvar._remote.subscription import LOOK
from shmvar._remote.waiting import mapping_of, seen_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from shmvar._remote.handle import Handle
    from shmvar._remote.subscription import ThreadSignal, _Signal

_MESSAGES = 16_384
"""Of a reader that does not step. Beyond, everything is looked at."""
_REST_TIMES, _LONGEST_REST = 5, 1.0
"""After a look at everything the next one waits for so many times what it took: batches may come all the time."""
CATCH_UP = 0.25
"""Seconds after which a message that has not come is taken as lost."""
_DUE = 500
"""Deadlines that are asked for at once."""


class Heard:
    """What one iterator knows. One thread at a time uses it."""

    def __init__(
        self, segment: Handle, newer_than: Any, prefix: str | None, signal: _Signal, sleeper: ThreadSignal
    ) -> None:
        """`signal` is told of what is heard, and tells `sleeper`."""
        if prefix is not None and not isinstance(prefix, str):
            raise TypeError(f"prefix must be a str or None, not {type(prefix).__name__}")
        self._begin = b"" if prefix is None else b"s" + prefix.encode()
        seen = None if newer_than is None else _seen(newer_than)
        link = segment._open
        # Not the handle, which refers to nobody who would keep it: a reader that is dropped ends.
        self._segment = segment
        self._told: dict[bytes, int] = {}
        self._pending: dict[bytes, tuple[int, int]] = {}
        """For each field what is told of it, and its place in the order: a version."""
        self._ends: dict[bytes, int] = {}
        self._heap: list[tuple[int, bytes]] = []
        self._ahead = 0.0
        """Of the server's clock before ours, in microseconds."""
        self._counts_from = 0
        """Of messages only those of later versions count."""
        self._highest = 0
        """The greatest version that was heard of."""
        self._due = True
        """Everything has to be looked at."""
        self._unsure_from = 0
        """Meanwhile only earlier changes are told: of a later one, an earlier one may be missing."""
        self._rest_until = 0.0
        self._stands_by = now() + LOOK
        """Until when a look waits for the subscription."""
        self._asks = False
        """Whether all messages have come is to be asked of the server."""
        self._doubt: tuple[int, float] | None = None
        """A version whose message has not come, and until when it may."""
        self._any_changed = 0
        """The version of the first batch or `clear` that was heard of since the last look. 0: there was none."""
        self._subscription = listener_of(link).subscribe(
            [segment._requests.data + b"w"], signal=signal, limit=_MESSAGES
        )
        try:
            end = now() + link.server.timeout
            while not self._subscription.ready() and now() < end:
                sleeper.wait(end - now())
            self._look_at_all(seen, newer_than is None)
        except BaseException:
            self._subscription.close()
            raise

    def close(self) -> None:
        self._subscription.close()

    def __del__(self) -> None:
        # The listener knows the subscription until it is closed, also where a signal handler has raised before the
        # iterator was there.
        subscription = getattr(self, "_subscription", None)
        if subscription is not None:
            subscription.close()

    def has_some(self) -> bool:
        return bool(self._pending)

    def next(self) -> tuple[int | str, int] | None:
        """The next change that was heard of. It stays the next one until `tell`."""
        # What is gone again is not told: whose time is up by our clock is asked of the server first.
        if not self._pending or self._next_end() <= now():
            return None
        field, (version, place) = next(iter(self._pending.items()))
        if self._due and place >= self._unsure_from:
            return None
        return index_of(field), version

    def tell(self) -> None:
        """The reader is told of the next change: what follows is the next one from now on."""
        field, (version, _) = next(iter(self._pending.items()))
        # No function is called from here to the end of the step, so that no signal handler runs.
        if version:
            self._told[field] = version
        elif field in self._told:
            del self._told[field]
        del self._pending[field]

    def has_heard_of(self, version: int) -> bool:
        """Whether all changes up to this version were heard of."""
        return self.is_sure and self._highest >= version

    @property
    def is_sure(self) -> bool:
        """Whether nothing is known to be missing."""
        return not self._due

    def doubt(self, version: int | None = None) -> None:
        """Messages from this version on may be missing, or from the next one on: everything is to be looked at."""
        since = self._highest + 1 if version is None else version
        self._unsure_from = min(since, self._unsure_from) if self._due else since
        self._due = True

    def needs_work(self, late: bool) -> bool:
        """Whether the server is to be asked for something. `late`: the time of the caller is over."""
        if self._due and self._may_look(late):
            return True
        return self._asks or self._doubt_is_over() or self._next_end() <= now()

    def work(self, late: bool) -> None:
        """Asks the server for what is needed."""
        if self._due and self._may_look(late):
            self._look_at_all()
        elif self._next_end() <= now():
            self._look_at_ended()
        elif self._asks:
            self._asks = False
            last = self.last_version()
            if last > self._highest and self._doubt is None:
                self._doubt = (last, now() + CATCH_UP)
        elif self._doubt is not None:
            if self._highest < self._doubt[0]:
                self.doubt()
            self._doubt = None

    def wakes_at(self) -> float:
        """When there is something to do though nothing is heard."""
        at = self._next_end()
        if self._due:
            at = min(at, self._rest_until if self._subscription.standing else self._stands_by)
        return at if self._doubt is None else min(at, self._doubt[1])

    def _may_look(self, late: bool) -> bool:
        return (self._subscription.standing or now() >= self._stands_by) and (late or now() >= self._rest_until)

    def _doubt_is_over(self) -> bool:
        return self._doubt is not None and now() >= self._doubt[1]

    # --- what is heard

    def listen(self) -> None:
        """Takes in the messages that have come."""
        subscription = self._subscription
        try:
            heard = subscription.poll()
            if heard is None:
                self._asks = True
                if subscription.lost_some:
                    self.doubt()
            for _, data in heard or ():
                self._take(data)
        except BaseException:
            # What a signal handler raises: messages may be lost that the subscription has no more.
            self.doubt()
            raise
        if not subscription.ready():
            if not self._due:
                self._stands_by = now() + LOOK
            self.doubt()

    def _take(self, data: bytes) -> None:
        notice = notice_of(data)
        if notice is not None and notice.kind == NO_VARIABLE:
            self._highest = max(self._highest, notice.version)
            return
        if notice is None or notice.field is None:
            # That the segment is gone, say.
            self.doubt()
            return
        field, version = notice.field, notice.version
        self._highest = max(self._highest, version)
        if field == b"*":
            if version > self._counts_from:
                self.doubt(version)
                self._any_changed = self._any_changed or version
        elif not field.startswith(self._begin):
            pass
        elif notice.kind == DEADLINE:
            if version == self._latest(field):
                self._end(field, notice.deadline)
        elif version > self._counts_from:
            try:
                index_of(field)
            except CorruptSegmentError:
                # Whatever it is, it is not of this package.
                self.doubt()
                return
            self._put(field, 0 if notice.kind == REMOVED else version, version)
            self._end(field, notice.deadline)

    def _latest(self, field: bytes) -> int:
        """The version that the reader will know of a variable. 0: it is missing."""
        pending = self._pending.get(field)
        return self._told.get(field, 0) if pending is None else pending[0]

    def _put(self, field: bytes, version: int, place: int) -> None:
        """There is something to tell, behind all that is to be told already."""
        self._pending.pop(field, None)
        if version != self._told.get(field, 0):
            self._pending[field] = (version, place)

    def _end(self, field: bytes, deadline: int | None) -> None:
        if deadline is None:
            self._ends.pop(field, None)
        elif self._ends.get(field) != deadline:
            self._ends[field] = deadline
            heapq.heappush(self._heap, (deadline, field))

    def _next_end(self) -> float:
        """When the first variable expires, by our clock."""
        while self._heap:
            deadline, field = self._heap[0]
            if self._ends.get(field) == deadline:
                return (deadline - self._ahead) / 1e6
            heapq.heappop(self._heap)
        return math.inf

    # --- what is asked of the server

    def _ask(self, *arguments: bytes) -> Any:
        segment = self._segment
        requests, link = segment._requests, segment._open
        sent = now()
        answer = link.script(
            scripts.VERSIONS, requests.keys[:2], (requests.id, *arguments), link.waited(), segment._readonly
        )
        if answer == b"g":
            raise requests.gone()
        # Not earlier than the server means it.
        self._ahead = answer[0] - sent * 1e6
        return answer

    def last_version(self) -> int:
        """The version of the last change of the segment."""
        segment = self._segment
        requests = segment._requests
        found, last = segment._open.call(b"HMGET", requests.prefix, b"id", b"seq")
        if found != requests.id:
            raise requests.gone()
        return segment._number(last)

    def _look_at_all(self, seen: dict[bytes, int | None] | None = None, from_now: bool = False) -> None:
        """Looks at all variables. At first: with the versions that the reader has seen, or `from_now` on."""
        began, standing = now(), self._subscription.standing
        there: dict[bytes, Record] = {}
        cursor, last, run = b"0", 0, b""
        while True:
            answer = self._ask(b"scan", cursor, self._begin)
            if cursor != b"0" and answer[3] != run:
                # A cursor means nothing to another server, nor to one that was started anew.
                there, cursor, standing = {}, b"0", self._subscription.standing
                continue
            if cursor == b"0":
                last, run = self._segment._number(answer[1]), answer[3]
            cursor = answer[2]
            for field, head in zip(answer[4::2], answer[5::2], strict=True):
                there[field] = Record(index_of(field), head)
            if cursor == b"0":
                break
        # SYNC: the subscription stood before the look, so each change after `last` has a message of its own, in its
        # place in the order. Where it does not stand, what is found is all that there is.
        limit = last if standing else math.inf
        if from_now:
            self._told = {field: record.version for field, record in there.items()}
        elif seen is not None:
            for field, version in seen.items():
                found = there.get(field)
                version = (found.version if found else 0) if version is None else version
                if version and field.startswith(self._begin):
                    self._told[field] = version
        pending: list[tuple[int, int, bytes]] = []
        for field, record in there.items():
            if record.version <= limit and record.version != self._told.get(field):
                pending.append((record.version, record.version, field))
        # When it was removed, only a message could have told. `clear` has one for all.
        unknown = self._any_changed or last + 1
        for field in self._told:
            if field not in there:
                version, place = self._pending.get(field, (0, unknown))
                pending.append((unknown if version else place, 0, field))
        pending.sort()
        self._pending = {field: (version, place) for place, version, field in pending}
        self._any_changed = 0
        self._ends = {field: record.deadline for field, record in there.items() if record.deadline is not None}
        self._heap = [(deadline, field) for field, deadline in self._ends.items()]
        heapq.heapify(self._heap)
        self._counts_from = last if standing else max([last, *(record.version for record in there.values())])
        # Not what was heard: a server that comes back with older data may give smaller versions for a while.
        self._highest = self._counts_from
        self._doubt = None
        self._due, self._unsure_from = not standing, self._highest + 1
        self._stands_by = now() + LOOK
        self._rest_until = now() + min(_REST_TIMES * (now() - began), _LONGEST_REST)

    def _look_at_ended(self) -> None:
        """Asks of the variables whose time is up by our clock whether they are there by the server's."""
        fields: list[bytes] = []
        try:
            while self._next_end() <= now() and len(fields) < _DUE:
                field = heapq.heappop(self._heap)[1]
                del self._ends[field]
                fields.append(field)
            answer = self._ask(b"of", *fields)
            for field, head in zip(fields, answer[1:], strict=True):
                if head is None:
                    self._put(field, 0, self._highest)
                else:
                    self._end(field, Record(index_of(field), head).deadline)
        except BaseException:
            # A lost connection, or a signal handler: nobody else remembers these deadlines.
            self.doubt()
            raise


def _seen(newer_than: Any) -> dict[bytes, int | None]:
    return {field_of(plain_index(index)): seen_of(version) for index, version in mapping_of(newer_than).items()}
