"""Containers of scalars are pickled and unpickled by the core: as pickle does it, with the same identity."""

import io
import pickle
import pickletools

import helpers
import pytest
from helpers.containers import PROTOCOLS, Draw, agree, by_core, decode, stored, written_by_core
from helpers.value_comparison import same
from hypothesis import given, settings
from hypothesis import strategies as st

import shmvar
from shmvar._core import _get_pickle, _put_pickle


@pytest.mark.timeout(1800)  # two minutes on a quiet machine
@pytest.mark.slow
@by_core
def test_100_000_values_come_back_as_from_pickle_and_each_reads_what_the_other_wrote(seg):
    taken = 0
    for seed in range(100_000):
        value = Draw(seed).value()
        data = stored(seg, value)
        assert same(seg[1], value), seed
        assert same(pickle.loads(data), value), seed
        if type(value) in (list, tuple, dict, set, frozenset):
            assert written_by_core(data), seed
            taken += 1
        agree(value, PROTOCOLS[seed % len(PROTOCOLS)])
        if seed % 50 == 0:
            pickletools.dis(data, io.StringIO())
            assert same(pickle._loads(data), value), seed
    assert taken > 40_000


keys = st.one_of(st.text(max_size=30), st.integers(), st.booleans(), st.none(), st.floats(), st.binary(max_size=9))
values = st.recursive(
    st.one_of(keys, st.text(st.characters(codec=None), max_size=9)),
    lambda inner: st.one_of(
        st.lists(inner),
        st.dictionaries(keys, inner),
        st.lists(inner, max_size=5).map(tuple),
        st.sets(keys),
        st.frozensets(keys),
    ),
    max_leaves=60,
)


@settings(max_examples=400)
@given(value=values, protocol=st.sampled_from(PROTOCOLS))
def test_any_containers_are_written_and_read_as_by_pickle(value, protocol):
    agree(value, protocol)
    with shmvar.attach("containers-any") as segment:
        data = stored(segment, value)
        assert same(segment[1], value) and same(pickle.loads(data), value)
        segment.destroy()


OPCODES = b"(.NJKMG]}) aelstud\x80\x85\x86\x87\x88\x89\x8a\x8b\x8c\x8d\x8e\x8f\x90\x91\x94\x95hjqrXCB"


def test_any_damage_is_read_as_pickle_reads_it_or_left_to_it():
    left = 0
    for seed in range(60_000):
        draw = Draw(seed)
        data = bytearray(pickle.dumps(draw.value(2), draw.random.choice(PROTOCOLS)))
        for _ in range(draw.random.randrange(1, 4)):
            at = draw.random.randrange(len(data))
            match draw.random.randrange(3):
                case 0:
                    data[at] = draw.random.choice(OPCODES)
                case 1:
                    data.insert(at, draw.random.choice(OPCODES))
                case _:
                    del data[at]
            if not data:
                break
        found = decode(bytes(data))
        if found is None:
            left += 1
        else:
            # What the core reads names no class, so it may be unpickled.
            assert same(found[0], pickle.loads(bytes(data))), bytes(data)
    assert 10_000 < left < 59_000


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x05]\x94(h\x00e.",  # a list in itself
        b"\x80\x05}(K\x01K\x02l.",  # a list in the place of a dict
        b"\x80\x05}(K\x01K\x02t.",
        b"\x80\x05(}(K\x01K\x02uh\x00t.",  # from a memo that is empty
        b"\x80\x05}(K\x01K\x02K\x01K\x03u.",  # a key twice
        b"\x80\x05}(u.",  # nothing between mark and SETITEMS
        b"\x80\x05}\x94(u.",
        b"\x80\x05}(K\x01]\x94u(K\x01NK\x02h\x00u.",  # a value that is replaced, and borrowed by a later one
        b"\x80\x05}\x94(K\x01\x8c\x04abcd\x94u(K\x01NK\x02h\x01u.",
        b"\x80\x05}(K\x01K\x05\x85\x94u(K\x01Nh\x00K\x02u.",
        b"\x80\x05}(K\x01]\x94uK\x01NsK\x02h\x00s.",
        b"\x80\x05\x8f(K\x05\x85\x94\x90(K\x05\x85\x94\x90(h\x01K\x06\x90.",
        b"\x80\x05}(K\x01u.",  # a key without a value
        b"\x80\x05}(]K\x01u.",  # a key that has no hash
        b"\x80\x05(\x8f(]\x90t.",
        b"\x80\x05\x8f(K\x01K\x01\x90.",
        b"\x80\x05(K\x01K\x01\x91.",
        b"\x80\x05\x8c\x01\xff.",  # text that is no UTF-8
        b"\x80\x05K\x01(.",
        b"\x80\x05K\x01K\x02.",
        b"\x80\x05(K\x01s.",
        b"\x80\x05(K\x01\x85\x86.",
        b"\x80\x05K\x01a.",
        b"\x80\x05K\x01(K\x02e.",
        b"\x80\x05.",
        b"\x80\x05",
        b"\x80\x05K\x01\x94q\x07.",
        b"\x80\x05\x8b\xff\xff\xff\xff.",
        b"\x80\x05\x8d\xff\xff\xff\xff\xff\xff\xff\xff.",
        b"\x80\x06N.",
        b"N.",
        b"",
    ],
)
def test_what_is_unusual_is_left_to_the_unpickler_and_its_error_says_the_index(seg, data):
    try:
        found = decode(data)
    except BaseException as error:
        pytest.fail(f"{error!r}")
    if found is not None:
        assert same(found[0], pickle.loads(data))
        return
    if shmvar._core._pickle_fault(data) is not None:
        return
    _put_pickle(seg, 7, data)
    try:
        expected = pickle.loads(data)
    except Exception as error:
        with pytest.raises(Exception) as caught:
            seg[7]
        text = str(caught.value) + "".join(getattr(caught.value, "__notes__", ()))
        assert "index 7" in text, (error, text)
    else:
        assert same(seg[7], expected)


