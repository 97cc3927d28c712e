"""What `MessageQueue.stat` returns."""

from __future__ import annotations

TYPE_CHECKING = False  # not from `typing`, whose import costs more than this package
if TYPE_CHECKING:
    from typing import NoReturn

_FIELDS = (
    "key",
    "id",
    "messages",
    "bytes",
    "max_bytes",
    "permissions",
    "uid",
    "gid",
    "last_sender_pid",
    "last_receiver_pid",
    "sent_at",
    "received_at",
    "changed_at",
)


class MessageQueueInfo:
    """Facts about a message queue, at one moment. It can be pickled, and be a key of a dict.

    Times are seconds since 1970 as the kernel keeps them, without fractions.

    Attributes:
        key: the key by which the queue is opened, as a signed number of 32 bits.
        id: the number that the system gave the queue, `msqid` in `ipcs -q`.
        messages: how many wait.
        bytes: how many all of them have.
        max_bytes: how many may wait.
        permissions: the nine bits.
        uid: the number of the user to whom the queue belongs.
        gid: the number of its group.
        last_sender_pid: the process that sent last; 0 if none did.
        last_receiver_pid: the process that received last; 0 if none did.
        sent_at: when somebody sent last; None if nobody has.
        received_at: when somebody received last; None if nobody has.
        changed_at: when it was made, or its owner, its permissions or its limit were changed last.
    """

    __slots__ = _FIELDS

    key: int
    id: int
    messages: int
    bytes: int
    max_bytes: int
    permissions: int
    uid: int
    gid: int
    last_sender_pid: int
    last_receiver_pid: int
    sent_at: int | None
    received_at: int | None
    changed_at: int | None

    def __init__(self, *values: int | None) -> None:
        if len(values) != len(_FIELDS):
            raise TypeError(f"MessageQueueInfo takes {len(_FIELDS)} values, not {len(values)}: `stat` makes it")
        for name, value in zip(_FIELDS, values, strict=True):
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a MessageQueueInfo cannot be changed: {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a MessageQueueInfo cannot be changed: {name!r}")

    def _values(self) -> tuple[int | None, ...]:
        return tuple(getattr(self, name) for name in _FIELDS)

    def __eq__(self, other: object) -> bool:
        return self._values() == other._values() if isinstance(other, MessageQueueInfo) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._values())

    def __reduce__(self) -> tuple[type[MessageQueueInfo], tuple[int | None, ...]]:
        return MessageQueueInfo, self._values()

    def __repr__(self) -> str:
        shown = dict(zip(_FIELDS, self._values(), strict=True))
        shown |= {"key": f"0x{self.key & 0xFFFFFFFF:08x}", "permissions": f"0o{self.permissions:o}"}  # type: ignore[dict-item]
        return f"MessageQueueInfo({', '.join(f'{name}={value}' for name, value in shown.items())})"


MessageQueueInfo.__module__ = "shmvar.php"
