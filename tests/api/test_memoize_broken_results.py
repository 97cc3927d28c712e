"""`memoize`: results that were stored and cannot be rebuilt, which are computed again as if they were missing."""

import signal

import pytest
from helpers.event_loops import run

import shmvar


class Broken:
    """Pickles, and does not unpickle."""

    def __reduce__(self):
        return int, ("zz",)


class Interrupted(Exception):
    """What a signal handler raises."""


class Interrupting:
    """Its first unpickling is interrupted by a signal."""

    def __reduce__(self):
        return interrupted_once, ()


times = []


def interrupted_once():
    times.append(1)
    if len(times) == 1:
        signal.raise_signal(signal.SIGUSR1)
    return "rebuilt"


def test_a_result_that_cannot_be_rebuilt_is_computed_by_each_call(seg):
    function = seg.memoize(lambda: Broken(), name="f")
    for count in (1, 2, 3):
        assert isinstance(function(), Broken) and function.cache_info() == (0, count)
    with pytest.raises(ValueError, match="zz"):
        seg[function.index()]
    assert seg.check().locks == 0


def test_the_next_result_takes_its_place(seg):
    results = [Broken(), "sound"]
    function = seg.memoize(lambda: results.pop(0), name="f")
    assert isinstance(function(), Broken)
    assert function() == function() == "sound" and function.cache_info() == (1, 2) and not results


def test_a_coroutine_computes_it_again_too(seg):
    results = [Broken(), "sound"]

    @seg.memoize(name="f")
    async def function():
        return results.pop(0)

    async def main():
        assert isinstance(await function(), Broken)
        assert await function() == await function() == "sound" and function.cache_info() == (1, 2)

    run(main())


def test_through_a_read_only_handle_it_is_computed_and_not_stored(seg, key):
    function = seg.memoize(lambda: Broken(), name="f")
    function()
    version = seg.version(function.index())
    with shmvar.attach(key, readonly=True) as reader:
        assert reader.memoize(lambda: "computed", name="f")() == "computed"
    assert seg.version(function.index()) == version


def test_what_needs_code_in_a_segment_that_is_not_trusted_is_still_refused(seg, key):
    function = seg.memoize(lambda: Broken(), name="f")
    function()
    with shmvar.attach(key, trust=False) as other, pytest.raises(shmvar.UntrustedValueError, match="int"):
        other.memoize(lambda: "computed", name="f")()


def test_what_a_signal_handler_raises_meanwhile_is_not_taken_for_a_broken_result(seg):
    def handler(*_):
        raise Interrupted

    times.clear()
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        function = seg.memoize(lambda: Interrupting(), name="f")
        function()
        with pytest.raises(Interrupted):
            function()
        assert function() == "rebuilt" and function.cache_info() == (1, 1)
    finally:
        signal.signal(signal.SIGUSR1, before)
