"""What is written in place is a variable like others: it is read, listed and counted, through every kind of handle."""

import pickle
import threading
import time

import helpers
import numpy as np
import pytest
from helpers.in_place import is_a_copy

import shmvar
from shmvar._core import _get_pickle, _put_pickle, _variable_info


@pytest.fixture
def field(seg):
    """Four numbers under the index "field"."""
    made = seg.array("field", initial=np.arange(4.0))
    yield made
    assert np.array_equal(made[:2], [0, 1]), "somebody else wrote to its memory"


# --- reading

READS = {
    "[]": lambda seg: seg["field"],
    "get": lambda seg: seg.get("field"),
    "get_versioned": lambda seg: seg.get_versioned("field")[0],
    "get_many": lambda seg: seg.get_many(["field", "other"])["field"],
    "items": lambda seg: dict(seg.items())["field"],
    "values": lambda seg: next(value for value in seg.values() if isinstance(value, np.ndarray)),
    "dict": lambda seg: dict(seg)["field"],
    "setdefault": lambda seg: seg.setdefault("field", 5),
    "pickle": lambda seg: pickle.loads(_get_pickle(seg, "field")),
}


@pytest.mark.parametrize("how", READS)
def test_every_read_is_a_copy_of_what_is_there_now(seg, field, how):
    seg["other"] = "plain"
    version = seg.version("field")
    is_a_copy(seg, READS[how](seg))
    field[3] = 7
    is_a_copy(seg, READS[how](seg), (0, 1, 2, 7))
    assert seg.version("field") == version == seg.get_versioned("field")[1]
    assert seg.array("field").tolist() == [0, 1, 2, 7] == field.tolist()


LARGE = 2_000_000
TAKES = {
    **READS,
    "pop": lambda seg: seg.pop("field"),
    "popitem": lambda seg: seg.popitem()[1],
    "swap": lambda seg: seg.swap("field", 5),
    "modify": lambda seg: seg.modify("field", lambda old: old) is not None and seg["field"],
    "read-only": lambda seg: shmvar.attach(seg.key, readonly=True)["field"],
    "read-only array": lambda seg: shmvar.attach(seg.key, readonly=True).array("field"),
    "read-only view": lambda seg: shmvar.attach(seg.key, readonly=True).view("field"),
    "not trusted": lambda seg: shmvar.attach(seg.key, trust=False)["field"],
    "stored": lambda seg: (seg.put("copy", seg.array("field")), seg.pop("copy"))[1],
    "stored view": lambda seg: (seg.put("copy", seg.view("field")), seg.pop("copy"))[1],
    "begun with": lambda seg: seg.array("copy", initial=seg.array("field")),
}


@pytest.mark.parametrize("kind", ["array", "buffer"])
@pytest.mark.parametrize("how", TAKES)
def test_a_large_copy_shows_nothing_of_later_writes_and_holds_no_memory(seg, how, kind):
    """Pages of it are not shared until they are written to, as those of a large value that was put are."""
    if kind == "buffer" and how in ("read-only array", "begun with", "values", "stored"):
        how = "[]"
    field = seg.array("field", LARGE, "u1") if kind == "array" else seg.buffer("field", LARGE)
    like = (bytes(range(256)) * 7813)[:LARGE]
    memoryview(field)[:] = like
    got = TAKES[how](seg)
    memoryview(field)[:] = b"\xff" * LARGE
    assert bytes(got) == like
    if "read-only" not in how and how != "begun with":
        got[0] = 77
        assert field[0] == 255
    seg.clear()
    del field
    seg["a change"] = 0
    # What was put is read as a private map, and it is another array that the last one is.
    assert how in ("modify", "stored", "stored view", "begun with") or seg.info().held == 0
    assert bytes(got)[1:] == like[1:]


def test_a_buffer_is_read_as_a_memoryview_of_ones_own(seg):
    raw = seg.buffer("raw", 4)
    raw[:] = b"abcd"
    for found in (seg["raw"], seg.get("raw"), seg.get_many(["raw"])["raw"], *seg.values(), seg.get_versioned("raw")[0]):
        assert type(found) is memoryview and found == b"abcd" and not found.readonly and found.format == "B"
        found[0] = 0
    assert raw == b"abcd" == seg.buffer("raw") and seg == {"raw": b"abcd"}
    raw[0] = ord("x")
    assert seg != {"raw": b"abcd"} and seg == {"raw": b"xbcd"}
    assert pickle.loads(_get_pickle(seg, "raw")) == b"xbcd"


