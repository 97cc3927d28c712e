"""PHP's semaphores and message queues in programs whose threads are greenlets of gevent or eventlet."""

import helpers
import pytest
from helpers import php_semaphores

from shmvar import php

# For each library: how it patches, and its names for what the tests need.
LIBRARIES = {
    "gevent": """
        import gevent
        from gevent import monkey, spawn, sleep
        monkey.patch_all()
        def join(all): gevent.joinall(all, raise_error=True)
    """,
    "eventlet": """
        import warnings
        warnings.simplefilter("ignore")
        import eventlet
        from eventlet import spawn, sleep
        eventlet.monkey_patch()
        def join(all): [each.wait() for each in all]
    """,
}


@pytest.fixture(params=LIBRARIES)
def run(request):
    pytest.importorskip(request.param)
    drop = "\n".join(line.strip() for line in LIBRARIES[request.param].splitlines()) + "\n"
    return lambda code, *args: helpers.run(code, *args, drop=drop).stdout


def test_greenlets_exclude_each_other_and_the_others_run_meanwhile(run, php_key):
    code = """
        from shmvar import php
        semaphore, inside, turns, ticks = php.Semaphore(int(key)), [], [], []
        def work():
            for _ in range(5):
                with semaphore:
                    assert semaphore.held == 1 and semaphore.acquire() and not inside
                    inside.append(1)
                    sleep(0.002)
                    inside.pop()
                    semaphore.release()
                turns.append(1)
                assert semaphore.held == 0
        def tick():
            while len(turns) < 20:
                ticks.append(1)
                sleep(0.001)
        join([spawn(work) for _ in range(4)] + [spawn(tick)])
        print(len(turns), len(ticks) > 5)
    """
    assert run(code, php_key) == "20 True\n"


def test_a_greenlet_that_ended_is_not_taken_for_another_one(run, php_key):
    code = """
        import gc
        from shmvar import php
        semaphore = php.Semaphore(int(key))
        join([spawn(semaphore.acquire)])
        gc.collect()
        got = []
        for _ in range(50):
            join([spawn(lambda: got.append((semaphore.held, semaphore.acquire(0))))])
        print(set(got))
    """
    assert run(code, php_key) == "{(0, False)}\n"


def test_a_greenlet_that_waits_for_another_process_lets_the_others_run(run, php_key):
    holder = php.Semaphore(php_key)
    holder.acquire()
    code = """
        from shmvar import php
        semaphore, queue, ran = php.Semaphore(int(key)), php.MessageQueue(int(key)), []
        def tick():
            for _ in range(20):
                sleep(0.002)
                ran.append(1)
            queue.send("ticked")
        def receive():
            ran.append(queue.receive())
        def take():
            ran.append(semaphore.acquire(0.2))
        join([spawn(take), spawn(receive), spawn(tick)])
        print(ran.count(1), (1, "ticked") in ran, False in ran)
    """
    assert run(code, php_key) == "20 True True\n"
    assert php_semaphores.values(holder.id) == (0, 1, 0)
