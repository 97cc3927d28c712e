"""All that a process has started, and what that has started: it is ended by its ids, and its end is waited for."""

import contextlib
import os
import signal
import time
from pathlib import Path

PATIENCE = 60  # seconds until what was told to end has ended


def started(pid):
    """When this process was started, in ticks; None: there is none, or nothing is left of it but its status."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else fields[19]


def below(pid):
    """The processes below this one, each as its id and when it was started: an id is given again, the pair is not."""
    parents = [pid]
    for parent in parents:
        for path in Path(f"/proc/{parent}/task").glob("*/children"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                parents += map(int, path.read_text().split())
    return {(pid, at) for pid in parents[1:] if (at := started(pid)) is not None}


def running(processes):
    return {(pid, at) for pid, at in processes if started(pid) == at}


def end(processes, seconds=PATIENCE):
    """Waits for the end of processes that were told to; kills those that are still there. Returns the killed ones."""
    until = time.monotonic() + seconds
    while (left := running(processes)) and time.monotonic() < until:
        time.sleep(0.02)
    for pid, _ in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    while running(left):
        time.sleep(0.02)
    return left
