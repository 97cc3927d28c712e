"""`memoize`: what is computed again and what is found, for functions, coroutines, methods, threads and tasks."""

import asyncio
import datetime
import functools
import inspect
import math
import os
import threading

import helpers
import pytest
from helpers.event_loops import run

import shmvar

calls = []


def noted(*args, **kwargs):
    """Notes each call; its results differ."""
    calls.append((args, kwargs))
    return len(calls)


def twice(number, *, by=2):
    """Doubles."""
    calls.append(number)
    return number * by


@pytest.fixture(autouse=True)
def no_calls():
    calls.clear()


def test_a_result_is_computed_once_and_each_caller_gets_a_copy(seg):
    @seg.memoize(name="pair")
    def pair(one, two):
        calls.append(one)
        return [one, two]

    first = pair(1, "x")
    first.append("mine")
    assert pair(1, "x") == [1, "x"] == pair(1, "x") and pair(2, "x") == [2, "x"]
    assert calls == [1, 2] and pair.cache_info() == (2, 2) and len(seg) == 2
    assert pair.cache_info().hits == 2 and pair.cache_info().misses == 2


def test_it_decorates_with_and_without_a_call(seg):
    for f in (seg.memoize(twice), seg.memoize()(twice), seg.memoize(None, ttl=60)(twice)):
        assert f(4) == 8 and f.__wrapped__ is twice and f.__doc__ == "Doubles." and f.__name__ == "twice"
        assert f.index(4) == seg.memoize(twice).index(4) and inspect.signature(f) == inspect.signature(twice)
    assert calls == [4] and f.index(4).startswith(f"{__name__}.twice:")
    assert seg[f.index(4)] == 8


def test_what_is_the_same_argument(seg):
    f = seg.memoize(noted)
    nested = (1, ("x", frozenset({b"y", 2.5, None})))
    different = [
        ((), {}), ((1,), {}), ((1.0,), {}), ((True,), {}), (("1",), {}), ((b"1",), {}), ((0,), {}), ((False,), {}),
        ((0.0,), {}), ((-0.0,), {}), ((None,), {}), ((0j,), {}), ((complex(0.0, -0.0),), {}),
        ((1, 1), {}), (((1, 1),), {}),
        (((1,), 1), {}), (((1.0, 1),), {}), ((((1,),),), {}), (((),), {}), ((frozenset(),), {}),
        ((frozenset({1}),), {}),
        ((frozenset({1.0}),), {}), ((frozenset({True}),), {}), (("a", "b"), {}), (("ab",), {}), (("ab", ""), {}),
        (("", "ab"), {}), ((), {"a": 1}), ((), {"a": True}), ((), {"b": 1}), ((1,), {"a": 1}), (("a", 1), {}),
        ((("a", 1),), {}), ((1,), {"a": 1, "b": 2}), ((1,), {"a": 2, "b": 1}), ((-1,), {}), ((10**30,), {}),
        ((10**5000,), {}), ((float("nan"),), {}), ((float("inf"),), {}), (("\ud800",), {}), (("é",), {}),
        ((nested,), {}),
        (([1],), {}), (({"a": 1},), {}), ((bytearray(b"1"),), {}), ((datetime.date(2026, 1, 2),), {}), ((["1"], 2), {}),
        (("s1:a",), {}), ((b"x" * 3000,), {}), ((1,), {"a": (1.0,)}), ((1,), {"a": (1,)}),
        (((1,),), {}), (((1.0,),), {}), (((True,),), {}), (((0.0,),), {}), (((-0.0,),), {}), (((0,), 0), {}),
        (((0.0,), 0), {}), (((1,), (2.0,)), {}), (((1.0,), (2,)), {}), (((1, 2.0),), {}), (((1.0, 2),), {}),
        ((((0.0,), 1),), {}), ((((-0.0,), 1),), {}), (((1, (2,)),), {}), (((1, (2.0,)),), {}),
    ]  # fmt: skip
    results = [f(*args, **kwargs) for args, kwargs in different]
    assert results == list(range(1, len(different) + 1)), "two of them were taken for one"
    assert [f(*args, **kwargs) for args, kwargs in different] == results == list(map(seg.get, map_index(f, different)))
    assert len({*map_index(f, different)}) == len(different)


