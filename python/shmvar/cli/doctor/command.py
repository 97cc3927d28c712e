"""The command `doctor`."""

import argparse

from shmvar.cli import printing, urls
from shmvar.cli.outcome import DONE, REFUSED
from shmvar.cli.parser import Commands, add_json


def add_commands(commands: Commands) -> None:
    """Adds it to the parser."""
    text = "check every segment and the machine (or a server), and repair what is safe to repair"
    doctor = commands.add("doctor", _doctor, text)
    about = "of a server, valkey://host, or of a segment there: check these"
    doctor.add_argument("url", metavar="URL", nargs="?", help=about)
    doctor.add_argument("--no-fix", dest="fix", action="store_false", help="repair nothing, only look")
    add_json(doctor)


def _doctor(args: argparse.Namespace) -> int:
    import json

    from shmvar.cli.doctor import examination, report

    if args.url is not None:
        return _of_server(args)
    found = examination.examine(args.fix)
    if args.json:
        for seen in found["segments"] + found["objects"]:
            if seen.get("mode") is not None:
                seen["mode"] = printing.mode(seen["mode"] & 0o7777)
        print(json.dumps(found))
    else:
        report.show(report.sections(found), found["findings"])
    return DONE if found["healthy"] else REFUSED


def _of_server(args: argparse.Namespace) -> int:
    import json

    if not urls.is_url(args.url):
        raise ValueError(
            f"{urls.shown(args.url)} is no URL of a server: give valkey://host[:port]/, or nothing for this machine"
        )
    from shmvar.cli.doctor import report
    from shmvar.cli.doctor.server import examination
    from shmvar.cli.doctor.server import report as of_server

    found = examination.examine(args.url, args.fix)
    if args.json:
        print(json.dumps(found))
    else:
        report.show(of_server.sections(found), found["findings"])
    return DONE if found["healthy"] else REFUSED
