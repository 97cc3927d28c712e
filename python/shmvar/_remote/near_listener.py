"""The thread of a near cache: one process of the host listens to the changes of the segment, for all of them.

docs/remote.md, "Near cache", has the protocol, and why it is right.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
import weakref

from shmvar._errors import Error
from shmvar._remote import threads
from shmvar._remote.link import generation, now, pack
from shmvar._remote.messages import Parser, Refusal
from shmvar._remote.near_memory import ALIVE, HEARD, TURN, Memory, NoMemory, memory_of
from shmvar._remote.refusals import refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from shmvar._remote.link import Link
    from shmvar._remote.messages import Message
    from shmvar._remote.numbered import Requests

FRESH = 0.5
"""Seconds for which entries may be used after the last moment of which every change is known."""
_BEAT, _SILENCE = 0.1, 3.0
"""Seconds from one PING to the next, and without its answer until the connection is taken as lost."""
_LOOK, _PAUSE = 1.0, 0.5
_PORTION = 64 << 10
_LIMIT = 1 << 53


class _Lost(Exception):
    """This connection, or this epoch, is over: another one begins."""


class _Gone(Exception):
    """There is no such segment any more."""


class Follower:
    """The thread of one process for one near cache. It waits until it is the listener."""

    def __init__(
        self, link: Link, requests: Requests, memory: Memory | NoMemory, use: Callable[[Memory | NoMemory], object]
    ) -> None:
        self.made_in = generation()
        self.stopped = False
        self.memory = memory
        self._link = link
        self._prefix, self._id, self._channel = requests.prefix, requests.id, requests.data + b"w"
        self._use = use
        self._owner = 0.0
        self._connection: Any = None
        _all.add(self)

    def start(self) -> None:
        # The system may have no more threads: then nothing is cached until there is one.
        with contextlib.suppress(RuntimeError):
            threads.start(self._run, "shmvar-near")

    def forget(self) -> None:
        """In a forked child: the connection is the parent's. It is closed, not shut down."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection._sock.close()

    def check(self) -> None:
        """Raises what the server refuses this user, unless somebody listens already."""
        if self.memory.words[ALIVE] < now():
            try:
                connection = self._link.connect(now() + self._link.attempt)
                try:
                    self._subscribe(connection)
                finally:
                    connection.disconnect()
            except Error:
                raise
            except Exception:
                # A connection that was lost: the thread will make others.
                return

    def _over(self) -> bool:
        return self.stopped or self.made_in != generation()

    def _run(self) -> None:
        while not self._over():
            memory = self.memory
            try:
                if isinstance(memory, NoMemory):
                    time.sleep(_LOOK)
                else:
                    turn = memory.segment.lock(TURN)
                    if turn.acquire(_LOOK):
                        try:
                            self._listen(memory)
                        finally:
                            turn.release()
            except _Gone:
                return
            except Exception:
                # A server that is away, a lock whose holder is stopped, a memory that is full: all of it may pass.
                if not self._over():
                    time.sleep(_PAUSE * random.random())
            with contextlib.suppress(Exception):
                self._look()

    def _look(self) -> None:
        """Opens another local segment if this one was destroyed, or cleared, or could not be had."""
        before = self.memory
        if not self._over() and not before.leads_here():
            another = memory_of(before.key, before.size)
            if isinstance(another, NoMemory) and isinstance(before, NoMemory):
                return
            self.memory = another
            before.close()
            self._use(another)
            # The last handle may have gone meanwhile, and with it what was there before.
            if self.stopped:
                another.close()

    def _listen(self, memory: Memory) -> None:
        """Listens through one connection, for one epoch."""
        forks = _forks
        self._connection = connection = self._link.connect(now() + self._link.attempt)
        try:
            if forks != _forks:
                raise _Lost("a child may have the connection, too")
            parser = self._subscribe(connection)
            self._owner = float(1 + random.getrandbits(50))
            # Behind the subscription: what was changed before is in every record that is read from now on.
            memory.listen(self._owner, float(self._seq(0)))
            self._follow(memory, connection._sock, parser, connection.moves)
        finally:
            if self.made_in == generation():
                self._connection = None
                connection.disconnect()

    def _subscribe(self, connection: Any) -> Parser:
        """Waits for the server's word. What has come after it in part is in the parser."""
        sock, parser = connection._sock, Parser()
        sock.settimeout(self._link.attempt)
        sock.sendall(pack(b"SSUBSCRIBE", self._channel))
        while True:
            data = sock.recv(_PORTION)
            if not data:
                raise _Lost("the server has closed the connection")
            for message in parser.feed(data):
                if isinstance(message, Refusal):
                    raise self._refused(str(message))
                # A message that came at once is older than the `seq` with which the epoch begins.
                if isinstance(message, list) and message[:2] == [b"ssubscribe", self._channel]:
                    return parser

    def _refused(self, text: str) -> Exception:
        link = self._link
        return refused(link.server, link.place, text) if text.startswith("NOPERM") else _Lost(text)

    def _seq(self, least: float) -> int:
        """The last version of the segment."""
        found, seq = self._link.call(b"HMGET", self._prefix, b"id", b"seq")
        if found != self._id:
            self.memory.void()
            raise _Gone
        if not seq.isdigit() or len(seq) > 16 or not least <= int(seq) < _LIMIT:
            raise _Lost("the versions went back")
        return int(seq)

    def _follow(self, memory: Memory, sock: Any, parser: Parser, moves: int) -> None:
        beat: tuple[float, int] | None = None
        due = 0.0
        looked = now()
        while not self._over() and self._link.moves == moves:
            time = now()
            if beat is None and time >= due:
                due = time + _BEAT
                # SYNC: `seq` before the PING, whose answer comes behind the messages of all changes up to it.
                beat = time, self._seq(memory.words[HEARD])
                if self._link.moves != moves:
                    # It is of another server than this connection.
                    return
                sock.sendall(pack(b"PING"))
            if beat is not None and time > beat[0] + _SILENCE:
                raise _Lost("there was no answer to a PING")
            if time > looked + _LOOK:
                looked = time
                if not memory.leads_here():
                    return
            sock.settimeout(_BEAT if beat else max(due - now(), 0.001))
            try:
                data = sock.recv(_PORTION)
            except TimeoutError:
                continue
            if not data:
                raise _Lost("the server has closed the connection")
            news = _News(memory)
            answered = False
            for message in parser.feed(data):
                answered |= news.take(message)
            if news.any() and not memory.heard(self._owner, news.floors.items(), news.version, news.everything):
                raise _Lost("another one listens")
            if answered and beat is not None and self._link.moves == moves:
                if not memory.living(self._owner, beat[1], beat[0] + FRESH):
                    raise _Lost("another one listens")
                beat = None


