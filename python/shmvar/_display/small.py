"""The displays of what is smaller than a segment: facts about one, about a variable, a report, a lock, a queue."""

from __future__ import annotations

import datetime
import sys

from shmvar import _core, _text
from shmvar._display import facts as facts_of_segments
from shmvar._display import head
from shmvar._display.elements import LONGEST_NAME, Html, badge, code, element, fact, facts, joined, message, name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def of(object: Any) -> Html | None:
    """The display of one of these objects; None for anything else."""
    made = _MAKERS.get(type(object))
    for module, class_, maker in _OF_SERVERS:
        kind = getattr(sys.modules.get(module), class_, None)
        if kind is not None and isinstance(object, kind):
            made = maker
    return None if made is None else made(object)


def _segment_info(info: Any) -> Html:
    said = [name("segment", f"/dev/shm/{info.name}" if info.key is None else repr(info.key))]
    if info.state != "usable":
        line = element("div", *said, badge(info.state, warning=True), info.why or "", class_="sv-line")
        return joined(line, facts([("memory", _text.size(info.resident)), ("owner", f"user {info.uid}")]))
    said += [fact(head.plural(info.count, "variable")), head.used(info.used, info.size)]
    pairs = [
        ("free", _bytes(info.free)),
        ("longest bytes that fit", _bytes(info.largest_put)),
        ("memory", f"{_bytes(info.resident)}; held by views {_bytes(info.held)}, free and warm {_bytes(info.spare)}"),
        ("mode, owner", f"{info.perm:03o}, user {info.uid}"),
        ("attached for writing", head.plural(info.attached, "process", "processes")),
        ("created", time(info.created_at)),
        ("evicts", f"{info.evict}: {_text.number(info.evicted)} so far" if info.evict else "nothing"),
    ]
    if info.why is not None:
        pairs.append(("note", _text.one_line(info.why)))
    return joined(
        element("div", *head.spaced(said), class_="sv-line"), *head.others(info.locks, info.queues), facts(pairs)
    )


def _variable_info(info: Any) -> Html:
    expires = "stays" if info.expires_in is None else f"in {_text.seconds(info.expires_in)}"
    return facts(
        [
            ("type", code(info.type, 120)),
            ("size", _bytes(info.size)),
            ("version", _text.number(info.version)),
            ("expires", expires),
            ("view() copies", "less than 16 KiB" if info.viewable else "the value, in part or whole"),
            ("in place", "yes: processes change it where it lies" if info.in_place else "no"),
        ]
    )


_REPORT = {
    "variables": "variables",
    "used": "charged for them",
    "slots": "slots of the table",
    "tombstones": "of these, removed",
    "locks": "named locks held",
    "zones": "zones in use",
    "slabs": "slabs of short values",
    "blocks": "short values in them",
    "live": "spans of long values",
    "busy": "spans being filled or freed",
    "retired": "spans still in view",
    "free": "free spans",
    "living": "processes attached for writing",
    "dead": "dead processes not cleaned up",
    "undecided": "not comparable, because of changes",
}


def _check_report(report: Any) -> Html:
    counts = report._asdict()
    undecided = counts["undecided"]
    said = "no damage found" if not undecided else f"no damage found; {_text.number(undecided)} could not be compared"
    pairs = [
        (told, _bytes(counts[name]) if name == "used" else _text.number(counts[name]))
        for name, told in _REPORT.items()
        if name in counts
    ]
    return joined(element("div", badge("checked"), said, class_="sv-line"), facts(pairs))


def _lock(lock: Any) -> Html:
    def state() -> str:
        if not lock.locked():
            return "free"
        owner = facts_of_segments.named(lock.segment)[0].get(lock.name)
        here = isinstance(lock.segment, _core.Segment)
        return "held" if owner is None else f"held by {head.process(owner) if here else f'process {owner}'}"

    pairs = [("of", _segment_name(lock.segment)), ("state", _asked(lock.segment, state))]
    pairs.append(("timeout", "none: waits without end" if lock.timeout is None else _text.seconds(lock.timeout)))
    return joined(element("div", name("lock", repr(lock.name)), class_="sv-line"), facts(pairs))


def _queue(queue: Any) -> Html:
    def items() -> str:
        most = f" of {_text.number(queue.maxsize)}" if queue.maxsize > 0 else ""
        said = f"{head.plural(queue.qsize(), 'item')}{most} waiting"
        found = facts_of_segments.named(queue.segment)[1].get(queue.name)
        return f"{said}, {_text.number(found['held'])} taken, {_text.size(found['used'])} charged" if found else said

    pairs = [("of", _segment_name(queue.segment)), ("items", _asked(queue.segment, items))]
    return joined(element("div", name("queue", repr(queue.name)), class_="sv-line"), facts(pairs))


def _asked(segment: Any, question: Callable[[], str]) -> str:
    """The answer, or why there is none."""
    try:
        return facts_of_segments.asked(segment, question)
    except Exception as error:
        return message(error)


def _segment_name(segment: Any) -> Html:
    here = isinstance(segment, _core.Segment)
    return joined("segment ", code(repr(segment.key) if here else segment.url, LONGEST_NAME))


def _bytes(number: int) -> str:
    exact = f"{_text.number(number)} bytes"
    return exact if number < 1024 else f"{_text.size(number)} ({exact})"


def time(timestamp: float) -> str:
    """A local time, from seconds since 1970, to the minute."""
    return datetime.datetime.fromtimestamp(timestamp).isoformat(" ", "minutes")


_MAKERS: dict[type, Callable[[Any], Html]] = {
    _core.SegmentInfo: _segment_info,
    _core.VariableInfo: _variable_info,
    _core.CheckReport: _check_report,
    _core.Lock: _lock,
    _core.Queue: _queue,
}
# Whoever has such an object has imported its module; nobody else needs it.
_OF_SERVERS = (
    ("shmvar._remote.locks", "RemoteLock", _lock),
    ("shmvar._remote.queue", "RemoteQueue", _queue),
)
