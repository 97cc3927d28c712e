"""Child processes that are forked: each runs a function and ends by itself."""

import ctypes
import os
import signal
import time
import traceback

from helpers.machine import SLOWER


def fork(function, *args):
    """Runs a function in a forked child, which ends by itself; returns its pid."""
    pid = os.fork()
    if pid:
        return pid
    status = 70
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(60 * SLOWER)
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        function(*args)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def reap(pid, timeout=30.0):
    """Waits for a forked child and returns its exit status, negative for a signal."""
    until = time.monotonic() + timeout * SLOWER
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise AssertionError(f"child {pid} did not end within {timeout * SLOWER} s")
        time.sleep(0.001)


def in_child(function, *args, timeout=30.0):
    """Runs a function in a forked child, which must succeed."""
    assert reap(fork(function, *args), timeout) == 0


def kill(pid):
    """Sends SIGKILL; returns when the kernel has released all that the process held."""
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
