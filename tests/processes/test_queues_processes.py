"""Queues among processes: exact counts, order, waiting, killed takers, forks, start methods."""

import multiprocessing
import os
import signal
import threading
import time
from collections import Counter

import helpers
import pytest
from helpers import child_functions

import shmvar

PROCESSES = 8


def lines(printed):
    return [int(line) for text in printed for line in text.split()]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["get", "take"])
def test_each_item_of_eight_processes_goes_to_one_of_eight(seg, key, how):
    each = 2_000
    code = """
    s = shmvar.attach(key); q, how, n = s.queue("jobs", maxsize=50), sys.argv[2], int(sys.argv[3])
    for number in range(2_000):
        q.put(n * 2_000 + number)
        if how == "get":
            print(q.get())
        else:
            with q.take() as item:
                print(item)
    """
    printed = helpers.run_in_processes(code, key, how, count=PROCESSES)
    assert Counter(lines(printed)) == Counter(range(PROCESSES * each))
    assert seg.info().queues == {} and seg.check().used == 0


def test_one_consumer_sees_each_producers_items_in_order(seg, key):
    code = """
    q, n = shmvar.attach(key).queue("jobs", maxsize=20), int(sys.argv[2])
    for number in range(1_000):
        q.put((n, number))
    """
    jobs, seen = seg.queue("jobs"), [-1] * 4

    def consume():
        for _ in range(4_000):
            producer, number = jobs.get(timeout=100)
            assert number == seen[producer] + 1
            seen[producer] = number

    consumer = threading.Thread(target=consume)
    consumer.start()
    helpers.run_in_processes(code, key, count=4)
    consumer.join(100)
    assert seen == [999] * 4 and jobs.empty()


HOLD = """
q = shmvar.attach(key).queue("jobs")
items = [q.take() for _ in range(int(sys.argv[2]))]
print(os.getpid(), *[item.__enter__() for item in items], flush=True)
sys.stdin.read()
"""


@pytest.fixture
def taker(seg, key, children):
    def start(count):
        child = helpers.start(HOLD, key, count)
        children.append(child)
        return child

    return start


def test_what_a_killed_process_held_comes_first(seg, taker):
    jobs = seg.queue("jobs")
    for number in range(6):
        jobs.put(number)
    first, second = taker(2), taker(2)
    assert jobs.qsize() == 2
    helpers.kill(second.pid)
    helpers.until(lambda: jobs.qsize() == 4)
    item = jobs.take()
    with item as value:
        assert (value, item.attempts) == (2, 2)
    helpers.kill(first.pid)
    helpers.until(lambda: jobs.qsize() == 5)
    helpers.until(lambda: seg.info().queues["jobs"]["held"] == 0)
    # The other things of the queue go on before the death is looked for, for a tenth of a second at most.
    time.sleep(0.11)
    got = [jobs.get(timeout=60) for _ in range(5)]
    assert got == [0, 1, 3, 4, 5] and seg.check().used == 0


def test_a_waiter_gets_what_a_process_held_that_is_killed_meanwhile(seg, taker):
    jobs = seg.queue("jobs")
    jobs.put("work")
    child = taker(1)
    got = []
    waiter = threading.Thread(target=lambda: got.append(jobs.get(timeout=60)))
    waiter.start()
    with pytest.raises(shmvar.QueueEmptyError):
        jobs.get_nowait()
    helpers.kill(child.pid)
    waiter.join(60)
    assert got == ["work"]


def test_a_busy_queue_does_not_pass_over_what_a_dead_process_held(seg, key, taker, children):
    jobs = seg.queue("jobs")
    for number in range(3):
        jobs.put(number)
    child = taker(1)
    assert jobs.get() == 1  # looks at the holder, who lives
    helpers.kill(child.pid)
    seen = []

    def came():
        jobs.put("busy")
        seen.append(jobs.get_nowait())
        return 0 in seen

    helpers.until(came)


