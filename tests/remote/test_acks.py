"""Changes that wait for replicas, or for the primary's file."""

import contextlib
import signal
import threading
import time

import helpers
import pytest
from helpers import clusters, servers

import shmvar
from shmvar._remote.link import Link

pytestmark = pytest.mark.xdist_group("acks")


@pytest.fixture
def name(pair):
    key = f"acks-{time.monotonic_ns()}"
    yield key
    shmvar.destroy(pair.primary.url(key))


CHANGES = {
    "put": lambda seg: seg.put("p", 1),
    "put of a large value": lambda seg: seg.put("p", bytes(100_000)),
    "add": lambda seg: seg.add("a"),
    "add of a long int": lambda seg: seg.add("a", 10**30),
    "swap": lambda seg: seg.swap("a", "new"),
    "modify": lambda seg: seg.modify("a", lambda old: old + 1),
    "compare_and_put": lambda seg: seg.compare_and_put("a", seg.version("a"), "new"),
    "setdefault": lambda seg: seg.setdefault("d", 5),
    "remove": lambda seg: seg.remove("a"),
    "pop": lambda seg: seg.pop("a"),
    "touch": lambda seg: seg.touch("a"),
    "expire": lambda seg: seg.expire("a", 1000),
    "put_many": lambda seg: seg.put_many({"p": 1, "q": bytes(50_000)}),
    "clear": lambda seg: seg.clear(),
    "resize": lambda seg: seg.resize(1 << 25),
    "attach with a size": lambda seg: shmvar.attach(seg.url, 1 << 31),
    "attach that creates": lambda seg: shmvar.attach(seg.url.replace("#", "#new-")),
    "destroy": lambda seg: seg.destroy(),
}
"""Each call that changes something."""


def acks_of(pair):
    """How many requests had to wait for a replica so far."""
    found = pair.primary.raw(b"INFO", b"commandstats")
    return int(found.partition(b"cmdstat_wait:calls=")[2].partition(b",")[0] or 0)


@pytest.mark.parametrize("call", CHANGES)
def test_each_change_waits_for_the_replica(pair, name, call):
    segment = shmvar.attach(pair.primary.url(name, acks=1))
    segment["a"] = 1
    before = acks_of(pair)
    CHANGES[call](segment)
    assert acks_of(pair) > before
    shmvar.destroy(segment.url.replace("#", "#new-"))


@contextlib.contextmanager
def silent(pair):
    """The replica stands still, and has said that it has all that was written before."""
    helpers.until(lambda: pair.primary.call("WAIT", 1, 100) == 1)
    pair.replicas[0].process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        pair.replicas[0].process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("call", CHANGES)
def test_without_the_replica_each_change_is_an_error_with_the_true_numbers(pair, name, call):
    """Each repetition writes something, so that no `WAIT` says yes for what another connection wrote."""
    segment = shmvar.attach(pair.primary.url(name, acks=1, timeout=1.2))
    local = shmvar.attach(pair.primary.url(name))
    local["a"] = 1
    with silent(pair), pytest.raises(shmvar.SegmentUnavailableError, match=r"0 of the 1 replicas") as caught:
        CHANGES[call](segment)
    assert caught.value.maybe_applied is True and "may be lost" in str(caught.value)
    shmvar.destroy(local.url.replace("#", "#new-"))


@pytest.mark.parametrize("create", [None, True, False])
def test_attach_waits_for_the_replica_on_a_server_whose_memory_is_full_by_then(pair, name, monkeypatch, create):
    plain, url = pair.primary.url(name), pair.primary.url(name, acks=1)
    if create is False:
        shmvar.attach(plain)
    script, calls = Link.script, []

    def then_full(link, *arguments, **named):
        answer = script(link, *arguments, **named)
        calls.append(answer)
        pair.primary.call("CONFIG", "SET", "maxmemory", "1mb")
        return answer

    before = acks_of(pair)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(Link, "script", then_full)
            segment = shmvar.attach(url, 2 << 30, create=create)
    finally:
        pair.primary.call("CONFIG", "SET", "maxmemory", "0")
    assert len(calls) == 2 and acks_of(pair) > before
    assert segment.created == (create is not False) and segment.size == 2 << 30
    segment["n"] = 1
    assert shmvar.attach(plain, create=False)["n"] == 1


def test_a_server_that_falls_silent_after_an_answer_that_is_not_enough_is_told_with_both(pair, name):
    segment = shmvar.attach(pair.primary.url(name, acks=1, timeout=1.2))
    segment.add("n")  # the server knows the script from now on
    real, answered = segment._link._answers, []

    def answers(connection, count):
        found = real(connection, count)
        answered.append(found)
        pair.primary.process.send_signal(signal.SIGSTOP)
        return found

    segment._link._answers = answers
    told = r"0 of the 1 replicas .*, and then there was no answer \(timed out\); the add to 'n' was applied there"
    try:
        with silent(pair), pytest.raises(shmvar.SegmentUnavailableError, match=told) as caught:
            segment.add("n")
    finally:
        pair.primary.process.send_signal(signal.SIGCONT)
        del segment._link._answers
    assert answered and caught.value.maybe_applied is True


def test_a_replica_that_comes_back_in_time_makes_the_change_return(pair, name):
    segment = shmvar.attach(pair.primary.url(name, acks=1, timeout=60))
    segment["n"] = 0
    results = []
    with silent(pair):
        thread = threading.Thread(target=lambda: results.append(segment.add("n")))
        thread.start()
        # It has been carried out, and is not acknowledged.
        local = shmvar.attach(pair.primary.url(name))
        helpers.until(lambda: local["n"] == 1)
        assert not results
    thread.join(60)
    assert results == [1] and local["n"] == 1


