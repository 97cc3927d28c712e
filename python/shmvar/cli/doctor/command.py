"""The command `doctor`."""

import argparse

from shmvar.cli import printing
from shmvar.cli.outcome import DONE, REFUSED
from shmvar.cli.parser import Commands, add_json


def add_commands(commands: Commands) -> None:
    """Adds it to the parser."""
    doctor = commands.add("doctor", _doctor, "check every segment and the machine, and repair what is safe to repair")
    doctor.add_argument("--no-fix", dest="fix", action="store_false", help="repair nothing, only look")
    add_json(doctor)


def _doctor(args: argparse.Namespace) -> int:
    import json

    from shmvar.cli.doctor import examination, report

    found = examination.examine(args.fix)
    if args.json:
        for seen in found["segments"] + found["objects"]:
            if seen.get("mode") is not None:
                seen["mode"] = printing.mode(seen["mode"] & 0o7777)
        print(json.dumps(found))
    else:
        report.show(found)
    return DONE if found["healthy"] else REFUSED
