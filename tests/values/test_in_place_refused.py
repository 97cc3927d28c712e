"""Arrays and buffers in place: objects, wrong arguments and what does not fit are refused, and nothing is stored."""

import numpy as np
import pytest
from helpers.arrays import MIB

import shmvar

OBJECTS = {
    "objects": (3, "O"),
    "python": (3, object),
    "field": (3, [("a", "f8"), ("b", "O")]),
    "field of many": (3, [("a", "O", (2,))]),
    "inner field": (3, [("a", [("b", "O")])]),
    "subarray": (3, (object, (2,))),
}


@pytest.mark.parametrize("name", OBJECTS)
def test_objects_are_refused(seg, name):
    for more in ({}, {"initial": 0}):
        with pytest.raises(TypeError, match=r"object|\bO\b"):
            seg.array(1, *OBJECTS[name], **more)
    assert len(seg) == 0 and seg.info().used == 0


@pytest.mark.parametrize(
    "initial",
    [np.array([None]), [{}], [1, None], object(), np.zeros(2, [("a", "O")])],
    ids=["array", "dicts", "none in a list", "object", "struct"],
)
def test_what_is_made_of_objects_cannot_be_begun_with(seg, initial):
    with pytest.raises(TypeError, match="object"):
        seg.array(1, initial=initial)
    assert len(seg) == 0


@pytest.mark.skipif(not hasattr(np.dtypes, "StringDType"), reason="needs numpy 2")
def test_texts_of_any_length_are_refused(seg):
    dtype = np.dtypes.StringDType()
    for call in (
        lambda: seg.array(1, 3, dtype),
        lambda: seg.array(1, initial=np.array(["a", "b"], dtype)),
        lambda: seg.array(1, 3, "T"),
    ):
        with pytest.raises(TypeError, match="StringDType"):
            call()
    assert len(seg) == 0
    # Of another dtype they may be what it begins with.
    assert seg.array(1, dtype="U2", initial=np.array(["a", "bcd"], dtype)).tolist() == ["a", "bc"]


