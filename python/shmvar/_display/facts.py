"""What is shown of a segment, read once, whatever state it is in: nothing here raises for what a segment may be.

A display must not take long, and others are not to wait for it. So nothing is called that takes a lock, as `info` does
where the memory file system is almost full; values are read for a limited time; and a server that does not answer is
given up soon, in a thread, though a call of the handle goes on trying.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time

from shmvar import _array_head, _core, _preview
from shmvar._errors import CorruptSegmentError, DetachedError, SegmentBusyError, SegmentNotFoundError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, TypeVar

    _T = TypeVar("_T")

MOST_ROWS = 100
ORDERED = 5_000
"""Variables of which the first ones are the first in order; of more, they are any."""
CELLS = 64
"""Of the map of the memory."""
WIDTH = 60
"""Characters of a preview."""
READING = 0.03
"""Seconds of work that previews may take; the variables after that are shown without."""
MOST_LOOKED_AT = 100_000
"""Variables that `info` may have to look at: a millisecond or two for each ten thousand."""
ROOM = 16 << 20
"""Bytes that the memory file system must have left beyond what the segment may still take."""
PATIENCE = 1.0
"""Seconds to wait for a server."""
TRIPS = 0.08
"""Seconds in which rows are fetched from a server, each by a round trip or two."""


class Facts:
    """A segment at one moment. What could not be read is None or empty, and `why` says why."""

    def __init__(self) -> None:
        self.state = ""
        """ "", or what a reader should know before all else: "detached", "destroyed", "damaged",
        "half changed", "unavailable"."""
        self.why: BaseException | None = None
        self.numbers: dict[str, Any] | None = None
        """Those of `_activity`; of a server `used` and `size`."""
        self.locks: dict[int | str, int] = {}
        self.queues: dict[int | str, dict[str, int]] = {}
        self.total = 0
        self.rows: list[dict[str, Any]] = []
        self.memory: tuple[dict[str, int], list[dict[str, int]]] | None = None

    def failed(self, error: BaseException) -> None:
        """Notes the first error and what it says of the segment."""
        if self.why is None:
            self.why, self.state = error, _state(error)


def of(segment: Any) -> Facts:
    """Reads the facts."""
    facts = Facts()
    if segment.detached:
        facts.state = "detached"
    elif isinstance(segment, _core.Segment):
        for part in (_look, _read_rows, _read_memory, _read_names):
            try:
                part(segment, facts)
            except Exception as error:
                facts.failed(error)
                if facts.state == "detached":  # by another thread, just now
                    break
    else:
        facts = _of_server(segment)
    return facts


def named(segment: Any) -> tuple[dict[int | str, int], dict[int | str, dict[str, int]]]:
    """The locks that are held and the queues that have items, from `info`; nothing where that might wait or take long.

    It looks at every variable where some expire, and where the memory file system is almost full it waits for the
    writer and moves what is stored.
    """
    if isinstance(segment, _core.Segment):
        numbers, system = _core._activity(segment), os.statvfs("/dev/shm")
        room = system.f_bavail * system.f_frsize
        if numbers["count"] > MOST_LOOKED_AT or room < numbers["size"] - numbers["used"] + ROOM:
            return {}, {}
    info = segment.info()
    return info.locks, info.queues


def _look(segment: Any, facts: Facts) -> None:
    facts.numbers = _core._activity(segment)
    facts.total = facts.numbers["count"]
    if facts.numbers["gone"]:
        facts.state = "destroyed"


def _read_rows(segment: Any, facts: Facts) -> None:
    indexes, facts.total, half_changed = _preview.first(segment, ORDERED)
    if not half_changed:
        facts.rows = list(_rows(segment, indexes[:MOST_ROWS]))
        return
    # To look at a variable whose search comes by one that is half changed would take the lock, or wait for seconds.
    facts.rows = [dict.fromkeys(_preview.VARIABLE_FIELDS) | {"index": index} for index in indexes[:MOST_ROWS]]
    variables, are = ("a variable", "is") if half_changed == 1 else (f"{half_changed} variables", "are")
    facts.failed(
        SegmentBusyError(
            f"{variables} {are} half changed and not shown, the others without their values: the process that changes "
            f"it is stopped or was killed, or the segment is damaged; `check()` of a handle that may write repairs it "
            "or names the damage"
        )
    )
    facts.state = "half changed"


def _read_names(segment: Any, facts: Facts) -> None:
    if facts.state == "half changed":  # `info` may have to look at each variable
        return
    facts.locks, facts.queues = named(segment)


def _rows(segment: Any, indexes: Iterable[int | str]) -> Iterator[dict[str, Any]]:
    """The variables with previews, as long as these have not taken too much time, of which waiting is no part."""
    end = time.thread_time() + READING
    for index in indexes:
        if time.thread_time() < end:
            yield from (with_shape(segment, found) for found in _preview.variables(segment, [index], WIDTH))
            continue
        with contextlib.suppress(KeyError):
            try:
                found = segment.stat(index)._asdict()
            except CorruptSegmentError as error:
                found = {"error": str(error)}
            yield dict.fromkeys(_preview.VARIABLE_FIELDS) | {"index": index} | found


def with_shape(segment: Any, variable: dict[str, Any]) -> dict[str, Any]:
    """A variable, with the dtype and the shape of an array that is too large to be read."""
    # Where a view copies little, the pickle is short, and what is large stands beside it.
    if variable["repr"] is None and variable["type"] == "numpy.ndarray" and variable["viewable"]:
        with contextlib.suppress(KeyError, CorruptSegmentError):
            dtype, shape = _array_head.dtype_and_shape(segment._stream(variable["index"]))
            return variable | {"dtype": dtype, "shape": shape}
    return variable


def _read_memory(segment: Any, facts: Facts) -> None:
    facts.memory = _core._memory(segment, CELLS)


def _of_server(segment: Any) -> Facts:
    """Asks a server: if it does not answer soon, what has come until then is shown."""
    facts = Facts()
    end = time.monotonic() + TRIPS

    def ask() -> None:
        info = segment.info()
        facts.total, facts.locks, facts.queues = info.count, info.locks, info.queues
        facts.numbers = {"used": info.used, "size": info.size}
        indexes, facts.total, _ = _preview.first(segment, MOST_ROWS)
        for index in indexes:
            if facts.rows and time.monotonic() > end:
                break
            facts.rows += _preview.variables(segment, [index], WIDTH)

    try:
        asked(segment, ask)
    except Exception as error:
        # The thread may go on with the facts, so these are others.
        seen = Facts()
        seen.numbers, seen.total, seen.rows = facts.numbers, facts.total, list(facts.rows)
        seen.failed(error)
        return seen
    return facts


def asked(segment: Any, question: Callable[[], _T]) -> _T:
    """What a question about a segment gives. One to a server that has no answer soon is left to a thread.

    Raises:
        TimeoutError: the server has not answered.
    """
    if isinstance(segment, _core.Segment):
        return question()
    answers: list[_T] = []
    errors: list[Exception] = []

    def ask() -> None:
        try:
            answers.append(question())
        except Exception as error:
            errors.append(error)

    asking = threading.Thread(target=ask, name="shmvar display", daemon=True)
    asking.start()
    asking.join(PATIENCE)
    if errors:
        raise errors[0]
    if not answers:
        raise TimeoutError(f"the server has not answered within {PATIENCE:g} s")
    return answers[0]


def _state(error: BaseException) -> str:
    if isinstance(error, DetachedError):
        return "detached"
    if isinstance(error, SegmentNotFoundError):
        return "destroyed"
    return "damaged" if isinstance(error, CorruptSegmentError) else "unavailable"
