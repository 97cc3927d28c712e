"""The thread that listens to a server, in programs that fork, end, or have no file or thread left for it."""

import os
import random
import select
import signal
import threading
import time

import helpers
import pytest

import shmvar

pytest.importorskip("redis")
from helpers.subscriptions import channel_of, killed, numsub, soon, subscribed

from shmvar._remote import link, listener

PRESENT = """
import os
from shmvar._remote.connections import now
from shmvar._remote.listener import listener_of
s = shmvar.attach(key)
sub = listener_of(s._open).subscribe([s._requests.data + b"p:me"], run=True)
assert sub.stands(now() + 30)
"""


def test_a_forked_child_does_not_keep_the_presence_of_its_parent(seg, key, server, children):
    code = (
        f"{PRESENT}\nif os.fork() == 0:\n    sys.stdin.read()\n    os._exit(0)\nprint('go', flush=True)\ntime.sleep(99)"
    )
    child = helpers.start(code, key)
    children.append(child)
    channel = channel_of(seg, b"p:me")
    assert numsub(server, channel) == 1
    os.kill(child.pid, signal.SIGKILL)
    # The child of the child lives, and has what was open at the fork but for this connection.
    helpers.until(lambda: numsub(server, channel) == 0, 20)


def test_a_fork_while_it_connects_does_not_keep_it_either(seg, server, monkeypatch):
    """The connection is thrown away, for both."""
    opened, pids = link.Link.connect, []

    def connect(self, until):
        connection = opened(self, until)
        if threading.current_thread().name == "shmvar-listener" and not pids:
            pid = os.fork()
            if pid == 0:
                select.select([], [], [], 30)
                os._exit(0)
            pids.append(pid)
        return connection

    monkeypatch.setattr(link.Link, "connect", connect)
    killed(server)
    with subscribed(seg, b"p:fork") as subscription:
        helpers.until(lambda: pids and subscription.standing, 30)
        channel = channel_of(seg, b"p:fork")
        assert numsub(server, channel) == 1
        # As if this process had died: whoever has the connection, too, keeps it open.
        before = subscription.listener.number
        subscription.listener._conversation._sock.close()
        helpers.until(lambda: subscription.listener.number > before and subscription.standing, 30)
        assert numsub(server, channel) == 1
    os.kill(pids[0], signal.SIGKILL)
    os.waitpid(pids[0], 0)


@pytest.mark.parametrize("how", ["at its end", "by sys.exit", "by an exception"])
def test_a_program_ends_though_it_is_present(key, seg, how):
    ends = {"at its end": "", "by sys.exit": "sys.exit(0)", "by an exception": "raise SystemExit"}
    began = time.monotonic()
    done = helpers.run(f"{PRESENT}\n{ends[how]}", key)
    assert (done.stdout, done.stderr) == ("", "") and time.monotonic() - began < 30


def test_threads_wait_in_children_forked_while_the_parent_waits(seg):
    """The listener may be in the middle of anything at the fork."""
    stop = threading.Event()

    def busy():
        while not stop.is_set():
            with subscribed(seg, b"c:i%d" % random.randrange(1000)) as subscription:
                subscription.stands(soon())

    threads = [threading.Thread(target=busy) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        pids = [helpers.fork(lambda: seg.wait("never", 30, newer_than=5)) for _ in range(10)]
        assert [helpers.reap(pid) for pid in pids] == [0] * 10
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)


@pytest.mark.parametrize("lacks", ["files", "threads"])
def test_without_files_or_threads_it_is_a_typed_error_and_goes_on_later(seg, monkeypatch, lacks):
    def none(*_):
        raise OSError(24, "Too many open files") if lacks == "files" else RuntimeError("can't start new thread")

    monkeypatch.setattr(listener, "_listeners", {})
    monkeypatch.setattr(*((listener.socket, "socketpair") if lacks == "files" else (threading.Thread, "start")), none)
    for _ in range(2):
        with pytest.raises(shmvar.SegmentUnavailableError, match=f"no more {lacks}"):
            seg.wait("x", 5)
    monkeypatch.undo()
    with pytest.raises(shmvar.WaitTimeoutError):
        seg.wait("x", 0.1)


def test_a_process_that_has_no_file_for_a_moment_listens_again(key, seg):
    """Its connection is killed while every file is taken: the thread goes on trying."""
    code = """
    import os, resource, redis
    from shmvar._remote.connections import now
    s = shmvar.attach(key)
    seen = s.version("x")
    try:
        s.wait("x", 0.1)
    except shmvar.WaitTimeoutError:
        pass
    client = redis.Redis(unix_socket_path=sys.argv[2])
    client.ping()
    one = s._subscribed(["x"])
    assert one.stands(now() + 30)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    client.client_kill_filter(_type="pubsub")
    end = now() + 30
    while one.standing and now() < end:
        time.sleep(0.01)
    time.sleep(0.2)
    assert not one.standing
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert one.stands(now() + 30)
    print("stands")
    """
    assert helpers.run(code, key, key.partition("://")[2].partition("#")[0].partition("?")[0]).stdout == "stands\n"
