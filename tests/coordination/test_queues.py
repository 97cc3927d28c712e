"""Queues in one process: the calls of `queue.Queue`, `take`, `maxsize`, values of every kind, wrong arguments."""

import pickle
import queue as stdlib
import threading
import time

import helpers
import numpy as np
import pytest
from helpers.value_comparison import same

import shmvar


@pytest.fixture
def jobs(seg):
    return seg.queue("jobs")


def test_what_is_put_comes_out_once_and_in_order(seg, jobs):
    values = [1, "two", {"three": 3}, None, [4.0] * 100, b"five" * 10_000, np.arange(60_000), {"a": np.ones(9)}]
    for value in values:
        jobs.put(value)
    assert jobs.qsize() == len(values) and not jobs.empty() and not jobs.full()
    seg.check()
    for value in values:
        assert same(jobs.get(), value)
        seg.check()
    assert jobs.qsize() == 0 and jobs.empty() and seg.info().queues == {} and seg.info().used == 0


def test_what_comes_out_is_the_callers_own(jobs):
    array = np.zeros(50_000)
    jobs.put(array)
    jobs.put(array)
    array[0] = 1
    first = jobs.get()
    first[0] = 2
    with jobs.take() as second:
        second[1] = 3
    assert second[0] == 0 and first[1] == 0


def test_queues_are_apart_from_each_other_and_from_everything_else(seg):
    seg[5], seg["5"] = "variable", "text"
    told = seg.changes(timeout=0)
    with seg.lock(5), seg.lock("5"):
        for name in (5, "5", -1, "", "x" * 1024):
            seg.queue(name).put(name)
        assert seg.info().locks.keys() == {5, "5"}
        assert len(seg) == 2 and set(seg) == {5, "5"} and dict(seg) == {5: "variable", "5": "text"}
        assert seg.info().queues.keys() == {5, "5", -1, "", "x" * 1024}
        assert seg.version("") == 0
        with pytest.raises(shmvar.WaitTimeoutError):
            next(told)
        seg.clear()
        assert len(seg) == 0 and seg.info().used == sum(each["used"] for each in seg.info().queues.values())
        seg[1] = 2
        assert seg.popitem() == (1, 2)
        with pytest.raises(KeyError):
            seg.popitem()
    seg.check()
    for name in (5, "5", -1, "", "x" * 1024):
        assert seg.queue(name).get_nowait() == name
    assert seg.queue().name == 0 and seg.info().used == 0


def test_an_item_that_is_taken_is_done_at_the_end_and_given_back_after_an_exception(seg, jobs):
    for number in range(4):
        jobs.put(number)
    first = jobs.take()
    assert first.attempts == 0 and first.queue is jobs
    with first as value:
        assert value == 0 and first.attempts == 1 and jobs.qsize() == 3
        with jobs.take() as other:
            assert other == 1
        assert seg.info().queues["jobs"]["held"] == 1
    assert jobs.qsize() == 2
    for error in (ValueError, KeyboardInterrupt, GeneratorExit, SystemExit):
        again = jobs.take()
        with pytest.raises(error), again as value:
            assert value == 2
            raise error
        seg.check()
    with jobs.take() as three:  # 3 was put after 2, so 2 comes first although it came back later
        assert three == 2
        assert jobs.get() == 3
    assert again.attempts == 4 and seg.info().queues == {} and seg.check().used == 0


def test_what_is_given_back_comes_before_what_came_later_in_the_order_of_put(jobs):
    for number in range(6):
        jobs.put(number)
    held = [jobs.take() for _ in range(4)]
    assert [item.__enter__() for item in held] == [0, 1, 2, 3]
    for place in (2, 0, 3):
        held[place].__exit__(ValueError, ValueError(), None)
    assert [jobs.get() for _ in range(3)] == [0, 2, 3]
    held[1].__exit__(None, None, None)
    assert [jobs.get(), jobs.get()] == [4, 5]


