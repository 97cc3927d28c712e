"""The link to a server: what becomes of a request until it has its answer."""

from __future__ import annotations

import functools
import math
import random
import time
import weakref
from typing import Any

from shmvar._errors import Error, IncompatibleSegmentError, SegmentAccessError, SegmentUnavailableError
from shmvar._remote import acks, connections, locate, refusals
from shmvar._remote.callers import callers_own
from shmvar._remote.connections import LOST, SLOWEST, Argument, exceptions, generation, now, pack, pack_script
from shmvar._remote.pool import Pool
from shmvar._remote.refusals import OutOfMemory, Passing, UnknownScript
from shmvar._remote.waited import Waited, unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from shmvar._remote.scripts import Script
    from shmvar._remote.url import Address, Server

__all__ = [
    "SLOWEST",
    "Argument",
    "Link",
    "OutOfMemory",
    "Waited",
    "generation",
    "link_to",
    "links_to_all",
    "now",
    "pack",
]

_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 0.5
_LARGE = 64 << 10
"""Bytes of a request that gets more time."""
_ASKING = pack(b"ASKING")
_HOPS = 5
"""Redirections that one request follows without a pause."""


class Link(Pool):
    """Requests to the primary of some segments. Any thread may use it."""

    def __init__(self, server: Server, base: Link | None = None, slot: int = 0) -> None:
        super().__init__(server, base, slot)
        self.in_cluster: bool | None = False if server.sentinel else None
        """Whether the server is part of a cluster. None: it was not asked yet."""
        self.checked = False
        """Whether the server's version and settings were looked at."""
        self.ahead = 0
        """Bytes of chunks that were sent since a replica was waited for."""

    def call(self, *arguments: Argument) -> Any:
        """The answer to a request that changes nothing, or that may be carried out twice."""
        return self.run([pack(*arguments)], self.waited())[0]

    def read(self, requests: Iterable[Sequence[Argument]]) -> list[Any]:
        """The answers to several requests that change nothing, which are sent together."""
        return self.run([pack(*request) for request in requests], self.waited())

    def waited(self, changes: str = "", end: float = math.inf, acked: bool = True) -> Waited:
        """The patience of a request that begins now.

        `changes`: what it changes, for the error; `end`: of the call; `acked`: whether a change waits for the replicas
        and the file that the URL asks for.
        """
        return Waited(changes, min(now() + self.server.timeout, end), acked)

    def script(
        self,
        script: Script,
        keys: Sequence[bytes],
        arguments: Sequence[Argument],
        waited: Waited,
        readonly: bool = False,
    ) -> Any:
        """What a script returns. It may be run twice."""
        count = len(keys)
        only = b"_RO" if readonly and script.reads else b""
        waited.whole = count > 1 and not script.reads
        known = pack_script(b"EVALSHA" + only, script.sha, keys, arguments)
        try:
            return self.run([known], waited)[0]
        except UnknownScript:
            return self.run([pack(b"EVAL" + only, script.text, count, *keys, *arguments)], waited)[0]

    def run(self, requests: Sequence[Any], waited: Waited, answers_to: int | None = None) -> list[Any]:
        """Sends requests together, again and again until each has its answer.

        `answers_to`: how many requests these bytes are, where that is not their count.

        Raises:
            SegmentUnavailableError: there was no answer in time; `maybe_applied` if one may have been carried out.
            OutOfMemory, SegmentAccessError, IncompatibleSegmentError: the server refuses.
        """
        until = waited.until
        pause = _FIRST_PAUSE
        count = answers_to or len(requests)
        size = sum(map(len, requests))
        if size > _LARGE:
            until += size / SLOWEST
        durable = self._patience and waited.acked
        ask: Address | None = None
        hops = 0
        if self.server.sentinel:
            self.look()
        while True:
            if waited.changes and waited.generation != generation():
                raise self.parents(waited.changes)
            sent, extra, skipped = requests, 0, 0
            if ask is not None:
                sent, skipped = _asking(sent, answers_to)
            if durable:
                tail = acks.tail(self.server, min(self._patience, until - now()))
                sent, extra = [*sent, *tail] if size > _LARGE else [b"".join((*sent, *tail))], len(tail)
            waited.sent = False
            try:
                answers = self._exchange(sent, skipped + count + extra, size, until, ask, waited)
            except Error:
                # Of the sentinels: some of our errors are an `OSError`, too.
                raise
            except LOST as error:
                own = callers_own(error)
                if own is not None:
                    raise own from None
                passing, ask = self._judged(error, waited), None
                if waited.sent and not isinstance(error, exceptions.BusyLoadingError):
                    waited.unsure = True
                # The other connections lead to the same server, and would fail one after the other.
                self._locator.doubt(self._address)
                self.close()
            except exceptions.RedisError as error:
                # A refusal while it connected (`SELECT`, rights), or something that is no answer.
                passing, ask = self._judged(error, waited), None
            else:
                if skipped:
                    answers, ask = answers[-count - extra :], None
                refusal = next((answer for answer in answers if isinstance(answer, Exception)), None)
                if refusal is None:
                    if not extra:
                        return answers
                    short = acks.short(self.server, answers[count:])
                    if not short or (isinstance(answers[0], bytes) and answers[0].startswith(waited.nothing)):
                        return answers[:count]
                    waited.unsure, waited.short = True, short
                    passing = Passing(short, elsewhere=True)
                else:
                    if extra and refusal in answers[count:]:
                        waited.unsure = True
                    passing = self._judged(refusal, waited)
                    if passing.moved or (passing.ask and not waited.whole):
                        ask = self._redirected(passing)
                        hops += 1
                        if hops <= _HOPS:
                            continue
                if passing.elsewhere and self._locator.doubt(self._address):
                    self.close()
            left = until - now()
            if left <= 0 or not self._reached:
                raise unavailable(self.server, self.place, self._reached, passing.why, waited)
            time.sleep(min(pause * random.uniform(0.5, 1.0), left))
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _exchange(
        self, sent: Sequence[Any], count: int, size: int, until: float, ask: Address | None, waited: Waited
    ) -> list[Any]:
        """Sends requests on one connection, to the primary or to `ask`, and reads their answers."""
        connection = self._take() if ask is None else self._take_aside(ask)
        try:
            if connection is None:
                connection = self._connected(until) if ask is None else self._opened(ask, until)
            self._busy.add(connection)
            if connection.made_in != generation():
                # A fork before the line above; after it, `forget` would have met the connection.
                raise exceptions.ConnectionError("this process was forked")
            if size > _LARGE:
                # Much of it lies in the system's buffers yet when the wait for the answer begins.
                connection._sock.settimeout(self.attempt + self._patience + size / SLOWEST)
            connection.until = until + self._patience
            waited.sent = True
            connections.send(connection, sent)
            answers = self._answers(connection, count)
            if size > _LARGE:
                connection._sock.settimeout(self.attempt + self._patience)
        except BaseException:
            # Ctrl-C, too: an answer may be outstanding on the connection.
            self._busy.discard(connection)
            if connection is not None:
                connection.disconnect()
            raise
        self._busy.discard(connection)
        if ask is not None:
            self._put_aside(connection)
        elif connection.moves == self.moves:
            self._give(connection)
        else:
            # The primary was found elsewhere meanwhile.
            connection.disconnect()
        return answers

    def parents(self, changes: str) -> SegmentUnavailableError:
        """The error of a change that goes on in a forked child: it is the parent's, which will carry it out."""
        text = f"{self.place}: this process was forked during {changes}, which is its parent's; it may have been"
        return SegmentUnavailableError(f"{text} applied, or may yet be", True)

    def _answers(self, connection: Any, count: int) -> list[Any]:
        return connections.answers(connection, count)

    def _redirected(self, passing: Passing) -> Address | None:
        """Follows a node's word to another one. Returns where to ask once; None: the slot is there from now on."""
        to = passing.moved or passing.ask or ("", 0)
        address = locate.resolved(*to, self._address or "")
        if not isinstance(self._locator, locate.OfSlot):
            raise IncompatibleSegmentError(
                f"{self.place} is part of a cluster, and does not tell this user where its slots are. Remedy: the "
                "right +cluster|slots"
            )
        if passing.ask:
            return address
        self._locator.moved(address)
        self.close()
        return None

    def _sorted_out(self, error: BaseException) -> str:
        return refusals.lost(self.server, self.place, error)

    def _refused(self, text: str) -> SegmentAccessError:
        return refusals.refused(self.server, self.place, text)

    def _judged(self, error: Exception, waited: Waited) -> Passing:
        """Why there was no answer, if there may be one in a moment. Raises the error that no repetition will mend."""
        try:
            if isinstance(error, LOST):
                return Passing(self._sorted_out(error))
            return refusals.refusal(self.server, self.place, error)
        except Error as final:
            if not (waited.unsure and waited.changes):
                raise
            again = type(final)(f"{final}; {waited.changes} may have been applied: an earlier copy had no answer")
            # The attribute of `SegmentUnavailableError`.
            again.maybe_applied = True  # type: ignore[attr-defined]
            raise again from None

    def part_of_cluster(self) -> bool:
        """Asks the server whether it is part of a cluster, if that is not known yet."""
        if self.in_cluster is None:
            try:
                self.call(b"CLUSTER", b"SLOTS")
            except (IncompatibleSegmentError, SegmentAccessError) as error:
                # Any other refusal comes again with the next request.
                if "cluster support disabled" in str(error):
                    self.found_in_cluster(False)
                return False
            self.found_in_cluster(True)
        return bool(self.in_cluster)

    def found_in_cluster(self, found: bool) -> None:
        """Notes whether the server is part of a cluster. Raises for a URL that does not go with that."""
        if found and self.server.db:
            raise refusals.in_cluster(self.server, self.place)
        if not found and len(self.server.hosts) > 1 and not self.server.sentinel:
            raise IncompatibleSegmentError(
                f"{self.place} is part of no cluster, and the URL has several hosts. Remedies: one host; the option "
                "sentinel=NAME, if they are sentinels"
            )
        self.in_cluster = found


