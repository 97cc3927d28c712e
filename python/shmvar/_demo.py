"""`shmvar demo`: processes write and read one segment, are killed at random, start again; then the account.

Beside the segment there is the board: a plain memory file in which each process notes what it has done. Its
words outlive a SIGKILL, so that what a dead writer was told to be stored can be held against what is there.
"""

import mmap
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from zlib import crc32

import shmvar

if TYPE_CHECKING:
    import subprocess  # where it is used: a worker has no need of it and starts sooner

WRITERS, READERS = 3, 2
WORKERS = WRITERS + READERS
OWN = 8  # indexes of each writer
INDEXES = WRITERS * OWN
PAYLOAD = 64 << 10
PAUSE = (0.06, 0.14)  # seconds from one kill to the next
SIZE = 32 << 20  # fits where a container has 64 MiB

# The board, in words of 8 bytes: per index the last number that put() returned for, then a row per worker.
PUTS, GETS, LOST, TORN, LONGEST, SINCE, READY, ROW = range(8)
BOARD = 8 * (INDEXES + WORKERS * ROW)


def board_of(fd: int) -> "memoryview[int]":
    return memoryview(mmap.mmap(fd, BOARD)).cast("Q")


def row_of(worker: int) -> int:
    return INDEXES + worker * ROW


def compose(index: int, number: int, noise: bytes) -> Any:
    """A value that tells its own index and number, and whether it is whole. Three kinds, by index."""
    if index % 4 == 0:
        return number << 32 | crc32(b"%d:%d" % (index, number))
    if index % 4 == 1:
        text = f"{index}:{number}:{'*' * random.randrange(200)}"
        return f"{text}:{crc32(text.encode())}"
    # As many short ones as long ones, and no two alike.
    start, length = random.randrange(PAYLOAD), int(2 ** random.uniform(0, 16))
    payload = noise[start : start + length]
    return {"index": index, "number": number, "payload": payload, "sum": crc32(payload, index ^ number)}


def number_of(index: int, value: Any) -> int | None:
    """The value's sequence number; None if it is no value that compose() made for this index."""
    try:
        if index % 4 == 0:
            number = value >> 32
            return number if value & 0xFFFF_FFFF == crc32(b"%d:%d" % (index, number)) else None
        if index % 4 == 1:
            text, _, checksum = value.rpartition(":")
            whole = crc32(text.encode()) == int(checksum) and text.startswith(f"{index}:")
            return int(text.split(":")[1]) if whole else None
        whole = value["index"] == index and value["sum"] == crc32(value["payload"], index ^ value["number"])
        return int(value["number"]) if whole else None
    except (TypeError, ValueError, AttributeError, KeyError, IndexError):
        return None


def check(index: int, stored: int, value: Any) -> tuple[int, int]:
    """(lost, torn) for a value read after the board said that number `stored` was in."""
    if value is None:
        return int(stored > 0), 0
    number = number_of(index, value)
    if number is None:
        return 0, 1
    return int(number < stored), 0


def work(key: str, parent: int, worker: int, fd: int) -> None:
    """A worker's life: until it is killed, or its parent is gone."""
    board, row = board_of(fd), row_of(worker)
    segment = shmvar.attach(key, create=False)
    noise = os.urandom(2 * PAYLOAD)
    writes = worker < WRITERS
    indexes = range(worker * OWN, worker * OWN + OWN) if writes else range(INDEXES)
    clock = time.monotonic_ns

    def timed(field: int, call: Any, *args: Any) -> Any:
        board[row + SINCE] = begin = clock()
        result = call(*args)
        board[row + LONGEST] = max(board[row + LONGEST], clock() - begin)
        board[row + SINCE] = 0
        board[row + field] += 1
        return result

    def look(index: int) -> Any:
        stored = board[index]  # before the value: what was stored by now must be there
        value = timed(GETS, segment.get, index)
        lost, torn = check(index, stored, value)
        board[row + LOST] += lost
        board[row + TORN] += torn
        return value

    # The last one here may have died between put() and its note, or within put(): go on behind what is there.
    numbers = {i: max(board[i], number_of(i, look(i)) or 0) for i in indexes} if writes else {}
    board[row + READY] = 1
    while os.getppid() == parent:
        for _ in range(100):
            index = random.choice(indexes)
            if writes:
                numbers[index] += 1
                timed(PUTS, segment.put, index, compose(index, numbers[index], noise))
                board[index] = numbers[index]
            else:
                look(index)


