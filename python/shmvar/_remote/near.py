"""A near cache: reads of a segment on a server from the memory of this machine. docs/remote.md, "Near cache".

A process has one for each segment and kind of trust; handles share it. Its thread is in `near_listener`.
"""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
import weakref
from array import array
from time import CLOCK_BOOTTIME, clock_gettime

from shmvar._core import _decode_value, _encode_value
from shmvar._remote.link import generation
from shmvar._remote.names import field_of, plain_index
from shmvar._remote.near_listener import Follower
from shmvar._remote.near_memory import ALIVE, CONTROL, EPOCH, HEARD, LEAST, Memory, NoMemory, key_of, memory_of
from shmvar._remote.owners import held_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from shmvar._remote.link import Link
    from shmvar._remote.numbered import Requests
    from shmvar._remote.owners import Held
    from shmvar._remote.records import Record
    from shmvar._remote.url import Url

    # The first argument is the handle. Its class stands above this file.
    _Find = Callable[[Any, Any], "tuple[Any] | None"]
    _Ticket = tuple[float, float] | None


class Near:
    """The near cache of this process for one segment. Any thread may use it.

    Only what can be wanted often is quick: `find` is made anew for each local segment, so that a hit looks nothing up.
    """

    def __init__(self, link: Link, requests: Requests, url: Url, trusted: bool) -> None:
        self._held: Held = held_of(requests.data)
        self._link, self._requests = link, requests
        memory = memory_of(key_of(url, requests.data, trusted), url.server.near)
        if isinstance(memory, NoMemory):
            warnings.warn(f"{requests.name} has no near cache now: {memory.why}", RuntimeWarning, stacklevel=4)
        self._use(memory)
        self._begin(memory)
        try:
            self._follower.check()
        except BaseException:
            self._end()
            raise
        self._follower.start()

    def _use(self, memory: Memory | NoMemory) -> None:
        self.memory = memory
        segment = memory.segment
        get, view = (None, None) if segment is None else (segment.get, segment.view)
        self.find: _Find = _finder(get, memory, self._held, fetched)
        """The value of an index that the caller gave, in a tuple; None if it is missing."""
        self.hit: _Find = _finder(get, memory, self._held, _nothing)
        """The same; None where the server would have to be asked."""
        self._viewed = _finder(view, memory, self._held, _fetched_to_view)

    def _begin(self, memory: Memory | NoMemory) -> None:
        self._made_in = generation()
        near = weakref.ref(self)

        def use(another: Memory | NoMemory) -> None:
            if (found := near()) is not None:
                found._use(another)

        # The thread must not keep the cache: it ends with the last handle.
        self._follower = Follower(self._link, self._requests, memory, use)
        self._end = weakref.finalize(self, _let_go, self._follower)

    def view(self, handle: Any, index: Any) -> tuple[Any] | None:
        """As `find`, but read-only, and without a copy where the value is large."""
        found = self._viewed(handle, index)
        if found is not None and isinstance(found[0], bytes | bytearray | array):
            return (memoryview(found[0]).toreadonly(),)
        return found

    def begin(self) -> _Ticket:
        """Before the server is asked: what an entry of its answer will be of. None: nothing is cached now."""
        if self._made_in != generation():
            # A forked child has no thread yet.
            self._made_in = generation()
            self._end.detach()
            self._begin(self.memory)
            self._follower.start()
        words = self.memory.words
        # SYNC: the epoch before what was heard in it.
        epoch = words[EPOCH]
        return (epoch, words[HEARD]) if epoch and words[ALIVE] > clock_gettime(CLOCK_BOOTTIME) else None

    def keep(self, ticket: _Ticket, index: int | str, record: Record, value: Any) -> None:
        """Stores what the server has answered, whose floor was raised already."""
        memory = self.memory
        if ticket is None or record.deadline is not None or index == CONTROL:
            return
        if record.charged(index) > memory.size >> 1:
            return
        entry = (ticket[0], max(ticket[1], float(record.version)), memory.floor_of(index), value)
        # Whatever it is that cannot be pickled again, or has no room: it is read from the server the next time, too.
        with contextlib.suppress(Exception):
            memory.segment.put(index, entry)

    def seen(self, index: int | str, version: int) -> None:
        """Before a version that was read, or written, is known to the caller: nobody shall read an older one."""
        memory = self.memory
        memory.raise_floor(memory.floor_of(index), version)

    def told(self, index: int | str, version: int) -> None:
        """The same of a version that somebody was told of who waited; 0: it was removed."""
        if version:
            self.seen(index, version)
        else:
            # At a version that a waiter does not get to know.
            self.memory.void_all()

    def changed(self, index: int | str, op: bytes, answer: bytes) -> None:
        """A change of this process was answered: see single.lua."""
        if answer[:1] == b"o":
            version = int(answer.rpartition(b" ")[2] if op == b"add" else answer[1:])
            # Another deadline leaves the version of the variable: what was read before is as of the segment at most.
            self.seen(index, version + 1 if op == b"exp" else version)

    def all_changed(self) -> None:
        """The same of a batch, or of all variables."""
        self.memory.void_all()

    def many(self, handle: Any, indices: Sequence[int | str]) -> dict[int | str, Any]:
        """The values of those that are there, not of one instant."""
        found: dict[int | str, Any] = {}
        missed: dict[bytes, int | str] = {}
        for index in indices:
            hit = self.hit(handle, index)
            if hit is None:
                missed[field_of(index)] = index
            else:
                found[index] = hit[0]
        if missed:
            rest = handle._many(missed, ticket=self.begin())
            # None: a large value was replaced meanwhile.
            found.update(handle.get_many(missed.values()) if rest is None else rest)
        return found


