"""Queues on a server: takers that die or are stopped, and what is lost on the way."""

import itertools
import os
import random
import signal
import socket
import time

import helpers
import pytest
from helpers.machine import SLOWER
from helpers.remote_queues import SIZES, charged, finished, options, put_all, raised, through

import shmvar
from shmvar._remote import link, numbered, queue_base, queue_holds

LONG, LARGE = SIZES["long"], SIZES["large"]


# --- what dies

STEPS = ("before", "answer", "reading", "block", "finished")


def killed(key, step, call):
    """What a forked child does: it takes or gets an item, and is killed at a step of that."""

    def die(*_, **__):
        os.kill(os.getpid(), signal.SIGKILL)

    poll, end = queue_base.ServerQueue._poll, queue_holds.Hold.end

    def polled(self, op, *arguments, **named):
        if op == b"take" and step == "before":
            die()
        answer = poll(self, op, *arguments, **named)
        if op == b"take" and step == "answer":
            die()
        return answer

    def ended(*arguments, **named):
        end(*arguments, **named)
        die()

    queue_base.ServerQueue._poll = polled
    if step == "reading":
        queue_base.ServerQueue._body = die
    if step == "finished":
        queue_holds.Hold.end = ended
    jobs = shmvar.attach(key).queue("jobs")
    if call == "get":
        jobs.get()
        die()
    with jobs.take():
        if step != "finished":
            die()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("step", STEPS)
def test_a_taker_that_is_killed_at_any_step_loses_nothing(seg, key, step, size):
    jobs = seg.queue("jobs")
    jobs.put(SIZES[size])
    jobs.put("next")
    hasty = options(key, grace=0.05)
    child = helpers.fork(killed, hasty, step, "take")
    assert helpers.reap(child) == -signal.SIGKILL
    if step != "finished":
        if step != "before":
            # Who looks at once finds it held.
            helpers.until(lambda: jobs.qsize() == 2, 30)
        item = shmvar.attach(hasty).queue("jobs").take(30)
        with item as value:
            assert value == SIZES[size] and item.attempts == (1 if step == "before" else 2)
    assert jobs.get(timeout=30) == "next" and jobs.empty() and charged(seg) == 0


def test_clear_removes_what_a_dead_process_held_and_leaves_what_a_living_one_holds(seg, key):
    jobs = shmvar.attach(options(key, grace=0.05)).queue("jobs")
    jobs.put("dead")
    jobs.put(LARGE)
    assert helpers.reap(helpers.fork(killed, key, "block", "take")) == -signal.SIGKILL
    with jobs.take(30):
        jobs.put("waits")

        def cleared():
            jobs.clear()
            found = seg.info().queues["jobs"]  # only reads: nothing but `clear` looks at the holders
            return found["waiting"] == 0 and found["held"] == 1

        helpers.until(cleared, 30)
    assert seg.info().queues == {} and charged(seg) == 0


def test_a_clear_that_is_the_first_to_look_removes_what_a_dead_process_held(server, seg, key):
    """The first look at a holder only finds that it is missed: clear looks again, `grace` later."""

    def present():
        return [channel for channel in server.call("PUBSUB", "SHARDCHANNELS") if b"p:" in channel]

    jobs = seg.queue("jobs")
    for value in ("dead", LARGE, "waits"):
        jobs.put(value)
    before = present()
    assert helpers.reap(helpers.fork(killed, key, "block", "take")) == -signal.SIGKILL
    helpers.until(lambda: present() == before, 30)
    jobs.clear()
    assert seg.info().queues == {} and jobs.empty() and charged(seg) == 0


@pytest.mark.parametrize("step", ["answer", "reading", "finished"])
@pytest.mark.parametrize("size", ["long", "large"])
def test_a_get_of_a_long_item_that_is_killed_leaves_it_or_has_got_it(seg, key, step, size):
    jobs = seg.queue("jobs")
    jobs.put(SIZES[size])
    assert helpers.reap(helpers.fork(killed, key, step, "get")) == -signal.SIGKILL
    if step == "finished":
        assert jobs.empty()
    else:
        assert jobs.get(timeout=30) == SIZES[size]
    assert charged(seg) == 0


