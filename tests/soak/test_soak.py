"""A short soak: it must end clean, and it must notice what is wrong."""

import os
import re
import subprocess
import sys
from pathlib import Path

import helpers
import pytest
from helpers import servers

import shmvar
from soak import atomic_operations, both_ends, queue_operations
from soak.checks import Failure, check
from soak.counters import COUNTERS, LONG, UNSURE, Ledger, settle
from soak.expected import Board, index_of
from soak.operations import OPERATIONS
from soak.values import TornError, make, round_of
from soak.worker import Plan, Worker

PROGRAM = str(Path(__file__).parent)


@pytest.mark.slow
def test_c6_a_short_soak_ends_clean():
    done = subprocess.run(
        [sys.executable, PROGRAM, "--minutes", "0.35", "--workers", "3"],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "soak: clean" in done.stdout
    for what in (
        "kill",
        "kill, aimed",
        "stop",
        "starts: new interpreter",
        "pauses with checks",
        "put, 30 times",
        "fork",
    ):
        found = re.search(rf"(?:^|  ){what} +([\d,]+)", done.stdout, re.M)
        assert found and int(found[1].replace(",", "")) > 0, f"{what}: {done.stdout}"


@pytest.mark.slow
def test_a_cache_at_its_limit_for_a_moment_ends_clean():
    program = [sys.executable, f"{PROGRAM}/cache_for_long.py", "--minutes", "0.2"]
    done = subprocess.run(program, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0 and "cache for long: clean" in done.stdout, done.stdout + done.stderr


@pytest.mark.slow
def test_both_ends_for_a_moment_end_clean():
    pytest.importorskip("redis", reason="needs redis-py: shmvar[valkey]")
    if not servers.PROGRAMS:
        pytest.skip("needs valkey-server or redis-server")
    program = [sys.executable, f"{PROGRAM}/both_ends.py", "--minutes", "0.2", "--workers", "2"]
    done = subprocess.run(program, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0 and "both ends: clean" in done.stdout, done.stdout + done.stderr
    for what in ("connections killed", "values compared"):
        assert int(re.search(rf"{what} +([\d,]+)", done.stdout)[1].replace(",", "")) > 0, done.stdout


@pytest.mark.parametrize("what", ["lost", "older", "counted twice", "half a batch", "at the wrong end"])
def test_what_is_wrong_at_either_end_of_two_is_noticed(tmp_path, new_key, what):
    plan = Plan(str(tmp_path), new_key(), 8 << 20, 1, 1)
    # Two segments of this machine do as well: the ledger does not know where they are.
    ends = both_ends.Ends(plan, new_key())
    ends[COUNTERS["add, long ints"]] = LONG
    worker = Worker(plan, 0, ends)
    assert worker.board.take(0, 0)
    for number in worker.board.of_lane(0):
        for _ in range(2):
            worker.attempt([(number, True)], lambda rounds, n=number: ends.put(index_of(n), make(n, rounds[0])))
    for group in atomic_operations.GROUPS:
        ends.put_many({index: 5 << 8 | member for member, index in enumerate(group)})
    both_ends.check(ends, worker.board)
    assert all(len(end) > 5 for end in ends.ends)
    for end in (0, 1):
        number = next(n for n in worker.board.of_lane(0) if both_ends.end_of(index_of(n)) == end)
        group = next(g for g in atomic_operations.GROUPS if both_ends.end_of(g[0]) == end)
        before = [segment.copy() for segment in ends.ends]
        match what:
            case "lost":
                ends.remove(index_of(number))
            case "older":
                ends.put(index_of(number), make(number, 1))
            case "counted twice":
                name = next(name for name, index in COUNTERS.items() if both_ends.end_of(index) == end)
                ends.add(COUNTERS[name], 3)
            case "half a batch":
                ends.remove(group[2])
            case "at the wrong end":
                ends.ends[1 - end][index_of(number)] = 1
        with pytest.raises(AssertionError):
            both_ends.check(ends, worker.board)
        for segment, values in zip(ends.ends, before, strict=True):
            segment.clear()
            segment.put_many(values)
        both_ends.check(ends, worker.board)
    ends.detach()


def test_a_soak_that_is_interrupted_leaves_nothing(children):
    soak = subprocess.Popen(
        [sys.executable, PROGRAM, "--minutes", "5", "--workers", "2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    children.append(soak)
    own = Path(f"/proc/{soak.pid}/task/{soak.pid}/children")
    helpers.until(lambda: len(own.read_text().split()) >= 2, 60, "its processes")
    workers = own.read_text().split()
    soak.send_signal(2)
    _, said = soak.communicate(timeout=60)
    assert soak.returncode == 1 and b"interrupted" in said, said
    assert not [pid for pid in workers if os.path.exists(f"/proc/{pid}")]


@pytest.mark.parametrize("number", range(0, 40, 7))
def test_a_value_of_the_soak_tells_what_it_is_and_a_torn_one_is_noticed(number):
    for round in range(1, 60):
        value = make(number, round)
        assert round_of(number, value) == round
        with pytest.raises(TornError):
            round_of(number + 1, value)
        if isinstance(value, bytes | bytearray):
            other = make(number, round)[: len(value) // 2] + bytes(len(value) - len(value) // 2)
            with pytest.raises(TornError):
                round_of(number, other)


@pytest.fixture
def worker(tmp_path, key):
    plan = Plan(str(tmp_path), key, 8 << 20, 1, 1)
    with shmvar.attach(key, plan.size) as segment:
        segment[COUNTERS["add, long ints"]] = LONG
        worker = Worker(plan, 0, segment)
        assert worker.board.take(0, 0)
        yield worker


def test_a_reader_of_the_soak_notices_a_value_that_is_older_than_what_was_done(worker):
    put = next(operation for operation in OPERATIONS if operation.name == "put").run
    for _ in range(60):
        put(worker)
    number = next(n for n in worker.board.numbers() if worker.board.done(n).round > 1)
    worker.look(number, worker.segment.get)
    # The older value may be a long one, and what was put may have left no room for it.
    worker.segment.resize(32 << 20)
    worker.segment[index_of(number)] = make(number, 1)
    with pytest.raises(AssertionError, match="not of"):
        worker.look(number, worker.segment.get)
    with pytest.raises(Failure):
        check(worker.segment, worker.board, worker.plan)


def test_a_reader_of_the_soak_notices_a_value_that_was_lost(worker):
    worker.attempt([(3, True)], lambda rounds: worker.segment.put(index_of(3), make(3, rounds[0])))
    check(worker.segment, worker.board, worker.plan)
    worker.segment.remove(index_of(3))
    with pytest.raises(AssertionError, match="missing"):
        worker.look(3, worker.segment.get)
    with pytest.raises(AssertionError):
        worker.take_over()
    with pytest.raises(Failure):
        check(worker.segment, worker.board, worker.plan)


def test_who_comes_after_a_kill_finds_old_or_new_and_nothing_else(worker):
    index = index_of(3)
    for stored, announced, outcome in ((1, 2, False), (2, 3, True)):
        while worker.board.last(3) < announced:
            worker.board.announce(3, True)
        worker.segment[index] = make(3, stored + outcome)
        worker.board.words[worker.board.first + 9] = stored << 1 | 1
        assert worker.resolve(3) is outcome
    worker.board.announce(3, True)
    worker.segment[index] = make(3, 1)
    with pytest.raises(AssertionError, match="neither old"):
        worker.resolve(3)


def test_a_removal_that_fails_is_no_change_where_nothing_was_there_and_one_where_something_was(worker):
    index = index_of(3)

    def busy(_):
        worker.segment.remove(index)
        raise shmvar.SegmentBusyError("after the change")

    worker.attempt([(3, False)], busy)
    worker.attempt([(3, True)], lambda rounds: worker.segment.put(index, make(3, rounds[0])))
    with pytest.raises(AssertionError, match="changed by a call that failed"):
        worker.attempt([(3, False)], busy)


def test_a_count_that_was_lost_or_made_twice_is_noticed_one_of_the_dead_may_be_either(worker):
    index, ledger = COUNTERS["add"], Ledger(worker.board, 0)
    operation = next(operation for operation in OPERATIONS if operation.name == "add").run
    for made in (False, True):
        operation(worker)
        amount = ledger.begin("add", worker.random)
        if made:
            worker.segment.add(index, amount)
        ledger.take_over()
        found = worker.segment[index]
        for wrong in (found + 1, found + 2 * amount):
            assert settle(worker.board, "add", wrong) is None
        assert settle(worker.board, "add", found) == (int(made), int(not made))
        assert settle(worker.board, "add", found) == (0, 0)
        check(worker.segment, worker.board, worker.plan)
    for _ in range(UNSURE):
        assert ledger.open()
        ledger.begin("add", worker.random)
        ledger.take_over()
    assert not ledger.open(), "until they are settled"
    operation(worker)
    assert worker.segment[index] == found
    worker.segment.add(index, 1)
    with pytest.raises(Failure, match="counter 'add'"):
        check(worker.segment, worker.board, worker.plan)


def test_half_a_batch_is_noticed(worker):
    group = atomic_operations.GROUPS[0]
    worker.segment.put_many({index: 5 << 8 | member for member, index in enumerate(group)})
    atomic_operations.whole_group(group, worker.segment.get_many(group))
    worker.segment[group[2]] = 6 << 8 | 2
    with pytest.raises(AssertionError, match="two batches"):
        atomic_operations.whole_group(group, worker.segment.get_many(group))
    worker.segment.remove(group[2])
    with pytest.raises(AssertionError, match="half"):
        atomic_operations.whole_group(group, worker.segment.get_many(group))


@pytest.mark.parametrize("what", ["lost", "twice", "again", "order", "torn"])
def test_an_item_that_is_lost_or_comes_twice_or_out_of_order_is_noticed(worker, what):
    jobs = worker.segment.queue(queue_operations.TAKEN)
    while jobs.qsize() < 3 or not queue_operations.noted(worker.plan, queue_operations.FINISHED):
        queue_operations.put(worker)
        queue_operations.take(worker)
    check(worker.segment, worker.board, worker.plan)
    if what == "torn":
        item, value = jobs.get()
        jobs.put((item + 1, value))
        with pytest.raises(TornError):
            queue_operations.look(worker)
    else:
        if what == "lost":
            jobs.get()
        elif what == "order":
            jobs.put(jobs.get())
        else:
            finished = queue_operations.noted(worker.plan, queue_operations.FINISHED)[0]
            if what == "twice":
                queue_operations.note(worker.plan, queue_operations.FINISHED, finished)
            else:
                jobs.put((finished, make(finished % 20, 1)))
        with pytest.raises(Failure, match={"lost": "lost", "order": "order", "again": "wait"}.get(what, "twice")):
            check(worker.segment, worker.board, worker.plan)


def test_only_one_process_has_a_lane_and_a_kill_lets_go_of_it(worker):
    def another():
        board = Board(worker.board.path, worker.board.lanes, worker.board.operations)
        assert not board.take(0, 0.05) and board.take(1, 0)
        os.kill(os.getpid(), 9)

    assert helpers.reap(helpers.fork(another)) == -9
    assert worker.board.take(1, 5)


def test_every_operation_of_the_soak_runs(worker):
    for operation in OPERATIONS:
        for _ in range(3):
            operation.run(worker)
    worker.park(until=2)
    worker.board.take(1, 5)
    check(worker.segment, worker.board, worker.plan)
    for key in worker.plan.sides():
        shmvar.destroy(key)
