"""The processes of a soak: started, stopped, killed, reaped. Only what was started here is ever sent a signal."""

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


class People:
    def __init__(self, plan: Plan, board: Board, segment: shmvar.Segment, chance: random.Random) -> None:
        self.plan, self.board, self.segment, self.random = plan, board, segment, chance
        self.of_lane: dict[int, int] = {}
        """Lane -> pid of its process."""
        self.stopped: set[int] = set()
        self.went_on: dict[int, int] = {}
        self.killed: set[int] = set()
        # Children of killed processes become ours: they can be waited for.
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def start(self, lane: int, forked: bool) -> None:
        me = os.getpid()
        self.board.note(lane, Board.SINCE, time.monotonic_ns())
        self.board.note(lane, Board.PARKED, 0)
        if forked:
            # With the director's handle.
            # The interpreter's own hooks around a fork swallow a Ctrl-C that comes then.
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

    def reap(self) -> Iterator[tuple[int, int]]:
        """(pid, exit status) of each that has ended as it should not.

        A process of ours ends when we kill it, or tell it to stop; an orphan with its parent, wherever that finds it.
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
        """A victim. The first lane's process lives long, to see what grows: it is chosen with `all` only."""
        chosen = [pid for lane, pid in self.of_lane.items() if (lane or all) and pid not in self.stopped]
        if descendants:
            chosen = [d for pid in self.of_lane.values() for d in self.descendants(pid)]
        return self.random.choice(chosen) if chosen else None

    def send(self, pid: int, number: int) -> bool:
        """To a descendant of ours, and nobody who got its pid meanwhile."""
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
        """SIGKILL; returns when the system has let go of it."""
        if not self.send(pid, signal.SIGKILL):
            return False
        self.killed.add(pid)
        until = time.monotonic() + 30
        while self.state(pid) not in ("Z", "X", "gone") and time.monotonic() < until:
            time.sleep(0)
        self.stopped.discard(pid)
        return True

    def kill_all(self) -> None:
        """Everybody, children's children too."""
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

    # --- what can be seen of them

    def all_parked(self) -> bool:
        """Each process has reaped its own; no orphan is left."""
        parked = all(self.board.lane(lane, Board.PARKED) for lane in self.of_lane)
        return parked and self.children(os.getpid()) == set(self.of_lane.values())

    def burden(self, pid: int) -> tuple[int, int]:
        """Descriptors, and maps of segments."""
        try:
            maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
            return len(os.listdir(f"/proc/{pid}/fd")), sum("/dev/shm/" in line for line in maps)
        except OSError:
            return 0, 0

    def stacks(self) -> str:
        """What each process does, from the board and from its own stack."""
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
        """For a failure: the lock, the participants, who does what."""
        with contextlib.suppress(OSError, AssertionError, shmvar.Error), helpers.Raw(self.segment) as raw:
            lock, valid = raw.unpack("<I", raw.LOCK)[0], raw.unpack("<Q", raw.INTENT)[0]
            return f"lock {lock:#x}, intent {valid}, participants {raw.participants()}\n{self.stacks()}"
        return ""
