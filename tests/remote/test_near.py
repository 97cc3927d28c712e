"""The near cache: reads of a segment on a server from the memory of this machine. docs/remote.md, "Near cache"."""

import os
import warnings
from array import array

import numpy
import pytest
from helpers.near_caches import NEAR, awake, cached, caches, is_hit, memory, nothing_stays, open_pair, opened, until

import shmvar
from shmvar._remote.near_memory import CONTROL, EPOCH, HEARD


@pytest.fixture(autouse=True)
def nothing_is_left():
    with nothing_stays():
        yield


@pytest.fixture
def pair(server):
    with opened(server) as handles:
        yield handles


VALUES = [
    7, 1.5, "text", b"bytes", bytearray(b"array"), array("i", [1, 2]), [1, {"a": (2, None)}], True, None, 1 << 700,
    numpy.arange(5), b"b" * 100_000, bytearray(100_000), array("d", [1.0] * 10_000),
    {"field": numpy.arange(30_000).reshape(3, -1), "name": "x"},
]  # fmt: skip


def alike(one, two):
    if isinstance(one, numpy.ndarray):
        return type(one) is type(two) and one.flags.writeable == two.flags.writeable and (one == two).all()
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(alike(one[key], two[key]) for key in one)
    if isinstance(one, memoryview):
        return (one.readonly, one.format, one.tobytes()) == (two.readonly, two.format, two.tobytes())
    return type(one) is type(two) and one == two


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_what_is_cached_is_what_the_server_gives(pair, value):
    near, plain = pair
    plain["v"] = value
    assert alike(cached(near, "v"), plain["v"])
    assert alike(near.view("v"), plain.view("v")) and alike(near.view("v"), plain.view("v"))
    assert alike(near.get("v"), plain["v"])


def test_a_value_read_from_the_cache_is_the_readers_own(pair):
    near, plain = pair
    plain["list"], plain["array"] = [1], numpy.zeros(30_000)
    cached(near, "list").append(2)
    cached(near, "array")[0] = 5
    assert near["list"] == [1] and near["array"][0] == 0


def test_a_change_by_somebody_else_comes(pair):
    near, plain = pair
    for number in range(100):
        plain["n"] = number
        until(lambda number=number: near["n"] == number)
    plain.add("n", 1000)
    until(lambda: near["n"] == 1099)
    del plain["n"]
    until(lambda: near.get("n") is None)


def test_the_message_of_an_expiry_makes_it_void(pair):
    near, plain = pair
    plain["n"] = 1
    cached(near, "n")
    plain.expire("n", 0.05)
    until(lambda: not is_hit(near, "n"))
    assert near["n"] == 1 if plain.has("n") else True
    until(lambda: near.get("n") is None)


def test_what_has_a_ttl_is_not_cached(pair):
    near, plain = pair
    plain.put("n", 1, ttl=100)
    for _ in range(20):
        assert near["n"] == 1 and not is_hit(near, "n")
    plain.expire("n", None)
    # Another change has to come before the floor of this one is reached.
    plain["m"] = 1
    assert cached(near, "n") == 1


def test_a_batch_and_a_clear_make_all_void(pair):
    near, plain = pair
    plain.put_many({number: number for number in range(100)})
    for number in range(100):
        cached(near, number)
    plain.put_many({number: -number for number in range(100)})
    until(lambda: [near[number] for number in range(100)] == [-number for number in range(100)])
    plain.clear()
    until(lambda: not any(is_hit(near, number) for number in range(100)))
    assert near.get(5) is None


def test_items_values_and_copy_use_it_and_get_many_does_not(pair):
    near, plain = pair
    plain.put_many({number: number for number in range(600)})
    until(lambda: (near.copy(), all(is_hit(near, number) for number in range(600)))[1])
    local, other = memory(near), {number: number + 1000 for number in range(600)}

    def is_read():
        # Entries that no server has.
        for number, value in other.items():
            local.segment.put(number, (local.words[EPOCH], local.words[HEARD], local.floor_of(number), value))
        return near.copy() == other and dict(near.items()) == other and sorted(near.values()) == sorted(other.values())

    # On a busy machine the cache may not be alive all the time.
    until(is_read)
    assert near.get_many(range(600)) == {number: number for number in range(600)}


def test_a_full_cache_goes_on(server):
    key = f"near-full-{os.getpid()}"
    plain = shmvar.attach(server.url(key))
    near = awake(shmvar.attach(server.url(key, near="1MiB")))
    for number in range(40):
        plain[number] = bytes([number]) * 100_000
    for turn in range(2):
        for number in range(40):
            assert near[number] == bytes([number]) * 100_000, turn
    plain["large"] = bytes(600_000)
    assert near["large"] == bytes(600_000) and not is_hit(near, "large")
    near.detach()
    plain.destroy()


def test_who_lists_a_server_makes_no_caches(server, pair):
    near, _ = pair
    before = caches()
    assert near.key in {info.key for info in shmvar.segments(server.url(near=NEAR))}
    assert caches() == before


def test_handles_with_and_without_a_cache_share_their_connections(pair):
    near, plain = pair
    assert near._link is plain._link


def test_too_small_a_cache_is_refused(server):
    with pytest.raises(ValueError, match="1MiB"):
        shmvar.attach(server.url("k", near="1000"))
    shmvar.destroy(server.url("k"))


def test_a_handle_that_trusts_has_a_cache_of_its_own(pair):
    near, plain = pair
    trusting = awake(shmvar.attach(near.url, trust=True))
    assert memory(trusting).key != memory(near).key
    plain["v"] = Point(1)
    assert cached(trusting, "v") == Point(1)
    for _ in range(3):
        with pytest.raises(shmvar.UntrustedValueError):
            near["v"]
    trusting.detach()


class Point:
    def __init__(self, x):
        self.x = x

    def __eq__(self, other):
        return self.x == other.x


def test_the_variable_with_the_name_of_the_array_is_not_cached(pair):
    near, plain = pair
    plain[CONTROL] = 5
    for _ in range(5):
        assert near[CONTROL] == near.view(CONTROL) == 5 and not is_hit(near, CONTROL)
    assert memory(near).leads_here()


def test_indexes_of_all_kinds_and_errors_are_as_without(pair):
    near, plain = pair
    for index in (0, -5, 2**63 - 1, -(2**63), "", "ü", "x" * 1024, numpy.int64(12), True):
        plain[index] = 1
        assert cached(near, index) == 1
    for index, error in ((1.5, TypeError), (2**63, OverflowError), ("x" * 1025, OverflowError), (None, TypeError)):
        with pytest.raises(error):
            near[index]
        with pytest.raises(error):
            near.get(index)
    with pytest.raises(KeyError):
        near["missing"]
    assert near.get("missing", 5) == 5
    near.detach()
    with pytest.raises(shmvar.DetachedError):
        near[0]


def test_no_warning_where_all_is_well(server):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        near, plain = open_pair(server)
    near.detach()
    plain.destroy()
