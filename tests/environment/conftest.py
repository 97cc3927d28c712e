"""For the tests of programs whose threads are greenlets: each program is told which library it is about."""

import helpers
import pytest

# For each library: how it patches, and its names for what the tests need.
GEVENT = """
import gevent
from gevent import monkey, spawn, sleep, Timeout
def patch(**what): (monkey.patch_all if not what else monkey.patch_thread)()
def join(all): gevent.joinall(all, raise_error=True)
def kill(it): it.kill()
Killed = gevent.GreenletExit
def native(function, *args): return gevent.get_hub().threadpool.apply(function, args)
"""
EVENTLET = """
import warnings
warnings.simplefilter("ignore")
import eventlet, eventlet.tpool, greenlet
from eventlet import spawn, sleep, Timeout
def patch(**what): eventlet.monkey_patch(**what)
def join(all): [each.wait() for each in all]
def kill(it): it.kill()
Killed = greenlet.GreenletExit
def native(function, *args): return eventlet.tpool.execute(function, *args)
"""
LIBRARIES = {"gevent": GEVENT, "eventlet": EVENTLET}


@pytest.fixture(params=LIBRARIES)
def green(request):
    """Runs a program that has a library's names; unless told otherwise, it is patched before it imports `shmvar`."""
    pytest.importorskip(request.param)

    def program(code, patched="patch()"):
        return f"{LIBRARIES[request.param]}{patched}\nimport shmvar, threading\n", code

    def run(code, *args, patched="patch()", **options):
        drop, code = program(code, patched)
        return helpers.run(code, *args, drop=drop, **options)

    run.program = program
    return run
