"""The connections of this process to one primary, wherever that is now."""

from __future__ import annotations

import functools
import math
import os
import weakref
from typing import Any

from shmvar._remote import connections, locate
from shmvar._remote.connections import exceptions, generation, now
from shmvar._remote.sentinels import Sentinels
from shmvar._remote.url import place_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from shmvar._remote.url import Address, Server

_LONGEST_QUESTION = 1.0
"""Seconds for which one node or sentinel is asked where the primary is, before the next one."""
_LONGEST_IDLE = 30.0
"""Seconds after which a connection is closed that no call needed, while others did."""
_LONGEST_LOOK = 60.0
"""Seconds for which a thread asks sentinels for whom no call waits."""


class Pool:
    """Connections to the primary of some segments. Any thread may use them.

    Outside of a cluster there is one pool for each server; in a cluster one for each slot in use, and one that belongs
    to no slot, by which a server is asked what it is.
    """

    # For a destructor that runs because an interrupt came before `__init__` had made the lists.
    _idle: list[Any] = []  # noqa: RUF012
    _aside: dict[Address, list[Any]] = {}  # noqa: RUF012

    def __init__(self, server: Server, base: Pool | None = None, slot: int = 0) -> None:
        self.server = server
        # The one that belongs to no slot.
        self._base = base
        self.nodes: locate.Nodes = locate.Nodes(server) if base is None else base.nodes
        """What is known of the cluster, if there is one."""
        self._locator: locate.Fixed | Sentinels | locate.OfSlot
        if base is not None:
            self._locator = locate.OfSlot(self.nodes, slot)
        else:
            self._locator = Sentinels(server) if server.sentinel else locate.Fixed(server)
        # Connections that nobody uses and on which no answer is outstanding. `append` and `pop` are atomic.
        self._idle = []
        # Others of that kind by their address: to sentinels, and to nodes that answer for a slot on its way.
        self._aside = {}
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

    @property
    def of_slot(self) -> bool:
        """Whether it is that of one slot of a cluster, which may be on its way to another node."""
        return self._base is not None

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
        for address in list(self._aside):
            while (connection := self._take_aside(address)) is not None:
                connection.disconnect()

    def forget(self) -> None:
        """In a forked child: the connections are the parent's."""
        self._idle, self._aside = [], {}
        if isinstance(self._locator, Sentinels):
            self._locator.forget()
        busy, self._busy = self._busy, set()
        connections.cut_off(list(busy))

    def _take(self) -> Any:
        return _taken(self._idle)

    def _give(self, connection: Any) -> None:
        """Takes a connection back that nobody uses any more."""
        idle = self._idle
        idle.append(connection)
        # The last one is taken first, so the first one was not needed for the longest time: many threads that made
        # calls at once may have left it. Two of them go with each call, lest one has to close hundreds.
        for _ in range(2):
            try:
                if len(idle) < 2 or now() < idle[0].until + _LONGEST_IDLE:
                    return
                oldest = idle.pop(0)
            except IndexError:
                return
            if oldest.made_in == generation():
                oldest.disconnect()

    def _take_aside(self, address: Address) -> Any:
        return _taken(self._aside.get(address, []))

    def _put_aside(self, connection: Any) -> None:
        self._aside.setdefault(connection.address, []).append(connection)

    def connect(self, until: float) -> Any:
        """A new connection to where the primary of the segment is now, asked anew. Whoever uses it closes it."""
        self._locator.doubt(self._address)
        return self._connected(until)

    def _connected(self, until: float) -> Any:
        address = self._locator.where(functools.partial(self._ask, until))
        self._found(address)
        moves = self.moves
        connection = self._opened(address, until)
        if self.server.sentinel:
            self._meet(connection)
        connection.moves = moves
        return connection

    def _meet(self, connection: Any) -> None:
        """Raises for a server that is none of a primary, though sentinels name it: one that knows too little does."""
        self._busy.add(connection)
        try:
            # Not ROLE, for which users need a right.
            facts = connections.asked(connection, (b"HELLO",))
            role = facts[facts.index(b"role") + 1] if isinstance(facts, list) and b"role" in facts else None
            if role != b"master":
                place = place_of(connection.address)
                raise exceptions.ConnectionError(f"{place} is no primary, though the sentinels say so")
        except BaseException:
            connection.disconnect()
            raise
        finally:
            self._busy.discard(connection)

    def look(self, wait: bool = True) -> None:
        """Has the sentinels asked whether the primary is elsewhere by now, if that was not done just now.

        `wait`: for a moment, for the answer.
        """
        locator = self._locator
        if isinstance(locator, Sentinels) and self._address is not None:
            locator.look(functools.partial(self._ask, now() + _LONGEST_LOOK), self._found, wait)

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
        while True:
            kept = connection = self._take_aside(address) if sentinel else None
            try:
                if connection is None:
                    connection = connections.opened(self.server, address, wait, sentinel)
                self._reached = True
                self._busy.add(connection)
                answer = connections.asked(connection, words) if words else None
            except BaseException as error:
                self._busy.discard(connection)
                if connection is not None:
                    connection.disconnect()
                if isinstance(error, exceptions.ConnectionError if kept is not None else connections.Forked):
                    # Closed since it was used; or of no use, because this process was forked while it connected.
                    continue
                raise
            self._busy.discard(connection)
            if sentinel:
                connection.until = math.inf
                self._put_aside(connection)
            else:
                connection.disconnect()
            return answer


def _taken(connections: list[Any]) -> Any:
    while True:
        try:
            connection = connections.pop()
        except IndexError:
            return None
        # A call that was interrupted by a fork may have put the parent's there.
        if connection.made_in == generation():
            return connection


_all: weakref.WeakSet[Pool] = weakref.WeakSet()


def _forked() -> None:
    for pool in list(_all):
        pool.forget()


os.register_at_fork(after_in_child=_forked)
