"""A handle, and what is made from one, as other code meets it: `copy`, numpy's operators, and types by their names."""

import copy
import operator

import helpers
import numpy
import pytest


def test_copies_are_other_handles_on_the_same_segment(seg):
    for again in (copy.copy(seg), copy.deepcopy(seg), copy.deepcopy({"in a dict": seg})["in a dict"]):
        with again:
            again[1] = "seen"
            assert type(again) is type(seg) and again is not seg and seg.pop(1) == "seen"
        assert again.detached and not seg.detached
    queue = copy.deepcopy(seg.queue("q", maxsize=3))
    seg.queue("q").put(5)
    assert queue.get(timeout=5) == 5 and queue.maxsize == 3


def test_what_was_taken_and_an_iterator_of_changes_cannot_be_copied(seg):
    queue = seg.queue("q")
    queue.put("work")
    item, changes = queue.take(), seg.changes(timeout=0)
    with item as value:
        for act in (copy.copy, copy.deepcopy):
            for thing in (item, changes):
                with pytest.raises(TypeError, match=r"^cannot pickle 'shmvar\.\w+' object$"):
                    act(thing)
        # No copy has given it back.
        assert value == "work" and queue.qsize() == 0
    assert queue.qsize() == 0
    changes.close()


def test_numpy_takes_a_segment_for_one_object(seg):
    seg.update(enumerate("abcde"))
    number = numpy.int64(5)
    assert [bool(one) for one in (seg == number, number == seg, seg != number, number != seg)] == [0, 0, 1, 1]
    assert (seg == numpy.arange(3)).tolist() == [False] * 3 == (numpy.arange(3) == seg).tolist()
    array = numpy.asarray(seg)
    assert array.shape == () and array.dtype == object and array[()] is seg
    assert numpy.array([seg, seg]).shape == (2,) and numpy.array(seg, dtype=object)[()] is seg
    for act in (operator.add, operator.mul, operator.or_, operator.lt):
        for number in (numpy.int64(5), numpy.array([5])):
            for pair in ((seg, number), (number, seg)):
                with pytest.raises(TypeError, match=r"unsupported operand|not supported between"):
                    act(*pair)


def test_a_handle_imports_no_numpy(seg, key):
    code = """
    import copy
    s = shmvar.attach(key)
    s == {}, s == 5, copy.copy(s).detach(), s.add("n", 2**70), s.put("v", memoryview(b"v")), s.stat("v").type
    print("numpy" in sys.modules)
    """
    assert helpers.run(code, key).stdout == "False\n"


@pytest.mark.parametrize("size", [3, 60_000])
def test_the_type_of_a_memoryview_is_called_so(seg, size):
    seg["v"] = memoryview(bytes(size))
    assert seg.stat("v").type == "memoryview"