def map_index(f, arguments):
    return [f.index(*args, **kwargs) for args, kwargs in arguments]


def test_equal_arguments_that_are_not_identical_are_one(seg):
    f = seg.memoize(noted)
    texts = ["".join(("a", "b c")) for _ in range(2)]
    assert texts[0] is not texts[1]
    sets = frozenset(range(0, 500, 8)), frozenset(reversed(range(0, 500, 8)))
    for one, two in (
        texts,
        [(text, (text, text)) for text in texts],
        [("ab c", ("ab c", text)) for text in texts],
        [10**40 + 0, 10**40],
        [frozenset(["x", "y", text]) for text in texts],
        sets,
        [(float(text), 2) for text in ("1.5", "1.5")],
        [float("nan"), math.nan],
    ):
        assert f(one, x=one) == f(two, x=two), one


def test_keywords_may_come_in_any_order_and_are_no_positional_arguments(seg):
    f = seg.memoize(noted)
    assert f(1, b=2, a=3) == f(1, a=3, b=2) == f(1, b=2, a=3) == 1
    assert f(1, a=2, b=3) == 2 and f.index(1, b=3, a=2) == f.index(1, a=2, b=3)
    assert f(3, 4) != f(3, b=4) and f(3, "b", 4) != f(3, b=4)


def test_what_is_remembered_of_the_arguments_is_bounded_and_right(seg):
    f = seg.memoize(noted)
    indexes = {f.index(number, "x") for number in range(9000)}
    assert len(indexes) == 9000 and {f.index(number, "x") for number in range(9000)} == indexes
    assert {f.index(float(number), "x") for number in range(9000)}.isdisjoint(indexes)


def test_arguments_that_cannot_be_pickled_raise_what_pickling_raises_and_key_helps(seg):
    f = seg.memoize(noted)
    with pytest.raises(Exception, match="pickle"):
        f(threading.Lock())
    assert not calls
    f = seg.memoize(key=lambda lock, number, **kwargs: (number, kwargs.get("mode")))(noted)
    assert f(threading.Lock(), 1, unused=2) == f(threading.Lock(), 1) == 1 and f(None, 1, mode=1) == 2
    assert f.index(None, 1) == f.index("x", 1) != f.index(None, True) and f(None, True) == 3
    with pytest.raises(TypeError):
        f()


def test_none_is_stored_and_exceptions_are_not(seg):
    results = [ValueError("once"), KeyboardInterrupt(), None, "never"]

    @seg.memoize(name="next")
    def following():
        result = results.pop(0)
        if isinstance(result, BaseException):
            raise result
        return result

    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error):
            following()
        assert len(seg) == 0 == seg.check().locks
    assert following() is None and following() is None and results == ["never"]
    assert following.cache_info() == (1, 3)


def test_a_result_expires_after_its_ttl(seg):
    f = seg.memoize(noted, ttl=1000)
    assert f(1) == f(1) and 900 < seg.stat(f.index(1)).expires_in <= 1000
    seg.put(f.index(1), "old", ttl=0.001)
    helpers.until(lambda: f(1) != "old")
    assert f(1) == 2
    for wrong in (0, -1, math.nan):
        with pytest.raises(ValueError, match="ttl"):
            seg.memoize(noted, ttl=wrong)
        with pytest.raises(ValueError, match="ttl"):
            seg.memoize(ttl=wrong)


def test_invalidate_and_cache_clear(seg):
    f, g, other = seg.memoize(noted, name="f"), seg.memoize(noted, name="f:g"), seg.memoize(noted, name="g")
    for each in (f, g, other):
        assert each(1) == each(1) and each(2) != each(1)
    seg["f:" + "x"] = seg["f"] = seg[5] = "mine"
    assert f.invalidate(1) is True and f.invalidate(1) is False and f.invalidate(7) is False
    assert f(1) == 7 and f.cache_info().misses == 3
    f.cache_clear()
    assert f.cache_info() == (0, 0) and len(seg) == 4 + 3
    assert g(1) == 3 and other(2) == 6 and f(1) == 8


