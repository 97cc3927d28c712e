"""What goes on while a primary is replaced: threads that count, and a reader that keeps a ledger."""

import threading
import time

import shmvar
from helpers.waiting import until


class Load:
    """Threads that add to one number and store values of their own, and one that reads, until `end`.

    What is asserted of any failover is in `end`: what was acknowledged is stored at most once, and no version stands
    for two values.
    """

    def __init__(self, url, writers=3):
        self.url = url
        self.segment = shmvar.attach(url)
        self.before = self.segment.get("n", 0)
        self.acknowledged = [0] * writers
        self.longest = [0.0] * writers
        """The longest pause between two answers of a writer."""
        self.seen = {}
        """By index and version: the value."""
        self.back = []
        """Versions that were less than one before: index, what was, what is, moves of the link before and after."""
        self.faults = []
        self._end = threading.Event()
        self.threads = [threading.Thread(target=self._write, args=(number,)) for number in range(writers)]
        self.threads.append(threading.Thread(target=self._read))
        for thread in self.threads:
            thread.start()

    def _write(self, me):
        try:
            segment = shmvar.attach(self.url)
            while not self._end.is_set():
                began = time.monotonic()
                segment.add("n")
                self.acknowledged[me] += 1
                segment[f"mine {me}"] = (me, self.acknowledged[me])
                self.longest[me] = max(self.longest[me], time.monotonic() - began)
        except BaseException as error:
            self.faults.append(error)

    def _read(self):
        try:
            segment = shmvar.attach(self.url)
            last = {}
            while not self._end.is_set():
                for index in ("n", "mine 0"):
                    moves = segment._link.moves
                    try:
                        value, version = segment.get_versioned(index)
                    except KeyError:
                        continue
                    known = self.seen.setdefault((index, version), value)
                    assert known == value, f"version {version} of {index} was {known} and is {value}"
                    was, at = last.get(index, (0, moves))
                    if version < was:
                        self.back.append((index, was, version, at, segment._link.moves))
                    last[index] = version, moves
        except BaseException as error:
            self.faults.append(error)

    @property
    def total(self):
        return sum(self.acknowledged)

    def more(self, count=50, timeout=60):
        """Waits until each writer has got so many answers more."""
        goals = [done + count for done in self.acknowledged]
        until(
            lambda: self.faults or all(done >= goal for done, goal in zip(self.acknowledged, goals, strict=True)),
            timeout,
            "answers",
        )
        assert not self.faults, self.faults

    def end(self):
        """Stops all, and returns how many acknowledged additions are lost."""
        self._end.set()
        for thread in self.threads:
            thread.join(120)
            assert not thread.is_alive()
        assert not self.faults, self.faults
        lost = self.total + self.before - self.segment["n"]
        assert lost >= 0, f"{-lost} additions were carried out twice"
        # A version that was read and lost with its primary: a reader meets an older one, once for each move, and then
        # only greater ones than ever.
        assert all(before < after for *_, before, after in self.back), self.back
        highest = {}
        for index, version in self.seen:
            highest[index] = max(highest.get(index, 0), version)
        for index in highest:
            self.segment[index] = 0
            assert self.segment.version(index) > highest[index]
        self.segment.check()
        return lost

    def stop(self):
        """For a test that failed: the threads end."""
        self._end.set()
