"""Reads of the other servers, replicas and nodes of a cluster, and compares the clocks."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Any

import shmvar
from shmvar.cli.doctor.server.asking import Server

if TYPE_CHECKING:
    from shmvar._remote.link import Link
    from shmvar.cli.doctor.server.facts import Facts

_PATIENCE = 3.0
"""Seconds for a server that nobody but the doctor has to reach."""


def ahead(link: Link) -> Facts | None:
    """By how many seconds a server's clock is ahead of this machine's, and how exactly that is known. None: unseen."""
    best: Facts | None = None
    for _ in range(3):
        before, began = time.time(), time.monotonic()
        try:
            answer = link.call(b"TIME")
        except shmvar.Error:
            return None
        took = time.monotonic() - began
        if not (isinstance(answer, list) and len(answer) == 2 and all(_digits(part) for part in answer)):
            return None
        there = int(answer[0]) + int(answer[1]) / 1e6
        if best is None or took / 2 < best["within"]:
            best = {"ahead": there - (before + took / 2), "within": took / 2}
    return best


def of_replicas(server: Server, replicas: list[Facts]) -> None:
    """Adds `clock` to each replica, and `reached`: whether it could be asked, as this user and from this machine."""
    for replica in replicas:
        replica["clock"] = None
        replica["reached"] = False
        host, port = replica["host"], replica["port"]
        if host and port:
            link = another(server.link, host, port)
            replica["clock"] = ahead(link)
            replica["reached"] = replica["clock"] is not None
            link.close()


def another(link: Link, host: str, port: int) -> Link:
    """A link to another server, as the same user."""
    from shmvar._remote.link import Link

    known: Any = link.server
    patience = min(known.timeout, _PATIENCE)
    return Link(
        dataclasses.replace(known, hosts=((host, port),), path="", sentinel=None, acks=0, fsync=False, timeout=patience)
    )


def _digits(part: object) -> bool:
    return isinstance(part, bytes) and part.isdigit() and len(part) <= 12