def test_an_item_that_is_forgotten_or_whose_handle_is_detached_is_given_back(seg, key, jobs):
    jobs.put("work")
    item = jobs.take()
    item.__enter__()
    assert jobs.empty()
    del item
    helpers.until(lambda: jobs.qsize() == 1)
    with shmvar.attach(key) as other:
        held = other.queue("jobs").take()
        assert held.__enter__() == "work" and jobs.empty()
    assert jobs.qsize() == 1
    with pytest.raises(shmvar.DetachedError):
        held.__exit__(None, None, None)
    assert jobs.get_nowait() == "work"


def test_take_is_used_by_with_alone(jobs):
    jobs.put(1)
    item = jobs.take(timeout=0)
    with pytest.raises(RuntimeError, match="not taken"):
        item.__exit__(None, None, None)
    with item, pytest.raises(RuntimeError, match="taken already"):
        item.__enter__()
    with pytest.raises(shmvar.QueueEmptyError), item:
        pass


ENTERED = []


class Enters:
    """A value that enters its item again while it is rebuilt."""

    def __reduce__(self):
        return enter_again, ()


def enter_again():
    return ENTERED.pop().__enter__() if ENTERED else "alone"


def test_an_item_that_is_entered_again_while_it_is_entered_keeps_what_it_took_first(jobs):
    jobs.put(Enters())
    jobs.put("two")
    item = jobs.take(timeout=0)
    ENTERED[:] = [item]
    with pytest.raises(RuntimeError, match="taken already"):
        item.__enter__()
    # What came second is given back. The item is that of the inner entry, which was the first to have its value.
    assert "not taken" not in repr(item) and item.attempts == 1 and jobs.qsize() == 1
    item.__exit__(None, None, None)
    again = jobs.take(timeout=0)
    with again as value:
        assert value == "alone" and again.attempts == 2
    assert jobs.empty()


@pytest.mark.parametrize("fails", [False, True], ids=["done", "failed"])
def test_of_two_threads_that_enter_the_same_item_the_second_gives_back_what_it_took(jobs, fails):
    jobs.put("two")
    other, item, refused, said = jobs.take(), jobs.take(timeout=60), threading.Event(), []
    other.__enter__()

    def work():
        try:
            with item as value:
                said.append(value)
                refused.wait(60)
                said.append(item.attempts)
                if fails:
                    raise LookupError(value)
        except (LookupError, RuntimeError) as error:
            said.append(str(error))
            refused.set()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(0.2)  # Now both of them wait.
    jobs.put("one")
    helpers.until(lambda: said)
    other.__exit__(ValueError)
    for thread in threads:
        thread.join()
    message = "the item is taken already: call take() for another one"
    assert said == ["one", message, 1, *(["one"] if fails else [])]
    assert [jobs.get_nowait() for _ in range(jobs.qsize())] == (["two", "one"] if fails else ["two"])


def test_maxsize_is_the_handles(seg, jobs):
    short = seg.queue("jobs", maxsize=2)
    assert (short.maxsize, jobs.maxsize, seg.queue(maxsize=-3).full()) == (2, 0, False)
    short.put(1)
    short.put(2)
    assert short.full() and not jobs.full()
    with pytest.raises(shmvar.QueueFullError, match="now 2 do"):
        short.put_nowait(3)
    with pytest.raises(stdlib.Full):
        short.put(3, timeout=0.02)
    jobs.put(3)
    with jobs.take(), pytest.raises(shmvar.QueueFullError):
        short.put(4, block=False)
    assert short.get() == 2
    short.put(5)
    assert [jobs.get(), jobs.get()] == [3, 5]


def test_an_empty_queue_says_so(jobs):
    for call in (jobs.get_nowait, lambda: jobs.get(False), lambda: jobs.get(timeout=0.02), jobs.take(0.02).__enter__):
        with pytest.raises(shmvar.QueueEmptyError) as caught:
            call()
        error = caught.value
        assert isinstance(error, shmvar.WaitTimeoutError | TimeoutError) and isinstance(error, stdlib.Empty)
        assert isinstance(pickle.loads(pickle.dumps(error)), shmvar.QueueEmptyError)


