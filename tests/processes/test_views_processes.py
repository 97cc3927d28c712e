"""Large values between processes: forks, kills, stops, and readers that cannot pin a value."""

import ctypes
import gc
import os
import subprocess
import sys
import threading

import helpers
import numpy as np
import pytest
from helpers.arrays import MIB, array

import shmvar


@pytest.mark.parametrize("how", ["os.fork", "_Fork"])
def test_c11_a_forked_child_keeps_its_views_when_the_parent_drops_its_own(key, how):
    segment = shmvar.attach(key, 1 << 30)
    value = array(7)
    segment[1] = value
    view, copy = segment.view(1), segment[1]
    go_r, go_w = os.pipe()
    pid = os.fork() if how == "os.fork" else ctypes.CDLL(None)._Fork()
    if pid == 0:
        status = 1
        try:
            os.read(go_r, 1)
            same = how == "_Fork" or (np.array_equal(value, view) and np.array_equal(value, copy))
            segment[2] = array(8)
            same = same and np.array_equal(segment.view(2), array(8)) and len(segment) == 3
            del view, copy
            gc.collect()
            status = 0 if same else 2
        finally:
            os._exit(status)
    del view, copy
    gc.collect()
    for round_ in range(30):
        segment[1] = array(100 + round_)
    segment[3] = 3
    os.write(go_w, b"x")
    assert os.waitpid(pid, 0)[1] == 0
    segment.clear()
    segment.trim()
    assert segment.info().held == 0 and segment.info().attached == 1
    segment.check()


INHERIT = """
from contextlib import contextmanager

segment = shmvar.attach(key, 4 << 20)
expected = np.arange(60_000, dtype="u4")
segment[1], segment[2], segment[3] = expected, expected, 0
view, copy, dropped = segment.view(1), segment[1], segment.view(2)

holder = None

@contextmanager
def no_memory():
    subprocess.run(["mount", "-o", "remount,size=%d" % (used_of_shm() & ~4095), "/dev/shm"], check=True)
    yield
    subprocess.run(["mount", "-o", "remount,size=16m", "/dev/shm"], check=True)

def used_of_shm():
    seen = os.statvfs("/dev/shm")
    return (seen.f_blocks - seen.f_bfree) * seen.f_frsize

@contextmanager
def registry_lock_held():
    # As by a process that has it and stands still: longer than a fork waits.
    global holder
    holder = os.open("/dev/shm/" + segment.info().name, os.O_RDWR)
    fcntl.fcntl(holder, 37, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, (1 << 62) - 1, 1, 0))
    yield
    os.close(holder)

def look(what):
    if not (np.array_equal(view, expected) and np.array_equal(copy, expected)):
        print(what, "changed in the child's hands", flush=True)
        os._exit(3)

(go, gone), (ready, is_ready) = os.pipe(), os.pipe()
with eval(sys.argv[2])():
    child = os.fork()
    if child == 0:
        os.close(gone)
        if holder:
            os.close(holder)
        os.read(go, 1)
        look("inherited views, before any call,")
        del dropped
        segment[3] += 1                      # becomes a participant of its own
        os.write(is_ready, b"x")
        while os.read(go, 1):                # until its parent has ended
            pass
        with shmvar.attach(key, create=False) as other:
            for n in range(20):
                other[1] = np.full(60_000, n, "u4")
            other.trim()
            look("inherited views, after the parent's end,")
            del view, copy
            until = time.monotonic() + 30
            while other.info().held:         # the system may still be at its parent's end
                assert time.monotonic() < until, other.info()
                other.trim()
            other.check()
        print("whole", flush=True)
        os._exit(0)
os.close(is_ready)                          # so that the end of a child that failed is seen
del view, copy, dropped
for n in range(20):
    segment[1] = segment[2] = np.full(60_000, n, "u4")
segment.trim()
os.write(gone, b"x")
assert os.read(ready, 1) == b"x"
os._exit(0)
"""


@helpers.needs_mounts
@pytest.mark.parametrize("hindrance", ["no_memory", "registry_lock_held"])
def test_c11_a_child_that_cannot_be_given_a_number_keeps_its_views(key, hindrance):
    """Neither a full memory file system nor a process that stands still costs a child its inherited views."""
    mount = 'subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "none", "/dev/shm"], check=True)\n'
    code = "import fcntl, struct, subprocess, numpy as np\n" + mount + INHERIT
    done = helpers.run(code, key, hindrance, prefix=["unshare", "-m"])
    assert done.stdout.split() == ["whole"], done


def test_c11_threads_that_pin_while_another_forks(big):
    big[1] = array(1, 40_000)
    kept = [big.view(1)]
    stop = threading.Event()

    def read():
        while not stop.is_set():
            assert big.view(1)[0] == kept[0][0] == big[1][0]

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(40):
        pid = os.fork()
        if pid == 0:
            os._exit(0 if np.array_equal(kept[0], big[1]) and np.array_equal(big.view(1), kept[0]) else 1)
        assert os.waitpid(pid, 0)[1] == 0
    stop.set()
    for thread in threads:
        thread.join()
    kept.clear()
    gc.collect()
    big.clear()
    big.trim()
    assert big.info().held == 0
    big.check()


