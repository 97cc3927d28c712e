"""What the server has under a token of a living process that does not know of it is let go."""

import threading
import time

import helpers
import pytest
from helpers.machine import SLOWER

import shmvar
from shmvar._remote import link, owners, presence, scripts


def elsewhere(call):
    """What a call returns in another thread."""
    got = []
    helpers.in_threads(lambda _: got.append(call()), 1)
    return got[0]


@pytest.fixture
def older(own_server):
    """A server that can lose what it has acknowledged, and the URL of a segment."""
    server = own_server()
    key = server.url("older", lease=1, timeout=60)

    def back(then):
        server.call("SAVE")
        then()
        server.kill()
        server.start()

    server.back = back
    return server, key


def test_a_lock_whose_release_the_server_has_lost_is_let_go_while_its_process_holds_another(older):
    server, key = older
    segment = shmvar.attach(key)
    keep, lock = segment.lock("keep"), segment.lock("l")
    keep.acquire()
    lock.acquire()
    server.back(lock.release)
    # The record is there again, with a token of this process, which is alive.
    assert elsewhere(lambda: segment.lock("l").acquire(20 * SLOWER))
    segment["v"] = 1
    assert not keep.lost and not elsewhere(lambda: segment.lock("keep").acquire(0))
    keep.release()


def test_an_item_whose_end_the_server_has_lost_is_given_back_while_its_process_holds_another(older):
    server, key = older
    segment = shmvar.attach(key)
    queue = segment.queue("q")
    queue.put("long")
    queue.put("short")
    long, short = queue.take(), queue.take()
    assert long.__enter__() == "long" and short.__enter__() == "short"
    server.back(lambda: short.__exit__(None, None, None))
    with queue.take(timeout=20 * SLOWER) as again:
        assert again == "short"
    assert queue._counts()[:2] == (0, 1)
    long.__exit__(None, None, None)
    assert queue._counts()[:2] == (0, 0)


def test_what_could_not_be_undone_for_longer_than_a_lease_is_undone_while_the_process_has_a_session(
    server, new_key, monkeypatch
):
    segment = shmvar.attach(new_key().replace("#", "?lease=0.5#"))
    script, refused = link.Link.script, []

    def no_right(self, which, *rest):
        if which is scripts.LOCK_FREES:
            refused.append(time.monotonic())
            raise shmvar.SegmentAccessError("no right for a moment")
        return script(self, which, *rest)

    with segment.lock("keep"):
        lock = segment.lock("l")
        lock.acquire()
        monkeypatch.setattr(link.Link, "script", no_right)
        with pytest.raises(shmvar.SegmentAccessError):
            lock.release()
        # Other things go on meanwhile: the session is renewed.
        helpers.until(lambda: refused[-1] - refused[0] > 1)
        monkeypatch.undo()
        assert elsewhere(lambda: segment.lock("l").acquire(20 * SLOWER))


def test_what_was_given_up_is_swept_once_the_process_takes_something_again(server, new_key):
    segment = shmvar.attach(new_key().replace("#", "?lease=0.5#"))
    with segment.lock("warm"):
        held = presence.presence_of(segment._link, segment._requests)
    assert not held.gives_up(link.now()) and held.gives_up(link.now() - 1)
    server.call("HSET", segment._requests.data + b"l", b"sl", owners.next_token() + b" 7")
    with segment.lock("keep"):
        assert elsewhere(lambda: segment.lock("l").acquire(20 * SLOWER))


def test_no_sweep_takes_what_is_being_taken(server, new_key, monkeypatch):
    """Sweeps without end, while threads take and let go."""
    segment = shmvar.attach(new_key().replace("#", "?lease=5#"))
    queue, ended, swept, errors = segment.queue("q"), threading.Event(), [], []
    for number in range(4):
        queue.put(number)

    def work(number):
        try:
            while not ended.is_set():
                with segment.lock(number):
                    segment[number] = 1
                with queue.take() as item:
                    queue.put(item)
        except BaseException as error:
            errors.append(error)

    with segment.lock("keep") as keep:
        here = presence.presence_of(segment._link, segment._requests)
        threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        for _ in helpers.looks(seconds=2, turns=30):
            here._swept, here._sweeps = b"", []
            here._sweep(b"another")
            swept.append(here._swept)
        ended.set()
        for thread in threads:
            thread.join(60)
        segment["v"] = 1
        assert not keep.lost
    assert not errors and any(swept)
    assert sorted(queue.get() for _ in range(4)) == [0, 1, 2, 3] and queue._counts()[:2] == (0, 0)


def test_a_sweep_waits_while_somebody_may_have_drawn_a_number(server, new_key):
    segment = shmvar.attach(new_key())
    with segment.lock("keep"):
        here = presence.presence_of(segment._link, segment._requests)
        drawing = type("Drawing", (), {"token": b""})()
        here._things[drawing] = None
        here._swept, here._sweeps = b"", []
        here._sweep(b"another")
        assert here._swept == b""
        del here._things[drawing]
        server.call("HSET", segment._requests.data + b"l", b"s1", owners.next_token() + b" 7")
        foreign = b"0123456789ab.1 7"
        server.call("HSET", segment._requests.data + b"l", b"s2", foreign)
        server.call("HSET", segment._requests.data + b"l", b"s3", owners.process() + b".9007199254740000 7")
        here._sweep(b"another")
        assert here._swept
        assert set(server.call("HKEYS", segment._requests.data + b"l")) == {b"skeep", b"s2", b"s3"}
        server.call("HDEL", segment._requests.data + b"l", b"s2", b"s3")