def test_clear_removes_what_waits(seg, jobs):
    for number in range(30):
        jobs.put(bytes(number * 2_000))
    with jobs.take() as first:
        jobs.clear()
        assert jobs.empty() and seg.info().queues["jobs"]["held"] == 1 and first == b""
        jobs.put("later")
    assert jobs.get() == "later" and seg.check().used == 0
    jobs.clear()


def test_what_a_queue_of_processes_cannot_promise_is_not_there(jobs):
    for name in ("peek", "task_done", "join", "shutdown", "close", "join_thread", "cancel_join_thread"):
        assert not hasattr(jobs, name)


def test_wrong_arguments_are_refused_and_change_nothing(seg, jobs):
    for name in (1.5, None, b"x", "x" * 1025, 2**63):
        with pytest.raises((TypeError, OverflowError)):
            seg.queue(name)
    for call in (
        lambda: seg.queue("a", maxsize="2"),
        lambda: seg.queue("a", 2),
        lambda: jobs.put(),
        lambda: jobs.put(1, timeout="soon"),
        lambda: shmvar.Queue(),
        lambda: shmvar.TakenItem(),
    ):
        with pytest.raises(TypeError):
            call()
    for call in (lambda: jobs.put(1, timeout=-1), lambda: jobs.get(timeout=-0.1), lambda: jobs.take(float("nan"))):
        with pytest.raises(ValueError, match="timeout"):
            call()
    jobs.put(1, False, -1)  # as `queue.Queue`: without waiting the timeout means nothing
    assert jobs.get(False, -1) == 1
    with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
        jobs.put(lambda: 0)
    assert seg.info().queues == {} and seg.check().used == 0


def test_a_read_only_handle_looks_and_changes_nothing(seg, key, jobs):
    jobs.put(1)
    with shmvar.attach(key, readonly=True) as reader:
        seen = reader.queue("jobs", maxsize=1)
        assert (seen.qsize(), seen.empty(), seen.full()) == (1, False, True)
        assert reader.info().queues == seg.info().queues and reader.check().used == seg.info().used
        for call in (
            seen.get,
            seen.get_nowait,
            seen.clear,
            lambda: seen.put(1),
            lambda: seen.put_nowait(1),
            seen.take().__enter__,
        ):
            with pytest.raises(shmvar.ReadOnlyError):
                call()
    with pytest.raises(shmvar.DetachedError):
        seen.qsize()
    assert jobs.get() == 1


def test_a_queue_that_is_pickled_is_the_same_one(seg, jobs):
    jobs.put(1)
    again = pickle.loads(pickle.dumps(seg.queue("jobs", maxsize=3)))
    assert (again.name, again.maxsize, again.segment.key) == ("jobs", 3, seg.key) and again.get() == 1
    assert repr(seg.key) in repr(again) and "jobs" in repr(again)
    info = seg.info()
    jobs.put(2)
    assert pickle.loads(pickle.dumps(seg.info())).queues == seg.info().queues != info.queues
    again.segment.detach()


def test_an_untrusted_segment_hands_out_data_alone(key, seg, jobs):
    jobs.put({"plain": [1, 2]})
    jobs.put(Unwilling(False))
    with shmvar.attach(key, trust=False) as careful:
        theirs = careful.queue("jobs")
        assert theirs.get() == {"plain": [1, 2]}
        with pytest.raises(shmvar.UntrustedValueError), theirs.take():
            pass
        assert jobs.qsize() == 1  # the taker could not have it, another one may
        with pytest.raises(shmvar.UntrustedValueError):
            theirs.get()
        assert jobs.empty()


def test_a_value_that_cannot_be_rebuilt_is_an_error_and_no_obstacle(seg, jobs):
    jobs.put(Unwilling(False))
    jobs.put(Unwilling(True))
    jobs.put("next")
    with pytest.raises(ArithmeticError), jobs.take():
        pass
    assert jobs.qsize() == 3
    for _ in range(2):
        with pytest.raises(ArithmeticError):
            jobs.get()
    assert jobs.get() == "next" and seg.check().used == 0


class Unwilling:
    def __init__(self, large):
        self.large = large

    def __reduce__(self):
        return refuse, (b"x" * 100_000 if self.large else b"",)


def refuse(_):
    raise ArithmeticError


