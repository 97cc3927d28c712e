"""Values shared with PHP: its System V segments, semaphores, message queues, and its `serialize` format."""

from shmvar.php._errors import SerializeError, UnserializeError
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
from shmvar.php._native import MessageQueue, Semaphore, Shmop, dumps, loads
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
    "Semaphore",
    "SerializeError",
    "Shmop",
    "UnserializeError",
    "dumps",
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
    "shmop_close",
    "shmop_delete",
    "shmop_open",
    "shmop_read",
    "shmop_size",
    "shmop_write",
]
