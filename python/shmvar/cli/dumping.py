"""The commands `dump` and `load`: all variables of a segment, to a file and back."""

import argparse

import shmvar
from shmvar.cli import opening, printing
from shmvar.cli.outcome import DONE, Refused
from shmvar.cli.parser import Commands, add_creation, add_names


def add_commands(commands: Commands) -> None:
    """Adds them to the parser."""
    dump = commands.add("dump", _dump, "save the variables of a segment to a file, as they are stored")
    add_names(dump, "KEY")
    dump.add_argument("file", metavar="FILE", help="- stands for stdout")

    text = "store the variables of a dump over what is there; create the segment if there is none"
    load = commands.add("load", _load, text)
    add_names(load, "KEY")
    load.add_argument("file", metavar="FILE", help="- stands for stdin")
    add_creation(load)


def _dump(args: argparse.Namespace) -> int:
    from shmvar.cli import dump_file

    if args.file == "-" and printing.on_terminal():
        raise Refused("a dump is not text for a terminal: give a FILE, or redirect the output")
    with opening.for_reading(args) as segment, dump_file.created(args.file) as file:
        dump_file.dump(segment, file)
        file.flush()
    return DONE


def _load(args: argparse.Namespace) -> int:
    from shmvar.cli import dump_file

    with dump_file.opened(args.file) as file:
        try:
            variables, items = dump_file.verify(file)
        except dump_file.DamagedDump as error:
            raise Refused(f"{error}; nothing was loaded") from None
        file.seek(0)
        loaded = 0
        with opening.or_created(args.key, args) as segment:
            try:
                for _ in dump_file.load(segment, file):
                    loaded += 1
            except (shmvar.Error, OSError, MemoryError, ValueError, OverflowError) as error:
                what = "variables and items" if items else "variables"
                raise Refused(f"{loaded} of {variables + items} {what} were loaded: {error}") from None
    return DONE
