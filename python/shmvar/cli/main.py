"""Runs a command. Reading a value never runs code unless `--trust` says so."""

import sys
from collections.abc import Sequence

import shmvar
from shmvar import _text
from shmvar.cli import copying, dumping, listing, manual, remedies, streams, urls, values, watching
from shmvar.cli.completion import answer
from shmvar.cli.completion import command as completion
from shmvar.cli.demo import command as demo
from shmvar.cli.doctor import command as doctor
from shmvar.cli.outcome import BROKEN_PIPE, INTERRUPTED, REFUSED, USAGE, Refused
from shmvar.cli.parser import Commands
from shmvar.cli.php import command as php
from shmvar.cli.top import command as top


def commands() -> Commands:
    """All commands, in the order in which the help lists them."""
    found = Commands()
    for module in (values, listing, top, watching, dumping, copying, php, doctor, demo, completion, manual):
        module.add_commands(found)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command of a command line (of this process's if `argv` is None), and returns its exit status."""
    streams.fill_in()
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a text may hold what the terminal cannot show
    question = answer.asked(argv)
    if question is not None:
        return answer.answer(question, commands)
    try:
        try:
            args = commands().parse(argv)
        except SystemExit:  # usage is wrong, or `--help` and `--version` have been printed
            sys.stdout.flush()
            raise
        status: int = args.run(args)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        streams.silence()
        return BROKEN_PIPE
    except KeyboardInterrupt:
        return INTERRUPTED
    except (Refused, shmvar.Error, MemoryError) as error:
        _complain(error)
        return REFUSED
    except ModuleNotFoundError as error:
        if error.name not in ("redis", "hiredis"):
            raise
        _complain(error)  # it says what to install for a segment on a server
        return REFUSED
    except OSError as error:
        if (failed := streams.stdout_fails(error)) is not None:
            streams.silence()
            error = OSError(f"stdout takes no more: {failed.strerror or failed}")
        _complain(error)
        return REFUSED
    except (ValueError, TypeError, OverflowError) as error:
        _complain(error)
        return USAGE


def _complain(error: BaseException) -> None:
    """Prints an error as one line."""
    # What a value's own code raises, with `--trust`, may have any text.
    line = _text.one_line(urls.shown(" ".join(str(error).split()))) or type(error).__name__
    line = remedies.in_words(line)
    if isinstance(error, shmvar.CorruptSegmentError):
        line += "; shmvar doctor says what to do"
    print(f"shmvar: {line}", file=sys.stderr)
