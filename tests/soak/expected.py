"""What must be found: the *board*, words in a plain file outside of the segment that survive a SIGKILL.

The soak works on *numbers*, each of which stands for an index. A *lane* owns some of them, and one process at a time
has a lane, so each number has one writer. Each change of a number is a *round*. Before a change the process announces
the round, afterwards it notes that it is done: a process that takes over after a kill must find the round before or the
announced one. A reader compares with the same words: what it finds may not be older than what was done before it
looked, nor newer than what was announced when it had looked.
"""

import fcntl
import mmap
import os
import time
from collections.abc import Iterable
from typing import NamedTuple

from soak import counters

NUMBERS = 20
"""How many numbers a lane has."""

RUN, PAUSE, STOP = range(3)
"""The phases of a soak, which the director sets."""

EVENTS = (
    "segment full",
    "held up for 10 s",
    "resolved: old",
    "resolved: new",
    "interrupted calls",
    "forked children",
    "children of multiprocessing",
    "values compared",
    "views compared",
    "rows in place compared",
    "groups compared",
    "locks not had in time",
    "pairs mended",
    "waits that ended",
    "waits in vain",
    "expiries looked at",
    "times to live replaced",
    "times followed up to an own change",
    "queues full",
    "queues empty",
    "items finished",
    "items given back",
    "items got",
    "items looked at",
    "stored in caches",
    "batches in caches",
    "cached values compared",
    "times followed a cache to its end",
    "removals in caches told",
)


class State(NamedTuple):
    """The state of a number: the round whose value is there, or the round that removed it."""

    round: int
    there: bool

    @property
    def word(self) -> int:
        return self.round << 1 | self.there


def state(word: int) -> State:
    return State(word >> 1, bool(word & 1))


class Board:
    """The words: the phase, a row for each lane, three words for each number, the ledger (`counters.py`).

    One instruction stores a whole word. x86-64 makes stores visible in order; on other processors thousands of
    instructions of the interpreter lie between two stores.
    """

    PHASE, PID, SINCE, DOING, PARKED, COUNTS = 0, 0, 1, 2, 3, 4
    DONE, ANNOUNCED, LAST = range(3)

    def __init__(self, path: str, lanes: int, operations: Iterable[str]) -> None:
        self.path, self.lanes, self.operations = path, lanes, tuple(operations)
        self.names = self.operations + EVENTS
        self.row = self.COUNTS + len(self.names)
        self.first = 1 + lanes * self.row
        self.ledger = self.first + 3 * lanes * NUMBERS
        words = self.ledger + lanes * counters.WORDS
        self.file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if os.fstat(self.file).st_size < 8 * words:
            os.ftruncate(self.file, 8 * words)
        self.words = memoryview(mmap.mmap(self.file, 8 * words)).cast("Q")

    @property
    def phase(self) -> int:
        return self.words[self.PHASE]

    @phase.setter
    def phase(self, phase: int) -> None:
        self.words[self.PHASE] = phase

    def lane(self, lane: int, what: int) -> int:
        return self.words[1 + lane * self.row + what]

    def note(self, lane: int, what: int, value: int) -> None:
        self.words[1 + lane * self.row + what] = value

    def count(self, lane: int, name: str) -> None:
        """Adds 1 to a counter of the lane. Only the process that has the lane may do so."""
        self.words[1 + lane * self.row + self.COUNTS + self.names.index(name)] += 1

    def counts(self) -> dict[str, int]:
        each = range(self.lanes)
        return {name: sum(self.lane(lane, self.COUNTS + at) for lane in each) for at, name in enumerate(self.names)}

    # --- numbers

    def numbers(self) -> range:
        return range(self.lanes * NUMBERS)

    def of_lane(self, lane: int) -> range:
        return range(lane * NUMBERS, (lane + 1) * NUMBERS)

    def done(self, number: int) -> State:
        return state(self.words[self.first + 3 * number + self.DONE])

    def announced(self, number: int) -> State:
        return state(self.words[self.first + 3 * number + self.ANNOUNCED])

    def last(self, number: int) -> int:
        """The highest round that was ever announced."""
        return self.words[self.first + 3 * number + self.LAST]

    def announce(self, number: int, there: bool) -> int:
        """Announces a change; returns its round."""
        round = self.last(number) + 1
        self.words[self.first + 3 * number + self.LAST] = round
        self.words[self.first + 3 * number + self.ANNOUNCED] = State(round, there).word
        return round

    def is_done(self, number: int) -> None:
        self.words[self.first + 3 * number + self.DONE] = self.announced(number).word

    def is_not_done(self, number: int) -> None:
        self.words[self.first + 3 * number + self.ANNOUNCED] = self.done(number).word

    # --- which process has a lane

    def take(self, lane: int, wait: float) -> bool:
        """Takes a lane for this process. False: another process has it.

        The lock is a classic record lock: the kernel releases it when the process dies, and children do not inherit
        it. Closing any descriptor of the file would release it, so a process that has a lane closes none.
        """
        until = time.monotonic() + wait
        while True:
            try:
                fcntl.lockf(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, (1 << 40) + lane)
            except OSError:
                if time.monotonic() >= until:
                    return False
                time.sleep(0.001)
            else:
                self.note(lane, self.SINCE, time.monotonic_ns())
                self.note(lane, self.PARKED, 0)
                self.note(lane, self.PID, os.getpid())
                return True

    def give(self, lane: int) -> None:
        self.note(lane, self.PID, 0)
        fcntl.lockf(self.file, fcntl.LOCK_UN, 1, (1 << 40) + lane)


def index_of(number: int) -> int | str:
    """The index of a number: integers, short texts and long texts."""
    match number % 5:
        case 0 | 1:
            return number - 30
        case 2 | 3:
            return f"number {number}"
        case _:
            return f"number {number} " + "ß" * (number % 100 * 4)