HOLDS = """
from shmvar import LockLostError
jobs = shmvar.attach(key).queue("jobs")
with jobs.take() as first:
    pass
try:
    with jobs.take() as item:
        print(item, flush=True)
        sys.stdin.readline()
    print("finished", flush=True)
except LockLostError as error:
    print("lost", "given back" in str(error), flush=True)
"""


def test_a_taker_that_was_stopped_beyond_its_lease_finishes_nothing_that_is_anothers(seg, key, children):
    jobs = seg.queue("jobs")
    for number in range(2):
        jobs.put(number)
    child = helpers.start(HOLDS, options(key, lease=1))
    children.append(child)
    assert child.said == "1" and jobs.empty()
    child.send_signal(signal.SIGSTOP)
    item = jobs.take(60)
    # The lease is over, though its connection stands.
    with item as value:
        assert value == 1 and item.attempts == 2
        child.send_signal(signal.SIGCONT)
        child.stdin.write("\n")
        child.stdin.flush()
        assert child.stdout.readline().strip() == "lost True"
        assert seg.info().queues["jobs"]["held"] == 1
    assert jobs.empty() and charged(seg) == 0


def test_a_lease_that_nobody_looked_at_is_not_lost(seg, key, children):
    jobs = seg.queue("jobs")
    for number in range(2):
        jobs.put(number)
    child = helpers.start(HOLDS, options(key, lease=0.3))
    children.append(child)
    child.send_signal(signal.SIGSTOP)
    time.sleep(0.5)
    child.send_signal(signal.SIGCONT)
    child.stdin.write("\n")
    child.stdin.flush()
    assert child.stdout.readline().strip() == "finished"
    assert jobs.empty() and charged(seg) == 0


def test_an_item_stays_with_its_taker_however_long_it_works(seg, key):
    short = shmvar.attach(options(key, lease=2, grace=0.05))
    jobs = short.queue("jobs")
    jobs.put("work")
    with jobs.take() as item:
        until = time.monotonic() + 3
        while time.monotonic() < until:
            with pytest.raises(shmvar.QueueEmptyError):
                seg.queue("jobs").get(timeout=0.1)
        assert item == "work"
    assert jobs.empty() and charged(seg) == 0


def test_a_forked_child_does_not_hold_what_its_parent_took(seg):
    jobs = seg.queue("jobs")
    jobs.put("parents")
    jobs.put("childs")
    taken = jobs.take()
    with taken as item:

        def child():
            with pytest.raises(RuntimeError, match="forked"):
                taken.__exit__(None, None, None)
            with jobs.take() as mine:
                assert mine == "childs"

        helpers.in_child(child, timeout=60)
        assert item == "parents" and jobs.empty()
        with pytest.raises(shmvar.QueueEmptyError):
            jobs.get(timeout=0.7)
    assert charged(seg) == 0


# --- what is lost on the way


