"""A process of the soak: takes over the lane of a dead process, then does operations until it is told to stop."""

import contextlib
import ctypes
import faulthandler
import gc
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import shmvar
from soak.counters import Ledger
from soak.expected import PAUSE, STOP, Board, State, index_of
from soak.values import MISSING, round_of

BAD = 3
"""Exit status of a process that has written down what went wrong."""


class Plan(NamedTuple):
    """What the director tells its processes at their start."""

    directory: str
    key: str
    size: int
    workers: int
    seed: int

    @property
    def lanes(self) -> int:
        """One lane for each worker, and one for its children."""
        return 2 * self.workers

    def side(self, name: str) -> str:
        """Key of a segment beside the main one."""
        return f"{self.key}-{name}"

    def sides(self) -> list[str]:
        """Keys of all of them."""
        lanes = (f"lane-{lane}" for lane in range(self.lanes))
        return [self.side(name) for name in ("side", "cache-lru", "cache-ttl", *lanes)]


class Interrupted(Exception):
    """Raised by a signal handler in the middle of a call."""


class Worker:
    """The state of a process. Operations are functions of a worker, in the table of `operations.py`."""

    def __init__(self, plan: Plan, lane: int, segment: shmvar.Segment | None, board: Board | None = None) -> None:
        from soak.operations import OPERATIONS

        self.plan, self.lane = plan, lane
        self.board = board or Board(f"{plan.directory}/board", plan.lanes, (name for name, *_ in OPERATIONS))
        self.random = random.Random(plan.seed << 40 ^ os.getpid() << 16 ^ time.monotonic_ns() & 0xFFFF)
        self.segment = segment
        self.reader: shmvar.Segment | None = None
        self.changes: shmvar.Changes | None = None
        self.told: dict[int | str, int] = {}
        self.seen: dict[int, int] = {}
        self.versions: dict[int, int] = {}
        self.held: list[tuple[int, int, Any]] = []
        # Words that all processes write to, and what this one has stored into each of its own there, if anything.
        self.in_place: list[tuple[memoryview, int | None]] = []
        # What this process has of each cache: see `eviction_operations.py`.
        self.caches: dict[str, Any] = {}
        self.children: list[int] = []
        self.totals: dict[int | str, int] = {}
        self.expiring: dict[str, tuple[float, float]] = {}

    # --- changes of the lane's own numbers

    def own(self) -> int:
        return self.random.choice(self.board.of_lane(self.lane))

    def attempt(self, changes: Iterable[tuple[int, bool]], call: Callable[[list[int]], Any]) -> Any:
        """Announces changes, (number, will it be there), makes them with `call(rounds)` and notes that they are done.

        Returns the result of the call; or MISSING if it failed with an error that a soak is expected to meet: then
        each number must be either as it was or as announced.
        """
        changes = list(changes)
        rounds = [self.board.announce(number, there) for number, there in changes]
        try:
            answer = call(rounds)
        except (shmvar.SegmentFullError, shmvar.SegmentBusyError) as error:
            self.failed(error)
            resolved = [self.resolve(number) for number, _ in changes]
            assert resolved != [True], f"number {changes[0][0]} was changed by a call that failed: {error}"
            return MISSING
        except Interrupted:
            self.count("interrupted calls")
            for number, _ in changes:
                self.resolve(number)
            return MISSING
        for number, _ in changes:
            self.board.is_done(number)
        return answer

    def failed(self, error: shmvar.Error) -> None:
        """Counts an error that a soak is expected to meet."""
        full = isinstance(error, shmvar.SegmentFullError)
        assert not full or (error.needed > 0 and error.size > 0 and str(error.needed) in str(error)), vars(error)
        self.count("segment full" if full else "held up for 10 s")

    def resolve(self, number: int) -> bool:
        """After a call that did not end: is the old or the new state there? True: it can only be the new one."""
        # The next writer finishes a batch whose writer died: before that, the outcome is not decided.
        patient(self.segment.remove, "nothing of that name")
        old, new = self.board.done(number), self.board.announced(number)
        if old == new:
            found = self.find(number)
            assert found is None if not old.there else found == old.round, f"number {number}: {found}, done was {old}"
            return True
        found = self.find(number)
        is_old = (found is None and not old.there) or (old.there and found == old.round)
        is_new = (found is None and not new.there) or (new.there and found == new.round)
        assert is_old or is_new, f"number {number}: found {found}, neither old {old} nor new {new}"
        (self.board.is_done if is_new else self.board.is_not_done)(number)
        self.count("resolved: new" if is_new else "resolved: old")
        # Where nothing was removed from nothing, the state is both.
        return is_new and not is_old

    # --- reads of any number

    def find(self, number: int, segment: shmvar.Segment | None = None) -> int | None:
        """The round that is found under a number; None if nothing is there."""
        value = patient((segment or self.segment).get, index_of(number), MISSING)
        if value is MISSING:
            return None
        self.count("values compared")
        return round_of(number, value)

    def look(self, number: int, read: Callable[[Any, Any], Any]) -> Any:
        """Reads any number and compares it with the board; returns the value or MISSING."""
        before = self.board.done(number)
        try:
            value = read(index_of(number), MISSING)
        except shmvar.SegmentBusyError:
            self.count("held up for 10 s")
            return MISSING
        self.compare(number, before, value)
        return value

    def compare(self, number: int, before: State, value: Any) -> None:
        last = self.board.last(number)
        if value is MISSING:
            assert not (before.there and last == before.round), f"number {number} is missing: {before} was done"
            return
        round = round_of(number, value)
        least = max(before.round, self.seen.get(number, 0))
        assert least <= round <= last, f"number {number}: round {round}, not of {least} to {last}"
        assert round != before.round or before.there, f"number {number}: round {round} removed it"
        self.seen[number] = round
        self.count("values compared")

    def hold(self, number: int, value: Any) -> None:
        """Keeps a value that lies over the memory of the segment."""
        self.held.append((number, round_of(number, value), value))
        if len(self.held) > 12:
            del self.held[self.random.randrange(12)]

    def look_at_held(self) -> None:
        for number, round, value in self.held:
            assert round_of(number, value) == round, f"number {number}: round {round} changed in a reader's hands"
            self.count("views compared")

    # --- children

    def fork(self, work: Callable[["Worker"], None]) -> int:
        """Forks a child with the handles and views of this process. It takes the lane for children if that is free."""
        self.count("forked children")
        parent = os.getpid()
        pid = os.fork()
        if pid:
            self.children.append(pid)
            return pid
        with ending(self.plan):
            die_with(parent)
            signal.alarm(300)
            self.children = []
            self.changes = None  # ended in a forked child
            self.caches = {}
            self.expiring = {}
            self.lane = self.lane + self.plan.workers if 0 <= self.lane < self.plan.workers else -1
            if self.lane >= 0 and not self.board.take(self.lane, 0):
                self.lane = -1
            self.in_place = [(words, None) for words, _ in self.in_place]
            self.random = random.Random(os.getpid())
            work(self)
        raise AssertionError("unreachable")

    def reap(self, wait: bool = False) -> None:
        for pid in list(self.children):
            done, status = os.waitpid(pid, 0 if wait else os.WNOHANG)
            if done:
                self.children.remove(pid)
                code = os.waitstatus_to_exitcode(status)
                assert code in (0, BAD, -signal.SIGKILL), f"forked child {pid} ended with {code}"

    # --- the loop

    def count(self, name: str) -> None:
        if self.lane >= 0:
            self.board.count(self.lane, name)

    def work(self) -> None:
        from soak.operations import OPERATIONS

        operations = [operation for operation in OPERATIONS for _ in range(operation.share)]
        assert self.board.take(self.lane, 60), f"lane {self.lane} is not let go of"
        self.segment = self.segment or patient(shmvar.attach, self.plan.key, self.plan.size)
        self.take_over()
        while self.board.phase != STOP:
            if self.board.phase == PAUSE:
                self.park()
                continue
            operation = self.random.choice(operations)
            self.board.note(self.lane, Board.DOING, OPERATIONS.index(operation))
            self.board.note(self.lane, Board.SINCE, time.monotonic_ns())
            operation.run(self)
            self.count(operation.name)
        self.park(until=STOP)
        self.segment.detach()

    def take_over(self) -> None:
        Ledger(self.board, self.lane).take_over()
        for number in self.board.of_lane(self.lane):
            self.resolve(number)

    def park(self, until: int = PAUSE) -> None:
        """Stands still: without held values, without children, between two calls."""
        self.held.clear()
        self.in_place.clear()
        self.expiring.clear()
        self.caches.clear()
        self.reap(wait=True)
        if self.reader:
            self.reader.detach()
            self.reader = None
        gc.collect()
        self.board.note(self.lane, Board.PARKED, 1)
        while self.board.phase == PAUSE == until:
            time.sleep(0.002)
        self.board.note(self.lane, Board.SINCE, time.monotonic_ns())
        self.board.note(self.lane, Board.PARKED, 0)


