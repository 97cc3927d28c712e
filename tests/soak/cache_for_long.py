"""A cache at its limit for long: a Zipf trace of mixed sizes, beside views that are held and writers that are killed.

    python tests/soak/cache_for_long.py --minutes 60 --seed 1

Each value is found whole or not at all, storing never raises `SegmentFullError`, hits are within 5 points of those of
an exact order of last uses, and memory stays within what the guide states. The last third of the time is spent, as
root, in a small /dev/shm of its own that is full before the limit is reached. The exit status is 1 if something was
wrong.
"""

import argparse
import os
import random
import signal
import sys
import time
from pathlib import Path

# Python put this folder itself on the path; the helpers are found from its parent.
sys.path[0] = str(Path(__file__).parents[1])

import helpers  # noqa: E402
from helpers import caches  # noqa: E402

import shmvar  # noqa: E402

LIMIT = 32 << 20
NUMBERS = 4_000
VIEWS = 40
POINTS = 5.0


def value_of(number: int, sizes: list[int]) -> bytes:
    return number.to_bytes(4, "little") + bytes([number % 251]) * sizes[number]


def writer(key: str, parent: int) -> None:
    """Counts until it is killed: it often holds the lock just then."""
    with shmvar.attach(key, create=False) as segment:
        while os.getppid() == parent:
            segment.add("count", 1)
            segment.put_many({"a": 1, "b": 2})


class Cache:
    """The segment, the exact order beside it, and what has come of both."""

    def __init__(self, key: str, seed: int) -> None:
        self.segment = shmvar.attach(key, LIMIT, evict="lru", create=True)
        self.real = caches.TrueLru(LIMIT)
        self.random = random.Random(seed)
        # 10 bytes to 1 MB, the small ones as often as the large ones.
        self.sizes = [int(10 ** self.random.uniform(1, 6)) for _ in range(NUMBERS)]
        self.charges: dict[int, int] = {}
        self.views: list[tuple[int, memoryview]] = []
        self.children: list[int] = []
        self.steps = self.hits = self.real_hits = self.counted = self.killed = 0

    def run(self, seconds: float) -> None:
        end, shown = time.monotonic() + seconds, time.monotonic() + 60
        while time.monotonic() < end:
            for number in caches.zipf(NUMBERS, self.random.choice([0.7, 0.9, 1.1]), 2_000, self.random.getrandbits(30)):
                self.step(number)
            self.beside()
            if time.monotonic() > shown:
                shown += 60
                print(self.told(), flush=True)
        self.end()

    def step(self, number: int) -> None:
        self.steps += 1
        # Until both are full of this trace nothing is compared.
        counts = self.steps > 5 * NUMBERS
        found = self.segment.get(number)
        if found is not None:
            self.look(number, found)
            if self.random.random() < 0.05:
                self.hold(number)
        else:
            self.segment[number] = value_of(number, self.sizes)
            if number not in self.charges:
                self.charges[number] = self.segment.stat(number).size
        hit = self.real.get(number)
        if not hit:
            self.real.put(number, self.charges.get(number, self.sizes[number] + caches.OVERHEAD))
        if counts:
            self.counted += 1
            self.hits += found is not None
            self.real_hits += hit

    def look(self, number: int, value: object) -> None:
        assert bytes(value) == value_of(number, self.sizes), f"number {number}: not the value that was stored"

    def hold(self, number: int) -> None:
        try:
            self.views.append((number, self.segment.view(number)))
        except KeyError:
            return
        if len(self.views) > VIEWS:
            self.look(*self.views.pop(self.random.randrange(VIEWS)))

    def beside(self) -> None:
        """Kills one of two writers, and checks now and then."""
        self.reap()
        if len(self.children) < 2:
            parent = os.getpid()
            pid = os.fork()
            if not pid:
                self.views.clear()
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                try:
                    writer(self.segment.key, parent)
                finally:
                    os._exit(1)
            self.children.append(pid)
        else:
            os.kill(self.children[0], signal.SIGKILL)
            self.killed += 1
        if self.random.random() < 0.05:
            self.segment.check()
        if self.random.random() < 0.01:
            self.segment.trim()

    def reap(self) -> None:
        for pid in list(self.children):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                self.children.remove(pid)
                assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, f"a writer ended by itself: {status}"

    def told(self) -> str:
        rates = [100 * each / max(self.counted, 1) for each in (self.hits, self.real_hits)]
        info = self.segment.info()
        return (
            f"{self.steps:,} gets, {info.evicted:,} evicted, {self.killed} killed; hits {rates[0]:.2f} %, exact order "
            f"{rates[1]:.2f} %; {info.used >> 20} MiB used, {info.resident >> 20} resident, {info.held >> 20} in views"
        )

    def end(self) -> None:
        self.segment.check()
        print(self.told(), flush=True)
        assert self.segment.info().evicted > 0
        info = self.segment.info()
        assert info.used <= LIMIT and info.resident <= 2.25 * info.used + (65 << 20) + info.held, info
        for number, view in self.views:
            self.look(number, view)

    def close(self) -> None:
        for pid in self.children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        self.views.clear()
        self.segment.destroy()
        self.segment.detach()


def play(key: str, seed: int, seconds: float, compared: bool) -> None:
    cache = Cache(key, seed)
    try:
        cache.run(seconds)
        if compared and cache.counted > 10_000:
            difference = 100 * (cache.hits - cache.real_hits) / cache.counted
            assert abs(difference) <= POINTS, f"{difference:+.2f} points from an exact order"
    finally:
        cache.close()


def main() -> int:
    parser = argparse.ArgumentParser("python tests/soak/cache_for_long.py", description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=5, metavar="M")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3)), metavar="S")
    chosen = parser.parse_args()
    key, seconds = f"cache-for-long-{os.getpid()}", chosen.minutes * 60
    try:
        play(key, chosen.seed, seconds * 2 / 3, True)
        # Views and what is free between values take more than the limit: memory ends before that does.
        if helpers.private_shm(f"size={LIMIT}"):
            print("with a full /dev/shm:", flush=True)
            play(key, chosen.seed + 1, seconds / 3, False)
    except (AssertionError, shmvar.Error) as error:
        print(f"cache for long: FAILED (seed {chosen.seed}): {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    print(f"cache for long: clean (seed {chosen.seed}, {chosen.minutes:g} min)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
