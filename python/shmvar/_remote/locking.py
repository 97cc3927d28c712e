"""The calls of a segment on a server for named locks."""

from __future__ import annotations

from shmvar._errors import CorruptSegmentError, Error
from shmvar._remote.handle import Handle
from shmvar._remote.link import now
from shmvar._remote.locks import RemoteLock
from shmvar._remote.names import field_of, index_of, plain_index
from shmvar._remote.taking import held_locks, seconds_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import SupportsIndex

_END = 1.0
"""Seconds for which `detach` tries to let go what was taken; then a thread goes on."""


class Locking(Handle):
    """The part of `RemoteSegment` that has to do with locks."""

    __slots__ = ()

    def lock(self, name: SupportsIndex | str = 0, *, timeout: float | None = None) -> RemoteLock:
        """Return a named lock, shared by every process on this segment.

        It is not held yet: see `RemoteLock`.

        Args:
            name: of the same types as an index. A lock and a variable of the same name have nothing
                to do with each other.
            timeout: the seconds that `with` and `acquire` wait. None: without end.
        """
        self._open  # noqa: B018 - it raises DetachedError
        plain = plain_index(name)
        return RemoteLock(self, plain, field_of(plain), seconds_of(timeout))

    def _locks(self) -> list[tuple[int | str, int]]:
        """The locks that are held, with the pids of their owners."""
        found = held_locks(self)
        pids = found[1::2]
        if not all(isinstance(pid, bytes) and pid.isdigit() and len(pid) <= 10 for pid in pids):
            raise CorruptSegmentError(f"{self._requests.name}: the owner of a lock has no pid")
        return [(index_of(field), min(int(pid), 2**32 - 1)) for field, pid in zip(found[::2], pids, strict=True)]

    def _let_go(self) -> None:
        """Lets go what was taken through this handle, which is being detached."""
        requests = self._requests
        end = now() + _END
        for hold in requests.taken():
            presence = hold.presence
            if not requests.held.drop(hold):
                continue
            try:
                presence.free(hold, end)
            except BaseException as error:
                presence.undone(hold)
                if not isinstance(error, Error):
                    raise
