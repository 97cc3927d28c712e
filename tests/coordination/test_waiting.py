"""`wait`: wakes for every change, never misses the last one, and sleeps otherwise, even if writers stop or die."""

import os
import signal
import subprocess
import threading
import time

import helpers
import pytest

import shmvar

INDEXES = [1, "text", "k" * 1024]


class Waiter:
    """A wait in a thread."""

    def __init__(self, segment, index, *args, **options):
        self.segment, self.got = segment, []
        self.thread = threading.Thread(target=self.run, args=(index, *args), kwargs=options)
        self.thread.start()

    def run(self, *args, **options):
        try:
            self.got.append(self.segment.wait(*args, **options))
        except Exception as error:
            self.got.append(error)

    def result(self):
        self.thread.join(30)
        assert self.got, "it still waits"
        return self.got[0]


CHANGES = {
    "put": lambda s, i: s.put(i, "new"),
    "put of the same value": lambda s, i: s.put(i, s[i]),
    "put of a large value": lambda s, i: s.put(i, b"x" * 300_000),
    "put with ttl": lambda s, i: s.put(i, 1, ttl=100),
    "add": lambda s, i: s.add(i),
    "swap": lambda s, i: s.swap(i, 1),
    "compare_and_put": lambda s, i: s.compare_and_put(i, s.version(i), 1),
    "modify": lambda s, i: s.modify(i, str),
    "put_many": lambda s, i: s.put_many({i: 1, "other": 2}),
    "update": lambda s, i: s.update([(i, 1)]),
    "remove": lambda s, i: s.remove(i),
    "del": lambda s, i: s.__delitem__(i),
    "pop": lambda s, i: s.pop(i),
    "popitem": lambda s, i: s.popitem(),
    "clear": lambda s, i: s.clear(),
}


@pytest.mark.parametrize("index", INDEXES)
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("readonly", [False, True])
def test_every_kind_of_change_wakes_with_the_version_that_it_made(seg, key, index, change, readonly):
    seg[index] = 1
    with shmvar.attach(key, readonly=readonly) as handle:
        version = seg.version(index)
        waiter = Waiter(handle, index, 30, newer_than=version)
        time.sleep(0.01)
        CHANGES[change](seg, index)
        got = waiter.result()
        assert got == seg.version(index) and (got > version or (index not in seg and got == 0))


@pytest.mark.parametrize("how", ["put", "setdefault", "add", "swap", "modify", "compare_and_put", "put_many"])
def test_creation_wakes_who_waits_for_a_missing_index(seg, how):
    for index in INDEXES:
        waiter = Waiter(seg, index, 30, newer_than=0)
        calls = {
            "put": lambda i: seg.put(i, 1),
            "setdefault": lambda i: seg.setdefault(i, 1),
            "add": lambda i: seg.add(i),
            "swap": lambda i: seg.swap(i, 1),
            "modify": lambda i: seg.modify(i, str, 0),
            "compare_and_put": lambda i: seg.compare_and_put(i, 0, 1),
            "put_many": lambda i: seg.put_many({i: 1}),
        }
        calls[how](index)
        assert waiter.result() == seg.version(index) > 0


def test_without_newer_than_it_is_the_version_of_now(seg):
    seg[1] = 1
    with pytest.raises(shmvar.WaitTimeoutError):
        seg.wait(1, 0.05)
    with pytest.raises(shmvar.WaitTimeoutError):
        seg.wait("missing", 0.05)
    with pytest.raises(shmvar.WaitTimeoutError):
        seg.wait(1, 0.05, newer_than=seg.version(1))
    for version in (0, seg.version(1) - 1, seg.version(1) + 1):
        assert seg.wait(1, 0, newer_than=version) == seg.version(1)
    assert seg.wait("missing", 0, newer_than=5) == 0


def test_a_timeout_is_kept_within_a_fifth_and_names_the_index(seg):
    times = []
    for timeout in (0.5, 0.5, 0.5):
        began = time.monotonic()
        with pytest.raises(shmvar.WaitTimeoutError, match=r"quiet.*0\.5") as caught:
            seg.wait("quiet", timeout)
        times.append(time.monotonic() - began)
        assert isinstance(caught.value, TimeoutError)
    assert min(times) >= 0.4 and min(times) <= 0.6


def test_changes_of_other_indexes_do_not_end_a_wait(seg, key, children):
    code = """
    s = shmvar.attach(key)
    print("go", flush=True)
    while True:
        for n in range(2000):
            s[n] = n
            s[f"{n}"] = n
    """
    children.append(helpers.start(code, key))
    began = time.monotonic()
    with pytest.raises(shmvar.WaitTimeoutError):
        seg.wait("other", 1)
    assert time.monotonic() - began >= 0.8


# --- the last change


PUBLISH = """
s, index, count = shmvar.attach(key), sys.argv[2], int(sys.argv[3])
for number in range(1, count + 1):
    s[index] = number
print(s.version(index), flush=True)
"""


