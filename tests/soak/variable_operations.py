"""Operations on variables: functions of a worker.

Changes of the lane's own numbers go through `worker.attempt`, which announces them on the board; reads go through
`worker.look`, which compares them with it.
"""

import os
import signal
import threading
import time

import shmvar
from soak.expected import index_of
from soak.values import MISSING, make, round_of
from soak.worker import Interrupted, Worker, patient

QUEUE = [f"queue {n}" for n in range(6)]
"""Indexes that all processes write and pop."""

CROWD = [f"crowd {n}" for n in range(6)]
"""Indexes that all processes write: each value is whole, and the last one wins."""

OTHERS = 40
"""At least the number of indexes in `atomic_operations.py` that belong to no lane."""

EXPECTED = shmvar.SegmentFullError, shmvar.SegmentBusyError
"""Errors that a soak is expected to meet."""


# --- numbers of the lane


def put(worker: Worker) -> None:
    number = worker.own()
    worker.attempt([(number, True)], lambda rounds: worker.segment.put(index_of(number), make(number, rounds[0])))


def assign_and_read_back(worker: Worker) -> None:
    number = worker.own()

    def assign(rounds):
        worker.segment[index_of(number)] = make(number, rounds[0])
        return rounds[0]

    round = worker.attempt([(number, True)], assign)
    if round is not MISSING:
        assert worker.find(number) == round, f"number {number} was put and is not there"


def remove(worker: Worker) -> None:
    number = worker.own()
    was = worker.board.done(number)
    removed = worker.attempt([(number, False)], lambda _: worker.segment.remove(index_of(number)))
    assert removed in (MISSING, was.there), f"number {number}: removed {removed}, was {was}"


def pop(worker: Worker) -> None:
    number = worker.own()
    was = worker.board.done(number)
    value = worker.attempt([(number, False)], lambda _: (worker.segment.pop(index_of(number), None),))
    if value is not MISSING and was.there:
        assert round_of(number, value[0]) == was.round
    elif value is not MISSING:
        assert value == (None,), f"number {number}: popped {value[0]!r:.100}, was {was}"


def setdefault(worker: Worker) -> None:
    number = worker.own()
    was = worker.board.done(number)
    if was.there:
        worker.look(number, lambda index, _: worker.segment.setdefault(index, "another"))
    else:
        default = worker.segment.setdefault
        worker.attempt([(number, True)], lambda rounds: default(index_of(number), make(number, rounds[0])))


def update(worker: Worker) -> None:
    numbers = worker.random.sample(worker.board.of_lane(worker.lane), 4)
    both = {}

    def call(rounds):
        both.update({index_of(n): make(n, r) for n, r in zip(numbers, rounds, strict=True)})
        worker.segment.update(both if rounds[0] % 2 else both.items())

    worker.attempt([(number, True) for number in numbers], call)


def replace_at_once(worker: Worker) -> None:
    """Many changes of one number in a row: most kills that come here are inside of a call."""
    number = worker.own()
    index, store = index_of(number), worker.segment.put
    for _ in range(30):
        round = worker.board.last(number) + 1
        value = make(number, round)
        if worker.attempt([(number, True)], lambda _, value=value: store(index, value)) is MISSING:
            break


def interrupted_put(worker: Worker) -> None:
    """A signal handler raises at a random moment inside of a put, or just after it."""
    number = worker.own()

    def interrupt(*_):
        raise Interrupted

    def call(rounds):
        value = make(number, rounds[0])
        try:
            signal.setitimer(signal.ITIMER_REAL, worker.random.random() * 0.002 + 1e-6)
            worker.segment.put(index_of(number), value)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            for _ in range(3):  # a handler that is due runs here, while the change is announced
                time.sleep(0)

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        worker.attempt([(number, True)], call)
    finally:
        signal.signal(signal.SIGALRM, before)


def threads(worker: Worker) -> None:
    """One handle in several threads: writers of different numbers, and readers."""
    numbers = worker.random.sample(worker.board.of_lane(worker.lane), 4)
    wrong = []

    def work(number):
        try:
            for _ in range(4):
                worker.attempt([(number, True)], lambda r: worker.segment.put(index_of(number), make(number, r[0])))
                worker.look(number, worker.segment.get)
        except BaseException as error:
            wrong.append(error)

    started = [threading.Thread(target=work, args=(number,)) for number in numbers]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    if wrong:
        raise wrong[0]


# --- numbers of all lanes


def anybody(worker: Worker) -> int:
    return worker.random.choice(worker.board.numbers())


