"""Programs whose threads are greenlets (gevent, eventlet): each in its own process, for patching cannot be undone."""

import concurrent.futures
import signal
import socket
import subprocess
import sys
import time

import helpers
import pytest

# For each library: how it patches, and its names for what the tests need.
GEVENT = """
import gevent
from gevent import monkey, spawn, sleep, Timeout
def patch(**what): (monkey.patch_all if not what else monkey.patch_thread)()
def join(all): gevent.joinall(all, raise_error=True)
def kill(it): it.kill()
Killed = gevent.GreenletExit
def native(function, *args): return gevent.get_hub().threadpool.apply(function, args)
"""
EVENTLET = """
import warnings
warnings.simplefilter("ignore")
import eventlet, eventlet.tpool, greenlet
from eventlet import spawn, sleep, Timeout
def patch(**what): eventlet.monkey_patch(**what)
def join(all): [each.wait() for each in all]
def kill(it): it.kill()
Killed = greenlet.GreenletExit
def native(function, *args): return eventlet.tpool.execute(function, *args)
"""
HOLD = "s = shmvar.attach(key); s.lock('a').acquire(); print('go', flush=True); sys.stdin.read()"
LIBRARIES = {"gevent": GEVENT, "eventlet": EVENTLET}


@pytest.fixture(params=LIBRARIES)
def green(request):
    """Runs a program that has a library's names; unless told otherwise, it is patched before it imports `shmvar`."""
    pytest.importorskip(request.param)

    def program(code, patched="patch()"):
        return f"{LIBRARIES[request.param]}{patched}\nimport shmvar, threading\n", code

    def run(code, *args, patched="patch()", **options):
        drop, code = program(code, patched)
        return helpers.run(code, *args, drop=drop, **options)

    run.program = program
    return run


# --- who holds


TOTAL = """
s = shmvar.attach(key)
def request():
    for _ in range(5):
        with s.lock("stock", timeout=60):
            n = s["stock"]
            sleep(0.001)
            s["stock"] = n + 1
join([spawn(request) for _ in range(40)])
"""

PATCHED = {
    "before shmvar is imported": ("patch()", ""),
    "after it": ("import shmvar", "patch()"),
    "after its first lock": (
        "import shmvar",
        "lock = shmvar.attach(key).lock('stock'); lock.acquire(); patch(); lock.release()",
    ),
    "threads alone": ("patch(thread=True)", ""),
}


@pytest.mark.parametrize("how", PATCHED)
def test_greenlets_of_two_processes_exclude_one_another(seg, key, green, how):
    seg["stock"] = 0
    before, after = PATCHED[how]
    drop, code = green.program(f"{after}\n{TOTAL}", before)
    helpers.run_in_processes(code, key, count=2, drop=drop)
    assert seg["stock"] == 2 * 40 * 5 and seg.info().locks == {}


def test_threads_that_are_greenlets_exclude_one_another(seg, key, green):
    seg["stock"] = 0
    code = """
    s = shmvar.attach(key)
    def work():
        with s.lock("stock"):
            n = s["stock"]
            time.sleep(0.002)
            s["stock"] = n + 1
    threads = [threading.Thread(target=work) for _ in range(20)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    """
    green(code, key)
    assert seg["stock"] == 20


def test_a_greenlet_may_take_it_again_and_no_other_lets_go_of_it(key, green):
    code = """
    s = shmvar.attach(key)
    lock, seen = s.lock("a"), []
    def other():
        assert not lock.acquire(0) and not lock.acquire(0.05)
        try:
            lock.release()
        except RuntimeError:
            seen.append("refused")
    def first():
        with lock, s.lock("a", timeout=0):
            assert lock.acquire(0)
            join([spawn(other)])
            lock.release()
            join([spawn(other)])
        assert not lock.locked()
    join([spawn(first)])
    with lock:  # the greenlet in which the thread began
        with lock:
            join([spawn(other)])
        join([spawn(other)])
    assert seen == ["refused"] * 4 and not lock.locked()
    s.destroy()
    """
    green(code, key)


def test_unpatched_greenlets_are_their_thread(key, green):
    """As `threading.RLock` sees them, too."""
    code = """
    s = shmvar.attach(key)
    def other():
        with s.lock("a", timeout=0):
            pass
        return True
    with s.lock("a"):
        join([spawn(other)])
    assert s.info().locks == {}
    s.destroy()
    """
    green(code, key, patched="")


