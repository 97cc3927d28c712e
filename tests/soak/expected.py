"""The soak's shared reference: words in a plain file, outside of the segment, that outlive a SIGKILL.

Each number has one writer at a time, its *lane*. Before a change the lane announces what will be there, afterwards it
says that it is done: whoever comes after a kill must find the one or the other. Readers hold what they see against the
same words: nothing older than what was done before they looked, nothing newer than what was begun when they had looked.
"""

import fcntl
import mmap
import os
import time
from collections.abc import Iterable
from typing import NamedTuple

from soak import counters

NUMBERS = 20
"""Numbers of each lane."""

RUN, PAUSE, STOP = range(3)
"""Phases, which the director sets."""

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
    "groups compared",
    "locks not had in time",
    "pairs mended",
    "waits that ended",
    "waits in vain",
    "expiries looked at",
)


class State(NamedTuple):
    """What is under a number: a round, or nothing since that round."""

    round: int
    there: bool

    @property
    def word(self) -> int:
        return self.round << 1 | self.there


def state(word: int) -> State:
    return State(word >> 1, bool(word & 1))


class Board:
    """Words: the phase; a row for each lane; three words for each number; the ledger.

    A word is stored whole, by one instruction, and stores are seen in order where processors promise that (x86-64);
    elsewhere thousands of instructions of the interpreter lie between two of them.
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
        """Only who holds the lane counts in its row."""
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
        """The highest round that was ever begun."""
        return self.words[self.first + 3 * number + self.LAST]

    def announce(self, number: int, there: bool) -> int:
        """The round of the change that is to come."""
        round = self.last(number) + 1
        self.words[self.first + 3 * number + self.LAST] = round
        self.words[self.first + 3 * number + self.ANNOUNCED] = State(round, there).word
        return round

    def is_done(self, number: int) -> None:
        self.words[self.first + 3 * number + self.DONE] = self.announced(number).word

    def is_not_done(self, number: int) -> None:
        self.words[self.first + 3 * number + self.ANNOUNCED] = self.done(number).word

    # --- who has a lane

    def take(self, lane: int, wait: float) -> bool:
        """The lane for this process. Classic record locks: the system lets go at death, and children inherit nothing.

        Any other descriptor of the file must stay open in a process that holds a lane: closing one would let go.
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
    """Integers, short texts, long texts."""
    match number % 5:
        case 0 | 1:
            return number - 30
        case 2 | 3:
            return f"number {number}"
        case _:
            return f"number {number} " + "ß" * (number % 100 * 4)
