"""The command `top`."""

import argparse
import os
import sys

from shmvar.cli import arguments, printing
from shmvar.cli.parser import Commands, add_json, add_names
from shmvar.cli.top import sorting


def add_commands(commands: Commands) -> None:
    """Adds it to the parser."""
    text = "show all segments live: use, changes a second, processes, waiters, memory; q quits, ? helps"
    top = commands.add("top", _top, text)
    add_names(top, "KEY", nargs="*", help="only these: keys, or the URL of a segment on a server")
    top.add_argument("--sort", choices=tuple(sorting.ORDERS), default=sorting.DEFAULT, help="the order to begin with")
    top.add_argument("--reverse", action="store_true", help="the other way round")
    every = "how long from one look to the next (1)"
    top.add_argument("--interval", type=arguments.seconds_of_a_day, default=1.0, metavar="SECONDS", help=every)
    top.add_argument("--count", type=arguments.count, metavar="N", help="end after N looks")
    once = "print one plain table, after one interval; so it is where stdout is no terminal, too"
    top.add_argument("--once", action="store_true", help=once)
    add_json(top)


def _top(args: argparse.Namespace) -> int:
    live = printing.on_terminal() and not args.once and not args.json and os.environ.get("TERM", "dumb") != "dumb"
    if live and _can_draw():
        from shmvar.cli.top import loop
        from shmvar.cli.top.drawing import View

        view = View(order=args.sort, reverse=args.reverse, interval=args.interval)
        return loop.run(args.key, view, args.count)
    if live:
        print("shmvar: tables instead of the live screen, which needs: pip install 'shmvar[cli]'", file=sys.stderr)
    from shmvar.cli.top import plain

    count = 1 if args.once else args.count
    if count is None and not args.json and not printing.on_terminal():
        count = 1
    return plain.run(args.key, args.sort, args.reverse, args.interval, count, json=args.json)


def _can_draw() -> bool:
    """Whether there is what draws the screen; where it is missing, every command prints plain text."""
    import importlib.util

    return importlib.util.find_spec("rich") is not None
