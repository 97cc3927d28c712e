"""The command `copy`: variables of a segment into another one, of this machine or on a server."""

import argparse

import shmvar
from shmvar.cli import opening, printing
from shmvar.cli.outcome import DONE, Refused
from shmvar.cli.parser import Commands, add_creation, add_names


def add_commands(commands: Commands) -> None:
    """Adds it to the parser."""
    text = "copy variables into another segment, over what is there; create it if there is none"
    copy = commands.add("copy", _copy, text)
    add_names(copy, "FROM", help="a key, or the URL of a segment on a server")
    add_names(copy, "TO", help="the same")
    add_names(copy, "INDEX", nargs="*", help="only these variables; without one, all")
    add_creation(copy)


def _copy(args: argparse.Namespace) -> int:
    # `from` is a word of Python.
    source_key = getattr(args, "from")
    with opening.for_many(source_key) as source:
        wanted = args.index or list(source)
        missing = [index for index in args.index if not source.has(index)]
        if missing:
            raise opening.no_variable(source, missing[0])
        with opening.or_created(args.to, args) as target, printing.progress("variables") as told:
            for number, index in enumerate(wanted):
                told(number, len(wanted))
                try:
                    shmvar.copy(source, target, [index])
                except (shmvar.Error, OSError, MemoryError) as error:
                    raise Refused(f"{number} of {len(wanted)} variables were copied: {error}") from None
    return DONE
