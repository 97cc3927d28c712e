"""What the counters must be: exact totals, even if processes are killed in the middle of a count.

Before a process counts, it notes the amount in its lane; afterwards it adds the amount to the sum of the lane and
deletes the note. A note that a killed process leaves is *unsure*: counted or not. Amounts are random and long, so at a
pause at most one choice among the unsure notes explains the total that is found.
"""

import random
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from soak.expected import Board

COUNTERS = {"add": "counter", "add, long ints": -1000, "compare": "ß" * 300, "modify": -1001, "locked": "pair a"}
COUNTERS["locked there"] = "there"  # on a server only: `both_ends.py`
"""How a counter is increased -> its index."""

NAMES = list(COUNTERS)
LONG = 2**63 - 2**44
"""Where the counter of long ints begins: it soon exceeds 64 bits."""

UNSURE = 2
"""Unsure notes that a lane may have between two pauses."""

WORDS = 2 + len(COUNTERS) + 2 * UNSURE
"""Words of a lane: a note (counter + 1, amount), a sum for each counter, the unsure notes."""

ROUND = 1 << 64


class Ledger:
    """The notes and sums of one lane, on the board."""

    def __init__(self, board: "Board", lane: int) -> None:
        self.words, self.at = board.words, board.ledger + lane * WORDS

    def open(self) -> bool:
        """May this lane count? Not while it has as many unsure notes as fit."""
        return not all(self.words[self.at + 2 + len(NAMES) + 2 * place] for place in range(UNSURE))

    def begin(self, name: str, chance: random.Random) -> int:
        """Notes that a random amount will be counted; returns the amount."""
        amount = chance.getrandbits(40) + 1
        self.words[self.at + 1] = amount
        self.words[self.at] = NAMES.index(name) + 1
        return amount

    def end(self, made: bool) -> None:
        number, amount = self.words[self.at], self.words[self.at + 1]
        if made:
            self.add(number - 1, amount)
        self.words[self.at] = 0

    def add(self, number: int, amount: int) -> None:
        at = self.at + 2 + number
        self.words[at] = (self.words[at] + amount) % ROUND

    def take_over(self) -> None:
        """Makes the note of a killed process unsure."""
        if not self.words[self.at]:
            return
        for place in self.places():
            if not self.words[place]:
                self.words[place + 1] = self.words[self.at + 1]
                self.words[place] = self.words[self.at]
                self.words[self.at] = 0
                return
        raise AssertionError("a lane counted that was not to count")

    def places(self) -> range:
        first = self.at + 2 + len(NAMES)
        return range(first, first + 2 * UNSURE, 2)

    def sum(self, number: int) -> int:
        return self.words[self.at + 2 + number]

    def unsure(self, number: int) -> Iterator[tuple["Ledger", int, int]]:
        """Yields the place and the amount of each unsure note for a counter."""
        for place in self.places():
            if self.words[place] == number + 1:
                yield self, place, self.words[place + 1]


def settle(board: "Board", name: str, found: int) -> tuple[int, int] | None:
    """While no process counts: settles the unsure notes; returns how many were counted, and not. None: none fits."""
    number, start = NAMES.index(name), LONG if name == "add, long ints" else 0
    ledgers = [Ledger(board, lane) for lane in range(board.lanes)]
    rest = (found - start - sum(ledger.sum(number) for ledger in ledgers)) % ROUND
    unsure = [note for ledger in ledgers for note in ledger.unsure(number)]
    half = len(unsure) // 2
    first, second = choices(unsure[:half]), choices(unsure[half:])
    chosen = next(((first[(rest - s) % ROUND], second[s]) for s in second if (rest - s) % ROUND in first), None)
    if chosen is None:
        return None
    made = chosen[0] | chosen[1] << half
    for bit, (ledger, place, amount) in enumerate(unsure):
        if made >> bit & 1:
            ledger.add(number, amount)
        ledger.words[place] = 0
    return made.bit_count(), len(unsure) - made.bit_count()


def choices(notes: list[tuple[Ledger, int, int]]) -> dict[int, int]:
    """The sum of each choice among these notes -> the choice, as bits."""
    sums = {0: 0}
    for bit, (_, _, amount) in enumerate(notes):
        sums |= {(total + amount) % ROUND: choice | 1 << bit for total, choice in sums.items()}
    return sums
