"""The command `demo`."""

import argparse

from shmvar.cli import arguments
from shmvar.cli.parser import Commands, add_json


def add_commands(commands: Commands) -> None:
    """Adds it to the parser."""
    demo = commands.add("demo", _demo, "let processes share values, kill them, and show what is lost")
    demo.add_argument(
        "--seconds", type=arguments.seconds_of_a_day, default=6.0, metavar="N", help="how long it runs (6)"
    )
    add_json(demo)


def _demo(args: argparse.Namespace) -> int:
    from shmvar.cli.demo import show

    return show.run(args.seconds, as_json=args.json)
