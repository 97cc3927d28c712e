"""`shmvar watch`: a line for each change of a variable, or of any variable of a segment."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import shmvar

# Of a segment that changes all the time, looking at all of its variables takes at most this share of the time.
SHARE = 0.1
# Seconds. So often all are looked at though nobody rang: who should have may have died before he did.
AGAIN = 0.5
# The same for one who may not write, for whom nobody rings.
UNRUNG = 0.05


@dataclass(frozen=True)
class Change:
    """What is under an index after a change. `version` 0: nothing; `error`: why its value cannot be shown."""

    index: int | str
    version: int
    value: Any = None
    error: str | None = None


def attached(key: int | str, trust: bool) -> shmvar.Segment:
    """For writing, where that may be: only those are woken, others look every now and then."""
    try:
        return shmvar.attach(key, create=False, trust=trust)
    except (shmvar.SegmentAccessError, shmvar.SegmentBusyError):
        return shmvar.attach(key, create=False, readonly=True, trust=trust)


def of_one(segment: shmvar.Segment, index: int | str, timeout: float | None) -> Iterator[Change]:
    """Each change of a variable, without end; of several that come at once, the last."""
    seen = segment.version(index)
    while True:
        change = read(segment, index, segment.wait(index, timeout, newer_than=seen))
        seen = change.version
        yield change


def of_all(segment: shmvar.Segment, timeout: float | None) -> Iterator[Change]:
    """Each change of any variable, those to come too: asleep until one rings, then all versions are compared."""
    seen: dict[int | str, int] | None = None
    since = time.monotonic()
    again = UNRUNG if segment.readonly else AGAIN
    while True:
        count = segment._watch_count()
        segment._mark_all()
        began = time.monotonic()
        found, expires = versions(segment)
        took = time.monotonic() - began
        if seen is None:
            seen = found
        changed = [index for index in seen.keys() | found.keys() if seen.get(index, 0) != found.get(index, 0)]
        for index in sorted(changed, key=lambda index: (isinstance(index, str), index)):
            change = read(segment, index, found.get(index, 0))
            if change.version:
                seen[index] = change.version
            else:
                seen.pop(index, None)
            yield change
            since = time.monotonic()
        until = min(began + max(again, took * 2 / SHARE), expires)
        if timeout is not None:
            if time.monotonic() >= since + timeout:
                raise shmvar.WaitTimeoutError(f"nothing changed within {timeout:g} s")
            until = min(until, since + timeout)
        while segment._watch_count() == count and (left := until - time.monotonic()) > 0:
            segment._watch(count, left)
        time.sleep(took / SHARE)


def versions(segment: shmvar.Segment) -> tuple[dict[int | str, int], float]:
    """Of all variables; and when the next of them expires."""
    found, expires = {}, float("inf")
    for index in segment:
        version, left = segment._mark(index, False)
        if version:
            found[index] = version
        if left is not None:
            expires = min(expires, time.monotonic() + left)
    return found, expires


def read(segment: shmvar.Segment, index: int | str, version: int) -> Change:
    """The value, with its version; where it cannot be read, with the one that is known."""
    try:
        value, version = segment.get_versioned(index)
    except KeyError:
        return Change(index, 0)
    except shmvar.UntrustedValueError as error:
        return Change(index, version, error=f"not read without --trust: {error}")
    except shmvar.CorruptSegmentError as error:
        return Change(index, version, error=str(error))
    except (shmvar.Error, OSError, MemoryError):
        raise
    except Exception as error:  # of a damaged value, or what its own code raises
        return Change(index, version, error=f"{type(error).__name__}: {error}")
    return Change(index, version, value)
