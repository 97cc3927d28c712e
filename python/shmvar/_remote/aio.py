"""`RemoteSegment.aio`: the calls of a segment as coroutines. docs/remote.md, "asyncio"."""

from __future__ import annotations

import functools
import inspect
import itertools
from typing import Any

from shmvar._core import Segment
from shmvar._remote.workers import in_worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
    from typing import Concatenate, ParamSpec, SupportsIndex, TypeVar

    from shmvar._remote.handle import Handle

    _P = ParamSpec("_P")
    _R = TypeVar("_R")
    _Index = SupportsIndex | str

_PORTION = 256
"""Items of an iteration that are fetched at once."""


def _mirror(call: Callable[Concatenate[Segment, _P], _R]) -> Callable[Concatenate[Aio, _P], Coroutine[Any, Any, _R]]:
    """A coroutine function that makes the call of this name."""

    @functools.wraps(call)
    async def mirrored(self: Aio, /, *arguments: _P.args, **named: _P.kwargs) -> _R:
        return await self._make(call.__name__, *arguments, **named)  # type: ignore[no-any-return]

    mirrored.__qualname__ = f"Aio.{call.__name__}"
    return mirrored


class Aio:
    """The calls of a segment on a server as coroutines: `value = await segment.aio.get("i")`.

    They are what they are on the segment itself, and are made in threads beside the loop, which never waits for the
    server. What waits for others is on the segment: `await segment.changed(index)`, `async with segment.lock(name)`,
    `await segment.queue(name).aget()`.

    A task that is cancelled leaves its call to itself: a change may be carried out, or may have been. One that the
    task began under a lock is not made any more when the lock was let go.
    """

    __slots__ = ("_segment",)

    def __init__(self, segment: Handle) -> None:
        self._segment = segment

    put = _mirror(Segment.put)
    view = _mirror(Segment.view)
    touch = _mirror(Segment.touch)
    expire = _mirror(Segment.expire)
    has = _mirror(Segment.has)
    remove = _mirror(Segment.remove)
    pop = _mirror(Segment.pop)
    popitem = _mirror(Segment.popitem)
    setdefault = _mirror(Segment.setdefault)
    update = _mirror(Segment.update)
    copy = _mirror(Segment.copy)
    clear = _mirror(Segment.clear)
    put_many = _mirror(Segment.put_many)
    get_many = _mirror(Segment.get_many)
    add = _mirror(Segment.add)
    swap = _mirror(Segment.swap)
    version = _mirror(Segment.version)
    get_versioned = _mirror(Segment.get_versioned)
    compare_and_put = _mirror(Segment.compare_and_put)
    stat = _mirror(Segment.stat)
    info = _mirror(Segment.info)
    check = _mirror(Segment.check)
    resize = _mirror(Segment.resize)
    trim = _mirror(Segment.trim)
    dump = _mirror(Segment.dump)
    load = _mirror(Segment.load)
    destroy = _mirror(Segment.destroy)

    async def get(self, index: _Index, default: Any = None) -> Any:
        """Return the value under `index`, or `default` if there is none."""
        near = self._segment._near
        if near is not None:
            found = near.hit(self._segment, index)
            if found is not None:
                return found[0]
        return await self._make("get", index, default)

    async def modify(self, index: _Index, function: Callable[[Any], Any], *arguments: Any, **named: Any) -> Any:
        """Store `function(value)` under `index`, atomically, and return it.

        The function is an ordinary one. It runs in another thread, and more than once if others change the variable
        meanwhile. What must await something between reading and storing uses `get_versioned` and `compare_and_put`.
        """
        if inspect.iscoroutinefunction(function):
            raise TypeError("modify takes no coroutine function: use get_versioned and compare_and_put")
        return await self._make("modify", index, function, *arguments, **named)

    async def size(self) -> int:
        """Return the limit in bytes."""
        segment: Any = self._segment
        return await in_worker(segment._open, lambda: segment.size)

    async def len(self) -> int:
        """Return the number of variables."""
        return await self._make("__len__")  # type: ignore[no-any-return]

    def keys(self, prefix: str | None = None) -> AsyncIterator[Any]:
        """Iterate over the indexes; with `prefix`, over the texts that begin with it: `async for index in ...`."""
        return self._steps(lambda segment: segment.keys(prefix))

    def values(self) -> AsyncIterator[Any]:
        """Iterate over the values: `async for value in segment.aio.values()`."""
        return self._steps(lambda segment: segment.values())

    def items(self) -> AsyncIterator[tuple[int | str, Any]]:
        """Iterate over the pairs of index and value: `async for index, value in segment.aio.items()`."""
        return self._steps(lambda segment: segment.items())

    def __aiter__(self) -> AsyncIterator[int | str]:
        return self._steps(lambda segment: segment)

    async def _make(self, name: str, *arguments: Any, **named: Any) -> Any:
        segment = self._segment
        # It raises DetachedError here, and not in another thread.
        link = segment._open
        return await in_worker(link, functools.partial(getattr(segment, name), *arguments, **named))

    async def _steps(self, iterable: Callable[[Any], Iterable[Any]]) -> AsyncIterator[Any]:
        segment = self._segment
        iterator = await in_worker(segment._open, lambda: iter(iterable(segment)))
        while portion := await in_worker(segment._open, lambda: list(itertools.islice(iterator, _PORTION))):
            for item in portion:
                yield item
