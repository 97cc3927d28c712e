"""The segment, the board and the processes of the demo: starts and kills them, and draws up the account."""

import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple, Self

import shmvar
from shmvar.cli.demo import board, samples

if TYPE_CHECKING:
    import subprocess

PAUSE = (0.06, 0.14)  # seconds from one kill to the next: the shortest and the longest
SIZE = 32 << 20  # bytes of the segment: fits into the 64 MiB that a container has


class Account(NamedTuple):
    """What the demo has shown."""

    seconds: float
    puts: int
    gets: int
    kills: int
    died: int  # processes that nobody had killed
    lost: int
    torn: int
    longest_ms: float  # of a call, in milliseconds
    check: str  # "ok", or what `Segment.check` raised

    @property
    def speed(self) -> int:
        """Calls a second."""
        return round((self.puts + self.gets) / self.seconds)

    @property
    def good(self) -> bool:
        """Whether there were calls, and nothing was lost, torn or damaged."""
        worked = self.puts > 0 and self.gets > 0
        return worked and not (self.lost or self.torn or self.died) and self.check == "ok"


class Stage:
    """A context manager that starts the processes, and leaves nothing behind at its end."""

    def __init__(self) -> None:
        self.key = f"shmvar-demo-{os.getpid()}"
        self.segment = shmvar.attach(self.key, SIZE, create=True)
        self.fd = os.memfd_create("shmvar-demo")
        os.truncate(self.fd, board.SIZE)
        self.words = board.mapped(self.fd)
        self.kills = self.died = 0
        self.killed = [0] * board.WORKERS
        self.begin = time.monotonic()
        self.workers = [self._start(worker) for worker in range(board.WORKERS)]

    def _start(self, worker: int) -> "subprocess.Popen[bytes]":
        row = board.row(worker)
        self.words[row + board.READY] = self.words[row + board.SINCE] = 0
        import subprocess

        numbers = map(str, (os.getpid(), worker, self.fd))
        command = [sys.executable, "-m", "shmvar.cli.demo.worker", self.key, *numbers]
        # In a process group of its own: Ctrl-C goes to the parent alone, which ends the others.
        return subprocess.Popen(command, pass_fds=[self.fd], stdin=subprocess.DEVNULL, process_group=0)

    def _kill(self, worker: int) -> None:
        row = board.row(worker)
        if since := self.words[row + board.SINCE]:  # a call that does not return counts as a long one
            self.words[row + board.LONGEST] = max(self.words[row + board.LONGEST], time.monotonic_ns() - since)
        self.workers[worker].kill()
        if self.workers[worker].wait() != -signal.SIGKILL:
            self.died += 1  # earlier, and of something else

    def kill_one(self) -> None:
        """Sends SIGKILL to a process that is ready, and starts another one in its place."""
        ready = [worker for worker in range(board.WORKERS) if self.words[board.row(worker) + board.READY]]
        if ready:
            victim = random.choice(ready)
            self._kill(victim)
            self.kills += 1
            self.killed[victim] += 1
            self.workers[victim] = self._start(victim)

    def ready(self) -> bool:
        """Whether all processes have begun to work."""
        return all(self.words[board.row(worker) + board.READY] for worker in range(board.WORKERS))

    def broken(self) -> bool:
        """Whether a process has died that nobody killed."""
        return self.died > 0 or any(process.poll() is not None for process in self.workers)

    def total(self, field: int) -> int:
        """The sum of a field of the board over all workers."""
        return sum(self.words[board.row(worker) + field] for worker in range(board.WORKERS))

    def account(self) -> Account:
        """Kills all processes, reads each index once more, and checks the structures of the segment."""
        seconds = time.monotonic() - self.begin
        self.end()
        lost, torn, checked = self.total(board.LOST), self.total(board.TORN), "ok"
        try:
            for index in range(board.INDEXES):
                one_lost, one_torn = samples.check(index, self.words[index], self.segment.get(index))
                lost, torn = lost + one_lost, torn + one_torn
            self.segment.check()
        except shmvar.Error as error:
            checked = str(error)
        longest = max(self.words[board.row(worker) + board.LONGEST] for worker in range(board.WORKERS)) / 1e6
        return Account(
            seconds=round(seconds, 2),
            puts=self.total(board.PUTS),
            gets=self.total(board.GETS),
            kills=self.kills,
            died=self.died,
            lost=lost,
            torn=torn,
            longest_ms=round(longest, 1),
            check=checked,
        )

    def end(self) -> None:
        """Kills all processes. A second call does nothing."""
        for worker in range(len(self.workers)):
            self._kill(worker)
        self.workers = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.end()
        self.segment.destroy()
        self.segment.detach()


def play(stage: Stage, seconds: float) -> Iterator[float]:
    """Kills a process now and then until the time is up. Yields the seconds that have passed, again and again."""
    begin = time.monotonic()
    while not stage.ready() and not stage.broken() and time.monotonic() < begin + 60:
        time.sleep(0.01)
    begin = time.monotonic()
    next_kill = 0.0
    while (passed := time.monotonic() - begin) < seconds and not stage.broken():
        if passed >= next_kill:
            stage.kill_one()
            next_kill = passed + random.uniform(*PAUSE)
        yield passed
        time.sleep(min(0.02, max(0.0, seconds - passed)))