def test_f9_the_lock_of_a_greenlet_that_ended_is_let_go_and_is_not_the_next_ones(key, green):
    """The next greenlet mostly has the same number, which is an address."""
    code = """
    import gc
    s = shmvar.attach(key)
    numbers = []
    def leave(name):
        numbers.append(threading.get_ident())
        assert s.lock(name).acquire(10)
        assert s.lock("once more").acquire(10) and s.lock("once more").acquire(10)
    def look():
        numbers.append(threading.get_ident())
        assert not s.lock("kept").acquire(0)
        try:
            s.lock(0).release()
        except RuntimeError:
            return
        raise AssertionError("the dead one's")
    s.lock("kept").acquire()
    for turn in range(30):
        join([spawn(leave, 0)])
        gc.collect()
        join([spawn(look)])
    gc.collect()
    assert len(set(numbers)) < len(numbers), "no number came twice"
    assert set(s.info().locks) == {"kept"}, s.info().locks
    s.destroy()
    """
    green(code, key)


def test_a_greenlet_a_thread_of_the_pool_and_the_hub_s_thread_are_three(seg, key, green):
    seg["n"] = 0
    code = """
    s = shmvar.attach(key)
    def native_step():
        for _ in range(10):
            with s.lock("n", timeout=60):
                n = s["n"]
                os.sched_yield()
                s["n"] = n + 1
    def step():
        for _ in range(10):
            with s.lock("n", timeout=60):
                n = s["n"]
                sleep(0)
                s["n"] = n + 1
    join([spawn(native, native_step) for _ in range(4)] + [spawn(step) for _ in range(4)])
    with s.lock("n"):
        assert native(s.lock("n").acquire, 0.05) is False
    """
    green(code, key)
    assert seg["n"] == 80


# --- waiting


def test_f60_other_greenlets_run_while_one_waits_for_a_lock_or_a_change(seg, key, green, children):
    child = helpers.start(HOLD, key)
    children.append(child)
    code = """
    s = shmvar.attach(key)
    turns = 0
    def tick():
        global turns
        while True:
            turns += 1
            sleep(0.002)
    ticker = spawn(tick)
    for wait in (lambda: s.lock("a").acquire(0.5), lambda: s.wait("b", 0.5), lambda: s.wait_any(["b", "c"], 0.5)):
        turns = 0
        try:
            assert not wait()
        except shmvar.WaitTimeoutError:
            pass
        assert turns > 20, turns
    # A change by another greenlet of the thread ends the wait.
    spawn(lambda: (sleep(0.05), s.put("b", 1)))
    assert s.wait("b", 60)
    spawn(lambda: (sleep(0.05), s.put("c", 1)))
    assert s.wait_any(["b", "c"], 60) == ("c", s.version("c"))
    kill(ticker)
    """
    for patched in ("patch()", "patch(thread=True)"):
        green(code, key, patched=patched)


def test_other_greenlets_run_while_a_stopped_process_holds_the_segment_up(seg, key, green, children):
    children.append(helpers.start("s = shmvar.attach(key); s[1] = 1; print('go', flush=True); sys.stdin.read()", key))
    code = """
    s = shmvar.attach(key)
    turns, done = 0, []
    def work():
        s["x"] = 1
        with s.lock("l"):
            s["y"] = 2
        done.append(1)
    workers = [spawn(work) for _ in range(3)]
    for _ in range(100):
        turns += 1
        sleep(0.01)
    assert not done
    print(turns, flush=True)
    join(workers)
    print(len(done), flush=True)
    """
    drop, code = green.program(code)
    with helpers.Raw(seg) as raw:
        raw.hold_lock(children[0].pid)
        waiter = helpers.start(code, key, drop=drop)
        children.append(waiter)
        assert waiter.said == "100"
        raw.free_lock()
        assert waiter.stdout.readline() == "3\n" and waiter.wait(30) == 0


def test_f5_a_timeout_of_the_library_and_a_kill_end_a_wait_and_leave_nothing_held(seg, key, green):
    code = """
    s = shmvar.attach(key)
    lock = s.lock("a")
    taken, ended = [], []
    def limited():
        try:
            with Timeout(0.05):
                with lock:
                    taken.append(1)
        except Timeout:
            ended.append("timeout")
        try:
            lock.release()
        except RuntimeError:
            ended.append("not held")
    def endless():
        try:
            with lock:
                taken.append(1)
        except Killed:
            ended.append("killed")
            raise
    for _ in range(5):
        with lock:
            waiting = [spawn(endless) for _ in range(3)]
            join([spawn(limited) for _ in range(3)])
            for each in waiting:
                kill(each)
            sleep(0.01)
        assert s.info().locks == {}
        # A greenlet that gave up holds nothing up.
        def next_one():
            with s.lock("a", timeout=60):
                taken.append(2)
        join([spawn(next_one)])
    assert sorted(ended) == ["killed"] * 15 + ["not held"] * 15 + ["timeout"] * 15 and taken == [2] * 5, (ended, taken)
    """
    began = time.monotonic()
    green(code, key)
    assert time.monotonic() - began < 40, "each waited for a reservation that lapses"


