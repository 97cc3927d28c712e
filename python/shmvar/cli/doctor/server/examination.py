"""Looks at a server and the segments on it, and collects facts and findings."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

import shmvar
from shmvar.cli import printing
from shmvar.cli.doctor.findings import finding
from shmvar.cli.doctor.server import facts, judgement, others, rights, segments
from shmvar.cli.doctor.server.asking import Server, refused_only

if TYPE_CHECKING:
    from shmvar._remote.url import Url
    from shmvar.cli.doctor.findings import Facts, Finding

_NOBODYS = "doctor"
"""The key of a segment, to ask for rights where the URL names none."""


def examine(text: str, repair: bool) -> Facts:
    """Everything there is to say of the server of a URL, or of the segment that the URL names, as plain data.

    `repair`: also removes what is left of segments that are gone.
    """
    from shmvar._remote.link import link_to
    from shmvar._remote.names import checked_key
    from shmvar._remote.url import parse

    url = parse(text)
    # Whoever looks once needs no cache of it.
    url = dataclasses.replace(url, server=dataclasses.replace(url.server, near=0))
    if url.key is not None:
        checked_key(url.key)
    found: Facts = {
        "shmvar": shmvar.__version__,
        "looked_at": time.time(),
        "url": url.public,
        "healthy": False,
        "server": None,
        "others": [],
        "rights": None,
        "segments": [],
        "leftovers": [],
        "unseen": [],
        "findings": [],
    }
    server = Server(link_to(url.server))
    try:
        _knock(server)
        _look(server, url, repair, found)
    except (shmvar.Error, OSError) as error:
        found["findings"].append(_of_error(server, error))
    found["unseen"] = server.unseen
    found["healthy"] = not any(one["level"] == "problem" for one in found["findings"])
    return found


def _knock(server: Server) -> None:
    """Raises where the server cannot be reached, or does not let us in."""
    try:
        server.link.call(b"PING")
    except shmvar.SegmentAccessError as error:
        if not refused_only(error):
            raise


def _look(server: Server, url: Url, repair: bool, found: Facts) -> None:
    from shmvar._remote.link import link_to, links_to_all
    from shmvar._remote.names import prefix_of

    prefix = None if url.key is None else prefix_of(url.key)
    links = links_to_all(url.server) if prefix is None else [link_to(url.server, prefix)]
    primaries = [Server(link, server.unseen) for link in links]
    for primary in primaries:
        seen = _of_one(primary, url, found["findings"])
        if found["server"] is None:
            found["server"] = seen
        else:
            found["others"].append(seen)
        if seen["mode"] == "sentinel":
            return
    may = found["rights"] = rights.survey(primaries[0], prefix or prefix_of(_NOBODYS))
    cluster = found["server"]["cluster"] is not None
    found["findings"] += judgement.of_rights(may, server.user, url.server, cluster)
    if may["lacking"] is not None:
        for primary in primaries:
            _segments_of(primary, url, prefix, may["readonly"], repair, found)
        if prefix and not found["segments"]:
            text = f"there is no segment {url.public}"
            found["findings"].append(finding("problem", f"segment {url.key!r}", text, "attach makes it"))


def _of_one(server: Server, url: Url, findings: list[Finding]) -> Facts:
    """Facts about one primary, with its replicas."""
    seen = facts.survey(server)
    seen["clock"] = others.ahead(server.link)
    others.of_replicas(server, seen["replicas"])
    findings += judgement.findings(seen, url.server)
    return seen


def _segments_of(server: Server, url: Url, prefix: bytes | None, readonly: bool, repair: bool, found: Facts) -> None:
    """The segments of one primary, and what is left there of others."""
    names, sound = segments.names(server, prefix), set()
    with printing.progress("segments") as told:
        for own, segment, more in segments.examine(url, names, readonly, told):
            found["segments"].append(segment)
            found["findings"] += more
            if segment["check"]["result"] == "sound":
                sound.add(own)
    repair = repair and found["server"]["role"] != "replica"
    for left, one in segments.leftovers(server, url, names, sound, repair):
        found["leftovers"].append(left)
        found["findings"].append(one)


def _of_error(server: Server, error: Exception) -> Finding:
    """Why nothing more could be seen. The text of an error of the package names the remedies itself."""
    text, _, remedy = str(error).partition(" Remedies: ")
    if not remedy:
        match error:
            case shmvar.SegmentUnavailableError():
                remedy = "start the server (systemctl start valkey-server), or put host, port and firewall right"
            case shmvar.IncompatibleSegmentError():
                remedy = "the address of a Valkey, or of a Redis 7.0 or newer"
            case _:
                remedy = "put the URL right"
    return finding("problem", f"server {server.link.place}", text, remedy)
