"""Forks of every kind, descriptors that the program closes, and a writer lock that a living process holds."""

import os
import signal
import textwrap
import threading
import time

import helpers
import pytest

import shmvar

# --- forks

CHILD = """
def use(segment, number):
    signal.alarm(30)
    assert segment["before"] == [1] * 5000
    segment[number] = ["child", number]
    segment[f"large {number}"] = bytes([number % 256]) * 200_000
    assert segment[number] == ["child", number] and len(segment[f"large {number}"]) == 200_000
    with shmvar.attach(key) as again:
        again[f"again {number}"] = number
    segment.remove(f"again {number}")

def verify(segment, numbers):
    for number in numbers:
        assert segment[number] == ["child", number]
        assert segment[f"large {number}"] == bytes([number % 256]) * 200_000
    segment["parent"] = "goes on"
    assert segment.info().attached == 1, segment.info()
    print(segment.check().variables)

segment = shmvar.attach(key)
segment["before"] = [1] * 5000
"""

FORKS = {
    "os.fork": "fork = os.fork",
    "os.forkpty": "fork = lambda: os.forkpty()[0]",
    "_Fork": """
import ctypes
fork = ctypes.PyDLL(None)._Fork
""",
    "raw clone": """
import ctypes
libc = ctypes.PyDLL(None)
libc.syscall.restype = ctypes.c_long
clone = {"x86_64": 56, "aarch64": 220}[os.uname().machine]
fork = lambda: libc.syscall(clone, signal.SIGCHLD, 0, 0, 0, 0)
""",
}


@pytest.mark.parametrize("how", FORKS)
def test_f57_c7_a_child_of_any_fork_uses_the_handle_it_inherited(key, how):
    if how == "_Fork" and not hasattr(__import__("ctypes").CDLL(None), "_Fork"):
        pytest.skip("the C library has no _Fork")
    code = """
    for number in range(8):
        pid = fork()
        if pid == 0:
            status = 1
            try:
                use(segment, number)
                status = 0
            except BaseException as error:
                print(repr(error), flush=True)
            os._exit(status)
        segment["parent meanwhile"] = number
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    verify(segment, range(8))
    """
    code = CHILD + FORKS[how] + textwrap.dedent(code)
    assert helpers.run(code, key).stdout.strip() == "19"


def test_a_grandchild_and_a_child_of_a_dead_parent_go_on(key):
    code = """
    def chain(depth):
        pid = os.fork()
        if pid:
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        try:
            use(segment, depth)
            status = chain(depth + 1) if depth < 5 else 0
        except BaseException as error:
            print(repr(error), flush=True)
            status = 1
        os._exit(status)
    assert chain(0) == 0
    ended, told = os.pipe(), os.pipe()
    middle = os.fork()
    if middle == 0:
        if os.fork() == 0:
            os.read(ended[0], 1)
            use(segment, 99)
            os.write(told[1], b"x")
        os._exit(0)
    os.waitpid(middle, 0)
    os.write(ended[1], b"x")
    assert os.read(told[0], 1) == b"x"
    until = time.monotonic() + 30
    while segment.info().attached > 1 and time.monotonic() < until:  # it said so before its end
        time.sleep(0.01)
    verify(segment, [0, 1, 2, 3, 4, 5, 99])
    """
    assert helpers.run(CHILD + textwrap.dedent(code), key).stdout.strip() == "16"