def test_a_kill_that_comes_while_a_release_waits_is_raised_once_it_has_let_go(seg, key, green, children):
    children.append(helpers.start("s = shmvar.attach(key); s[1] = 1; print('go', flush=True); sys.stdin.read()", key))
    code = """
    import signal
    s = shmvar.attach(key)
    outcome, go = [], []
    signal.signal(signal.SIGUSR1, lambda *_: go.append(1))
    def hold():
        s.lock("a").acquire()
        print("held", flush=True)
        while not go:
            sleep(0.01)
        try:
            s.lock("a").release()
        except Killed:
            outcome.append("killed")
        try:
            s.lock("a").release()
        except RuntimeError:
            outcome.append("let go")
    it = spawn(hold)
    while not go:
        sleep(0.01)
    sleep(0.3)
    spawn(kill, it)
    sleep(0.1)
    assert not outcome
    print("waits", flush=True)
    while len(outcome) < 2:
        sleep(0.01)
    assert outcome == ["killed", "let go"], outcome
    """
    drop, code = green.program(code)
    waiter = helpers.start(code, key, drop=drop)
    children.append(waiter)
    with helpers.Raw(seg) as raw:
        assert waiter.said == "held"
        # The lock is held before the release begins, so nothing can be stored to say so.
        raw.hold_lock(children[0].pid)
        waiter.send_signal(signal.SIGUSR1)
        assert waiter.stdout.readline() == "waits\n"
        raw.free_lock()
    assert waiter.wait(30) == 0
    assert seg.info().locks == {}


def test_f5_ctrl_c_ends_the_wait_of_the_greenlet_in_which_the_program_began(seg, key, green, children):
    code = """
    s = shmvar.attach(key)
    holder = spawn(lambda: (s.lock("a").acquire(), sleep(60)))
    sleep(0.01)
    print("go", flush=True)
    try:
        s.lock("a").acquire()
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    """
    drop, code = green.program(code)
    waiter = helpers.start(code, key, drop=drop)
    children.append(waiter)
    time.sleep(0.2)
    waiter.send_signal(signal.SIGINT)
    assert waiter.stdout.readline() == "interrupted\n"
    assert waiter.wait(30) == 0


def test_a_thousand_greenlets_that_wait_for_one_lock_cost_little(seg, key, green, children):
    child = helpers.start(HOLD, key)
    children.append(child)
    code = """
    s = shmvar.attach(key)
    def wait():
        assert not s.lock("a").acquire(6)
    waiting = [spawn(wait) for _ in range(1000)]
    sleep(1)
    began, cpu = time.monotonic(), time.process_time()
    sleep(3)
    print((time.process_time() - cpu) / (time.monotonic() - began))
    join(waiting)
    """
    # 3 % on an idle machine; 12 % if each of them looked for itself.
    assert float(green(code, key).stdout) < 0.08


def test_greenlets_stand_in_line_and_whoever_leaves_it_leaves_it_whole(key, green):
    code = """
    s = shmvar.attach(key)
    served = []
    def work(number, timeout=None):
        try:
            with s.lock("a", timeout=timeout):
                served.append(number)
                sleep(0)
        except (shmvar.WaitTimeoutError, Killed):
            served.append(-number)
    for victims in ([], [0], [1], [5], [0, 1], [0, 5], [0, 1, 2, 3, 4, 5]):
        served.clear()
        with s.lock("a"):
            all = []
            for number in range(6):
                all.append(spawn(work, number, 0.05 if victims == [1] and number == 1 else None))
                sleep(0.002)
            sleep(0.05)
            for victim in victims:
                kill(all[victim])
            sleep(0.02)
        rest = [each for number, each in enumerate(all) if number not in victims]
        with Timeout(30):
            join(rest)
        assert [n for n in served if n not in victims and -n not in victims] == [
            n for n in range(6) if n not in victims], (victims, served)
        assert not s.lock("a").locked()
    from shmvar import _greenlets
    assert not _greenlets._queues
    s.destroy()
    """
    green(code, key)


def test_who_is_first_once_the_first_one_has_left_looks_for_what_others_let_go(seg, key, green, children):
    children.append(helpers.start(helpers.HOLD_A_LOCK, key))
    code = """
    s = shmvar.attach(key)
    def work():
        with s.lock("a"):
            pass
    first, second = spawn(work), spawn(work)
    sleep(0.05)
    kill(first)
    sleep(0.05)
    print("killed", flush=True)
    with Timeout(4):  # who is not told that he is the first one looks after 5 s
        join([second])
    """
    drop, code = green.program(code)
    waiter = helpers.start(code, key, drop=drop)
    children.append(waiter)
    children[0].stdin.write("\n")
    children[0].stdin.flush()
    assert waiter.wait(30) == 0


