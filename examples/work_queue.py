"""A queue of work for processes that know nothing of each other, and may be killed at any moment.

    python examples/work_queue.py                      # starts producers and workers, kills some, counts
    python examples/work_queue.py produce --items 20   # or in as many terminals as you like,
    python examples/work_queue.py work                 # until Ctrl-C
    python examples/work_queue.py status
    python examples/work_queue.py remove

Items are under 1, 2, 3, ... and "tail" is the last one. An item is one variable from its beginning to its end:

    ("waiting", job)  ->  ("taken", job, worker, try)  ->  ("done", result, worker, try)

- A producer puts items and the new tail with one `put_many`: there is no item without a number, no number without an
  item. How far it has come is in the same batch: one that was killed and is started again puts nothing twice.
- Each arrow is one `compare_and_put`: of all who try, one succeeds. The result takes the item's place, so that "the
  result is there" and "nobody works on it any more" are the same instant.
- A worker holds a lock of its own from before its first item to its end. The lock dies with it. An item that was taken
  by a worker whose lock nobody holds is anybody's again.

What this makes of "exactly once": each item has exactly one result, recorded at one instant, whoever is killed when.
The *work* may be begun again, for a worker may die in the middle of it or just before it records its result: what the
work does to the world outside should bear a second time. The number of the try says whether it is one. Results stay
until somebody removes them.
"""

import argparse
import contextlib
import random
import subprocess
import sys
import tempfile
import time

import shmvar

LOOK_AFTER = 0.5  # seconds; nobody is woken by a death, so workers look for items of the dead


def produce(queue: shmvar.Segment, name: str, items: int, batch: int = 5) -> None:
    """Puts jobs 0 to `items` of this producer; goes on where one of this name was killed."""
    mark, done = f"producer {name}", 0
    while done < items:
        with queue.lock("tail"):  # one producer at a time reads, then puts
            # Read in here: once we hold it, what one of our name had begun when it was killed is there, or never comes.
            done, tail = queue.get(mark, 0), queue.get("tail", 0)
            jobs = [f"{name} {number}" for number in range(done, min(done + batch, items))]
            numbered = {tail + place: ("waiting", job) for place, job in enumerate(jobs, 1)}
            done += len(jobs)
            queue.put_many({**numbered, "tail": tail + len(jobs), mark: done})
        print(f"{mark}: {done} of {items}", flush=True)


def work(queue: shmvar.Segment, seconds: float) -> None:
    """Takes items, first come first served, for ever."""
    me = queue.add("workers")  # a number that nobody else ever gets
    with queue.lock(f"worker {me}"):
        front = 1  # everything before is done
        while True:
            seen = queue.version("tail")
            tail, found = queue.get("tail", 0), False
            for number in range(front, tail + 1):
                taken = take(queue, number, me)
                if taken == "done" and number == front:
                    front += 1
                elif isinstance(taken, int):
                    found = True
                    finish(queue, number, taken, me, seconds)
            if not found:
                with contextlib.suppress(shmvar.WaitTimeoutError):
                    queue.wait("tail", LOOK_AFTER, newer_than=seen)


def take(queue: shmvar.Segment, number: int, me: int) -> int | str:
    """Makes an item ours, and gives back the version that says so; else the state it is in."""
    (state, job, *by), version = queue.get_versioned(number)
    if state == "done" or (state == "taken" and queue.lock(f"worker {by[0]}").locked()):
        return state
    ours = ("taken", job, me, by[1] + 1 if by else 1)
    if queue.compare_and_put(number, version, ours):
        item, version = queue.get_versioned(number)
        if item == ours:  # as it must be while we hold our lock
            return version
    return "taken"  # somebody was faster


def finish(queue: shmvar.Segment, number: int, version: int, me: int, seconds: float) -> None:
    """Works on an item of ours."""
    _, job, _, attempt = queue[number]
    time.sleep(random.random() * seconds)  # the work
    result = job.upper()
    if queue.compare_and_put(number, version, ("done", result, me, attempt)):
        print(f"worker {me}: item {number}, {job!r}, try {attempt}", flush=True)


def status(queue: shmvar.Segment) -> dict[str, int]:
    """How many items are in which state: all as of one instant."""
    items = queue.get_many(range(1, queue.get("tail", 0) + 1)).values()
    states = [item[0] for item in items]
    return {state: states.count(state) for state in ("waiting", "taken", "done")}


def demo(items: int, kills: int, seconds: float) -> int:
    """Producers and workers in processes of their own, killed again and again: was each item done once?"""
    key, names = f"example-queue-{time.monotonic_ns()}", "AB"
    killed = {"producer": 0, "worker": 0}
    with tempfile.TemporaryFile("w+") as said, shmvar.attach(key, create=True) as queue:

        def start(role: str) -> subprocess.Popen[bytes]:
            if role == "worker":
                words = ["work", "--seconds", str(seconds)]
            else:
                words = ["produce", "--name", role[-1], "--items", str(items // len(names))]
            return subprocess.Popen([sys.executable, __file__, *words, "--key", key], stdout=said)

        roles = [f"producer {name}" for name in names] + ["worker"] * 3
        running = []
        try:
            running += [start(role) for role in roles]
            jobs = [f"{name} {number}" for name in names for number in range(items // len(names))]
            limit = time.monotonic() + 90
            while sum(killed.values()) < kills or status(queue)["done"] < len(jobs):
                time.sleep(random.random() * 0.2)
                if time.monotonic() > limit:
                    print(f"not done within 90 s: {status(queue)}")
                    return 1
                place = random.randrange(len(roles))
                if sum(killed.values()) < kills and running[place].poll() is None:
                    running[place].kill()
                    running[place].wait()
                    killed[roles[place].split()[0]] += 1
                    running[place] = start(roles[place])
            results = [queue[number] for number in range(1, queue["tail"] + 1)]
        finally:
            for process in running:
                process.kill()
                process.wait()
            queue.destroy()
        said.seek(0)
        recorded = [line.split(":")[1].split(",")[0] for line in said if line.startswith("worker ")]
    again = sum(attempt - 1 for *_, attempt in results)
    print(f"killed: {killed['producer']} times a producer, {killed['worker']} times a worker")
    print(f"items: {len(jobs)}; results: {len(results)}; taken again after a death: {again}")
    right = sorted(result for _, result, *_ in results) == sorted(job.upper() for job in jobs)
    if right and len(recorded) == len(set(recorded)):
        print("Each item was put once, and has one result, recorded once.")
        return 0
    print("Something was lost, or done twice.")
    return 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("command", nargs="?", default="demo", choices=["demo", "produce", "work", "status", "remove"])
    parser.add_argument("--key", default="example-queue")
    parser.add_argument("--name", default="A", help="of a producer; one that is started again goes on with its items")
    parser.add_argument("--items", type=int, default=100)
    parser.add_argument("--kills", type=int, default=12, help="in the demo")
    parser.add_argument("--seconds", type=float, default=0.05, help="that work on an item takes at most")
    words = parser.parse_args()
    if words.command == "demo":
        return demo(words.items, words.kills, words.seconds)
    if words.command == "remove":
        return 0 if shmvar.destroy(words.key) else 1
    with shmvar.attach(words.key) as queue:
        try:
            if words.command == "produce":
                produce(queue, words.name, words.items)
            elif words.command == "work":
                work(queue, words.seconds)
            else:
                print(status(queue))
        except KeyboardInterrupt:
            pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