def patient(call: Callable[..., Any], *arguments: Any) -> Any:
    """Repeats a call until it succeeds: a stopped process or a full memory file system is only temporary."""
    for turn in range(200):
        try:
            return call(*arguments)
        except (shmvar.SegmentBusyError, shmvar.SegmentFullError):
            if turn == 199:
                raise
            time.sleep(0.1)


def die_with(parent: int) -> None:
    """Asks the kernel for SIGKILL when the parent ends for any reason."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


@contextlib.contextmanager
def ending(plan: Plan):
    """Ends the process after the block in any case; an error is written down first."""
    status = 0
    try:
        yield
    except BaseException:
        status = BAD
        with open(f"{plan.directory}/failures", "a") as file:
            file.write(f"--- process {os.getpid()} ({' '.join(sys.argv)})\n{traceback.format_exc()}\n")
    finally:
        os._exit(status)


def run(plan: Plan, lane: int, segment: shmvar.Segment | None, parent: int) -> None:
    """The whole life of a process; does not return."""
    with ending(plan):
        die_with(parent)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        faulthandler.register(signal.SIGUSR2, open(f"{plan.directory}/stack-{os.getpid()}", "w"))  # noqa: SIM115
        Worker(plan, lane, segment).work()


def run_child(plan: Plan, lane: int, segment: shmvar.Segment, numbers: list[int]) -> None:
    """The life of a child of multiprocessing: its handle came by pickle."""
    with ending(plan):
        die_with(os.getppid())
        signal.alarm(300)
        worker = Worker(plan, lane, segment)
        if worker.board.take(lane, 0):
            worker.take_over()
            from soak.variable_operations import put

            for _ in range(5):
                put(worker)
        else:
            worker.lane = -1
        for number in numbers:
            worker.look(number, segment.get)


def main() -> None:
    """Runs a process that is a new interpreter: its arguments are the plan, its lane and its parent."""
    directory, key, *rest = sys.argv[1:]
    size, workers, seed, its_lane, its_parent = map(int, rest)
    run(Plan(directory, key, size, workers, seed), its_lane, None, its_parent)
