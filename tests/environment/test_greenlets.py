"""Programs whose threads are greenlets (gevent, eventlet): each in its own process, for patching cannot be undone."""

import concurrent.futures
import socket
import subprocess
import sys

import helpers
import pytest

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
