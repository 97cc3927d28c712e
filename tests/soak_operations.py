"""What processes of the soak do: one table of operations, each a function of a worker.

A new operation is a function and a line in `OPERATIONS`. Changes of own numbers go through `worker.attempt`, which
announces them; what is read goes through `worker.look`, which holds it against the board.
"""

import itertools
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import soak_worker
from soak_board import index_of
from soak_values import MISSING, make, round_of
from soak_worker import Interrupted, Worker, patient

import shmvar

QUEUE = [f"queue {n}" for n in range(6)]
"""Indexes that everybody writes and pops."""

CROWD = [f"crowd {n}" for n in range(6)]
"""Indexes that everybody writes: whole values, the last one wins."""

SIDE_SIZE = 4 << 20

EXPECTED = shmvar.SegmentFullError, shmvar.SegmentBusyError
"""What a soak must meet."""


# --- own numbers


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
    """Many changes of one number, with as little as possible between them: here most kills come inside of a call."""
    number = worker.own()
    index, store = index_of(number), worker.segment.put
    for _ in range(30):
        round = worker.board.last(number) + 1
        value = make(number, round)
        if worker.attempt([(number, True)], lambda _, value=value: store(index, value)) is MISSING:
            break


def interrupted_put(worker: Worker) -> None:
    """A signal handler raises somewhere inside of a put, or just behind it."""
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
            for _ in range(3):  # a handler that is due runs here, inside of the announcement
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


# --- everybody's numbers


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
    """Each item is consistent, and what was there throughout is found."""
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
    assert 0 <= length <= len(worker.board.numbers()) + len(QUEUE) + len(CROWD)


def stat(worker: Worker) -> None:
    """The version of a number grows with each of its changes, and with nothing else."""
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


# --- indexes of everybody's


def crowd(worker: Worker) -> None:
    """The same index, written by all: whoever reads it gets one of the values, whole."""
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
    """Each of these values is unique, and `pop` hands none of them to two callers: the director looks for doubles."""
    index = worker.random.choice(QUEUE)
    unique = time.monotonic_ns() << 16 | os.getpid() & 0xFFFF
    try:
        if worker.random.random() < 0.5:
            worker.segment.setdefault(index, [unique, "x" * (unique >> 20 & 0x7FF)])
        elif value := worker.segment.pop(index, None):
            with open(f"{worker.plan.directory}/popped", "ab", buffering=0) as file:
                file.write(value[0].to_bytes(16))
    except EXPECTED as error:
        worker.failed(error)


# --- the segment itself


def resize(worker: Worker) -> None:
    try:
        worker.segment.resize(int(worker.plan.size * worker.random.uniform(0.3, 1.3)))
    except EXPECTED as error:
        worker.failed(error)


def trim(worker: Worker) -> None:
    try:
        worker.segment.trim()
    except shmvar.SegmentBusyError as error:
        worker.failed(error)


def attach(worker: Worker) -> None:
    """One more handle, or the only one anew: a new participant."""
    number = anybody(worker)
    try:
        if worker.random.random() < 0.5:
            worker.segment.detach()
            assert worker.segment.detached
            worker.segment = patient(shmvar.attach, worker.plan.key)
            assert not worker.segment.created, "there all the time, and created anew"
        else:
            another = shmvar.attach(worker.plan.key, create=False)
            worker.look(number, another.get)
            if worker.random.random() < 0.5:
                another.detach()
    except EXPECTED as error:
        worker.failed(error)


def handle_by_pickle(worker: Worker) -> None:
    try:
        another = pickle.loads(pickle.dumps(worker.segment))
    except EXPECTED as error:
        return worker.failed(error)
    worker.look(anybody(worker), another.get)


def side(worker: Worker) -> None:
    """A segment that all create, use and destroy; sometimes with a second object for its locks."""
    key = worker.plan.side("side")
    perm = 0o644 if worker.random.random() < 0.3 else 0o600
    try:
        with shmvar.attach(key, SIDE_SIZE, perm=perm) as segment:
            round = worker.random.getrandbits(20) + 1
            segment[round % 50] = make(round % 50, round)
            for index, value in itertools.islice(segment.items(), 10):
                round_of(index, value)
            if worker.random.random() < 0.3:
                segment.destroy()
                segment[1] = make(1, round)
                assert segment[1] is not None
            elif worker.random.random() < 0.1:
                shmvar.destroy(key)
    except EXPECTED as error:
        worker.failed(error)
    except KeyError:
        pass  # somebody else, still attached to the destroyed one, or popping


