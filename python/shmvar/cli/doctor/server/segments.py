"""Checks each segment of a server, and finds what is left of segments that are gone.

Names that hold the id of a segment mean that one and no other. What is left of one that is gone is therefore out of
everybody's reach, and the doctor removes it. A large value that is on its way has an expiry, and is left alone.
"""

from __future__ import annotations

import dataclasses
import re
from shlex import quote
from typing import TYPE_CHECKING

import shmvar
from shmvar.cli import printing
from shmvar.cli.doctor.findings import finding
from shmvar.cli.doctor.server.asking import UNSEEN, Server
from shmvar.cli.doctor.server.judgement import nearly_full

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shmvar._remote.url import Url
    from shmvar.cli.doctor.findings import Finding
    from shmvar.cli.doctor.server.facts import Facts

_NAME = re.compile(rb"(shmvar:\{[^{}]*\}):([0-9a-f]{12}):(.*)", re.S)
"""P, the id, and what it is of the segment."""
_CHUNK = re.compile(rb"b:(.{8}):[0-9]+", re.S)
_AT_ONCE = 500


class Found:
    """The names on a server that begin as those of segments do."""

    def __init__(self) -> None:
        self.segments: list[bytes] = []
        """P of each."""
        self.parts: dict[tuple[bytes, bytes], list[bytes]] = {}
        """By P and id: the names of everything else."""
        self.whole = True
        """Whether all names could be seen."""


def names(server: Server, prefix: bytes | None) -> Found:
    """All names of segments on a server, or those of one."""
    found, cursor = Found(), b"0"
    pattern = _literally(prefix) + b"*" if prefix else b"shmvar:{*}*"
    while True:
        answer = server.ask(b"SCAN", cursor, b"MATCH", pattern, b"COUNT", b"1000")
        if not _is_scan(answer):
            found.whole = False
            if prefix:
                found.segments.append(prefix)
            return found
        cursor = answer[0]
        for name in answer[1]:
            if not isinstance(name, bytes):
                continue
            if part := _NAME.fullmatch(name):
                found.parts.setdefault((part[1], part[2]), []).append(name)
            elif name.endswith(b"}") and b":" not in name.removeprefix(b"shmvar:") and name not in found.segments:
                found.segments.append(name)
        if cursor == b"0":
            found.segments.sort()
            return found


def examine(
    url: Url, found: Found, readonly: bool, told: Callable[[int, int], None]
) -> Iterator[tuple[bytes, Facts, list[Finding]]]:
    """Each segment, by its P: what is known of it, and findings. `readonly`: this user may only read."""
    from shmvar._remote.names import key_of
    from shmvar._remote.url import fragment_of

    for number, prefix in enumerate(found.segments):
        told(number, len(found.segments))
        key = key_of(prefix)
        if key is None:
            continue  # somebody else's
        public = f"{url.public.partition('#')[0]}#{fragment_of(key)}"
        named = dataclasses.replace(url, key=key, public=public)
        seen: Facts = {"key": key, "url": public, "info": None, "check": {"result": "not checked"}}
        findings = list(_of_segment(named, prefix, readonly, seen))
        if seen["check"]["result"] != "gone":
            yield prefix, seen, findings


def _of_segment(url: Url, prefix: bytes, readonly: bool, seen: Facts) -> Iterator[Finding]:
    from shmvar._remote.link import link_to
    from shmvar._remote.segment import find

    about = f"segment {seen['key']!r}"
    try:
        segment = find(url, link_to(url.server, prefix), seen["key"], readonly, False)
        report = segment.check()
        seen["check"] = {"result": "sound"}
        if report.undecided:
            seen["check"] = {"result": "not checked", "why": "it has more than 100,000 variables"}
        info = segment.info()
        seen["info"] = printing.facts(info) | printing.named(info)
        yield from nearly_full(about, seen["info"])
    except shmvar.SegmentNotFoundError:
        seen["check"] = {"result": "gone"}
    except shmvar.SegmentUnavailableError:
        raise
    except shmvar.CorruptSegmentError as error:
        seen["check"] = {"result": "damaged", "why": str(error)}
        removal = f"shmvar remove {quote(url.public)}"
        remedy = f"save what can still be read (shmvar show, get, copy), then clear() it, or {removal}"
        yield finding("problem", about, f"{error}; whoever reaches the server may have written this", remedy)
    except shmvar.IncompatibleSegmentError as error:
        seen["check"] = {"result": "not checked", "why": str(error)}
        remedy = "use the version of shmvar that made it, if one has; otherwise its owner knows what it is"
        yield finding("problem", about, str(error), remedy)
    except shmvar.Error as error:
        if seen["check"]["result"] != "sound":
            seen["check"] = {"result": "not checked", "why": str(error)}
        yield finding("warning", about, f"not seen as a whole: {error}", "run it as a user who may read the segment")


