"""The command `watch`: a line for each change of some variables, or of any variable of a segment."""

import argparse
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import shmvar
from shmvar import _text
from shmvar._core import _first
from shmvar.cli import arguments, opening, printing, remedies
from shmvar.cli.outcome import DONE
from shmvar.cli.parser import Commands, add_json, add_names, add_trust

_INDEX = "sleep until one of these changes; of several that changed at once, the first that is named comes first"


LOOKED_AT = 100  # variables that are there already: on a terminal, their indexes say how wide that column is


class Change:
    """What is under an index after a change. `version` 0: nothing; `error`: why the value cannot be shown.

    `refused`: it cannot because it would run code.
    """

    def __init__(
        self, index: int | str, version: int, value: Any = None, error: str | None = None, refused: bool = False
    ) -> None:
        self.index = index
        self.version = version
        self.value = value
        self.error = error
        self.refused = refused

    @property
    def type(self) -> str:
        """The name of the value's type, as `stat` has it."""
        kind = type(self.value)
        return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def add_commands(commands: Commands) -> None:
    """Adds it to the parser."""
    watch = commands.add(
        "watch", _watch, "print a line for each change of these variables; without INDEX, of any variable"
    )
    add_names(watch, "KEY")
    add_names(watch, "INDEX", nargs="*", help=_INDEX)
    watch.add_argument("--count", type=arguments.count, metavar="N", help="end after N changes; otherwise with Ctrl-C")
    watch.add_argument(
        "--timeout", type=arguments.seconds, metavar="SECONDS", help="give up after this time without a change"
    )
    add_trust(watch)
    add_json(watch)


def _watch(args: argparse.Namespace) -> int:
    # Only a handle that may write is notified of changes.
    with opening.writing_if_allowed(args.key, args.trust) as segment:
        changes = of_some(segment, args.index, args.timeout) if args.index else of_all(segment, args.timeout)
        show = _shown(segment, args)
        try:
            for number, change in enumerate(changes, 1):
                show(change)
                if number == args.count:
                    break
        except KeyboardInterrupt:
            pass  # the usual end
    return DONE


def _shown(segment: shmvar.Segment, args: argparse.Namespace) -> Callable[[Change], None]:
    """What prints a change: in columns on a terminal, otherwise as a line of text or of JSON."""
    if args.json or (screen := printing.screen()) is None:
        return lambda change: print(_line(change, args.json), flush=True)
    from shmvar.cli.watch_screen import Lines

    # On a server some could not be had without all.
    there = _first(segment, LOOKED_AT)[0] if isinstance(segment, shmvar.Segment) else ()
    lines = Lines(screen, args.index or there)

    def show(change: Change) -> None:
        text, error = _value(change, False)
        lines.change(change.index, change.version, change.type, text, error, refused=change.refused)

    return show


def of_some(segment: shmvar.Segment, indices: list[int | str], timeout: float | None) -> Iterator[Change]:
    """Each change of these variables from now on, without end. Of several of one at once, only the last is seen.

    They are not picked from `changes`: that looks at the whole table after any change, and its timeout is one without
    any. This sleeps on these variables alone. So those that changed at once come in the order of `indices`.

    Raises `WaitTimeoutError` after `timeout` seconds without a change.
    """
    return _of_some(segment, indices, timeout, {index: segment.version(index) for index in indices})


def _of_some(
    segment: shmvar.Segment, indices: list[int | str], timeout: float | None, seen: dict[int | str, int]
) -> Iterator[Change]:
    while True:
        if len(indices) == 1:
            index, version = indices[0], segment.wait(indices[0], timeout, newer_than=seen[indices[0]])
        else:
            index, version = segment.wait_any(indices, timeout, newer_than=seen)
        change = _read(segment, index, version)
        seen[index] = change.version
        yield change


def of_all(segment: shmvar.Segment, timeout: float | None) -> Iterator[Change]:
    """Each change of any variable, including new ones, without end; otherwise like `of_some`."""
    return _of_all(segment, segment.changes(timeout=timeout))


def _of_all(segment: shmvar.Segment, changes: Iterable[tuple[int | str, int]]) -> Iterator[Change]:
    ahead: dict[int | str, int] = {}  # the versions of values that were read before they were told
    for index, version in changes:
        if version == ahead.pop(index, None):
            continue
        change = _read(segment, index, version) if version else Change(index, 0)
        if change.version != version:
            ahead[index] = change.version
        yield change


def _read(segment: shmvar.Segment, index: int | str, version: int) -> Change:
    """The value with its version. Where the value cannot be read, the error with `version`, which is known."""
    try:
        value, version = segment.get_versioned(index)
    except KeyError:
        return Change(index, 0)
    except shmvar.UntrustedValueError as error:
        return Change(index, version, error=f"not read without --trust: {remedies.in_words(str(error))}", refused=True)
    except shmvar.CorruptSegmentError as error:
        return Change(index, version, error=str(error))
    except (shmvar.Error, OSError, MemoryError):
        raise
    except Exception as error:  # of a damaged value, or of the value's own code
        return Change(index, version, error=f"{type(error).__name__}: {error}")
    return Change(index, version, value)


def _value(change: Change, as_json: bool) -> tuple[str, str | None]:
    """The text of the value after a change, and why it has none."""
    if not change.version or change.error is not None:
        return "gone", change.error
    try:
        return printing.as_json(change.value) if as_json else repr(change.value), None
    except Exception as failure:  # as for `get`
        return "gone", printing.no_form(as_json, failure)


def _line(change: Change, as_json: bool) -> str:
    """A change as one line."""
    text, error = _value(change, as_json)
    if not as_json:
        shown = _text.one_line(f"<{error}>" if error else text)
        return f"{_text.one_line(repr(change.index))}\t{change.version}\t{shown}"
    there = bool(change.version)
    head = printing.as_json({"index": change.index, "version": change.version, "there": there, "error": error})
    return f'{head[:-1]}, "value": {text if there and error is None else "null"}}}'
