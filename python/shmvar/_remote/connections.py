"""Connections: how one is made, how requests are sent on it and answers read, and what a fork makes of it.

This is the one file that knows the client library. Of it, only connections and exceptions are used: its own retry
repeats a request without the number that makes a repetition harmless. Once a connection stands, its socket is ours:
answers are read by `hiredis` itself.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
from inspect import signature
from typing import Any

try:
    import hiredis
    from redis import connection as _library
    from redis import exceptions as exceptions
    from redis.backoff import NoBackoff
    from redis.retry import Retry
except ModuleNotFoundError as _error:
    raise ModuleNotFoundError(
        f'a segment on a server needs {_error.name}, which is not installed: pip install "shmvar[valkey]"',
        name=_error.name,
    ) from None

from shmvar._remote.callers import callers_own

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from shmvar._remote.url import Address, Server

# Its types differ from one version to the next.
_CONNECTIONS: Any = _library
Argument = bytes | int
LOST = (exceptions.ConnectionError, exceptions.TimeoutError, OSError)
"""What a connection that was lost raises. `LOADING` and a wrong password are among the library's."""
SLOWEST = 256 << 10
"""Bytes a second that the slowest network is believed to carry."""
_NOTHING: Any = object()
_LENGTHS = [b"$%d\r\n" % length for length in range(64)]
"""What stands before an argument of each usual length."""


def now() -> float:
    """Seconds of a clock that goes on while the machine is suspended, and that nobody sets."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def pack(*arguments: Argument) -> bytes:
    """A request as it is sent."""
    return b"*%d\r\n%b" % (len(arguments), _packed(arguments))


def pack_script(name: bytes, script: bytes, keys: Sequence[bytes], arguments: Sequence[Argument]) -> bytes:
    """The call of a script as it is sent."""
    head = _head(name, script, tuple(keys))
    return b"*%d\r\n%b%b" % (3 + len(keys) + len(arguments), head, _packed(arguments))


def _head_of(name: bytes, script: bytes, keys: tuple[bytes, ...]) -> bytes:
    """What the calls of a script for one segment have in common."""
    return _packed((name, script, len(keys), *keys))


_head = functools.lru_cache(256)(_head_of)


def _packed(arguments: Iterable[Argument]) -> bytes:
    parts: list[bytes] = []
    for argument in arguments:
        data = argument if isinstance(argument, bytes) else b"%d" % argument
        length = len(data)
        # A format for each argument takes half as long again.
        parts += (_LENGTHS[length] if length < 64 else b"$%d\r\n" % length, data, b"\r\n")
    return b"".join(parts)


_generation = 0
"""How many forks lie between the first process and this one, as this one counts them."""
_forks = 0
"""Forks that this process has begun, and those before it."""


def generation() -> int:
    """Another number in each forked child than in its parent."""
    return _generation


class Forked(exceptions.ConnectionError):  # type: ignore[misc]
    """This process was forked while it connected."""


def opened(server: Server, address: Address, wait: float, sentinel: bool = False) -> Any:
    """A new connection. `wait`: the seconds for which each step, and later each piece of an answer, is waited for."""
    options: dict[str, Any] = {
        "db": 0 if sentinel else server.db,
        "username": server.sentinel_user if sentinel else server.user,
        "password": server.sentinel_password if sentinel else server.password,
        "socket_timeout": wait,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        **_QUIET,
    }
    if isinstance(address, str):
        connection: Any = _CONNECTIONS.UnixDomainSocketConnection(path=address, **options)
        # The library looks for both where a time-out is raised meanwhile, and a connection of this kind has neither.
        connection.host, connection.port = address, 0
    else:
        options |= {"host": address[0], "port": address[1], "socket_connect_timeout": wait, "socket_keepalive": True}
        if server.tls:
            options |= {"ssl_ca_certs": server.ca, "ssl_certfile": server.cert, "ssl_keyfile": server.key}
            connection = _CONNECTIONS.SSLConnection(ssl_cert_reqs="required", ssl_check_hostname=True, **options)
        else:
            connection = _CONNECTIONS.Connection(**options)
    forks = _forks
    connection.made_in = _generation
    connection.address = address
    connection.connect()
    if forks != _forks:
        # Its socket was not known yet when this process forked: the child may have read and written on it.
        connection.disconnect()
        raise Forked("this process was forked while it connected")
    # The handshake is over and all of its answers are read: nothing lies in the library's buffer.
    connection.reader = hiredis.Reader(
        protocolError=exceptions.InvalidResponse, replyError=_Refusals(connection), notEnoughData=_NOTHING
    )
    connection.buffer = bytearray(65536)
    connection.until = now() + wait
    return connection


class _Refusals:
    """Makes an exception of the library of an error that a server says."""

    def __init__(self, connection: Any) -> None:
        self._parse = connection._parser.parse_error

    def __call__(self, text: str) -> Exception:
        try:
            error: Exception = self._parse(text)
        except Exception as raised:
            if callers_own(raised) is not None:
                # Of a signal handler.
                raise
            # A redirection that names no server.
            error = exceptions.InvalidResponse(text[:200])
        return error


def send(connection: Any, requests: Iterable[Any]) -> None:
    """Sends requests on a connection."""
    sock = connection._sock
    if sock is None:
        raise exceptions.ConnectionError("the connection was closed")
    for request in requests:
        sock.sendall(request)


def answers(connection: Any, count: int) -> list[Any]:
    """The next answers on a connection; a refusal is an exception among them.

    Each piece is waited for as long as the socket's time-out says, all of them until `connection.until`, and a second
    longer for each 256 KiB that came: a server that sends byte after byte keeps nobody for ever.
    """
    found: list[Any] = []
    sock, gets, received = connection._sock, connection.reader.gets, 0
    while True:
        answer = gets(False)
        if answer is not _NOTHING:
            if isinstance(answer, exceptions.ConnectionError):
                raise answer
            found.append(answer)
            if len(found) == count:
                return found
            continue
        if received and now() > connection.until + received / SLOWEST:
            raise exceptions.TimeoutError(f"its answer is not complete after {received} bytes")
        if sock is None or not (length := sock.recv_into(connection.buffer)):
            raise exceptions.ConnectionError("the connection was closed by the server")
        connection.reader.feed(connection.buffer, 0, length)
        received += length


def asked(connection: Any, arguments: Sequence[Argument]) -> Any:
    """The answer to one short request. Raises its refusal."""
    send(connection, (pack(*arguments),))
    (answer,) = answers(connection, 1)
    if isinstance(answer, Exception):
        raise answer
    return answer


def cut_off(connections: Iterable[Any]) -> None:
    """In a forked child: the connections are the parent's.

    A call that was interrupted by the fork (by a signal handler that forks, or a greenlet) goes on in the child, too.
    It must neither send on the parent's connection nor take an answer from it.
    """
    for connection in connections:
        with contextlib.suppress(Exception):
            number = connection._sock.fileno()
            nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            try:
                # The number stays taken: closed, it could be given to somebody else's file while the call has it.
                os.dup2(nothing, number, inheritable=False)
            finally:
                os.close(nothing)


def _quiet() -> dict[str, Any]:
    """Arguments that turn off what the library tells a server of itself, which costs a round trip."""
    known = {name for cls in _CONNECTIONS.Connection.__mro__ for name in signature(cls.__init__).parameters}
    return {"driver_info": None} if "driver_info" in known else {"lib_name": None, "lib_version": None}


_QUIET = _quiet()


def _forking() -> None:
    global _forks
    _forks += 1


def _forked() -> None:
    global _generation
    _generation += 1


os.register_at_fork(before=_forking, after_in_child=_forked)