def test_threads_that_wait_each_get_one(jobs):
    got = []
    threads = [threading.Thread(target=lambda: got.append(jobs.get(timeout=60))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for number in range(8):
        jobs.put(number)
    for thread in threads:
        thread.join(60)
    assert sorted(got) == list(range(8))


def test_threads_that_wait_for_room_each_get_in(seg, jobs):
    short = seg.queue("jobs", maxsize=1)
    threads = [threading.Thread(target=short.put, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    assert sorted(jobs.get(timeout=60) for _ in threads) == list(range(6))
    for thread in threads:
        thread.join(60)
    assert jobs.empty()


def test_a_destroyed_segment_ends_the_wait(seg, jobs):
    caught = []

    def wait():
        try:
            jobs.get(timeout=60)
        except shmvar.SegmentNotFoundError as error:
            caught.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    seg.destroy()
    thread.join(60)
    assert len(caught) == 1


def test_counts_and_charges_are_exact(seg, jobs):
    empty = seg.info().used
    jobs.put(1)
    one = seg.info()
    assert one.queues["jobs"] == {"waiting": 1, "held": 0, "used": one.used - empty}
    with jobs.take():
        assert seg.info().queues["jobs"] == {"waiting": 0, "held": 1, "used": one.used - empty}
    assert seg.info().used == empty


class Poison:
    """A value that cannot be rebuilt."""

    def __init__(self, size):
        self.data = "x" * size

    def __setstate__(self, state):
        raise FileNotFoundError("a file of its own")


@pytest.mark.parametrize("size", [10, 500_000])
def test_an_item_that_cannot_be_rebuilt_is_gone_after_a_get_and_counted_by_take(seg, size):
    jobs = seg.queue("jobs")
    jobs.put(Poison(size))
    jobs.put("next")
    for attempt in (1, 2):
        item = jobs.take(0)
        with pytest.raises(FileNotFoundError):
            item.__enter__()
        assert item.attempts == attempt and jobs.qsize() == 2
    with pytest.raises(FileNotFoundError):
        jobs.get_nowait()
    assert jobs.get_nowait() == "next" and seg.check().used == 0


def test_block_is_any_truth_value(seg):
    jobs = seg.queue("jobs", maxsize=1)
    jobs.put(1, 0)
    with pytest.raises(shmvar.QueueFullError):
        jobs.put(2, block=None)
    assert jobs.get(1) == 1
    with pytest.raises(shmvar.QueueEmptyError):
        jobs.get(0)


def test_an_error_about_an_item_names_the_queue(seg):
    with pytest.raises(shmvar.SegmentFullError, match=', queue "jobs"'):
        seg.queue("jobs").put(bytes(seg.size + 1))


@pytest.mark.parametrize("large", [False, True])
def test_an_error_about_a_value_speaks_of_an_item_of_the_queue_and_of_no_index(seg, key, large):
    jobs = seg.queue("jobs")
    jobs.put(Unwilling(large))
    jobs.put(Unwilling(large))
    with pytest.raises(ArithmeticError) as caught:
        jobs.get()
    (note,) = caught.value.__notes__
    assert 'an item of queue "jobs"' in note and "index" not in note
    with (
        shmvar.attach(key, trust=False) as stranger,
        pytest.raises(shmvar.UntrustedValueError, match=r'^an item of queue "jobs"') as caught,
    ):
        stranger.queue("jobs").get()
    assert "index" not in str(caught.value)


def test_an_error_about_room_tells_the_numbers_that_are(seg):
    jobs = seg.queue("jobs", maxsize=2)
    jobs.put(1)
    jobs.put(2)
    for call, within in ((jobs.put_nowait, ""), (lambda value: jobs.put(value, timeout=0.01), " within 0.01 s")):
        with pytest.raises(shmvar.QueueFullError) as caught:
            call(3)
        assert str(caught.value) == f'queue "jobs" had no room{within}: at most 2 items may wait in it, and now 2 do'
    jobs.clear()
    with pytest.raises(shmvar.QueueEmptyError) as caught:
        jobs.get(timeout=0.01)
    assert str(caught.value) == 'queue "jobs" had no item within 0.01 s'
