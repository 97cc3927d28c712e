"""The views of a segment of PHP's say that what is no index is not in them, as the views of a dict do."""

import pytest
from helpers.indexes import Indexed

from shmvar import php


@pytest.fixture
def full(php_key):
    with php.attach(php_key, 20_000) as segment:
        segment.update({1: "a", -5: [2]})
        yield segment


@pytest.mark.parametrize("other", ["a", 1.5, 1.0, None, (1,), [], b"1", 2**63, -(2**63) - 1], ids=repr)
def test_what_is_no_index_is_not_in_a_view(full, other):
    keys, items = full.keys(), full.items()
    assert other not in keys and (other, "a") not in items and keys.isdisjoint([other])
    with pytest.raises((TypeError, OverflowError)):
        assert other not in full
    if not isinstance(other, list | float):
        assert keys & {other, 1} == {1} and {other, 1} - keys == {other} and keys | {other} == {1, -5, other}
        assert keys != {other, 1} and not keys >= {other}


def test_items_that_are_no_pairs_are_not_in_a_view(full):
    for wrong in (5, (), (1,), (1, "a", 3), "1a", [1, "a"]):
        assert wrong not in full.items()


def test_what_stands_for_an_index_is_in_a_view(full):
    for index in (1, True, Indexed(1)):
        assert index in full.keys() and (index, "a") in full.items() and (index, "b") not in full.items()  # noqa: SIM118


def test_an_index_that_raises_is_not_hidden(full):
    class Raises:
        def __index__(self):
            raise LookupError("own")

    for look in (lambda: Raises() in full.keys(), lambda: (Raises(), 1) in full.items()):  # noqa: SIM118
        with pytest.raises(LookupError, match="own"):
            look()