@pytest.mark.parametrize("count", [1, 10, 3000])
@pytest.mark.parametrize("readonly", [False, True])
def test_f61_a_chain_of_waits_ends_with_the_last_change_and_wakes_at_most_once_for_each(seg, key, count, readonly):
    for turn in range(3):
        index = f"storm {turn}"
        publisher = subprocess.Popen(helpers.command(PUBLISH, key, index, count), stdout=-1, text=True)
        seen, versions = 0, []
        with shmvar.attach(key, readonly=readonly) as handle:
            while handle.get(index) != count:
                seen = handle.wait(index, 30, newer_than=seen)
                versions.append(seen)
        assert int(publisher.communicate(timeout=60)[0]) == seg.version(index)
        assert versions == sorted(set(versions)) and len(versions) <= count


def test_f61_threads_that_store_at_random_moments_are_never_missed(seg):
    """The change may come at any instant while the waiter goes to sleep; a missed one would cost a slice of 0.5 s."""
    delays = []
    for turn in range(400):
        version = seg.version("r")
        ready, stored = threading.Event(), []

        def store(turn=turn, ready=ready, stored=stored):
            ready.wait(30)
            for _ in range(turn * 7 % 900):
                pass
            seg["r"] = turn
            stored.append(time.monotonic())

        thread = threading.Thread(target=store)
        thread.start()
        ready.set()
        assert seg.wait("r", 30, newer_than=version) > version
        woken = time.monotonic()
        thread.join(30)
        delays.append(woken - stored[0])
    assert sorted(delays)[390] < 0.3


def test_all_waiters_of_many_indexes_wake(seg):
    waiters = [Waiter(seg, n % 50, 60, newer_than=0) for n in range(150)]
    time.sleep(0.1)
    seg.put_many({n: n for n in range(50)})
    assert all(waiter.result() > 0 for waiter in waiters)


# --- removal, expiry, destruction, interrupts


def test_removal_and_expiry_give_0(seg, key):
    seg[1] = 1
    waiter = Waiter(seg, 1, 30, newer_than=seg.version(1))
    time.sleep(0.05)
    helpers.run("shmvar.attach(key).remove(1)", key)
    assert waiter.result() == 0
    seg.put(1, 1, ttl=0.3)
    assert seg.wait(1, 30) == 0


@pytest.mark.parametrize("how", ["handle", "key", "process", "before"])
@pytest.mark.parametrize("readonly", [False, True])
def test_destroying_the_segment_ends_a_wait_with_not_found(new_key, how, readonly):
    key = new_key()
    with shmvar.attach(key) as segment:
        segment[1] = 1
        with shmvar.attach(key, readonly=readonly) as handle:
            if how == "before":
                segment.destroy()
            waiters = [Waiter(handle, index, 30) for index in (1, "missing")]
            time.sleep(0.05)
            if how == "handle":
                segment.destroy()
            elif how == "key":
                assert shmvar.destroy(key)
            elif how == "process":
                helpers.run("shmvar.destroy(key)", key)
            for waiter in waiters:
                error = waiter.result()
                assert isinstance(error, shmvar.SegmentNotFoundError) and isinstance(error, FileNotFoundError)
                assert str(key) in str(error)
            assert handle[1] == 1


def test_detaching_ends_a_wait_or_lets_it_end_by_itself(seg, key):
    handle = shmvar.attach(key)
    waiter = Waiter(handle, 1, 3, newer_than=0)
    time.sleep(0.1)
    handle.detach()
    seg[1] = 1
    got = waiter.result()
    assert got == seg.version(1) or isinstance(got, (shmvar.DetachedError, shmvar.WaitTimeoutError))


@pytest.mark.parametrize("readonly", [False, True])
def test_ctrl_c_ends_a_wait_without_timeout(seg, key, readonly):
    main = threading.main_thread()
    with shmvar.attach(key, readonly=readonly) as handle:
        for _ in range(3):
            timer = threading.Timer(0.05, lambda: signal.pthread_kill(main.ident, signal.SIGINT))
            with pytest.raises(KeyboardInterrupt):
                timer.start()
                handle.wait("never")
                pytest.fail("it changed")
            timer.join()
    seg["never"] = 1


def test_other_signals_do_not_end_a_wait(seg):
    old = signal.signal(signal.SIGUSR1, lambda *_: caught.append(1))
    caught, main = [], threading.main_thread()

    def disturb():
        for number in (1, 2, 3):
            time.sleep(0.05)
            signal.pthread_kill(main.ident, signal.SIGUSR1)
            helpers.until(lambda number=number: len(caught) == number, what="the handler")
        seg.put("s", 1)

    thread = threading.Thread(target=disturb)
    try:
        thread.start()
        assert seg.wait("s", 30, newer_than=0) == seg.version("s") and len(caught) == 3
        thread.join(30)
    finally:
        signal.signal(signal.SIGUSR1, old)


def test_f60_other_threads_run_while_one_waits(seg):
    waiter = Waiter(seg, 1, 30, newer_than=0)
    turns, until = 0, time.monotonic() + 0.3
    while time.monotonic() < until:
        turns += 1
    assert turns > 100 and waiter.thread.is_alive()
    seg[1] = 1
    assert waiter.result() == seg.version(1)


