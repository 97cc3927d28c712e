"""Operations that depend on other processes: counters, conditional changes, locks, batches, waiting, expiry."""

import time

import shmvar
from soak.counters import COUNTERS, LONG, Ledger
from soak.expected import index_of
from soak.values import MISSING, make, round_of
from soak.variable_operations import CROWD, EXPECTED, anybody
from soak.worker import Worker, patient

GROUPS = [[f"group {group} {member}" for member in range(5)] for group in range(3)]
"""Indexes that are always put in one batch, with the same round."""

PAIR = COUNTERS["locked"], "pair b"
"""Two variables that are equal unless a process has the lock "pair" or died with it."""

EXPIRING = "expiring {} {}"
"""Indexes of a lane that expire."""


def shared() -> set[int | str]:
    """Every index here that belongs to no lane."""
    return {*COUNTERS.values(), *PAIR, *(index for group in GROUPS for index in group)}


def expiring(lanes: int) -> list[str]:
    return [EXPIRING.format(lane, number) for lane in range(lanes) for number in range(4)]


def now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


# --- counters of all processes


def counted(worker: Worker, name: str, call) -> None:
    """Counts with `call(index, amount)`, which returns whether it counted."""
    ledger = Ledger(worker.board, worker.lane)
    if not ledger.open():
        return
    amount = ledger.begin(name, worker.random)
    try:
        made = call(COUNTERS[name], amount)
    except EXPECTED as error:
        worker.failed(error)
        made = False
    ledger.end(made)


def add(worker: Worker) -> None:
    def call(index, amount):
        least = worker.totals.get(index, 0)
        worker.totals[index] = worker.segment.add(index, amount)
        assert worker.totals[index] >= least + amount, f"{index!r}: {least} and {amount} are {worker.totals[index]}"
        return True

    for _ in range(10):
        counted(worker, "add", call)


def add_to_long(worker: Worker) -> None:
    def call(index, amount):
        return worker.segment.add(index, amount) >= LONG + amount

    counted(worker, "add, long ints", call)


def compare(worker: Worker) -> None:
    def call(index, amount):
        for _ in range(4):
            try:
                value, version = worker.segment.get_versioned(index)
            except KeyError:
                value, version = 0, 0
            if worker.segment.compare_and_put(index, version, value + amount):
                return True
        return False

    counted(worker, "compare", call)


def modify(worker: Worker) -> None:
    def call(index, amount):
        worker.segment.modify(index, lambda value: value + amount, default=0)
        return True

    counted(worker, "modify", call)


def locked(worker: Worker) -> None:
    """Changes two variables one after the other under a lock; after a death with it the next owner finishes."""
    lock = worker.segment.lock("pair")
    ledger = Ledger(worker.board, worker.lane)
    try:
        if not ledger.open() or not lock.acquire(timeout=worker.random.random() * 2):
            return worker.count("locks not had in time")
    except EXPECTED as error:
        return worker.failed(error)
    try:
        mend_pair(worker.segment, worker)
        seen = [worker.segment.version(index) for index in PAIR]
        amount = ledger.begin("locked", worker.random)
        made = False
        try:
            total = worker.segment.get(PAIR[0], 0) + amount
            worker.segment[PAIR[0]] = total
            made = True
            if worker.random.random() < 0.3:
                time.sleep(worker.random.random() * 0.02)  # here most processes die and most wait
            assert worker.segment.get(PAIR[1], 0) == total - amount, "changed by a process that has not the lock"
            assert worker.segment.version(PAIR[1]) == seen[1], "put by a process that has not the lock"
            worker.segment[PAIR[1]] = total
            assert worker.segment[PAIR[0]] == total, "changed by a process that has not the lock"
        finally:
            ledger.end(made)
        assert lock.locked()
    except EXPECTED as error:
        worker.failed(error)
    finally:
        # While the segment is held up, the lock stays with this process, and nobody else can have it.
        patient(lock.release)


def mend_pair(segment: shmvar.Segment, worker: Worker | None = None) -> None:
    """The owner of the lock finishes what an owner that died left half done."""
    first, second = (patient(segment.get, index, 0) for index in PAIR)
    if first != second:
        segment[PAIR[1]] = first
        if worker:
            worker.count("pairs mended")


# --- conditional changes of the lane's own numbers


def compare_own(worker: Worker) -> None:
    """A value is stored with the current version, and not with another one."""
    number = worker.own()
    index, store = index_of(number), worker.segment.compare_and_put
    version = patient(worker.segment.version, index)
    assert (version != 0) == worker.board.done(number).there, f"number {number}: version {version}"
    try:
        assert not store(index, version + 1, "never")
    except EXPECTED as error:
        return worker.failed(error)
    done = worker.attempt([(number, True)], lambda rounds: store(index, version, make(number, rounds[0])))
    assert done in (MISSING, True), f"number {number}: version {version} was another's"
    if done is not MISSING:
        assert patient(worker.segment.version, index) > version


