"""Who owns what is taken of a segment: a thread, a greenlet or a task of this process, and what each of them holds."""

from __future__ import annotations

import contextvars
import itertools
import os
import secrets
import sys
import threading
import weakref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    _T = TypeVar("_T")

_process = secrets.token_hex(6).encode()
_numbers = itertools.count(1)


def process() -> bytes:
    """The name of this process among all that use a server; another one in each forked child."""
    return _process


def next_token() -> bytes:
    """The name of one acquisition. It is never given again.

    SYNC: whoever draws one is known to its `Presence` already, so that no sweep takes it for forgotten.
    """
    return b"%b.%d" % (_process, next(_numbers))


class Owner:
    """A thread, a greenlet or a task of this process."""

    __slots__ = ("__weakref__", "leaves", "number")

    def __init__(self) -> None:
        self.number = next(_numbers)
        self.leaves: set[Any] = set()
        """What is to be let go when the owner ends: `abandon` of each is called then, and must not block."""

    def __del__(self) -> None:
        # In the thread that ends, or within any other line of the program.
        for thing in list(self.leaves):
            thing.abandon()


class _Local:
    """The attributes of a thread, or of a greenlet if the program has patched `threading`."""

    def __init__(self) -> None:
        # By the class: a program may patch `threading.local` at any time.
        self._locals: dict[Any, Any] = {}

    def owner(self) -> Owner:
        """The owner that a thread or greenlet is when it takes something."""
        local = self._locals.get(threading.local)
        if local is None:
            local = self._locals.setdefault(threading.local, threading.local())
        found = getattr(local, "owner", None)
        if found is None:
            found = local.owner = Owner()
        return found

    def all(self) -> list[Owner]:
        """All owners that the caller is. What was taken before the program was patched belongs to the thread, too."""
        found = [getattr(local, "owner", None) for local in list(self._locals.values())]
        return [owner for owner in found if owner is not None]


_local = _Local()
_tasks: weakref.WeakKeyDictionary[Any, Owner] = weakref.WeakKeyDictionary()
_call: contextvars.ContextVar[_Call | None] = contextvars.ContextVar("shmvar_call", default=None)
"""The call of `bound` that goes on."""
_ident = threading.get_ident
"""The same function also where a program patches `threading` during a call."""


class _Call:
    """A call of `bound`."""

    __slots__ = ("acting", "begun", "thread")

    def __init__(self, acting: tuple[Owner, ...], begun: set[Hold]) -> None:
        self.acting = acting
        self.begun = begun
        """What its task held when it began, but for what the call itself has let go."""
        self.thread = _ident()


def _bound() -> _Call | None:
    """The call of `bound` that the caller is in. From Python 3.14 on threads may inherit the context of others."""
    found = _call.get()
    return found if found is not None and found.thread == _ident() else None


def thread() -> Owner:
    """The running thread, or the running greenlet. In a call of `bound`, whom that is for."""
    call = _bound()
    return _local.owner() if call is None else call.acting[0]


def task() -> Owner:
    """The running task. Raises RuntimeError where there is none."""
    asyncio: Any = sys.modules.get("asyncio")
    running = None if asyncio is None else asyncio.current_task()
    if running is None:
        raise RuntimeError("async with lock: there is no running task")
    found = _tasks.get(running)
    if found is None:
        found = _tasks[running] = Owner()
    return found


def releasing() -> tuple[Owner, ...]:
    """Who may release what the running thread, or whom `bound` is for, has taken."""
    call = _bound()
    return tuple(_local.all()) if call is None else call.acting[:1]


def callers() -> tuple[Owner, ...]:
    """Whose call this is: the running task and the running thread, as far as they have ever taken anything."""
    call = _bound()
    if call is not None:
        return call.acting
    threads = _local.all()
    asyncio: Any = sys.modules.get("asyncio")
    if asyncio is not None and _tasks:
        try:
            running = asyncio.current_task()
        except RuntimeError:
            running = None
        owner = None if running is None else _tasks.get(running)
        if owner is not None:
            return (owner, *threads)
    return tuple(threads)


