"""The command `watch`: a line for each change of a variable, or of any variable of a segment."""

import argparse
import time
from collections.abc import Iterator
from typing import Any

import shmvar
from shmvar.cli import arguments, opening, printing
from shmvar.cli.outcome import DONE
from shmvar.cli.parser import Commands, add_json, add_names, add_trust

# In a segment that changes all the time, looking at all of its variables takes at most this share of the time.
SHARE = 0.1
# In seconds: all variables are looked at this often without a notification. A process may die before it notifies.
POLL = 0.5
# The same through a read-only handle, which nobody notifies.
POLL_READONLY = 0.05


class Change:
    """What is under an index after a change. `version` 0: nothing; `error`: why the value cannot be shown."""

    def __init__(self, index: int | str, version: int, value: Any = None, error: str | None = None) -> None:
        self.index = index
        self.version = version
        self.value = value
        self.error = error


def add_commands(commands: Commands) -> None:
    """Adds it to the parser."""
    watch = commands.add("watch", _watch, "print a line for each change of a variable; without INDEX, of any variable")
    add_names(watch, "KEY")
    add_names(watch, "INDEX", nargs="?")
    watch.add_argument("--count", type=arguments.count, metavar="N", help="end after N changes; otherwise with Ctrl-C")
    watch.add_argument(
        "--timeout", type=arguments.seconds, metavar="SECONDS", help="give up after this time without a change"
    )
    add_trust(watch)
    add_json(watch)


def _watch(args: argparse.Namespace) -> int:
    with _attached(args.key, args.trust) as segment:
        changes = of_all(segment, args.timeout) if args.index is None else of_one(segment, args.index, args.timeout)
        try:
            for number, change in enumerate(changes, 1):
                print(_text(change, args.json), flush=True)
                if number == args.count:
                    break
        except KeyboardInterrupt:
            pass  # the usual end
    return DONE


def _attached(key: int | str, trust: bool) -> shmvar.Segment:
    """For writing where that is allowed: only then is the process notified of changes."""
    try:
        return opening.existing(key, trust=trust)
    except (shmvar.SegmentAccessError, shmvar.SegmentBusyError):
        return opening.existing(key, readonly=True, trust=trust)


def of_one(segment: shmvar.Segment, index: int | str, timeout: float | None) -> Iterator[Change]:
    """Each change of a variable, without end. Of several changes that come at once, only the last is seen.

    Raises `WaitTimeoutError` after `timeout` seconds without a change.
    """
    seen = segment.version(index)
    while True:
        change = _read(segment, index, segment.wait(index, timeout, newer_than=seen))
        seen = change.version
        yield change


def of_all(segment: shmvar.Segment, timeout: float | None) -> Iterator[Change]:
    """Each change of any variable, including new ones, without end; otherwise like `of_one`.

    Sleeps until there is a notification, then compares the versions of all variables with those of the last time.
    """
    seen: dict[int | str, int] | None = None
    since = time.monotonic()
    poll = POLL_READONLY if segment.readonly else POLL
    while True:
        count = segment._watch_count()
        segment._mark_all()
        began = time.monotonic()
        found, expires = _versions(segment)
        took = time.monotonic() - began
        if seen is None:
            seen = found
        changed = [index for index in seen.keys() | found.keys() if seen.get(index, 0) != found.get(index, 0)]
        for index in sorted(changed, key=printing.index_order):
            change = _read(segment, index, found.get(index, 0))
            if change.version:
                seen[index] = change.version
            else:
                seen.pop(index, None)
            yield change
            since = time.monotonic()
        until = min(began + max(poll, took * 2 / SHARE), expires)
        if timeout is not None:
            if time.monotonic() >= since + timeout:
                raise shmvar.WaitTimeoutError(f"nothing changed within {timeout:g} s")
            until = min(until, since + timeout)
        while segment._watch_count() == count and (left := until - time.monotonic()) > 0:
            segment._watch(count, left)
        time.sleep(took / SHARE)


def _versions(segment: shmvar.Segment) -> tuple[dict[int | str, int], float]:
    """The versions of all variables, and the time of `time.monotonic` at which the next of them expires."""
    found, expires = {}, float("inf")
    for index in segment:
        version, expires_in = segment._mark(index, False)
        if version:
            found[index] = version
        if expires_in is not None:
            expires = min(expires, time.monotonic() + expires_in)
    return found, expires


def _read(segment: shmvar.Segment, index: int | str, version: int) -> Change:
    """The value with its version. Where the value cannot be read, the error with `version`, which is known."""
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
    except Exception as error:  # of a damaged value, or of the value's own code
        return Change(index, version, error=f"{type(error).__name__}: {error}")
    return Change(index, version, value)


def _text(change: Change, as_json: bool) -> str:
    """A change as one line."""
    text, error = "gone", change.error
    if change.version and error is None:
        try:
            text = printing.as_json(change.value) if as_json else repr(change.value)
        except Exception as failure:  # as for `get`
            error = printing.no_form(as_json, failure)
    if not as_json:
        shown = printing.one_line(f"<{error}>" if error else text)
        return f"{printing.one_line(repr(change.index))}\t{change.version}\t{shown}"
    there = bool(change.version)
    head = printing.as_json({"index": change.index, "version": change.version, "there": there, "error": error})
    return f'{head[:-1]}, "value": {text if there and error is None else "null"}}}'
