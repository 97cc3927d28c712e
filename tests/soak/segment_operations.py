"""Operations on segments: limits, handles, a segment that comes and goes, and one that belongs to the lane."""

import itertools
import pickle

import shmvar
from soak.values import make, round_of
from soak.variable_operations import EXPECTED, anybody
from soak.worker import Worker, patient

SIDE_SIZE = 4 << 20


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
    """Attaches one more handle, or detaches and attaches again, as a new participant."""
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
    """A segment that all processes create, use and destroy; sometimes with a second object for its locks."""
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
        pass  # another process destroyed the segment meanwhile, or popped the value


def clear(worker: Worker) -> None:
    """A segment of the lane alone: its accounts must be exact to the byte."""
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
