"""Batches among processes: every reader sees one instant, accounts are exact, no deadlock, writers are stopped."""

import os
import random
import signal
import threading
import time

import helpers

import shmvar

WRITER = """
import itertools
s = shmvar.attach(key, create=False)
print("go", flush=True)
for round in itertools.count(1):
    s.put_many({n: [round, 'y' * (0, 3000, 30_000)[(n + round) % 3]] for n in range(40)})
"""


def whole(got):
    assert got.keys() == set(range(40)) and len({value[0] for value in got.values()}) == 1


def test_what_is_missing_belongs_to_the_instant_too(seg, key, children):
    """At any instant exactly one of two names is there, in turns."""
    code = """
    s = shmvar.attach(key)
    print("go", flush=True)
    while True:
        s.put_many({"flag": 0, "a": 1})
        assert s.remove("a")
        s.put_many({"flag": 1, "b": b"x" * 100_000})
        assert s.remove("b")
    """
    children.append(helpers.start(code, key))
    helpers.until(lambda: "flag" in seg)
    counts = set()
    with shmvar.attach(key, readonly=True) as reader:
        for _ in helpers.looks(lambda: counts == {0, 1}):
            for handle in (seg, reader):
                got = handle.get_many(["a", "b", "flag", *range(20)])
                names = got.keys() - {"flag"}
                assert names != {"a", "b"} and got["flag"] in (0, 1)
                assert names != {"a"} or got["flag"] == 0
                assert names != {"b"} or got["flag"] == 1
                counts.add(len(names))


def test_single_puts_are_of_one_instant_too(seg, key, children):
    """Variables 0 to 9 are stored in turn, each with the round: at any instant they go down by one round at most."""
    seg.put_many(dict.fromkeys(range(10), 0))
    code = """
    s = shmvar.attach(key)
    print("go", flush=True)
    round = 0
    while True:
        round += 1
        for n in range(10):
            s[n] = round
    """
    children.append(helpers.start(code, key))
    seen = set()
    with shmvar.attach(key, readonly=True) as reader:
        for _ in helpers.looks(lambda: len(seen) > 10):
            for handle in (seg, reader):
                try:
                    got = handle.get_many(range(10))
                except shmvar.SegmentBusyError:
                    assert handle is reader
                    continue
                rounds = [got[n] for n in range(10)]
                assert rounds == sorted(rounds, reverse=True) and rounds[0] - rounds[9] <= 1, rounds
                seen.add(rounds[0])


def test_batches_in_opposite_order_do_not_deadlock(seg, key):
    code = """
    s, me = shmvar.attach(key), int(sys.argv[2])
    indexes = list(range(200)) + [f"t{n}" for n in range(200)]
    if me % 2:
        indexes.reverse()
    for turn in range(30):
        s.put_many([(index, (me, turn)) for index in indexes])
        assert len(set(s.get_many(indexes).values())) == 1
    """
    helpers.run_in_processes(code, key, count=4)
    assert len(seg) == 400 and len(set(seg.values())) == 1 and next(iter(seg.values()))[1] == 29


def test_batches_and_single_changes_of_many_processes_leave_exact_accounts(seg, key):
    code = """
    import random
    s, me = shmvar.attach(key), int(sys.argv[2])
    for turn in range(150):
        lengths = [random.choice((0, 10, 300, 5000, 40_000)) for _ in range(8)]
        s.put_many({(me * 100 + n if n % 2 else f"{me} {n}"): b"x" * length for n, length in enumerate(lengths)})
        s.add("total", 3)
        s[f"shared {turn % 5}"] = "y" * lengths[0]
        s.put_many({f"shared {n}": turn for n in range(5)})
        s.pop(f"{me} 2")
        if turn % 50 == 49:
            s.trim()
    """
    helpers.run_in_processes(code, key, count=4)
    assert seg["total"] == 4 * 150 * 3 and len(seg) == 4 * 7 + 1 + 5
    assert seg.info().used == sum(seg.stat(index).size for index in seg)


def test_readers_wait_for_a_writer_that_is_stopped_for_a_while_and_see_no_mix(seg, key, children):
    seg.put_many({n: [0] for n in range(40)})
    writer = helpers.start(WRITER, key)
    children.append(writer)
    with shmvar.attach(key, readonly=True) as reader:
        for _ in range(10):
            time.sleep(random.random() * 0.01)
            os.kill(writer.pid, signal.SIGSTOP)
            timer = threading.Timer(0.3, os.kill, (writer.pid, signal.SIGCONT))
            timer.start()
            whole(reader.get_many(range(40)))
            whole(seg.get_many(range(40)))
            timer.join()


def test_a_stopped_writer_of_a_batch_that_is_killed_is_taken_over(seg, key, children):
    seg.put_many({n: [0] for n in range(40)})
    for _ in range(10):
        writer = helpers.start(WRITER, key)
        children.append(writer)
        time.sleep(random.random() * 0.02)
        os.kill(writer.pid, signal.SIGSTOP)
        time.sleep(0.01)
        helpers.kill(writer.pid)
        with helpers.promptly():
            seg["mine"] = 1
        whole(seg.get_many(range(40)))
    assert seg.info().attached == 1
