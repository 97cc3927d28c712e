"""`changes` beside other processes that write, stop and are killed: no last state is missed, and the order holds."""

import collections
import random
import signal
import time

import helpers
import pytest

import shmvar

WRITER = """
import random
s, number, seed, pause = shmvar.attach(key), *map(int, sys.argv[2:5])
rnd = random.Random(seed)
names = [f"{number} {n}" if n % 2 else number * 1000 + n for n in range(60)]
print("go", flush=True)
while not s.get("stop"):
    name = rnd.choice(names)
    if rnd.random() < 0.6:
        s[name] = rnd.choice([1, "x" * 50, b"y" * 9000])
    elif rnd.random() < 0.9:
        s.remove(name)
    elif rnd.random() < 0.9:
        s.put_many({name: n for n, name in enumerate(rnd.sample(names, 20))})
    else:
        base = 10**6 * (number + 1)
        s.update((base + n, n) for n in range(3000))
        for n in range(3000):
            s.remove(base + n)
        s.trim()
    time.sleep(pause / 1000)
"""


def final(segment):
    return {index: segment.version(index) for index in segment}


def follow(changes, view):
    """Takes what there is to tell."""
    try:
        for index, version in changes:
            if version:
                view[index] = version
            else:
                view.pop(index, None)
    except shmvar.WaitTimeoutError:
        return


@pytest.mark.slow
@pytest.mark.parametrize("readonly", [False, True])
def test_no_last_state_is_missed_while_writers_go_on_grow_shrink_and_are_killed(seg, key, children, readonly):
    rnd = random.Random(5)
    with shmvar.attach(key, readonly=readonly) as handle:
        prompt, slow, view, slow_view = handle.changes(timeout=0.01), handle.changes(timeout=0.01), {}, {}
        running = [helpers.start(WRITER, key, n, n, 0) for n in range(3)]
        children.extend(running)
        for turn in range(25):
            follow_until = time.monotonic() + 0.1
            while time.monotonic() < follow_until:
                for _ in range(20):
                    try:
                        index, version = next(prompt)
                    except shmvar.WaitTimeoutError:
                        break
                    view.pop(index, None)
                    if version:
                        view[index] = version
            victim = rnd.randrange(3)
            running[victim].kill()
            assert running[victim].wait(60) == -signal.SIGKILL
            running[victim] = helpers.start(WRITER, key, victim, turn * 10, 0)
            children.append(running[victim])
        seg["stop"] = True
        assert [child.wait(60) for child in running] == [0] * 3
        seg.check()
        follow(prompt, view)
        follow(slow, slow_view)
        assert view == slow_view == final(seg)


@pytest.mark.slow
def test_a_reader_that_is_stopped_misses_no_last_state(seg, key, children):
    code = """
    s = shmvar.attach(key)
    view = {}
    print("go", flush=True)
    for index, version in s.changes(newer_than={}):
        view[index] = version
        if index == "stop":
            break
    there = {index: version for index, version in view.items() if version}
    print(there == {index: s.version(index) for index in s}, flush=True)
    """
    reader, writer = helpers.start(code, key), helpers.start(WRITER, key, 1, 7, 0)
    children.extend([reader, writer])
    for _ in range(20):
        reader.send_signal(signal.SIGSTOP)
        time.sleep(0.05)
        reader.send_signal(signal.SIGCONT)
        time.sleep(0.01)
    writer.kill()
    writer.wait(60)
    seg["stop"] = True
    assert reader.stdout.readline().strip() == "True"


ORDER = """
import random
s, number = shmvar.attach(key), int(sys.argv[2])
print("go", flush=True)
for turn in range(10**9):
    if s.get("stop"):
        break
    # Who is told of the removal has been told of the data, who is told of the new mark, of the removal.
    s[f"pending {number}"] = turn
    s[f"data {number}"] = turn
    del s[f"pending {number}"]
    s[f"done {number}"] = turn
"""


@pytest.mark.parametrize("readonly", [False, True])
def test_the_order_of_several_writers_holds_removals_included(seg, key, children, readonly):
    """Each writer's own order is checked by values: what was told before is at least as new as what is told."""
    with shmvar.attach(key, readonly=readonly) as handle:
        changes = handle.changes(newer_than={}, timeout=30)
        children.extend(helpers.start(ORDER, key, n) for n in range(2))
        told, kinds = collections.defaultdict(dict), collections.Counter()
        until = time.monotonic() + 3
        while time.monotonic() < until:
            index, version = next(changes)
            kind, number = index.split()
            told[number][kind] = version
            kinds[kind, bool(version)] += 1
            there = {kind: version for kind, version in told[number].items() if version}
            if kind == "done":
                # "data" was put before, unless it has changed since; "pending" is gone, unless it was put since.
                assert "data" in there
                pending = there.get("pending", 0)
                assert pending == 0 or handle.version(f"pending {number}") != pending
            if kind == "pending" and not version:
                assert "data" in there
        seg["stop"] = True
        assert kinds["pending", False] and kinds["done", True]


def test_a_batch_is_told_when_all_of_it_is_there(seg, key, children):
    code = """
    s = shmvar.attach(key)
    print("go", flush=True)
    for turn in range(10**9):
        s.put_many({n: turn for n in range(3000)})
        if s.get("stop"):
            break
    """
    children.append(helpers.start(code, key))
    changes = seg.changes(newer_than={}, timeout=30)
    names, until, batches = list(range(3000)), time.monotonic() + 2, 0
    while time.monotonic() < until:
        index, _ = next(changes)
        # Whoever is told of one of a batch reads that batch, or a later one, under every index.
        at_least = seg.get_many([index])[index]
        assert min(seg.get_many(names).values()) >= at_least - 1
        batches += 1
    seg["stop"] = True
    assert batches and children[-1].wait(60) == 0


def test_f61_idling_costs_no_more_than_a_wait(seg, key):
    seg.update((n, n) for n in range(1000))
    for readonly in (False, True):
        with shmvar.attach(key, readonly=readonly) as handle:
            changes = handle.changes(timeout=1)
            ratios = []
            for _ in range(5):
                used = []
                for wait in (lambda h=handle: h.wait(1, 1), lambda c=changes: next(c)):
                    began = time.thread_time()
                    with pytest.raises(shmvar.WaitTimeoutError):
                        wait()
                    used.append(time.thread_time() - began)
                ratios.append(used[1] - 3 * used[0])
            assert min(ratios) < 0.01, ratios


def test_f1_a_writer_that_was_killed_in_mid_change_holds_nothing_back(seg, key, children):
    """Random kills, and nobody but the reader to repair."""
    for turn in range(15):
        view = final(seg)
        changes = seg.changes(timeout=2)
        child = helpers.start(WRITER, key, 1, turn, 0)
        children.append(child)
        time.sleep(random.Random(turn).random() * 0.05)
        child.kill()
        child.wait(60)
        follow(changes, view)
        assert view == final(seg)