class Account(NamedTuple):
    """What it comes to."""

    seconds: float
    puts: int
    gets: int
    kills: int
    died: int
    lost: int
    torn: int
    longest_ms: float
    check: str

    @property
    def speed(self) -> int:
        return round((self.puts + self.gets) / self.seconds)

    @property
    def good(self) -> bool:
        worked = self.puts > 0 and self.gets > 0
        return worked and not (self.lost or self.torn or self.died) and self.check == "ok"


class Stage:
    """The segment, the board and the workers."""

    def __init__(self) -> None:
        self.key = f"shmvar-demo-{os.getpid()}"
        self.segment = shmvar.attach(self.key, SIZE, create=True)
        self.fd = os.memfd_create("shmvar-demo")
        os.truncate(self.fd, BOARD)
        self.board = board_of(self.fd)
        self.kills = self.died = 0
        self.killed = [0] * WORKERS
        self.begin = time.monotonic()
        self.workers = [self._start(worker) for worker in range(WORKERS)]

    def _start(self, worker: int) -> "subprocess.Popen[bytes]":
        row = row_of(worker)
        self.board[row + READY] = self.board[row + SINCE] = 0
        import subprocess

        numbers = map(str, (os.getpid(), worker, self.fd))
        command = [sys.executable, "-m", "shmvar._demo", self.key, *numbers]
        # In a group of its own: Ctrl-C is for the parent, which ends the others.
        return subprocess.Popen(command, pass_fds=[self.fd], stdin=subprocess.DEVNULL, process_group=0)

    def _kill(self, worker: int) -> None:
        row = row_of(worker)
        if since := self.board[row + SINCE]:  # a call that does not come back is a wait, too
            self.board[row + LONGEST] = max(self.board[row + LONGEST], time.monotonic_ns() - since)
        self.workers[worker].kill()
        if self.workers[worker].wait() != -signal.SIGKILL:
            self.died += 1  # before, and of something else

    def kill_one(self) -> None:
        """SIGKILL to one that is at work; another takes its place."""
        ready = [worker for worker in range(WORKERS) if self.board[row_of(worker) + READY]]
        if ready:
            victim = random.choice(ready)
            self._kill(victim)
            self.kills += 1
            self.killed[victim] += 1
            self.workers[victim] = self._start(victim)

    def ready(self) -> bool:
        """Have all begun?"""
        return all(self.board[row_of(worker) + READY] for worker in range(WORKERS))

    def broken(self) -> bool:
        """Has one died that nobody killed?"""
        return self.died > 0 or any(process.poll() is not None for process in self.workers)

    def total(self, field: int) -> int:
        return sum(self.board[row_of(worker) + field] for worker in range(WORKERS))

    def account(self) -> Account:
        """Kills the rest, looks at each index once more, verifies the segment's structures."""
        seconds = time.monotonic() - self.begin
        self.end()
        lost, torn, verified = self.total(LOST), self.total(TORN), "ok"
        try:
            for index in range(INDEXES):
                gone, mixed = check(index, self.board[index], self.segment.get(index))
                lost, torn = lost + gone, torn + mixed
            self.segment.check()
        except shmvar.Error as error:
            verified = str(error)
        longest = max(self.board[row_of(worker) + LONGEST] for worker in range(WORKERS)) / 1e6
        return Account(
            seconds=round(seconds, 2),
            puts=self.total(PUTS),
            gets=self.total(GETS),
            kills=self.kills,
            died=self.died,
            lost=lost,
            torn=torn,
            longest_ms=round(longest, 1),
            check=verified,
        )

    def end(self) -> None:
        for worker in range(len(self.workers)):
            self._kill(worker)
        self.workers = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.end()
        self.segment.destroy()
        self.segment.detach()


