"""`memoize` on a server: results among processes, and computers that die or are stopped. See also test_contract.py."""

import asyncio
import os
import signal

import helpers
import pytest
from helpers.machine import SLOWER
from helpers.remote_queues import options

import shmvar

COMPUTE = """
s = shmvar.attach(key)
@s.memoize(name="slow")
def slow(number):
    s.add("computed")
    time.sleep(0.3)
    return [number]
print(*[slow(number)[0] for number in (1, 2, 1)], slow.cache_info().misses)
"""


def test_of_several_processes_one_computes_each_result(seg, key):
    printed = helpers.run_in_processes(COMPUTE, key, count=3)
    assert [line.split()[:3] for line in printed] == [["1", "2", "1"]] * 3
    assert seg["computed"] == 2 == sum(int(line.split()[3]) for line in printed)


DIES = """
s = shmvar.attach(key)
@s.memoize(name="slow")
def slow():
    print("computes", flush=True)
    if sys.stdin.readline() == "die\\n":
        os.kill(os.getpid(), signal.SIGKILL)
    return "of the stopped one"
print(slow(), flush=True)
"""


def test_when_the_one_that_computes_is_killed_another_one_computes(seg, key, children):
    children.append(helpers.start(DIES, options(key, grace=0.1)))
    children[-1].stdin.write("die\n")
    children[-1].stdin.flush()
    hasty = shmvar.attach(options(key, grace=0.1))
    assert hasty.memoize(lambda: os.getpid(), name="slow")() == os.getpid() == seg.memoize(os.getppid, name="slow")()
    assert children[-1].wait(60 * SLOWER) == -signal.SIGKILL


def test_one_that_was_stopped_beyond_its_lease_returns_its_result_and_stores_none(seg, key, children):
    children.append(helpers.start(DIES, options(key, lease=0.5)))
    child = children[-1]
    child.send_signal(signal.SIGSTOP)
    mine = seg.memoize(lambda: "mine", name="slow")
    # Waits for the end of the lease.
    assert mine() == "mine"
    child.send_signal(signal.SIGCONT)
    child.stdin.write("go on\n")
    child.stdin.flush()
    assert child.stdout.readline() == "of the stopped one\n"
    assert mine() == "mine" and mine.cache_info() == (1, 1)


def test_a_coroutine_that_was_stopped_beyond_its_lease_returns_its_result(seg, key):
    hasty = shmvar.attach(key)

    @hasty.memoize(name="slow")
    async def slow():
        # Its lease ends, and another one has stored a result.
        assert list(seg.info().locks) == [slow.index()]
        hasty._open.call(b"HDEL", hasty._requests.data + b"l", b"s" + slow.index().encode())
        await asyncio.to_thread(seg.put, slow.index(), "another's")
        return "mine"

    assert asyncio.run(slow()) == "mine" and seg[slow.index()] == "another's"


def test_an_error_of_the_function_for_a_lock_that_it_lost_is_its_own(seg):
    @seg.memoize(name="loses")
    def loses():
        raise shmvar.LockLostError("of the function")

    for _ in range(2):
        try:
            loses()
        except shmvar.LockLostError as error:
            assert str(error) == "of the function"
        else:
            raise AssertionError("no error")
    assert loses.cache_info().misses == 2 and len(seg) == 0


def test_the_program_of_a_user_shares_results_between_segments_of_one_url(seg, key):
    code = "s = shmvar.attach(key); print(s.memoize(len, name='length')('abc'), len(s))"
    assert [helpers.run(code, key).stdout.split() for _ in "ab"] == [["3", "1"]] * 2


OUTAGES = ["stands still", "is gone"]


@pytest.fixture(params=OUTAGES)
def outage(request, own_server):
    """A server, a segment on it, and a function that takes the server away."""
    server = own_server()

    def begin():
        if request.param == "is gone":
            server.kill()
        else:
            server.process.send_signal(signal.SIGSTOP)

    yield server, shmvar.attach(server.url("outage", timeout=3)), begin
    if request.param != "is gone":
        server.process.send_signal(signal.SIGCONT)


def test_a_result_is_returned_though_the_server_went_away_meanwhile(outage):
    _, segment, begin = outage

    @segment.memoize(name="costly")
    def costly(number):
        begin()
        return [number]

    with helpers.promptly(20):
        assert costly(5) == [5]
    # What cannot even be asked for is not computed.
    with helpers.promptly(20), pytest.raises(shmvar.SegmentUnavailableError):
        costly(6)
    assert costly.cache_info() == (0, 1)


def test_a_result_of_a_coroutine_is_returned_though_the_server_went_away_meanwhile(outage):
    _, segment, begin = outage

    @segment.memoize(name="costly")
    async def costly(number):
        begin()
        return [number]

    with helpers.promptly(20):
        assert asyncio.run(costly(5)) == [5]
    assert costly.cache_info() == (0, 1)


def test_after_the_outage_results_are_stored_again_and_nothing_is_locked(own_server):
    server = own_server()
    segment = shmvar.attach(server.url("outage", timeout=3))
    computed = []

    @segment.memoize(name="costly")
    def costly():
        computed.append(1)
        if len(computed) == 1:
            server.process.send_signal(signal.SIGSTOP)
        return len(computed)

    assert costly() == 1
    server.process.send_signal(signal.SIGCONT)
    # The late copy of the put, if the server has it yet, or a new result.
    with helpers.promptly(20):
        assert costly() in (1, 2) and costly() == segment[costly.index()]
    helpers.until(lambda: not segment.info().locks)


def test_an_error_of_the_function_for_a_server_that_does_not_answer_is_its_own(seg):
    @seg.memoize(name="asks")
    def asks():
        raise shmvar.SegmentUnavailableError("of the function")

    with pytest.raises(shmvar.SegmentUnavailableError, match="of the function"):
        asks()
    assert len(seg) == 0
