"""What `Segment.info` returns."""

from __future__ import annotations

TYPE_CHECKING = False  # not from `typing`, whose import costs more than this package
if TYPE_CHECKING:
    from typing import NoReturn

_FIELDS = (
    "key",
    "id",
    "size",
    "total",
    "used",
    "free",
    "count",
    "permissions",
    "uid",
    "gid",
    "attached",
    "creator_pid",
    "last_pid",
    "attached_at",
    "detached_at",
    "changed_at",
)


class SegmentInfo:
    """Facts about one of PHP's segments, at one moment. It can be pickled, and be a key of a dict.

    Sizes are bytes, times are seconds since 1970 as the kernel keeps them, without fractions.

    Attributes:
        key: the key by which the segment is attached, as a signed number of 32 bits.
        id: the number that the system gave the segment, `shmid` in `ipcs -m`.
        size: of the segment, as the kernel knows it.
        total: the size that was written into the segment when it was formatted. It may be less than `size`.
        used: what the variables take, with what PHP keeps around each of them, and what no variable can have: the
            header, for one. `used + free` is `total`.
        free: what a new variable may take at most: its serialized text, rounded up to a multiple of 8, and 32 bytes
            more.
        count: the number of variables.
        permissions: the nine bits.
        uid: the number of the user to whom the segment belongs.
        gid: the number of its group.
        attached: the number of attachments in all processes, this handle's among them.
        creator_pid: the process that made it.
        last_pid: the process that attached or detached last.
        attached_at: when somebody attached last; None if nobody has.
        detached_at: when somebody detached last; None if nobody has.
        changed_at: when it was made, or its owner or its permissions were changed last.
    """

    __slots__ = _FIELDS

    key: int
    id: int
    size: int
    total: int
    used: int
    free: int
    count: int
    permissions: int
    uid: int
    gid: int
    attached: int
    creator_pid: int
    last_pid: int
    attached_at: int | None
    detached_at: int | None
    changed_at: int

    def __init__(self, *values: int | None) -> None:
        if len(values) != len(_FIELDS):
            raise TypeError(f"SegmentInfo takes {len(_FIELDS)} values, not {len(values)}: `Segment.info` makes it")
        for name, value in zip(_FIELDS, values, strict=True):
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a SegmentInfo cannot be changed: {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a SegmentInfo cannot be changed: {name!r}")

    def _values(self) -> tuple[int | None, ...]:
        return tuple(getattr(self, name) for name in _FIELDS)

    def _asdict(self) -> dict[str, int | None]:
        return dict(zip(_FIELDS, self._values(), strict=True))

    def __eq__(self, other: object) -> bool:
        return self._values() == other._values() if isinstance(other, SegmentInfo) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._values())

    def __reduce__(self) -> tuple[type[SegmentInfo], tuple[int | None, ...]]:
        return SegmentInfo, self._values()

    def __repr__(self) -> str:
        shown = self._asdict() | {"key": f"0x{self.key & 0xFFFFFFFF:08x}", "permissions": f"0o{self.permissions:o}"}
        return f"SegmentInfo({', '.join(f'{name}={value}' for name, value in shown.items())})"


SegmentInfo.__module__ = "shmvar.php"