def _finder(get: Any, memory: Memory | NoMemory, held: Held, missed: _Find) -> _Find:
    words = memory.words
    # What a function finds in its own closure is quicker to reach than attributes and globals.
    alive, epoch, clock, boot = ALIVE, EPOCH, clock_gettime, CLOCK_BOOTTIME

    def find(handle: Any, index: Any) -> tuple[Any] | None:
        try:
            # SYNC: `ALIVE`, the entry, its floor, the epoch: docs/remote.md says why in this order.
            if words[alive] > clock(boot) and not held.by:
                of, version, floor, value = get(index)
                if version >= words[floor] and of == words[epoch]:
                    return (value,)
        except Exception:
            # It is not there, or not an index, or cannot be read: the server is asked, and whatever is wrong is said.
            pass
        return missed(handle, index)

    return find


def fetched(handle: Any, index: Any) -> tuple[Any] | None:
    """Asks the server, and caches what it answers."""
    near: Near | None = handle._near
    plain = plain_index(index)
    ticket = None if near is None else near.begin()
    found = handle._found(plain)
    if found is None:
        return None
    if near is not None:
        near.keep(ticket, plain, found[1], found[0])
    return (found[0],)


def _fetched_to_view(handle: Any, index: Any) -> tuple[Any] | None:
    found = fetched(handle, index)
    if found is None:
        return None
    beside, body = _encode_value(found[0])
    return (_decode_value(plain_index(index), beside, body, True, True, False),)


def _nothing(_handle: Any, _index: Any) -> None:
    return None


def near_of(link: Link, requests: Requests, url: Url, trusted: bool) -> Near:
    """The near cache that all handles of this process on a segment share."""
    if url.server.near < LEAST:
        raise ValueError(f"near must be 0, or {LEAST} bytes (1MiB) at least, not {url.server.near}")
    key = (url.server, requests.data, trusted)
    with _making:
        found = _shared.get(key)
        if found is None:
            found = _shared[key] = Near(link, requests, url, trusted)
        return found


def _let_go(follower: Follower) -> None:
    follower.stopped = True
    follower.memory.close()


_shared: weakref.WeakValueDictionary[Any, Near] = weakref.WeakValueDictionary()
_making = threading.RLock()


def _forked() -> None:
    global _making
    _making = threading.RLock()


os.register_at_fork(after_in_child=_forked)
