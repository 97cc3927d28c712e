"""URLs of segments on a server: `valkey://[user[:password]@]host[:port][,...]/[db][?option=value&...]#KEY`."""

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

_OPTIONS = {
    "timeout", "evicting", "sentinel", "sentinel_user", "sentinel_password_file", "acks", "fsync", "lease", "grace",
    "near", "user", "password_file", "ca", "cert", "key",
}  # fmt: skip
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_LONGEST = 600
"""Seconds of a time-out. The server forgets a request after a day, and a call must be over long before."""
_DAY = 86_400
_LONGEST_NUMBER = 128
"""Digits of a number. Of far more, `int` says that a limit of Python's should be raised; no key has more characters."""
_MOST_ACKS = 100


Address = str | tuple[str, int]
"""Where a server listens: the path of a socket, or a host and a port."""


def place_of(address: Address) -> str:
    """An address as it stands in a URL."""
    if isinstance(address, str):
        return address
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclass(frozen=True)
class Server:
    """What a URL says of a server. Two equal ones share their connections. The password is not shown."""

    tls: bool
    hosts: tuple[tuple[str, int], ...]
    """Name and port of each: of the server, of nodes of a cluster, or of sentinels."""
    path: str
    """Of a socket; then there are no hosts."""
    user: str | None
    password: str | None = field(repr=False)
    db: int
    timeout: float
    evicting: bool
    ca: str | None
    cert: str | None
    key: str | None
    sentinel: str | None = None
    """What the sentinels call the primary. None: the hosts are servers."""
    sentinel_user: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)
    acks: int = 0
    """Replicas that must have a change before the call returns."""
    fsync: bool = False
    """Whether the primary's append-only file must have it."""
    lease: float = 10.0
    """Seconds after which a lock ends that nobody renewed."""
    grace: float = 0.3
    """Seconds after which a lock ends whose owner's connection is gone."""
    near: int = field(default=0, compare=False)
    """Bytes of a segment of this machine that caches reads."""

    @property
    def place(self) -> str:
        """The server in an error."""
        return self.path or ",".join(place_of(host) for host in self.hosts)


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
        place, path, db = "", urllib.parse.unquote(rest), 0
        if not path.startswith("/"):
            raise ValueError(f"{scheme}:// needs the path of a socket: {scheme}:///run/valkey.sock#KEY")
    else:
        rest, _, tail = rest.partition("/")
        credentials, at, place = rest.rpartition("@")
        if at:
            named, colon, word = credentials.partition(":")
            user = urllib.parse.unquote(named) or None
            password = urllib.parse.unquote(word) if colon else None
        path, db = "", _number("db", tail or "0", 0)
    options = _options(query, {"db"} if unix else set())
    if unix:
        db = _number("db", options.get("db", "0"), 0)
        if "sentinel" in options:
            raise ValueError("the option sentinel needs the hosts of sentinels, not a socket")
    elif options.get("sentinel") == "":
        raise ValueError("sentinel must be the name that the sentinels have for the primary")
    hosts = () if unix else _hosts(scheme, place, 26379 if "sentinel" in options else 6379)
    has_password = password is not None
    if "user" in options:
        user = options["user"]
    if password is None:
        password = _secret(options, "password_file", "SHMVAR_PASSWORD")
    evicting = options.get("evicting", "refuse")
    if evicting not in ("refuse", "allow"):
        raise ValueError(f"evicting must be refuse or allow, not {evicting}")
    lease, grace = (
        _seconds(name, options.get(name, usual), _DAY) for name, usual in (("lease", "10"), ("grace", "0.3"))
    )
    if grace > lease:
        raise ValueError(f"grace must be at most the lease, {lease:g} seconds, not {grace:g}")
    named_by = options.get("sentinel")
    server = Server(
        tls=tls,
        hosts=hosts,
        path=path,
        user=user,
        password=password,
        db=db,
        timeout=_seconds("timeout", options.get("timeout", "10"), _LONGEST),
        evicting=evicting == "allow",
        ca=options.get("ca"),
        cert=options.get("cert"),
        key=options.get("key"),
        sentinel=named_by,
        sentinel_user=options.get("sentinel_user"),
        sentinel_password=_secret(options, "sentinel_password_file", "SHMVAR_SENTINEL_PASSWORD") if named_by else None,
        acks=_number("acks", options.get("acks", "0"), 0, _MOST_ACKS),
        fsync=_number("fsync", options.get("fsync", "0"), 0, 1) == 1,
        lease=lease,
        grace=grace,
        near=_bytes("near", options.get("near", "0")),
    )
    public = text
    if has_password:
        named = credentials.partition(":")[0]
        public = text.replace(f"{credentials}@", f"{named}@" if named else "", 1)
    return Url(server, _key(fragment), public, has_password)


