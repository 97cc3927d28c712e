"""`attach`, `destroy`, `exists` and `segments` for URLs."""

from __future__ import annotations

import dataclasses
import secrets

from shmvar._errors import (
    CorruptSegmentError,
    IncompatibleSegmentError,
    SegmentExistsError,
    SegmentFullError,
    SegmentNotFoundError,
)
from shmvar._remote import scripts
from shmvar._remote.arguments import size_of
from shmvar._remote.identity import destroy_id, known, with_key
from shmvar._remote.link import Link, OutOfMemory, link_to, links_to_all
from shmvar._remote.names import PREFIX, key_of, prefix_of
from shmvar._remote.segment import RemoteSegment, find
from shmvar._remote.url import fragment_of, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from shmvar._core import SegmentInfo
    from shmvar._remote.url import Url
    from shmvar._remote.waited import Waited

_LEAST = (7, 0)
_LEAST_WITH_FSYNC = (7, 2)


def attach(
    text: str, size: Any, reserve: Any, perm: int, create: bool | None, readonly: bool, trust: bool | None, evict: Any
) -> RemoteSegment:
    """`shmvar.attach` for a URL."""
    for name, given in (("reserve", reserve is not None), ("perm", perm != 0o600), ("evict", evict is not None)):
        if given:
            raise ValueError(f"{name} is for segments of this machine: a server has its own settings and users")
    limit = b"" if size is None else size_of(size)
    url, key = with_key(text)
    prefix = prefix_of(key)
    if readonly:
        if create:
            raise ValueError("create=True needs a handle that may write")
        return find(url, link_to(url.server, prefix), key, True, trust)
    _check(link_to(url.server))
    link = link_to(url.server, prefix)
    own = secrets.token_hex(6).encode()
    waited = link.waited("the attach", acked=False)
    answer = _opened(url, link, prefix, own, limit, create, waited)
    if (url.server.acks or url.server.fsync) and isinstance(answer, list) and (answer[1] == 1 or limit):
        # Something was written. Whoever only finds a segment needs no replica for it. The server's memory may be full
        # by now, and a replica that was promoted meanwhile may not have the segment.
        waited.acked = True
        answer = _opened(url, link, prefix, own, limit, create, waited)
    if answer == b"missing":
        raise SegmentNotFoundError(f"there is no segment {url.public}")
    if answer == b"exists":
        raise SegmentExistsError(f"there is a segment {url.public} already")
    found, created, _, version = answer
    known(url, version, found)
    return RemoteSegment(url, prefix, found, bool(created), False, trust)


def _opened(url: Url, link: Link, prefix: bytes, own: bytes, limit: bytes, create: bool | None, waited: Waited) -> Any:
    """What the script of `attach` returns, on a server without memory, too. It may be run again with the same `own`."""
    mode = {None: b"any", True: b"new", False: b"old"}[create]
    try:
        return link.script(scripts.ATTACH, (prefix,), (own, limit, mode), waited)
    except OutOfMemory as error:
        # Only what creates takes memory: what is there can be opened, get a larger limit, and be emptied.
        # Whoever must create it changes nothing of another one's.
        arguments = own, b"" if create else limit, b"old"
        answer = link.script(scripts.ATTACH_OLD, (prefix,), arguments, waited)
        if answer == b"missing" and create is not False:
            raise SegmentFullError(
                f"segment {url.public}: the server's memory is full ({error}); nothing was created. Remedies: a larger "
                "maxmemory; fewer variables in other segments, which `shmvar ls` lists for the URL of the server"
            ) from None
        if create and isinstance(answer, list) and answer[1] == 0:
            known(url, answer[3], answer[0])
            return b"exists"
        return answer


def destroy(text: str) -> bool:
    """`shmvar.destroy` for a URL."""
    url, key = with_key(text)
    prefix = prefix_of(key)
    link = link_to(url.server, prefix)
    while (found := link.call(b"HGET", prefix, b"id")) is not None:
        if destroy_id(link, prefix, found):
            return True
    return False


def exists(text: str) -> bool:
    """`shmvar.exists` for a URL."""
    url, key = with_key(text)
    prefix = prefix_of(key)
    return bool(link_to(url.server, prefix).call(b"EXISTS", prefix))


def segments(text: str, told: Callable[[int, int], None] | None = None) -> list[SegmentInfo]:
    """`shmvar.segments` for a URL, whose key does not matter. `told`: is told how many of how many were looked at."""
    url = parse(text)
    _check(link_to(url.server))
    names: set[bytes] = set()
    for link in links_to_all(url.server):
        names.update(_names(link))
    infos = []
    for number, name in enumerate(sorted(names)):
        if told:
            told(number, len(names))
        key = key_of(name)
        if key is not None:
            # Whoever looks at each once needs no near cache of it.
            server = dataclasses.replace(url.server, near=0)
            named = dataclasses.replace(
                url, server=server, key=key, public=f"{url.public.partition('#')[0]}#{fragment_of(key)}"
            )
            try:
                infos.append(find(named, link_to(url.server, name), key, False, False).info())
            except (SegmentNotFoundError, IncompatibleSegmentError, CorruptSegmentError):
                continue  # destroyed meanwhile, somebody else's hash, or damaged, which must not hide all others
    return infos


def _names(link: Link) -> set[bytes]:
    """The P of all segments of one primary."""
    names: set[bytes] = set()
    cursor, moves = b"0", link.moves
    while True:
        cursor, found = link.call(b"SCAN", cursor, b"MATCH", PREFIX + b"*}", b"COUNT", b"1000", b"TYPE", b"hash")
        names.update(found)
        if moves != link.moves:
            # Another server by now, where this cursor means another place.
            cursor, moves = b"0", link.moves
        elif cursor == b"0":
            return names


def _check(link: Link) -> None:
    """Looks once at what the server is: versions and settings that this cannot work with are refused."""
    if link.checked:
        return
    text = link.call(b"INFO").decode(errors="replace")
    facts = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    version = facts.get("redis_version", "")
    numbers = tuple(int(part) if part.isdigit() else 0 for part in version.split(".")[:2])
    place = link.place
    if numbers < _LEAST:
        raise IncompatibleSegmentError(f"{place} is version {version or '?'}; this needs Valkey, or Redis 7.0 or newer")
    if link.server.fsync:
        if numbers < _LEAST_WITH_FSYNC:
            raise IncompatibleSegmentError(f"{place} is version {version}; fsync=1 needs Valkey, or Redis 7.2 or newer")
        if facts.get("aof_enabled") != "1":
            raise IncompatibleSegmentError(f"{place} has no append-only file for fsync=1. Remedy: appendonly yes")
    if not link.server.sentinel:
        link.found_in_cluster(facts.get("cluster_enabled") == "1")
    policy = facts.get("maxmemory_policy", "")
    if facts.get("maxmemory", "0") != "0" and policy.startswith("allkeys") and not link.server.evicting:
        raise IncompatibleSegmentError(
            f"{place} may delete any data when its memory is full (maxmemory-policy {policy}): a whole segment at "
            "once. Remedies: maxmemory-policy noeviction; or evicting=allow in the URL, for what may be lost"
        )
    link.checked = True
