"""The commands `dump` and `load`: everything in a segment, to a file and back."""

import argparse
import os
import sys
import time

import shmvar
from shmvar import _dump as dumps
from shmvar import _text
from shmvar._core import _activity
from shmvar._dump.files import is_stdout
from shmvar.cli import arguments, opening, printing
from shmvar.cli.outcome import DONE, Refused
from shmvar.cli.parser import Commands, add_creation, add_names


def add_commands(commands: Commands) -> None:
    """Adds them to the parser."""
    dump = commands.add("dump", _dump, "save everything in a segment to a file, as of one instant")
    add_names(dump, "KEY")
    dump.add_argument("file", metavar="FILE", help="- stands for stdout")
    dump.add_argument(
        "--every",
        type=arguments.seconds,
        metavar="SECONDS",
        help="again and again, until Ctrl-C; FILE has the last dump",
    )

    text = "store what a dump has over what is there; create the segment if there is none"
    load = commands.add("load", _load, text)
    add_names(load, "KEY")
    load.add_argument("file", metavar="FILE", help="- stands for stdin")
    add_creation(load)


def _dump(args: argparse.Namespace) -> int:
    if is_stdout(args.file):
        args.file = "-"
    if args.file == "-" and printing.on_terminal():
        raise Refused("a dump is not text for a terminal: give a FILE, or redirect the output")
    if args.file == "-" and args.every is not None:
        raise Refused("--every replaces a file with each dump: give a FILE")
    # Only a handle that may write can keep writers out for a moment.
    with opening.writing_if_allowed(args.key) as segment:
        if args.every is not None:
            return _dump_every(segment, args.file, args.every)
        _dump_once(segment, args.file)
    return DONE


def _dump_once(segment: shmvar.Segment, path: str) -> int:
    with printing.progress("bytes") as told:
        try:
            return dumps.dump(segment, sys.stdout.buffer if path == "-" else path, told)
        except OSError as error:
            if path != "-" and error.errno is not None and error.filename is None:
                error.filename = path  # a write does not know it
            raise


def _dump_every(segment: shmvar.Segment, path: str, seconds: float) -> int:
    """Dumps until Ctrl-C. A dump that takes longer than the pause is followed by the next one at once."""
    try:
        while True:
            began = time.monotonic()
            if isinstance(segment, shmvar.Segment) and _activity(segment)["gone"]:
                named = opening.named(segment)
                raise Refused(
                    f"the segment {named} was destroyed; {_text.one_line(path)} has what it was at the last dump"
                )
            variables = _dump_once(segment, path)
            size = _text.size(os.stat(path).st_size)
            print(f"{time.strftime('%H:%M:%S')}  {_text.number(variables)} variables, {size}", flush=True)
            time.sleep(max(began + seconds - time.monotonic(), 0))
    except KeyboardInterrupt:
        return DONE  # the usual end


def _load(args: argparse.Namespace) -> int:
    if args.file == "-" and sys.stdin is None:
        raise Refused("there is no stdin to read the dump from")
    with opening.or_created(args.key, args) as segment, printing.progress("bytes") as told:
        try:
            dumps.load(segment, sys.stdin.buffer if args.file == "-" else args.file, told)
        except Exception as error:
            raise _said(error) from None
    return DONE


def _said(error: Exception) -> Exception:
    """The error that a load ends with, with what was loaded."""
    notes = [note for note in getattr(error, "__notes__", ()) if "were loaded" in note]
    if notes:
        return Refused("; ".join([str(error), *notes]))
    if isinstance(error, shmvar.DumpError | shmvar.SegmentFullError):
        text = str(error)
        told = "were loaded" in text or "nothing was loaded" in text
        return Refused(text if told else f"{text}; nothing was loaded")
    return error
