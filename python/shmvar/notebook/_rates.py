"""How often each index of a segment has changed in the last minute. It is told of changes, and knows no segment.

However many indexes change, it keeps the same amount of memory: the counts of those that changed last. Of changes that
come faster than somebody looks, only the last one of each index is told; so a count is of what was told, and `at_least`
says where there may have been more.
"""

from __future__ import annotations

import heapq
from array import array
from collections import OrderedDict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container

WINDOW = 60
"""Seconds that are kept."""
MOST = 1024
"""Indexes whose counts are kept."""
RECENT = 5
"""Seconds that the figure "changes a second" is an average of."""
_ZEROS = bytes(8 * WINDOW)
HALF = 10.0
"""Seconds after which a change counts half for who is busiest."""
_STAYS = 1.25
"""What is shown stays until another index is so many times as busy: otherwise the rows would never stand still."""


class Counts:
    """A number for each of the last `WINDOW` seconds."""

    __slots__ = ("_last", "_ring")

    def __init__(self, second: int) -> None:
        self._ring = array("Q", _ZEROS)
        self._last = second

    def add(self, second: int, number: int = 1) -> None:
        if second != self._last:
            self._go_on(second)
        self._ring[second % WINDOW] += number

    def until(self, second: int) -> list[int]:
        """The numbers of the seconds up to this one, the oldest first, without those before the first change."""
        self._go_on(second)
        at = (second + 1) % WINDOW
        numbers = [*self._ring[at:], *self._ring[:at]]
        first = next((place for place, number in enumerate(numbers) if number), WINDOW)
        return numbers[first:]

    def _go_on(self, second: int) -> None:
        for passed in range(max(self._last + 1, second - WINDOW + 1), second + 1):
            self._ring[passed % WINDOW] = 0
        self._last = max(self._last, second)


class Busy:
    """What is known of one index."""

    __slots__ = ("at", "at_least_until", "counts", "look", "score", "told", "version")

    def __init__(self, now: float) -> None:
        self.counts = Counts(int(now))
        self.version = 0
        """The last one that was told. 0: it was removed, or has expired."""
        self.at = now
        """When that was."""
        self.score = 0.0
        self.told = 0
        """The place of its last change among all that were told: 1 for the first."""
        self.look = 0
        self.at_least_until = 0.0


class Rates:
    """The counts of a segment. Times are those of one clock that does not go back, in seconds."""

    def __init__(self, now: float, most: int = MOST) -> None:
        self.since = now
        """Since when changes are counted."""
        self.total = Counts(int(now))
        """The changes of all indexes that were told."""
        self.made = Counts(int(now))
        """The versions that the segment gave meanwhile: one for each change, and some for locks and queues."""
        self.dropped = 0
        """Indexes of which nothing is known any more."""
        self._most = most
        self._busy: OrderedDict[int | str, Busy] = OrderedDict()
        self._told = self._version = self._removed = self._look = 0

    def __len__(self) -> int:
        return len(self._busy)

    def note(self, index: int | str, version: int, now: float) -> None:
        """Counts a change that was told, with its version, or 0."""
        second = int(now)
        self._told += 1
        self.total.add(second)
        if version > self._version:
            # What was removed meanwhile has been counted, with a version that was not told.
            passed = version - self._version - self._removed if self._version else 1
            self.made.add(second, max(passed, 1))
            self._version, self._removed = version, 0
        else:
            self.made.add(second)
            self._removed += 1
        busy = self._busy.get(index)
        if busy is None:
            busy = self._busy[index] = Busy(now)
            if len(self._busy) > self._most:
                self._busy.popitem(last=False)
                self.dropped += 1
        else:
            self._busy.move_to_end(index)
            self._compare(busy, version, now)
            busy.score *= 0.5 ** ((now - busy.at) / HALF)
        busy.score += 1.0
        busy.version, busy.at, busy.told, busy.look = version, now, self._told, self._look
        busy.counts.add(second)

    def _compare(self, busy: Busy, version: int, now: float) -> None:
        """Notes whether changes of this index may have been left out: it was told at each look, and versions lack."""
        if busy.look == self._look:
            self._look += 1  # nothing is told twice at one look
        lack = version - busy.version > self._told - busy.told if version and busy.version else False
        if lack and busy.look >= self._look - 1:
            busy.at_least_until = now + RECENT

    def get(self, index: int | str) -> Busy | None:
        """What is known of an index that changed while it was followed."""
        return self._busy.get(index)

    def top(self, count: int, now: float, shown: Container[int | str] = ()) -> list[int | str]:
        """At most `count` indexes, the busiest first. One that was removed is left out when a minute has passed."""
        scores = {
            index: _faded(busy, now) * (_STAYS if index in shown else 1.0)
            for index, busy in self._busy.items()
            if busy.version or now - busy.at < WINDOW
        }
        return heapq.nlargest(count, scores, key=scores.__getitem__)

    def latest(self, since: float) -> set[int | str]:
        """The indexes that have changed since then."""
        found = set()
        for index in reversed(self._busy):
            if self._busy[index].at < since:
                break
            found.add(index)
        return found


def _faded(busy: Busy, now: float) -> float:
    return float(busy.score * 0.5 ** ((now - busy.at) / HALF))
