"""Segment: attributes, detach and destroy, resize and trim, stat and info, pickled handles; the PHP-style functions."""

import copy
import gc
import os
import pickle
import weakref

import helpers
import pytest

import shmvar


def every_call(segment):
    """Every call of a handle, by name."""
    return {
        "getitem": lambda: segment[1],
        "setitem": lambda: segment.__setitem__(1, 2),
        "delitem": lambda: segment.__delitem__(1),
        "contains": lambda: 1 in segment,
        "len": lambda: len(segment),
        "iter": lambda: iter(segment),
        "bool": lambda: bool(segment),
        "eq": lambda: segment == {},
        "put": lambda: segment.put(1, 2),
        "get": lambda: segment.get(1),
        "has": lambda: segment.has(1),
        "remove": lambda: segment.remove(1),
        "pop": lambda: segment.pop(1, None),
        "popitem": lambda: segment.popitem(),
        "setdefault": lambda: segment.setdefault(1, 2),
        "update": lambda: segment.update({1: 2}),
        "clear": lambda: segment.clear(),
        "keys": lambda: list(segment.keys()),
        "values": lambda: list(segment.values()),
        "items": lambda: list(segment.items()),
        "stat": lambda: segment.stat(1),
        "info": lambda: segment.info(),
        "resize": lambda: segment.resize(1000),
        "trim": lambda: segment.trim(),
        "destroy": lambda: segment.destroy(),
        "size": lambda: segment.size,
        "with": lambda: segment.__enter__(),
        "pickle": lambda: pickle.dumps(segment),
        "shm_put_var": lambda: shmvar.shm_put_var(segment, 1, 2),
        "shm_get_var": lambda: shmvar.shm_get_var(segment, 1),
        "shm_has_var": lambda: shmvar.shm_has_var(segment, 1),
        "shm_remove_var": lambda: shmvar.shm_remove_var(segment, 1),
        "shm_remove": lambda: shmvar.shm_remove(segment),
    }


def test_f14_every_call_of_a_detached_handle_is_a_detached_error(key):
    segment, other = shmvar.attach(key), shmvar.attach(key)
    segment[1] = "stays"
    views = segment.keys(), segment.values(), segment.items()
    assert segment.detached is False
    assert segment.detach() is None and segment.detached is True
    for name, call in every_call(segment).items():
        with pytest.raises(shmvar.DetachedError):
            call()
            pytest.fail(name)
    for view in views:
        with pytest.raises(shmvar.DetachedError):
            list(view)
    assert (segment.key, segment.created, segment.readonly, segment.trusted) == (key, True, False, True)
    assert key in repr(segment) and other[1] == "stays" and len(other) == 1
    other.detach()


def test_f13_detach_twice_and_after_destroy_is_nothing(key):
    segment = shmvar.attach(key)
    segment.destroy()
    segment.destroy()
    segment[1] = "still mine"
    assert segment[1] == "still mine"
    segment.detach()
    segment.detach()
    assert shmvar.shm_detach(segment) is True
    with pytest.raises(shmvar.DetachedError):
        segment.destroy()


def test_with_detaches_and_never_destroys(key):
    with shmvar.attach(key) as segment:
        segment[1] = 1
    assert segment.detached and shmvar.exists(key)
    with pytest.raises(ZeroDivisionError), shmvar.attach(key) as segment:
        raise ZeroDivisionError
    assert segment.detached
    with pytest.raises(shmvar.DetachedError), segment:
        pass


def test_a_handle_that_is_dropped_detaches_silently(key):
    segment = shmvar.attach(key)
    gone = weakref.ref(segment)
    segment[1] = "kept"
    cycle = [segment]
    cycle.append(cycle)
    del segment, cycle
    gc.collect()
    assert gone() is None
    with shmvar.attach(key, create=False) as again:
        assert again[1] == "kept" and again.info().attached == 1


def test_handles_of_one_process_are_independent(key):
    one, two, reader = shmvar.attach(key), shmvar.attach(key), shmvar.attach(key, readonly=True)
    one.detach()
    two[1] = "two"
    assert reader[1] == "two" and two.info().attached == 1
    two.detach()
    assert reader[1] == "two" and reader.info().attached == 0
    reader.detach()


def test_attributes_are_read_only(seg):
    for name in ("key", "size", "created", "readonly", "trusted", "detached"):
        with pytest.raises(AttributeError):
            setattr(seg, name, 1)
    with pytest.raises(AttributeError):
        seg.other = 1
    assert seg.created is True and seg.readonly is False and seg.detached is False


