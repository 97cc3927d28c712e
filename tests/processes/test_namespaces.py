"""Two pid namespaces share a segment: pids prove nothing, yet dead and living are told apart. Needs root, `unshare`."""

import os
import random
import signal
import time

import helpers
import pytest

import shmvar

pytestmark = helpers.needs_pid_namespaces
INSIDE = ["unshare", "-p", "-f", "--mount-proc", "--kill-child"]

WRITER = """
segment = shmvar.attach(key)
print(os.getpid(), flush=True)
turn = 0
while True:
    turn += 1
    segment[turn % 5] = bytes([turn % 256]) * (30, 3000, 200_000)[turn % 3]
"""
IDLE = "s = shmvar.attach(key); s['idle'] = b'i' * 100_000; print(os.getpid(), flush=True); sys.stdin.read()"


def inner(child):
    """The pid, in this namespace, of the program that `unshare` runs."""
    with open(f"/proc/{child.pid}/task/{child.pid}/children") as children:
        (pid,) = map(int, children.read().split())
    return pid


def state(pid):
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().split()[2]


def end(child):
    """Kills the program; returns when the kernel has released all it held (`unshare` waits for it and then ends)."""
    os.kill(inner(child), signal.SIGKILL)
    child.wait(20)


def whole(segment):
    for index in range(5):
        value = segment.get(index, b"x")
        assert value == value[:1] * len(value)


def test_f7_a_writer_killed_in_another_namespace_is_recognised_as_dead_at_once(seg, key, children):
    for number in range(12):
        child = helpers.start(WRITER, key, prefix=INSIDE)
        children.append(child)
        assert child.said == "1"
        seg["mine"] = number
        whole(seg)
        time.sleep(random.random() * 0.02)
        end(child)
        with helpers.promptly():
            seg["mine"] = -number
        whole(seg)
        assert seg["mine"] == -number and seg.info().attached == 1
        seg.check()


def test_f7_f8_a_dead_owner_of_the_lock_with_the_pid_of_somebody_living_is_dead(seg, key, children):
    children += [helpers.start(IDLE, key, prefix=INSIDE), helpers.start(IDLE, key, prefix=INSIDE)]
    assert {child.said for child in children} == {"1"} and seg.info().attached == 3
    with helpers.Raw(seg) as raw:
        numbers = [number for number, pid in raw.participants().items() if pid == 1]
        assert len(numbers) == 2
        end(children[0])
        assert seg.info().attached == 2
        raw.pack("<I", raw.LOCK, min(numbers) + 1)
        with helpers.promptly():
            seg["mine"] = 1
    assert seg["idle"] == b"i" * 100_000 and seg.info().attached == 2
    seg.check()
    end(children[1])
    assert seg.info().attached == 1


def test_f7_a_living_process_of_another_namespace_is_not_reaped(seg, key, children):
    child = helpers.start(WRITER, key, prefix=INSIDE)
    children.append(child)
    stopped = inner(child)
    for _ in range(15):
        time.sleep(random.random() * 0.01)
        os.kill(stopped, signal.SIGSTOP)
        try:
            helpers.until(lambda: state(stopped) in "Tt")
            whole(seg)
            with shmvar.attach(key) as other:
                assert other.info().attached == 2
            helpers.run("s = shmvar.attach(key); assert s.info().attached == 3", key)
            with helpers.Raw(seg) as raw:
                assert len(raw.participants()) == 2 or 1 in raw.participants().values()
                (lock,) = raw.unpack("<I", raw.LOCK)
            if not lock & 0x7FFFFFFF:
                seg["mine"] = 1
                seg.trim()
        finally:
            os.kill(stopped, signal.SIGCONT)
        helpers.until(lambda: seg.put("mine", 2) is None)
    end(child)
    whole(seg)
    seg["mine"] = 3
    assert seg.info().attached == 1


@pytest.mark.slow
def test_f7_a_put_behind_a_stopped_holder_in_another_namespace_is_busy_and_then_goes_on(seg, key, children):
    child = helpers.start(IDLE, key, prefix=INSIDE)
    children.append(child)
    stopped = inner(child)
    with helpers.Raw(seg) as raw:
        raw.hold_lock(1)
        os.kill(stopped, signal.SIGSTOP)
        try:
            began = time.monotonic()
            with pytest.raises(shmvar.SegmentBusyError):
                seg["mine"] = 1
            assert 8 <= time.monotonic() - began <= 15
            assert seg["idle"] == b"i" * 100_000 and seg.info().attached == 2
        finally:
            os.kill(stopped, signal.SIGCONT)
        end(child)
        seg["mine"] = 2
    assert seg["mine"] == 2 and seg["idle"] == b"i" * 100_000


def test_f7_values_cross_and_a_new_namespace_attaches_by_name(seg, key):
    seg["from outside"] = {"pid": os.getpid()}
    code = (
        "s = shmvar.attach(key, create=False); s['from inside'] = [os.getpid(), s['from outside'], s.info().attached]"
    )
    helpers.run(code, key, prefix=INSIDE)
    assert seg["from inside"] == [1, {"pid": os.getpid()}, 2]
