"""The calls of `RemoteSegment` for queues, and `memoize`."""

from __future__ import annotations

from shmvar._remote.arguments import ttl_of
from shmvar._remote.handle import Handle
from shmvar._remote.names import plain_index
from shmvar._remote.queue import RemoteQueue, maxsize_of
from shmvar._remote.queue_base import read_queues
from shmvar._remote.queue_holds import drop_forgotten, give_back_all
from shmvar._remote.queue_items import queues_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, SupportsIndex


class Queues(Handle):
    """The part of `RemoteSegment` that hands values on."""

    __slots__ = ()

    def queue(self, name: SupportsIndex | str = 0, *, maxsize: int = 0) -> RemoteQueue:
        self._open  # noqa: B018 - it raises DetachedError
        return RemoteQueue(self, plain_index(name), maxsize_of(maxsize))  # type: ignore[arg-type]

    def memoize(self, function: Any = None, /, *, ttl: Any = None, key: Any = None, name: str | None = None) -> Any:
        from shmvar._memoize import memoize

        ttl_of(ttl)
        return memoize(self, function, ttl, key, name)  # type: ignore[arg-type]

    def _give_back_all(self) -> None:
        """What was taken through this handle waits again."""
        give_back_all(self._requests)

    def _queues(self) -> list[tuple[int | str, int, int, int]]:
        """Name, waiting, held and charge of the queues that have items."""
        drop_forgotten(self._requests)
        found = queues_of(read_queues(self))
        names = [name for name, _, held, _ in found if held]
        if names and not self._readonly:
            # Whose holder has died is found out by looking twice.
            for name in names:
                self.queue(name)._look()
            found = queues_of(read_queues(self))
        return found
