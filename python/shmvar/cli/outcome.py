"""How a command ends: exit statuses, and the error of a command that refuses."""

DONE, REFUSED, USAGE = 0, 1, 2
INTERRUPTED, BROKEN_PIPE = 130, 141  # as a shell reports SIGINT and SIGPIPE


class Refused(Exception):
    """Something was not found or was refused. Its text is one line for stderr, and the exit status is `REFUSED`."""