def clear(worker: Worker) -> None:
    """A segment of the lane's own, exact to the byte."""
    key = worker.plan.side(f"lane-{worker.lane}")
    kept = {}
    try:
        with shmvar.attach(key, SIDE_SIZE) as segment:
            segment.clear()
            assert (len(segment), segment.info().used) == (0, 0), segment
            for round in range(1, worker.random.randrange(2, 40)):
                kept[round % 7] = make(round % 7, round)
                segment[round % 7] = kept[round % 7]
            while len(kept) > 3:
                index, value = segment.popitem()
                assert round_of(index, value) == round_of(index, kept.pop(index))
            assert {n: round_of(n, v) for n, v in segment.items()} == {n: round_of(n, v) for n, v in kept.items()}
            assert segment.info().used == sum(segment.stat(index).size for index in kept)
            if worker.random.random() < 0.2:
                segment.destroy()
    except EXPECTED as error:
        worker.failed(error)


# --- other processes


def in_the_child(worker: Worker) -> None:
    worker.look_at_held()
    get(worker)
    if worker.lane >= 0:
        worker.take_over()
        for _ in range(6):
            worker.random.choice((put, remove, view, get_and_hold, replace_at_once))(worker)
    worker.look_at_held()
    if worker.random.random() < 0.3:
        worker.segment.detach()


def fork(worker: Worker) -> None:
    """A child with the inherited handles and views; its parent goes on meanwhile."""
    worker.reap()
    if len(worker.children) < 3:
        worker.fork(in_the_child)


def fork_twice(worker: Worker) -> None:
    def work(child: Worker) -> None:
        in_the_child(child)
        if not child.segment.detached:
            child.lane = -1
            child.fork(get)
            child.reap(wait=True)

    worker.reap()
    if len(worker.children) < 3:
        worker.fork(work)


def spawn(worker: Worker) -> None:
    """A child of multiprocessing: the handle goes there by pickle."""
    context = multiprocessing.get_context("spawn")
    lane, numbers = worker.lane + worker.plan.workers, [anybody(worker) for _ in range(10)]
    child = context.Process(target=soak_worker.run_child, args=(worker.plan, lane, worker.segment, numbers))
    try:
        child.start()
    except EXPECTED as error:
        return worker.failed(error)
    worker.count("children of multiprocessing")
    child.join(240)
    assert child.exitcode in (0, 1, soak_worker.BAD, -signal.SIGKILL), f"spawned child: {child.exitcode}"


class Operation(NamedTuple):
    """A line of the table. `share`: how often, as against the others."""

    name: str
    share: int
    run: Callable[[Worker], None]


OPERATIONS = [
    Operation("put", 300, put),
    Operation("put, read back", 100, assign_and_read_back),
    Operation("put, 30 times", 100, replace_at_once),
    Operation("put, interrupted", 40, interrupted_put),
    Operation("remove", 80, remove),
    Operation("pop", 60, pop),
    Operation("setdefault", 60, setdefault),
    Operation("update", 60, update),
    Operation("threads", 10, threads),
    Operation("get", 200, get),
    Operation("get, held", 100, get_and_hold),
    Operation("get, read-only", 100, get_read_only),
    Operation("view", 150, view),
    Operation("views held", 60, look_at_held),
    Operation("has", 60, has),
    Operation("iterate", 10, iterate),
    Operation("keys, len", 40, keys_and_len),
    Operation("stat", 60, stat),
    Operation("info", 10, info),
    Operation("crowd", 150, crowd),
    Operation("queue", 150, queue),
    Operation("resize", 8, resize),
    Operation("trim", 8, trim),
    Operation("attach", 20, attach),
    Operation("handle by pickle", 10, handle_by_pickle),
    Operation("side segment", 30, side),
    Operation("clear", 20, clear),
    Operation("fork", 25, fork),
    Operation("fork twice", 5, fork_twice),
    Operation("spawn", 1, spawn),
]
