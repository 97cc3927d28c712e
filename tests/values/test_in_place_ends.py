"""The memory of what is written in place when its handles are detached and its program ends."""

import gc

import helpers
import pytest
from helpers.in_place import SIZE, freed

import shmvar

# --- who keeps it


def test_it_outlives_every_handle_and_the_segment(key):
    segment = shmvar.attach(key)
    field, raw = segment.array(1, SIZE), segment.buffer(2, SIZE)
    segment.destroy()
    segment.detach()
    del segment
    gc.collect()
    with shmvar.attach(key) as anew:
        assert anew.created and len(anew) == 0
        other = anew.array(1, SIZE)
        other[:] = 1
        field[:], raw[:] = 2, b"x" * SIZE
        assert (other == 1).all() and (field == 2).all() and raw == b"x" * SIZE
    maps = helpers.count_mappings()
    del field, raw, other
    gc.collect()
    assert helpers.count_mappings() <= maps


def test_with_the_last_of_it_the_maps_and_descriptors_of_a_detached_segment_are_gone(key):
    def use(number):
        with shmvar.attach(key) as segment:
            field = segment.array(number, SIZE)
            raw = segment.buffer(-1 - number, 100)
        field[:], raw[0] = number, 1
        return float(field[-1])

    use(0)
    descriptors, maps = helpers.count_descriptors(), helpers.count_mappings()
    for number in range(20):
        assert use(number) == number
    gc.collect()
    assert helpers.count_descriptors() <= descriptors and helpers.count_mappings() <= maps + 2


# --- ends of programs and of handles

ENDING = """
import gc, threading
import numpy as np
segment = shmvar.attach(key, create=False)
field, raw = segment.array("field", 50_000), segment.buffer("raw", 50_000)
piece, window, seen = field[5:], memoryview(field)[3:], segment.view("field")

class Holder:
    def __init__(self, array):
        self.array, self.itself = array, self
    def __del__(self):
        self.array[0] += 1

holder = Holder(segment.array("field"))
sys.kept = Holder(segment.array("field"))

def work(segment):
    while True:
        segment.array("field")[1] += 1
        segment.buffer(f"new {threading.get_ident()}", 1000)
        segment.remove(f"new {threading.get_ident()}")

for _ in range(2):
    threading.Thread(target=work, args=(segment,), daemon=True).start()
if sys.argv[2] == "replaced":
    raw = segment.array("raw", 3) if segment.remove("raw") else None
if sys.argv[2] == "detached":
    with shmvar.attach(key) as other:
        raw = other.array("raw", 3) if other.remove("raw") else None
if sys.argv[2] == "error":
    raise SystemExit(field[5:8].tolist() == [0, 0, 0] and 7)
time.sleep(0.05)
"""


@pytest.mark.parametrize("how", ["alive", "replaced", "detached", "error"])
def test_a_program_that_ends_with_arrays_prints_nothing_and_leaves_nothing(seg, key, how):
    done = helpers.run(ENDING, key, how, check=False)
    assert (done.returncode, done.stdout) == (7 if how == "error" else 0, ""), done
    assert not done.stderr
    freed(seg)


def test_handles_that_are_detached_while_others_open_arrays_through_them(key):
    with shmvar.attach(key) as segment:
        segment.array("field", 20_000, "i8", initial=7)
        handles, stop = [shmvar.attach(key)], []

        def work(number):
            try:
                turn = 0
                for _ in helpers.looks(seconds=1, turns=100):
                    if stop:
                        break
                    turn += 1
                    if number == 0:
                        handles.append(shmvar.attach(key))
                        handles.pop(0).detach()
                        continue
                    try:
                        found = handles[0].array("field")
                        handles[0].buffer(f"of {number}", 10)[0] = turn % 256
                        handles[0].touch("field")
                        handles[0].remove(f"of {number}")
                    except shmvar.DetachedError:
                        continue
                    assert found[0] == found[-1] == 7 and found.shape == (20_000,)
            finally:
                stop.append(number)

        helpers.in_threads(work, 4)
        for handle in handles:
            handle.detach()
        freed(segment)
