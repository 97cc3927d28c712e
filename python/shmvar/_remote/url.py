"""URLs of segments on a server: `valkey://[user[:password]@]host[:port]/[db][?option=value&...]#KEY`."""

from __future__ import annotations

import os
import re
import urllib.parse
from dataclasses import dataclass, field

_SCHEMES = {
    "valkey": (False, False),
    "redis": (False, False),
    "valkeys": (True, False),
    "rediss": (True, False),
    "valkey+unix": (False, True),
    "redis+unix": (False, True),
}
"""Each scheme: whether it is over TLS, and whether it names a socket."""

_LATER = {"sentinel", "acks", "fsync", "near", "lease", "grace"}
"""Options of the plan that this version does not have: to ignore one would break its promise."""


_LONGEST = 600
"""Seconds of a time-out. The server forgets a request after a day, and a call must be over long before."""


@dataclass(frozen=True)
class Server:
    """What a URL says of a server. Two equal ones share their connections. The password is not shown."""

    tls: bool
    host: str
    port: int
    path: str
    """Of a socket; then there is neither host nor port."""
    user: str | None
    password: str | None = field(repr=False)
    db: int
    timeout: float
    evicting: bool
    ca: str | None
    cert: str | None
    key: str | None

    @property
    def place(self) -> str:
        """The server in an error."""
        if self.path:
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Url:
    """A URL that was read."""

    server: Server
    key: int | str | None
    """Of the segment. None: the URL names a server only."""
    public: str
    """The URL without its password."""
    has_password: bool


def parse(text: str) -> Url:
    """Raises ValueError for what is no such URL; the text has no password in it."""
    scheme, _, rest = text.partition("://")
    tls, unix = _SCHEMES[scheme]
    if not unix and "@" in re.sub(r"^[^/?#]*", "", rest):
        # Whatever stands there may be a piece of a password: nothing of it is quoted.
        raise ValueError(
            f"the {scheme} URL has an @ behind its host. In a user or a password / ? # @ : % are written %2F %3F %23 "
            "%40 %3A %25; in a key @ is written %40"
        )
    rest, _, fragment = rest.partition("#")
    rest, _, query = rest.partition("?")
    user = password = None
    credentials = ""
    if unix:
        host, port, path, db = "", 0, urllib.parse.unquote(rest), 0
        if not path.startswith("/"):
            raise ValueError(f"{scheme}:// needs the path of a socket: {scheme}:///run/valkey.sock#KEY")
    else:
        rest, _, tail = rest.partition("/")
        credentials, at, place = rest.rpartition("@")
        if at:
            named, colon, word = credentials.partition(":")
            user = urllib.parse.unquote(named) or None
            password = urllib.parse.unquote(word) if colon else None
        host, port = _place(scheme, place)
        path, db = "", _number("db", tail or "0", 0)
    options = _options(query, {"db"} if unix else set())
    if unix:
        db = _number("db", options.get("db", "0"), 0)
    has_password = password is not None
    if "user" in options:
        user = options["user"]
    if password is None and "password_file" in options:
        with open(options["password_file"], encoding="utf-8") as file:
            password = file.read().rstrip("\n")
    if password is None:
        password = os.environ.get("SHMVAR_PASSWORD")
    evicting = options.get("evicting", "refuse")
    if evicting not in ("refuse", "allow"):
        raise ValueError(f"evicting must be refuse or allow, not {evicting}")
    server = Server(
        tls=tls,
        host=host,
        port=port,
        path=path,
        user=user,
        password=password,
        db=db,
        timeout=_seconds("timeout", options.get("timeout", "10")),
        evicting=evicting == "allow",
        ca=options.get("ca"),
        cert=options.get("cert"),
        key=options.get("key"),
    )
    public = text
    if has_password:
        named = credentials.partition(":")[0]
        public = text.replace(f"{credentials}@", f"{named}@" if named else "", 1)
    return Url(server, _key(fragment), public, has_password)


def _place(scheme: str, place: str) -> tuple[str, int]:
    if "," in place:
        raise ValueError("several hosts, for a cluster or Sentinel, are not supported yet: name one server")
    host, port = place, ""
    if place.startswith("["):
        host, _, port = place[1:].partition("]")
        port = port.removeprefix(":")
    elif ":" in place:
        host, _, port = place.partition(":")
    if not host:
        raise ValueError(f"there is no host in the URL: {scheme}://host/#KEY")
    # A port that is none may be a password whose host was forgotten: it is not quoted.
    if port and not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535):
        raise ValueError("port must be a number from 1 to 65535")
    return host, int(port or "6379")


def _number(name: str, text: str, least: int, most: int = 1 << 31) -> int:
    # `int` takes more than digits: signs, underscores, spaces.
    if not (text.isascii() and text.isdigit()) or not least <= int(text) <= most:
        raise ValueError(f"{name} must be a number from {least} to {most}, not {text!r}")
    return int(text)


def _seconds(name: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= _LONGEST:
        raise ValueError(f"{name} must be more than 0 and at most {_LONGEST} seconds, not {text!r}")
    return seconds


def _options(query: str, more: set[str]) -> dict[str, str]:
    known = {"timeout", "evicting", "password_file", "ca", "cert", "key", "user", *more}
    found: dict[str, str] = {}
    for name, value in urllib.parse.parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)):
        if name in _LATER:
            raise ValueError(f"the option {name} is not supported yet")
        if name not in known:
            raise ValueError(f"there is no option {name}; there are {', '.join(sorted(known))}")
        if name in found:
            raise ValueError(f"the option {name} stands there twice")
        found[name] = value
    return found


def _key(fragment: str) -> int | str | None:
    """The key as the command line reads it: a number if it reads as one; after `s:` a text always."""
    text = urllib.parse.unquote(fragment, errors="strict")
    if not text:
        return None
    if text.startswith("s:") and text != "s:":
        return text[2:]
    if re.fullmatch(r"[+-]?[0-9]+", text):
        return int(text)
    if re.fullmatch(r"[+-]?0[xX][0-9a-fA-F]+", text):
        return int(text, 16)
    return text


def fragment_of(key: int | str) -> str:
    """How a key stands in a URL."""
    quoted = urllib.parse.quote(str(key), safe="")
    return quoted if isinstance(key, int) or _key(quoted) == key else f"s:{quoted}"