@pytest.mark.parametrize("ending", ["os._exit(0)", "os.kill(os.getpid(), signal.SIGKILL)", "sys.exit(0)"])
def test_f56_a_fork_while_other_threads_put_leaves_both_sides_working(key, ending):
    code = """
    import threading, warnings
    warnings.filterwarnings("ignore", ".*multi-threaded")  # from Python 3.12 on
    segment, stop = shmvar.attach(key), []
    segment["before"] = "here"
    def work(number):
        turn = 0
        while not stop:
            turn += 1
            segment[number] = bytes([turn % 256]) * (30, 3000, 100_000)[turn % 3]
            assert segment[number] == bytes([turn % 256]) * (30, 3000, 100_000)[turn % 3]
            if turn % 7 == 0:
                with shmvar.attach(key) as other:
                    other.pop(number)
    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for turn in range(100):
        pid = os.fork()
        if pid == 0:
            signal.alarm(30)
            try:
                segment["child"] = turn
                segment["span"] = b"s" * 60_000
                for number in range(3):
                    value = segment.get(number, b"x")
                    assert value == value[:1] * len(value)
                assert segment["child"] == turn and segment["before"] == "here" and len(segment["span"]) == 60_000
            except BaseException as error:
                print(repr(error), flush=True)
                os._exit(1)
            ENDING
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert status in (0, -9), status
        assert segment["child"] == turn
    stop.append(1)
    for thread in threads:
        thread.join()
    assert segment.info().attached == 1, segment.info()
    segment.check()
    """
    if "sys.exit" in ending:
        code = code.replace("ENDING", "raise SystemExit")
    done = helpers.run(code.replace("ENDING", ending), key, timeout=100)
    assert done.stdout == "" and done.stderr == ""


def test_a_child_that_ends_does_not_release_its_parents_part(seg):
    seg[1] = b"x" * 100_000
    for number in range(20):
        helpers.in_child(lambda: None)
        helpers.in_child(lambda number=number: seg.put(2, number))
        helpers.in_child(seg.detach)
        assert seg.info().attached == 1 and seg[2] == number
    seg[1] = "still"


def test_a_child_may_detach_destroy_and_attach_anew(key):
    with shmvar.attach(key) as segment:

        def child():
            segment.destroy()
            segment.detach()
            with shmvar.attach(key) as new:
                assert new.created
                new[1] = "new"

        segment[1] = "old"
        helpers.in_child(child)
        assert segment[1] == "old" and not segment.detached
        with shmvar.attach(key, create=False) as new:
            assert new[1] == "new"


def test_a_child_uses_a_segment_that_was_destroyed(seg):
    seg[1] = "old"
    seg.destroy()

    def child():
        assert seg[1] == "old"
        seg[2] = b"child" * 100_000

    helpers.in_child(child)
    assert seg[2] == b"child" * 100_000 and len(seg) == 2


# --- closed descriptors


@pytest.mark.parametrize("fork", [False, True])
def test_c6_after_closerange_calls_work_or_are_typed_errors_and_no_other_file_is_damaged(key, tmp_path, fork):
    code = """
    fork = sys.argv[3] == "True"
    segment, reader = shmvar.attach(key), shmvar.attach(key, readonly=True)
    segment.update({1: "one", 2: b"x" * 100_000, "three": [3] * 1000})
    def use(segment, done):
        calls = [
            lambda: segment.put(1, "new"), lambda: segment[1], lambda: segment.put(2, b"y" * 300_000),
            lambda: segment[2], lambda: segment.check().variables,
            lambda: reader[2], lambda: reader.get(1), lambda: segment.update({n: "z" * n for n in range(10, 3000)}),
            lambda: segment.remove(10), lambda: segment.trim(), lambda: segment.info(), lambda: dict(segment),
            lambda: segment.put(3, b"w" * 5_000_000), lambda: segment[3], lambda: shmvar.attach(key).put(5, 5),
            lambda: shmvar.attach(key, readonly=True)[5], lambda: segment.clear(),
        ]
        for call in calls:
            try:
                call()
                done.append(1)
            except (shmvar.Error, KeyError) as error:
                print(type(error).__name__, error, flush=True)
    os.closerange(3, 4096)
    mine = []
    for number in range(40):
        path = f"{sys.argv[2]}/file{number}"
        mine.append((os.open(path, os.O_RDWR | os.O_CREAT), path, f"content {number} ".encode() * 5000))
        os.write(mine[-1][0], mine[-1][2])
    if fork:
        pid = os.fork()
        if pid == 0:
            use(segment, [])
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
    done = []
    use(segment, done)
    segment.detach(); reader.detach()
    del segment, reader
    for fd, path, content in mine:
        assert os.fstat(fd).st_size == len(content)
        assert open(path, "rb").read() == content
        os.close(fd)
    """
    done = helpers.run(code, key, tmp_path, fork)
    assert done.stderr == ""
    with shmvar.attach(key, create=False) as segment:
        segment[1] = "others go on"
        assert segment[1] == "others go on"
        segment.check()
        assert segment.info().attached == 1


