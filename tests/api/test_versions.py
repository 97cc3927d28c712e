"""Impossible versions differ from every real one; `update` refuses what the `update` of a dict refuses."""

import asyncio
from collections.abc import MutableMapping

import helpers
import numpy
import pytest

import shmvar

IMPOSSIBLE = [-1, -(2**63), -(2**200), 2**63, 2**64 - 1, 2**64, 2**200]


@pytest.mark.parametrize("version", IMPOSSIBLE, ids=range(len(IMPOSSIBLE)))
@pytest.mark.parametrize("index", [1, "missing"])
def test_a_version_that_cannot_be_differs(seg, index, version):
    seg[1] = "kept"
    now = seg.version(index)
    with helpers.promptly():
        assert seg.wait(index, newer_than=version) == seg.wait(index, 0, newer_than=version) == now
        assert asyncio.run(asyncio.wait_for(seg.changed(index, newer_than=version), 20)) == now
    assert seg.compare_and_put(index, version, "lost") is False and dict(seg) == {1: "kept"}


@pytest.mark.parametrize("version", [1.0, "1", [], numpy.float64(0)], ids=repr)
def test_what_is_no_int_is_no_version(seg, version):
    for call in (
        lambda: seg.wait(1, 0, newer_than=version),
        lambda: seg.changed(1, 0, newer_than=version),
        lambda: seg.compare_and_put(1, version, 2),
    ):
        with pytest.raises(TypeError):
            call()
    with pytest.raises(TypeError):
        seg.compare_and_put(1, None, 2)
    assert len(seg) == 0


def test_any_index_like_int_is_a_version(seg):
    assert seg.compare_and_put(1, numpy.int64(0), "a") and seg.compare_and_put(1, numpy.uint64(seg.version(1)), "b")
    assert seg.wait(1, newer_than=numpy.int8(0)) == seg.version(1) and seg[1] == "b"


class Plain(MutableMapping):
    """The behaviour of `MutableMapping`, over a dict: what a segment is compared with."""

    def __init__(self):
        self.inner = {}

    def __getitem__(self, index):
        return self.inner[index]

    def __setitem__(self, index, value):
        self.inner[index] = value

    def __delitem__(self, index):
        del self.inner[index]

    def __iter__(self):
        return iter(self.inner)

    def __len__(self):
        return len(self.inner)


@pytest.mark.parametrize("call", [
    lambda m: m.update(),
    lambda m: m.update(a=1, other=2, self=3),
    lambda m: m.update({}),
    lambda m: m.update(()),
    lambda m: m.update([(1, 2)], a=1),
    lambda m: m.update({1: 3}, a=4),
    lambda m: m.update(None),
    lambda m: m.update(None, a=1),
    lambda m: m.update(5),
    lambda m: m.update([5]),
    lambda m: m.update([(1, 2, 3)]),
    lambda m: m.update({}, {}),
    lambda m: m.update(other=None),
], ids=range(13))  # fmt: skip
def test_update_takes_and_refuses_what_a_mutable_mapping_does(seg, call):
    def outcome(mapping):
        try:
            return call(mapping), dict(mapping)
        except (TypeError, ValueError) as error:
            return type(error), dict(mapping)

    assert outcome(seg) == outcome(Plain())


def test_put_many_of_nothing_is_a_type_error(seg):
    for wrong in (None, 5):
        with pytest.raises(TypeError):
            seg.put_many(wrong)


@pytest.mark.slow
def test_a_reader_beside_a_batch_that_nobody_finishes_is_told_so(seg, key):
    seg.update({1: 1, 2: 2})
    with shmvar.attach(key, readonly=True) as reader, helpers.Raw(seg) as raw:
        many = raw.MANY
        (count,) = raw.unpack("<Q", many)
        raw.pack("<Q", many, count | 1)
        with pytest.raises(shmvar.SegmentBusyError, match="a batch was half made") as caught:
            reader.get_many([1, 2])
        assert "large" not in str(caught.value) and key in str(caught.value)
        raw.pack("<Q", many, count)
        assert reader.get_many([1, 2]) == {1: 1, 2: 2}
