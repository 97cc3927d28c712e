"""A process of the demo: `python -m shmvar.cli.demo.worker KEY PARENT WORKER FD`."""

import os
import random
import sys
import time
from typing import Any

import shmvar
from shmvar.cli.demo import board, samples


def work(key: str, parent: int, worker: int, fd: int) -> None:
    """Writes or reads until the process is killed, or until its parent is gone."""
    words, row = board.mapped(fd), board.row(worker)
    segment = shmvar.attach(key, create=False)
    noise = samples.noise()
    writes = worker < board.WRITERS
    indexes = range(worker * board.OWN, (worker + 1) * board.OWN) if writes else range(board.INDEXES)
    clock = time.monotonic_ns

    def timed(field: int, call: Any, *args: Any) -> Any:
        words[row + board.SINCE] = begin = clock()
        result = call(*args)
        words[row + board.LONGEST] = max(words[row + board.LONGEST], clock() - begin)
        words[row + board.SINCE] = 0
        words[row + field] += 1
        return result

    def look(index: int) -> Any:
        stored = words[index]  # before the value is read: what was stored by now must be there
        value = timed(board.GETS, segment.get, index)
        lost, torn = samples.check(index, stored, value)
        words[row + board.LOST] += lost
        words[row + board.TORN] += torn
        return value

    # The process that was here before may have died in `put`, or between `put` and its note on the board: the numbers
    # go on after whatever is there.
    numbers = {i: max(words[i], samples.number_of(i, look(i)) or 0) for i in indexes} if writes else {}
    words[row + board.READY] = 1
    while os.getppid() == parent:
        for _ in range(100):
            index = random.choice(indexes)
            if writes:
                numbers[index] += 1
                timed(board.PUTS, segment.put, index, samples.compose(index, numbers[index], noise))
                words[index] = numbers[index]
            else:
                look(index)


if __name__ == "__main__":
    work(sys.argv[1], *map(int, sys.argv[2:]))