def test_the_next_in_line_is_told_of_a_release_and_need_not_look(key, green):
    """By then the waiter looks every 10 ms: a look of its own would not come within some turns of the hub."""
    code = """
    s = shmvar.attach(key)
    served = []
    def work():
        with s.lock("a"):
            served.append(1)
    for turn in range(10):
        with s.lock("a"):
            it = spawn(work)
            sleep(0.06)
        for _ in range(20):
            sleep(0)
        assert len(served) == turn + 1
        join([it])
    s.destroy()
    """
    green(code, key)


# --- queues


def test_f60_other_greenlets_run_while_one_waits_for_an_item_or_for_room(seg, key, green):
    code = """
    s = shmvar.attach(key)
    jobs, turns, got = s.queue("jobs", maxsize=1), 0, []
    def tick():
        global turns
        while True:
            turns += 1
            sleep(0.002)
    ticker = spawn(tick)
    def take(timeout=60):
        with jobs.take(timeout) as job:
            got.append(job)
    def late(wait):
        global turns
        turns = 0
        while turns <= 20:  # others run only while this one waits
            try:
                wait()
            except shmvar.WaitTimeoutError:
                continue
            raise AssertionError("in time")
    late(lambda: jobs.get(timeout=0.5))
    late(lambda: take(0.5))
    jobs.put("first")
    late(lambda: jobs.put("second", timeout=0.5))
    # What another greenlet of the thread does ends the wait.
    join([spawn(jobs.put, "second"), spawn(take), spawn(take)])
    assert got == ["first", "second"] and s.info().queues == {}
    kill(ticker)
    """
    for patched in ("patch()", "patch(thread=True)"):
        green(code, key, patched=patched)


def test_a_greenlet_that_is_killed_in_its_work_or_in_the_wait_keeps_no_item(seg, key, green):
    code = """
    s = shmvar.attach(key)
    jobs, begun = s.queue("jobs"), []
    def work():
        with jobs.take() as job:
            begun.append(job)
            sleep(60)
    for turn in range(5):
        waiting = [spawn(work) for _ in range(3)]
        sleep(0.02)
        jobs.put(turn)
        while not begun:
            sleep(0.002)
        # What the first one gives back, the next one may begin before it is killed, too.
        for each in waiting:
            kill(each)
        while jobs.qsize() != 1:
            sleep(0.002)
        assert set(begun) == {turn} and jobs.get(timeout=60) == turn
        begun.clear()
    assert s.info().queues == {}
    """
    green(code, key)


def test_greenlets_of_two_processes_share_the_work(seg, key, green):
    seg["done"] = 0
    jobs = seg.queue("jobs")
    for number in range(200):
        jobs.put(number)
    code = """
    s = shmvar.attach(key)
    jobs = s.queue("jobs")
    def work():
        for _ in range(10):
            with jobs.take(60) as job:
                sleep(0.001)
                s.add("done", job)
    join([spawn(work) for _ in range(5)])
    """
    drop, code = green.program(code)
    helpers.run_in_processes(code, key, count=4, drop=drop)
    assert seg["done"] == sum(range(200)) and seg.info().queues == {}


# --- a server


APPLICATION = """
import time
import shmvar
segment = shmvar.attach({key!r})
def application(environ, start_response):
    with segment.lock("n", timeout=30):
        n = segment["n"]
        time.sleep(0.005)
        segment["n"] = n + 1
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


def accepts(path):
    with socket.socket(socket.AF_UNIX) as it:
        return it.connect_ex(path) == 0


@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["", "preloaded"])
def test_requests_of_gunicorn_exclude_one_another(seg, key, tmp_path, preload):
    pytest.importorskip("gevent")
    pytest.importorskip("gunicorn")
    seg["n"] = 0
    (tmp_path / "app.py").write_text(APPLICATION.format(key=key))
    path = str(tmp_path / "socket")
    command = [sys.executable, "-m", "gunicorn", "-k", "gevent", "-w", "2", "-b", f"unix:{path}", *preload]
    server = subprocess.Popen([*command, "app:application"], cwd=tmp_path, stderr=subprocess.DEVNULL)
    try:
        # The path is there from `bind` on; until the server has called `listen` too, a connection is refused.
        helpers.until(lambda: accepts(path), 60, "the server")

        def request():
            with socket.socket(socket.AF_UNIX) as it:
                it.settimeout(60)
                it.connect(path)
                it.sendall(b"GET / HTTP/1.0\r\n\r\n")
                got = b"".join(iter(lambda: it.recv(4096), b""))
                return got.endswith(b"ok")

        with concurrent.futures.ThreadPoolExecutor(40) as pool:
            assert all(pool.map(lambda _: request(), range(120)))
        assert seg["n"] == 120
    finally:
        server.terminate()
        server.wait(40)