LOST = {
    "put": lambda queue: queue.put("new"),
    "put of a large one": lambda queue: queue.put(LARGE),
    "put that finds no room": lambda queue: queue.segment.queue(queue.name, maxsize=1).full(),
    "get": lambda queue: queue.get(),
    "take": finished,
    "take and an exception": raised,
    "clear": lambda queue: queue.clear(),
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("call", LOST)
def test_the_answer_of_each_request_in_turn_is_lost_and_the_call_is_made_once(seg, key, proxy, call, size):
    def state():
        with seg.queue(size).take(0) if not seg.queue(size).empty() else memory() as first:
            pass
        rest = [seg.queue(size).get() for _ in range(seg.queue(size).qsize())]
        assert charged(seg) == sum(queue["used"] for queue in seg.info().queues.values())
        seg.queue(size).clear()
        return first, rest

    put_all(seg)
    expected = LOST[call](seg.queue(size))
    wanted = state()
    remote = shmvar.attach(through(proxy, key))
    warm = remote.queue("warm")
    warm.put(1)
    finished(warm)
    for lost in itertools.count():
        put_all(seg)
        seen = itertools.count()
        proxy.lost = 0
        proxy.lose_after = lambda data, seen=seen, lost=lost: b"EVAL" in data and next(seen) == lost
        try:
            assert LOST[call](remote.queue(size)) == expected
        finally:
            proxy.lose_after = None
        assert state() == wanted
        for name in SIZES:
            seg.queue(name).clear()
        if not proxy.lost:
            break
    assert lost > 0


class memory:
    """What is taken where nothing is there."""

    def __enter__(self):
        return None

    def __exit__(self, *_):
        pass


@pytest.mark.parametrize("call", ["get", "take", "put"])
def test_a_late_copy_of_a_call_does_nothing(server, seg, key, proxy, call):
    jobs = seg.queue("jobs")
    remote = shmvar.attach(through(proxy, key)).queue("jobs", maxsize=3)
    remote.put("warm")
    assert finished(remote) == ("warm", 1)
    if call == "put":
        jobs.put("another")
    proxy.held = lambda data: b"EVAL" in data and (b"$%d\r\n%b" % (len(call), call.encode())) in data and not proxy.kept
    if call == "put":
        remote.put("new")
        assert jobs.get() == "another" and jobs.get() == "new"
    else:
        # Nothing is there; an item that comes later is nobody's yet.
        with pytest.raises(shmvar.QueueEmptyError):
            remote.get(False) if call == "get" else remote.take(0).__enter__()
        jobs.put("later")
    assert len(proxy.kept) == 1
    with socket.socket(socket.AF_UNIX) as late:
        late.settimeout(30)
        late.connect(server.socket)
        late.sendall(proxy.kept[0])
        assert late.recv(1000)
    proxy.held = None
    if call == "put":
        assert jobs.empty()
    else:
        assert jobs.get(timeout=0) == "later"
    assert charged(seg) == 0


@pytest.mark.parametrize("size", SIZES)
def test_a_copy_that_comes_just_before_it_is_barred_is_the_call(server, seg, key, proxy, size, monkeypatch):
    """The repetition of a take found nothing; the first copy, which was still on its way, then finds an item."""
    remote = shmvar.attach(through(proxy, key)).queue("jobs")
    remote.put("warm")
    finished(remote)
    proxy.held = lambda data: b"EVAL" in data and b"$4\r\ntake" in data and not proxy.kept
    barred = numbered.Requests._barred

    def bar(*arguments):
        seg.queue("jobs").put(SIZES[size])
        with socket.socket(socket.AF_UNIX) as late:
            late.settimeout(30)
            late.connect(server.socket)
            late.sendall(proxy.kept[0])
            assert late.recv(1 << 20)
        return barred(*arguments)

    monkeypatch.setattr(numbered.Requests, "_barred", bar)
    item = remote.take(0)
    with item as value:
        assert value == SIZES[size] and item.attempts == 1
    assert charged(seg) == 0


def test_an_interrupt_between_the_server_and_the_block_gives_the_item_back(seg, monkeypatch):
    jobs = seg.queue("jobs")
    jobs.put("work")
    answers, interrupts = link.Link._answers, []

    def interrupted(self, connection, count):
        found = answers(self, connection, count)
        if not interrupts and isinstance(found[0], bytes) and found[0][:1] == b"h":
            interrupts.append(1)
            raise KeyboardInterrupt
        return found

    # What this process holds besides keeps its session alive.
    seg.queue("other").put("held")
    with seg.queue("other").take():
        monkeypatch.setattr(link.Link, "_answers", interrupted)
        with pytest.raises(KeyboardInterrupt):
            jobs.take().__enter__()
        assert interrupts
        item = jobs.take(8 * SLOWER)
        with item as value:
            assert value == "work" and item.attempts == 2
    assert charged(seg) == 0


def test_the_end_of_a_block_that_did_not_arrive_in_time_is_made_up_for(seg, key, proxy):
    jobs = shmvar.attach(options(through(proxy, key), timeout=1.5)).queue("jobs")
    jobs.put("work")
    item = jobs.take()
    item.__enter__()
    proxy.held = lambda data: b"$4\r\ndone" in data
    with pytest.raises(shmvar.SegmentUnavailableError) as caught:
        item.__exit__(None, None, None)
    assert caught.value.maybe_applied and "stays taken" in caught.value.__notes__[0]
    assert seg.info().queues["jobs"]["held"] == 1
    proxy.held = None
    helpers.until(lambda: seg.info().queues == {}, 30)
    assert charged(seg) == 0


class Interrupt(Exception):
    """What a signal handler of the program raises."""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_whatever_interrupts_a_loop_of_put_and_take_nothing_stays_held(seg):
    """An exception at the end of a block left the item held for as long as the process lived."""
    jobs, chance, begun = seg.queue("jobs"), random.Random(7), 0

    def interrupt(*_):
        raise Interrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    # What this process holds besides keeps its session alive.
    seg.queue("other").put("held")
    try:
        with seg.queue("other").take():
            until = time.monotonic() + 3
            while time.monotonic() < until:
                try:
                    signal.setitimer(signal.ITIMER_REAL, chance.random() * 0.004 + 1e-5)
                    jobs.put(begun)
                    begun += 1
                    with jobs.take(timeout=1):
                        pass
                    signal.setitimer(signal.ITIMER_REAL, 0)
                except Interrupt:
                    pass
            signal.setitimer(signal.ITIMER_REAL, 0)
            helpers.until(lambda: seg.info().queues.get("jobs", {"held": 0})["held"] == 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert begun
    charged(seg)


def test_who_waits_writes_nothing_while_others_hold_items(server, seg):
    jobs = seg.queue("jobs")
    jobs.put("work")

    def offset():
        return server.call("INFO", "persistence")["rdb_changes_since_last_save"]

    with jobs.take():
        with pytest.raises(shmvar.QueueEmptyError):
            jobs.get(timeout=0.05)
        before = offset()
        for _ in range(3):
            with pytest.raises(shmvar.QueueEmptyError):
                jobs.take(0.4).__enter__()
        assert offset() == before


def test_what_a_destructor_could_not_give_back_is_given_back_by_the_next_call(seg, monkeypatch):
    jobs = seg.queue("jobs")
    jobs.put("work")
    item = jobs.take()
    item.__enter__()
    # A signal handler that raises, say, before the first line of the destructor.
    monkeypatch.setattr(queue_holds.Block, "__del__", lambda _: None)
    del item
    helpers.until(lambda: seg.info().queues["jobs"]["held"] == 0)
    assert jobs.get(timeout=30) == "work" and charged(seg) == 0


def test_the_collector_may_close_a_forgotten_block_while_this_thread_starts_another(key, seg):
    """`Executor.submit` starts threads with a lock that is the same for all executors: the block's end takes none."""
    code = """
    import asyncio, faulthandler, gc, threading
    faulthandler.dump_traceback_later(30, exit=True)
    s = shmvar.attach(key)
    gc.disable()
    begun, collected = [], []
    async def forgotten():
        async with s.queue("q").take() as item:
            begun.append(item)
            await asyncio.sleep(100)
    async def until_begun():
        while not begun:
            await asyncio.sleep(0.01)
    s.queue("q").put("x")
    loop = asyncio.new_event_loop()
    task = loop.create_task(forgotten())
    task._log_destroy_pending = False
    loop.run_until_complete(until_begun())
    loop.close()
    del task, loop

    make = threading.Thread.__init__
    def collect(thread, *args, **options):
        if str(options.get("name")).startswith("shmvar-lock-of-a-task"):
            collected.append(gc.collect())
        make(thread, *args, **options)
    threading.Thread.__init__ = collect
    async def main():
        async with s.lock("m"):
            pass
        async with s.queue("q").take(timeout=20) as item:
            assert item == "x"
    asyncio.run(main())
    assert collected and collected[0] > 0
    """
    done = helpers.run(code, key)
    assert done.stderr == ""
