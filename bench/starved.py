"""How long a writer waits for one of low priority that was preempted while it held the writer lock.

    python bench/starved.py [--seconds 20] [--hogs 2]

Beside so many busy processes for each processor, a writer of the usual priority puts an int, 200 times a second, and
each put is timed by the clock; the reference puts into a segment of its own. A writer of low priority puts as fast as
it can meanwhile: ints, records of 400 bytes, or values of a megabyte. Printed: the longest wait, how many were above a
millisecond, and the median, in milliseconds, of both, taken in turns in one process.
"""

import argparse
import contextlib
import os
import signal
import statistics
import time

import shmvar

VALUES = {"ints": 5, "records": b"x" * 400, "megabytes": b"x" * (1 << 20)}
PRIORITIES = {
    "usual": lambda: None,
    "nice 19": lambda: os.nice(19),
    "SCHED_BATCH, nice 19": lambda: (os.nice(19), os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))),
    "SCHED_IDLE": lambda: os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0)),
}


def start(act):
    """Runs `act` in a child until it is killed."""
    pid = os.fork()
    if pid:
        return pid
    try:
        signal.alarm(600)
        act()
    finally:
        os._exit(1)


def burn():
    while True:
        pass


def writes(key, value):
    with shmvar.attach(key) as segment:
        while True:
            for index in range(100):
                segment[index] = value


def measure(segments, seconds):
    """Milliseconds of each put, of each segment in turn."""
    took = {name: [] for name in segments}
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for name, segment in segments.items():
            began = time.perf_counter()
            with contextlib.suppress(shmvar.SegmentBusyError):  # after ten seconds: then that is what it took
                segment["watched"] = 1
            took[name].append((time.perf_counter() - began) * 1e3)
        time.sleep(0.005)
    return took


def show(name, took):
    above, median = sum(one > 1 for one in took), statistics.median(took)
    print(f"    {name:10} longest {max(took):9.3f}, {above:4} of {len(took)} above 1, median {median:.4f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--hogs", type=int, default=2, help="busy processes for each processor")
    options = parser.parse_args()
    hogs = [start(burn) for _ in range(options.hogs * os.cpu_count())]
    key = f"bench-starved-{os.getpid()}"
    segments = {"shared": shmvar.attach(key), "reference": shmvar.attach(key + "-reference")}
    try:
        for priority, lower in PRIORITIES.items():
            for kind, value in VALUES.items():

                def low(lower=lower, value=value):
                    lower()
                    writes(key, value)

                writer = start(low)
                time.sleep(0.3)
                took = measure(segments, options.seconds)
                os.kill(writer, signal.SIGKILL)
                os.waitpid(writer, 0)
                print(f"{priority}, {kind}:", flush=True)
                for name, times in took.items():
                    show(name, times)
    finally:
        for hog in hogs:
            os.kill(hog, signal.SIGKILL)
            os.waitpid(hog, 0)
        for segment in segments.values():
            segment.destroy()


if __name__ == "__main__":
    main()