def leave(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


def play(stage: Stage, seconds: float) -> Iterator[float]:
    """Kills now and then until the time is up; yields the time gone, again and again."""
    begin = time.monotonic()
    while not stage.ready() and not stage.broken() and time.monotonic() < begin + 60:
        time.sleep(0.01)
    begin = time.monotonic()
    kill = 0.0
    while (gone := time.monotonic() - begin) < seconds and not stage.broken():
        if gone >= kill:
            stage.kill_one()
            kill = gone + random.uniform(*PAUSE)
        yield gone
        time.sleep(min(0.02, max(0.0, seconds - gone)))


INTRO = f"""\
{WRITERS} processes write and {READERS} read, all on one segment of shared memory. Ten times a second one of
them gets SIGKILL, wherever it is, and another takes its place. Each value has its number and a checksum."""


def run(seconds: float, *, as_json: bool) -> int:
    """The demo; 1 if anything was lost or torn, or died of itself."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)  # through __exit__: nothing stays behind
    with Stage() as stage:
        if as_json:
            for _ in play(stage, seconds):
                pass
        else:
            print(INTRO, flush=True)
            (_show if sys.stdout.isatty() else _tell)(stage, seconds)
        account = stage.account()
    if as_json:
        import json

        print(json.dumps(account._asdict() | {"speed": account.speed, "good": account.good}))
    else:
        print(_text(account))
    return 0 if account.good else 1


def _tell(stage: Stage, seconds: float) -> None:
    """Where stdout is no terminal: a line a second."""
    due = 1
    for gone in play(stage, seconds):
        if gone >= due:
            calls, lost, torn = (stage.total(PUTS) + stage.total(GETS), stage.total(LOST), stage.total(TORN))
            print(
                f"{due:>4} s {calls:>12,} calls {stage.kills:>5} kills {lost:>3} lost {torn:>3} torn",
                flush=True,
            )
            due += 1


def _show(stage: Stage, seconds: float) -> None:
    """The live display."""
    from rich import box
    from rich.live import Live
    from rich.table import Table

    def table(gone: float) -> Table:
        made = Table(box=box.SIMPLE, title=f"{gone:.1f} of {seconds:g} s", pad_edge=False)
        made.add_column("process")
        for title in ("pid", "put", "got", "killed", "lost", "torn"):
            made.add_column(title, justify="right")
        for worker, process in enumerate(stage.workers):
            role, row = "writer" if worker < WRITERS else "reader", row_of(worker)
            put, got, lost, torn = (f"{stage.board[row + field]:,}" for field in (PUTS, GETS, LOST, TORN))
            made.add_row(role, str(process.pid), put, got, str(stage.killed[worker]), lost, torn)
        return made

    with Live(table(0.0), auto_refresh=False, transient=True) as live:
        shown = 0.0
        for gone in play(stage, seconds):
            if gone - shown >= 0.1:
                live.update(table(gone), refresh=True)
                shown = gone


def _text(account: Account) -> str:
    rows = [
        ("put", f"{account.puts:,}", f"values of up to {PAYLOAD >> 10} KiB"),
        ("got", f"{account.gets:,}", "values, each one checked"),
        ("killed", f"{account.kills:,}", "processes, with SIGKILL"),
        ("lost", f"{account.lost:,}", "values: put() had returned, but an older one or none is there"),
        ("torn", f"{account.torn:,}", "values: not as they were put"),
        ("speed", f"{account.speed:,}", f"calls a second on {os.cpu_count()} processors, checks included"),
        (
            "longest",
            f"{account.longest_ms:,}",
            "ms that a call took; processes queue for the processors, too",
        ),
        ("check", account.check, "of every structure in the segment, at the end"),
    ]
    if account.died:
        rows.append(("died", f"{account.died:,}", "processes that nobody had killed"))
    lines = [f"  {title:<8}{number:>12}  {what}" for title, number, what in rows]
    good, bad = "Nothing lost, nothing torn.", "FAILED: this must not happen. Please report it."
    return "\n".join(["", *lines, "", good if account.good else bad])


if __name__ == "__main__":
    work(sys.argv[1], *map(int, sys.argv[2:]))
