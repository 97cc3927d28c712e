"""Operations on queues: what was put is not lost, what is finished is never begun again, and order is kept.

Files beside the board say which items are begun to be put, put, begun to be finished, finished, and got. From one of
the two queues items are only taken, so none of them may be lost; from the other one they are got as well, so none of
them may come out twice.
"""

import os
import pickle
import time

import shmvar
from soak.expected import NUMBERS
from soak.values import make, round_of
from soak.variable_operations import EXPECTED
from soak.worker import Plan, Worker, patient

TAKEN, GOT = "jobs, taken", "jobs, got"
MOST = 60
"""So many items wait at most, more or less: what a process that died had taken waits again."""

NAMES = BEGUN, PUT, FINISHING, FINISHED, HAD = "begun", "put", "finishing", "finished", "got"


class Abandoned(Exception):
    """Ends the work on an item."""


def note(plan: Plan, what: str, item: int) -> None:
    """Writes down what becomes of an item; a kill of the process cannot tear that."""
    file = os.open(f"{plan.directory}/items-{what}", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(file, item.to_bytes(16))
    finally:
        os.close(file)


def noted(plan: Plan, what: str) -> list[int]:
    path = f"{plan.directory}/items-{what}"
    data = b""
    if os.path.exists(path):
        with open(path, "rb") as file:
            data = file.read()
    return [int.from_bytes(data[at : at + 16]) for at in range(0, len(data), 16)]


def whole(value: tuple[int, object]) -> int:
    """The number of an item, whose value must be whole."""
    item, rest = value
    round_of(item % NUMBERS, rest)
    return item


def put(worker: Worker) -> None:
    """Numbers grow in a lane, so they tell the order."""
    if worker.lane < 0:
        return
    name = worker.random.choice((TAKEN, GOT))
    item = time.monotonic_ns() << 16 | worker.lane
    value = item, make(item % NUMBERS, worker.random.getrandbits(20) + 1)
    note(worker.plan, BEGUN, item)
    try:
        worker.segment.queue(name, maxsize=MOST).put(value, timeout=worker.random.random() * 0.05)
    except shmvar.QueueFullError:
        return worker.count("queues full")
    except EXPECTED as error:
        return worker.failed(error)
    if name == TAKEN:
        note(worker.plan, PUT, item)


def take(worker: Worker) -> None:
    """Begins the work, in the middle of which a kill may come; finishes it, or leaves it to others."""
    item = None
    try:
        with worker.segment.queue(worker.random.choice((TAKEN, GOT))).take(worker.random.random() * 0.02) as value:
            item = whole(value)
            if worker.random.random() < 0.3:
                time.sleep(worker.random.random() * 0.02)
            if worker.random.random() < 0.2:
                raise Abandoned
            note(worker.plan, FINISHING, item)
    except shmvar.QueueEmptyError:
        return worker.count("queues empty")
    except Abandoned:
        return worker.count("items given back")
    except EXPECTED as error:
        return worker.failed(error)
    note(worker.plan, FINISHED, item)
    worker.count("items finished")


def get(worker: Worker) -> None:
    try:
        item = whole(worker.segment.queue(GOT).get(timeout=worker.random.random() * 0.02))
    except shmvar.QueueEmptyError:
        return worker.count("queues empty")
    except EXPECTED as error:
        return worker.failed(error)
    note(worker.plan, HAD, item)
    worker.count("items got")


def look(worker: Worker) -> None:
    """As a dump looks: items that go meanwhile are left out, all others are whole."""
    try:
        for name in (TAKEN, GOT):
            queue = worker.segment.queue(name)
            queue.qsize()
            for value in values(queue):
                whole(value)
                worker.count("items looked at")
        for queue in worker.segment.info().queues.values():
            assert queue["waiting"] >= 0 and queue["held"] >= 0 and queue["used"] > 0, queue
    except shmvar.SegmentBusyError as error:
        worker.failed(error)


def values(queue: shmvar.Queue) -> list[tuple[int, object]]:
    """The values of a queue's items in their order. They stay where they are."""
    tickets = queue._tickets()
    if tickets is None:
        return []
    number, taken, head, tail = tickets
    pickles = [queue._pickle(number, ticket) for ticket in (*taken, *range(head, tail))]
    return [pickle.loads(found) for found in pickles if found is not None]


def check(segment: shmvar.Segment, plan: Plan) -> str | None:
    """While no process is in a call: what is wrong, if anything is."""
    left = {name: [whole(value) for value in patient(values, segment.queue(name))] for name in (TAKEN, GOT)}
    begun, put, finishing, finished, had = (noted(plan, what) for what in NAMES)
    over = finished + had
    if len(set(over)) != len(over):
        return f"an item came out twice: {sorted(item for item in set(over) if over.count(item) > 1)}"
    for name, items in left.items():
        if again := set(items) & set(over):
            return f"{name}: items that are finished wait: {again}"
        if strange := set(items) - set(begun):
            return f"{name}: items that nobody has put: {strange}"
        for lane in {item & 0xFFFF for item in items}:
            own = [item for item in items if item & 0xFFFF == lane]
            if own != sorted(set(own)):
                return f"{name}: the items of lane {lane} are out of order: {own}"
    if lost := set(put) - set(finishing) - set(left[TAKEN]):
        return f"items are lost: {lost}"
    return None


def clear(segment: shmvar.Segment) -> None:
    for name in (TAKEN, GOT):
        segment.queue(name).clear()