def test_clear_removes_what_a_dead_process_held_and_leaves_what_a_living_one_holds(seg, taker):
    jobs = seg.queue("jobs")
    for number in range(5):
        jobs.put(bytes(number * 2_000))
    dead, alive = taker(2), taker(1)
    helpers.kill(dead.pid)
    jobs.clear()  # nobody has looked at the holders before
    assert jobs.qsize() == 0 and seg.info().queues["jobs"]["held"] == 1
    helpers.kill(alive.pid)
    assert jobs.qsize() == 1  # nothing else is in the queue
    jobs.clear()
    assert jobs.empty() and seg.info().queues == {} and seg.check().used == 0


COST = """
import threading
q = shmvar.attach(key).queue("jobs", maxsize=1)
ways = [lambda: q.get(timeout=3), lambda: q.take(3).__enter__(), lambda: q.put(1, timeout=3)]
def wait(n):
    try:
        ways[int(sys.argv[2])]()
    except shmvar.WaitTimeoutError:
        pass
threads = [threading.Thread(target=wait, args=(n,)) for n in range(20)]
for thread in threads: thread.start()
time.sleep(0.5)
before = time.process_time()
time.sleep(2)
print(time.process_time() - before)
for thread in threads: thread.join()
"""


@pytest.mark.parametrize("way, waits_for", [(0, "an item"), (1, "an item"), (2, "room")])
@pytest.mark.parametrize("held", [False, True])
def test_waiters_sleep_also_while_somebody_holds_an_item(seg, key, taker, way, waits_for, held):
    """Twenty of them take 1 % of a core on a quiet machine; if they did not sleep it would be all of it."""
    jobs = seg.queue("jobs")
    if held:
        jobs.put("held")
        taker(1)
    if waits_for == "room":
        jobs.put("in the way")
    assert float(helpers.run(COST, key, way).stdout) < 0.5


@pytest.mark.parametrize("end", ["", "sys.exit(3)", "os._exit(0)", "os.kill(os.getpid(), 15)", "1 / 0"])
def test_however_a_taker_ends_its_item_is_not_lost(seg, key, end):
    jobs = seg.queue("jobs")
    jobs.put(1)
    done = helpers.run(f"q = shmvar.attach(key).queue('jobs')\nwith q.take():\n    pass;{end}", key, check=False)
    if end == "":
        assert done.returncode == 0 and jobs.qsize() == 0
    else:
        assert jobs.get(timeout=60) == 1
    assert seg.check().used == 0


def test_ctrl_c_in_the_work_gives_the_item_back(seg, key, children):
    jobs = seg.queue("jobs")
    jobs.put(1)
    code = """
    with shmvar.attach(key).queue("jobs").take() as item:
        print(os.getpid(), flush=True)
        time.sleep(100)
    """
    child = helpers.start(code, key, stderr=-3)
    children.append(child)
    os.kill(child.pid, signal.SIGINT)
    assert jobs.get(timeout=60) == 1
    child.wait(60)
    assert seg.info().queues == {}


@pytest.mark.slow
def test_ctrl_c_at_any_moment_loses_no_item(seg, key):
    """A signal handler that raises, at moments of its own, while a process takes items one by one."""
    jobs = seg.queue("jobs")
    for number in range(20_000):
        jobs.put(number)
    code = """
    q, seen, hits, armed, more = shmvar.attach(key).queue("jobs"), [], 0, False, True
    Empty = shmvar.QueueEmptyError  # Looked up here: the module's own look-up is a call, in which the handler may run.
    class Hit(Exception): pass
    def handler(*_):
        global armed
        if armed:
            armed = False
            raise Hit
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0007, 0.0007)
    while more:
        try:
            armed = True
            while True:
                with q.take(timeout=0) as item:
                    seen.append(item)
        except Hit:
            hits += 1
        except Empty:
            more = armed = False
    signal.setitimer(signal.ITIMER_REAL, 0)
    print(hits, len(set(seen)), len(seen))
    """
    hits, different, all_of_them = map(int, helpers.run(code, key).stdout.split())
    assert different == 20_000 and all_of_them <= 20_000 + hits and hits > 0
    assert seg.info().queues == {} and seg.check().used == 0