def test_more_replicas_than_there_are_is_an_error_that_counts_them(pair, name):
    with pytest.raises(shmvar.SegmentUnavailableError, match="1 of the 2 replicas"):
        shmvar.attach(pair.primary.url(name, acks=2, timeout=2))


def test_reads_and_an_attach_that_finds_need_no_replica(pair, name):
    shmvar.attach(pair.primary.url(name))["a"] = 1
    with silent(pair), helpers.promptly():
        segment = shmvar.attach(pair.primary.url(name, acks=1))
        reader = shmvar.attach(pair.primary.url(name, acks=1), readonly=True)
        assert segment["a"] == reader["a"] == 1 and len(segment) == 1 and segment.get_many(["a"]) == {"a": 1}
        assert segment.info().count == 1 and segment.check().variables == 1


def test_a_try_that_wrote_nothing_needs_no_replica(pair, name):
    """An empty queue, and a lock of somebody else: there is nothing that a replica could have."""
    local = shmvar.attach(pair.primary.url(name))
    held, release = threading.Event(), threading.Event()

    def hold():
        with local.lock("l"):
            held.set()
            release.wait(60)

    # A thread is another owner than its process' other threads.
    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    assert held.wait(60)
    segment = shmvar.attach(pair.primary.url(name, acks=1))
    link = segment._link
    answers = link._answers
    # What the connection wrote before, no replica has.
    link._answers = lambda connection, count: [*answers(connection, count)[: max(count - 1, 1)], *[0] * (count > 1)]
    with helpers.promptly():
        assert segment.lock("l").acquire(0) is False
        with pytest.raises(shmvar.QueueEmptyError):
            segment.queue("q").get_nowait()
    del link._answers
    release.set()
    thread.join()


def test_a_change_and_its_wait_are_one_round_trip(pair, name):
    between = servers.Proxy(pair.primary.socket)
    try:
        segment = shmvar.attach(pair.primary.tcp(name, port=between.port, acks=1))
        segment["n"] = 0
        requests = []
        between.held = lambda data: requests.append(data) and False
        segment.add("n")
        assert len(requests) == 1 and b"EVALSHA" in requests[0] and b"WAIT" in requests[0]
    finally:
        between.end()


def test_an_answer_that_is_lost_waits_for_the_replica_again(pair, name):
    """The repetition finds the change made, and must not take a `WAIT` that waits for nothing for its word."""
    between = servers.Proxy(pair.primary.socket)
    try:
        local = shmvar.attach(pair.primary.url(name))
        segment = shmvar.attach(pair.primary.tcp(name, port=between.port, acks=1, timeout=1))
        local["n"] = 0
        segment.add("n")
        for change, kept in (("add", 2), ("destroy", 0)):
            with silent(pair):
                between.lost = 0
                between.lose_after = lambda data: b"EVALSHA" in data and not between.lost
                with pytest.raises(shmvar.SegmentUnavailableError, match="0 of the 1 replicas"):
                    segment.add("n") if change == "add" else segment.destroy()
                between.lose_after = None
            assert between.lost == 1
            assert local["n"] == kept if change == "add" else not shmvar.exists(local.url)
    finally:
        between.end()


@pytest.mark.slow
def test_a_large_value_does_not_run_ahead_of_the_replica(pair, name):
    segment = shmvar.attach(pair.primary.url(name), 1 << 30)
    before = acks_of(pair)
    segment["v"] = bytes(150 << 20)
    assert acks_of(pair) - before >= 2
    assert len(segment["v"]) == 150 << 20
    del segment["v"]


def test_without_a_replica_a_large_value_waits_for_none(own_server):
    alone = own_server()
    segment = shmvar.attach(alone.url("x"), 1 << 30)
    with helpers.promptly(20):
        segment["v"] = bytes(70 << 20)
    assert b"cmdstat_wait" not in alone.raw(b"INFO", b"commandstats")


def version_of(server):
    found = clusters.info(server, "server")
    return tuple(int(part) for part in str(found["redis_version"]).split(".")[:2])


def test_fsync_waits_for_the_file_or_is_refused(own_server):
    bare = own_server()
    if version_of(bare) < (7, 2):
        with helpers.promptly(), pytest.raises(shmvar.IncompatibleSegmentError, match=r"7\.2 or newer"):
            shmvar.attach(bare.url("x", fsync=1))
        return
    with helpers.promptly(), pytest.raises(shmvar.IncompatibleSegmentError, match="appendonly yes"):
        shmvar.attach(bare.url("x", fsync=1))
    kept = own_server("--appendonly", "yes", "--appendfsync", "everysec")
    segment = shmvar.attach(kept.url("x", fsync=1))
    for number in range(3):
        segment["n"] = number
    assert b"cmdstat_waitaof:calls=" in kept.raw(b"INFO", b"commandstats")
    kept.call("CONFIG", "SET", "appendonly", "no")
    with pytest.raises(shmvar.IncompatibleSegmentError, match=r"appendonly yes.*may have been applied"):
        segment["n"] = 5


@pytest.mark.skipif(not servers.PAGE.exists(), reason="the page is not beside the tests")
def test_the_rights_of_the_page_are_enough_for_acks_and_fsync(own_server):
    kept = own_server("--appendonly", "yes", "--appendfsync", "always", port=servers.free_port())
    newer = version_of(kept) >= (7, 2)
    kept.call("ACL", "SETUSER", "app", "on", ">word", *servers.rights("app"), *(["+waitaof"] if newer else []))
    segment = shmvar.attach(kept.tcp("x", "app:word@", timeout=2, **({"fsync": 1} if newer else {})))
    segment["n"] = 1
    with pytest.raises(shmvar.SegmentUnavailableError, match="0 of the 1 replicas"):
        shmvar.attach(kept.tcp("y", "app:word@", acks=1, timeout=2))
