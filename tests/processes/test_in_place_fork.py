"""Arrays written in place and forks: a child keeps what it inherited, and its children do."""

import gc
import os
import threading

import helpers
import pytest
from helpers.in_place import freed, held

import shmvar


def test_a_forked_child_keeps_it_when_the_parent_drops_its_own(key):
    segment = shmvar.attach(key)
    size = 100_000
    field, raw = segment.array(1, size, initial=3), segment.buffer(2, size)
    go, gone = os.pipe()
    done, finished = os.pipe()

    def child(field, raw):
        os.close(gone)
        os.read(go, 1)
        assert (field == 3).all() and raw == bytes(size)
        field[:] = 4
        segment["from the child"] = b"\xff" * 800_000
        assert (field == 4).all()
        raw[:] = b"x" * size
        os.write(finished, b"x")
        os.read(go, 1)
        assert (field == 4).all() and raw == b"x" * size

    pid = helpers.fork(child, field, raw)
    os.close(go)
    del field, raw
    gc.collect()
    segment.clear()
    for turn in range(20):
        segment[turn] = b"\xff" * 400_000
    os.write(gone, b"x")
    assert os.read(done, 1) == b"x"
    assert held(segment) >= 9 * size
    for turn in range(20):
        segment[turn] = b"\xee" * 400_000
    os.close(gone)
    assert helpers.reap(pid) == 0
    assert all(segment[turn] == b"\xee" * 400_000 for turn in range(20))
    freed(segment)
    os.close(done)
    os.close(finished)
    segment.detach()


@pytest.mark.parametrize("first_call", [True, False], ids=["after a call", "without a call"])
def test_what_a_child_and_its_children_write_is_seen_by_the_parent_and_the_other_way_round(key, first_call):
    with shmvar.attach(key) as segment:
        field = segment.array(1, 10, "i8")
        ask, asked = os.pipe()
        answer, answered = os.pipe()

        def descend(depth, field):
            if first_call:
                segment[f"depth {depth}"] = depth
                assert segment.array(1)[0] == 1
            field[1 + depth] = depth + 1
            if depth < 3:
                helpers.in_child(descend, depth + 1, field)
            else:
                os.write(answered, b"x")
                os.read(ask, 1)
                assert field[0] == 2
                if first_call:
                    segment.array(1)[9] = 9
                else:
                    field[9] = 9

        field[0] = 1
        pid = helpers.fork(descend, 0, field)
        assert os.read(answer, 1) == b"x"
        assert field.tolist() == [1, 1, 2, 3, 4, 0, 0, 0, 0, 0] == segment[1].tolist()
        field[0] = 2
        os.write(asked, b"x")
        assert helpers.reap(pid) == 0 and field[9] == 9
        for end in (ask, asked, answer, answered):
            os.close(end)
        helpers.until(lambda: segment.info().attached == 1, what="the end of the children")
        del field
        freed(segment)


@pytest.mark.parametrize("end", ["detach", "destroy", "both"])
def test_a_child_keeps_what_outlived_every_handle(key, end):
    """The objects alone keep the map, and what is noted for the child."""
    segment = shmvar.attach(key)
    field = segment.array(1, 100_000, "i8", initial=3)
    writer = shmvar.attach(key)
    path = helpers.path_of(writer)
    code = """
    segment = shmvar.attach(key, create=False)
    print("ready", flush=True)
    for line in sys.stdin:
        segment.clear()
        segment.update({n: b"\\xff" * 800_000 for n in range(10)})
        segment.trim()
        print(segment.info().held, flush=True)
    """
    other = helpers.start(code, key)

    def overwritten():
        other.stdin.write("go\n")
        other.stdin.flush()
        return int(other.stdout.readline())

    try:
        if end != "detach":
            segment.destroy()
        if end != "destroy":
            segment.detach()
            writer.detach()
        go, gone = os.pipe()
        ready, is_ready = os.pipe()

        def child(field):
            os.close(gone)
            os.write(is_ready, b"x")
            os.read(go, 1)
            assert (field == 3).all(), "its memory was given to somebody else"
            field[:] = 4
            os.write(is_ready, b"x")
            os.read(go, 1)
            assert (field == 4).all(), "its memory was given to somebody else"

        pid = helpers.fork(child, field)
        os.close(go)
        assert os.read(ready, 1) == b"x"
        del field
        gc.collect()
        assert overwritten() >= 800_000
        os.write(gone, b"x")
        assert os.read(ready, 1) == b"x"
        assert overwritten() >= 800_000
        os.close(gone)
        assert helpers.reap(pid) == 0
        helpers.until(lambda: overwritten() == 0, what="the end of what the child held")
        for pipe in (ready, is_ready):
            os.close(pipe)
    finally:
        helpers.end(other)
        if os.path.exists(path) and end != "detach":
            os.unlink(path)


ORPHAN = """
import numpy as np
segment = shmvar.attach(key, create=False)
field, raw = segment.array("field", initial=np.arange(60_000)), segment.buffer("raw", 60_000)
(go, gone), (ready, is_ready) = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    os.close(gone)
    segment["child"] = 1
    field[0] = 5
    os.write(is_ready, b"x")
    while os.read(go, 1):  # until its parent has ended
        pass
    if os.fork():
        os._exit(0)  # its child goes on
    segment["grandchild"] = 1
    assert np.array_equal(field[1:], np.arange(1, 60_000)) and field[0] == 5
    segment.clear()
    for n in range(20):
        segment[n] = b"\\xff" * 480_000
    segment.trim()
    assert np.array_equal(field[1:], np.arange(1, 60_000)), "its memory was given to somebody else"
    field[:], raw[:] = 6, b"x" * 60_000
    assert all(segment[n] == b"\\xff" * 480_000 for n in range(20))
    assert segment.info().held >= 540_000
    del field, raw
    segment.clear()
    until = time.monotonic() + 60
    while segment.info().held:  # the system may still be at its parents' end
        assert time.monotonic() < until, segment.info()
        segment.trim()
    segment.check()
    print("whole", flush=True)
    os._exit(0)
assert os.read(ready, 1) == b"x"
if sys.argv[2] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
os._exit(0)
"""


@pytest.mark.parametrize("end", ["ends", "killed"])
def test_a_child_keeps_it_after_the_end_of_its_parents(key, end):
    with shmvar.attach(key) as segment:
        done = helpers.run(ORPHAN, key, end, check=False)
        assert done.stdout.split() == ["whole"], done
        helpers.until(lambda: segment.info().attached == 1, what="the end of the others")
        freed(segment)


def test_forks_while_threads_open_and_write(key):
    with shmvar.attach(key) as segment:
        field, stop = segment.array(1, (3, 5000), "i8"), []

        def write(number):
            turn = 0
            while not stop:
                turn += 1
                own = segment.array(1)[number]
                own[:] = turn
                assert (own == turn).all()
                segment.remove(f"own {number}")
                segment.array(f"own {number}", 100, initial=turn)

        def child(turn, field):
            field[2, turn] = turn
            segment.array(1)[2, 100 + turn] = turn
            assert segment.array("of children", 50)[0] == 0

        threads = [threading.Thread(target=write, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        try:
            for turn in range(40):
                helpers.in_child(child, turn, field)
        finally:
            stop.append(1)
            for thread in threads:
                thread.join(100)
        assert field[2, :40].tolist() == list(range(40)) == field[2, 100:140].tolist()
        del field
        freed(segment)
