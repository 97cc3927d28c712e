"""Which segment a URL and an id mean, and its end."""

from __future__ import annotations

import secrets

from shmvar._errors import CorruptSegmentError, IncompatibleSegmentError
from shmvar._remote import scripts
from shmvar._remote.link import Link
from shmvar._remote.names import checked_key
from shmvar._remote.url import Url, parse


def with_key(text: str) -> tuple[Url, int | str]:
    url = parse(text)
    if url.key is None:
        raise ValueError(f"{url.public} names no segment: its key follows a #, as in valkey://host/#987654")
    return url, checked_key(url.key)


def known(url: Url, version: bytes | None, segment: object) -> None:
    """Raises for what is no segment of this format, or has no id."""
    if version != b"1":
        raise IncompatibleSegmentError(
            f"{url.public}: the server has something else under this name, or a segment of another format "
            f"({version!r}; this is 1); nothing was written to it"
        )
    if not isinstance(segment, bytes) or not 1 <= len(segment) <= 64:
        raise CorruptSegmentError(f"{url.public}: the segment has no id")


def destroy_id(link: Link, prefix: bytes, segment: bytes) -> bool:
    """Destroys the segment with this id. False: it is gone already."""
    data = b"%b:%b:" % (prefix, segment)
    keys = [prefix, *(data + name for name in (b"v", b"x", b"b", b"l")), prefix + b":gone"]
    arguments = (segment, secrets.token_hex(8).encode())
    answer: bytes = link.script(scripts.DESTROY, keys, arguments, link.waited("the destroy"))
    return answer == b"o"
