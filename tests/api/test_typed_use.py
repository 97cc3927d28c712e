"""A segment as type checkers see it. `make check` runs `mypy --strict` on this file; its functions run, too."""

from collections.abc import ItemsView, KeysView, Mapping, MutableMapping
from typing import Any, assert_type

import numpy

import shmvar


def store_any(store: MutableMapping[int | str, Any]) -> None:
    store["a"] = 1


def store_by_number(store: MutableMapping[int, float]) -> None:
    store[1] = 0.5


def store_by_text(store: MutableMapping[str, list[int]]) -> None:
    store.setdefault("list", []).append(1)


def read_any(store: Mapping[int | str, object]) -> int:
    return len(store)


def test_a_segment_is_a_mapping_of_whatever_key_a_function_asks_for(seg: shmvar.Segment) -> None:
    store_any(seg)
    store_by_number(seg)
    store_by_text(seg)
    assert read_any(seg) == 3
    assert dict(seg) == {"a": 1, 1: 0.5, "list": []}


def test_the_methods_have_types_of_their_own(seg: shmvar.Segment) -> None:
    seg[numpy.int64(5)] = [1]
    assert_type(seg.copy(), dict[int | str, Any])
    assert_type(seg.get_many([5]), dict[int | str, Any])
    assert_type(seg.keys(), KeysView[int | str])
    assert_type(seg.keys("user:"), KeysView[str])
    assert_type(seg.items(), ItemsView[int | str, Any])
    for index in seg:
        assert_type(index, int | str)
    assert_type(seg.popitem(), tuple[int | str, Any])
    assert_type(seg | {"a": 1}, dict[Any, Any])
    assert_type({"a": 1} | seg, dict[Any, Any])
    seg |= {"a": 1}
    seg |= [(1, 2)]
    assert_type(seg, shmvar.Segment)
    seg.update({"b": 1}, c=2)
    seg.put_many(seg)
    seg.add("n", numpy.float32(0.5))
    seg.add("n", numpy.int8(1))
    seg.add("n", 0.5)
    assert seg["n"] == 2.0


def refused(seg: shmvar.Segment) -> None:
    """Not called: each line is an error that the checker must find, or else it complains of the comment."""
    seg[1.5] = 1  # type: ignore[index]
    seg.add("n", "1")  # type: ignore[arg-type]
    seg.keys(5)  # type: ignore[call-overload]
    seg | [(1, 1)]  # type: ignore[operator]
