"""For every test: keys of its own, a check that nothing is left behind, a private /dev/shm where that is possible."""

import asyncio
import gc
import itertools
import os
import signal
import time
from pathlib import Path

import helpers
import pytest
from helpers import child_functions, system_v
from hypothesis import HealthCheck, settings

import shmvar

NUMBERS = itertools.count(1)
MADE = set()
"""What the segments of all keys that this process has made are called in /dev/shm."""

# `make test` draws the same values in every run, however slow the machine is; `make search` draws new ones.
slow = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
settings.register_profile("gate", slow, derandomize=True)
settings.register_profile("search", slow, print_blob=True)
settings.load_profile("gate")


def pytest_configure(config):
    # A shell that starts pytest in the background ignores SIGINT, and the children of the tests would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # With this variable set, the tests would not notice that a flush is missing.
    os.environ.pop("PYTHONUNBUFFERED", None)
    config.addinivalue_line("markers", "slow: takes seconds or gigabytes; runs all the same, and first")
    config.addinivalue_line("markers", "xdist_group(name): run by one process, because they share what is dear to make")
    # No test meets, lists or damages a segment of somebody else: each process that runs tests has its own /dev/shm.
    config.stash[PRIVATE] = helpers.private_shm("size=75%")
    # So it is with System V objects; elsewhere their keys are drawn at random.
    system_v.private_namespace()


PRIVATE = pytest.StashKey[bool]()
BROWSERS = ("browser", "page")
"""The groups of the tests that drive a browser."""


def pytest_xdist_auto_num_workers(config):
    """For `-n auto`: twice as many processes as processors, because many tests wait for most of their time."""
    return 2 * len(os.sched_getaffinity(0))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Puts slow tests first: one that began last would run alone at the end, while the other processes have no work."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    # xdist 3.8 adds the name of the `xdist_group` to a text from which pytest 9.2 no longer makes the id of a test: the
    # tests of a group would be run by all processes, and each of them would make what they share.
    for item in items:
        told, parse = getattr(item, "_nodeid", ""), getattr(type(getattr(item, "_id", None)), "parse", None)
        if told.startswith(item.nodeid + "@") and parse is not None:
            item._id = parse(told)


def pytest_runtest_setup(item):
    # Playwright drives its browser by an event loop that stays entered in this thread. If a fixture keeps the browser
    # for longer than its tests, each later test of this process that uses asyncio fails without a word of the reason.
    group = item.get_closest_marker("xdist_group")
    if asyncio._get_running_loop() is not None and not (group and group.args[0] in BROWSERS):
        pytest.fail("an event loop runs in the thread of the tests: a browser of an earlier test has not ended")


def pytest_collection_finish():
    # What was collected, thousands of tests, stays until the end: no collection of garbage has to look at it again, and
    # no child that a test forks copies it.
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item, call):
    # Where a test is expected to fail, pytest takes a failure of what cleans up after the test for the expected one.
    # Then nobody is told what the test leaves behind, and a later test fails for it.
    report = yield
    if call.when == "teardown" and call.excinfo is not None and hasattr(report, "wasxfail"):
        del report.wasxfail
        report.outcome = "failed"
        report.longrepr = item.repr_failure(call.excinfo)
    return report


def pytest_report_header(config):
    where = "a private one" if config.stash[PRIVATE] else "the system's"
    return f"shmvar {shmvar.__version__} from {Path(shmvar.__file__).parent}, /dev/shm: {where}"


@pytest.fixture(autouse=True)
def nothing_is_left_in_shm(request):
    """After each test, /dev/shm has no shmvar entry that it did not have before.

    In a /dev/shm that others use at the same time, only those entries count that are named after keys of `new_key`.
    """
    private = request.config.stash[PRIVATE]

    def entries():
        names = {name for name in os.listdir(helpers.SHM) if name.startswith("shmvar")}
        return names if private else {name for name in names if name.startswith(tuple(MADE))}

    before = entries()
    yield
    until = time.monotonic() + 5
    while entries() - before and time.monotonic() < until:
        time.sleep(0.05)
    left = entries() - before
    assert not left, f"left behind: {sorted(left)}"


@pytest.fixture
def private_shm(request):
    """For tests of commands that look at everything in /dev/shm or repair it: never in the system's own."""
    if not request.config.stash[PRIVATE]:
        pytest.skip("needs root, for a /dev/shm of its own")


@pytest.fixture
def new_key():
    """Makes keys that nobody else has; their segments are destroyed after the test."""
    made = []

    def make(kind=str):
        number = (os.getpid() << 24 | next(NUMBERS)) + 0x5EED << 8
        made.append(number if kind is int else f"test-{number:x}")
        MADE.add(f"shmvar.i.{number}" if kind is int else f"shmvar.s.test-{number:x}")
        return made[-1]

    yield make
    for key in made:
        shmvar.destroy(key)


@pytest.fixture
def key(new_key):
    """A text key of the test's own."""
    return new_key()


@pytest.fixture
def new_php_key():
    """Makes keys of System V objects that nobody else has. After the test the objects are removed and must be gone."""
    made = set()

    def make():
        key = system_v.unused_key()
        made.add(key)
        return key

    yield make
    system_v.remove(system_v.objects(made))
    system_v.assert_gone(lambda: system_v.objects(made))


@pytest.fixture
def php_key(new_php_key):
    """Such a key."""
    return new_php_key()


@pytest.fixture
def seg(key):
    """A new segment; after the test `check` verifies its whole format."""
    segment = shmvar.attach(key)
    yield segment
    if not segment.detached:
        segment.check()
        segment.detach()


@pytest.fixture
def big(key):
    """A new segment with room for large values, and none of their views left behind."""
    segment = shmvar.attach(key, 2 << 30)
    yield segment
    gc.collect()
    segment.detach()


@pytest.fixture
def children():
    """A list for child processes (`Popen` or pid): those that still run after the test are killed."""
    started = []
    yield started
    for child in started:
        helpers.end(child)


@pytest.fixture
def workers():
    """The module of functions that multiprocessing's children import."""
    return child_functions
