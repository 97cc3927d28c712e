"""Named locks on a server: what a program does with one, and what the server has of it."""

import time

import helpers
from helpers.machine import SLOWER

HOLD = """
s = shmvar.attach(key)
lock = s.lock("l")
with lock:
    print(lock.fence, flush=True)
    sys.stdin.read()
"""


def field(segment, name="l"):
    """The key of the locks and the field of one of them."""
    return segment._requests.data + b"l", b"s" + name.encode()


def steal(server, segment, name="l"):
    """Lets a lock end, as if others had had it meanwhile."""
    server.call("HDEL", *field(segment, name))


def taken_after(segment, seconds=60):
    """How long it takes to get the lock `l`; it is let go again."""
    began = time.monotonic()
    with segment.lock("l", timeout=seconds * SLOWER):
        return time.monotonic() - began


def elsewhere(call):
    """What a call returns in another thread."""
    got = []
    helpers.in_threads(lambda _: got.append(call()), 1)
    return got[0]
