"""`Segment.check` beside processes that write: it holds none of them up, ends, and takes no change for damage."""

import contextlib
import itertools
import os
import random
import signal
import time

import helpers
import pytest

import shmvar


def churn(key, seed):
    """Everything that changes a segment, at full speed, until it is killed."""
    chance = random.Random(seed)
    segment = shmvar.attach(key, create=False)
    lengths = [3, 40, 300, 3000, 30_000, 300_000]
    kept = []
    for turn in itertools.count():
        index = chance.choice([chance.randrange(4000), f"text {chance.randrange(2000)}"])
        what = chance.randrange(1000)
        with contextlib.suppress(shmvar.SegmentFullError):
            if what == 0:
                segment.clear()
            elif what == 1:
                segment.trim()
            elif what < 6:
                segment.put_many({chance.randrange(20_000): "x" * chance.choice(lengths[:4]) for _ in range(3000)})
            elif what < 12:
                for number in range(3000):
                    segment.pop(number, None)
            elif what < 100:
                segment.put(index, "x" * chance.choice(lengths[:4]), ttl=chance.choice([0.001, 60]))
            elif what < 200:
                with segment.lock(index):
                    segment.add("sum", 1)
            elif what < 400:
                segment.pop(index, None)
            elif what < 420 and isinstance(segment.get(index), bytes):
                with contextlib.suppress(KeyError, TypeError, ValueError):
                    kept = [*kept[-3:], segment.view(index)]
            else:
                segment.put(index, chance.choice(["x", b"y"]) * chance.choice(lengths))
        if turn % 5000 == 4999:
            os.kill(os.getpid(), signal.SIGKILL)


def test_f28_a_check_beside_processes_that_write_and_die_is_silent_and_ends(key):
    """Runs one check after the other while three processes make every kind of change and are killed in the middle."""
    with shmvar.attach(key, 64 << 20) as segment:
        chance = random.Random(7)
        children = {helpers.fork(lambda seed=seed: churn(key, seed)) for seed in range(3)}
        checks = undecided = 0
        try:
            end = time.monotonic() + 12
            while time.monotonic() < end:
                undecided += segment.check().undecided
                checks += 1
                for pid in [pid for pid in children if os.waitpid(pid, os.WNOHANG)[0]]:
                    children.remove(pid)
                if len(children) == 3 and chance.random() < 0.2:
                    helpers.kill(pid := children.pop())
                while len(children) < 3:
                    children.add(helpers.fork(lambda seed=checks: churn(key, 100 + seed)))
        finally:
            for pid in children:
                helpers.kill(pid)
        assert checks > 3, "it ends while others write"
        # No process writes now, so everything is compared.
        assert segment.check().undecided == 0


def put_and_watch(key, write):
    """Times single puts; prints at the end how long they took, longest first."""
    segment, waits, stopped = shmvar.attach(key, create=False), [], []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
    while not stopped:
        began = time.perf_counter()
        segment.put("watcher", 1)
        waits.append(time.perf_counter() - began)
    os.write(write, repr(sorted(waits, reverse=True)[:20]).encode())


def waits_beside(key, call):
    """How long the slowest puts of another process took while `call` ran, and how long that took."""
    read, write = os.pipe()
    pid = helpers.fork(lambda: put_and_watch(key, write))
    os.close(write)
    time.sleep(0.2)
    began = time.perf_counter()
    call()
    took = time.perf_counter() - began
    os.kill(pid, signal.SIGTERM)
    with open(read, "rb") as pipe:
        waits = eval(pipe.read())
    os.waitpid(pid, 0)
    return waits, took


@pytest.mark.parametrize("what", ["check", "clear"])
def test_nobody_waits_for_the_whole_of_a_check_or_a_clear_of_a_million(key, what):
    """A put waits for one slice at most. On a busy machine, too: the best of three counts, as a part of the whole."""
    with shmvar.attach(key, 1 << 30) as segment:
        best = 1.0
        for _ in range(3):
            segment.put_many(dict.fromkeys(range(1_000_000), 7))
            waits, took = waits_beside(key, getattr(segment, what))
            best = min(best, waits[0] / took)
            if best < 0.5:
                break
        assert best < 0.5, f"one put waited for {best:.0%} of the {what}"
