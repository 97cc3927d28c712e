"""How a command ends: exit statuses, and the error of a command that refuses."""

DONE, REFUSED, USAGE = 0, 1, 2
INTERRUPTED, BROKEN_PIPE = 130, 141  # as a shell reports SIGINT and SIGPIPE


class Refused(Exception):
    """Something was not found or was refused. Its text is one line for stderr, and the exit status is `REFUSED`."""


def no_variable(key: int | str, index: int | str) -> Refused:
    """The error for a variable that is not there."""
    return Refused(f"no variable {index!r} in the segment {key!r}")