def test_closed_descriptors_do_not_make_a_living_writer_look_dead(key, children):
    code = """
    segment = shmvar.attach(key)
    os.closerange(3, 4096)
    print("ready", flush=True)
    turn = 0
    while True:
        turn += 1
        segment[1] = bytes([turn % 256]) * 400_000
    """
    children.append(helpers.start(code, key))
    with shmvar.attach(key) as segment:
        for number in range(50):
            with shmvar.attach(key) as other:
                other[2] = number
            helpers.in_child(lambda: segment.put(3, 1))
            value = segment.get(1, b"x")
            assert value == value[:1] * len(value)
        assert segment.info().attached == 2
        helpers.end(children[0])
        segment.check()
        assert segment.info().attached == 1


# --- a lock that a living process holds

IDLE = "s = shmvar.attach(key); print('ready', flush=True); sys.stdin.read()"


@pytest.fixture
def held(seg, key, children):
    """A segment whose writer lock is held by a living process that does nothing."""
    seg.update({1: "one", "span": b"s" * 100_000})
    child = helpers.start(IDLE, key)
    children.append(child)
    with helpers.Raw(seg) as raw:
        raw.hold_lock(child.pid)
        yield seg, child, raw
        raw.free_lock()


@pytest.fixture(autouse=True)
def _no_alarm():
    yield
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.slow
def test_f5_f60_a_put_behind_a_living_holder_is_busy_after_10_s_and_others_run_meanwhile(held):
    seg, child, raw = held
    turns, stop = [0], []

    def count():
        while not stop:
            turns[0] += 1
            assert seg[1] == "one" and len(seg["span"]) == 100_000 and len(seg) == 2
            time.sleep(0.001)

    thread = threading.Thread(target=count)
    thread.start()
    began = time.monotonic()
    with pytest.raises(shmvar.SegmentBusyError, match=str(child.pid)):
        seg[1] = "two"
    took = time.monotonic() - began
    stop.append(1)
    thread.join()
    assert 8 <= took <= 15 and turns[0] > 100
    raw.free_lock()
    assert seg[1] == "one"
    seg[1] = "two"
    assert seg[1] == "two"


def test_f5_ctrl_c_interrupts_a_put_that_waits_and_the_lock_is_as_it_was(held):
    seg, _, raw = held
    timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
    with helpers.promptly(), pytest.raises(KeyboardInterrupt):
        timer.start()
        seg["new"] = b"x" * 200_000
    timer.join()
    raw.free_lock()
    assert "new" not in seg
    seg["new"] = 1
    seg.remove("new")
    assert seg.check().variables == 2


def test_a_signal_handler_that_returns_does_not_end_the_wait(held):
    seg, _, raw = held
    calls, freed = [], []

    def disturb():
        for number in (1, 2, 3):
            time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGUSR1)
            helpers.until(lambda number=number: len(calls) == number, 3, "the handler")
        freed.append(1)
        raw.free_lock()

    old = signal.signal(signal.SIGUSR1, lambda *_: calls.append(1))
    thread = threading.Thread(target=disturb)
    try:
        thread.start()
        seg[1] = "after"
        assert freed, "it did not wait"
        thread.join(30)
    finally:
        signal.signal(signal.SIGUSR1, old)
    assert seg[1] == "after" and len(calls) == 3


def test_f1_a_lock_whose_owner_dies_is_taken_over_within_a_second(held):
    seg, child, _ = held
    child.kill()
    child.wait(10)
    with helpers.promptly():
        seg[1] = "after"
    assert seg[1] == "after"


def test_f8_a_dead_owner_whose_pid_lives_again_is_still_dead(held):
    seg, child, raw = held
    (number,) = [number for number, pid in raw.participants().items() if pid == child.pid]
    child.kill()
    child.wait(10)
    raw.pack("<I", raw.PARTICIPANTS + 64 * number + 4, os.getpid())
    with helpers.promptly():
        seg[1] = "after"
    assert seg.info().attached == 1