def _asking(requests: Sequence[Any], answers_to: int | None) -> tuple[list[Any], int]:
    """Requests to a node that answers for a slot on its way, and how many answers they have more."""
    if answers_to:
        return [_ASKING, *requests], 1
    return [part for request in requests for part in (_ASKING, request)], len(requests)


_shared: weakref.WeakValueDictionary[tuple[Server, int | None], Link] = weakref.WeakValueDictionary()


def link_to(server: Server, prefix: bytes | None = None) -> Link:
    """The link that all handles of this process on segments of this server share; in a cluster those of one slot.

    `prefix`: P of the segment. Without it, the link is for what has no key.
    """
    base = _link(server, None, None)
    if prefix is None or not base.part_of_cluster():
        return base
    return _link(server, base, locate.slot_of(prefix))


def links_to_all(server: Server) -> list[Link]:
    """A link to each primary."""
    base = link_to(server)
    if not base.part_of_cluster():
        return [base]
    slots = base.nodes.primaries(functools.partial(base._ask, now() + server.timeout))
    return [_link(server, base, slot) for slot in slots]


def _link(server: Server, base: Link | None, slot: int | None) -> Link:
    found = _shared.get((server, slot))
    return found if found is not None else _shared.setdefault((server, slot), Link(server, base, slot or 0))
