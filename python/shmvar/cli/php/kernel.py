"""All System V segments of this machine, as the kernel lists them, and which of them are PHP's."""

from __future__ import annotations

from typing import NamedTuple

import shmvar

LIST = "/proc/sysvipc/shm"
SEMAPHORES = "/proc/sysvipc/sem"
MAGIC = b"PHP_SM\0"


class Listed(NamedTuple):
    """A line of the kernel's list."""

    key: int
    id: int
    size: int
    perm: int
    uid: int
    attached: int


def listed() -> list[Listed]:
    """Those that have a key, by key. One that was removed has none, and nobody finds it any more."""
    found = [
        Listed(
            key=int(line["key"]),
            id=int(line["shmid"]),
            size=int(line["size"]),
            perm=int(line["perms"], 8) & 0o777,
            uid=int(line["uid"]),
            attached=int(line["nattch"]),
        )
        for line in _lines(LIST)
    ]
    return sorted(one for one in found if one.key)


def seen_of(key: int) -> dict[str, int | None]:
    """What the kernel says of those attached to the segment of a key, before this process is one of them.

    In the words of `php.SegmentInfo`. Nothing where the kernel lists no such segment.
    """
    for line in _lines(LIST):
        if int(line["key"]) == signed(key):
            times = {"attached_at": int(line["atime"]) or None, "detached_at": int(line["dtime"]) or None}
            return {"attached": int(line["nattch"]), "last_pid": int(line["lpid"])} | times
    return {}


def _lines(path: str) -> list[dict[str, str]]:
    """The lines of a list of the kernel's, each by the names of its columns. Everybody may read it."""
    with open(path, encoding="ascii") as file:
        names = file.readline().split()
        return [dict(zip(names, line.split(), strict=False)) for line in file]


def signed(key: int) -> int:
    """A key as the kernel's lists have it."""
    return (key + (1 << 31)) % (1 << 32) - (1 << 31)


def has_semaphore(key: int) -> bool:
    """Whether there is a set of semaphores with this key. Nothing is made or opened."""
    return any(int(line["key"]) == signed(key) for line in _lines(SEMAPHORES))


def is_php(key: int) -> bool | None:
    """Whether the segment of a key begins as PHP's do. None: this user may not look.

    It is attached for reading, for the moment of the look, and nothing is written. Raises `SegmentNotFoundError` if it
    has vanished meanwhile.
    """
    from shmvar import php

    try:
        with php.Shmop(key, "a") as opened:
            return opened.size >= len(MAGIC) and opened.read(0, len(MAGIC)) == MAGIC
    except shmvar.SegmentAccessError:
        return None


def keys_of_php() -> list[int]:
    """Those of all segments that are PHP's."""
    return [one.key for one in listed() if _surely_php(one.key)]


def _surely_php(key: int) -> bool:
    try:
        return is_php(key) is True
    except (shmvar.Error, OSError):
        return False