# --- what it costs, and who dies


COST = """
import resource, threading
s = shmvar.attach(key, readonly=sys.argv[2] == "True")
def wait(n):
    try:
        s.wait(n, 3)
    except shmvar.WaitTimeoutError:
        pass
threads = [threading.Thread(target=wait, args=(f"quiet {n}",)) for n in range(int(sys.argv[3]))]
for thread in threads: thread.start()
time.sleep(0.5)
def spent():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime, usage.ru_nvcsw
before = spent()
print("go", flush=True)
time.sleep(2)
after = spent()
for thread in threads: thread.join()
# For comparison: the same number of threads that only sleep and wake as often.
def sleep():
    for _ in range(int(sys.argv[4])):
        time.sleep(0.01)
threads = [threading.Thread(target=sleep) for _ in threads]
began = spent()
for thread in threads: thread.start()
for thread in threads: thread.join()
print(after[0] - before[0], after[1] - before[1], spent()[0] - began[0], flush=True)
"""


@pytest.mark.parametrize("readonly", [False, True])
def test_f61_100_waiters_do_not_poll(seg, key, readonly):
    """Two seconds cost less than 1 % of a core: 20 ms. A read-only handle cannot be woken: it looks every 50 ms."""
    seconds, switches, looks = (0.2, 10_000, 40) if readonly else (0.02, 1500, 4)
    costs = []
    # On a slow machine: at most twice what it costs there to start and sleep.
    while not costs or costs[-1][0] >= max(seconds, 2 * costs[-1][2]) or costs[-1][1] >= switches:
        assert len(costs) < 3, costs
        costs.append(tuple(map(float, helpers.run(COST, key, readonly, 100, looks).stdout.split()[1:])))


def test_waiters_are_not_woken_by_a_storm_on_other_indexes(seg, key, children):
    storm = "s = shmvar.attach(key)\nprint('go', flush=True)\nwhile True: s['busy'] = s.get('busy', 0) + 1"
    children.append(helpers.start(storm, key))
    before = seg.version("busy")
    seconds, switches, _ = helpers.run(COST, key, False, 20, 0).stdout.split()[1:]
    changes = seg.version("busy") - before
    # One index in 256 shares the wake word; even its waiters are woken at most 50 times a second.
    assert changes > 1000 and int(switches) < 3000 and float(seconds) < 0.5, (changes, seconds, switches)


@pytest.mark.parametrize("attempt", range(8))
def test_a_publisher_killed_between_storing_and_waking_leaves_nobody_asleep(seg, key, children, attempt):
    publisher = helpers.start(
        "s = shmvar.attach(key)\nprint('go', flush=True)\nwhile True: s['p'] = s.get('p', 0) + 1", key
    )
    children.append(publisher)
    with shmvar.attach(key, readonly=True) as reader:
        stop, last, handles = threading.Event(), [0, 0, 0], (seg, seg, reader)

        def follow(number):
            while not stop.is_set():
                try:
                    last[number] = handles[number].wait("p", 0.1 if stop.is_set() else 40, newer_than=last[number])
                except shmvar.WaitTimeoutError:
                    return

        threads = [threading.Thread(target=follow, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(0.05 + attempt * 0.013)
        helpers.kill(publisher.pid)
        version = seg.version("p")
        helpers.until(lambda: last == [version] * 3, timeout=8, what="the last change")
        stop.set()
        seg["p"] = "end"
        for thread in threads:
            thread.join(30)


def test_waiters_that_are_killed_leave_nothing_behind(seg, key, children):
    code = "s = shmvar.attach(key); print('go', flush=True); s.wait('w'); s.wait('w')"
    for _ in range(5):
        children += [helpers.start(code, key) for _ in range(2)]
        time.sleep(0.02)
        for child in children[-2:]:
            helpers.kill(child.pid)
        version = seg.version("w")
        waiter = Waiter(seg, "w", 30, newer_than=version)
        time.sleep(0.02)
        seg.add("w")
        assert waiter.result() > version
    assert seg.info().attached == 1 and seg.check().variables == 1


def test_a_waiter_that_is_stopped_sees_the_last_change_when_it_goes_on(seg, key, children):
    code = "s = shmvar.attach(key); v = s.version('w'); print('go', flush=True); print(s.wait('w', 60, newer_than=v))"
    child = helpers.start(code, key)
    children.append(child)
    time.sleep(0.05)
    os.kill(child.pid, signal.SIGSTOP)
    for number in range(100):
        seg["w"] = number
    os.kill(child.pid, signal.SIGCONT)
    assert int(child.stdout.readline()) == seg.version("w")


def test_a_forked_child_waits_on_the_handle_that_it_inherited(seg):
    child = helpers.fork(lambda: seg.put("answer", seg.wait("question", 30, newer_than=0)))
    time.sleep(0.05)
    seg["question"] = 1
    assert seg.wait("answer", 30, newer_than=0) == seg.version("answer") and seg["answer"] == seg.version("question")
    assert helpers.reap(child) == 0
