"""`Segment.load`: what comes back, from golden files too; one batch over what is there, or nothing."""

import io
import pathlib

import helpers
import numpy
import pytest
from helpers import golden_dumps

import shmvar

HERE = pathlib.Path(__file__).parent


def dumped(segment):
    file = io.BytesIO()
    segment.dump(file)
    return file.getvalue()


def assert_golden(segment, in_place, more=6):
    for index, value in golden_dumps.VALUES.items():
        found = segment[index]
        assert found == value and type(found) is type(value)
    for index, array in golden_dumps.ARRAYS.items():
        assert (segment[index] == array).all() and segment[index].dtype == array.dtype
    for index in ("lives", 11):
        assert 0 < golden_dumps.LIFE - segment.stat(index).expires_in < 1e8
    assert segment["field"].tolist() == numpy.arange(12).reshape(3, 4).tolist() and bytes(segment["ring"]) == b"hello"
    assert segment.stat("field").in_place == segment.stat("ring").in_place == in_place
    assert len(segment) == len(golden_dumps.VALUES) + more
    for name, items in golden_dumps.ITEMS.items():
        queue = segment.queue(name)
        assert [queue.get_nowait() for _ in range(queue.qsize())] == items


@pytest.mark.parametrize("version", [1, 2])
def test_a_golden_dump_of_each_version_is_loaded_as_it_was_made(version, key):
    with shmvar.attach(key) as segment:
        path = HERE / f"golden-{version}.dump"
        assert path.read_bytes().startswith(b"shmvar dump %d\n" % version)
        # One more was changed all the time while the second was made.
        more = 5 + version
        assert segment.load(path) == len(golden_dumps.VALUES) + more
        assert (b'"gone"' in path.read_bytes()) == ("changes" in segment) == (version == 2)
        segment.check()
        assert_golden(segment, version == 2, more)
        segment.check()


def test_what_is_dumped_now_is_loaded_and_dumped_again(seg, new_key):
    golden_dumps.fill(seg)
    seg.queue("jobs").take().__enter__()  # dumped as if it waited
    with shmvar.attach(new_key()) as again, shmvar.attach(new_key()) as third:
        again.load(io.BytesIO(dumped(seg)))
        third.load(io.BytesIO(dumped(again)))
        for segment in (again, third):
            assert_golden(segment, in_place=True)
            segment.check()
            assert segment.info().used < seg.info().used


def test_arrays_come_back_viewable_and_in_place_ones_as_memory(seg, new_key):
    seg["array"] = numpy.arange(100_000)
    seg["several"] = {"a": numpy.arange(20_000), "b": [numpy.ones(30_000)], "c": b"x" * 40_000}
    seg["text"] = "x" * 100_000
    seg.put("lives", numpy.zeros(9_000), ttl=500)
    seg.array("field", 1_000_000, "u1")[:] = 7
    with shmvar.attach(new_key()) as again:
        assert again.load(io.BytesIO(dumped(seg))) == 5
        assert {i: again.stat(i).viewable for i in again} == {i: seg.stat(i).viewable for i in seg}
        assert {i: again.stat(i).size for i in again} == {i: seg.stat(i).size for i in seg}
        assert again.view("array").sum() == seg["array"].sum() and again["several"]["b"][0].sum() == 30_000
        field, other = again.array("field"), again.array("field")
        field[3] = 9
        assert other[3] == 9 and (other[4:] == 7).all() and 400 < again.stat("lives").expires_in <= 500
        again.check()


def test_what_is_in_place_is_replaced_as_by_put_and_the_reverse(seg, new_key):
    seg.array("a", 10, "i8")[:] = 1
    seg["b"] = "plain"
    held, data = seg.array("a"), dumped(seg)
    seg["a"] = "plain now"
    seg.remove("b")
    there = seg.array("b", 10, "i8")
    seg.load(io.BytesIO(data))
    assert seg.stat("a").in_place and seg.array("a").tolist() == [1] * 10 and seg["b"] == "plain"
    there[:] = 5  # the memory that was replaced is still its holder's
    held[:] = 6
    assert seg["b"] == "plain" and seg.array("a").tolist() == [1] * 10
    del there, held
    assert seg.load(io.BytesIO(data)) == 2
    seg.check()


def test_a_load_is_over_what_is_there_and_counts_as_a_change(seg):
    seg.update({1: "one", 2: "two"})
    data = dumped(seg)
    seg.update({1: "changed", 3: "stays"})
    before = seg.version(3)
    assert seg.load(io.BytesIO(data)) == 2
    assert dict(seg) == {1: "one", 2: "two", 3: "stays"} and seg.version(3) == before
    assert seg.version(1) > before and seg.version(2) > before