def test_what_has_no_room_or_cannot_be_pickled_is_returned_and_not_stored(key):
    with shmvar.attach(key, 1 << 20) as small:
        f = small.memoize(lambda size: (calls.append(size), bytes(size))[1])
        assert len(f(2 << 20)) == len(f(2 << 20)) == 2 << 20 and len(small) == 0
        assert len(f(10)) == len(f(10)) == 10 and calls == [2 << 20, 2 << 20, 10]
        locks = small.memoize(lambda: threading.Lock())
        assert locks() is not locks() and locks.cache_info() == (0, 2) and small.check().locks == 0


def test_an_error_of_the_function_for_a_full_segment_is_its_own(seg):
    @seg.memoize(name="full")
    def full():
        calls.append(1)
        seg["x"] = bytes(seg.size + 1)

    with pytest.raises(shmvar.SegmentFullError):
        full()
    assert calls == [1]


def test_where_no_lock_is_left_a_result_is_computed_all_the_same(key):
    with shmvar.attach(key, 1 << 20) as small:
        f = small.memoize(noted)
        held = [small.lock(number) for number in range(1024)]
        for lock in held:
            lock.acquire()
        assert f(1) == 1 and f(2) == 2
        for lock in held:
            lock.release()
        assert f(3) == f(3) == 3


def test_through_a_read_only_handle_what_is_not_stored_is_computed(seg, key):
    f = seg.memoize(noted)
    with shmvar.attach(key, readonly=True) as reader:
        g = reader.memoize(noted)
        assert g(1) == 1 and g(1) == 2 and len(seg) == 0
        assert f(1) == 3 == g(1) == g(1) and g.cache_info() == (2, 2)
        with pytest.raises(shmvar.ReadOnlyError):
            g.invalidate(1)
        with pytest.raises(shmvar.ReadOnlyError):
            g.cache_clear()

        async def work():
            calls.append(1)
            return 5

        assert run(reader.memoize(work, name="work")()) == 5


def test_a_detached_handle_says_so(seg, key):
    f = seg.memoize(noted)
    seg.detach()
    with pytest.raises(shmvar.DetachedError):
        f(1)
    with pytest.raises(shmvar.DetachedError):
        seg.memoize(noted)
    assert not calls


def test_a_recursive_function_calls_itself(seg):
    @seg.memoize(name="fibonacci")
    def fibonacci(n):
        calls.append(n)
        return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

    assert fibonacci(90) == 2880067194370816120 and sorted(calls) == list(range(91))
    assert seg.check().locks == 0


def test_a_function_that_needs_its_own_result_does_not_wait_for_itself(seg):
    left = [3]

    @seg.memoize(name="again")
    def again():
        left[0] -= 1
        return again() + 1 if left[0] else 0

    # The outermost call stores last.
    assert again() == 2 == again() and again.cache_info() == (1, 3)


def test_self_is_an_argument(seg):
    class Scaled:
        def __init__(self, by):
            self.by = by

        def __reduce__(self):
            return (int, (self.by,))

        @seg.memoize(name="Scaled.of")
        def of(self, number):
            calls.append(number)
            return self.by * number

        @staticmethod
        @seg.memoize(name="Scaled.static")
        def static(number):
            return number

        @classmethod
        @seg.memoize(key=lambda cls, number: (cls.__qualname__, number), name="Scaled.named")
        def named(cls, number):
            return f"{cls.__name__} {number}"

    assert Scaled(2).of(3) == Scaled(2).of(3) == 6 and Scaled(3).of(3) == 9 and calls == [3, 3]
    assert Scaled(2).of.index(Scaled(2), 3) == Scaled.of.index(Scaled(2), 3)
    assert Scaled.static(3) == 3 == Scaled(1).static(3) and Scaled.named(4) == Scaled.named(4) == "Scaled 4"


def test_functions_that_would_share_their_results_need_a_name(seg):
    def closure(by):
        return lambda number: number * by

    for function in (closure(2), functools.partial(noted, 1), threading.Event().wait):
        with pytest.raises(ValueError, match="pass name="):
            seg.memoize(function)
    two, three = seg.memoize(closure(2), name="two"), seg.memoize(closure(3), name="three")
    assert (two(5), three(5), two(5), three(5)) == (10, 15, 10, 15)
    one = seg.memoize(lambda: 1)
    other = seg.memoize(lambda: 2)
    assert (one(), other(), one(), other()) == (1, 2, 1, 2)
    assert seg.memoize(os.path.basename)("a/b") == "b" and seg.memoize(math.sqrt)(4) == 2.0