# --- identity


@by_core
def test_what_is_shared_comes_back_shared_and_what_is_equal_but_two_objects_as_two(seg):
    inner, text, pair = [1], "a text of some length" * 2, (1, 2)
    other = list(inner)
    value = [inner, {"a": inner, "b": other}, text, {text: text}, pair, pair, frozenset({pair}), inner]
    data = stored(seg, value)
    assert written_by_core(data)
    for again in (seg[1], pickle.loads(data), decode(pickle.dumps(value))[0]):
        assert again[0] is again[1]["a"] is again[7] and again[0] is not again[1]["b"]
        assert again[2] is again[3][again[2]] and again[4] is again[5]
        assert next(iter(again[6])) is again[4]
        again[0].append(2)
        assert again[1]["a"] == [1, 2]


def test_the_root_may_be_in_itself_directly_or_not(seg):
    recursive_list = [1]
    recursive_list.append(recursive_list)
    recursive_dict = {"x": 1}
    recursive_dict["self"] = [recursive_dict]
    recursive_tuple = ([],)
    recursive_tuple[0].append(recursive_tuple)
    deep = {"a": [{"b": ()}]}
    deep["a"][0]["b"] = (deep["a"],)
    for value in (recursive_list, recursive_dict, recursive_tuple, deep):
        seg[1] = value
        for again in (seg[1], pickle.loads(_get_pickle(seg, 1))):
            assert same(again, value)
    seg[1] = recursive_list
    assert seg[1][1] is not recursive_list and seg[1][1][1][1][0] == 1


def test_keys_met_again_are_one_object_also_in_two_values(seg):
    rows = [{"".join(("first", " key")): n, "".join(("second", " key")): str(n)} for n in range(50)]
    assert len({id(key) for row in rows for key in row}) == 100
    seg[1] = rows
    again, later = seg[1], seg[1]
    assert again == rows
    assert len({id(key) for row in again for key in row}) == 2
    assert [key is other for key, other in zip(again[0], later[9], strict=True)] == [True, True]
    # Values are objects of their own.
    assert again[7]["second key"] == later[7]["second key"]


def test_many_more_keys_than_are_kept_and_keys_that_collide(seg):
    value = {f"{'k' * (n % 30)}{n}": n for n in range(3_000)}
    seg[1] = value
    assert list(seg[1].items()) == list(value.items())
    for _ in range(3):
        one, other = {"abcd-0-wxyz": 1, "abcd-1-wxyz": 2, "": 3, "a": 4, "ab": 5, "ba": 6}, {"abcd-1-wxyz": 0}
        seg[1], seg[2] = one, other
        assert seg[1] == one and seg[2] == other and list(seg[1]) == list(one)


def test_dicts_with_the_same_keys_and_with_others_between_them(seg):
    rows = []
    for n in range(40):
        row = {"a": n, "b": [n], "c": None}
        if n % 7 == 3:
            row["d"] = n
        if n % 11 == 5:
            row = {"c": 1, "b": 2, "a": n}
        if n % 13 == 0:
            row = {}
        rows.append(row)
        if n % 5 == 0:
            rows.append({key: n for key in "abcdefghijklmnop"})
    seg[1] = rows
    for again in (seg[1], decode(pickle.dumps(rows))[0]):
        assert again == rows and [list(row) for row in again] == [list(row) for row in rows]
        again[1]["a"] = "changed"
        assert again[2] == rows[2] and again[3] == rows[3]


@pytest.mark.parametrize("count", [15, 16, 17, 31, 32, 33, 63, 64, 65, 255, 256, 257, 70_000])
def test_the_memo_finds_each_of_many_shared_objects(seg, count):
    shared = [[n] for n in range(count)]
    seg[1] = [shared, list(reversed(shared))]
    first, second = seg[1]
    assert len(first) == count and all(one is other for one, other in zip(first, reversed(second), strict=True))
    assert first == shared


def test_another_process_reads_what_was_written(seg):
    rows = [{"id": n, "tags": ("x", frozenset({n}))} for n in range(100)]
    value = {"rows": rows, 5: None, b"b": 2**64 - 1, "ü": "\ud800"}
    seg[1] = value
    code = "import sys, shmvar; print(repr(shmvar.attach(sys.argv[1])[1]).encode('utf-8', 'surrogatepass').hex())"
    shown = bytes.fromhex(helpers.run(code, seg.key).stdout).decode("utf-8", "surrogatepass")
    assert shown == repr(value)
