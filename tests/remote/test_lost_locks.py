"""Named locks on a server exclude everybody else, and who has lost one can then change nothing."""

import asyncio

import helpers
import pytest
from helpers.remote_locks import elsewhere, steal

import shmvar
from shmvar._remote import link, owners

# --- fences, exclusion


def test_fences_grow_over_all_locks_processes_and_changes(seg, key):
    code = """
    s = shmvar.attach(key)
    for n in range(25):
        with s.lock("l") as lock:
            s["fences"] = [*s.get("fences", ()), lock.fence]
    """
    helpers.run_in_processes(code, key, count=3)
    fences = seg["fences"]
    assert len(fences) == 75 and fences == sorted(set(fences))
    before = seg.version("fences")
    with seg.lock("another") as lock:
        assert lock.fence > before and lock.lost is False
        seg["v"] = 1
        assert seg.version("v") > lock.fence
    assert lock.fence is None and lock.lost is False


def test_a_lock_of_any_host_excludes_a_forked_child_and_another_thread_and_the_child_owns_nothing(server, seg):
    with seg.lock("l"):
        assert not elsewhere(lambda: seg.lock("l").acquire(0))

        def child():
            assert not seg.lock("l").acquire(0.05)
            with pytest.raises(RuntimeError):
                seg.lock("l").release()
            # The child carries no locks: nothing is refused though the parent's was lost.
            steal(server, seg)
            seg["child"] = 1
            with seg.lock("l"):
                pass

        helpers.in_child(child)
        with pytest.raises(shmvar.LockLostError):
            seg["parent"] = 1
        with pytest.raises(shmvar.LockLostError):
            seg.lock("l").release()
        assert seg.lock("l").acquire(5)


# --- a lock that was lost


CHANGES = {
    "put": lambda seg: seg.put("a", 2),
    "put of a large value": lambda seg: seg.put("a", b"x" * 50_000),
    "put with a ttl": lambda seg: seg.put("a", 2, ttl=5),
    "touch": lambda seg: seg.touch("a"),
    "expire": lambda seg: seg.expire("a", 5),
    "remove": lambda seg: seg.remove("a"),
    "add": lambda seg: seg.add("a"),
    "add of a long int": lambda seg: seg.add("a", 10**30),
    "swap": lambda seg: seg.swap("a", 2),
    "compare_and_put": lambda seg: seg.compare_and_put("a", seg.version("a"), 2),
    "modify": lambda seg: seg.modify("a", str),
    "pop": lambda seg: seg.pop("a"),
    "popitem": lambda seg: seg.popitem(),
    "setdefault": lambda seg: seg.setdefault("b", 2),
    "put_many": lambda seg: seg.put_many({"a": 2, "b": 3}),
    "put_many of large values": lambda seg: seg.put_many({"a": b"x" * 50_000, "b": b"x" * 50_000}),
    "clear": lambda seg: seg.clear(),
    "resize": lambda seg: seg.resize(1 << 25),
    "trim": lambda seg: seg.trim(),
    "taking it again": lambda seg: seg.lock("l").acquire(),
}


@pytest.mark.parametrize("call", CHANGES)
def test_no_change_is_made_by_who_has_lost_a_lock(server, seg, key, call):
    seg.put_many({"a": 1, "kept": [1, 2]})
    before = seg.copy(), seg.version("a"), seg.size
    with seg.lock("still mine"):
        lock = seg.lock("l")
        lock.acquire()
        steal(server, seg)
        # Another handle of the same thread, too: the lock is the thread's.
        for handle in (seg, shmvar.attach(key)):
            if call != "taking it again" or lock.lost:
                with pytest.raises(shmvar.LockLostError, match='lock "l"') as caught:
                    CHANGES[call](handle)
                assert isinstance(caught.value, TimeoutError) and isinstance(caught.value, shmvar.Error)
            else:
                with pytest.raises(shmvar.LockLostError):
                    seg["a"] = 2
        assert (seg.copy(), seg.version("a"), seg.size) == before and lock.lost
        # Whoever holds nothing goes on.
        elsewhere(lambda: seg.put("others", 1))
        with pytest.raises(shmvar.LockLostError):
            lock.release()
        seg["mine again"] = 1
    assert not server.call("KEYS", seg._requests.data + b"b:*")


def test_the_end_of_a_block_raises_after_a_loss_unless_another_exception_is_on_its_way(server, seg):
    with pytest.raises(shmvar.LockLostError), seg.lock("l"):
        steal(server, seg)
    with pytest.raises(ZeroDivisionError), seg.lock("l"):
        steal(server, seg)
        raise ZeroDivisionError
    lock = seg.lock("l")
    lock.acquire()
    steal(server, seg)
    with pytest.raises(shmvar.LockLostError):
        lock.release()
    assert lock.lost
    with pytest.raises(RuntimeError):
        lock.release()
    with lock:
        assert not lock.lost

    async def task():
        with pytest.raises(shmvar.LockLostError):
            async with seg.lock("l") as lock:
                steal(server, seg)
                with pytest.raises(shmvar.LockLostError):
                    seg["a"] = 1
                assert lock.lost
        with pytest.raises(ZeroDivisionError):
            async with seg.lock("l"):
                steal(server, seg)
                raise ZeroDivisionError

    asyncio.run(task())
    assert "a" not in seg


def test_a_task_that_has_lost_its_lock_is_refused_and_another_task_is_not(server, seg):
    async def other(stolen):
        await stolen.wait()
        seg["other"] = 1
        # As asyncio wrappers do it: in a thread, for the task.
        await asyncio.get_running_loop().run_in_executor(None, owners.bound(seg.put), "other in a thread", 1)

    async def main():
        stolen = asyncio.Event()
        task = asyncio.create_task(other(stolen))
        with pytest.raises(shmvar.LockLostError):
            async with seg.lock("l"):
                steal(server, seg)
                stolen.set()
                await task
                for call in (seg.put, owners.bound(seg.put)):
                    with pytest.raises(shmvar.LockLostError):
                        await asyncio.get_running_loop().run_in_executor(None, owners.bound(call), "mine", 1)
                seg["mine"] = 1

    asyncio.run(main())
    assert dict(seg) == {"other": 1, "other in a thread": 1}


def test_a_change_without_a_held_lock_sends_what_it_sent_before(seg, monkeypatch):
    sent = []
    run = link.Link.run

    def noted(self, requests, *rest):
        sent.append(requests)
        return run(self, requests, *rest)

    monkeypatch.setattr(link.Link, "run", noted)

    def size_of_a_put():
        seg["a"] = 1
        sent.clear()
        seg["a"] = 1
        return sum(len(part) for part in sent.pop())

    # The number of the request has another digit now and then.
    before = size_of_a_put() + 4
    with seg.lock("l"), seg.lock("a lock with a longer name"):
        assert size_of_a_put() > before + 40 and elsewhere(size_of_a_put) <= before
    assert size_of_a_put() <= before