# --- destroy


def test_f15_after_destroy_those_attached_keep_the_old_and_a_new_attach_gets_an_empty_one(key):
    old, old_too = shmvar.attach(key), shmvar.attach(key)
    old[1] = "old"
    old.destroy()
    assert not shmvar.exists(key) and key not in [info.key for info in shmvar.segments()]
    new = shmvar.attach(key)
    assert new.created and dict(new) == {} and old_too[1] == "old"
    old_too[1] = b"still shared" * 10_000
    new[1] = "new"
    assert (
        old[1] == b"still shared" * 10_000 and new[1] == "new" and old.check().variables == 1 == new.check().variables
    )
    for segment in (old, old_too, new):
        segment.detach()


def test_f16_an_old_handle_never_destroys_the_new_segment(key):
    old = shmvar.attach(key)
    helpers.run("assert shmvar.destroy(key); shmvar.attach(key)[1] = 'new'", key)
    old.destroy()
    old.clear()
    with shmvar.attach(key, create=False) as new:
        assert new[1] == "new"
        old[1] = "old"
        old.trim()
        old.detach()
        assert new[1] == "new" and new.check().variables == 1


# --- resize and trim


def test_resize_changes_the_limit_and_never_below_what_is_used(seg, key):
    seg.resize(100_000)
    assert seg.size == 100_000 == seg.info().size
    seg[1] = b"x" * 50_000
    used = seg.info().used
    with pytest.raises((shmvar.SegmentFullError, ValueError)):
        seg.resize(used - 1)
    assert seg.size == 100_000
    seg.resize(used)
    assert seg.size == used and seg.info().free == 0
    with pytest.raises(shmvar.SegmentFullError):
        seg[2] = 1
    seg.resize(used + 32)
    seg[2] = 1
    with shmvar.attach(key) as other:
        assert other.size == used + 32
    for wrong in (0, -1):
        with pytest.raises(ValueError):
            seg.resize(wrong)
    for wrong in (None, "1", 1.5):
        with pytest.raises(TypeError):
            seg.resize(wrong)
    assert seg[1] == b"x" * 50_000 and seg[2] == 1


def test_trim_gives_memory_back_and_loses_nothing(seg):
    for index in range(20):
        seg[index] = bytes([index]) * 2_000_000
    seg.update({f"small {number}": number for number in range(1000)})
    large = seg.info().resident
    assert large >= 40_000_000
    for index in range(1, 20):
        del seg[index]
    assert seg.trim() is None
    assert seg.info().resident <= large - 30_000_000
    assert seg[0] == bytes(2_000_000) and len(seg) == 1001 == seg.check().variables
    seg.clear()
    seg.trim()
    assert seg.info().resident < 4_000_000
    seg[1] = b"again" * 1_000_000
    assert seg[1] == b"again" * 1_000_000


# --- stat and info


class Own:
    pass


def test_stat_tells_size_version_and_type_without_running_code(seg):
    values = {
        "int": 5,
        "str": "text",
        "bytes": b"b",
        "float": 1.5,
        "bool": True,
        "list": [1],
        "dict": {},
        "tuple": (1, 2),
    }
    for name, value in values.items():
        seg[1] = value
        stat = seg.stat(1)
        assert isinstance(stat, shmvar.VariableInfo) and stat.type == name and stat.expires_in is None
    seg[1] = None
    assert "None" in seg.stat(1).type
    seg[1] = Own()
    assert "Own" in seg.stat(1).type
    versions = []
    for value in (1, 2, "x" * 1000, b"y" * 100_000):
        seg[1] = value
        versions.append(seg.stat(1).version)
    del seg[1]
    seg[1] = 1
    versions.append(seg.stat(1).version)
    assert versions == sorted(set(versions)) and versions[0] > 0


def test_used_is_the_sum_of_what_stat_says_each_is_charged(seg):
    values = [1, 2**40, "x", "x" * 40, "x" * 4000, b"x" * 100_000, [], {"a": 1}]
    for number, value in enumerate(values):
        seg[number] = value
        seg[f"text {number}"] = value
    assert seg.info().used == sum(seg.stat(index).size for index in seg)
    assert seg.stat(0).size == 32 and seg.stat(5).size >= 100_032
    # A large value begins at a multiple of 64: the key may lie in what is left free before it.
    assert 0 <= seg.stat("text 5").size - seg.stat(5).size <= 64 + len("text 5")
    info = seg.info()
    assert (info.count, info.key, info.free, info.uid) == (16, seg.key, info.size - info.used, os.geteuid())
    assert os.stat(f"{helpers.SHM}/{info.name}").st_blocks * 512 == info.resident
    assert "count=16" in repr(info) and "type=" in repr(seg.stat(0))


