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
from shmvar._remote.link import Link, OutOfMemory, link_to
from shmvar._remote.names import PREFIX, key_of, prefix_of
from shmvar._remote.segment import RemoteSegment, find
from shmvar._remote.url import fragment_of, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from shmvar._core import SegmentInfo

_LEAST = (7, 0)


def attach(
    text: str, size: Any, reserve: Any, perm: int, create: bool | None, readonly: bool, trust: bool | None, evict: Any
) -> RemoteSegment:
    """`shmvar.attach` for a URL."""
    for name, given in (("reserve", reserve is not None), ("perm", perm != 0o600), ("evict", evict is not None)):
        if given:
            raise ValueError(f"{name} is for segments of this machine: a server has its own settings and users")
    limit = b"" if size is None else size_of(size)
    url, key = with_key(text)
    link = link_to(url.server)
    if readonly:
        if create:
            raise ValueError("create=True needs a handle that may write")
        return find(url, link, key, True, trust)
    _check(link)
    own, prefix = secrets.token_hex(6).encode(), prefix_of(key)
    mode = {None: b"any", True: b"new", False: b"old"}[create]
    try:
        answer = link.script(scripts.ATTACH, (prefix,), (own, limit, mode), link.waited("the attach"))
    except OutOfMemory as error:
        # What is there can be opened all the same, and emptied.
        try:
            there = find(url, link, key, False, trust)
        except SegmentNotFoundError:
            if create is False:
                raise
            raise SegmentFullError(f"segment {url.public}: the server's memory is full ({error})") from None
        if create:
            raise SegmentExistsError(f"there is a segment {url.public} already") from None
        return there
    if answer == b"missing":
        raise SegmentNotFoundError(f"there is no segment {url.public}")
    if answer == b"exists":
        raise SegmentExistsError(f"there is a segment {url.public} already")
    found, created, _, version = answer
    known(url, version, found)
    return RemoteSegment(url, prefix, found, bool(created), False, trust)


def destroy(text: str) -> bool:
    """`shmvar.destroy` for a URL."""
    url, key = with_key(text)
    link, prefix = link_to(url.server), prefix_of(key)
    while (found := link.call(b"HGET", prefix, b"id")) is not None:
        if destroy_id(link, prefix, found):
            return True
    return False


def exists(text: str) -> bool:
    """`shmvar.exists` for a URL."""
    url, key = with_key(text)
    return bool(link_to(url.server).call(b"EXISTS", prefix_of(key)))


def segments(text: str) -> list[SegmentInfo]:
    """`shmvar.segments` for a URL, whose key does not matter."""
    url = parse(text)
    link = link_to(url.server)
    _check(link)
    names: set[bytes] = set()
    cursor = b"0"
    while True:
        cursor, found = link.call(b"SCAN", cursor, b"MATCH", PREFIX + b"*}", b"COUNT", b"1000", b"TYPE", b"hash")
        names.update(found)
        if cursor == b"0":
            break
    infos = []
    for name in sorted(names):
        key = key_of(name)
        if key is not None:
            named = dataclasses.replace(url, key=key, public=f"{url.public.partition('#')[0]}#{fragment_of(key)}")
            try:
                infos.append(find(named, link, key, False, False).info())
            except (SegmentNotFoundError, IncompatibleSegmentError, CorruptSegmentError):
                continue  # destroyed meanwhile, somebody else's hash, or damaged, which must not hide all others
    return infos


def _check(link: Link) -> None:
    """Looks once at what the server is: versions and settings that this cannot work with are refused."""
    if link.checked:
        return
    text = link.call(b"INFO").decode(errors="replace")
    facts = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    version = facts.get("redis_version", "")
    numbers = tuple(int(part) if part.isdigit() else 0 for part in version.split(".")[:2])
    place = link.server.place
    if numbers < _LEAST:
        raise IncompatibleSegmentError(f"{place} is version {version or '?'}; this needs Valkey, or Redis 7.0 or newer")
    if facts.get("cluster_enabled") == "1":
        raise IncompatibleSegmentError(f"{place} is part of a cluster, which is not supported yet")
    policy = facts.get("maxmemory_policy", "")
    if facts.get("maxmemory", "0") != "0" and policy.startswith("allkeys") and not link.server.evicting:
        raise IncompatibleSegmentError(
            f"{place} may delete any data when its memory is full (maxmemory-policy {policy}): a whole segment at "
            "once. Remedies: maxmemory-policy noeviction; or evicting=allow in the URL, for what may be lost"
        )
    link.checked = True
