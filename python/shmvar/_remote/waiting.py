"""Waiting for variables to change: `wait`, `wait_any`, `changed` and `changed_any`. docs/remote.md, "Waiting".

`_course` is the protocol, which neither sleeps nor reads: it says what is to be done next. A thread and a task do it
in their own ways.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping as AnyMapping

from shmvar._errors import WaitTimeoutError
from shmvar._remote import scripts
from shmvar._remote.arguments import float_of, version_of
from shmvar._remote.connections import now
from shmvar._remote.handle import Handle
from shmvar._remote.listener import listener_of
from shmvar._remote.names import field_of, plain_index, shown
from shmvar._remote.notices import DEADLINE, REMOVED, STORED, notice_of
from shmvar._remote.records import Record
from shmvar._remote.subscription import LOOK, TaskSignal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator, Iterable, Sequence
    from typing import Any, SupportsIndex

    from shmvar._remote.subscription import Subscription, _Signal

    _Index = SupportsIndex | str
    _Found = tuple[int, int] | None
    """The place of an index among those waited for, and its version. None: the time is over."""
    _Course = Generator[tuple[str, float], Any, _Found]

_CHANNELS = 1000
"""Who waits for more variables than this is told of every change of the segment instead."""
_SLICE = 1.0
"""Seconds after which a wait sees that its handle was detached."""
_PAUSE, _PAUSE_TIMES, _LONGEST_PAUSE = 0.002, 20, 0.1
"""Seconds between two looks in vain, or so many times what one took: batches may come all the time."""
_IMPOSSIBLE = -1
"""A version that no variable has."""


class Waiting(Handle):
    """The part of `RemoteSegment` that waits."""

    __slots__ = ()

    def wait(self, index: _Index, timeout: float | None = None, *, newer_than: int | None = None) -> int:
        plain, limit = plain_index(index), timeout_of(timeout)
        found = self._wait([plain], [seen_of(newer_than)], limit)
        if found is None:
            raise _late(plain, limit)
        return found[1]

    def wait_any(
        self,
        indices: Iterable[_Index],
        timeout: float | None = None,
        *,
        newer_than: AnyMapping[Any, int | None] | None = None,
    ) -> tuple[int | str, int]:
        plain, seen = _several(indices, newer_than)
        limit = timeout_of(timeout)
        found = self._wait(plain, seen, limit)
        if found is None:
            raise _late_any(plain, limit)
        return plain[found[0]], found[1]

    def changed(
        self, index: _Index, timeout: float | None = None, *, newer_than: int | None = None
    ) -> Coroutine[Any, Any, int]:
        plain, limit, seen = plain_index(index), timeout_of(timeout), seen_of(newer_than)
        # What counts is the version at this moment, not the one when the result is awaited.
        counts = self._versions([plain])[0][0] if seen is None else seen
        return self._changed(plain, limit, counts)

    def changed_any(
        self,
        indices: Iterable[_Index],
        timeout: float | None = None,
        *,
        newer_than: AnyMapping[Any, int | None] | None = None,
    ) -> Coroutine[Any, Any, tuple[int | str, int]]:
        plain, seen = _several(indices, newer_than)
        limit = timeout_of(timeout)
        if None in seen:
            there = self._versions(plain)[0]
            seen = [version if one is None else one for one, version in zip(seen, there, strict=True)]
        return self._changed_any(plain, limit, seen)

    async def _changed(self, plain: int | str, limit: float | None, seen: int) -> int:
        found = await self._wait_in_task([plain], [seen], limit)
        if found is None:
            raise _late(plain, limit)
        return found[1]

    async def _changed_any(
        self, plain: list[int | str], limit: float | None, seen: list[int | None]
    ) -> tuple[int | str, int]:
        found = await self._wait_in_task(plain, seen, limit)
        if found is None:
            raise _late_any(plain, limit)
        return plain[found[0]], found[1]

    # --- the two ways to do what `_course` says

    def _wait(self, plain: list[int | str], seen: list[int | None], limit: float | None) -> _Found:
        end = math.inf if limit is None else now() + limit
        if limit == 0:
            return self._known(plain, _differing(seen, self._versions(plain)[0]))
        with self._subscribed(plain) as subscription:
            course = self._course(plain, seen, subscription, end)
            answer: Any = None
            try:
                while True:
                    what, until = course.send(answer)
                    if what == "look":
                        answer = self._versions(plain)
                    elif what == "stand":
                        answer = subscription.stands(until)
                    elif what == "hear":
                        self._open  # noqa: B018 - it raises DetachedError
                        answer = subscription.wait(min(until, now() + _SLICE))
                    else:
                        time.sleep(max(until - now(), 0))
            except StopIteration as stop:
                return self._known(plain, stop.value)

    async def _wait_in_task(self, plain: list[int | str], seen: list[int | None], limit: float | None) -> _Found:
        end = math.inf if limit is None else now() + limit
        loop = asyncio.get_running_loop()

        def look() -> Any:
            return loop.run_in_executor(None, self._versions, plain)

        if limit == 0:
            return self._known(plain, _differing(seen, (await look())[0]))
        signal = TaskSignal(loop)
        with self._subscribed(plain, signal) as subscription:
            course = self._course(plain, seen, subscription, end)
            answer: Any = None
            try:
                while True:
                    what, until = course.send(answer)
                    if what == "look":
                        # The loop must not stand still while a server does not answer.
                        answer = await look()
                    elif what == "stand":
                        while not (answer := subscription.ready()) and now() < until:
                            await signal.wait(until - now())
                    elif what == "hear":
                        self._open  # noqa: B018 - it raises DetachedError
                        until = min(until, now() + _SLICE)
                        while (answer := subscription.poll()) == [] and now() < until:
                            await signal.wait(until - now())
                    else:
                        await asyncio.sleep(max(until - now(), 0))
            except StopIteration as stop:
                return self._known(plain, stop.value)

    def _known(self, plain: Sequence[int | str], found: _Found) -> _Found:
        """Before the caller is told of a version: the near cache must have nothing older."""
        if found is not None and self._near is not None:
            self._near.told(plain[found[0]], found[1])
        return found

    def _subscribed(self, plain: Sequence[int | str], signal: _Signal | None = None) -> Subscription:
        data = self._requests.data
        if len(plain) > _CHANNELS:
            names = [data + b"w"]
        else:
            names = [data + b"*", *(data + b"c:" + field_of(index) for index in dict.fromkeys(plain))]
        return listener_of(self._open).subscribe(names, signal=signal)

    def _versions(self, plain: Sequence[int | str]) -> tuple[list[int], float | None]:
        """The versions of variables, 0 of those that are missing, and the seconds until the first of them expires."""
        if len(plain) == 1:
            found = self._record(plain[0])
            return ([0], None) if found is None else ([found[0].version], found[1])
        requests, link = self._requests, self._open
        fields = [field_of(index) for index in plain]
        answer = link.script(
            scripts.VERSIONS, requests.keys[:2], (requests.id, b"of", *fields), link.waited(), self._readonly
        )
        if answer == b"g":
            raise requests.gone()
        records = [None if head is None else Record(index, head) for index, head in zip(plain, answer[1:], strict=True)]
        ends = [record.deadline for record in records if record is not None and record.deadline is not None]
        left = max(min(ends) - answer[0], 0) / 1e6 if ends else None
        return [0 if record is None else record.version for record in records], left

    # --- the protocol

    def _course(
        self, plain: list[int | str], seen: list[int | None], subscription: Subscription, end: float
    ) -> _Course:
        """What is to be done next: "stand", "look", "hear" or "pause", and until when. Returns what was found.

        SYNC: the subscription stands before the look, so that whatever is published after the look is heard.
        """
        places: dict[bytes, int] = {}
        for place, index in enumerate(plain):
            places.setdefault(field_of(index), place)
        standing = subscription.standing
        if None not in seen:
            standing = yield "stand", min(end, now() + LOOK)
        in_vain = False
        # In a chain of waits, the last message tells what a look would: that there is nothing new.
        skips = standing and len(plain) == 1 and _is_last(subscription.last(), seen[0])
        while True:
            began = now()
            if skips:
                versions, left, skips = [seen[0] or 0], None, False
            else:
                versions, left = yield "look", 0
                subscription.looked()
            seen = [version if one is None else one for one, version in zip(seen, versions, strict=True)]
            found = _differing(seen, versions)
            if found is not None:
                return found
            looked = now()
            expires = math.inf if left is None else looked + left
            again = not standing
            while not again:
                heard = yield "hear", min(end, expires)
                if heard:
                    found, again = self._told(heard, places, versions)
                    if found is not None:
                        return found
                    if again and in_vain:
                        least = max(_PAUSE, _PAUSE_TIMES * (looked - began))
                        yield "pause", min(looked + min(least, _LONGEST_PAUSE), end)
                    in_vain = again
                elif heard is None or now() >= expires:
                    again, in_vain = True, False
                elif now() >= end:
                    # Nothing has changed as far as the server could say so.
                    again = not subscription.standing
                    if not again:
                        return None
            if looked >= end:
                return None
            standing = yield "stand", min(end, now() + LOOK)

    def _told(
        self, heard: Sequence[tuple[bytes, bytes]], places: dict[bytes, int], versions: list[int]
    ) -> tuple[_Found, bool]:
        """What messages say of the variables: a change of one, and whether they have to be looked at."""
        begin = len(self._requests.data)
        changes: dict[int, int] = {}
        again = False
        for channel, data in heard:
            name = channel[begin:]
            notice = notice_of(data)
            field = name[2:] if name[:2] == b"c:" else notice and notice.field
            if name == b"*" or notice is None or field == b"*":
                again = True
                continue
            place = places.get(field) if field else None
            if place is None:
                continue
            if notice.kind == DEADLINE or (versions[place] == 0 and place not in changes):
                # Whether a version is newer than a removal, only a look can tell.
                again = True
            elif notice.version > versions[place]:
                # It was made after the look, for versions grow.
                changes[place] = 0 if notice.kind == REMOVED else notice.version
        if changes:
            place = min(changes)
            return (place, changes[place]), again
        return None, again


def timeout_of(timeout: Any) -> float | None:
    """The longest time to wait, in seconds. None: without end."""
    if timeout is None:
        return None
    seconds = float_of(timeout)
    if not seconds >= 0:
        raise ValueError(f"timeout must be None or at least 0 seconds, not {seconds:g}")
    # More than a clock can count is without end.
    return seconds if seconds < 1e18 else None


def seen_of(version: Any) -> int | None:
    """A version that a caller has seen. None: the one that there is now."""
    if version is None:
        return None
    text = version_of(version)
    return _IMPOSSIBLE if text is None else int(text)


def mapping_of(newer_than: Any) -> AnyMapping[Any, Any]:
    """The versions that a caller has seen, of some indexes."""
    if not isinstance(newer_than, AnyMapping):
        name = type(newer_than).__name__
        raise TypeError(f"newer_than must be a dict of indexes and their versions, not {name}")
    return newer_than


def _several(indices: Any, newer_than: Any) -> tuple[list[int | str], list[int | None]]:
    if isinstance(indices, str):
        shown = repr(indices)[:40]
        raise TypeError(f"indices must be an iterable of indexes, not a str: for one index write [{shown}]")
    plain = [plain_index(index) for index in indices]
    if not plain:
        raise ValueError("indices is empty: there is nothing to wait for")
    if newer_than is None:
        return plain, [None] * len(plain)
    seen: list[int | None] = []
    named = mapping_of(newer_than)
    for index in plain:
        # A dict makes no item for a key that it has not, whatever its class does elsewhere.
        try:
            version = dict.get(named, index) if isinstance(named, dict) else named[index]
        except KeyError:
            version = None
        seen.append(seen_of(version))
    return plain, seen


def _differing(seen: Sequence[int | None], versions: Sequence[int]) -> _Found:
    """The first place where a version is not the one that was seen."""
    for place, (one, version) in enumerate(zip(seen, versions, strict=True)):
        if one is not None and one != version:
            return place, version
    return None


def _is_last(data: bytes, seen: int | None) -> bool:
    """Whether a message says that a variable has this version, and no deadline."""
    notice = notice_of(data)
    return notice is not None and notice.kind == STORED and notice.version == seen and notice.deadline is None


def _shown(index: int | str) -> str:
    """The beginning of a name, among those of several."""
    text = shown(index)
    return text if len(text) <= 40 else f"{text[:40]}…"


def _late(index: int | str, limit: float | None) -> WaitTimeoutError:
    return WaitTimeoutError(f"index {shown(index)} did not change within {limit or 0:g} s")


def _late_any(plain: Sequence[int | str], limit: float | None) -> WaitTimeoutError:
    names = ", ".join(_shown(index) for index in plain[:3])
    more = f" and {len(plain) - 3} more" if len(plain) > 3 else ""
    return WaitTimeoutError(f"none of the indexes {names}{more} changed within {limit or 0:g} s")