def bound(call: Callable[..., _T]) -> Callable[..., _T]:
    """A callable that makes `call` in any thread as the task that is running now.

    Only that call knows of it: tasks and threads that begin meanwhile are others. The locks that the task itself holds
    now stay those of the call, also where the task is cancelled, and has let them go, before the call has ended: what
    it then changes is refused. A lock of the thread is the call's only as long as it is held: another task may have
    taken it, and may let it go while the call goes on.
    """
    owner = task()
    acting = (owner, *(other for other in callers() if other is not owner))
    begun = {hold for hold in list(owner.leaves) if isinstance(hold, Hold)}

    def run(*arguments: Any) -> _T:
        before = _call.set(_Call(acting, begun))
        try:
            return call(*arguments)
        finally:
            _call.reset(before)

    return run


class Hold:
    """A lock that an owner of this process has taken."""

    __slots__ = (
        "__weakref__",
        "_owner",
        "count",
        "fence",
        "field",
        "handle",
        "held",
        "lost",
        "number",
        "presence",
        "token",
    )

    def __init__(self, owner: Owner, field: bytes, presence: Any, handle: int) -> None:
        self._owner = weakref.ref(owner)
        self.number = owner.number
        self.field, self.fence = field, 0
        self.token = b""
        """Drawn once the presence knows of this."""
        self.presence = presence
        """The `Presence` that keeps it."""
        self.handle = handle
        """Of the handle that it was taken through."""
        self.count = 1
        """How many times the owner has taken it."""
        self.held: Held | None = None
        """Of which segment it is, once it is taken."""
        self.lost = False
        """The server has said that it is another's, or nobody's."""

    @property
    def owner(self) -> Owner | None:
        """Who has taken it. None: a thread or task that has ended."""
        return self._owner()

    def abandon(self) -> None:
        """Its owner has ended."""
        self.presence.abandoned(self)


class Held:
    """The locks of one segment that this process holds, through whatever handles."""

    def __init__(self) -> None:
        self.by: dict[int, dict[bytes, Hold]] = {}
        """By the number of the owner, and the field of the lock. Each change looks whether there are any."""
        _every.add(self)

    def find(self, owner: Owner, field: bytes) -> Hold | None:
        return self.by.get(owner.number, _NOTHING).get(field)

    def add(self, owner: Owner, hold: Hold) -> None:
        hold.held = self
        owner.leaves.add(hold)
        self.by.setdefault(owner.number, {})[hold.field] = hold

    def drop(self, hold: Hold) -> bool:
        """Forgets it. False: it was forgotten before."""
        call = _bound()
        if call is not None:
            call.begun.discard(hold)
        mine = self.by.get(hold.number, _NOTHING)
        if mine.get(hold.field) is not hold or mine.pop(hold.field, None) is None:
            return False
        if not mine:
            self.by.pop(hold.number, None)
        owner = hold.owner
        if owner is not None:
            owner.leaves.discard(hold)
        return True

    def all(self) -> list[Hold]:
        return [hold for mine in list(self.by.values()) for hold in list(mine.values())]

    def callers(self) -> list[Hold]:
        """What the caller holds, and what its task held when the call of `bound` began that it is in."""
        call = _bound()
        if call is None or not call.begun:
            # Each change asks.
            return self._of_callers() if self.by else []
        found = self._of_callers()
        known = set(found)
        return found + [hold for hold in list(call.begun) if hold.held is self and hold not in known]

    def _of_callers(self) -> list[Hold]:
        return [hold for owner in callers() for hold in self.by.get(owner.number, _NOTHING).values()]

    def has(self, hold: Hold) -> bool:
        """Whether it is held yet."""
        return self.by.get(hold.number, _NOTHING).get(hold.field) is hold


_NOTHING: dict[bytes, Hold] = {}
_every: weakref.WeakSet[Held] = weakref.WeakSet()
_of: weakref.WeakValueDictionary[bytes, Held] = weakref.WeakValueDictionary()


def held_of(data: bytes) -> Held:
    """What is held of the segment with this D. All of its handles in this process share it."""
    found = _of.get(data)
    return found if found is not None else _of.setdefault(data, Held())


def _forked() -> None:
    global _process
    _process = secrets.token_hex(6).encode()
    for held in list(_every):
        held.by = {}


os.register_at_fork(after_in_child=_forked)
