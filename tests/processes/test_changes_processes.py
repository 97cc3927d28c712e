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


AHEAD, BEHIND = 60, 25

ORDER = """
s, number, ahead, behind = shmvar.attach(key), *map(int, sys.argv[2:5])
print("go", flush=True)
for turn in range(10**9):
    # Whoever is told of a removal has been told of the data, who is told of the new mark, of the removal.
    s[f"pending {number} {turn + ahead}"] = 1
    s[f"data {number} {turn}"] = 1
    s.remove(f"pending {number} {turn}")
    s[f"done {number} {turn}"] = 1
    # So few removals are not looked at yet that all of them have their places.
    while s.get(f"read {number}", 0) < turn - behind:
        if s.get("stop"):
            sys.exit()
        time.sleep(0.001)
"""


@pytest.mark.parametrize("readonly", [False, True])
def test_the_order_of_several_writers_holds_removals_included(seg, key, children, readonly):
    """Each variable has a name of its own, so all that a writer does is told exactly in its order."""
    with shmvar.attach(key, readonly=readonly) as handle:
        changes, told = handle.changes(newer_than={}, timeout=60), collections.defaultdict(list)
        children.extend(helpers.start(ORDER, key, n, AHEAD, BEHIND) for n in range(2))
        while len(told) < 2 or min(map(len, told.values())) < 4 * 300:
            index, version = next(changes)
            kind, number, *turn = index.split()
            if kind == "read":
                continue
            told[number].append((kind, int(turn[0]), bool(version)))
            if kind == "done":
                seg[f"read {number}"] = int(turn[0])
        seg["stop"] = True
    for each in told.values():
        assert each == [change for turn in range(len(each)) for change in of_turn(turn)][: len(each)]


def of_turn(turn):
    yield "pending", turn + AHEAD, True
    yield "data", turn, True
    if turn >= AHEAD:
        yield "pending", turn, False
    yield "done", turn, True


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
    names, batches = list(range(3000)), set()
    for _ in helpers.looks(lambda: len(batches) > 1):
        index, _ = next(changes)
        # Whoever is told of one of a batch reads that batch, or a later one, under every index.
        at_least = seg.get_many([index])[index]
        assert min(seg.get_many(names).values()) >= at_least - 1
        batches.add(at_least)
    seg["stop"] = True
    assert children[-1].wait(60) == 0


@pytest.mark.parametrize("count", [1_000, 100_000])
@pytest.mark.parametrize("readonly", [False, True])
def test_f61_idling_costs_no_more_than_a_wait(seg, key, readonly, count):
    seg.update((n, n) for n in range(count))
    with shmvar.attach(key, readonly=readonly) as handle:
        changes = handle.changes(timeout=1)
        assert any(used_in(lambda: next(changes)) - 3 * used_in(lambda: handle.wait(1, 1)) < 0.01 for _ in range(5))


@pytest.mark.parametrize("readonly", [False, True])
def test_f61_changes_of_others_cost_a_part_of_a_core_at_most(seg, key, children, readonly):
    seg.update((n, n) for n in range(20_000))
    code = """
    s = shmvar.attach(key)
    print("go", flush=True)
    while not s.get("stop"):
        for n in range(1000):
            s["other"] = n
    """
    children.append(helpers.start(code, key))
    with shmvar.attach(key, readonly=readonly) as handle:
        changes = handle.changes(prefix="none", timeout=1)
        assert any(used_in(lambda: next(changes)) < 0.2 for _ in range(5))
    seg["stop"] = True
    assert children[-1].wait(60) == 0


def used_in(wait):
    """The processor time of a wait for a second in vain."""
    began = time.thread_time()
    with pytest.raises(shmvar.WaitTimeoutError):
        wait()
    return time.thread_time() - began


def test_f1_a_writer_that_was_killed_in_mid_change_holds_nothing_back(seg, key, children):
    """Random kills, and nobody but the reader to repair."""
    for turn in range(15):
        view = final(seg)
        changes = seg.changes(timeout=0.2)
        child = helpers.start(WRITER, key, 1, turn, 0)
        children.append(child)
        time.sleep(random.Random(turn).random() * 0.05)
        child.kill()
        child.wait(60)
        # A step in vain is no end: the reader takes the writer for dead after half a second, or more if it is held up.
        helpers.until(lambda changes=changes, view=view: follow(changes, view) or view == final(seg), 60)
