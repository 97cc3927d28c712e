"""`RemoteQueue` and `RemoteTakenItem`: a queue of a segment on a server. docs/remote.md, "Queues", has the protocol."""

from __future__ import annotations

import time
from operator import index as _int_of

from shmvar._core import Queue, TakenItem, _pickle_fault
from shmvar._remote import queue_tasks
from shmvar._remote.arguments import float_of
from shmvar._remote.displayed import Displayed
from shmvar._remote.names import shown
from shmvar._remote.queue_base import ServerQueue
from shmvar._remote.queue_calls import Get, Put, Take
from shmvar._remote.queue_holds import Block
from shmvar._remote.queue_items import Item
from shmvar._remote.queue_waiting import wait
from shmvar._remote.records import Stored

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator
    from types import TracebackType
    from typing import Any, NoReturn

    from shmvar._remote.mapping import Mapping

_PORTION = 256
"""Items that are asked for at a time."""


class RemoteQueue(Displayed, ServerQueue):
    """A queue of a segment on a server: the interface of `shmvar.Queue`."""

    __slots__ = ()

    def put(self, value: Any, block: bool = True, timeout: float | None = None) -> None:
        seconds = seconds_of(timeout) if block else 0.0
        self._segment._writable()
        attempt = Put(self, Stored(value))
        if wait(self, True, seconds, attempt) is None:
            raise attempt.error(seconds)

    def put_nowait(self, value: Any) -> None:
        self.put(value, False)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        seconds = seconds_of(timeout) if block else 0.0
        self._segment._writable()
        found: tuple[Any] | None = wait(self, False, seconds, Get(self))
        if found is None:
            raise self._empty_error(seconds)
        return found[0]

    def get_nowait(self) -> Any:
        return self.get(False)

    def take(self, timeout: float | None = None) -> RemoteTakenItem:
        return RemoteTakenItem(self, seconds_of(timeout))

    def aput(self, value: Any, timeout: float | None = None) -> Coroutine[Any, Any, None]:
        seconds = seconds_of(timeout)
        return self._aput(value, seconds)

    def aget(self, timeout: float | None = None) -> Coroutine[Any, Any, Any]:
        seconds = seconds_of(timeout)
        return self._aget(seconds)

    def empty(self) -> bool:
        return self.qsize() == 0

    def full(self) -> bool:
        waiting = self.qsize()
        return 0 < self._maxsize <= waiting

    def clear(self) -> None:
        last, asks = b"", True
        while True:
            answer = self._change(True, b"clear", last, self._grace(), what="the clear of")
            if answer[:1] != b"+":
                return
            last, only_held = answer[1:].split()
            if int(only_held):
                # The holder of an item looks dead, and nobody may have looked before: `grace` later it is known.
                if not asks:
                    return
                asks = False
                time.sleep(self._segment._url.server.grace + 0.001)

    def __reduce__(self) -> tuple[Any, ...]:
        return again, (self._segment, self._name, self._maxsize)

    def __repr__(self) -> str:
        segment = self._segment
        return f"<shmvar.RemoteQueue {shown(self._name)} of segment {segment._url.key!r} at {segment._url.public}>"

    async def _aput(self, value: Any, seconds: float | None) -> None:
        self._segment._writable()
        # What is put is the value as it was at the call.
        attempt = Put(self, Stored(value))
        if await queue_tasks.wait(self, True, seconds, attempt) is None:
            raise attempt.error(seconds)

    async def _aget(self, seconds: float | None) -> Any:
        self._segment._writable()
        attempt = Get(self)
        found: tuple[Any] | None = await queue_tasks.wait(self, False, seconds, attempt, attempt.undo)
        if found is None:
            raise await queue_tasks.tried(lambda: self._empty_error(seconds))
        return found[0]

    # --- for the command line

    def _put_pickle(self, pickle: bytes) -> None:
        """Puts a value that is a pickle already, if there is room now."""
        if fault := _pickle_fault(pickle):
            raise ValueError(fault)
        self._segment._writable()
        attempt = Put(self, Stored.of_pickle(pickle), False)
        if attempt() is None:
            raise attempt.full or attempt.error(0.0)

    def _pickles(self) -> Iterator[bytes]:
        """The pickles of the items that are there, in their order, for a dump. What goes meanwhile is left out."""
        link, data = self._segment._open, self._segment._requests.data
        taken = link.call(b"HGETALL", b"%bt:%b" % (data, self._field))[1::2]
        items = sorted((Item(self._name, record) for record in taken), key=lambda item: item.ticket)
        last = at = 0
        while True:
            for item in items:
                last = item.ticket
                yield from self._pickled(item)
            portion = link.call(b"LRANGE", b"%bq:%b" % (data, self._field), at, at + _PORTION)
            items = [Item(self._name, record) for record in portion]
            if at and (not items or items[0].ticket > last):
                # The head of the list was taken meanwhile, so that all others have moved.
                at, items = max(at - _PORTION, 0), []
                continue
            items = [item for item in items if item.ticket > last]
            if len(portion) <= _PORTION:
                break
            at += _PORTION
        for item in items:
            yield from self._pickled(item)

    def _pickled(self, item: Item) -> Iterator[bytes]:
        found = self._body(item)
        if found is not None:
            yield item.pickle(*found)


