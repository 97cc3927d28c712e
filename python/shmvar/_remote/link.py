"""The link to a server: its connections, and what becomes of a request when one of them fails.

This is the one file that knows the client library. Of it, only connections and exceptions are used: its own retry
repeats a request without the number that makes a repetition harmless.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
import time
import weakref
from inspect import signature
from typing import Any

try:
    from redis import connection as _library
    from redis import exceptions
    from redis.backoff import NoBackoff
    from redis.retry import Retry
except ModuleNotFoundError as _error:
    raise ModuleNotFoundError(
        f'a segment on a server needs {_error.name}, which is not installed: pip install "shmvar[valkey]"',
        name=_error.name,
    ) from None

from shmvar._errors import (
    CorruptSegmentError,
    Error,
    IncompatibleSegmentError,
    SegmentAccessError,
    SegmentUnavailableError,
)
from shmvar._remote.callers import callers_own

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from shmvar._remote.scripts import Script
    from shmvar._remote.url import Server

# Its types differ from one version to the next.
_CONNECTIONS: Any = _library
Argument = bytes | int

# What a server says that is on its way to another state: nothing was done, and the next try may succeed.
_PASSING = (
    exceptions.BusyLoadingError,
    exceptions.ReadOnlyError,
    exceptions.ClusterDownError,
    exceptions.MasterDownError,
    exceptions.TryAgainError,
)
_PASSING_TEXTS = ("BUSY ", "NOREPLICAS ", "MISCONF ", "UNBLOCKED ")
_NO_RIGHT = "The user executing the script can't"
"""What Redis 7.0 says of a right that is missing within a script."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 0.5
_LARGE, SLOWEST = 64 << 10, 256 << 10
"""Bytes of a request that gets more time, and bytes a second that the slowest network is believed to carry."""


def now() -> float:
    """Seconds of a clock that goes on while the machine is suspended, and that nobody sets."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def pack(*arguments: bytes | int) -> bytes:
    """A request as it is sent."""
    parts = [b"*%d\r\n" % len(arguments)]
    for argument in arguments:
        data = argument if isinstance(argument, bytes) else b"%d" % argument
        parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)


_generation = 0
"""How many forks lie between the first process and this one, as this one counts them."""
_forks = 0
"""Forks that this process has begun, and those before it."""


def generation() -> int:
    """Another number in each forked child than in its parent."""
    return _generation


class OutOfMemory(Exception):
    """The server's own memory is full: it has refused the request."""


