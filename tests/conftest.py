"""For every test: keys of its own, a check that nothing is left behind, a private /dev/shm where that is possible."""

import gc
import itertools
import os
import signal
import time
from pathlib import Path

import helpers
import pytest
from helpers import child_functions
from hypothesis import HealthCheck, settings

import shmvar

NUMBERS = itertools.count(1)

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
    config.addinivalue_line("markers", "slow: takes seconds or gigabytes; runs all the same")
    # No test meets, lists or damages a segment of somebody else.
    config.stash[PRIVATE] = helpers.private_shm("size=75%")


PRIVATE = pytest.StashKey[bool]()


def pytest_report_header(config):
    where = "a private one" if config.stash[PRIVATE] else "the system's"
    return f"shmvar {shmvar.__version__} from {Path(shmvar.__file__).parent}, /dev/shm: {where}"


def entries():
    return {name for name in os.listdir(helpers.SHM) if name.startswith("shmvar")}


@pytest.fixture(autouse=True)
def nothing_is_left_in_shm():
    """After each test, /dev/shm has no shmvar entry that it did not have before."""
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
        return made[-1]

    yield make
    for key in made:
        shmvar.destroy(key)


@pytest.fixture
def key(new_key):
    """A text key of the test's own."""
    return new_key()


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