class RemoteTakenItem(Block):
    """An item of a queue on a server that this process works on: the interface of `shmvar.TakenItem`."""

    __slots__ = ()

    def __enter__(self) -> Any:
        attempt = Take(self)
        try:
            found = wait(self._queue, False, self._timeout, attempt)
            if found is None:
                raise self._queue._empty_error(self._timeout)
            return found[0]
        except BaseException:
            attempt.interrupted()
            raise

    def __exit__(
        self, exception: type[BaseException] | None = None, *_rest: BaseException | TracebackType | None
    ) -> None:
        self._leave(exception is not None)

    def __aenter__(self) -> Coroutine[Any, Any, Any]:
        return self._enter()

    def __aexit__(
        self, exception: type[BaseException] | None = None, *_rest: BaseException | TracebackType | None
    ) -> Coroutine[Any, Any, None]:
        if exception is GeneratorExit:
            return self._closed()
        return queue_tasks.tried(lambda: self._leave(exception is not None))

    async def _closed(self) -> None:
        """Ends the block of a coroutine that is closed, or collected, before its end."""
        # It can wait for nothing. And it must give no thread anything to do: the collector may have come while this
        # thread did that, and held a lock that is the same for all executors.
        try:
            if self._hold is not None:
                self._hold.abandon()
        finally:
            self._hold = None

    def __reduce__(self) -> NoReturn:
        # A copy would have the same item, and give it back as soon as nobody refers to the copy.
        raise TypeError("cannot pickle 'shmvar.RemoteTakenItem' object")

    def __repr__(self) -> str:
        held = "taken" if self._hold is not None else "not taken"
        return f"<shmvar.RemoteTakenItem of queue {shown(self._queue.name)}, {held}>"

    async def _enter(self) -> Any:
        attempt = Take(self)
        try:
            found: tuple[Any] | None = await queue_tasks.wait(self._queue, False, self._timeout, attempt, attempt.undo)
            if found is None:
                raise await queue_tasks.tried(lambda: self._queue._empty_error(self._timeout))
            return found[0]
        except BaseException:
            attempt.interrupted()
            raise


def again(segment: Mapping, name: int | str, maxsize: int) -> RemoteQueue:
    """Unpickles a queue."""
    return RemoteQueue(segment, name, maxsize)


def seconds_of(timeout: Any) -> float | None:
    """A timeout. None: without end."""
    if timeout is None:
        return None
    seconds = float_of(timeout)
    if not seconds >= 0:
        raise ValueError(f"timeout must be None or at least 0 seconds, not {seconds}")
    return None if seconds > 1e9 else seconds


def maxsize_of(maxsize: Any) -> int:
    if not hasattr(type(maxsize), "__index__"):
        raise TypeError(f"maxsize must be an int, not {type(maxsize).__name__}")
    number = int(_int_of(maxsize))
    if not -(2**63) <= number < 2**63:
        raise OverflowError("maxsize is outside of -2**63 .. 2**63 - 1")
    return number


def _document() -> None:
    """Gives each call the text of the same call of `Queue` and `TakenItem`."""
    pairs = (ServerQueue, Queue), (RemoteQueue, Queue), (Block, TakenItem), (RemoteTakenItem, TakenItem)
    for cls, source in pairs:
        for name, call in vars(cls).items():
            if not name.startswith("_") and getattr(call, "__doc__", "") is None:
                text = getattr(getattr(source, name, None), "__doc__", None)
                if isinstance(call, property):
                    setattr(cls, name, property(call.fget, doc=text))
                else:
                    call.__doc__ = text


_document()
RemoteQueue.__module__ = RemoteTakenItem.__module__ = "shmvar"
