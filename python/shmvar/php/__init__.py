"""Values shared with PHP: its System V segments, semaphores, message queues, and its `serialize` format.

PHP stores with `shm_put_var` what Python reads, and the other way round:

>>> from shmvar import php
>>> semaphore = php.Semaphore(0x50485001)                   # PHP: $sem = sem_get(0x50485001);
>>> segment = php.attach(0x50485001, lock=semaphore)        # PHP: $shm = shm_attach(0x50485001);
>>> segment[1] = {"job": 7, "steps": ["fetch", "resize"]}   # PHP: shm_get_var($shm, 1)
>>> with semaphore:                                         # PHP: sem_acquire($sem); ... sem_release($sem);
...     segment[2] = segment.get(2, 0) + 1
>>> segment[1]["steps"], segment[2]
(['fetch', 'resize'], 1)
>>> segment.destroy()                                       # PHP: shm_remove($shm);
>>> semaphore.remove()                                      # PHP: sem_remove($sem);

PHP's segments know no lock: where both sides write, or one writes and the other reads, both must hold the same
semaphore meanwhile, or the segment is damaged sooner or later. `lock=` does it for each call.

`help(php.attach)`, `help(php.Segment)`, `help(php.Semaphore)` and `help(php.dumps)` explain the rest. PHP's functions
are here under their own names, too: `shm_get_var`, `sem_acquire`, `msg_send`, and so on. They raise an error where PHP
warns and returns false. Each error is a `shmvar.Error`, a `KeyError`, or one for a wrong argument.
"""

from _collections_abc import MutableMapping as _MutableMapping

from shmvar.php._errors import SerializeError, UnserializeError
from shmvar.php._functions import (
    ftok,
    shm_attach,
    shm_detach,
    shm_get_var,
    shm_has_var,
    shm_put_var,
    shm_remove,
    shm_remove_var,
)
from shmvar.php._info import SegmentInfo
from shmvar.php._message_functions import (
    MSG_EAGAIN,
    MSG_ENOMSG,
    MSG_EXCEPT,
    MSG_IPC_NOWAIT,
    MSG_NOERROR,
    msg_get_queue,
    msg_queue_exists,
    msg_receive,
    msg_remove_queue,
    msg_send,
    msg_set_queue,
    msg_stat_queue,
)
from shmvar.php._message_queue_info import MessageQueueInfo
from shmvar.php._native import MessageQueue, Segment, Semaphore, Shmop, attach, dumps, loads
from shmvar.php._semaphore_functions import sem_acquire, sem_get, sem_release, sem_remove
from shmvar.php._shmop_functions import (
    shmop_close,
    shmop_delete,
    shmop_open,
    shmop_read,
    shmop_size,
    shmop_write,
)
from shmvar.php._values import PhpCustom, PhpEnum, PhpObject

# Imported now: when `keys` is called for the first time, there may be no permission left to read the file.
from shmvar.php._views import SegmentKeys as _SegmentKeys  # noqa: F401

_MutableMapping.register(Segment)

__all__ = [
    "MSG_EAGAIN",
    "MSG_ENOMSG",
    "MSG_EXCEPT",
    "MSG_IPC_NOWAIT",
    "MSG_NOERROR",
    "MessageQueue",
    "MessageQueueInfo",
    "PhpCustom",
    "PhpEnum",
    "PhpObject",
    "Segment",
    "SegmentInfo",
    "Semaphore",
    "SerializeError",
    "Shmop",
    "UnserializeError",
    "attach",
    "dumps",
    "ftok",
    "loads",
    "msg_get_queue",
    "msg_queue_exists",
    "msg_receive",
    "msg_remove_queue",
    "msg_send",
    "msg_set_queue",
    "msg_stat_queue",
    "sem_acquire",
    "sem_get",
    "sem_release",
    "sem_remove",
    "shm_attach",
    "shm_detach",
    "shm_get_var",
    "shm_has_var",
    "shm_put_var",
    "shm_remove",
    "shm_remove_var",
    "shmop_close",
    "shmop_delete",
    "shmop_open",
    "shmop_read",
    "shmop_size",
    "shmop_write",
]
