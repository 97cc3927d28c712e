"""The head line of a segment: what it is called, how full it is, and who may do what; the second line warns."""

from __future__ import annotations

import os

from shmvar import _text
from shmvar._core import Segment
from shmvar._display.elements import Html, badge, bar, element, fact, joined, message, name, quiet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from shmvar._display.facts import Facts

_MOST_NAMES = 5
"""Locks and queues that are named."""
_TOLD = {
    "detached": "this handle was detached: attach again",
    "destroyed": "it has no key any more, and a new attach makes a new segment; this handle still reads and writes",
}


def of(segment: Any, facts: Facts, handle: bool = True) -> Html:
    """The head line, and what else has to be said before the table; with `handle`, also of the handle."""
    here = isinstance(segment, Segment)
    said = [name("segment", repr(segment.key) if here else segment.url)]
    if facts.numbers is not None:
        said += [fact(plural(facts.total, "variable")), used(facts.numbers["used"], facts.numbers["size"])]
        said += _rights(segment, facts.numbers) if here else []
    if facts.state != "detached":
        said.append(_trust(segment))
        if segment.readonly and handle:
            said.append(badge("read-only", title="this handle can only read"))
    lines = [element("div", *spaced(said), class_="sv-line")]
    if facts.state:
        told = _TOLD.get(facts.state) or (message(facts.why) if facts.why else "")
        lines.append(element("div", badge(facts.state, warning=True), told, class_="sv-line"))
    return joined(*lines, *others(facts.locks, facts.queues))


def used(part: int, whole: int) -> Html:
    """How much of a size is used: a bar and the numbers."""
    share = f"{100 * part / whole:.0f} %" if whole else "0 %"
    numbers = f"{_text.size(part)} of {_text.size(whole)}"
    return fact(bar(part, whole, f"{numbers} used, {share}"), f"{numbers} ({share})")


def spaced(parts: list[Html]) -> list[Html]:
    """With spaces between, which are all that separates them where there is no style sheet."""
    return [Html(" " + part) if at else part for at, part in enumerate(parts)]


def plural(number: int, thing: str, things: str = "") -> str:
    """A number of things."""
    return f"{_text.number(number)} {thing if number == 1 else things or thing + 's'}"


def _rights(segment: Segment, numbers: dict[str, Any]) -> list[Html]:
    said = [fact(f"mode {numbers['perm']:03o}", title="who may read and write, as for a file")]
    if numbers["uid"] != os.geteuid():
        said.append(badge(f"of user {numbers['uid']}", title="the segment belongs to another user"))
    processes = numbers["participants"]
    pids = ", ".join(str(process["pid"]) for process in processes[:_MOST_NAMES])
    pids += ", …" if len(processes) > _MOST_NAMES else ""
    pids = f"for writing: {pids}" if pids else "for writing; who only reads is not known"
    said.append(fact(f"{plural(len(processes), 'process', 'processes')} attached", title=pids))
    if segment.evict:
        said.append(badge(f"evicts: {segment.evict}", title=f"{plural(numbers['evicted'], 'variable')} evicted so far"))
    return said


def _trust(segment: Any) -> Html:
    if segment.trusted:
        return badge("trusted", title="get() may run code of a value; this display never does")
    return badge("not trusted", title="only plain data is read from it")


def others(locks: dict[int | str, int], queues: dict[int | str, dict[str, int]]) -> list[Html]:
    """Locks that are held, and queues that have items."""
    lines = []
    if locks:
        named = [f"{_name(name)} by {process(pid)}" for name, pid in _some(locks)]
        lines.append(_line("locks held", named, len(locks)))
    if queues:
        named = [
            f"{_name(name)}: {plural(queue['waiting'], 'item')} waiting, {_text.number(queue['held'])} taken"
            for name, queue in _some(queues)
        ]
        lines.append(_line("queues", named, len(queues)))
    return lines


def process(pid: int) -> str:
    """A process of this machine: a number says nothing to somebody who does not know the one of the kernel."""
    return f"this process (pid {pid})" if pid == os.getpid() else f"process {pid}"


def _some(named: dict[int | str, Any]) -> list[tuple[int | str, Any]]:
    return [item for item, _ in zip(named.items(), range(_MOST_NAMES), strict=False)]


def _name(name: int | str) -> str:
    return _text.cut(_text.one_line(repr(name)), 40)


def _line(title: str, named: list[str], total: int) -> Html:
    more = f", … {_text.number(total - len(named))} more" if total > len(named) else ""
    return element("div", quiet(f"{title} "), ", ".join(named) + more, class_="sv-line")