class _News:
    """What some messages say."""

    def __init__(self, memory: Memory) -> None:
        self.floors: dict[int, float] = {}
        self.version = 0.0
        self.everything = False
        self._memory = memory

    def any(self) -> bool:
        return bool(self.version or self.floors or self.everything)

    def take(self, message: Message) -> bool:
        """Takes note of a message. True: it is the answer to the PING."""
        if message == [b"pong", b""] or message == b"PONG":
            return True
        if not isinstance(message, list) or len(message) != 3 or message[0] != b"smessage":
            raise _Lost("the subscription has ended")
        text = message[2]
        if text == b"gone":
            self._memory.void()
            raise _Gone
        try:
            self._change(text)  # type: ignore[arg-type]
        except (ValueError, AttributeError):
            self.everything = True
        return False

    def _change(self, text: bytes) -> None:
        head, _, field = text.partition(b" ")
        deadline = head[:1] == b"~"
        digits = head.lstrip(b"~-=").partition(b"@")[0]
        if not digits.isdigit() or len(digits) > 16 or int(digits) >= _LIMIT:
            raise ValueError("no version")
        version = float(digits)
        if head[:1] == b"=":
            # A version that no variable has: a lock was taken.
            pass
        elif field == b"*":
            self.everything = True
        else:
            floor = self._memory.floor_of_field(field)
            # Another deadline leaves the version. All that was read before is as of what was heard before, at most.
            least = max(self._memory.words[HEARD], self.version) + 1 if deadline else version
            self.floors[floor] = max(self.floors.get(floor, 0.0), least)
        if not deadline:
            self.version = max(self.version, version)


_all: weakref.WeakSet[Follower] = weakref.WeakSet()
_forks = 0


def _forking() -> None:
    global _forks
    _forks += 1


def _forked() -> None:
    for follower in list(_all):
        follower.forget()


os.register_at_fork(before=_forking, after_in_child=_forked)
