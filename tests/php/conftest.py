"""For the tests of `shmvar.php`: a process of real PHP, and no System V object may be left behind."""

import pytest
from helpers import php as real_php
from helpers import system_v


@pytest.fixture(autouse=True)
def nothing_is_left_in_system_v():
    """After each test the IPC namespace holds what it held before. (One that others use tells nothing.)"""
    before = system_v.objects()
    yield
    if system_v.is_private():
        left = system_v.objects() - before
        if left:
            system_v.remove({(kind, identity, key) for kind, identity, key in left if key == 0})
        system_v.assert_gone(lambda: system_v.objects() - before)


@pytest.fixture
def in_php():
    """A PHP process that evaluates what it is told."""
    process = real_php.Process()
    yield process
    process.close()


@pytest.fixture
def new_php():
    """Makes such processes; all of them end with the test."""
    made = []

    def make(**options):
        made.append(real_php.Process(**options))
        return made[-1]

    yield make
    for process in made:
        process.close()
