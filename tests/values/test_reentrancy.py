"""Values that call back into their handle while they are pickled or unpickled, or take long."""

import threading
import time

import pytest

import shmvar

HANDLE = []


class Reenters:
    """Calls back into its handle while it is pickled and while it is unpickled."""

    def __init__(self, what):
        self.what = what

    def __reduce__(self):
        act(self.what)
        return (rebuild, (self.what,))


def act(what):
    segment = HANDLE[0]
    match what:
        case "put":
            segment[1] = "inner"
            segment[9] = b"y" * 200_000
        case "nothing":
            pass
        case "get":
            list(segment), segment.info(), segment.get(2), segment.has(1)
        case "remove":
            segment.remove(1)
        case "clear":
            segment.clear()
        case "grow":
            segment.update({n: n for n in range(1000, 3000)})
        case "trim":
            segment.trim()
        case "detach":
            segment.detach()


def rebuild(what):
    act(what)
    return what


@pytest.mark.parametrize("weight", [1, 500_000])
@pytest.mark.parametrize("what", ["put", "get", "remove", "clear", "grow", "trim"])
def test_f51_a_value_may_call_back_into_its_handle_while_pickled_and_unpickled(seg, what, weight):
    HANDLE[:] = [seg]
    seg[1] = seg[2] = b"x" * 100_000
    for index in (1, "one"):
        seg[index] = [Reenters(what), b"z" * weight]
        assert seg.get(index) == [what, b"z" * weight]
    if what not in ("remove", "clear"):
        assert seg.pop("one") == [what, b"z" * weight]
    seg.check()


@pytest.mark.parametrize("weight", [1, 500_000])
def test_f51_a_value_may_detach_its_handle_while_pickled_and_unpickled(key, weight):
    with shmvar.attach(key) as keep:
        HANDLE[:] = [shmvar.attach(key)]
        keep[1] = "old"
        with pytest.raises(shmvar.DetachedError):
            HANDLE[0][1] = [Reenters("detach"), b"z" * weight]
        assert keep[1] == "old" and HANDLE[0].detached
        HANDLE[:] = [shmvar.attach(key)]
        other = shmvar.attach(key)
        other[1] = [Reenters("detach"), b"z" * weight]
        assert HANDLE[0].detached
        HANDLE[:] = [other]
        assert other[1] == ["detach", b"z" * weight] and other.detached
        with pytest.raises(shmvar.DetachedError):
            other[1]
        assert keep.check().variables == 1


def test_f52_a_slow_pickle_holds_up_nobody(seg):
    pickling, go_on = threading.Event(), threading.Event()

    class Slow:
        def __reduce__(self):
            pickling.set()
            assert go_on.wait(30)
            return (list, ())

    thread = threading.Thread(target=seg.put, args=(1, [Slow()]))
    thread.start()
    assert pickling.wait(10)
    began = time.monotonic()
    for number in range(100):
        seg[2] = b"x" * number * 1000
    assert seg.get(1) is None and time.monotonic() - began < 5
    go_on.set()
    thread.join(30)
    assert seg[1] == [[]]


class Counted:
    """Is pickled as 7, and does something else meanwhile."""

    def __init__(self, meanwhile):
        self.meanwhile, self.pickled = meanwhile, 0

    def __reduce__(self):
        self.pickled += 1
        self.meanwhile()
        return (int, (7,))


def test_f51_what_swap_and_setdefault_store_is_pickled_once_though_it_changes_that_very_variable(seg):
    value = Counted(lambda: seg.put("swapped", "inner"))
    assert seg.swap("swapped", value) == "inner" and seg["swapped"] == 7 and value.pickled == 1
    value = Counted(lambda: seg.put("set", "inner"))
    assert seg.setdefault("set", value) == "inner" and seg["set"] == "inner" and value.pickled == 1
    value = Counted(lambda: None)
    assert seg.setdefault("set", value) == "inner" and value.pickled == 0
    assert seg.setdefault("new", value) is value and seg["new"] == 7 and value.pickled == 1


def test_f52_a_swap_that_pickles_for_long_is_not_begun_anew_for_whoever_is_faster(seg):
    def others():
        for _ in range(3):
            seg.add("n")
        time.sleep(0.05)

    value, stop = Counted(others), threading.Event()

    def count():
        while not stop.is_set():
            seg.add("n")
            time.sleep(0.01)

    thread = threading.Thread(target=count)
    thread.start()
    try:
        assert seg.swap("n", value) >= 3 and value.pickled == 1
    finally:
        stop.set()
        thread.join(30)