class Link:
    """The connections of this process to one server. Any thread may use it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        # Connections that nobody uses and on which no answer is outstanding. `append` and `pop` are atomic.
        self._idle: list[Any] = []
        # Those that a call uses. `add` and `discard` are atomic.
        self._busy: set[Any] = set()
        # Whether a connection has ever been made: an address that never answered is not waited for.
        self._reached = False
        self.moves = 0
        """How often the primary was found elsewhere than before. Connections from before lead to another server."""
        self.checked = False
        """Whether the server's version and settings were looked at."""
        self.attempt = max(min(server.timeout / 5, 5.0), 0.05)
        """For how many seconds an answer is waited for before the request is repeated on another connection."""
        _links.add(self)

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections that nobody uses."""
        while (connection := self._take()) is not None:
            connection.disconnect()

    def forget(self) -> None:
        """In a forked child: the connections are the parent's.

        A call that was interrupted by the fork (by a signal handler that forks, or a greenlet) goes on in the child,
        too. It must neither send on the parent's connection nor take an answer from it.
        """
        self._idle = []
        busy, self._busy = self._busy, set()
        for connection in list(busy):
            with contextlib.suppress(Exception):
                number = connection._sock.fileno()
                nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
                try:
                    # The number stays taken: closed, it could be given to somebody else's file while the call has it.
                    os.dup2(nothing, number, inheritable=False)
                finally:
                    os.close(nothing)

    def call(self, *arguments: Argument) -> Any:
        """The answer to a request that changes nothing, or that may be carried out twice."""
        return self.run([pack(*arguments)], self.waited())[0]

    def read(self, requests: Iterable[Sequence[Argument]]) -> list[Any]:
        """The answers to several requests that change nothing, which are sent together."""
        return self.run([pack(*request) for request in requests], self.waited())

    def waited(self, changes: str = "", end: float = math.inf) -> Waited:
        """The patience of a request that begins now. `changes`: what it changes, for the error; `end`: of the call."""
        return Waited(changes, min(now() + self.server.timeout, end))

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
        known = pack(b"EVALSHA" + only, script.sha, count, *keys, *arguments)
        try:
            return self.run([known], waited)[0]
        except _UnknownScript:
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
        size = sum(map(len, requests))
        if size > _LARGE:
            until += size / SLOWEST
        while True:
            if waited.changes and waited.generation != _generation:
                raise self.parents(waited.changes)
            connection = self._take()
            try:
                if connection is None:
                    connection = self.connect(until)
                self._busy.add(connection)
                if connection.made_in != _generation:
                    # A fork before the line above; after it, `forget` would have met the connection.
                    raise exceptions.ConnectionError("this process was forked")
                if size > _LARGE:
                    # Much of it lies in the system's buffers yet when the wait for the answer begins.
                    connection._sock.settimeout(self.attempt + size / SLOWEST)
                connection.send_packed_command(requests, False)
                answers = self._answers(connection, answers_to or len(requests))
                if size > _LARGE:
                    connection._sock.settimeout(self.attempt)
            except _LOST as error:
                self._busy.discard(connection)
                own = callers_own(error)
                if own is not None:
                    if connection is not None:
                        connection.disconnect()
                    raise own from None
                why = self._judged(error, waited)
                if connection is not None:
                    connection.disconnect()
                    # The others lead to the same server, and would fail one after the other.
                    self.close()
                    if not isinstance(error, exceptions.BusyLoadingError):
                        waited.unsure = True
            except exceptions.RedisError as error:
                # A refusal while it connected (`SELECT`, rights), or something that is no answer.
                self._busy.discard(connection)
                if connection is not None:
                    connection.disconnect()
                why = self._judged(error, waited)
            except BaseException:
                # Ctrl-C, or an error of the library: an answer may be outstanding on the connection.
                self._busy.discard(connection)
                if connection is not None:
                    connection.disconnect()
                raise
            else:
                self._busy.discard(connection)
                self._idle.append(connection)
                refusal = next((answer for answer in answers if isinstance(answer, Exception)), None)
                if refusal is None:
                    return answers
                why = self._judged(refusal, waited)
            left = until - now()
            if left <= 0 or not self._reached:
                raise self._unavailable(why, waited)
            time.sleep(min(pause * random.uniform(0.5, 1.0), left))
            pause = min(pause * 2, _LONGEST_PAUSE)

    def parents(self, changes: str) -> SegmentUnavailableError:
        """The error of a change that goes on in a forked child: it is the parent's, which will carry it out."""
        text = f"{self.server.place}: this process was forked during {changes}, which is its parent's; it may have been"
        return SegmentUnavailableError(f"{text} applied, or may yet be", True)

    def _take(self) -> Any:
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            # A call that was interrupted by a fork may have put the parent's there.
            if connection.made_in == _generation:
                return connection

    def _answers(self, connection: Any, count: int) -> list[Any]:
        answers: list[Any] = []
        for _ in range(count):
            try:
                answers.append(connection.read_response(disable_decoding=True))
            except exceptions.ConnectionError:
                raise
            except exceptions.ResponseError as error:
                answers.append(error)
        return answers

    def connect(self, until: float) -> Any:
        """A new connection to where the primary of the segment is now. Whoever uses it closes it."""
        server = self.server
        # The last tries must not go on for longer than the caller waits.
        left = max(until - now(), 0.01)
        wait = min(self.attempt, left)
        common: dict[str, Any] = {
            "db": server.db,
            "username": server.user,
            "password": server.password,
            "socket_timeout": wait,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
            **_QUIET,
        }
        if server.path:
            connection: Any = _CONNECTIONS.UnixDomainSocketConnection(path=server.path, **common)
        else:
            host, port = server.hosts[0]
            common |= {"host": host, "port": port, "socket_connect_timeout": wait}
            common |= {"socket_keepalive": True}
            if server.tls:
                common |= {"ssl_ca_certs": server.ca, "ssl_certfile": server.cert, "ssl_keyfile": server.key}
                connection = _CONNECTIONS.SSLConnection(ssl_cert_reqs="required", ssl_check_hostname=True, **common)
            else:
                connection = _CONNECTIONS.Connection(**common)
        forks = _forks
        connection.made_in = _generation
        connection.connect()
        if forks != _forks:
            self._reached = True
            # Its socket was not known yet when this process forked: the child may have read and written on it.
            connection.disconnect()
            raise exceptions.ConnectionError("this process was forked while it connected")
        self._reached = True
        if wait < self.attempt:
            connection._sock.settimeout(self.attempt)
        return connection

    def _sorted_out(self, error: BaseException) -> str:
        """Why a connection failed. Raises the error that no repetition will mend."""
        text = str(error)
        if isinstance(error, exceptions.AuthenticationError):
            raise self._refused(text) from None
        cause: BaseException | None = error
        while cause is not None:
            if type(cause).__name__ == "SSLCertVerificationError":
                raise SegmentAccessError(
                    f"{self.server.place}: its certificate is not accepted: {cause}. Remedies: a certificate for this "
                    "name; the option ca= with the authority that signed it"
                ) from None
            cause = cause.__cause__ or cause.__context__
        if "CERTIFICATE_VERIFY_FAILED" in text:
            raise SegmentAccessError(
                f"{self.server.place}: its certificate is not accepted: {text}. Remedies: a certificate for this "
                "name; the option ca= with the authority that signed it"
            ) from None
        return text or type(error).__name__

    def _judged(self, error: Exception, waited: Waited) -> str:
        """Why there was no answer, if there may be one in a moment. Raises the error that no repetition will mend."""
        try:
            return self._sorted_out(error) if isinstance(error, _LOST) else self._refusal(error)
        except Error as final:
            if not (waited.unsure and waited.changes):
                raise
            again = type(final)(f"{final}; {waited.changes} may have been applied: an earlier copy had no answer")
            # The attribute of `SegmentUnavailableError`.
            again.maybe_applied = True  # type: ignore[attr-defined]
            raise again from None

    def _refusal(self, refusal: Exception) -> str:
        """Why the server said no, if it may say yes in a moment. Raises the error of every other refusal."""
        text = str(refusal)
        if isinstance(refusal, _PASSING) or text.startswith(_PASSING_TEXTS):
            return f"it says {text}"
        if isinstance(refusal, exceptions.NoScriptError):
            raise _UnknownScript
        if isinstance(refusal, exceptions.OutOfMemoryError) or text.startswith("OOM "):
            raise OutOfMemory(text)
        if "Script killed by user" in text:
            # Only a script that has written nothing can be killed.
            return f"it says {text}"
        if isinstance(refusal, exceptions.NoPermissionError | exceptions.AuthenticationError) or _NO_RIGHT in text:
            raise self._refused(text)
        if "WRONGTYPE" in text:
            raise IncompatibleSegmentError(
                f"{self.server.place}: a key with the name of a segment holds something else ({text}); nothing was "
                "written to it"
            )
        if isinstance(refusal, exceptions.MovedError | exceptions.AskError | exceptions.ClusterCrossSlotError):
            raise IncompatibleSegmentError(f"{self.server.place} is part of a cluster, which is not supported yet")
        if isinstance(refusal, exceptions.InvalidResponse):
            raise IncompatibleSegmentError(f"{self.server.place} is no Valkey or Redis: its answer is none")
        if "nknown command" in text or "shebang" in text.lower():
            raise IncompatibleSegmentError(f"{self.server.place} is too old or no Valkey or Redis: it says {text}")
        if text.startswith("DAMAGED ") or "user_script" in text:
            raise CorruptSegmentError(f"{self.server.place}: what it keeps of the segment is damaged: {text}")
        raise IncompatibleSegmentError(f"{self.server.place} says {text}")

    def _refused(self, text: str) -> SegmentAccessError:
        who = f"user {self.server.user}" if self.server.user else "the default user"
        return SegmentAccessError(
            f"{self.server.place} refuses {who}: {text}. Remedies: the password (in the URL, in a password_file or in "
            "SHMVAR_PASSWORD); the rights that docs/remote.md lists"
        )

    def _unavailable(self, why: str, waited: Waited) -> SegmentUnavailableError:
        server, maybe = self.server, waited.unsure and waited.changes
        what = f"; {waited.changes} may have been applied, or may yet be" if maybe else ""
        if self._reached:
            text = f"{server.place} has not answered for {server.timeout:g} s ({why}){what}"
        else:
            text = f"{server.place} cannot be reached ({why}). Is the server running, and the address right?"
        return SegmentUnavailableError(text, bool(maybe))