def test_a_forked_child_does_not_hold_what_its_parent_took(seg):
    jobs = seg.queue("jobs")
    jobs.put("work")
    item = jobs.take()

    def child():
        with pytest.raises(RuntimeError, match="does not hold"):
            item.__exit__(None, None, None)
        assert jobs.empty()
        jobs.put("by the child")
        with jobs.take() as own:
            assert own == "by the child"

    with item as value:
        helpers.in_child(child)
        assert value == "work" and seg.info().queues["jobs"]["held"] == 1
    assert seg.info().queues == {}


def test_a_child_that_leaves_the_block_by_an_exception_gives_nothing_back(seg):
    jobs = seg.queue("jobs")
    jobs.put("work")
    item = jobs.take()

    def child():
        item.__exit__(ValueError, ValueError(), None)
        assert jobs.empty() and seg.info().queues["jobs"]["held"] == 1

    with item as value:
        helpers.in_child(child)
        assert value == "work" and jobs.empty() and seg.info().queues["jobs"]["held"] == 1
    assert seg.info().queues == {}


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_a_queue_is_handed_to_children_of_any_start_method(seg, method):
    context = multiprocessing.get_context(method)
    jobs, done = seg.queue("jobs"), seg.queue("done", maxsize=2)
    children = [context.Process(target=child_functions.double, args=(jobs, done)) for _ in range(2)]
    for child in children:
        child.start()
    for number in range(20):
        jobs.put(number)
    assert sorted(done.get(timeout=100) for _ in range(20)) == [2 * number for number in range(20)]
    for _ in children:
        jobs.put(None)
    for child in children:
        child.join(100)
        assert child.exitcode == 0


STOPPED = """
segment = shmvar.attach(key)
segment[1] = "here"
print("on", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def stopped(seg, key, children):
    """Writes the lock word as if a process that is alive, and does nothing, held the writer lock."""
    child = helpers.start(STOPPED, key)
    children.append(child)
    with helpers.Raw(seg) as raw:
        yield lambda: raw.hold_lock(child.pid), raw.free_lock


def test_what_could_not_be_given_back_or_finished_is_once_the_writer_goes_on(seg, stopped):
    """The process that has to do it does nothing else. What is done is never begun again."""
    jobs, (hold, let_go) = seg.queue("jobs"), stopped
    for number in range(3):
        jobs.put(number)
    kept, done, failed = jobs.take(), jobs.take(), jobs.take()
    for item in (kept, done, failed):
        item.__enter__()
    hold()
    del kept
    failed.__exit__(ValueError, ValueError(), None)
    began = time.monotonic()
    with pytest.raises(shmvar.SegmentBusyError, match=', queue "jobs"') as busy:
        done.__exit__(None, None, None)
    assert time.monotonic() - began < 18  # the ten seconds of the call itself, and half a second
    assert "finished as soon as" in busy.value.__notes__[0]
    assert jobs.qsize() == 0
    let_go()
    # Without the writer lock, so that it is not this call that ends the holds.
    helpers.until(lambda: jobs.qsize() == 2 and seg.info().queues["jobs"]["held"] == 0)
    assert [jobs.get() for _ in range(2)] == [0, 2]
    assert seg.info().queues == {}


def test_an_error_of_a_call_that_found_the_writer_stopped_says_so(seg, stopped):
    jobs, (hold, let_go) = seg.queue("jobs"), stopped
    for number in range(20):
        jobs.put(number)
    hold()
    try:
        with pytest.raises(shmvar.QueueFullError, match="another process held"):
            jobs.put_nowait("more")
        with pytest.raises(shmvar.QueueEmptyError, match="20 items wait"):
            jobs.get_nowait()
    finally:
        let_go()


def test_an_item_that_goes_while_an_exception_is_on_its_way_leaves_it_alone(seg, stopped):
    """Giving the item back is left to a thread, which code of Python starts, because the writer is stopped."""
    jobs, (hold, let_go) = seg.queue("jobs"), stopped
    jobs.put(1)

    def taken():
        item = jobs.take()
        item.__enter__()
        return item

    def fail():
        hold()
        raise KeyError("the program's own")

    with pytest.raises(KeyError, match="the program's own") as caught:
        [taken(), fail()]  # the interpreter drops the item while it looks for the handler
    assert caught.value.__context__ is None
    let_go()
    helpers.until(lambda: jobs.qsize() == 1)
    assert jobs.get() == 1 and seg.info().queues == {}
