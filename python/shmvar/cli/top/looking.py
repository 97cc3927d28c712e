"""Looks at the segments once. What cannot be looked at is a row that says why."""

import time
from collections.abc import Iterator
from typing import Any

import shmvar
from shmvar import _text
from shmvar._core import _activity, _first
from shmvar.cli import urls

LOOKED_AT = 1_000
"""So many variables of the selected segment are asked when they changed."""

CHANGED = 20
"""So many of them are told."""

Facts = dict[str, Any]
_remote: dict[str, Any] = {}  # segments on servers stay open: a connection costs much more than a look


def names(wanted: list[int | str]) -> list[Facts]:
    """What is known of each segment without attaching it: of all on this machine, or of those with a wanted key.

    The arguments of a `Row`. Whoever has looked at them one by one knows which one stopped it.
    """
    keys = [key for key in wanted if not urls.is_url(key)]
    found = []
    listed = shmvar.segments() if keys or not wanted else []
    for info in listed:
        if not wanted or info.key in keys:
            found.append(_of(info))
    there = {facts["key"] for facts in found}
    found += [_unlisted(key, listed) for key in keys if key not in there]
    for url in filter(urls.is_url, wanted):
        found.append({"name": url, "key": urls.shown(url), "state": "usable", "url": True})
    return found


def _unlisted(key: int | str, listed: list[shmvar.SegmentInfo]) -> Facts:
    """A wanted key that the list does not have: there is no such segment, or the list does not know its key.

    It knows no key of what this user may not read. The error of an attach names the file, as the list does.
    """
    try:
        if shmvar.exists(key):
            shmvar.attach(key, create=False, readonly=True, trust=False).detach()
            return {"name": repr(key), "key": key, "state": "usable"}  # made since the list was
    except shmvar.SegmentNotFoundError:
        pass
    except (shmvar.Error, OSError) as error:
        words = str(error).replace(",", " ").replace(";", " ").split()
        for info in listed:
            if info.key is None and f"/dev/shm/{info.name}" in words:
                return _of(info) | {"key": key}
        return {"name": repr(key), "key": key, "state": "refused", "why": _text.one_line(str(error))}
    return {"name": repr(key), "key": key, "state": "missing", "why": "no segment has this key"}


def _of(info: shmvar.SegmentInfo) -> Facts:
    facts: Facts = {"name": info.name, "key": info.key, "state": info.state, "why": info.why, "uid": info.uid}
    facts |= {"perm": info.perm, "created_at": info.created_at, "resident": info.resident}
    if info.state == "usable":
        facts |= {"count": info.count, "used": info.used, "size": info.size, "processes": info.attached}
        facts["evicts"] = info.evict is not None
    return facts


def activity(facts: Facts) -> Facts:
    """What only an attached process sees; or why it does not."""
    try:
        if facts.get("url"):
            return _on_server(facts["name"])
        with shmvar.attach(facts["key"], create=False, readonly=True, trust=False) as segment:
            return _seen(_activity(segment))
    except Exception as error:  # of whatever kind: the others are shown all the same
        why: Facts = {"why": urls.shown(_text.one_line(str(error) or type(error).__name__))}
        if facts.get("url"):
            why["state"] = "missing" if isinstance(error, shmvar.SegmentNotFoundError) else "refused"
        return why


def _seen(found: Facts) -> Facts:
    same = {name: found[name] for name in ("count", "used", "size", "resident", "changes", "waiting", "held", "spare")}
    same |= {"evicted": found["evicted"], "writer": found["writer"], "processes": len(found["participants"])}
    return same | {"seen_at": time.monotonic()}


def _on_server(url: str) -> Facts:
    try:
        if url not in _remote:
            _remote[url] = shmvar.attach(url, create=False, readonly=True, trust=False)
        info = _remote[url].info()
    except Exception:
        gone = _remote.pop(url, None)
        if gone is not None:
            gone.detach()
        raise
    facts = {name: getattr(info, name) for name in ("count", "used", "size", "created_at")}
    return facts | {"resident": info.resident or None}  # a reader may not be told


def details(facts: Facts) -> Facts:
    """The arguments of `Details`. Parts that might have to wait for a writer are left out while there is one."""
    found: Facts = {"name": facts["name"]}
    if facts.get("url") or facts["state"] != "usable":
        return found
    try:
        with shmvar.attach(facts["key"], create=False, readonly=True, trust=False) as segment:
            seen = _activity(segment)
            found["processes"] = [
                (each["pid"], command_of(each["pid"]), each["attached_at"]) for each in seen["participants"]
            ]
            if seen["writer"] is not None and _activity(segment)["writer"] is not None:
                found["note"] = f"process {seen['writer']} changes it at this moment"
                return found
            info = segment.info()
            found["locks"] = list(info.locks.items())
            found["queues"] = [(name, queue["waiting"], queue["held"]) for name, queue in info.queues.items()]
            found["changed"] = list(_latest(segment, set(_first(segment, LOOKED_AT)[0])))
    except Exception as error:
        found["note"] = _text.one_line(str(error) or type(error).__name__)
    return found


def _latest(segment: shmvar.Segment, indexes: set[int | str]) -> Iterator[tuple[int | str, str, int]]:
    """Of these variables those that changed last, the latest first: versions grow with every change of a segment."""
    versions = sorted(((segment.version(index), index) for index in indexes), key=lambda found: -found[0])
    for number, index in versions[:CHANGED]:
        try:
            yield index, segment.stat(index).type, number
        except (KeyError, shmvar.Error):
            continue


def command_of(pid: int) -> str:
    """The name of a process's program. A pid of another pid namespace may be that of somebody else here."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="backslashreplace") as file:
            return _text.one_line(file.read().removesuffix("\n"))
    except OSError:
        return "?"