@pytest.mark.parametrize(
    ("arguments", "options", "error"),
    [
        ((5,), {}, TypeError),
        ((noted,), {"key": 5}, TypeError),
        ((noted,), {"name": 5}, TypeError),
        ((noted,), {"name": "x" * 992}, OverflowError),
        ((noted,), {"maxsize": 5}, TypeError),
        ((noted,), {"ttl": "x"}, TypeError),
        ((noted, 5), {}, TypeError),
    ],
)
def test_wrong_arguments(seg, arguments, options, error):
    with pytest.raises(error):
        seg.memoize(*arguments, **options)
    assert seg.memoize(noted, name="x" * 991)(1) == 1


def test_threads_wait_for_the_one_that_computes(seg):
    begun, go = threading.Event(), threading.Event()

    @seg.memoize(name="slow")
    def slow(text):
        calls.append(text)
        begun.set()
        assert go.wait(100)
        return [text]

    results = []
    threads = [threading.Thread(target=lambda: results.append(slow("".join("abc")))) for _ in range(20)]
    for thread in threads:
        thread.start()
    assert begun.wait(100)
    go.set()
    for thread in threads:
        thread.join(100)
    assert results == [["abc"]] * 20 and calls == ["abc"] and slow.cache_info() == (19, 1)


def test_after_an_exception_the_next_waiter_computes(seg):
    begun, go = threading.Event(), threading.Event()
    results = []

    @seg.memoize(name="fails")
    def fails():
        calls.append(1)
        begun.set()
        assert go.wait(100)
        if len(calls) < 3:
            raise RuntimeError(len(calls))
        return len(calls)

    def call():
        try:
            results.append(fails())
        except RuntimeError as error:
            results.append(repr(error))

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert begun.wait(100)
    go.set()
    for thread in threads:
        thread.join(100)
    assert sorted(map(str, results)) == ["3"] * 6 + ["RuntimeError(1)", "RuntimeError(2)"] and len(calls) == 3


def test_of_many_tasks_one_computes_while_the_loop_runs(seg):
    async def main():
        go = asyncio.Event()

        @seg.memoize(name="fetch")
        async def fetch(page):
            """Fetches."""
            calls.append(page)
            await go.wait()
            return {"page": page}

        assert inspect.iscoroutinefunction(fetch) and fetch.__doc__ == "Fetches."
        tasks = [asyncio.create_task(fetch(number % 2)) for number in range(50)]
        while len(calls) < 2:
            await asyncio.sleep(0)
        go.set()
        assert await asyncio.gather(*tasks) == [{"page": number % 2} for number in range(50)]
        assert sorted(calls) == [0, 1] and fetch.cache_info() == (48, 2)
        assert fetch.invalidate(0) and await fetch(0) == {"page": 0} and len(calls) == 3

    run(main())


def test_when_a_task_is_cancelled_or_fails_the_next_one_computes(seg):
    async def main():
        go = asyncio.Event()

        @seg.memoize(name="fetch")
        async def fetch():
            calls.append(1)
            if len(calls) == 1:
                await asyncio.Event().wait()
            await go.wait()
            if len(calls) == 2:
                raise RuntimeError("second")
            return len(calls)

        tasks = [asyncio.create_task(fetch()) for _ in range(4)]
        while not calls:
            await asyncio.sleep(0)
        tasks[0].cancel()
        go.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(results[0], asyncio.CancelledError)
        assert sorted(map(repr, results[1:])) == ["3", "3", "RuntimeError('second')"]
        assert seg.check().locks == 0

    run(main())


def test_functions_and_coroutines_of_one_name_share_results(seg):
    async def work(number):
        return number * 2

    assert run(seg.memoize(work, name="n")(4)) == 8
    assert seg.memoize(noted, name="n")(4) == 8 and not calls