def test_an_array_in_fortran_order_is_read_as_one(seg):
    like = np.asfortranarray(np.arange(60_000.0).reshape(200, 300))
    made = seg.array(1, initial=like, order="F")
    made[3, 4] = like[3, 4] = -5
    for found in (seg[1], seg.view(1), seg.pop(1)):
        assert found.flags.f_contiguous and not found.flags.c_contiguous and np.array_equal(found, like)


@pytest.mark.parametrize("size", [4, 100_000])
def test_a_view_is_a_read_only_window_on_live_memory(seg, size):
    made, raw = seg.array(1, size), seg.buffer(2, size)
    window, bytes_ = seg.view(1), seg.view(2)
    assert type(window) is np.ndarray and not window.flags.writeable
    assert type(bytes_) is memoryview and bytes_.readonly and bytes_.format == "B" and len(bytes_) == size
    made[-1], raw[-1] = 5, 6
    assert window[-1] == 5 and bytes_[-1] == 6
    with pytest.raises(ValueError, match="read-only"):
        window[0] = 1
    with pytest.raises(ValueError, match=r"WRITEABLE|writeable"):
        window.flags.writeable = True
    with pytest.raises(TypeError):
        bytes_[0] = 1
    with pytest.raises((TypeError, BufferError, ValueError)):
        np.frombuffer(bytes_, "u1")[0] = 1
    assert seg.stat(1).viewable and seg.stat(2).viewable
    seg.remove(1)
    made[-1] = 7
    assert window[-1] == 7 and window[0] == 0


def test_it_is_listed_and_looked_for_like_others(seg, field):
    seg.buffer(5, 10)
    assert "field" in seg and seg.has("field") and 5 in seg and len(seg) == 2
    assert set(seg) == {"field", 5} == set(seg.keys()) and seg.info().count == 2
    assert seg.check().variables == 2 and seg.check().live == 2


@pytest.mark.parametrize("size", [0, 1, 7, 8, 4096, 100_000])
def test_it_is_charged_its_bytes(seg, size):
    seg["plain"] = b"x" * 1000
    for index in (1, "a text of 23 characters"):
        before = seg.info().used
        key = len(index) if isinstance(index, str) else 0
        seg.array(index, size, "u1")
        charge = seg.stat(index).size
        assert 32 + key + size <= charge <= 32 + key + size + 500
        assert seg.info().used == before + charge == sum(seg.stat(each).size for each in seg)
        if size:
            seg.buffer("buffer", size)
            assert size <= seg.stat("buffer").size - 38 <= size + 300
            seg.remove("buffer")
        assert seg.info().used == before + charge
    seg.clear()
    assert seg.info().used == 0


def test_stat_tells_that_it_is_in_place(seg, field):
    seg["plain"], seg["array"] = 5, np.arange(100_000)
    seg.buffer("raw", 3)
    facts = seg.stat("field")
    assert facts.in_place is True and facts.type == "numpy.ndarray" and facts.expires_in is None
    assert facts.version == seg.version("field") and facts._asdict()["in_place"] is True
    assert seg.stat("raw").in_place is True and seg.stat("raw").type == "memoryview"
    for index in ("plain", "array"):
        assert seg.stat(index).in_place is False and seg.stat(index)._asdict()["in_place"] is False
    again = pickle.loads(pickle.dumps(facts))
    assert again == facts and hash(again) == hash(facts) and again.in_place is True
    assert again._asdict() == facts._asdict()
    seg["field"] = seg["field"]
    assert seg.stat("field") != facts and seg.stat("field").in_place is False


def test_facts_pickled_by_an_earlier_version_are_not_in_place():
    for old in ((40, 3, None, "int"), (40, 3, 10**9, "numpy.ndarray", True)):
        facts = _variable_info(*old)
        assert facts.in_place is False and facts.type == old[3] and facts.size == 40 and facts.version == 3


def test_it_stays_while_the_table_grows_and_shrinks(seg):
    fields = {index: seg.array(index, 10, initial=number) for number, index in enumerate([-1, "a", "b" * 500, 10**12])}
    for round_ in range(3):
        seg.update({index: index for index in range(5_000)})
        seg.update({f"text {index}": index for index in range(2_000)})
        for number, (index, field) in enumerate(fields.items()):
            field[round_] = -round_
            assert seg.stat(index).in_place and seg.array(index)[round_] == -round_ and seg.array(index)[9] == number
        for index in range(5_000):
            seg.remove(index)
        seg.trim()
    assert seg.info().held == 0


# --- handles