class Waited:
    """How long one call waits, and what is known of what it sent."""

    __slots__ = ("changes", "generation", "unsure", "until")

    def __init__(self, changes: str, until: float) -> None:
        self.changes = changes
        """What the request changes, for the error. Empty: nothing."""
        self.until = until
        self.generation = _generation
        self.unsure = False
        """A request was sent and not answered: it may have been carried out, or may yet be."""


class _UnknownScript(Exception):
    """The server has not seen this script since it was started."""


_LOST = (exceptions.ConnectionError, exceptions.TimeoutError, OSError)


def _quiet() -> dict[str, Any]:
    """Arguments that turn off what the library tells a server of itself, which costs a round trip."""
    known = {name for cls in _CONNECTIONS.Connection.__mro__ for name in signature(cls.__init__).parameters}
    return {"driver_info": None} if "driver_info" in known else {"lib_name": None, "lib_version": None}


_QUIET = _quiet()
_links: weakref.WeakSet[Link] = weakref.WeakSet()
_shared: weakref.WeakValueDictionary[Server, Link] = weakref.WeakValueDictionary()


def link_to(server: Server) -> Link:
    """The link that all handles of this process on segments of this server share."""
    found = _shared.get(server)
    return found if found is not None else _shared.setdefault(server, Link(server))


def _forking() -> None:
    global _forks
    _forks += 1


def _forked() -> None:
    global _generation
    _generation += 1
    for link in list(_links):
        link.forget()


os.register_at_fork(before=_forking, after_in_child=_forked)
