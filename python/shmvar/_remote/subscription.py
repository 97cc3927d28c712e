"""A subscription: what one wait, or one permanent user, has at the listener of its link."""

from __future__ import annotations

import collections
import contextlib
import math
import threading

from shmvar._remote.connections import generation, now

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from typing import Any, Protocol, Self

    from shmvar._errors import Error
    from shmvar._remote.link import Link

    class _Signal(Protocol):
        """What is told, by any thread, that there may be something new."""

        def set(self) -> None: ...

    class _Listener(Protocol):
        """What a subscription needs of `listener.Listener`."""

        made_in: int
        number: int
        run: bytes | None
        fault: Error | None
        ended: bool

        def join(self, subscription: Subscription) -> bool: ...
        def leave(self, subscription: Subscription) -> None: ...


LOOK = 5.0
"""Seconds after which whoever waits looks again by itself."""
_SLICE = 1.0
"""Seconds after which a thread that sleeps sees that it is in a forked child, whose listener is another one."""


class Channel:
    """A channel to which the thread has subscribed, or is about to."""

    __slots__ = ("fault", "gone", "idle_at", "last", "looked_at", "name", "stands", "users")

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.users: dict[Subscription, None] = {}
        """Changed by any thread, one item at a time."""
        self.stands = 0
        """The number of the connection on which the server has given its word."""
        self.last: tuple[int, bytes] = (0, b"")
        """The last message since then, and how many of all channels had come by then."""
        self.looked_at = -math.inf
        """When somebody last read what its messages tell of."""
        self.gone = False
        """The thread is about to give it up."""
        self.idle_at: float | None = None
        """Since when nobody uses it, as far as the thread has looked."""
        self.fault: Error | None = None
        """Why the server refuses it."""


class ThreadSignal:
    """Wakes one thread that sleeps."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def set(self) -> None:
        # It is set already, or another thread sets it at this moment.
        with contextlib.suppress(RuntimeError):
            self._lock.release()

    def wait(self, seconds: float) -> None:
        self._lock.acquire(timeout=min(max(seconds, 0), _SLICE))


class TaskSignal:
    """Wakes one task that sleeps."""

    __slots__ = ("_future", "_loop", "_set")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._future: asyncio.Future[None] | None = None
        self._set = False

    def set(self) -> None:
        if not self._set:
            self._set = True
            # The loop is closed, and its tasks with it.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._complete)

    def _complete(self) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    async def wait(self, seconds: float) -> None:
        # SYNC: the future first: `set` came before, and its mark is seen, or it completes the future.
        future = self._future = self._loop.create_future()
        if not self._set:
            timer = self._loop.call_later(min(max(seconds, 0), _SLICE), self._complete)
            try:
                await future
            finally:
                timer.cancel()
        self._set = False


class Subscription:
    """Some channels of one segment. It is renewed on each new connection, and in a forked child, until it is closed.

    One thread or task at a time may wait for it.
    """

    def __init__(
        self,
        link: Link,
        listener_of: Callable[[Link], _Listener],
        names: tuple[bytes, ...],
        on_message: Callable[[bytes | None, bytes], object] | None,
        wants_run: bool,
        signal: _Signal | None,
        limit: int,
    ) -> None:
        self.names = names
        self.wants_run = wants_run
        self.closed = False
        self.signal: Any = signal or ThreadSignal()
        self.channels: tuple[Channel, ...] | None = None
        """None: the listener has not seen it yet."""
        self._link = link
        self._listener_of = listener_of
        self._on_message = on_message
        self._limit = limit
        self._messages: collections.deque[tuple[bytes, bytes]] = collections.deque()
        self._missed = False
        self.lost_some = False
        """Whether the last call said to look again because messages may be missing, not because time has passed."""
        self._look_at = math.inf
        self.listener = listener_of(link)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    @property
    def standing(self) -> bool:
        """Whether the server's word for all channels is there, on the present connection."""
        # SYNC: the channels before the number, which the listener sets first when a connection is lost.
        listener, channels = self.listener, self.channels
        number = listener.number
        if channels is None or not number or listener.made_in != generation():
            return False
        if self.wants_run and listener.run is None:
            return False
        return all(channel.stands == number for channel in channels)

    @property
    def run(self) -> bytes | None:
        """The run id of the server on whose connection it stands. None while it does not stand."""
        run = self.listener.run
        return run if self.standing else None

    def stands(self, until: float) -> bool:
        """Sleeps until it stands. False: `until` came first, of the clock of `link.now`.

        Raises:
            SegmentAccessError, IncompatibleSegmentError: the server refuses it.
        """
        while not self.ready():
            left = until - now()
            if left <= 0:
                return False
            self.signal.wait(left)
        return True

    def ready(self) -> bool:
        """Whether it stands. Renews it where its listener has ended, and raises where the server refuses it."""
        if self.listener.ended or self.listener.made_in != generation():
            self.join()
        if self.standing:
            return True
        fault = self._fault()
        if fault is not None:
            # An error of its own for each thread, whose traceback it will have.
            raise type(fault)(*fault.args)
        return False

    def wait(self, until: float) -> list[tuple[bytes, bytes]] | None:
        """The messages since the last call; empty when `until` is here. None: look again, for some may be missing.

        After None the subscription may not stand.
        """
        while True:
            found = self.poll()
            if found is None or found:
                return found
            left = until - now()
            if left <= 0:
                return found
            self.signal.wait(min(left, self._look_at - now()))

    def poll(self) -> list[tuple[bytes, bytes]] | None:
        """The same, without sleeping: an empty list if there is nothing."""
        missed = self._missed or self.listener.made_in != generation()
        if missed or now() >= self._look_at:
            self.lost_some, self._missed = missed, False
            self._look_at = now() + LOOK
            if missed:
                self._messages.clear()
            return None
        found = []
        with contextlib.suppress(IndexError):
            while True:
                found.append(self._messages.popleft())
        return found

    def last(self) -> bytes:
        """The last message of the second channel on this connection, if none of the first one came after it.

        It came before this subscription was made, or will be returned by `wait`, too. Empty: there is none, or nobody
        has `looked` for 5 s: a server may have lost everything without a message.
        """
        channels = self.channels
        if channels is None or len(channels) < 2:
            return b""
        # SYNC: the second channel first. A message of the first one that comes after both looks is returned by `wait`.
        at, data = channels[1].last
        if now() - channels[1].looked_at > LOOK:
            return b""
        return data if at > channels[0].last[0] and self.standing else b""

    def looked(self) -> None:
        """The caller has read what the second channel tells of."""
        channels = self.channels
        if channels is not None and len(channels) > 1:
            channels[1].looked_at = now()

    def close(self) -> None:
        self.closed = True
        self.listener.leave(self)

    def join(self) -> None:
        """Has the listener take it on, which knows it from then on until `close`."""
        self._look_at = now() + LOOK
        while True:
            self.channels = None
            self.listener = self._listener_of(self._link)
            if self.listener.join(self):
                return

    def _fault(self) -> Error | None:
        found = self.listener.fault
        for channel in self.channels or ():
            found = found or channel.fault
        return found

    # --- called by the thread of the listener

    def deliver(self, channel: bytes, data: bytes) -> None:
        if self._on_message is not None:
            with contextlib.suppress(Exception):
                self._on_message(channel, data)
        elif len(self._messages) >= self._limit:
            self._missed = True
        else:
            self._messages.append((channel, data))
        self.signal.set()

    def look_again(self) -> None:
        """Messages may be missing."""
        self._missed = True
        if self._on_message is not None:
            with contextlib.suppress(Exception):
                self._on_message(None, b"")
        self.signal.set()
