"""The commands `php get`, `php put`, `php remove`, `php clear` and `php destroy`."""

from __future__ import annotations

import argparse
import sys
from typing import Any

import shmvar
from shmvar import _text
from shmvar.cli import arguments, printing, streams
from shmvar.cli.outcome import DONE, Refused
from shmvar.cli.php import opening

_MISSING: Any = object()


def get(args: argparse.Namespace) -> int:
    """Prints a value. An object is data: its class is a name."""
    with opening.existing(args) as segment:
        text = segment._get_text(args.index) if args.raw else None
        found = None if args.raw else segment.get(args.index, _MISSING)
    if (text is None) if args.raw else found is _MISSING:
        raise opening.missing(segment, args.index)
    if text is not None:
        return _print_bytes(text)
    try:
        shown = printing.as_json(found, _as_data) if args.json else found if isinstance(found, str) else repr(found)
    except Exception as error:  # it has no form as JSON, it is nested too deeply, or it holds itself
        raise Refused(f"the value has {printing.no_form(args.json, error)}") from None
    print(_text.harmless(shown) if printing.on_terminal() else shown)
    return DONE


def _print_bytes(found: bytes) -> int:
    """Bytes as they are, for a program or a file; a terminal gets what commands nothing."""
    if printing.on_terminal():
        print(_text.harmless(found.decode(errors="backslashreplace")))
    elif hasattr(sys.stdout, "buffer"):
        sys.stdout.flush()
        sys.stdout.buffer.write(found)
        sys.stdout.buffer.flush()
    else:
        print(found.decode(errors="surrogateescape"), end="")
    return DONE


def _as_data(found: Any) -> Any:
    """What JSON has for an object or an enum of PHP."""
    from shmvar import php

    if isinstance(found, php.PhpObject):
        return {"class": found.class_name, "properties": found.properties}
    if isinstance(found, php.PhpEnum):
        return {"class": found.class_name, "case": found.case}
    raise TypeError(f"{type(found).__name__} is no JSON")


def put(args: argparse.Namespace) -> int:
    """Stores a value."""
    text = streams.stdin_text() if args.value == "-" else args.value
    value = arguments.json_value(text) if args.json else arguments.literal(text)
    with opening.or_created(args) as segment:
        segment.put(args.index, value)
    return DONE


def remove(args: argparse.Namespace) -> int:
    """Removes a variable."""
    with opening.existing(args) as segment:
        try:
            segment.remove(args.index)
        except KeyError as error:
            if isinstance(error, shmvar.Error):
                raise
            raise opening.missing(segment, args.index) from None
    return DONE


def clear(args: argparse.Namespace) -> int:
    """Removes all variables, those of a damaged segment, too. Whoever is attached stays attached."""
    with opening.existing(args) as segment:
        segment.clear()
    return DONE


def destroy(args: argparse.Namespace) -> int:
    """Removes a segment."""
    with opening.existing(args) as segment:
        segment.destroy()
    return DONE
