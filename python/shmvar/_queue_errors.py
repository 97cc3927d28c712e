"""`QueueEmptyError` and `QueueFullError`: the errors of the package that derive from those of `queue`.

They have a module of their own so that `import shmvar` does not import `queue`. `shmvar.QueueEmptyError` imports this
module when somebody asks for it, and the extension module when it raises the error.
"""

from queue import Empty, Full

from shmvar._errors import WaitTimeoutError


class QueueEmptyError(WaitTimeoutError, Empty):
    """No item of the queue waited, or came in time."""


class QueueFullError(WaitTimeoutError, Full):
    """The queue, or its segment, had no room for the item in time."""


QueueEmptyError.__module__ = QueueFullError.__module__ = "shmvar"