def leftovers(
    server: Server, url: Url, found: Found, sound: set[bytes], repair: bool
) -> Iterator[tuple[Facts, Finding]]:
    """What is left of segments that are gone, and chunks of large values that no variable has.

    `sound`: P of each segment whose list of large values was found to be right.
    """
    from shmvar._remote.link import link_to

    for (prefix, segment), parts in sorted(found.parts.items()):
        # In a cluster: to where its slot is now.
        server = Server(link_to(url.server, prefix), server.unseen)
        # Asked after the names were read: names with an id that is not that of the segment now belong to nobody.
        living = server.ask(b"HGET", prefix, b"id")
        if living == segment:
            what = "chunks of large values that no variable has"
            orphans = _orphans(server, prefix, segment, parts) if prefix in sound else []
        elif isinstance(living, bytes) or (living is None and server.ask(b"EXISTS", prefix) == 0):
            what, orphans = "keys of a segment that is gone", parts
        else:
            continue  # it cannot be seen, or its own key is damaged
        if not orphans:
            continue
        name = prefix.decode(errors="replace")
        seen = {"prefix": name, "id": segment.decode(), "keys": len(orphans), "removed": False}
        about, text = f"key {name}", f"{len(orphans)} {what}"
        if repair and _removed(server, orphans):
            seen["removed"] = True
            yield seen, finding("repaired", about, f"{text}: removed")
        else:
            remedy = (
                "run shmvar doctor as a user who may run UNLINK" if repair else "run shmvar doctor without --no-fix"
            )
            text = f"{text}: they take memory, and nobody is charged for them"
            yield seen, finding("problem", about, text, remedy)


def _orphans(server: Server, prefix: bytes, segment: bytes, parts: list[bytes]) -> list[bytes]:
    """The chunks among these names that stay, though no large value has them.

    SYNC: a chunk on its way has an expiry, and the change that makes it stay lists its value in the same instant. So
    whether it stays is asked first, and the list read afterwards: the other way round a value that is stored between
    the two would be taken for an orphan.
    """
    start = len(prefix) + len(segment) + 2
    chunks = [(name, chunk[1]) for name in parts if (chunk := _CHUNK.fullmatch(name[start:]))]
    staying = [(name, blob) for name, blob in chunks if server.ask(b"TTL", name) == -1]
    if not staying:
        return []
    known: set[bytes] = set()
    for name in (b"b", b"k"):  # large values of variables, and of items of queues
        listed = server.ask(b"HKEYS", b"%b:%b:%b" % (prefix, segment, name))
        if not isinstance(listed, list):
            return []
        known.update(blob for blob in listed if isinstance(blob, bytes))
    # One that was dropped before the list was read is gone by now.
    return [name for name, blob in staying if blob not in known and server.ask(b"TTL", name) == -1]


def _removed(server: Server, orphans: list[bytes]) -> bool:
    try:
        return all(
            server.ask(b"UNLINK", *orphans[first : first + _AT_ONCE]) is not UNSEEN
            for first in range(0, len(orphans), _AT_ONCE)
        )
    except shmvar.SegmentUnavailableError:
        return False  # it refuses every change at present: a replica, or a disk that is full


def _is_scan(answer: object) -> bool:
    """Whether it is an answer to SCAN: a cursor, and names."""
    return (
        isinstance(answer, list)
        and len(answer) == 2
        and isinstance(answer[0], bytes)
        and answer[0].isdigit()
        and isinstance(answer[1], list)
    )


def _literally(name: bytes) -> bytes:
    """A pattern that only this name fits."""
    return re.sub(rb"([\\*?\[\]^-])", rb"\\\1", name)
