"""Starts, stops, kills and reaps the processes of a soak. Only processes that were started here get signals."""

import contextlib
import ctypes
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import helpers

import shmvar
from soak.expected import STOP, Board
from soak.worker import Plan, run

PR_SET_CHILD_SUBREAPER = 36


class Processes:
    def __init__(self, plan: Plan, board: Board, segment: shmvar.Segment, chance: random.Random) -> None:
        self.plan, self.board, self.segment, self.random = plan, board, segment, chance
        self.of_lane: dict[int, int] = {}
        """Lane -> pid of its process."""
        self.stopped: set[int] = set()
        self.went_on: dict[int, int] = {}
        self.killed: set[int] = set()
        # Children of killed processes become children of this one, so it can wait for them.
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def start(self, lane: int, forked: bool) -> int:
        """Starts the process of a lane; returns its pid."""
        me = os.getpid()
        self.board.note(lane, Board.SINCE, time.monotonic_ns())
        self.board.note(lane, Board.PARKED, 0)
        if forked:
            # The child uses the handle of the director. SIGINT is blocked, because the hooks of the interpreter around
            # a fork would swallow a Ctrl-C.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                pid = os.fork()
                if pid == 0:
                    run(self.plan, lane, self.segment, me)
            finally:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        else:
            program = [sys.executable, "-c", "from soak.worker import main; main()"]
            words = [*self.plan, lane, me]
            environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
            pid = os.posix_spawn(sys.executable, [*program, *map(str, words)], environment)
        self.of_lane[lane] = pid
        # What is known of a pid is of a process that has ended, and had the same one.
        self.killed.discard(pid)
        self.stopped.discard(pid)
        self.went_on.pop(pid, None)
        return pid

    def reap(self) -> Iterator[tuple[int, int]]:
        """Reaps what has ended; yields (pid, exit status) of each process that ended as it should not.

        A process of a lane ends when it is killed or told to stop. An orphan ends with its parent, at any place.
        """
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            code = os.waitstatus_to_exitcode(status)
            lanes = [lane for lane, its in self.of_lane.items() if its == pid]
            for lane in lanes:
                del self.of_lane[lane]
            self.stopped.discard(pid)
            if lanes:
                right = code == -signal.SIGKILL if pid in self.killed else code == 0 and self.board.phase == STOP
            else:
                right = code in (0, 1, -signal.SIGKILL)
            if not right:
                yield pid, code

    # --- signals

    def children(self, pid: int) -> set[int]:
        try:
            threads = list(Path(f"/proc/{pid}/task").iterdir())
            return {int(child) for thread in threads for child in (thread / "children").read_text().split()}
        except OSError:
            return set()

    def descendants(self, pid: int) -> list[int]:
        return [d for child in self.children(pid) for d in (child, *self.descendants(child))]

    def choose(self, all: bool = False, descendants: bool = False) -> int | None:
        """Chooses a process. That of the first lane lives long, to see what grows: only `all` includes it."""
        chosen = [pid for lane, pid in self.of_lane.items() if (lane or all) and pid not in self.stopped]
        if descendants:
            chosen = [d for pid in self.of_lane.values() for d in self.descendants(pid)]
        return self.random.choice(chosen) if chosen else None

    def send(self, pid: int, number: int) -> bool:
        """Sends a signal to a descendant of this process, never to another process that has its pid meanwhile."""
        try:
            descriptor = os.pidfd_open(pid)
        except OSError:
            return False
        try:
            if pid not in self.descendants(os.getpid()):
                return False
            signal.pidfd_send_signal(descriptor, number)
        except OSError:
            return False
        finally:
            os.close(descriptor)
        return True

    def state(self, pid: int) -> str:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return "gone"

    def stop(self, pid: int) -> None:
        self.stopped.add(pid)
        if self.send(pid, signal.SIGSTOP):
            until = time.monotonic() + 10
            while self.state(pid) not in ("T", "t", "Z", "X", "gone") and time.monotonic() < until:
                time.sleep(0)

    def go_on(self, pid: int) -> None:
        self.stopped.discard(pid)
        self.went_on[pid] = time.monotonic_ns()
        self.send(pid, signal.SIGCONT)

    def kill(self, pid: int) -> bool:
        """Sends SIGKILL; returns when the kernel has released all that the process held."""
        if not self.send(pid, signal.SIGKILL):
            return False
        self.killed.add(pid)
        until = time.monotonic() + 30
        while self.state(pid) not in ("Z", "X", "gone") and time.monotonic() < until:
            time.sleep(0)
        self.stopped.discard(pid)
        return True

    def kill_all(self) -> None:
        """Kills all descendants."""
        until = time.monotonic() + 30
        while (living := self.descendants(os.getpid())) and time.monotonic() < until:
            for pid in living:
                self.send(pid, signal.SIGKILL)
            for _ in self.reap():
                pass
            time.sleep(0.005)

    def wait_for_all(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while self.of_lane or self.descendants(os.getpid()):
            for _ in self.reap():
                pass
            assert time.monotonic() < until, f"these do not end: {self.stacks()}"
            time.sleep(0.005)

    # --- observation

    def all_parked(self) -> bool:
        """Are all processes parked, without a child and without an orphan?"""
        parked = all(self.board.lane(lane, Board.PARKED) for lane in self.of_lane)
        return parked and self.children(os.getpid()) == set(self.of_lane.values())

    def burden(self, pid: int) -> tuple[int, int]:
        """The number of its descriptors and of its maps of segments."""
        try:
            maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
            return len(os.listdir(f"/proc/{pid}/fd")), sum("/dev/shm/" in line for line in maps)
        except OSError:
            return 0, 0

    def stacks(self) -> str:
        """What each process does, by the board and by its stack."""
        texts = []
        for lane, pid in self.of_lane.items():
            since = (time.monotonic_ns() - self.board.lane(lane, Board.SINCE)) / 1e9
            doing = self.board.operations[self.board.lane(lane, Board.DOING)]
            texts.append(f"lane {lane}: process {pid}, {self.state(pid)}, {since:.1f} s in {doing!r}")
            self.send(pid, signal.SIGUSR2)
        time.sleep(0.3)
        for path in Path(self.plan.directory).glob("stack-*"):
            if text := path.read_text():
                texts.append(f"{path.name}:\n{text}")
        return "\n".join(texts)

    def evidence(self) -> str:
        """For a failure: the lock, the participants, and what each process does."""
        with contextlib.suppress(OSError, AssertionError, shmvar.Error), helpers.Raw(self.segment) as raw:
            lock, valid = raw.unpack("<I", raw.LOCK)[0], raw.unpack("<Q", raw.INTENT)[0]
            return f"lock {lock:#x}, intent {valid}, participants {raw.participants()}\n{self.stacks()}"
        return ""