def get(worker: Worker) -> None:
    for _ in range(8):
        worker.look(anybody(worker), worker.segment.get)


def get_and_hold(worker: Worker) -> None:
    """Large values come as private maps of the segment's memory: they must not change when others replace them."""
    number = anybody(worker)
    value = worker.look(number, worker.segment.get)
    if value is not MISSING:
        worker.hold(number, value)


def view(worker: Worker) -> None:
    def read(index, default):
        try:
            return worker.segment.view(index)
        except KeyError:
            return default

    number = anybody(worker)
    value = worker.look(number, read)
    if value is not MISSING:
        worker.hold(number, value)


def look_at_held(worker: Worker) -> None:
    worker.look_at_held()


def get_read_only(worker: Worker) -> None:
    if worker.reader is None:
        worker.reader = patient(lambda: shmvar.attach(worker.plan.key, create=False, readonly=True))
    for _ in range(8):
        worker.look(anybody(worker), worker.reader.get)


def has(worker: Worker) -> None:
    for number in worker.random.sample(worker.board.of_lane(worker.lane), 5):
        try:
            there = worker.segment.has(index_of(number))
        except shmvar.SegmentBusyError as error:
            worker.failed(error)
            continue
        assert there == worker.board.done(number).there, f"number {number}: has says {there}"


def iterate(worker: Worker) -> None:
    """Each item is consistent, and numbers that were there the whole time are found."""
    by_index = {index_of(number): number for number in worker.board.numbers()}
    before = {number: worker.board.done(number) for number in worker.board.numbers()}
    found = set()
    try:
        for index, value in worker.segment.items():
            if index in by_index:
                worker.compare(by_index[index], before[by_index[index]], value)
                found.add(by_index[index])
    except shmvar.SegmentBusyError as error:
        return worker.failed(error)
    for number in worker.board.of_lane(worker.lane):
        assert before[number].there == (number in found), f"number {number} in items: {number in found}"


def keys_and_len(worker: Worker) -> None:
    try:
        names = list(worker.segment)
        length = len(worker.segment)
    except shmvar.SegmentBusyError as error:
        return worker.failed(error)
    for number in worker.board.of_lane(worker.lane):
        there = worker.board.done(number).there
        assert names.count(index_of(number)) == there, f"number {number} in {names}"
    others = len(QUEUE) + len(CROWD) + OTHERS + 4 * worker.board.lanes
    assert 0 <= length <= len(worker.board.numbers()) + others


def stat(worker: Worker) -> None:
    """The version of a number grows with each change of that number, and only then."""
    number = worker.own()
    done = worker.board.done(number)
    try:
        found = worker.segment.stat(index_of(number))
    except KeyError:
        assert not done.there, f"number {number}: no stat, and {done}"
        return
    except shmvar.SegmentBusyError as error:
        return worker.failed(error)
    assert done.there and found.size > 0, f"number {number}: {found}, and {done}"
    round, version = worker.versions.get(number, (0, 0))
    assert (round == done.round) == (version == found.version), f"number {number}: version {version}, now {found}"
    assert found.version >= version
    worker.versions[number] = done.round, found.version


def info(worker: Worker) -> None:
    try:
        seen = worker.segment.info()
    except shmvar.SegmentBusyError as error:
        return worker.failed(error)
    assert seen.key == worker.plan.key and seen.attached >= 1, seen
    assert shmvar.exists(worker.plan.key)


# --- indexes that all processes write


def crowd(worker: Worker) -> None:
    """All processes write the same index: a reader gets one of the values, whole."""
    index = worker.random.choice(CROWD)
    try:
        if worker.random.random() < 0.5:
            worker.segment[index] = make(0, worker.random.getrandbits(30) + 1)
        else:
            value = worker.segment.get(index)
            assert value is None or round_of(0, value)
    except EXPECTED as error:
        worker.failed(error)


def queue(worker: Worker) -> None:
    """Each of these values is unique, and none is given to two callers: the director looks for duplicates."""
    index = worker.random.choice(QUEUE)
    unique = time.monotonic_ns() << 16 | os.getpid() & 0xFFFF
    try:
        mine = [unique, "x" * (unique >> 20 & 0x7FF)]
        choice = worker.random.random()
        if choice < 0.4:
            worker.segment.setdefault(index, mine)
        elif value := worker.segment.pop(index, None) if choice < 0.8 else worker.segment.swap(index, mine):
            with open(f"{worker.plan.directory}/popped", "ab", buffering=0) as file:
                file.write(value[0].to_bytes(16))
    except EXPECTED as error:
        worker.failed(error)
