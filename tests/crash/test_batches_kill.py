"""Readers in other processes see all of a batch or nothing, however many writers are killed in the middle."""

import itertools
import os
import random
import signal
import threading
import time

import helpers
import pytest

import shmvar

COUNT = 40
SETS = {
    "inline": "{n: round for n in range(40)}",
    "text indexes": "{f'name {n}' * (n % 3 * 20 + 1): round for n in range(40)}",
    "short records": "{n: f'{round} ' * (n % 7 * 30 + 10) for n in range(40)}",
    "large values": "{n: [round, b'x' * (150_000 * (n % 5 == 0))] for n in range(40)}",
    "changing forms": "{n: [round, 'y' * (0, 3000, 30_000)[(n + round) % 3]] for n in range(40)}",
    "replaced and removed": "{n if n % 2 else f't{n}': round for n in range(40)}",
}
READER = """
s, items, removes = shmvar.attach(key, readonly=sys.argv[4] == "ro"), sys.argv[2], sys.argv[3] == "True"
wanted = [*eval(items, {"round": 0}), "missing", "missing too"]
def round_of(value):
    return value[0] if isinstance(value, list) else int(value.split()[0]) if isinstance(value, str) else value
print("go", flush=True)
seen = 0
signal.signal(signal.SIGTERM, lambda *_: (print(seen, flush=True), os._exit(0)))
while True:
    try:
        got = s.get_many(wanted)
    except shmvar.SegmentBusyError:  # They changed under the read-only one for 10 s.
        assert s.readonly
        continue
    rounds = {round_of(value) for value in got.values()}
    if len(rounds) > 1 or len(got) not in ((0, 40) if removes else (40,)):
        print("MIX", rounds, len(got), flush=True)
        os._exit(1)
    seen += 1
    if seen == 11:
        print("enough", flush=True)
"""


def round_of(value):
    if isinstance(value, list):
        return value[0]
    return int(value.split()[0]) if isinstance(value, str) else value


def whole(got, removes):
    """All values are of one round; none may be there only if the writer removes, too."""
    rounds = {round_of(value) for value in got.values()}
    assert len(rounds) <= 1, f"a mix of the rounds {rounds}"
    assert len(got) in ((0, COUNT) if removes else (COUNT,)), len(got)


@pytest.mark.parametrize("items", SETS)
def test_get_many_never_sees_a_mix_whoever_is_killed_on_the_way(seg, key, children, items):
    removes = items == "replaced and removed"
    seg.put_many(eval(SETS[items], {"round": 0}))
    wanted = list(eval(SETS[items], {"round": 0}))
    readers = [helpers.start(READER, key, SETS[items], removes, how) for how in ("ro", "rw")]
    children += readers

    def write(started):
        code = compile(SETS[items], "items", "eval")
        os.write(started, b"x")
        for number in itertools.count(os.getpid() * 10**6):
            seg.put_many(eval(code, {"round": number}))
            if removes and number % 3 == 0:
                seg.clear()

    for turn in range(18):
        reading, writing = os.pipe()
        pids = [helpers.fork(write, writing) for _ in range(1 + turn % 2)]
        for _ in pids:
            os.read(reading, 1)
        time.sleep(random.random() * 0.03)
        whole(seg.get_many(wanted), removes)
        for pid in pids:
            helpers.kill(pid)
            with helpers.promptly():
                whole(seg.get_many(wanted), removes)
        os.close(reading)
        os.close(writing)
        if turn % 5 == 0:
            seg.check()
    for reader in readers:
        # A reader that had little processor time looks at what the last writer left.
        assert reader.stdout.readline() == "enough\n"
        assert reader.poll() is None, reader.stdout.read()
        reader.terminate()
        assert int(reader.stdout.readline()) > 10
    assert len(seg) in (0, COUNT) and seg.info().used == sum(seg.stat(index).size for index in seg)
    seg.clear()
    seg.trim()  # reaps dead participants
    report = seg.check()
    assert (report.live, report.busy, report.retired, report.blocks) == (0, 0, 0, 0)


def test_a_batch_that_grows_the_table_while_it_is_killed_is_whole_or_not_at_all(new_key):
    outcomes = set()
    for turn in range(40):
        with shmvar.attach(new_key()) as segment:
            segment.put_many({f"old {n}": n for n in range(50)})
            big = {n: n for n in range(3000)} | {f"x{n}": b"y" * (n * 100) for n in range(60)}
            pid = helpers.fork(segment.put_many, big)
            # The first writers hardly begin on any machine; the last ones may finish.
            time.sleep(random.random() * 0.0006 * turn)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            got = segment.get_many([*big, *(f"old {n}" for n in range(50))])
            assert len(got) in (50, 50 + len(big)) and all(got[f"old {n}"] == n for n in range(50))
            assert got == dict(segment)
            outcomes.add(len(got))
            segment.check()
            assert segment.info().used == sum(segment.stat(index).size for index in segment)
            segment.destroy()
    assert 50 in outcomes


def test_a_killed_batch_wakes_those_who_wait_for_its_indexes(seg, key):
    for turn in range(15):
        before = {index: seg.version(index) for index in (1, "last")}
        got = []

        def wait(index, version, got=got):
            got.append((version, seg.wait(index, 30, newer_than=version)))

        threads = [threading.Thread(target=wait, args=(index, version)) for index, version in before.items()]
        for thread in threads:
            thread.start()

        def endless():
            while True:
                seg.put_many({n: n for n in range(2000)} | {"last": 1})

        pid = helpers.fork(endless)
        time.sleep(0.02 + random.random() * 0.02)
        helpers.kill(pid)
        changed = seg.get_many([1, "last"])
        if seg.version(1) == before[1]:  # killed before its first batch
            seg.put_many({1: turn, "last": turn})
        for thread in threads:
            thread.join(30)
        assert len(got) == 2 and all(new > old for old, new in got) and len(changed) != 1
