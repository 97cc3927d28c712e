"""Where the primary of a segment is: at a fixed address, or where a cluster has its slot."""

from __future__ import annotations

import binascii
from typing import Any

from shmvar._errors import Error, IncompatibleSegmentError
from shmvar._remote.connections import LOST, exceptions
from shmvar._remote.url import Address, place_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from shmvar._remote.url import Server

    _Ask = Callable[..., Any]
    """Asks a node, or a sentinel, on a connection of its own: the address, then the words of the request."""

SLOTS = 16384


def slot_of(prefix: bytes) -> int:
    """The slot of a segment, by the hash tag that all of its names have."""
    return binascii.crc_hqx(prefix[prefix.index(b"{") + 1 : prefix.index(b"}")], 0) % SLOTS


class Fixed:
    """The server that the URL names: of several, which are nodes of a cluster, one that answers."""

    def __init__(self, server: Server) -> None:
        self._addresses: list[Address] = [server.path] if server.path else list(server.hosts)

    def where(self, ask: _Ask) -> Address:
        if len(self._addresses) > 1:
            why: Exception | None = None
            for address in list(self._addresses):
                try:
                    ask(address)
                    break
                except LOST as error:
                    why = why or error
                    self._addresses.append(self._addresses.pop(0))
            else:
                assert why is not None
                raise why
        return self._addresses[0]

    def doubt(self, failed: Address | None) -> bool:
        """Notes that the primary may be elsewhere by now. Returns whether the next `where` may give another address."""
        return len(self._addresses) > 1


class Nodes:
    """What is known of a cluster. All links to one cluster share it."""

    def __init__(self, server: Server) -> None:
        self._seeds: list[Address] = [server.path] if server.path else list(server.hosts)
        # By slot, and all nodes that the last answer named.
        self._slots: dict[int, Address] = {}
        self._nodes: list[Address] = []

    def of(self, slot: int, doubted: bool, failed: Address | None, ask: _Ask) -> Address:
        """The address of the primary of a slot. `failed`: the one that is in doubt, which is asked last."""
        if doubted or slot not in self._slots:
            self.look(failed, ask)
        if slot not in self._slots:
            raise exceptions.ConnectionError(f"no node of the cluster serves slot {slot}")
        return self._slots[slot]

    def primaries(self, ask: _Ask) -> list[int]:
        """A slot of each primary."""
        self.look(None, ask)
        first: dict[Address, int] = {}
        for slot, address in list(self._slots.items()):
            first.setdefault(address, slot)
        return list(first.values())

    def moved(self, slot: int, address: Address) -> None:
        """A node has said where a slot is."""
        self._slots[slot] = address
        if address not in self._nodes:
            self._nodes.append(address)

    def look(self, failed: Address | None, ask: _Ask) -> None:
        """Asks one node after the other where the slots are."""
        why: Exception | None = None
        for node in self._all(failed):
            try:
                slots, nodes = _read_slots(ask(node, b"CLUSTER", b"SLOTS"), node)
            except (*LOST, exceptions.ResponseError, Error) as error:
                # A node that was left alone, or that is no member any more: another one may know.
                why = why or error
                continue
            if slots:
                self._slots, self._nodes = slots, nodes
                return
        raise why or exceptions.ConnectionError("no node says where the slots of the cluster are")

    def _all(self, failed: Address | None) -> list[Address]:
        found = [*self._nodes, *(seed for seed in self._seeds if seed not in self._nodes)]
        # Each call begins with another one, so that a node with an old view does not decide for ever.
        if self._nodes:
            self._nodes = [*self._nodes[1:], self._nodes[0]]
        return sorted(found, key=lambda node: node == failed)


class OfSlot:
    """The primary of one slot of a cluster."""

    def __init__(self, nodes: Nodes, slot: int) -> None:
        self._nodes, self.slot = nodes, slot
        self._doubted, self._failed = False, None  # type: tuple[bool, Address | None]

    def where(self, ask: _Ask) -> Address:
        found = self._nodes.of(self.slot, self._doubted, self._failed, ask)
        self._doubted = False
        return found

    def doubt(self, failed: Address | None) -> bool:
        self._doubted, self._failed = True, failed
        return True

    def moved(self, address: Address) -> None:
        self._nodes.moved(self.slot, address)
        self._doubted = False


def _read_slots(answer: Any, asked: Address) -> tuple[dict[int, Address], list[Address]]:
    """The answer of CLUSTER SLOTS: each slot's primary, and all nodes."""
    slots: dict[int, Address] = {}
    nodes: dict[Address, None] = {}
    try:
        if len(answer) > SLOTS:
            raise ValueError
        for first, last, primary, *replicas in answer:
            if not 0 <= first <= last < SLOTS:
                raise ValueError
            address = address_of(primary, asked)
            slots.update(dict.fromkeys(range(first, last + 1), address))
            nodes.update(dict.fromkeys([address, *(address_of(node, asked) for node in replicas[:100])]))
    except (TypeError, ValueError, LookupError):
        raise IncompatibleSegmentError(f"{place_of(asked)}: its answer to CLUSTER SLOTS is none") from None
    return slots, list(nodes)


def address_of(node: Any, asked: Address) -> Address:
    """A host and a port as a server names them. A server that does not know its own name leaves it out."""
    host, port = node[0], int(node[1])
    if not 0 < port < 65536 or (host and len(host) > 255):
        raise ValueError
    return resolved(host.decode() if host else "", port, asked)


def resolved(host: str, port: int, asked: Address) -> Address:
    """An address that the server at `asked` has named: without a host, or with `?`, it is the same host."""
    if host in ("", "?"):
        host = "127.0.0.1" if isinstance(asked, str) else asked[0]
    return host, port
