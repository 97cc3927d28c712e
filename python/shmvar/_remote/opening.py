"""`attach`, `destroy`, `exists` and `segments` for URLs."""

from __future__ import annotations

import dataclasses
import secrets

from shmvar._errors import (
    IncompatibleSegmentError,
    SegmentExistsError,
    SegmentFullError,
    SegmentNotFoundError,
)
from shmvar._remote import scripts
from shmvar._remote.arguments import size_of
from shmvar._remote.link import Link, OutOfMemory, link_to
from shmvar._remote.names import PREFIX, checked_key, key_of, prefix_of
from shmvar._remote.segment import RemoteSegment
from shmvar._remote.url import Url, fragment_of, parse

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
    url, key = _with_key(text)
    link = link_to(url.server)
    if readonly:
        if create:
            raise ValueError("create=True needs a handle that may write")
        return _find(url, link, key, True, trust)
    _check(link)
    own, prefix = secrets.token_hex(6).encode(), prefix_of(key)
    mode = {None: b"any", True: b"new", False: b"old"}[create]
    try:
        answer = link.script(scripts.ATTACH, (prefix,), (own, limit, mode), link.waited("the attach"))
    except OutOfMemory as error:
        # What is there can be opened all the same, and emptied.
        try:
            there = _find(url, link, key, False, trust)
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
    _known(url, version)
    return RemoteSegment(url, prefix, found, bool(created), False, trust)


def _find(url: Url, link: Link, key: int | str, readonly: bool, trust: bool | None) -> RemoteSegment:
    """Opens a segment by plain reads."""
    prefix = prefix_of(key)
    version, found = link.call(b"HMGET", prefix, b"f", b"id")
    if version is None and found is None:
        raise SegmentNotFoundError(f"there is no segment {url.public}")
    _known(url, version)
    return RemoteSegment(url, prefix, found, False, readonly, trust)


def reattach(text: str, segment: bytes, readonly: bool, trust: bool | None, password: str | None) -> RemoteSegment:
    """Unpickles a handle: the very segment that it was of."""
    url, key = _with_key(text)
    if password is not None:
        url = dataclasses.replace(url, server=dataclasses.replace(url.server, password=password), has_password=True)
    found = _find(url, link_to(url.server), key, readonly, trust)
    if found._requests.id != segment:
        raise SegmentNotFoundError(f"the segment {url.public} that was pickled is gone; there is another one")
    return found


def destroy(text: str) -> bool:
    """`shmvar.destroy` for a URL."""
    url, key = _with_key(text)
    link, prefix = link_to(url.server), prefix_of(key)
    while (found := link.call(b"HGET", prefix, b"id")) is not None:
        if destroy_id(link, prefix, found):
            return True
    return False


def destroy_id(link: Link, prefix: bytes, segment: bytes) -> bool:
    """Destroys the segment with this id. False: it is gone already."""
    data = b"%b:%b:" % (prefix, segment)
    keys = [prefix, *(data + name for name in (b"v", b"x", b"b", b"l")), prefix + b":gone"]
    arguments = (segment, secrets.token_hex(8).encode())
    answer: bytes = link.script(scripts.DESTROY, keys, arguments, link.waited("the destroy"))
    return answer == b"o"


def exists(text: str) -> bool:
    """`shmvar.exists` for a URL."""
    url, key = _with_key(text)
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
                infos.append(_find(named, link, key, False, False).info())
            except (SegmentNotFoundError, IncompatibleSegmentError):
                continue  # destroyed meanwhile, or somebody else's hash
    return infos


def _with_key(text: str) -> tuple[Url, int | str]:
    url = parse(text)
    if url.key is None:
        raise ValueError(f"{url.public} names no segment: its key follows a #, as in valkey://host/#987654")
    return url, checked_key(url.key)


def _known(url: Url, version: bytes | None) -> None:
    if version != b"1":
        raise IncompatibleSegmentError(
            f"{url.public}: the server has something else under this name, or a segment of another format "
            f"({version!r}; this is 1); nothing was written to it"
        )


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
