"""Near caches of segments on a server, looked into from beside, and what may not be left of them."""

import contextlib
import gc
import itertools
import os
import time

import shmvar
from helpers.machine import SLOWER
from shmvar._remote.near_memory import ALIVE, EPOCH

LONG = 10 * SLOWER
NEAR = "4MiB"
NUMBERS = itertools.count(1)


def caches():
    return {info.key for info in shmvar.segments() if isinstance(info.key, str) and info.key.startswith("shmvar near ")}


@contextlib.contextmanager
def nothing_stays():
    """After the block this machine has no near cache that it had not before."""
    before = caches()
    yield
    gc.collect()
    until = time.monotonic() + LONG
    # A thread may be opening another one just now, which it closes at once.
    while caches() - before and time.monotonic() < until:
        time.sleep(0.01)
    assert caches() <= before


def until(condition, seconds=LONG):
    """Waits until something holds, and returns it."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.002)
    return found


def memory(segment):
    return segment._near.memory


def awake(segment):
    """Waits until entries may be used."""
    until(
        lambda: memory(segment).words[EPOCH] and memory(segment).words[ALIVE] > time.clock_gettime(time.CLOCK_BOOTTIME)
    )
    return segment


def is_hit(segment, index):
    return segment._near.hit(segment, index) is not None


def cached(segment, index):
    """Reads until it is a hit, and returns the value."""
    until(lambda: (segment.get(index), is_hit(segment, index))[1])
    return segment[index]


def open_pair(server):
    """A handle with a near cache, and one without, on a new segment."""
    key = f"near-{os.getpid()}-{next(NUMBERS)}"
    return awake(shmvar.attach(server.url(key, near=NEAR))), shmvar.attach(server.url(key))


@contextlib.contextmanager
def opened(server):
    """Two such handles; after the block the segment is destroyed."""
    near, plain = open_pair(server)
    yield near, plain
    near.detach()
    with contextlib.suppress(shmvar.SegmentNotFoundError):
        plain.destroy()


def in_children(count, function, *arguments):
    """Runs a function in forked processes, which end with it."""
    pids = []
    for number in range(count):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                function(number, *arguments)
                code = 0
            except BaseException:
                import traceback

                traceback.print_exc()
            finally:
                os._exit(code)
        pids.append(pid)
    return pids


def joined(pids):
    return [os.waitpid(pid, 0)[1] for pid in pids]


def listens(_number, url, index, ready):
    segment = awake(shmvar.attach(url))
    segment[index]
    ready.set()
    time.sleep(1000)
