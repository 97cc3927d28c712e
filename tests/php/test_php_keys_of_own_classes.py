"""A dict of a class of its own may say the same key twice: PHP would keep one of them, so that is refused."""

import collections

import pytest

from shmvar import php


class Twice(dict):
    pairs = ()

    def items(self):
        return list(self.pairs)


@pytest.mark.parametrize("pairs", [[(1, "a"), (1, "b")], [("k", 1), (2, 2), ("k", 3)], [("k", 1), ("k", 2)]])
@pytest.mark.parametrize("around", [lambda value: value, lambda value: php.PhpObject("A", value)])
def test_the_same_key_twice_is_refused(pairs, around):
    value = Twice()
    value.pairs = pairs
    with pytest.raises(php.SerializeError, match=r"would merge the key (1|'k') with another one") as caught:
        php.dumps({"x": [around(value)]})
    assert caught.value.place == "value['x'][0]"


def test_what_has_its_keys_once_is_written():
    value = Twice()
    value.pairs = [(2, "b"), (1, "a"), ("k", None)]
    expected = b'a:3:{i:2;s:1:"b";i:1;s:1:"a";s:1:"k";N;}'
    assert php.dumps(value) == php.dumps(dict(value.pairs)) == expected
    for kind in (collections.OrderedDict, lambda pairs: collections.defaultdict(int, pairs)):
        assert php.dumps(kind(value.pairs)) == expected