def test_attached_counts_living_processes(seg, key, children):
    child = helpers.start("s = shmvar.attach(key); print('ready', flush=True); sys.stdin.read()", key)
    children.append(child)
    assert seg.info().attached == 2
    child.kill()
    child.wait(10)
    assert seg.info().attached == 1


# --- pickled handles


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_f57_a_pickled_handle_attaches_to_that_very_segment(key, protocol):
    segment = shmvar.attach(key, 5000, trust=False)
    segment[1] = "one"
    data = pickle.dumps(segment, protocol)
    again = pickle.loads(data)
    assert again is not segment and again[1] == "one" and again.key == key and not again.created
    assert (again.size, again.readonly, again.trusted) == (5000, False, False)
    reader = pickle.loads(pickle.dumps(shmvar.attach(key, readonly=True), protocol))
    assert reader.readonly and reader.trusted and reader[1] == "one"
    segment.destroy()
    with shmvar.attach(key) as successor:
        with pytest.raises(shmvar.SegmentNotFoundError, match=key):
            pickle.loads(data)
        assert dict(successor) == {}
        successor.destroy()
    with pytest.raises(shmvar.SegmentNotFoundError, match=key):
        pickle.loads(data)
    assert not shmvar.exists(key)


def test_a_copied_handle_is_a_handle_on_the_same_segment(seg):
    seg[1] = 1
    for again in (copy.copy(seg), copy.deepcopy(seg)):
        assert again == seg
        again.detach()
    assert not seg.detached and seg[1] == 1


def test_a_handle_may_be_a_value_of_its_own_segment(seg):
    seg[1] = {"segment": seg}
    assert seg[1]["segment"].key == seg.key and seg[1]["segment"][1]["segment"].key == seg.key


# --- the PHP-style functions


def test_the_php_functions_work_on_the_same_segments(key):
    segment = shmvar.shm_attach(key, 20_000, 0o640)
    assert isinstance(segment, shmvar.Segment) and segment.size == 20_000 and segment.info().perm == 0o640
    assert shmvar.shm_put_var(segment, 3, 1, ttl=60) is True and 50 < segment.stat(3).expires_in <= 60
    assert shmvar.shm_put_var(segment, 3, 1) is True and segment.stat(3).expires_in is None
    assert shmvar.shm_remove_var(segment, 3) is True
    assert shmvar.shm_put_var(segment, 1, [1]) is True and shmvar.shm_get_var(segment, 1) == [1] == segment[1]
    assert shmvar.shm_has_var(segment, 1) is True and shmvar.shm_has_var(segment, 2) is False
    assert shmvar.shm_remove_var(segment, 1) is True and 1 not in segment
    for call in (shmvar.shm_get_var, shmvar.shm_remove_var):
        with pytest.raises(KeyError) as caught:
            call(segment, 1)
        assert caught.value.args == (1,)
    shmvar.shm_put_var(segment, index=2, value="old")
    with pytest.raises(shmvar.SegmentFullError):
        shmvar.shm_put_var(segment, 2, b"x" * 30_000)
    assert segment[2] == "old"
    assert shmvar.shm_remove(segment) is True and not shmvar.exists(key)
    assert shmvar.shm_detach(segment) is True and segment.detached


def test_shm_attach_has_phps_defaults(key):
    segment = shmvar.shm_attach(key)
    assert segment.size == 10_000 and segment.info().perm == 0o666 and segment.created and not segment.trusted
    with shmvar.shm_attach(key, permissions=0o600, size=5) as other:
        assert other.info().perm == 0o666 and other.size == 10_000
    segment.detach()
    with pytest.raises(ValueError):
        shmvar.shm_attach(key, 0)


def test_a_segment_full_error_pickles_with_its_numbers(key):
    with shmvar.attach(key, 1000) as segment, pytest.raises(shmvar.SegmentFullError) as caught:
        segment[1] = b"x" * 2000
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.needed, again.free, again.size, str(again)) == (
        caught.value.needed,
        caught.value.free,
        caught.value.size,
        str(caught.value),
    )