def swap_own(worker: Worker) -> None:
    number = worker.own()
    was = worker.board.done(number)
    old = worker.attempt(
        [(number, True)], lambda rounds: (worker.segment.swap(index_of(number), make(number, rounds[0]), MISSING),)
    )
    if old is not MISSING:
        assert (old[0] is not MISSING) == was.there and (not was.there or round_of(number, old[0]) == was.round)


# --- batches


def put_group(worker: Worker) -> None:
    group, round = worker.random.choice(GROUPS), worker.random.getrandbits(30) + 1
    if worker.random.random() < 0.7:
        values = {index: round << 8 | member for member, index in enumerate(group)}
    else:
        values = {index: make(member, round) for member, index in enumerate(group)}
    try:
        worker.segment.put_many(values)
    except EXPECTED as error:
        worker.failed(error)


def get_group(worker: Worker) -> None:
    """Reads a group: all of one batch, or nothing yet."""
    group = worker.random.choice(GROUPS)
    segment = worker.segment
    if worker.random.random() < 0.3:
        if worker.reader is None:
            worker.reader = patient(lambda: shmvar.attach(worker.plan.key, create=False, readonly=True))
        segment = worker.reader
    try:
        found = segment.get_many(group)
    except shmvar.SegmentBusyError as error:
        return worker.failed(error)
    whole_group(group, found)
    worker.count("groups compared")


def whole_group(group: list[str], found: dict) -> None:
    assert len(found) in (0, len(group)), f"half a batch: {list(found)}"
    values = [found[index] for index in group if index in found]
    if values and all(type(value) is int and value < 1 << 40 and value & 0xFF == m for m, value in enumerate(values)):
        rounds = {value >> 8 for value in values}
    else:
        rounds = {round_of(member, value) for member, value in enumerate(values)}
    assert len(rounds) <= 1, f"of two batches: {rounds} in {group}"


# --- waiting


def wait(worker: Worker) -> None:
    """Waits for any index: until its version changes or the time is up."""
    index = worker.random.choice([index_of(anybody(worker)), COUNTERS["add"], *CROWD[:2], GROUPS[0][3]])
    segment = worker.segment
    try:
        version = segment.version(index)
        after = segment.wait(index, worker.random.random() ** 2 * 0.05, newer_than=version)
        assert after != version, f"{index!r}: woken for version {after}"
        worker.count("waits that ended")
    except shmvar.WaitTimeoutError:
        worker.count("waits in vain")
    except EXPECTED as error:
        worker.failed(error)


def wait_for_own(worker: Worker) -> None:
    """A change that came before the wait is not missed."""
    number = worker.own()
    index = index_of(number)
    version = patient(worker.segment.version, index)
    stored = worker.attempt([(number, True)], lambda rounds: worker.segment.put(index, make(number, rounds[0])))
    if stored is MISSING:
        return
    try:
        after = worker.segment.wait(index, 0, newer_than=version)
        assert after > version and after == worker.segment.version(index)
    except shmvar.SegmentBusyError as error:
        worker.failed(error)


# --- expiry


def expire(worker: Worker) -> None:
    """A variable of the lane that is there until its time, and not after."""
    index = EXPIRING.format(worker.lane, worker.random.randrange(4))
    seconds = worker.random.random() ** 3
    before = now()
    try:
        if worker.random.random() < 0.3:
            worker.segment.put_many({index: before}, ttl=seconds)
        else:
            worker.segment.put(index, before if worker.random.random() < 0.7 else ["long", "x" * 9000], ttl=seconds)
    except EXPECTED as error:
        return worker.failed(error)
    worker.expiring[index] = before + seconds, now() + seconds


def expire_anew(worker: Worker) -> None:
    """What is there gets another time, and what is gone does not come back."""
    index = EXPIRING.format(worker.lane, worker.random.randrange(4))
    seconds = worker.random.random() ** 3
    before = now()
    try:
        there = worker.segment.expire(index, seconds)
    except EXPECTED as error:
        return worker.failed(error)
    least, most = worker.expiring.pop(index, (0.0, before))
    assert there or now() >= least, f"{index}: gone before its time"
    assert not there or before <= most, f"{index}: there after its time"
    if there:
        worker.expiring[index] = before + seconds, now() + seconds
        worker.count("times to live replaced")


def expired(worker: Worker) -> None:
    for index, (least, most) in list(worker.expiring.items()):
        before = now()
        try:
            there = worker.segment.has(index)
        except shmvar.SegmentBusyError as error:
            return worker.failed(error)
        assert there or now() >= least, f"{index}: gone before its time"
        assert not there or before <= most, f"{index}: there after its time"
        if not there:
            del worker.expiring[index]
        worker.count("expiries looked at")