TOO_MUCH = (ValueError, OverflowError, MemoryError, shmvar.SegmentFullError)
WRONG = {
    "negative": (lambda seg: seg.array(1, -1), ValueError, "negative|-1"),
    "negative axis": (lambda seg: seg.array(1, (2, -3)), ValueError, "negative|-3"),
    "text": (lambda seg: seg.array(1, "3"), TypeError, ""),
    "float": (lambda seg: seg.array(1, 1.5), TypeError, ""),
    "float axis": (lambda seg: seg.array(1, (2, 1.5)), TypeError, ""),
    "object axis": (lambda seg: seg.array(1, (2, None)), TypeError, ""),
    "65 axes": (lambda seg: seg.array(1, (1,) * 65), ValueError, "dimension|axes"),
    "beyond 64 bits": (lambda seg: seg.array(1, 2**70), TOO_MUCH, ""),
    "beyond all memory": (lambda seg: seg.array(1, 2**62, "u1"), TOO_MUCH, ""),
    "product beyond": (lambda seg: seg.array(1, (2**40, 2**40), "u1"), TOO_MUCH, ""),
    "product that wraps": (lambda seg: seg.array(1, (2**32, 2**32), "f8"), TOO_MUCH, ""),
    "items beyond": (lambda seg: seg.array(1, 2**61, "f8"), TOO_MUCH, ""),
    "dtype": (lambda seg: seg.array(1, 3, "nonsense"), TypeError, ""),
    "date without unit": (lambda seg: seg.array(1, 3, "M8"), ValueError, "unit"),
    "time without unit": (lambda seg: seg.array(1, 3, "m8"), ValueError, "unit"),
    "dtype of a number": (lambda seg: seg.array(1, 3, 5), TypeError, ""),
    "order A": (lambda seg: seg.array(1, 3, order="A"), ValueError, "order|'C'"),
    "order K": (lambda seg: seg.array(1, 3, order="K"), ValueError, "order|'C'"),
    "order X": (lambda seg: seg.array(1, initial=3, order="X"), ValueError, "order|'C'"),
    "no order": (lambda seg: seg.array(1, 3, order=""), ValueError, "order|'C'"),
    "order 5": (lambda seg: seg.array(1, 3, order=5), (TypeError, ValueError), ""),
    "does not fit": (lambda seg: seg.array(1, (2, 3), initial=[1, 2]), ValueError, "broadcast"),
    "more axes": (lambda seg: seg.array(1, 3, initial=[[1, 2, 3], [4, 5, 6]]), ValueError, ""),
    "no number": (lambda seg: seg.array(1, 3, "f8", initial="x"), ValueError, "float|'x'"),
    "ragged": (lambda seg: seg.array(1, initial=[[1], [2, 3]]), ValueError, ""),
    "by position": (lambda seg: seg.array(1, 3, "f8", 0), TypeError, "argument"),
    "no such argument": (lambda seg: seg.array(1, size=3), TypeError, "size"),
    "without index": (lambda seg: seg.array(), TypeError, "index|argument"),
    "float index": (lambda seg: seg.array(1.5, 3), TypeError, ""),
    "none as index": (lambda seg: seg.array(None, 3), TypeError, ""),
    "bytes as index": (lambda seg: seg.buffer(b"x", 3), TypeError, ""),
    "large index": (lambda seg: seg.array(2**63, 3), OverflowError, ""),
    "long index": (lambda seg: seg.array("x" * 1025, 3), OverflowError, ""),
    "large index of a buffer": (lambda seg: seg.buffer(-(2**63) - 1, 3), OverflowError, ""),
    "no bytes": (lambda seg: seg.buffer(1, 0), ValueError, "0|1"),
    "negative size": (lambda seg: seg.buffer(1, -1), (ValueError, OverflowError), "negative|-1"),
    "float size": (lambda seg: seg.buffer(1, 1.5), TypeError, ""),
    "text size": (lambda seg: seg.buffer(1, "3"), TypeError, ""),
    "size beyond 64 bits": (lambda seg: seg.buffer(1, 2**70), TOO_MUCH, ""),
    "size beyond all memory": (lambda seg: seg.buffer(1, 2**63 - 1), TOO_MUCH, ""),
    "index of touch": (lambda seg: seg.touch(1.5), TypeError, ""),
    "large index of touch": (lambda seg: seg.touch(2**63), OverflowError, ""),
    "no index of touch": (lambda seg: seg.touch(), TypeError, "index|argument"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_are_typed_errors_and_change_nothing(seg, name):
    call, error, text = WRONG[name]
    with pytest.raises(error, match=text or None) as caught:
        call(seg)
    assert str(caught.value) and len(seg) == 0 and seg.info().used == 0 and seg.info().held == 0
    assert seg.array(1, 3).tolist() == [0, 0, 0]


@pytest.mark.parametrize("order", ["A", "X", ""])
def test_a_wrong_order_is_wrong_where_one_is_opened_too(seg, order):
    seg.array(1, 3)
    with pytest.raises(ValueError, match=r"order|'C'"):
        seg.array(1, 3, order=order)


def test_what_does_not_fit_the_limit_is_refused_with_the_numbers_and_changes_nothing(key):
    with shmvar.attach(key, 100_000) as segment:
        segment[1] = "old"
        field = segment.array("field", 5000)
        field[:] = 3
        before = segment.info()
        for call in (
            lambda: segment.array("new", 10_000),
            lambda: segment.array("new", initial=np.arange(10_000.0)),
            lambda: segment.buffer("new", 70_000),
            lambda: segment.buffer("new", 10**9),
        ):
            with pytest.raises(shmvar.SegmentFullError) as caught:
                call()
            error = caught.value
            assert error.size == 100_000 and error.needed > error.free >= 0
            assert all(str(number) in str(error) for number in (error.needed, error.free, error.size))
            assert (segment.info().used, segment.info().count, segment.info().held) == (before.used, 2, 0)
        assert segment.array("fits", 5000).sum() == 0 and (field == 3).all() and segment[1] == "old"
        with pytest.raises(shmvar.SegmentFullError):
            segment[2] = b"x" * 30_000
        segment.check()


def test_as_much_as_the_largest_put_fits_in_place(key):
    with shmvar.attach(key, MIB) as segment:
        for make in (lambda size: segment.buffer(1, size), lambda size: segment.array(1, size, "u1")):
            raw = make(segment.info().largest_put - 4096)
            raw[0] = raw[-1] = 1
            assert segment.info().used > MIB - 8192
            segment.remove(1)
            del raw
        segment.check()
