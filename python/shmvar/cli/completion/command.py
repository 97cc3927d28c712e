"""The command `completion`: prints the script for a shell."""

import argparse
import os

from shmvar.cli.outcome import DONE
from shmvar.cli.parser import Commands

SHELLS = ("bash", "zsh", "fish")


def add_commands(commands: Commands) -> None:
    """Adds it to the parser."""
    text = "print a script for a shell, which then completes commands, options, live keys and indexes at a TAB"
    completion = commands.add("completion", _completion, text)
    completion.add_argument("shell", metavar="SHELL", choices=SHELLS, help="bash, zsh or fish")


def _completion(args: argparse.Namespace) -> int:
    with open(os.path.join(os.path.dirname(__file__), f"shmvar.{args.shell}"), encoding="utf-8") as script:
        print(script.read(), end="")
    return DONE
