"""PHP's functions for message queues, with their names and argument order. They raise an error where PHP warns."""

from __future__ import annotations

from math import isfinite
from operator import index

from shmvar.php._native import MessageQueue, msg_queue_exists

TYPE_CHECKING = False  # not from `typing`, whose import costs more than this package
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Literal, SupportsIndex

__all__ = [
    "MSG_EAGAIN",
    "MSG_ENOMSG",
    "MSG_EXCEPT",
    "MSG_IPC_NOWAIT",
    "MSG_NOERROR",
    "msg_get_queue",
    "msg_queue_exists",
    "msg_receive",
    "msg_remove_queue",
    "msg_send",
    "msg_set_queue",
    "msg_stat_queue",
]

MSG_IPC_NOWAIT = 1
MSG_NOERROR = 2
MSG_EXCEPT = 4
MSG_EAGAIN = 11
MSG_ENOMSG = 42

_ALL_FLAGS = MSG_IPC_NOWAIT | MSG_NOERROR | MSG_EXCEPT

# The names that PHP has for what may be changed.
_CHANGEABLE = {
    "msg_perm.uid": "uid",
    "msg_perm.gid": "gid",
    "msg_perm.mode": "permissions",
    "msg_qbytes": "max_bytes",
}


def msg_get_queue(key: SupportsIndex, permissions: SupportsIndex = 0o666) -> MessageQueue:
    """Open the message queue `key`, or make it with these permissions: `MessageQueue(key, permissions)`."""
    return MessageQueue(key, permissions)


def _digits(number: float) -> str:
    """What PHP's `%F` makes of a float: it has no sign of infinity and of zero."""
    if not isfinite(number):
        return "nan" if number != number else "inf"
    return f"{number or 0.0:.6f}"


def msg_send(
    queue: MessageQueue, message_type: SupportsIndex, message: Any, serialize: bool = True, blocking: bool = True
) -> Literal[True]:
    """Send a message whose type is above 0.

    Args:
        queue: where to.
        message_type: a number above 0.
        message: any value that `dumps` takes. Without `serialize` it is bytes, something like bytes, a `str` (in
            UTF-8), or an int, a bool or a float, of which PHP makes digits: of a float six behind the point, and
            "inf" or "nan" of what has none.
        serialize: whether PHP is to `unserialize` it.
        blocking: whether to wait while the queue is full.

    Raises:
        SegmentFullError: the message is too long for the queue or, with `blocking=False`, the queue is full.
        SerializeError: PHP cannot hold the value.
        SegmentNotFoundError: the queue was removed.
    """
    if not serialize and isinstance(message, int):
        message = str(int(message))
    elif not serialize and isinstance(message, float):
        message = _digits(message)
    if blocking:
        MessageQueue.send(queue, message, message_type, serialize=serialize)
    else:
        MessageQueue._send_now(queue, message, message_type, serialize)
    return True


def _is_at_most_0(number: SupportsIndex) -> bool:
    return hasattr(type(number), "__index__") and index(number) <= 0


def msg_receive(
    queue: MessageQueue,
    desired_message_type: SupportsIndex,
    max_message_size: SupportsIndex,
    unserialize: bool = True,
    flags: int = 0,
) -> tuple[int, Any] | None:
    """Receive a message, as `MessageQueue.receive` does.

    Args:
        queue: where from.
        desired_message_type: 0 takes any; a number above 0 this type; a number below 0 the lowest type up to it.
        max_message_size: how many bytes the message may have, as it is in the queue.
        unserialize: whether to return a value, or the bytes.
        flags: `MSG_IPC_NOWAIT` does not wait, `MSG_EXCEPT` takes any type but the given one (and counts for nothing
            where that is 0 or below), `MSG_NOERROR` cuts off what is longer than `max_message_size`.

    Returns:
        The type and the message. None, where PHP returns false: there is none, and `MSG_IPC_NOWAIT` is set.

    Raises:
        SegmentSystemError: the message is longer, and stays in the queue; `errno` is E2BIG.
        UnserializeError: the message is no text of `serialize`; the error has it as `message`.
        SegmentNotFoundError: the queue was removed.
    """
    if flags & ~_ALL_FLAGS:
        raise ValueError(f"flags are MSG_IPC_NOWAIT (1), MSG_NOERROR (2) and MSG_EXCEPT (4), not {flags}")
    return MessageQueue.receive(
        queue,
        desired_message_type,
        max_size=max_message_size,
        unserialize=unserialize,
        timeout=0 if flags & MSG_IPC_NOWAIT else None,
        # The kernel looks at it only where a type above 0 is asked for. What is no int is refused by `receive`.
        except_=bool(flags & MSG_EXCEPT) and not _is_at_most_0(desired_message_type),
        truncate=bool(flags & MSG_NOERROR),
    )


def msg_stat_queue(queue: MessageQueue) -> dict[str, int]:
    """Return what the kernel tells of the queue, under PHP's names. A time that has not come is 0."""
    info = MessageQueue.stat(queue)
    return {
        "msg_perm.uid": info.uid,
        "msg_perm.gid": info.gid,
        "msg_perm.mode": info.permissions,
        "msg_stime": info.sent_at or 0,
        "msg_rtime": info.received_at or 0,
        "msg_ctime": info.changed_at or 0,
        "msg_qnum": info.messages,
        "msg_qbytes": info.max_bytes,
        "msg_lspid": info.last_sender_pid,
        "msg_lrpid": info.last_receiver_pid,
    }


def msg_set_queue(queue: MessageQueue, data: Mapping[str, SupportsIndex]) -> Literal[True]:
    """Change the queue: `msg_perm.uid`, `msg_perm.gid`, `msg_perm.mode` and `msg_qbytes`, as far as `data` has them.

    Other names of `msg_stat_queue` may be in `data` and count for nothing, as in PHP.
    """
    MessageQueue.set(queue, **{_CHANGEABLE[name]: value for name, value in data.items() if name in _CHANGEABLE})
    return True


def msg_remove_queue(queue: MessageQueue) -> Literal[True]:
    """Remove the queue and its messages."""
    MessageQueue.remove(queue)
    return True
