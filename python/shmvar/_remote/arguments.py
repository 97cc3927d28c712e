"""Arguments of calls, which raise what the same argument raises at a segment of this machine."""

from __future__ import annotations

import itertools
import math
import random
import sys
import time
from datetime import timedelta
from functools import partial
from operator import index as _int_of

from shmvar._errors import DetachedError, ReadOnlyError
from shmvar._own_errors import comes_again

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

MISSING: Any = object()
_YEARS = 2**53
"""Microseconds: more than any deadline can lie ahead."""


def float_of(number: Any) -> float:
    """The float that an object stands for. Raises TypeError for what is no number.

    `float` itself reads texts and buffers, too: a `memoryview` of b"5" would be five seconds.
    """
    return math.ldexp(number, 0)


def ttl_of(ttl: Any) -> bytes:
    """A time to live in microseconds; empty: none."""
    if ttl is None:
        return b""
    if isinstance(ttl, timedelta):
        seconds = ttl.total_seconds()
    else:
        try:
            seconds = float_of(ttl)
        except OverflowError:
            raise OverflowError("ttl is more seconds than a float can count") from None
        except Exception as error:
            if not comes_again(error, partial(float_of, ttl)):
                raise
            own = None if isinstance(error, TypeError) else error
            raise TypeError(f"ttl must be None, seconds or a timedelta, not {type(ttl).__name__}") from own
    if not math.isfinite(seconds) or seconds <= 0:
        raise ValueError(f"ttl must be None or more than 0 seconds, not {seconds}")
    return b"%d" % max(1, round(min(seconds * 1e6, _YEARS)))


def version_of(version: Any) -> bytes | None:
    """A version. None for a number that no variable can have."""
    kind = type(version)
    if not hasattr(kind, "__index__"):
        raise TypeError(f"a version must be an int, not {kind.__name__}")
    number = _int_of(version)
    return b"%d" % number if 0 <= number < 2**53 else None


def size_of(size: Any) -> bytes:
    """A size in bytes."""
    if not hasattr(type(size), "__index__"):
        raise TypeError("size must be an int")
    number = _int_of(size)
    if number <= 0:
        raise ValueError(f"size must be at least 1 byte, not {number}")
    if number > 2**63 - 1:
        raise OverflowError(f"size {number} is beyond 2**63 - 1 bytes")
    # The server's scripts count exactly up to this number.
    return b"%d" % min(number, 2**53)


def amount_of(amount: Any) -> int | float:
    """What `add` adds: numpy's numbers count, bools do not."""
    if type(amount) is int or type(amount) is float:
        return amount
    if not isinstance(amount, bool | _of_numpy("bool_")):
        if isinstance(amount, float | _of_numpy("floating")):
            return float_of(amount)
        # For numpy a time span is an int, too, but one without `__index__`.
        if hasattr(type(amount), "__index__"):
            return int(_int_of(amount))
    raise TypeError(f"add: the amount is {type(amount).__name__}, not an int or a float")


def number_of(value: Any) -> int | float | None:
    """The stored number to which `add` adds. None: it is no exact int or float of Python's, and none of numpy's.

    An `IntEnum`, say, would be replaced by a plain number.
    """
    if type(value) is int or type(value) is float:
        return value
    if isinstance(value, _of_numpy("floating")):
        return float_of(value)
    if isinstance(value, _of_numpy("integer")) and hasattr(type(value), "__index__"):
        return int(_int_of(value))
    return None


def _of_numpy(name: str) -> Any:
    """A class of numpy. There are no objects of it where nobody has imported numpy: then a class of nothing."""
    return getattr(sys.modules.get("numpy"), name, _Nothing)


class _Nothing:
    """No object is one of these."""


def items_of(mapping: Any) -> Iterable[tuple[Any, Any]]:
    """The items of what `dict.update` takes."""
    if hasattr(mapping, "items") and hasattr(mapping, "keys"):
        items: Iterable[tuple[Any, Any]] = mapping.items()
        return items
    if hasattr(mapping, "keys"):
        return ((index, mapping[index]) for index in iter(mapping.keys()))
    return _pairs(mapping)


def _pairs(items: Iterable[tuple[Any, Any]]) -> Iterable[tuple[Any, Any]]:
    for number, item in enumerate(items):
        try:
            pair = tuple(item)
        except TypeError:
            raise TypeError(f"item {number} is no pair of an index and a value") from None
        if len(pair) != 2:
            raise ValueError(f"item {number} has length {len(pair)}; 2 is required")
        yield pair[0], pair[1]


def turns() -> Iterator[Callable[[], None]]:
    """Tries without end. Each item is to be called after a try in which another writer came first."""
    for number in itertools.count(1):
        yield partial(_pause, number)


def _pause(number: int) -> None:
    if number > 8:
        time.sleep(random.uniform(0, 0.001 * min(number - 8, 50)))


def detached(name: str) -> DetachedError:
    return DetachedError(f"{name}: the handle is detached: attach again")


def read_only(name: str) -> ReadOnlyError:
    return ReadOnlyError(f"{name}: the handle is read-only: attach without readonly=True to change the segment")
