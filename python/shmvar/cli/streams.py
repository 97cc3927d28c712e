"""Standard streams: what stdin says, which of them the caller has closed (`>&-`), which errors are those of stdout."""

import errno
import io
import os
import sys

from shmvar.cli.outcome import Refused

_OF_WRITING = (errno.EBADF, errno.EIO, errno.EFBIG, errno.ENOSPC, errno.EDQUOT)


def fill_in() -> None:
    """Opens descriptors 0, 1 and 2 where they are closed, so that no other file or pipe gets one of these numbers.

    Neither can what nobody gave be read, nor can it be written: a command that has nothing to print ends well, and
    another one fails at that. `sys.stdin` stays None.
    """
    for descriptor, flags in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        if not _is_open(descriptor):
            os.open(os.devnull, flags)  # the lowest number that is free, and those below are open
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:  # `print` and `argparse` would write to stdout what is meant for nobody
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def stdin_text() -> str:
    """All of stdin as text, without the line end that `get` prints after a value."""
    if sys.stdin is None:
        raise Refused("there is no stdin to read the value from")
    try:
        return sys.stdin.buffer.read().decode().removesuffix("\n")
    except UnicodeDecodeError as error:
        raise Refused(f"what stdin gives is no text in UTF-8: {error}") from None


def stdout_fails(error: OSError) -> OSError | None:
    """Why stdout takes nothing, if that is what `error` is about."""
    try:
        sys.stdout.flush()  # what it has not taken yet fails again
    except OSError as failed:
        return failed
    # Where Python does not buffer, nothing is left to be written. Errors of files have their name.
    unbuffered = isinstance(getattr(sys.stdout, "buffer", None), io.RawIOBase)
    return error if unbuffered and error.filename is None and error.errno in _OF_WRITING else None


def silence() -> None:
    """Sends stdout to nowhere: the interpreter flushes it at exit, which would fail as this process's write did."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
