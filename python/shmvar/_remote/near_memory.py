"""What a near cache keeps in a segment of this machine, for all processes of the host: docs/remote.md, "Near cache".

The entries are variables of the segment, under the indexes of those on the server. Which of them may be used is said by
an array in place: a few words, and floors.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import threading
import time
from array import array
from zlib import crc32

from shmvar._core import attach, segments
from shmvar._errors import Error, WaitTimeoutError
from shmvar._remote.link import now

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from shmvar._core import Lock
    from shmvar._remote.url import Url

CONTROL = "\0shmvar near"
"""The variable with the array. A variable of the server of this name is not cached."""
EPOCH, ALIVE, HEARD, LAST, OWNER, MADE, LEFT = range(7)
FLOORS = 8
LEAST = 1 << 20
"""Bytes of the smallest cache."""
_NAMED = "shmvar near "
_GUARD, TURN = "guard", "listener"
"""Names of the local locks: of the words, and of whoever listens."""
_ENDING = 0.25
"""Seconds that a process may need to end."""
_PATIENCE = 0.05
"""Seconds for which a reader waits for the guard: its holder may be stopped."""


def key_of(url: Url, data: bytes, trusted: bool) -> str:
    """The key of the local segment for a segment on a server.

    Whoever may see something else of it, or has another clock, gets another one.
    """
    server = url.server
    try:
        clock = os.stat("/proc/self/ns/time").st_ino
    except OSError:
        clock = 0
    facts = (server.place, server.db, server.user, data, os.geteuid(), clock, trusted)
    digest = hashlib.sha256(repr(facts).encode()).hexdigest()[:24]
    return f"{_NAMED}{str(url.key).encode()[:64].decode(errors='ignore')} {digest}"


class Memory:
    """The local segment of a near cache, as this process has it open."""

    __slots__ = ("_blocked", "_closed", "_guard", "_guard_at_once", "_mask", "key", "segment", "size", "words")

    def __init__(self, key: str, size: int) -> None:
        self.key = key
        self.size = size
        self._closed = False
        with _opening:
            # What lies there was pickled by processes of this user, and those of handles that trust nobody have pickled
            # plain data only.
            self.segment = segment = attach(key, size, evict="lru", trust=True)
            _opened[key] = _opened.get(key, 0) + 1
        try:
            floors = 1 << min(max((size >> 10).bit_length() - 1, 10), 16)
            try:
                control = segment.buffer(CONTROL)
            except KeyError:
                control = segment.buffer(CONTROL, 8 * (FLOORS + floors))
            self.words = control.cast("d")
            self._mask = len(self.words) - FLOORS - 1
            self._guard: Lock = segment.lock(_GUARD, timeout=_PATIENCE)
            self._guard_at_once: Lock = segment.lock(_GUARD, timeout=0)
            self._blocked = 0.0
            with contextlib.suppress(WaitTimeoutError), self._guard:
                if not self.words[MADE]:
                    # Epochs of an array that was here before are not met again.
                    self.words[LAST] = random.getrandbits(50)
                    self.words[MADE] = 1 + random.getrandbits(50)
        except BaseException:
            self.close()
            raise
        if segment.created:
            _sweep()

    def leads_here(self) -> bool:
        """Whether the key still stands for this array: somebody may have destroyed the segment, or cleared it."""
        try:
            there = attach(self.key, create=False, trust=True)
            return there.buffer(CONTROL).cast("d")[MADE] == self.words[MADE]
        except (Error, KeyError, ValueError, IndexError, TypeError, OSError):
            return False

    def close(self) -> None:
        """Lets go of it. The last one destroys it."""
        with _opening:
            if self._closed:
                return
            self._closed = True
            _opened[self.key] -= 1
            if not _opened[self.key]:
                del _opened[self.key]
                with contextlib.suppress(Error, AttributeError):
                    self._leave()

    def _leave(self) -> None:
        words = self.words
        with self.segment.lock(_GUARD, timeout=1.0):
            another, words[LEFT] = words[LEFT] > now() - 1.0, now()
        # One that has let go just now may be attached until it has ended, and has left it to this one.
        until = now() + _ENDING if another else 0.0
        while self.segment.info().attached > 1:
            if now() > until:
                return
            time.sleep(0.005)
        self.segment.destroy()

    def floor_of(self, index: int | str) -> int:
        """Where the floor of a variable stands."""
        return FLOORS + ((index if isinstance(index, int) else crc32(index.encode())) & self._mask)

    def floor_of_field(self, field: bytes) -> int:
        """The same, of a field on the server. Raises ValueError for what is none."""
        if field[:1] == b"s":
            return FLOORS + (crc32(field[1:]) & self._mask)
        if field[:1] != b"i" or len(field) > 21:
            raise ValueError("no field of a variable")
        return FLOORS + (int(field[1:]) & self._mask)

    def raise_floor(self, floor: int, version: float) -> None:
        """What is as of less than a version is void from now on, for everybody."""
        words = self.words
        # Floors never become lower, so this look needs no guard.
        if words[floor] >= version:
            return
        try:
            with self._guarded():
                if words[floor] < version:
                    words[floor] = version
        except WaitTimeoutError:
            self._is_blocked()

    def void(self) -> None:
        """Makes all entries void, also where a stopped process has the guard. The listener begins another epoch."""
        self.words[EPOCH] = 0.0

    def void_all(self) -> None:
        """The same at once with another epoch, if there is one."""
        try:
            with self._guarded():
                self._begin()
        except WaitTimeoutError:
            self._is_blocked()

    def _guarded(self) -> Lock:
        """The guard; for a while after it was waited for in vain, without waiting."""
        return self._guard if now() > self._blocked else self._guard_at_once

    def _is_blocked(self) -> None:
        self._blocked = now() + 1.0
        self.void()

    def _begin(self) -> None:
        words = self.words
        words[LAST] += 1
        # Where nobody listens there is no epoch.
        if words[EPOCH]:
            words[EPOCH] = words[LAST]

    # --- called by the listener, which may wait longer

    def listen(self, owner: float, seq: float) -> None:
        """Begins with a listener whose subscription stood before `seq` was read."""
        words = self.words
        with self._guard:
            words[EPOCH] = words[ALIVE] = 0.0
            # None becomes lower: a process that has found another primary already may have read what this one has not.
            words[FLOORS:] = array("d", [max(floor, seq) for floor in words[FLOORS:]])
            words[HEARD] = seq
            words[OWNER] = owner
            words[LAST] += 1
            words[EPOCH] = words[LAST]

    def heard(self, owner: float, floors: Iterable[tuple[int, float]], version: float, everything: bool) -> bool:
        """Takes note of messages: floors, the last version, and whether all entries are void. False: no longer ours."""
        words = self.words
        with self._guard:
            if words[OWNER] != owner:
                return False
            # SYNC: floors before what was heard: who reads that it was heard must find the floors.
            for floor, least in floors:
                if words[floor] < least:
                    words[floor] = least
            if words[HEARD] < version:
                words[HEARD] = version
            if everything:
                self._begin()
        return True

    def living(self, owner: float, version: float, until: float) -> bool:
        """Takes note of a PONG. False: no longer ours."""
        words = self.words
        with self._guard:
            if words[OWNER] != owner:
                return False
            if words[HEARD] < version:
                words[HEARD] = version
            if not words[EPOCH]:
                words[LAST] += 1
                words[EPOCH] = words[LAST]
            words[ALIVE] = until
        return True


class NoMemory:
    """Stands for a `Memory` that cannot be had: somebody else has something under its name, or there is no room.

    Nothing is cached, and everybody asks the server.
    """

    segment: Any = None

    def __init__(self, key: str, size: int, why: Exception) -> None:
        self.key, self.size, self.why = key, size, why
        self.words: Any = (0.0,) * FLOORS

    def leads_here(self) -> bool:
        return False

    def close(self) -> None:
        pass

    def floor_of(self, index: int | str) -> int:
        return 0

    def raise_floor(self, floor: int, version: float) -> None:
        pass

    def void(self) -> None:
        pass

    def void_all(self) -> None:
        pass


def memory_of(key: str, size: int) -> Memory | NoMemory:
    """Opens the local segment, or makes it."""
    try:
        return Memory(key, size)
    except (Error, OSError, ValueError) as error:
        return NoMemory(key, size, error)


def _sweep() -> None:
    """Removes caches that killed processes have left."""
    with contextlib.suppress(Error):
        for info in segments():
            if isinstance(info.key, str) and info.key.startswith(_NAMED) and info.uid == os.geteuid():
                with contextlib.suppress(Error):
                    if not info.attached:
                        attach(info.key, create=False).destroy()


_opened: dict[str, int] = {}
"""How many times this process has each one open."""
_opening = threading.RLock()


def _forked() -> None:
    global _opening
    _opening = threading.RLock()


os.register_at_fork(after_in_child=_forked)
