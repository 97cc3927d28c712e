"""What the server keeps of the last changes of a handle is left to the next ones of the process: it does not grow."""

import os
import pickle
import threading

import helpers
from helpers.machine import SLOWER

import shmvar
from shmvar._remote.link import Link
from shmvar._remote.owners import thread
from shmvar._remote.taking import Taking

LONG = 60 * SLOWER


def slots(server, segment):
    return sum(field.startswith(b"c:") for field in server.call("HKEYS", segment._requests.prefix))


def test_handles_that_end_leave_no_slot_each(server, key):
    for number in range(50):
        with shmvar.attach(key) as segment:
            segment["n"] = number
            segment.queue("jobs").put(b"x" * 900)
            assert segment.queue("jobs").get()
            with segment.lock("l"):
                segment.add("m")
        shmvar.attach(key).touch("n")
        pickle.loads(pickle.dumps(shmvar.attach(key))).add("m")
    found = shmvar.attach(key)
    assert found["n"] == 49 and found["m"] == 100
    # The threads that renew and release may have some of their own.
    assert slots(server, found) < 10


def test_a_forked_child_has_slots_of_its_own(seg):
    seg["n"] = 0
    parents = {slot.field for slot in seg._requests._slots}
    with shmvar.attach(seg.url) as ended:
        ended.add("n", 0)
    parents.update(slot.field for slot in seg._requests._left)
    assert len(parents) == 2
    child = os.fork()
    if child == 0:
        with shmvar.attach(seg.url) as mine:
            mine.add("n")
            seg.add("n")
            fields = {slot.field for slot in [*seg._requests._slots, *mine._requests._slots]}
            fine = len(fields) == 2 and not fields & parents
        os._exit(0 if fine else 1)
    assert helpers.reap(child) == 0
    assert seg["n"] == 2 and seg.add("n") == 3


def test_a_slot_without_an_answer_belongs_to_no_other_handle(own_server):
    server = own_server()
    url = server.url("unsure", timeout=3)
    segment = shmvar.attach(url)
    segment["n"] = 1
    (before,) = [slot.field for slot in segment._requests._slots]
    with server.stopped():
        try:
            segment.add("n")
        except shmvar.SegmentUnavailableError as error:
            assert error.maybe_applied
    segment.detach()
    other = shmvar.attach(url)
    other.add("n")
    assert before not in {slot.field for slot in [*other._requests._slots, *other._requests._left]}


def test_what_undoes_a_taking_bars_no_later_request_of_the_same_slot(seg, monkeypatch):
    """The slot of a taking that is answered belongs to the next call, whose number is another one."""
    seg["n"] = 0
    taking = Taking(seg, b"sl", thread())
    assert taking.attempt()
    run, drawn, go_on = Link.run, threading.Event(), threading.Event()

    def held_up(self, *arguments, **named):
        if threading.current_thread() is putting:
            # The number is drawn, and nothing is sent yet.
            drawn.set()
            assert go_on.wait(LONG)
        return run(self, *arguments, **named)

    monkeypatch.setattr(Link, "run", held_up)
    putting = threading.Thread(target=lambda: seg.put("n", 1))
    putting.start()
    assert drawn.wait(LONG)
    taking.give_up()
    # It is undone when another one gets the lock.
    with seg.lock("l"):
        pass
    go_on.set()
    putting.join(LONG)
    assert seg["n"] == 1
