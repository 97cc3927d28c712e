"""A cache that evicts by last use, exactly, and traces of what programs ask a cache for."""

import bisect
import collections
import itertools
import random

OVERHEAD = 37
"""What a variable with an integer index and a `bytes` of less than 256 bytes is charged beside these bytes."""


class TrueLru:
    """Least recently used, by an order of all that is there."""

    def __init__(self, size):
        self.size, self.used, self.charges = size, 0, collections.OrderedDict()

    def get(self, index):
        """Is it there? Then it is the one used last."""
        if index not in self.charges:
            return False
        self.charges.move_to_end(index)
        return True

    def put(self, index, charge):
        """Stores it, and evicts what was used least recently until it fits."""
        self.used += charge - self.charges.pop(index, 0)
        self.charges[index] = charge
        while self.used > self.size:
            self.used -= self.charges.popitem(last=False)[1]


def zipf(numbers, exponent, length, seed):
    """Numbers below `numbers`, of which the n-th is asked for in proportion to `1 / n ** exponent`."""
    draw = random.Random(seed).random
    sums = list(itertools.accumulate(1 / (number + 1) ** exponent for number in range(numbers)))
    return [bisect.bisect(sums, draw() * sums[-1]) for _ in range(length)]