def test_f2_a_process_killed_with_views_open_leaves_no_span_behind(key):
    segment = shmvar.attach(key, 1 << 30)
    for index in range(8):
        segment[index] = array(index)
    code = "import sys, shmvar, time; s = shmvar.attach(sys.argv[1]); v = [s.view(i) for i in range(8)]; c = s[0]; "
    child = subprocess.Popen(
        [sys.executable, "-c", code + "print('ready', flush=True); time.sleep(60)", key], stdout=subprocess.PIPE
    )
    child.stdout.readline()
    segment.clear()
    assert segment.info().held >= 8 * MIB
    child.kill()
    child.wait()
    child.stdout.close()
    segment.trim()
    assert segment.info().held == 0 and segment.info().resident < MIB
    segment.check()


def test_where_the_system_runs_out_of_maps_get_copies(key):
    with open("/proc/sys/vm/max_map_count") as limit:
        if int(limit.read()) > 200_000:
            pytest.skip("the system allows more maps than a test should use up")
    code = """
import sys, numpy, shmvar
segment = shmvar.attach(sys.argv[1], 1 << 30)
segment[1] = numpy.arange(40_000.0)
kept = [segment[1] for _ in range(int(open("/proc/sys/vm/max_map_count").read()) // 2 + 500)]
assert all(a[-1] == 39_999 for a in kept[::100]) and kept[-1].flags.writeable
kept[-1][0] = 5
assert segment[1][0] == 0
"""
    subprocess.run([sys.executable, "-c", code, key], check=True, timeout=100)


def test_f54_no_mixed_value_is_ever_seen_of_two_alternating_arrays(key):
    segment = shmvar.attach(key, 1 << 30)
    values = [np.full(8 * MIB, fill, dtype="f8") for fill in (1.0, 2.0)]
    segment[1] = values[0]
    code = """
import sys, shmvar, numpy
segment = shmvar.attach(sys.argv[1], create=False)
values = [numpy.full(8 << 20, fill, dtype="f8") for fill in (1.0, 2.0)]
print("ready", flush=True)
for round_ in range(200):
    segment[1] = values[round_ % 2]
"""
    child = subprocess.Popen([sys.executable, "-c", code, key], stdout=subprocess.PIPE)
    child.stdout.readline()
    seen = 0
    while child.poll() is None:
        for found in (segment.view(1), segment[1]):
            assert found[0] in (1.0, 2.0) and (found == found[0]).all(), "a mixed value"
            seen += 1
    child.stdout.close()
    assert child.returncode == 0 and seen > 5
    with shmvar.attach(key, readonly=True) as reader:
        assert (reader[1] == reader[1][0]).all()
    segment.check()


def test_a_value_that_is_being_filled_by_a_stopped_process_blocks_nobody(key):
    segment = shmvar.attach(key, 2 << 30)
    code = "import sys, shmvar; s = shmvar.attach(sys.argv[1]); print('ready', flush=True)\n"
    code += "while True: s[1] = bytes(64 << 20)"
    child = subprocess.Popen([sys.executable, "-c", code, key], stdout=subprocess.PIPE)
    try:
        child.stdout.readline()
        for round_ in range(20):
            os.kill(child.pid, 19)
            try:
                segment[2] = array(round_)
                assert np.array_equal(segment.view(2), array(round_))
            except shmvar.SegmentBusyError:
                pass  # stopped just while it held the writer lock
            finally:
                os.kill(child.pid, 18)
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    segment.clear()
    segment.trim()
    segment.check()
    assert segment.info().resident < MIB


@pytest.mark.slow
def test_c11_children_that_end_without_a_word_use_nothing_up(key):
    # In a program of its own: a fork of the process that runs the tests takes twenty times as long.
    code = """
    import gc
    import numpy as np
    MIB = 1 << 20
    segment = shmvar.attach(key, 64 * MIB)
    for round_ in range(1_100):
        if round_ % 50 == 0:
            value = np.full(MIB, round_, dtype="f8")
            segment[1] = value
            view = segment.view(1)
        pid = os.fork()
        if pid == 0:
            os._exit(0 if view[0] == view[-1] == round_ // 50 * 50 else 1)
        assert os.waitpid(pid, 0)[1] == 0, round_
    held = segment.info().held
    assert held <= 80 * MIB, "the dead hold what they saw"
    del view
    gc.collect()
    segment.clear()
    segment.trim()
    assert segment.info().held == 0 and segment.info().attached == 1
    segment.check()
    """
    helpers.run(code, key, timeout=500)


def test_f60_a_reader_that_cannot_hold_a_value_still_can_be_interrupted(key):
    segment = shmvar.attach(key, 2 << 30)
    segment[1] = bytes(64 * MIB)
    code = """
import signal, sys, time, shmvar
reader = shmvar.attach(sys.argv[1], readonly=True)
def stop(*_):
    raise InterruptedError
signal.signal(signal.SIGALRM, stop)
signal.setitimer(signal.ITIMER_REAL, 1.0)
began = time.monotonic()
try:
    while True:
        reader[1]
except InterruptedError:
    print(time.monotonic() - began < 8)  # others wait for 10 s
"""
    child = subprocess.Popen([sys.executable, "-c", code, key], stdout=subprocess.PIPE, text=True)
    value = bytes(64 * MIB)
    while child.poll() is None:
        segment[1] = value
    assert child.communicate()[0] == "True\n"


def test_a_value_that_memory_cannot_hold_is_a_memory_error(key):
    code = """
import resource, sys, shmvar
segment = shmvar.attach(sys.argv[1], 2 << 30, trust=False)
segment[1] = bytearray(512 << 20)
used = int(open("/proc/self/statm").read().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (used + (300 << 20),) * 2)
try:
    segment[1]
except MemoryError:
    print("refused")
"""
    done = subprocess.run([sys.executable, "-c", code, key], capture_output=True, text=True, timeout=60)
    assert done.stdout == "refused\n", done.stderr
