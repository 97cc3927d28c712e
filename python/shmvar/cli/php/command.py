"""The command `php` with its commands."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import shmvar
from shmvar.cli import arguments
from shmvar.cli.outcome import Refused
from shmvar.cli.parser import CommandGroup, Commands, add_json
from shmvar.cli.php import listing, values

LOCK = "the key of PHP's semaphore that all who use the segment take: it is taken while the segment is looked at"


def add_commands(commands: Commands) -> None:
    """Adds them to the parser."""
    about = "segments that PHP shares: what its shm_attach made"
    group = commands.group("php", about, epilog="A KEY is a number of 32 bits, as PHP has it: 4711, -5, 0x1267.")

    ls = _add(group, "ls", listing.ls, "list the segments of PHP's on this machine")
    add_json(ls)

    info = _add(group, "info", listing.info, "show facts about a segment of PHP's")
    _add_key(info)
    add_json(info)

    text = "list the variables of a segment of PHP's, with values that are short; no object is made of them"
    show = _add(group, "show", listing.show, text)
    _add_key(show)
    show.add_argument("--limit", type=arguments.count, metavar="N", help="only the first N, by index")
    add_json(show)

    get = _add(group, "get", values.get, "print a value that PHP or another program has stored")
    _add_key(get, index=True)
    form = get.add_mutually_exclusive_group()
    what = "print JSON; an object is its class and its properties"
    form.add_argument("--json", action="store_true", help=what)
    form.add_argument("--raw", action="store_true", help="print what serialize made of it, byte for byte")

    put = _add(group, "put", values.put, "store a value for PHP; create the segment if there is none")
    _add_key(put, index=True)
    what = "a Python literal if it reads as one, otherwise a text; - is read from stdin, \"'-'\" is a dash"
    put.add_argument("value", metavar="VALUE", type=arguments.utf8, help=what)
    put.add_argument("--json", action="store_true", help="VALUE is JSON")
    size = "how many bytes a new segment has (10000): it stays at that"
    put.add_argument("--size", type=arguments.size, default=10_000, help=size)
    rights = "mode of a new segment, octal (666, as PHP has it: everybody on this machine may read and write)"
    put.add_argument("--perm", type=arguments.mode, default=0o666, help=rights)

    remove = _add(group, "remove", values.remove, "remove a variable of a segment of PHP's")
    _add_key(remove, index=True)

    text = "remove all variables of a segment of PHP's, also of a damaged one; those attached go on with it"
    _add_key(_add(group, "clear", values.clear, text))

    destroy = _add(group, "destroy", values.destroy, "remove a segment of PHP's; those attached keep it until they end")
    _add_key(destroy)


def _add(
    group: CommandGroup, name: str, run: Callable[[argparse.Namespace], int], text: str
) -> argparse.ArgumentParser:
    def call(args: argparse.Namespace) -> int:
        try:
            return run(args)
        except shmvar.CorruptSegmentError as error:
            raise Refused(str(error)) from None  # the doctor, to whom others are sent, does not know PHP's segments

    return group.add(name, call, text)


def _add_key(command: argparse.ArgumentParser, *, index: bool = False) -> None:
    """The arguments that name a segment, or a variable of it, and the semaphore around it."""
    key = "a number of 32 bits, as shm_attach got it: 4711, -5, 0x1267"
    command.add_argument("key", metavar="KEY", type=arguments.php_key, help=key)
    if index:
        command.add_argument("index", metavar="INDEX", type=arguments.php_index, help="a number of 64 bits")
    command.add_argument("--lock", type=arguments.php_key, metavar="SEMAPHORE", help=LOCK)
