"""What the director checks: while the processes run, at a pause, and at the end."""

import os
import time

import helpers

import shmvar
from soak import atomic_operations, queue_operations
from soak.counters import COUNTERS, LONG, settle
from soak.eviction_operations import check_caches
from soak.expected import Board, index_of
from soak.in_place_operations import INDEX
from soak.processes import Processes
from soak.values import round_of
from soak.variable_operations import CROWD, QUEUE
from soak.worker import Plan

LONGEST = 90.0
"""Seconds in one operation, more than a few waits of 10 s: a process that takes longer hangs."""

RESIDENT = 2 << 20
"""Bytes that an empty segment may keep: its administration, also for participants that are gone."""


class Failure(Exception):
    """Something that must not happen."""


def self_check(segment: shmvar.Segment) -> int:
    """Checks every invariant of the format; returns the number of variables."""
    return segment.check().variables


def watch(processes: Processes, board: Board, plan: Plan) -> None:
    """No running process may be in one operation for too long."""
    now = time.monotonic_ns()
    for lane, pid in processes.of_lane.items():
        since = max(board.lane(lane, Board.SINCE), processes.went_on.get(pid, 0))
        if pid not in processes.stopped and now - since > LONGEST * 1e9 and not board.lane(lane, Board.PARKED):
            raise Failure(f"process {pid} hangs:\n{processes.stacks()}")


def check(segment: shmvar.Segment, board: Board, plan: Plan) -> None:
    """While no process writes: checks the format, the accounts and every value."""
    for index in atomic_operations.expiring(plan.lanes):
        # An expired variable may still be in the table, and another one could expire while this function counts.
        segment[index] = None
        segment.remove(index)
    count_is_exact(segment, board)
    count = self_check(segment)
    found = dict(segment.items())
    info = segment.info()
    expected = {index_of(number): number for number in board.numbers() if board.done(number).there}
    numbered = {index_of(number) for number in board.numbers()}
    if count != len(found) or count != info.count:
        raise Failure(f"{count} variables in the self-check, {len(found)} items, {info.count} in info")
    if expected.keys() != found.keys() & numbered:
        raise Failure(f"there, and not expected, or the reverse: {expected.keys() ^ (found.keys() & numbered)}")
    if others := found.keys() - numbered - set(QUEUE) - set(CROWD) - atomic_operations.shared() - {INDEX}:
        raise Failure(f"indexes that no process has put: {others}")
    for index, number in expected.items():
        if round_of(number, found[index]) != board.done(number).round:
            raise Failure(f"number {number}: {board.done(number)} was done, found {found[index]!r:.200}")
    queued = sum(queue["used"] for queue in info.queues.values())
    if info.used != (charged := queued + sum(segment.stat(index).size for index in found)):
        raise Failure(f"{info.used} bytes are used, {charged} are charged")
    no_value_twice(plan)
    if wrong := queue_operations.check(segment, plan):
        raise Failure(wrong)
    check_caches(plan)


def count_is_exact(segment: shmvar.Segment, board: Board) -> None:
    """Checks the counters of all processes, and that each group is of one batch."""
    with segment.lock("pair", timeout=1):  # all processes stand still: the last owner is dead or has released it
        atomic_operations.mend_pair(segment)
    for name, index in COUNTERS.items():
        if settle(board, name, found := segment.get(index, LONG if name == "add, long ints" else 0)) is None:
            raise Failure(f"counter {name!r} is {found}, and no choice of what is unsure makes that")
    for group in atomic_operations.GROUPS:
        atomic_operations.whole_group(group, segment.get_many(group))
    if locks := segment.info().locks:
        raise Failure(f"all processes stand still, and locks are held: {locks}")


def no_value_twice(plan: Plan) -> None:
    """`pop` and `swap` have given no value of the queues to two callers."""
    path = f"{plan.directory}/popped"
    if os.path.exists(path):
        with open(path, "rb") as file:
            data = file.read()
        popped = [data[at : at + 16] for at in range(0, len(data), 16)]
        if len(popped) != len(set(popped)):
            raise Failure("a value was popped twice")


def final_check(segment: shmvar.Segment, plan: Plan, private: bool) -> None:
    """At the end only the director is attached; after `clear` nothing is used and the memory is given back."""
    if (attached := segment.info().attached) != 1:
        raise Failure(f"{attached} processes are attached, one lives")
    segment.clear()
    queue_operations.clear(segment)
    segment.trim()
    info = segment.info()
    if (info.used, info.count, len(segment), self_check(segment)) != (0, 0, 0, 0):
        raise Failure(f"after clear: {info}")
    if info.resident > RESIDENT:
        raise Failure(f"after clear and trim {info.resident} bytes are resident")
    segment.destroy()
    segment.detach()
    for key in plan.sides():
        shmvar.destroy(key)
    left = [info for info in shmvar.segments() if str(info.key).startswith(plan.key)]
    # A process that died while it created a segment may leave the second object, empty, that no segment names.
    files = {name: os.stat(f"{helpers.SHM}/{name}").st_blocks for name in os.listdir(helpers.SHM)} if private else {}
    if left or any(files.values()):
        raise Failure(f"left behind: {left or files}")
