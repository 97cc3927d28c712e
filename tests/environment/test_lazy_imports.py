"""What the package imports at its first use: an import that fails is the import's own error, and nothing is stored."""

import textwrap

import helpers
import pytest

CALLS = """
import resource
from collections import UserDict
segment = shmvar.attach(key)
segment[0] = 0
other = UserDict({{1: 2}})
calls = {{
    "put_many": lambda: segment.put_many([(1, 2)]),
    "update": lambda: segment.update([(1, 2)]),
    "update with a mapping": lambda: segment.update(other),
    "or": lambda: segment | other,
    "in-place or": lambda: segment.__ior__([(1, 2)]),
    "==": lambda: segment == other,
    "changes": lambda: segment.changes(newer_than=other, timeout=0),
    "wait_any": lambda: segment.wait_any([1], newer_than=other, timeout=0),
}}
call = calls[{call!r}]
"""
NAMES = ["put_many", "update", "update with a mapping", "or", "in-place or", "==", "changes", "wait_any"]


@pytest.mark.parametrize("name", NAMES)
def test_without_a_descriptor_what_is_no_dict_is_read_all_the_same(key, name):
    code = """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        call()
    except shmvar.WaitTimeoutError:
        assert {call!r} == "wait_any"
    """
    helpers.run(part(CALLS, name) + part(code, name), key)


@pytest.mark.parametrize("name", NAMES)
def test_at_the_limit_of_recursion_it_is_a_recursion_error_and_nothing_is_stored(key, name):
    code = """
    def deep(left):
        return deep(left - 1) if left else call()
    raised = 0
    for left in range(sys.getrecursionlimit() - 40, sys.getrecursionlimit()):
        segment.pop(1, None)
        try:
            deep(left)
        except RecursionError:
            raised += 1
            assert 1 not in segment, left
        except shmvar.WaitTimeoutError:
            assert {call!r} == "wait_any"
    assert raised
    """
    helpers.run(part(CALLS, name) + part(code, name), key)


@pytest.mark.parametrize("name", NAMES)
def test_what_a_class_raises_when_it_is_asked_whether_it_is_a_mapping_is_raised(key, name):
    code = """
    class Odd:
        @property
        def __class__(self):
            raise KeyboardInterrupt("asked")
    other = Odd()
    calls["put_many"] = lambda: segment.put_many(other)
    calls["update"] = lambda: segment.update(other)
    calls["in-place or"] = lambda: segment.__ior__(other)
    sys.unraisablehook = lambda unraisable: os._exit(3)
    try:
        calls[{call!r}]()
    except KeyboardInterrupt as caught:
        assert str(caught) == "asked"
    else:
        raise AssertionError("it was swallowed")
    assert dict(segment) == {{0: 0}}
    """
    helpers.run(part(CALLS, name) + part(code, name), key)


MODULE = {"queue": "shmvar._queue_errors", "get of what is not trusted": "shmvar._untrusted_error"}
MEANWHILE = """
from dataclasses import dataclass
@dataclass
class Value:
    number: int
with shmvar.attach(key, trust=True) as trusted:
    trusted[1] = Value(1)
segment = shmvar.attach(key, trust=False)
calls = {
    "queue": lambda: segment.queue("jobs").qsize(),
    "get of what is not trusted": lambda: segment.get(1),
}
call, module = calls[sys.argv[2]], sys.argv[3]
def hook(event, arguments):
    global meanwhile
    if event == "import" and arguments[0] == module and meanwhile:
        now, meanwhile = meanwhile, None
        now()
sys.addaudithook(hook)
"""


@pytest.mark.parametrize("name", MODULE)
def test_a_call_in_the_middle_of_the_import_of_the_same_call_does_not_wait_for_itself(key, name):
    """As a signal handler and a finalizer make one."""
    code = """
    def again():
        try:
            call()
        except shmvar.UntrustedValueError:
            done.append(1)
        else:
            done.append(2)
    done, meanwhile = [], again
    again()
    assert len(done) == 2 and meanwhile is None, done
    """
    helpers.run(MEANWHILE + textwrap.dedent(code), key, name, MODULE[name])


@pytest.mark.parametrize("error", ["TimeoutError", "ConnectionError", "ImportError", "ValueError", "KeyboardInterrupt"])
@pytest.mark.parametrize("name", MODULE)
def test_what_a_signal_handler_raises_in_the_middle_of_the_import_is_raised(key, name, error):
    code = """
    error = getattr(__import__("builtins"), sys.argv[4])
    def meanwhile():
        raise error("the time is over")
    try:
        call()
    except error as caught:
        assert str(caught) == "the time is over" and meanwhile is None
    else:
        raise AssertionError("it was swallowed")
    try:
        assert call() == 0
    except shmvar.UntrustedValueError as caught:
        assert "trust" in str(caught)
    """
    helpers.run(MEANWHILE + textwrap.dedent(code), key, name, MODULE[name], error)


def test_the_errors_of_a_queue_that_was_made_without_a_descriptor_are_its_errors_still(key):
    code = """
    import resource
    segment = shmvar.attach(key)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    jobs = segment.queue("jobs", maxsize=1)
    for call in (lambda: jobs.get(timeout=0), jobs.get_nowait, lambda: [jobs.put_nowait(1) for _ in range(2)]):
        try:
            call()
        except shmvar.WaitTimeoutError as error:
            assert "jobs" in str(error), error
        else:
            raise AssertionError(call)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    import queue
    try:
        jobs.put_nowait(1)
    except queue.Full as error:
        assert type(error) is shmvar.QueueFullError
    else:
        raise AssertionError("it is not full")
    """
    helpers.run(code, key)


def part(code, name):
    """A part of a program, for one of the calls."""
    return textwrap.dedent(code).format(call=name)
