"""The soak: many processes do mixed operations on one segment while they are killed, stopped and starved of memory.

    python tests/soak --minutes 5 --seed 1 --workers 4

Every value that is read is compared with a reference outside of the segment (`expected.py`); at every pause all values
and accounts are compared again. As root it mounts a small /dev/shm of its own, which it fills up from time to time;
otherwise only the size of the segment runs out. It ends with counts and a verdict; the exit status is 1 if something
was wrong, and then it prints the seed and what was wrong. Nothing is left behind, on Ctrl-C neither.
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
from soak.processes import Processes
from soak.report import Progress, table
from soak.worker import Plan, Worker

EVENTS = [
    # Name, and its share: how often it happens, compared with the others.
    ("kill", 40),
    ("kill, aimed", 25),
    ("kill, stopped", 15),
    ("kill, a descendant", 20),
    ("stop", 40),
]
ALWAYS = [*dict(EVENTS), "pauses with checks", "put, 30 times", "fork"]
"""What happens at least once in each soak, however short it is: chance alone may give none of one kind."""


class Director:
    """Starts, stops and kills processes, and checks what they leave behind."""

    def __init__(self, options: argparse.Namespace, directory: str, private: bool) -> None:
        self.options, self.private = options, private
        self.random = random.Random(options.seed)
        # A quarter of a private memory file system: little more than is stored at a time, so the size runs out, too.
        size = (options.memory << 20) // 4
        key = f"soak-{os.getpid()}-{options.seed}"
        self.plan = Plan(directory, key, size, options.workers, options.seed)
        self.board = Board(f"{directory}/board", self.plan.lanes, (name for name, *_ in OPERATIONS))
        self.segment = shmvar.attach(key, size, create=True)
        self.segment[COUNTERS["add, long ints"]] = LONG
        self.processes = Processes(self.plan, self.board, self.segment, self.random)
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
        while now < end or self.had_no_time(now - end):
            progress.show((now - began) / (end - began), self.counts, self.board.counts())
            self.started()
            self.reap()
            self.do_what_is_due()
            watch(self.processes, self.board, self.plan)
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
                    # Without a kill for so long, some processes wait until they give up.
                    next_event = max(next_event, now + self.random.choice([0, 11]))
            if now >= next_pause:
                self.pause()
                next_pause = time.monotonic() + span
            time.sleep(0.01)
            now = time.monotonic()
        self.finish()

    def had_no_time(self, late: float) -> bool:
        """Whether something has not happened yet that happens in each soak: a short one on a busy machine goes on."""
        counts = self.counts | self.board.counts()
        return late < 120 and not all(counts[name] for name in ALWAYS)

    def started(self) -> None:
        """Starts a process for each lane that has none: the first one, and a fifth of the others, in a new
        interpreter.
        """
        for lane in range(self.plan.workers):
            if lane not in self.processes.of_lane:
                # A short soak has so few starts that chance alone may give none of one kind.
                forked = self.counts["starts: new interpreter"] > 0 and self.random.random() < 0.8
                pid = self.processes.start(lane, forked)
                # A process that has ended may have had the same pid.
                self.baseline.pop(pid, None)
                self.counts["starts: forked" if forked else "starts: new interpreter"] += 1

    def reap(self) -> None:
        ended = list(self.processes.reap())
        self.failures()
        if ended:
            raise Failure(f"processes ended, with exit status: {ended}")

    def failures(self) -> None:
        path = Path(self.plan.directory, "failures")
        if path.exists():
            time.sleep(0.2)
            raise Failure(path.read_text())

    # --- kills and stops

    def event(self, name: str) -> None:
        pid = self.processes.choose(all=name == "stop", descendants=name == "kill, a descendant")
        if pid is None:
            return
        match name:
            case "kill" | "kill, a descendant":
                self.kill(pid)
            case "kill, aimed":
                # It is stopped again and again until it holds the lock, or is in the middle of a change.
                self.stop_inside(pid, 120, self.random.random() < 0.7)
                self.kill(pid)
            case "kill, stopped":
                self.processes.stop(pid)
                self.later(self.random.uniform(0, 0.5), self.kill, pid)
            case "stop":
                self.processes.stop(pid)
                self.later(self.random.random() ** 4 * 2, self.processes.go_on, pid)
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
        if self.processes.kill(pid):
            (word,) = self.raw.unpack("<I", self.raw.LOCK)
            holds = self.participant(word) == pid
            self.counts["deaths with the lock"] += holds
            self.counts["deaths in a change"] += holds and self.a_change_is_under_way()

    def a_change_is_under_way(self) -> bool:
        return self.raw.unpack("<Q", self.raw.INTENT)[0] != 0

    def participant(self, word: int) -> int | None:
        """The pid of the participant whose number is in a lock word."""
        number = (word & 0x7FFF_FFFF) - 1
        return self.raw.unpack("<I", self.raw.PARTICIPANTS + 64 * number + 4)[0] if number >= 0 else None

    def stop_inside(self, pid: int, tries: int, in_a_change: bool = False) -> bool:
        for _ in range(tries):
            self.processes.stop(pid)
            (word,) = self.raw.unpack("<I", self.raw.LOCK)
            if self.participant(word) == pid and (not in_a_change or self.a_change_is_under_way()):
                return True
            self.processes.go_on(pid)
            time.sleep(self.random.random() * 0.002)
        return False

    def stop_a_lock_holder(self) -> bool:
        """Stops a lock holder for longer than any call waits: writers get typed errors, readers get values."""
        pid = self.processes.choose(all=True)
        if pid and self.stop_inside(pid, 1000):
            self.counts["stops of a lock holder for 10 s"] += 1
            self.later(10.5, self.processes.go_on, pid)
            return True
        if pid:
            self.processes.go_on(pid)
        return False

    def fill_memory(self) -> None:
        """Takes all that is left of the memory file system."""
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
        """All processes stand still between two calls: then everything must be exact."""
        self.let_go_of_memory()
        self.do_what_is_due(everything=True)
        self.board.phase = PAUSE
        self.quiet()
        self.resize()
        check(self.segment, self.board, self.plan)
        if self.random.random() < 0.3:
            self.segment.trim()
            check(self.segment, self.board, self.plan)
        self.no_growth()
        self.counts["pauses with checks"] += 1
        self.board.phase = RUN

    def resize(self) -> None:
        """Gives the segment the size of the plan again, or as much more as what is stored and one check need."""
        # Processes raise the limit, too, and may have used that.
        self.segment.resize(max(self.plan.size, self.segment.info().used + (1 << 16)))

    def quiet(self) -> None:
        """Waits until each process is parked or gone; then resolves the lanes that no process has."""
        until = time.monotonic() + 120
        while True:
            self.reap()
            if self.processes.all_parked():
                break
            if time.monotonic() > until:
                raise Failure(f"not parked within 120 s: {self.processes.stacks()}")
            time.sleep(0.005)
        for lane in range(self.plan.lanes):
            settler = Worker(self.plan, lane, self.segment, self.board)
            if self.board.take(lane, 0):
                settler.take_over()
                self.board.give(lane)

    def no_growth(self) -> None:
        """A long-lived process must have no more descriptors and maps of segments than after its first pause."""
        for pid in self.processes.of_lane.values():
            now = self.processes.burden(pid)
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
        self.processes.wait_for_all(60)
        self.reap()
        self.resize()
        check(self.segment, self.board, self.plan)
        self.failures()
        final_check(self.segment, self.plan, self.private)

    def close(self) -> None:
        """Ends every process that was started and removes all that was made, also after a failure."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.processes.kill_all()
        self.let_go_of_memory()
        os.close(self.raw.fd)
        for key in self.plan.sides():
            shmvar.destroy(key)
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
    # The resource tracker of multiprocessing is killed, too, and children would warn of that.
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
        failure = f"{type(error).__name__}: {error}\n{director.processes.evidence()}"
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