def _hosts(scheme: str, places: str, usual: int) -> tuple[tuple[str, int], ...]:
    hosts = tuple(_host(scheme, place, usual) for place in places.split(","))
    if len(set(hosts)) < len(hosts):
        raise ValueError("a host stands in the URL twice")
    return hosts


def _host(scheme: str, place: str, usual: int) -> tuple[str, int]:
    # What is no host or port may be a password whose host was forgotten: it is not quoted.
    if place.startswith("["):
        host, closed, rest = place[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")):
            raise ValueError("an IPv6 host stands in brackets, and behind them a port: [::1]:6379")
        port = rest[1:]
    else:
        host, _, port = place.partition(":")
    if not host:
        raise ValueError(f"there is no host in the URL, or none between two commas: {scheme}://host/#KEY")
    if port and not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535):
        raise ValueError("port must be a number from 1 to 65535; an IPv6 host stands in brackets")
    return host, int(port or usual)


def _secret(options: dict[str, str], file_option: str, variable: str) -> str | None:
    """A password from a file or the environment."""
    if file_option not in options:
        return os.environ.get(variable)
    path = options[file_option]
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().rstrip("\n")
    except UnicodeDecodeError:
        # The error has what is in the file: it is neither quoted nor handed on.
        why = "it is no text in UTF-8"
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
    raise ValueError(
        f"{file_option} {path!r} cannot be read: {why}. Remedy: the path of a file that this user may read, with the "
        "password alone in it"
    )


def _number(name: str, text: str, least: int, most: int = 1 << 31) -> int:
    # `int` takes more than digits: signs, underscores, spaces.
    if not (text.isascii() and text.isdigit() and len(text) <= _LONGEST_NUMBER) or not least <= int(text) <= most:
        raise ValueError(f"{name} must be a number from {least} to {most}, not {text[:40]!r}")
    return int(text)


def _seconds(name: str, text: str, most: float) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= most:
        raise ValueError(f"{name} must be more than 0 and at most {most} seconds, not {text!r}")
    return seconds


def _bytes(name: str, text: str) -> int:
    """A size as the command line reads one, with K, M and G for powers of 1024, and as it prints one, with KiB."""
    found = re.fullmatch(r"([0-9]{1,15})(?: ?([KMG])(?:iB)?)?", text, re.ASCII | re.IGNORECASE)
    if not found:
        raise ValueError(f"{name} must be a number of bytes, as in 4096, 64M or 64MiB, not {text!r}")
    return int(found[1]) * _UNITS[(found[2] or "").upper()]


def _options(query: str, more: set[str]) -> dict[str, str]:
    known = _OPTIONS | more
    found: dict[str, str] = {}
    for name, value in urllib.parse.parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)):
        if name not in known:
            raise ValueError(f"there is no option {name}; there are {', '.join(sorted(known))}")
        if name in found:
            raise ValueError(f"the option {name} stands there twice")
        found[name] = value
    return found


def _key(fragment: str) -> int | str | None:
    """The key: a number if it reads as one, as on the command line; after `s:` a text always.

    Quotes are characters of a text, as others are: a URL has `s:` for what quotes are on the command line.
    """
    text = urllib.parse.unquote(fragment, errors="strict")
    if not text:
        return None
    if text.startswith("s:") and text != "s:":
        return text[2:]
    for pattern, base in ((r"([+-]?)([0-9]+)", 10), (r"([+-]?)0[xX]([0-9a-fA-F]+)", 16)):
        number = re.fullmatch(pattern, text)
        if number:
            digits = number[2].lstrip("0") or "0"
            if len(digits) > _LONGEST_NUMBER:
                raise OverflowError(f"key {text[:40]} is outside of -2**63 .. 2**63 - 1")
            return int(number[1] + digits, base)
    return text


def fragment_of(key: int | str) -> str:
    """How a key stands in a URL."""
    quoted = urllib.parse.quote(str(key), safe="")
    return quoted if isinstance(key, int) or _key(quoted) == key else f"s:{quoted}"
