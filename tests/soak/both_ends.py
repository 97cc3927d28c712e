"""A soak of both back ends in one ledger: a segment of this machine, and one on a server whose connections are killed.

    python tests/soak/both_ends.py --minutes 5 --workers 4
    python tests/soak/both_ends.py --url valkey://127.0.0.1/#soak

Each index lives on one of the two, by its text; each process changes both, and one board says what must be found, as in
the other soak (`expected.py`, `counters.py`). Meanwhile processes are killed, all connections of the server are killed
several times a second, and without --url, with a server of its own, that server is stopped and continued. It ends with
counts and a verdict. The exit status is 1 if something was wrong.
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # Python put this folder itself on the path; the packages are found from its parent.
    sys.path[0] = str(Path(__file__).parents[1])

import shmvar
from soak import atomic_operations as atomic
from soak import variable_operations as variables
from soak.counters import COUNTERS, LONG, Ledger, settle
from soak.expected import PAUSE, RUN, STOP, Board, index_of
from soak.operations import OPERATIONS, Operation
from soak.report import table
from soak.values import round_of
from soak.worker import BAD, Plan, Worker, die_with, ending

SIZE = 64 << 20
HERE, THERE = 0, 1


class Ends:
    """Two segments as one: what the operations call, each call at the end where its index lives."""

    BY_INDEX = ("put", "get", "view", "has", "remove", "pop", "setdefault", "add", "swap", "version", "get_versioned")
    BY_INDEX += ("compare_and_put", "modify", "stat")

    def __init__(self, plan: Plan, url: str) -> None:
        self.ends = [shmvar.attach(plan.key, plan.size), shmvar.attach(url, plan.size)]

    def of(self, index: int | str) -> Any:
        return self.ends[end_of(index)]

    def __getattr__(self, name: str) -> Any:
        if name not in self.BY_INDEX:
            raise AttributeError(name)

        def call(index, *arguments, **options):
            return getattr(self.of(index), name)(index, *arguments, **options)

        return call

    def __getitem__(self, index):
        return self.of(index)[index]

    def __setitem__(self, index, value):
        self.of(index)[index] = value

    def lock(self, name):
        return self.of(name).lock(name)

    def put_many(self, values):
        """Of one group, which lives at one end."""
        self.of(next(iter(values))).put_many(values)

    def get_many(self, indexes):
        return self.of(indexes[0]).get_many(indexes)

    def detach(self):
        for end in self.ends:
            end.detach()


def end_of(index: int | str) -> int:
    """Where an index lives. A group is at one end. A pair is here: a lock that was lost keeps nobody from reading."""
    words = str(index).split()
    if words[0] == "group":
        return int(words[1]) % 2
    return {"pair": HERE, "there": THERE}.get(words[0], zlib.crc32(repr(index).encode()) % 2)


def locked_there(worker: Worker) -> None:
    """Reads and stores under a lock of the server. It may be lost: then what is stored is refused, and not counted."""
    ledger, index = Ledger(worker.board, worker.lane), COUNTERS["locked there"]
    if not ledger.open():
        return
    lock = worker.segment.lock("there")
    made, begun = False, False
    try:
        if not lock.acquire(timeout=worker.random.random() * 2):
            return worker.count("locks not had in time")
        try:
            amount = ledger.begin("locked there", worker.random)
            begun = True
            total = worker.segment.get(index, 0)
            if worker.random.random() < 0.3:
                time.sleep(worker.random.random() * 0.02)
            worker.segment[index] = total + amount
            made = True
        finally:
            lock.release()
    except shmvar.LockLostError:
        worker.count("locks not had in time")
    except variables.EXPECTED as error:
        worker.failed(error)
    finally:
        if begun:
            ledger.end(made)


HERE_AND_THERE = [
    "put", "put, read back", "put, 30 times", "put, interrupted", "remove", "pop", "setdefault", "threads", "get",
    "get, held", "view", "views held", "has", "stat", "crowd", "queue", "add", "add, long ints", "compare_and_put",
    "modify", "lock", "compare_and_put, own", "swap, own", "put_many", "get_many",
]  # fmt: skip
"""Those of all operations that ask for one index, or one group, at a time."""
CHOSEN = [operation for operation in OPERATIONS if operation.name in HERE_AND_THERE]
CHOSEN.append(Operation("lock", 60, locked_there))


def work(plan: Plan, lane: int, url: str) -> None:
    """The life of a process; does not return."""
    with ending(plan):
        die_with(os.getppid())
        worker = Worker(plan, lane, None)
        operations = [operation for operation in CHOSEN for _ in range(operation.share)]
        assert worker.board.take(lane, 60), f"lane {lane} is not let go of"
        worker.segment = Ends(plan, url)
        # A request of a process that was killed lies in the server's socket, and is carried out before the answer to a
        # second request of this process: `resolve` asks twice.
        worker.take_over()
        while worker.board.phase != STOP:
            if worker.board.phase == PAUSE:
                worker.park()
                continue
            operation = worker.random.choice(operations)
            worker.board.note(lane, Board.SINCE, time.monotonic_ns())
            operation.run(worker)
            worker.count(operation.name)
        worker.segment.detach()


class Director:
    """Starts and kills processes and connections, and looks at what they leave."""

    def __init__(self, options: argparse.Namespace, directory: str, url: str, server: Any) -> None:
        self.options, self.url, self.server = options, url, server
        self.random = random.Random(options.seed)
        key = f"soak-ends-{os.getpid()}"
        self.plan = Plan(directory, key, SIZE, options.workers, options.seed)
        self.board = Board(f"{directory}/board", self.plan.lanes, (name for name, *_ in OPERATIONS))
        self.ends = Ends(self.plan, url)
        self.ends[COUNTERS["add, long ints"]] = LONG
        self.running: dict[int, subprocess.Popen] = {}
        self.counts = {"kills of processes": 0, "connections killed": 0, "stops of the server": 0, "pauses": 0}

    def run(self) -> None:
        end = time.monotonic() + self.options.minutes * 60
        pause = time.monotonic() + min(10.0, self.options.minutes * 20)
        while (now := time.monotonic()) < end or self.had_no_time(now - end):
            self.started()
            # Behind its time, on a busy machine, it only waits until a process has a connection that it can kill.
            event = self.random.random() if now < end else 0.5
            if event < 0.25:
                self.kill_a_process()
            elif event < 0.97 or self.server is None:
                self.kill_connections()
            else:
                self.stop_the_server()
            if now > pause:
                self.pause()
                pause = time.monotonic() + 10
            time.sleep(self.random.random() * 0.2)
        self.pause(STOP)

    def started(self) -> None:
        for lane in range(self.plan.workers):
            process = self.running.get(lane)
            if process is not None and process.poll() not in (None, -signal.SIGKILL):
                text = Path(self.plan.directory, "failures")
                raise AssertionError(text.read_text() if text.exists() else f"a process ended: {process.returncode}")
            if process is None or process.poll() is not None:
                words = [self.plan.directory, self.plan.key, str(self.plan.workers), str(self.plan.seed), str(lane)]
                program = [sys.executable, __file__, "--url", self.url, "--as", *words]
                self.running[lane] = subprocess.Popen(program)

    def had_no_time(self, late: float) -> bool:
        """Whether no connection was killed yet: the processes of a short run may all have died before they had one."""
        return self.counts["connections killed"] == 0 and late < 120

    def kill_a_process(self) -> None:
        process = self.random.choice(list(self.running.values()))
        process.kill()
        process.wait()
        self.counts["kills of processes"] += 1

    def kill_connections(self) -> None:
        with contextlib.suppress(shmvar.Error):
            self.counts["connections killed"] += self.ends.ends[THERE]._link.call(
                b"CLIENT", b"KILL", b"TYPE", b"normal"
            )

    def stop_the_server(self) -> None:
        with self.server.stopped():
            time.sleep(self.random.random())
        self.counts["stops of the server"] += 1

    def pause(self, phase: int = PAUSE) -> None:
        """All processes stand still, or end; then everything is compared."""
        self.counts["pauses"] += 1
        self.board.phase = phase
        until = time.monotonic() + 120
        while not self.quiet(phase):
            self.started() if phase == PAUSE else None
            assert time.monotonic() < until, "a process does not stand still"
            time.sleep(0.01)
        for lane in range(self.plan.workers):
            # The lane of a process that was killed and not replaced.
            worker = Worker(self.plan, lane, self.ends, self.board)
            if self.board.take(lane, 0):
                worker.take_over()
                self.board.give(lane)
        check(self.ends, self.board)
        if phase == PAUSE:
            self.board.phase = RUN

    def quiet(self, phase: int) -> bool:
        if phase == STOP:
            ended = [process.poll() for process in self.running.values()]
            assert BAD not in ended, Path(self.plan.directory, "failures").read_text()
            return None not in ended
        return all(
            self.board.lane(lane, Board.PARKED) and self.board.lane(lane, Board.PID) == process.pid
            for lane, process in self.running.items()
        )

    def close(self) -> None:
        for process in self.running.values():
            process.kill()
            process.wait()
        self.ends.detach()
        shmvar.destroy(self.plan.key)
        with contextlib.suppress(shmvar.Error):
            shmvar.destroy(self.url)


def check(ends: Ends, board: Board) -> None:
    """While nobody changes anything: every number, counter and group, and what each end says of itself."""
    for number in board.numbers():
        done, value = board.done(number), ends.get(index_of(number))
        found = None if value is None else round_of(number, value)
        assert found == (done.round if done.there else None), f"number {number}: {done} was done, found round {found}"
    atomic.mend_pair(ends)
    for name, index in COUNTERS.items():
        found = ends.get(index, LONG if name == "add, long ints" else 0)
        assert settle(board, name, found) is not None, f"counter {name!r} is {found}, which no choice makes"
    for group in atomic.GROUPS:
        atomic.whole_group(group, ends.get_many(group))
    for end, segment in enumerate(ends.ends):
        segment.check()
        wrong = [index for index in segment if end_of(index) != end]
        assert not wrong, f"at the wrong end: {wrong}"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python tests/soak/both_ends.py", description=__doc__.split("\n")[0])
    parser.add_argument("--url", help="a segment on a server, which is destroyed; without it a server of its own")
    parser.add_argument("--minutes", type=float, default=5, metavar="M")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3)), metavar="S")
    parser.add_argument("--workers", type=int, default=4, metavar="N")
    parser.add_argument("--as", dest="worker", nargs=5, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    options = arguments()
    if options.worker:
        directory, key, workers, seed, lane = options.worker
        work(Plan(directory, key, SIZE, int(workers), int(seed)), int(lane), options.url)
    from helpers import servers

    server = None
    if options.url is None:
        if not servers.PROGRAMS:
            print("both ends: skipped, it needs valkey-server or redis-server, or --url")
            return 0
        server = servers.Server(servers.PROGRAMS[0])
    directory = tempfile.mkdtemp(prefix="soak-ends-")
    url = options.url or server.url("soak")
    failure, director = "", None
    try:
        director = Director(options, directory, url, server)
        director.run()
    except (AssertionError, shmvar.Error) as error:
        failure = f"{type(error).__name__}: {error}"
    except KeyboardInterrupt:
        failure = "interrupted"
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if director:
            director.close()
            table({**director.counts, **{name: count for name, count in director.board.counts().items() if count}})
        shutil.rmtree(directory, ignore_errors=True)
        if server:
            server.end()
    if failure:
        print(failure, file=sys.stderr)
    print(f"both ends: {'FAILED' if failure else 'clean'} (seed {options.seed}, {options.minutes:g} min)")
    return 1 if failure else 0


if __name__ == "__main__":
    sys.exit(main())