@pytest.mark.parametrize("limit", [3_950_000, 4_100_000])  # larger than the limit; larger than what others have left
def test_f36_what_does_not_fit_changes_nothing(limit, seg, new_key):
    seg.update({index: "x" * 900 for index in range(1000)})
    seg["large"] = bytes(3_000_000)
    seg.queue("jobs").put(b"x" * 50_000)
    data = dumped(seg)
    with shmvar.attach(new_key(), limit) as small:
        small.update({1: "one", 2: bytes(100_000), "other": bytes(200_000)})
        small.queue("jobs").put("there")
        before = {index: (small[index], small.version(index)) for index in small}
        used = small.info().used
        with pytest.raises(shmvar.SegmentFullError) as caught:
            small.load(io.BytesIO(data))
        assert caught.value.needed > caught.value.free and caught.value.size == limit
        assert {index: (small[index], small.version(index)) for index in small} == before
        assert small.info().used == used and small.queue("jobs").qsize() == 1
        small.check()
        small.resize(5_000_000)
        assert small.load(io.BytesIO(data)) == 1001 and small.queue("jobs").qsize() == 2
        small.check()


def test_a_dump_fits_into_a_segment_of_the_size_that_it_takes_and_into_none_that_is_smaller(seg, new_key):
    seg.update({1: 1, "text": "x" * 300, "large": bytes(70_000)})
    seg.put("lives", 2, ttl=1000)
    for name in ("jobs", 5):
        for item in (1, "x" * 5_000, bytes(40_000)):
            seg.queue(name).put(item)
    data, used = dumped(seg), seg.info().used
    with shmvar.attach(new_key(), used) as again:
        assert again.load(io.BytesIO(data)) == 4 and again.info().used == used
        again.check()
    with shmvar.attach(new_key(), used - 1) as small:
        with pytest.raises(shmvar.SegmentFullError):
            small.load(io.BytesIO(data))
        assert len(small) == 0 and small.info().queues == {} and small.info().used == 0


def test_in_a_segment_that_evicts_others_make_room(seg, new_key):
    seg.update({index: "x" * 900 for index in range(500)})
    data = dumped(seg)
    with shmvar.attach(new_key(), 1_000_000, evict="lru") as cache:
        cache.update({f"old {index}": "y" * 900 for index in range(900)})
        assert cache.load(io.BytesIO(data)) == 500
        assert all(cache[index] == "x" * 900 for index in range(500)) and cache.info().used <= 1_000_000
        cache.check()


def test_readers_see_all_of_a_load_or_nothing(seg, key, children):
    seg.update({index: "new" for index in range(3000)})
    seg["large"] = b"new" * 40_000
    data = dumped(seg)
    seg.update(dict.fromkeys(range(3000), "old") | {"large": b"old" * 40_000})
    reader = helpers.start(
        """
        segment = shmvar.attach(key)
        print("ready", flush=True)
        seen = set()
        while "new" not in seen:
            values = segment.get_many([*range(3000), "large"])
            kinds = {v if isinstance(v, str) else v[:3].decode() for v in values.values()}
            assert len(kinds) == 1, kinds
            seen |= kinds
        print("new" in seen, flush=True)
        """,
        key,
    )
    children.append(reader)
    helpers.until(lambda: seg.info().attached > 1)
    seg.load(io.BytesIO(data))
    assert reader.stdout.readline() == "True\n" and reader.wait(60) == 0


def test_times_to_live_are_those_that_were_left(seg, new_key):
    seg.put("soon", b"s" * 70_000, ttl=500)
    seg.put(1, 1, ttl=1000)
    seg.put(2, 2, ttl=0.001)
    seg.expire(1, 700)
    seg["stays"] = 1
    seg.put("stays now", 1, ttl=5)
    seg.expire("stays now", None)
    helpers.until(lambda: 2 not in seg)
    data = dumped(seg)
    with shmvar.attach(new_key()) as again:
        again.put("stays", 2, ttl=1)
        assert again.load(io.BytesIO(data)) == 4
        assert 450 < again.stat("soon").expires_in <= 500 and 650 < again.stat(1).expires_in <= 700
        assert again.stat("stays").expires_in is None and again.stat("stays now").expires_in is None


def test_a_read_only_handle_loads_nothing(seg, key):
    seg[1] = 1
    data = dumped(seg)
    with shmvar.attach(key, readonly=True) as reader, pytest.raises(shmvar.ReadOnlyError):
        reader.load(io.BytesIO(data))


def test_an_empty_segment_has_a_dump_too(seg, new_key):
    data = dumped(seg)
    with shmvar.attach(new_key()) as again:
        assert again.load(io.BytesIO(data)) == 0 and len(again) == 0


def test_many_variables_whose_table_grows(seg, new_key):
    with shmvar.attach(new_key(), 256 << 20) as many:
        many.update({index: index for index in range(30_000)})
        many.update({f"text {index}": "v" * (index % 50) for index in range(10_000)})
        data = dumped(many)
        assert seg.load(io.BytesIO(data)) == len(seg) == 40_000
        indexes = [*range(30_000), *(f"text {index}" for index in range(10_000))]
        assert seg.get_many(indexes) == many.get_many(indexes)
        assert len(dumped(seg)) == len(data)
