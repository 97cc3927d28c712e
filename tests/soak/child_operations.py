"""Operations that start processes, which inherit handles and views or get them by pickle."""

import multiprocessing
import signal

from soak.variable_operations import EXPECTED, anybody, get, get_and_hold, put, remove, replace_at_once, view
from soak.worker import BAD, Worker, run_child


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
    """Forks a child that uses the inherited handles and views; the parent goes on meanwhile."""
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
    """Starts a child of multiprocessing, which gets the handle by pickle."""
    context = multiprocessing.get_context("spawn")
    lane, numbers = worker.lane + worker.plan.workers, [anybody(worker) for _ in range(10)]
    child = context.Process(target=run_child, args=(worker.plan, lane, worker.segment, numbers))
    try:
        child.start()
    except EXPECTED as error:
        return worker.failed(error)
    worker.count("children of multiprocessing")
    child.join(240)
    assert child.exitcode in (0, 1, BAD, -signal.SIGKILL), f"spawned child: {child.exitcode}"
