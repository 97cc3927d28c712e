"""What goes on in a segment, for displays: right numbers, and no waiting for a process that stands still."""

import os
import signal
import subprocess
import sys
import threading
import time

import helpers
import pytest

import shmvar
from shmvar._core import _activity, _memory

USES = ("used", "table", "held", "filling", "spare", "absent")


def test_the_numbers_are_those_of_info_and_changes_grow(seg, key):
    before = _activity(seg)["changes"]
    for n in range(10):
        seg[n] = n
    found, info = _activity(seg), seg.info()
    assert found["changes"] >= before + 10
    for name in ("size", "used", "count", "held", "perm", "uid", "evicted"):
        assert found[name] == getattr(info, name), name
    assert [p["pid"] for p in found["participants"]] == [os.getpid()]
    assert abs(found["participants"][0]["attached_at"] - time.time()) < 600
    assert found["writer"] is None and found["gone"] is False
    seg.destroy()
    assert _activity(seg)["gone"] is True
    seg.detach()
    with pytest.raises(shmvar.DetachedError):
        _activity(seg)


def test_waiters_and_readers_through_a_read_only_handle(seg, key, children):
    program = "import shmvar, sys; shmvar.attach(sys.argv[1]).wait('never', 500)"
    waiters = [subprocess.Popen([sys.executable, "-c", program, key]) for _ in range(2)]
    children.extend(waiters)
    with shmvar.attach(key, readonly=True) as reader:
        helpers.until(lambda: _activity(reader)["waiting"] >= 1, 60, "the waiters")
        pids = {process.pid for process in waiters}
        helpers.until(lambda: pids <= {p["pid"] for p in _activity(reader)["participants"]}, 60, "the processes")
        assert _memory(reader, 4)[0].keys() == set(USES)


def test_a_mark_that_a_waiter_left_does_not_count_where_no_process_is_attached(seg, key):
    with pytest.raises(shmvar.WaitTimeoutError):
        seg.wait("never", 0.05)
    with shmvar.attach(key, readonly=True) as reader:
        assert _activity(reader)["waiting"] == 1  # its mark stays, as docs/protocol.md says
        seg.detach()
        assert _activity(reader)["waiting"] == 0


def test_who_watches_all_changes_counts_as_one(seg):
    changes = seg.changes()
    watcher = threading.Thread(target=lambda: list(changes), daemon=True)
    watcher.start()
    helpers.until(lambda: _activity(seg)["waiting"] == 1, 60, "the watcher")
    seg["x"] = 1
    helpers.until(lambda: _activity(seg)["waiting"] == 1, 60, "the watcher")
    changes.close()
    watcher.join(60)


def test_nothing_waits_for_a_writer_that_is_stopped(seg, key, children):
    program = (
        "import shmvar, sys\n"
        "s = shmvar.attach(sys.argv[1])\n"
        "print('ready', flush=True)\n"
        "while True: s.put_many({n: b'x' * 3000 for n in range(2000)})"
    )
    writer = subprocess.Popen([sys.executable, "-c", program, key], stdout=subprocess.PIPE)
    children.append(writer)
    writer.stdout.readline()

    def holds():
        writer.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, writer.pid, os.WSTOPPED | os.WNOWAIT)
        if _activity(seg)["writer"] == writer.pid:
            return True
        writer.send_signal(signal.SIGCONT)
        time.sleep(0.001)
        return False

    helpers.until(holds, 60, "a stop with the lock held")
    began = time.monotonic()
    found = _activity(seg)
    assert found["writer"] == writer.pid and sum(_memory(seg, 100)[0].values()) > 0
    assert "variables=" in repr(seg)
    assert time.monotonic() - began < 5  # who waits for the lock waits for 10 s
    writer.send_signal(signal.SIGCONT)


def test_a_map_of_the_memory_counts_every_byte_once_by_its_use(seg):
    seg.update({n: n for n in range(20_000)})
    seg["large"] = b"x" * (8 << 20)
    view = seg.view("large")
    seg["large"] = b"y" * (8 << 20)
    for cells in (0, 1, 7, 100):
        found, parts = _memory(seg, cells)
        assert tuple(found) == USES and len(parts) == cells
        if cells:
            assert {use: sum(part[use] for part in parts) for use in USES} == found
    assert 8 << 20 <= found["held"] < 9 << 20 and found["held"] == seg.info().held
    assert found["used"] >= 8 << 20 and found["table"] >= 20_000 * 32 and found["filling"] == 0
    assert sum(found.values()) % (16 << 20) == 0  # zones
    assert found["spare"] == seg.info().spare
    parts = _memory(seg, 64)[1]
    assert sum(part["held"] > 0 for part in parts) < 40  # it lies in one place
    del view
    seg.clear()
    seg.trim()
    found = _memory(seg, 1)[0]
    assert found["held"] == 0 and found["used"] < 1 << 20
