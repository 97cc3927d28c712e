"""`memoize`: results that were stored and cannot be rebuilt, which are computed again as if they were missing."""

import dataclasses
import signal
import sys
import types

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


class Config:
    """A class that changes after one of its objects was stored."""

    def __init__(self):
        self.limit = 3


@dataclasses.dataclass(frozen=True)
class Frozen:
    """Its attributes cannot be set, which is an `AttributeError` of a class of its own."""

    limit: int = 3

    def __reduce__(self):
        return Frozen, (), {"limit": self.limit}

    def __setstate__(self, state):
        self.limit = state["limit"]


class Asking:
    """Is rebuilt by asking for an attribute that its class does not have."""

    def __reduce__(self):
        return getattr, (Config, "no_such_method")


class Importing:
    """Is rebuilt by code that imports a module."""

    def __reduce__(self):
        return import_it, ()


def import_it():
    import no_such_module  # noqa: F401


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


# --- a class that is here and is not what it was, and a class that is not here


def is_computed_once(seg):
    """The result that is stored is replaced, and the new one is found."""
    function = seg.memoize(lambda: "computed", name="f")
    assert function.index() in seg
    assert function() == function() == "computed" and function.cache_info() == (1, 1)


def asks_for_what_it_had(self, state):
    return self.limit_of_old


@pytest.mark.parametrize("error", [AttributeError, KeyError, ValueError, TypeError])
def test_where_its_class_has_changed_it_is_computed_once_whatever_that_raises(seg, monkeypatch, error):
    def setstate(self, state):
        raise error("'Config' object has no attribute 'limit_of_old'")

    seg.memoize(Config, name="f")()
    monkeypatch.setattr(Config, "__setstate__", setstate, raising=False)
    with pytest.raises(error, match="limit_of_old"):
        seg[seg.memoize(Config, name="f").index()]
    is_computed_once(seg)


def test_where_its_class_takes_the_state_no_more_it_is_computed(seg, monkeypatch):
    """No line of Python raises this `AttributeError`: the unpickler sets attributes."""
    seg.memoize(Config, name="f")()
    monkeypatch.setattr(Config, "limit", property(lambda self: 3), raising=False)
    monkeypatch.setattr(Config, "__getstate__", lambda self: (None, {"limit": 3}), raising=False)
    seg[seg.memoize(Config, name="f").index()] = object.__new__(Config)
    with pytest.raises(AttributeError, match="has no setter"):
        seg[seg.memoize(Config, name="f").index()]
    is_computed_once(seg)


@pytest.mark.parametrize("made", [Frozen, Asking])
def test_other_attribute_errors_of_what_is_here_are_no_missing_class(seg, made):
    function = seg.memoize(made, name="f")
    function()
    with pytest.raises(AttributeError):
        seg[function.index()]
    is_computed_once(seg)


def test_a_coroutine_computes_what_its_class_does_not_rebuild(seg, monkeypatch):
    @seg.memoize(name="f")
    async def function():
        return "computed"

    seg.memoize(Config, name="f")()
    monkeypatch.setattr(Config, "__setstate__", asks_for_what_it_had, raising=False)

    async def main():
        assert await function() == await function() == "computed" and function.cache_info() == (1, 1)

    run(main())


def is_raised(seg, error, match):
    """Nobody computes, and the result stays: two processes would overwrite each other's for ever."""
    function = seg.memoize(lambda: pytest.fail("was computed"), name="f")
    version = seg.version(function.index())
    for _ in range(2):
        with pytest.raises(error, match=match):
            function()
    assert seg.version(function.index()) == version and function.cache_info() == (0, 0)
    assert seg.check().locks == 0


def test_a_class_that_is_missing_is_raised_also_behind_an_object_that_fails(seg, monkeypatch):
    here = sys.modules[__name__]
    gone = type("Gone", (), {"__module__": __name__, "__qualname__": "Gone"})
    monkeypatch.setattr(here, "Gone", gone, raising=False)
    seg.memoize(lambda: [gone()], name="f")()
    monkeypatch.delattr(here, "Gone")
    is_raised(seg, AttributeError, "needs Gone, and the module")
    monkeypatch.setattr(here, "Gone", gone, raising=False)
    seg[seg.memoize(Config, name="f").index()] = [Config(), gone()]
    monkeypatch.delattr(here, "Gone")
    monkeypatch.setattr(Config, "__setstate__", asks_for_what_it_had, raising=False)
    is_raised(seg, AttributeError, "limit_of_old")


def test_a_name_that_a_modules_own_getattr_does_not_have_is_raised(seg, monkeypatch):
    """From Python 3.14 on, what the module's code raises is the error of the unpickler."""
    module = types.ModuleType("lazy_module")
    module.Late = type("Late", (), {"__module__": "lazy_module"})
    monkeypatch.setitem(sys.modules, "lazy_module", module)
    seg.memoize(module.Late, name="f")()
    del module.Late

    def named(name):
        raise AttributeError(f"module lazy_module has no attribute {name}")

    module.__getattr__ = named
    is_raised(seg, AttributeError, "has no (attribute )?Late")


def test_a_module_that_is_missing_is_raised_whoever_imports_it(seg, monkeypatch):
    module = types.ModuleType("gone_module")
    module.Gone = type("Gone", (), {"__module__": "gone_module"})
    with monkeypatch.context() as there:
        there.setitem(sys.modules, "gone_module", module)
        seg.memoize(module.Gone, name="f")()
    is_raised(seg, ModuleNotFoundError, "cannot import the module gone_module")
    seg[seg.memoize(Config, name="f").index()] = Importing()
    is_raised(seg, ModuleNotFoundError, "no_such_module")
