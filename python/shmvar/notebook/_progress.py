"""What `progress` does: sleeps until the counter changes, and has a bar of `_bars` drawn.

The counter is read as data only, also through a trusted handle: what stands there may be anybody's.
"""

from __future__ import annotations

import math
import time

from shmvar._copying import consistent
from shmvar._core import _decode_data_only
from shmvar._errors import WaitTimeoutError
from shmvar._text import cut, one_line
from shmvar.notebook._arguments import is_segment, plain_index
from shmvar.notebook._bars import bar_for

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, SupportsIndex

    from shmvar._core import Segment

_INTERVAL = 0.1
"""Seconds between two looks at a counter that changes all the time."""
_LARGEST = 4096
"""Bytes of a variable that may be a number: an int beyond 64 bits is longer than others."""
_WIDTH = 40


def progress(
    segment: Segment, index: SupportsIndex | str, total: float, desc: str | None, timeout: float | None
) -> int | float:
    """See `shmvar.notebook.progress`."""
    is_segment(segment)
    at = plain_index(segment, index)
    total = _total(total)
    if desc is not None and not isinstance(desc, str):
        raise TypeError(f"desc must be a str or None, not {type(desc).__name__}")
    end = math.inf if timeout is None else time.monotonic() + _seconds(timeout)
    version, value = _read(segment, at)
    bar = bar_for(cut(one_line(repr(at) if desc is None else desc), _WIDTH), total, _within(value, total))
    try:
        while not value >= total:  # also where it is no number
            try:
                segment.wait(at, _left(end), newer_than=version)
            except WaitTimeoutError:
                raise WaitTimeoutError(_late(at, value, total)) from None
            version, value = _read(segment, at)
            bar.show(_within(value, total))
            if not value >= total:
                _pause(_left(end), at, value, total)
    finally:
        bar.close()
    return value


def _read(segment: Segment, index: int | str) -> tuple[int, int | float]:
    """A version of the counter, and its value then or later. A missing one is 0."""
    version = segment.version(index)
    try:
        found = segment.stat(index)
    except KeyError:
        return version, 0
    if found.size <= _LARGEST and not found.in_place:
        pickle, _ = consistent(segment, index)
        if pickle is None:
            return version, 0
        try:
            number = _number(_decode_data_only(pickle))
        except Exception:  # damaged, or of a class of somebody's
            number = None
        if number is not None:
            return version, number
    raise TypeError(
        f"variable {one_line(repr(index))} is no number but of the type {cut(one_line(found.type), _WIDTH)}"
    )


def _number(value: Any) -> int | float | None:
    """What `add` leaves: an int or a float. A number of numpy that `put` has stored counts as one, too."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return value
    if type(value).__module__ == "numpy" and hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        return _number(value.item())
    return None


def _total(total: Any) -> int | float:
    number = _number(total)
    if number is None:
        if isinstance(total, bool) or not hasattr(total, "__index__"):
            raise TypeError(f"total must be a number, not {type(total).__name__}")
        number = int(total.__index__())
    if not 0 <= number < math.inf:
        raise ValueError(f"total must be 0 or more, and finite, not {number}")
    return number


def _seconds(timeout: Any) -> float:
    seconds = _number(timeout)
    if seconds is None:
        raise TypeError(f"timeout must be a number of seconds or None, not {type(timeout).__name__}")
    if not seconds >= 0:
        raise ValueError(f"timeout must not be negative, and not {seconds}")
    return float(seconds)


def _pause(left: float | None, index: int | str, value: float, total: float) -> None:
    """A counter that others change all the time is looked at some times a second."""
    if left == 0:
        raise WaitTimeoutError(_late(index, value, total))
    time.sleep(_INTERVAL if left is None else min(_INTERVAL, left))


def _left(end: float) -> float | None:
    return None if end == math.inf else max(end - time.monotonic(), 0.0)


def _within(value: float, total: float) -> int | float:
    """What a bar shows of a counter: from 0 to `total`."""
    return 0 if math.isnan(value) or value < 0 else min(value, total)


def _late(index: int | str, value: float, total: float) -> str:
    return f"the counter {one_line(repr(index))} is at {value} of {total}, and the timeout is over"
