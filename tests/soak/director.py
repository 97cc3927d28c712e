"""The soak: many processes do mixed operations on one segment while they are killed, stopped and starved of memory.

    python tests/soak --minutes 5 --seed 1 --workers 4

Everything that is read is held against a shared reference outside of the segment (`expected.py`); at every pause all
that is there is compared again, with the accounts. As root it mounts a small /dev/shm of its own, which it fills up
from time to time; otherwise only the size of the segment runs out. Ends with counts and a verdict; exit status 1 where
something was wrong, with the seed and what it was. Nothing is left behind, on Ctrl-C either.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import helpers

import shmvar
from soak.checks import Failure, check, final_check, watch
from soak.counters import COUNTERS, LONG
from soak.expected import PAUSE, RUN, STOP, Board
from soak.operations import OPERATIONS
from soak.processes import People
from soak.report import Progress, table
from soak.worker import Plan, Worker

EVENTS = [
    # Name, how often against the others.
    ("kill", 40),
    ("kill, aimed", 25),
    ("kill, stopped", 15),
    ("kill, a descendant", 20),
    ("stop", 40),
]


class Director:
    """Starts processes, makes them die and stop, looks at what they leave."""

    def __init__(self, options: argparse.Namespace, directory: str, private: bool) -> None:
        self.options, self.private = options, private
        self.random = random.Random(options.seed)
        # Of a private memory file system a part, not much above what is stored at a time: the size runs out, too.
        size = (options.memory << 20) // 4
        key = f"soak-{os.getpid()}-{options.seed}"
        self.plan = Plan(directory, key, size, options.workers, options.seed)
        self.board = Board(f"{directory}/board", self.plan.lanes, (name for name, *_ in OPERATIONS))
        self.segment = shmvar.attach(key, size, create=True)
        self.segment[COUNTERS["add, long ints"]] = LONG
        self.people = People(self.plan, self.board, self.segment, self.random)
        self.counts = dict.fromkeys([name for name, _ in EVENTS], 0)
        self.counts |= {"starts: new interpreter": 0, "starts: forked": 0, "memory filled": 0, "pauses with checks": 0}
        self.counts |= {"stops of a lock holder for 10 s": 0, "deaths with the lock": 0, "deaths in a change": 0}
        self.hog = f"{helpers.SHM}/soak-hog-{os.getpid()}"
        self.raw = helpers.Raw(self.segment)
        self.baseline: dict[int, tuple[int, int]] = {}
        self.due: list[tuple[float, Callable[[int], object], int]] = []

    def run(self, progress: Progress) -> None:
        began = now = time.monotonic()
        end = began + self.options.minutes * 60
        span = min(12.0, self.options.minutes * 20)
        next_pause, next_event, next_long, hog_until = began + span, began + 1, began + 60, 0.0
        while now < end:
            progress.show((now - began) / (end - began), self.counts, self.board.counts())
            self.started()
            self.reap()
            self.do_what_is_due()
            watch(self.people, self.board, self.plan)
            if now >= next_event:
                next_event = now + self.random.expovariate(self.options.events)
                self.event(self.random.choices(*zip(*EVENTS, strict=True))[0])
            if self.private and now >= hog_until:
                self.let_go_of_memory()
                if self.random.random() < 0.008:
                    self.fill_memory()
                    hog_until = now + self.random.uniform(0.1, 1.5)
            if now >= next_long and end - now > 25:
                next_long = now + self.random.uniform(60, 180)
                if self.stop_a_lock_holder():
                    next_pause = max(next_pause, now + 14)
                    # Those who are killed do not wait long enough to give up.
                    next_event = max(next_event, now + self.random.choice([0, 11]))
            if now >= next_pause:
                self.pause()
                next_pause = time.monotonic() + span
            time.sleep(0.01)
            now = time.monotonic()
        self.finish()

    def started(self) -> None:
        """A process for each lane that has none."""
        for lane in range(self.plan.workers):
            if lane not in self.people.of_lane:
                forked = self.random.random() < 0.8
                self.people.start(lane, forked)
                self.counts["starts: forked" if forked else "starts: new interpreter"] += 1

    def reap(self) -> None:
        ended = list(self.people.reap())
        self.failures()
        if ended:
            raise Failure(f"processes ended, with exit status: {ended}")

    def failures(self) -> None:
        path = Path(self.plan.directory, "failures")
        if path.exists():
            time.sleep(0.2)
            raise Failure(path.read_text())

    # --- what befalls the processes

    def event(self, name: str) -> None:
        pid = self.people.choose(all=name == "stop", descendants=name == "kill, a descendant")
        if pid is None:
            return
        match name:
            case "kill" | "kill, a descendant":
                self.kill(pid)
            case "kill, aimed":
                # Stopped again and again until it holds the lock, or is in the middle of a commit.
                self.stop_inside(pid, 120, self.random.random() < 0.7)
                self.kill(pid)
            case "kill, stopped":
                self.people.stop(pid)
                self.later(self.random.uniform(0, 0.5), self.kill, pid)
            case "stop":
                self.people.stop(pid)
                self.later(self.random.random() ** 4 * 2, self.people.go_on, pid)
        self.counts[name] += 1

    def later(self, seconds: float, act: Callable[[int], object], pid: int) -> None:
        self.due.append((time.monotonic() + seconds, act, pid))

    def do_what_is_due(self, everything: bool = False) -> None:
        now = time.monotonic()
        due = [entry for entry in self.due if everything or entry[0] <= now]
        self.due = [entry for entry in self.due if entry not in due]
        for _, act, pid in due:
            act(pid)

    def kill(self, pid: int) -> None:
        if self.people.kill(pid):
            (word,) = self.raw.unpack("<I", self.raw.LOCK)
            holds = self.participant(word) == pid
            self.counts["deaths with the lock"] += holds
            self.counts["deaths in a change"] += holds and self.a_change_is_under_way()

    def a_change_is_under_way(self) -> bool:
        return self.raw.unpack("<Q", self.raw.INTENT)[0] != 0

    def participant(self, word: int) -> int | None:
        """Whose number a lock word holds."""
        number = (word & 0x7FFF_FFFF) - 1
        return self.raw.unpack("<I", self.raw.PARTICIPANTS + 64 * number + 4)[0] if number >= 0 else None

    def stop_inside(self, pid: int, tries: int, in_a_change: bool = False) -> bool:
        for _ in range(tries):
            self.people.stop(pid)
            (word,) = self.raw.unpack("<I", self.raw.LOCK)
            if self.participant(word) == pid and (not in_a_change or self.a_change_is_under_way()):
                return True
            self.people.go_on(pid)
            time.sleep(self.random.random() * 0.002)
        return False

    def stop_a_lock_holder(self) -> bool:
        """Longer than anybody waits: typed errors for writers, values for readers."""
        pid = self.people.choose(all=True)
        if pid and self.stop_inside(pid, 1000):
            self.counts["stops of a lock holder for 10 s"] += 1
            self.later(10.5, self.people.go_on, pid)
            return True
        if pid:
            self.people.go_on(pid)
        return False

    def fill_memory(self) -> None:
        """Takes what is left of the memory file system."""
        self.counts["memory filled"] += 1
        with open(self.hog, "wb", buffering=0) as file:
            try:
                for block in (1 << 20, 4096):
                    while True:
                        file.write(bytes(block))
            except OSError:
                pass

    def let_go_of_memory(self) -> None:
        if os.path.exists(self.hog):
            os.unlink(self.hog)

    # --- pauses, the end

    def pause(self) -> None:
        """Everybody stands still between two calls: then all must be exact."""
        self.let_go_of_memory()
        self.do_what_is_due(everything=True)
        self.board.phase = PAUSE
        self.quiet()
        self.segment.resize(self.plan.size)
        check(self.segment, self.board, self.plan)
        if self.random.random() < 0.3:
            self.segment.trim()
            check(self.segment, self.board, self.plan)
        self.no_growth()
        self.counts["pauses with checks"] += 1
        self.board.phase = RUN

    def quiet(self) -> None:
        """Waits until each process is parked, or gone; settles the lanes that nobody has."""
        until = time.monotonic() + 120
        while True:
            self.reap()
            if self.people.all_parked():
                break
            if time.monotonic() > until:
                raise Failure(f"not parked within 120 s: {self.people.stacks()}")
            time.sleep(0.005)
        for lane in range(self.plan.lanes):
            settler = Worker(self.plan, lane, self.segment, self.board)
            if self.board.take(lane, 0):
                settler.take_over()
                self.board.give(lane)

    def no_growth(self) -> None:
        """A process that lives long has no more descriptors and maps of segments than after its first pause."""
        for pid in self.people.of_lane.values():
            now = self.people.burden(pid)
            before = self.baseline.setdefault(pid, now)
            if any(n > was + 4 for n, was in zip(now, before, strict=True)):
                raise Failure(f"process {pid}: descriptors and maps grew from {before} to {now}")

    def finish(self) -> None:
        self.let_go_of_memory()
        self.do_what_is_due(everything=True)
        self.board.phase = PAUSE
        self.quiet()
        self.no_growth()
        self.board.phase = STOP
        self.people.wait_for_all(60)
        self.reap()
        self.segment.resize(self.plan.size)
        check(self.segment, self.board, self.plan)
        self.failures()
        final_check(self.segment, self.plan, self.private)

    def close(self) -> None:
        """Ends what was started, removes what was made: whatever went before."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.people.kill_all()
        self.let_go_of_memory()
        os.close(self.raw.fd)
        for name in ("side", *(f"lane-{lane}" for lane in range(self.plan.lanes))):
            shmvar.destroy(self.plan.side(name))
        if not self.segment.detached:
            self.segment.detach()
        shmvar.destroy(self.plan.key)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python tests/soak", description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=5, metavar="M")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3)), metavar="S")
    parser.add_argument(
        "--workers", type=int, default=4, metavar="N", help="processes at a time, with as many children"
    )
    parser.add_argument("--events", type=float, default=12, metavar="E", help="kills and stops a second")
    parser.add_argument("--memory", type=int, default=96, metavar="MIB", help="size of the private memory file system")
    parser.add_argument("--shared", action="store_true", help="the machine's /dev/shm, as root too")
    parser.add_argument("--nice", type=int, default=0, metavar="N")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    os.nice(options.nice)
    # multiprocessing's tracker is killed, too, and its children say so.
    os.environ["PYTHONWARNINGS"] = "ignore"
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    private = not options.shared and helpers.private_shm(f"size={options.memory}m")
    directory = tempfile.mkdtemp(prefix="soak-")
    director = Director(options, directory, private)
    failure = ""
    try:
        with Progress(options.seed) as progress:
            director.run(progress)
    except (Failure, AssertionError, shmvar.Error) as error:
        failure = f"{type(error).__name__}: {error}\n{director.people.evidence()}"
    except KeyboardInterrupt:
        failure = "interrupted"
    finally:
        director.close()
        counts = {**director.counts, **director.board.counts()}
        shutil.rmtree(directory, ignore_errors=True)
    table(counts)
    if failure:
        print(failure, file=sys.stderr)
    print(f"soak: {'FAILED' if failure else 'clean'} (seed {options.seed}, {options.minutes:g} min, "
          f"{options.workers} workers, {'a private' if private else 'the shared'} /dev/shm)")  # fmt: skip
    return 1 if failure else 0