def test_through_a_read_only_handle_it_is_a_read_only_copy_of_the_moment(seg, key, field):
    raw = seg.buffer("raw", 4)
    with shmvar.attach(key, readonly=True) as reader:
        copies = [reader.array("field"), reader.array("field", 4, "f8"), reader.view("field")]
        copies += [reader.array("field", initial=np.zeros(4)), reader.array("field", dtype="f8")]
        pieces = [reader.buffer("raw"), reader.buffer("raw", 4), reader.view("raw")]
        own = reader["field"]
        field[3], raw[3] = 7, 7
        for copy in copies:
            assert type(copy) is np.ndarray and copy.tolist() == [0, 1, 2, 3] and not copy.flags.writeable
            with pytest.raises(ValueError, match="read-only"):
                copy[0] = 1
        for piece in pieces:
            assert type(piece) is memoryview and piece.readonly and piece == bytes(4) and piece.format == "B"
        assert own.flags.writeable and reader["field"].tolist() == [0, 1, 2, 7] and reader.buffer("raw")[3] == 7
        assert reader.stat("field").in_place and reader.get_many(["field"])["field"][3] == 7
        seg.clear()
        seg["more"] = 1
        del raw
        assert seg.info().held > 0, "the field of the fixture"
    assert all(copy.tolist() == [0, 1, 2, 3] for copy in copies) and pieces[0] == bytes(4)


def test_who_may_only_read_keeps_no_memory_alive(seg, key):
    seg.array(1, 100_000)
    seg.buffer(2, 100_000)
    with shmvar.attach(key, readonly=True) as reader:
        kept = [reader.array(1), reader.view(1), reader.buffer(2), reader.view(2), reader[1]]
        seg.clear()
        seg["more"] = 1
        assert seg.info().held == 0 and len(kept) == 5


def test_through_a_read_only_handle_nothing_is_made_or_touched(seg, key, field):
    with shmvar.attach(key, readonly=True) as reader:
        for call in (
            lambda: reader.array("new", 3),
            lambda: reader.array("new", initial=1),
            lambda: reader.array("new", (2, 2), "i4", initial=1),
            lambda: reader.buffer("new", 5),
            lambda: reader.touch("field"),
        ):
            with pytest.raises(shmvar.ReadOnlyError):
                call()
        for call in (lambda: reader.array("new"), lambda: reader.buffer("new"), lambda: reader.array("new", dtype=int)):
            with pytest.raises(KeyError):
                call()
        for call in (
            lambda: reader.array("field", 5),
            lambda: reader.array("field", dtype="i4"),
            lambda: reader.buffer("field"),
            lambda: reader.buffer("field", 32),
        ):
            with pytest.raises(ValueError, match="field"):
                call()
        assert len(seg) == 1 and seg.version("field") == reader.version("field")


def test_through_a_detached_handle_every_call_says_so(seg, key, field):
    other = shmvar.attach(key)
    other.detach()
    for call in (
        lambda: other.array("field"),
        lambda: other.array("new", 3),
        lambda: other.buffer("new", 3),
        lambda: other.touch("field"),
    ):
        with pytest.raises(shmvar.DetachedError):
            call()


# --- dump


def test_its_pickle_is_stored_as_a_plain_variable(seg, field):
    raw = seg.buffer("raw", 3)
    raw[:] = b"abc"
    for index, like in (("field", field), ("raw", raw)):
        stored = _get_pickle(seg, index)
        assert np.array_equal(pickle.loads(stored), like)
        _put_pickle(seg, "copy", stored)
        assert np.array_equal(seg["copy"], like) and not seg.stat("copy").in_place


def test_reads_beside_a_writer_are_of_the_right_size_whatever_they_hold(seg):
    field, stop = seg.array(1, 300_000, "i8"), []

    def write():
        turn = 0
        while not stop:
            turn += 1
            field[:] = turn

    thread = threading.Thread(target=write)
    thread.start()
    try:
        last = 0
        for _ in helpers.looks(seconds=1, turns=5):
            for found in (seg[1], seg.view(1), seg.get_many([1])[1], pickle.loads(_get_pickle(seg, 1))):
                assert found.shape == (300_000,) and found.min() >= last - 1
            last = int(field[0])
    finally:
        stop.append(1)
        thread.join(100)


def test_other_threads_run_while_a_large_one_is_made_or_copied(key):
    with shmvar.attach(key, 2 << 30) as segment:
        turns, stop = [0], []

        def count():
            while not stop:
                turns[0] += 1
                time.sleep(0)

        thread = threading.Thread(target=count)
        thread.start()
        try:
            # Each of these is a single call; a thread that gets no turn in it gets none in a hundred of them either.
            calls = {
                "make": lambda: segment.array(1, 32 << 20),
                "initial": lambda: segment.array(2, initial=np.broadcast_to(np.float64(1), 32 << 20)),
                "get": lambda: segment[1],
            }
            for name, call in calls.items():
                before = turns[0]
                kept = call()
                assert turns[0] - before > 1, name
                del kept
        finally:
            stop.append(1)
            thread.join(100)
