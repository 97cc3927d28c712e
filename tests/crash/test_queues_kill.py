"""Queues while their takers and producers are killed at any moment: nothing is lost, nothing is finished twice."""

import random
import time

import helpers
import pytest

import shmvar

# Each item is finished by one commit, which removes it; before that, another queue is told what is finished.
WORK = """
s = shmvar.attach(key); jobs, done = s.queue("jobs"), s.queue("done")
print("go", flush=True)
while True:
    item = jobs.take()
    with item as number:
        if number % 97 == 0:
            time.sleep(0.001)
        done.put((number, item.attempts))
"""
PRODUCE = """
q = shmvar.attach(key).queue("put")
print("go", flush=True)
number = 0
while True:
    q.put((sys.argv[2], number, "x" * (number * 37 % 3_000)))
    number += 1
"""


@pytest.mark.slow
def test_takers_that_are_killed_lose_nothing(seg, key, children):
    jobs, done, chance = seg.queue("jobs"), seg.queue("done"), random.Random(5)
    amount, kills = 6_000, 0
    for number in range(amount):
        jobs.put(number)
    workers = [helpers.start(WORK, key) for _ in range(4)]
    children += workers
    while seg.info().queues.get("jobs"):
        time.sleep(chance.random() * 0.05)
        if kills < 30:
            if jobs.qsize() < 1_000:  # The machine is quick: there has to be work left at the next kill.
                for number in range(amount, amount + 1_000):
                    jobs.put(number)
                amount += 1_000
            place = chance.randrange(4)
            workers[place].kill()
            workers[place].wait()
            kills += 1
            workers[place] = helpers.start(WORK, key)
            children.append(workers[place])
    for worker in workers:
        worker.kill()
        worker.wait()
    seg.check()
    finished = [done.get() for _ in range(done.qsize())]
    # A worker may have died between telling it and finishing the item: then the item was begun again.
    assert {number for number, _ in finished} == set(range(amount))
    assert len(finished) - amount <= kills
    again = {number for number, attempts in finished if attempts > 1}
    assert len(again) <= kills and seg.info().queues == {} and seg.check().used == 0


@pytest.mark.slow
def test_producers_that_are_killed_leave_whole_items_in_order(seg, key, children):
    queue, chance, last = seg.queue("put"), random.Random(6), {}
    for turn in range(12):
        producer = helpers.start(PRODUCE, key, turn)
        children.append(producer)
        for _ in range(chance.randrange(20, 300)):
            take_in(queue.get(timeout=60), last)
        producer.kill()
        producer.wait()
        while not queue.empty():
            take_in(queue.get(), last)
        seg.check()
    assert len(last) == 12 and seg.info().queues == {} and seg.check().used == 0


def take_in(item, last):
    producer, number, text = item
    assert number == last.get(producer, -1) + 1 and text == "x" * (number * 37 % 3_000)
    last[producer] = number


def test_what_was_got_dies_with_the_process_that_got_it(seg, key, children):
    queue = seg.queue("jobs")
    queue.put("got")
    queue.put("next")
    child = helpers.start(
        "shmvar.attach(key).queue('jobs').get(); print(os.getpid(), flush=True); sys.stdin.read()", key
    )
    children.append(child)
    helpers.kill(child.pid)
    assert queue.get(timeout=60) == "next" and queue.empty()
    with pytest.raises(shmvar.QueueEmptyError):
        queue.get(timeout=0.2)
