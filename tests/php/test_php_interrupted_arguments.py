"""Ctrl-C comes through while an object is shown in a message, or asked what it is like."""

import pytest

from shmvar import php


class Interrupt(BaseException):
    """No `Exception`, as `KeyboardInterrupt` is none, which would end pytest when pytest shows what a test has."""


def interrupt(*_):
    raise Interrupt


class Number(int):
    __repr__ = interrupt


class Text(str):
    __repr__ = interrupt


class Asked(type):
    """The class of a class that is interrupted when it is asked for what it does not have."""

    def __getattr__(cls, name):
        if name in ("__members__", "__dataclass_fields__", "__iter__"):
            interrupt()
        raise AttributeError(name)


class Strange(metaclass=Asked):
    pass


class Long(int):
    bit_length = interrupt


class Key(tuple):
    __repr__ = interrupt


class Homeless(type):
    """The class of a class that is interrupted when it is asked for its module."""

    @property
    def __module__(cls):
        interrupt()


VALUES = {
    "a key that stands before what is refused": {Text("key"): object()},
    "a key that is refused": {Key((1, 2)): 1},
    "an object like nothing in PHP": Strange(),
    "its module": Homeless("Homeless", (), {})(),
    "a long int": Long(2**70),
    "the name of a class": php.PhpObject(Text("no name"), {}),
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_an_interrupt_comes_through_while_a_value_is_refused(value):
    with pytest.raises(Interrupt):
        php.dumps(value)


def test_an_interrupt_comes_through_while_an_argument_is_refused():
    calls = [
        lambda: php.dumps([1], max_depth=Number(-1)),
        lambda: php.attach(Number(2**40)),
        lambda: php.attach(1234, permissions=Number(0o7777)),
        lambda: php.Shmop(Number(2**40), "a"),
        lambda: php.Shmop(1234, Text("q")),
        lambda: php.Shmop(1234, "n", 0o600, Number(-1)),
    ]
    for call in calls:
        with pytest.raises(Interrupt):
            call()
