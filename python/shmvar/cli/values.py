"""The commands `put`, `get`, `has` and `remove`: one variable of a segment."""

import argparse

import shmvar
from shmvar import _text
from shmvar.cli import arguments, opening, printing, streams, suggestions, urls
from shmvar.cli.outcome import DONE, Refused
from shmvar.cli.parser import Commands, add_creation, add_json, add_names, add_trust

_MISSING = object()


def add_commands(commands: Commands) -> None:
    """Adds them to the parser."""
    put = commands.add("put send", _put, "store a value; create the segment if there is none")
    add_names(put, "KEY", "INDEX")
    what = "a Python literal if it reads as one, otherwise a text; - is read from stdin, \"'-'\" is a dash"
    put.add_argument("value", metavar="VALUE", type=arguments.utf8, help=what)
    put.add_argument("--json", action="store_true", help="VALUE is JSON")
    put.add_argument("--ttl", type=arguments.seconds, metavar="SECONDS", help="the variable is gone after this time")
    add_creation(put)

    get = commands.add("get", _get, "print a value")
    add_names(get, "KEY", "INDEX")
    add_trust(get)
    add_json(get)

    has = commands.add("has", _has, "exit with 0 if there is such a variable, otherwise with 1")
    add_names(has, "KEY", "INDEX")

    remove = commands.add("remove delete", _remove, "remove a variable; without INDEX, destroy the segment")
    add_names(remove, "KEY")
    add_names(remove, "INDEX", nargs="?")


def _put(args: argparse.Namespace) -> int:
    text = streams.stdin_text() if args.value == "-" else args.value
    value = arguments.json_value(text) if args.json else arguments.literal(text)
    with opening.or_created(args.key, args) as segment:
        try:
            segment.put(args.index, value, ttl=args.ttl)
        except RecursionError:
            from shmvar.cli import literals

            most = f"more than can be pickled: {literals.READ_BY_JSON} deep can be in any case"
            what = f"VALUE is nested {literals.depth(text):,} deep, which is {most}"
            raise ValueError(f"{what}; without --json, {arguments.AS_TEXT}") from None
    return DONE


def _get(args: argparse.Namespace) -> int:
    with opening.for_reading(args) as segment:
        # First, and outside of `try`: an index that no variable can have is an error of usage, not one of the value.
        if not segment.has(args.index):
            raise opening.no_variable(segment, args.index)
        try:
            value = segment.get(args.index, _MISSING)
        except shmvar.UntrustedValueError as error:
            kind = segment.stat(args.index).type
            raise Refused(f"a value of type {kind} is not read without --trust: {error}") from None
        except (shmvar.Error, OSError, MemoryError):
            raise
        except Exception as error:  # the value's own code may raise anything
            raise Refused(f"reading the value raised {type(error).__name__}: {error}") from None
        if value is _MISSING:
            raise opening.no_variable(segment, args.index)
    try:
        text = printing.as_json(value) if args.json else value if isinstance(value, str) else repr(value)
    except Exception as error:  # it has no form as JSON, it is an int of too many digits, or its `__repr__` raises
        raise Refused(f"the value has {printing.no_form(args.json, error)}") from None
    print(_text.harmless(text) if printing.on_terminal() else text)
    return DONE


def _has(args: argparse.Namespace) -> int:
    with opening.for_reading(args) as segment:
        if not segment.has(args.index):
            raise opening.no_variable(segment, args.index)
    return DONE


def _remove(args: argparse.Namespace) -> int:
    if args.index is None:
        if not shmvar.destroy(args.key):
            if urls.is_url(args.key):
                raise Refused(f"there is no segment {args.key}")
            raise Refused(f"no segment with key {args.key!r}{suggestions.for_key(args.key)}")
        return DONE
    with opening.existing(args.key) as segment:
        if not segment.remove(args.index):
            raise opening.no_variable(segment, args.index)
    return DONE
