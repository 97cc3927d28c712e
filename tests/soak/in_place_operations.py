"""Operations on memory that all processes write to: a row of words for each lane, which nobody else stores into."""

import shmvar
from soak.variable_operations import EXPECTED
from soak.worker import Worker

INDEX = "in place"
WORDS = 512
HELD = 4


def write(worker: Worker) -> None:
    """Fills the row of the lane: in what is there now, or in what was removed since this process has opened it."""
    if worker.lane < 0:
        return
    if not worker.in_place or worker.random.random() < 0.5:
        try:
            opened = worker.segment.buffer(INDEX, 8 * WORDS * worker.plan.lanes).cast("Q")
        except EXPECTED as error:
            return worker.failed(error)
        worker.in_place.append((opened, None))
        del worker.in_place[:-HELD]
    words, _ = worker.random.choice(worker.in_place)
    stamp = (worker.lane + 1) << 40 | worker.random.getrandbits(40)
    for word in row(worker.lane):
        words[word] = stamp
    # Others of these may be the same memory.
    first = row(worker.lane)[0]
    worker.in_place = [(held, stamp if held[first] == stamp else was) for held, was in worker.in_place]
    look(worker)


def look(worker: Worker) -> None:
    """Each row has what its lane has stored there, or nothing yet."""
    for words, stamp in worker.in_place:
        for lane in range(worker.plan.lanes):
            if lane != worker.lane:
                found = {words[word] >> 40 for word in row(lane)}
                assert found <= {0, lane + 1}, f"the row of lane {lane} has words of {found}"
        if stamp is not None:
            found = {words[word] for word in row(worker.lane)}
            assert found == {stamp}, f"lane {worker.lane} stored {stamp:#x}, and finds {found}"
        worker.count("rows in place compared")


def remove(worker: Worker) -> None:
    """Whoever holds the memory keeps it."""
    try:
        worker.segment.remove(INDEX)
        look(worker)
    except shmvar.SegmentBusyError as error:
        worker.failed(error)


def touch(worker: Worker) -> None:
    try:
        version = worker.segment.touch(INDEX)
        assert version == 0 or worker.segment.version(INDEX) != version - 1
    except EXPECTED as error:
        worker.failed(error)


def expire(worker: Worker) -> None:
    """The memory stays where it is, for whoever holds it and for whoever opens it."""
    try:
        worker.segment.expire(INDEX, worker.random.choice([3600, 7200, None]))
    except EXPECTED as error:
        return worker.failed(error)
    look(worker)


def row(lane: int) -> range:
    return range(lane * WORDS, (lane + 1) * WORDS)
