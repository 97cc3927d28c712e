"""An operation that follows all changes of the segment, as an own number is told: what was told is what is there."""

import shmvar
from soak.expected import index_of
from soak.values import MISSING, make
from soak.variable_operations import EXPECTED
from soak.worker import Worker, patient


def changes(worker: Worker) -> None:
    """Takes changes until one of its own is told: then every earlier one was, of removals too."""
    number = worker.own()
    index = index_of(number)
    stored = worker.attempt([(number, True)], lambda rounds: worker.segment.put(index, make(number, rounds[0])))
    if stored is MISSING:
        return
    version = patient(worker.segment.version, index)
    told = None
    try:
        if worker.changes is None or worker.changes.segment is not worker.segment:
            worker.told, worker.changes = {}, worker.segment.changes(newer_than={}, timeout=0)
        for told in worker.changes:
            worker.told[told[0]] = told[1]
            if told == (index, version):
                break
    except shmvar.WaitTimeoutError:
        raise AssertionError(f"number {number}: version {version} was not told, {told} was the last one") from None
    except EXPECTED as error:
        return worker.failed(error)
    assert told == (index, version), f"number {number}: the changes ended with {told}"
    for other in map(index_of, worker.board.of_lane(worker.lane)):
        version = patient(worker.segment.version, other)
        assert worker.told.get(other, 0) == version, f"{other!r}: told {worker.told.get(other)}, now {version}"
    worker.count("times followed up to an own change")
