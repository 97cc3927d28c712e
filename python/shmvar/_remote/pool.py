"""The connections of this process to one primary, wherever that is now."""

from __future__ import annotations

import functools
import math
import os
import weakref
from typing import Any

from shmvar._remote import connections, locate
from shmvar._remote.connections import generation, now
from shmvar._remote.url import place_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from shmvar._remote.url import Address, Server

_LONGEST_QUESTION = 1.0
"""Seconds for which one node or sentinel is asked where the primary is, before the next one."""


class Pool:
    """Connections to the primary of some segments. Any thread may use them.

    Outside of a cluster there is one pool for each server; in a cluster one for each slot in use, and one that belongs
    to no slot, by which a server is asked what it is.
    """

    def __init__(self, server: Server, base: Pool | None = None, slot: int = 0) -> None:
        self.server = server
        # The one that belongs to no slot.
        self._base = base
        self.nodes: locate.Nodes = locate.Nodes(server) if base is None else base.nodes
        """What is known of the cluster, if there is one."""
        self._locator: locate.Fixed | locate.Sentinels | locate.OfSlot
        if base is not None:
            self._locator = locate.OfSlot(self.nodes, slot)
        else:
            self._locator = locate.Sentinels(server) if server.sentinel else locate.Fixed(server)
        # Connections that nobody uses and on which no answer is outstanding. `append` and `pop` are atomic.
        self._idle: list[Any] = []
        # Others of that kind, to nodes that answer for a slot on its way.
        self._aside: list[Any] = []
        # Those that a call uses. `add` and `discard` are atomic.
        self._busy: set[Any] = set()
        # Whether a connection has ever been made: an address that never answered is not waited for.
        self._reached = base is not None
        self._address: Address | None = None
        self.moves = 0
        """How often the primary was found elsewhere than before. Connections from before lead to another server."""
        self.attempt = max(min(server.timeout / 5, 5.0), 0.05)
        """For how many seconds an answer is waited for before the request is repeated on another connection."""
        # For how many seconds the replicas, or the file, are waited for before the request is repeated.
        self._patience = min(server.timeout / 2, 2.0) if server.acks or server.fsync else 0.0
        _all.add(self)

    def __del__(self) -> None:
        self.close()

    @property
    def place(self) -> str:
        """The server in an error."""
        return self.server.place if self._address is None else place_of(self._address)

    def close(self) -> None:
        """Closes the connections that nobody uses."""
        while (connection := self._take()) is not None:
            connection.disconnect()
        while self._aside:
            self._aside.pop().disconnect()

    def forget(self) -> None:
        """In a forked child: the connections are the parent's."""
        self._idle, self._aside = [], []
        busy, self._busy = self._busy, set()
        connections.cut_off(list(busy))

    def _take(self) -> Any:
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            # A call that was interrupted by a fork may have put the parent's there.
            if connection.made_in == generation():
                return connection

    def _take_aside(self, address: Address) -> Any:
        while True:
            try:
                connection = self._aside.pop()
            except IndexError:
                return None
            if connection.made_in == generation():
                if connection.address == address:
                    return connection
                connection.disconnect()

    def connect(self, until: float) -> Any:
        """A new connection to where the primary of the segment is now, asked anew. Whoever uses it closes it."""
        self._locator.doubt(self._address)
        return self._connected(until)

    def _connected(self, until: float) -> Any:
        address = self._locator.where(functools.partial(self._ask, until))
        self._found(address)
        moves = self.moves
        connection = self._opened(address, until)
        connection.moves = moves
        return connection

    def look(self) -> None:
        """Asks the sentinels whether the primary is elsewhere by now, if that was not done just now."""
        locator = self._locator
        if isinstance(locator, locate.Sentinels) and now() > locator.look_at and self._address is not None:
            found = locator.again(functools.partial(self._ask, now() + self.attempt))
            if found is not None:
                self._found(found)

    def _found(self, address: Address) -> None:
        if address != self._address:
            if self._address is not None:
                self.moves += 1
            self._address = address
            self.close()

    def _opened(self, address: Address, until: float) -> Any:
        # The last tries must not go on for longer than the caller waits.
        usual = self.attempt + self._patience
        wait = min(self.attempt, max(until - now(), 0.01))
        try:
            connection = connections.opened(self.server, address, wait)
        except connections.Forked:
            self._reached = True
            raise
        self._reached = True
        if wait < usual:
            connection._sock.settimeout(usual)
        return connection

    def _ask(self, until: float, address: Address, *words: bytes, sentinel: bool = False) -> Any:
        """What a node or a sentinel answers on a connection of its own. Without words it is only connected to."""
        wait = min(self.attempt, _LONGEST_QUESTION, max(until - now(), 0.01))
        connection = self._take_aside(address) if sentinel else None
        try:
            if connection is None:
                connection = connections.opened(self.server, address, wait, sentinel)
            self._reached = True
            self._busy.add(connection)
            answer = connections.asked(connection, words) if words else None
        except BaseException:
            self._busy.discard(connection)
            if connection is not None:
                connection.disconnect()
            raise
        self._busy.discard(connection)
        if sentinel:
            connection.until = math.inf
            self._aside.append(connection)
        else:
            connection.disconnect()
        return answer


_all: weakref.WeakSet[Pool] = weakref.WeakSet()


def _forked() -> None:
    for pool in list(_all):
        pool.forget()


os.register_at_fork(after_in_child=_forked)
