"""The limits of `php.loads` and `php.dumps`: None is no limit, a negative one is refused, a huge one is none."""

import pytest

import shmvar
from shmvar import php

LIMITS = [
    (lambda **limit: php.loads(b"a:1:{i:0;i:1;}", **limit), ["max_depth", "max_values", "max_memory"], [1]),
    (lambda **limit: php.dumps([1], **limit), ["max_depth", "max_size"], b"a:1:{i:0;i:1;}"),
]
CALLS = [(call, name, result) for call, names, result in LIMITS for name in names]


@pytest.mark.parametrize(("call", "name", "result"), CALLS)
def test_a_limit_is_a_number_or_none(call, name, result):
    for limit in (None, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**40, 1 << 20):
        assert call(**{name: limit}) == result
    for limit in (-1, -(2**63), -(2**64), -(10**30)):
        with pytest.raises(ValueError, match=rf"{name} must be at least 0, or None.*, not {limit}"):
            call(**{name: limit})
    for limit in ("1", 1.5, [1]):
        with pytest.raises(TypeError, match=f"{name} must be an int, not {type(limit).__name__}"):
            call(**{name: limit})
    with pytest.raises(shmvar.Error, match=name):
        call(**{name: 0})


class Number:
    """A number of a class of its own, which has no order, as `operator.index` takes it."""

    def __init__(self, number):
        self.number = number

    def __index__(self):
        return self.number

    def __repr__(self):
        return f"Number({self.number})"


@pytest.mark.parametrize(("call", "name", "result"), CALLS)
def test_a_limit_may_be_of_a_class_that_has_an_index(call, name, result):
    for limit in (1 << 20, 2**63 - 1, 2**63, 2**70):
        assert call(**{name: Number(limit)}) == result
    for limit in (-1, -(2**63), -(2**70)):
        with pytest.raises(ValueError, match=rf"{name} must be at least 0, or None.*, not Number\({limit}\)"):
            call(**{name: Number(limit)})


def test_without_a_limit_no_depth_is_too_much():
    depth = 200_000
    text = b"a:1:{i:0;" * depth + b"N;" + b"}" * depth
    value = php.loads(text, max_depth=None)
    assert php.dumps(value, max_depth=None) == text
    with pytest.raises(php.UnserializeError, match="more than 4096"):
        php.loads(text)
    with pytest.raises(php.SerializeError, match="max_depth = 4096"):
        php.dumps(value)


def test_none_is_the_usual_size_of_a_text():
    assert php.dumps("x" * 100, max_size=None) == php.dumps("x" * 100)
