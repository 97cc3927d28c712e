"""`RemoteLock`: a named lock of a segment on a server. docs/remote.md, "Locks", has the protocol."""

from __future__ import annotations

import math
import threading
import time
import weakref

from shmvar._core import Lock
from shmvar._errors import Error, LockLostError, SegmentFullError, WaitTimeoutError
from shmvar._remote import owners, scripts
from shmvar._remote.arguments import detached
from shmvar._remote.link import now
from shmvar._remote.listener import listener_of
from shmvar._remote.numbered import shown
from shmvar._remote.owners import Hold
from shmvar._remote.presence import presence_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Coroutine
    from types import TracebackType
    from typing import Any, NoReturn, Self

    from shmvar._remote.locking import Locking
    from shmvar._remote.numbered import Slot
    from shmvar._remote.owners import Owner

_POLL, _POLL_DYING = 0.1, 0.05
"""Seconds that a waiter sleeps at most, and where the owner is missed."""


class Taking:
    """One acquisition: each of its tries, and what has to be undone if it ends badly."""

    def __init__(self, segment: Locking, field: bytes, owner: Owner) -> None:
        self._segment = segment
        self._requests = segment._requests
        presence = presence_of(segment._open, self._requests)
        self.hold = Hold(owner, field, owners.next_token(), presence, id(self._requests))
        self.pause = _POLL
        """Seconds until the next try, at most."""
        self._slots: list[Slot] = []
        # Whether the lock may be ours, though nobody has said so.
        self._unsure = False

    def attempt(self) -> bool:
        """Takes the lock if that is possible at once."""
        hold, requests, link = self.hold, self._requests, self._segment._open
        hold.presence.begin(hold)
        self._slots.clear()
        arguments = (b"take", hold.field, hold.token, *hold.presence.arguments())
        what, sent = f"the taking of lock {shown(hold.field)}", now()
        self._unsure = True
        # Not guarded: whoever holds thousands would name all of them to take one more.
        answer = requests.change(
            link, scripts.LOCK, arguments, what, guarded=False, unrecorded=b"hdm", slots=self._slots
        )
        if answer[:1] == b"o":
            hold.fence = int(answer[1:])
            hold.presence.taken(sent)
            return True
        self._unsure = False
        if answer[:1] == b"m":
            limit = int(answer[1:])
            raise SegmentFullError(
                f"{requests.name}: {limit} named locks are held, as many as a segment of its size can have: one for each "
                "KiB. Remedies: release some, or raise the size with `resize`",
                1024,
                0,
                limit * 1024,
            )
        self.pause = _POLL_DYING if answer == b"d" else _POLL
        return False

    def within(self, until: float) -> bool:
        """Takes the lock as soon as it can be had. False: `until` came first, by the clock of `link.now`."""
        if self.attempt():
            return True
        if now() >= until:
            return False
        with self.subscription() as subscription:
            # A message that was sent before the subscription stands is nowhere: the next try is what counts.
            standing = subscription.stands(min(until, now() + self.pause))
            while not self.attempt():
                left = until - now()
                if left <= 0:
                    return False
                if standing:
                    standing = subscription.wait(now() + min(left, self.pause)) is not None
                else:
                    standing = subscription.stands(now() + min(left, self.pause))
        return True

    def subscription(self, signal: Any = None) -> Any:
        """To what is said when the lock is let go."""
        channel = self._requests.data + b"f:" + self.hold.field
        return listener_of(self._segment._open).subscribe((channel,), signal=signal)

    def keep(self, owner: Owner) -> None:
        """The lock is the owner's from now on. Raises DetachedError where the handle was detached meanwhile."""
        self._requests.held.add(owner, self.hold)
        # Detaching lets go what is on the list: one of the two sees the other.
        if self._segment.detached:
            raise detached(self._requests.name)

    def give_up(self) -> None:
        """The lock was not taken, or must not be ours: called after whatever has happened, and does not block."""
        hold = self.hold
        self._requests.held.drop(hold)
        if self._unsure and self._slots:
            hold.presence.undone(hold, self._slots[0].field, self._slots[0].number)
        else:
            hold.presence.end(hold)


class _Leaving:
    """The end of one `with`: what it calls there."""

    __slots__ = ("__weakref__", "_lock", "hold")

    def __init__(self, lock: RemoteLock) -> None:
        self._lock = lock
        self.hold: Hold | None = None
        """What the beginning of the `with` has taken."""

    def __call__(self, *exception: Any) -> None:
        try:
            self._lock._leave(exception)
        finally:
            self.__class__ = _Leaving


class _Armed(_Leaving):
    """The end of a `with` that has taken the lock, until it is called.

    A signal handler may raise before the first line of any function that is called there. Then `with` drops this. It is
    a class of its own because `__del__` is a function, too, and what a handler raises in it is swallowed.
    """

    __slots__ = ()

    def __del__(self) -> None:
        hold = self.hold
        if hold is not None and hold.count > 1:
            hold.count -= 1
        elif hold is not None:
            hold.abandon()


class _Exit:
    """`RemoteLock.__exit__`, which `with` looks up before it takes the lock."""

    def __get__(self, lock: RemoteLock | None, _type: type | None = None) -> Any:
        if lock is None:
            return _exit
        leaving = _Leaving(lock)
        lock._entering[threading.get_ident()] = weakref.ref(leaving)
        return leaving


def _exit(self: RemoteLock, *_exception: type[BaseException] | BaseException | TracebackType | None) -> None:
    self._leave(_exception)


class RemoteLock:
    """A named lock of a segment on a server, shared by every process that is attached: `Segment.lock` makes one.

    `with` takes it for the running thread, `async with` for the running task. Both may take it several times.

    The lock ends when its owner has not been heard of for the `lease` of the URL, though it may live, stopped or cut off.
    What the owner then changes in the segment is refused with `LockLostError`. For what it changes elsewhere there are
    `fence` and `lost`. If the owner dies, others get the lock after the `grace` of the URL.
    """

    __slots__ = ("__weakref__", "_entering", "_field", "_last", "_name", "_segment", "_timeout")

    def __init__(self, segment: Locking, name: int | str, field: bytes, timeout: float | None) -> None:
        self._segment = segment
        self._name = name
        self._field = field
        self._timeout = timeout
        self._last: Hold | None = None
        # By the thread: the ends of those `with` that are about to take the lock.
        self._entering: dict[int, weakref.ref[_Leaving]] = {}

    @property
    def name(self) -> int | str:
        return self._name

    @property
    def segment(self) -> Locking:
        return self._segment

    @property
    def timeout(self) -> float | None:
        return self._timeout

    @property
    def fence(self) -> int | None:
        """A number that grows with each acquisition of any lock of the segment. None: the caller does not hold it.

        Who gives it along with what it does elsewhere lets the receiver refuse whoever held the lock before.
        """
        hold = self._mine()
        return None if hold is None else hold.fence

    @property
    def lost(self) -> bool:
        """Whether the lock that the caller holds, or held last, is known to be lost, or may be.

        It may be where the server was not reached for a lease.
        """
        hold = self._mine()
        if hold is None:
            return self._last is not None and self._last.lost
        return hold.lost or hold.presence.lost_contact

    def acquire(self, timeout: float | None = None) -> bool:
        """Take the lock. Return False if the timeout is over first.

        Args:
            timeout: in seconds; 0 tries once. None: the lock's own `timeout`.

        Raises:
            ReadOnlyError: the handle is read-only.
            SegmentFullError: as many locks are held as a segment of this size can have, or the server has no memory.
            LockLostError: the caller holds it already, and has lost it.
            SegmentUnavailableError: the server does not answer.
        """
        return self._take(self._timeout if timeout is None else seconds_of(timeout))

    def release(self) -> None:
        """Release the lock once. Raises `RuntimeError` if the caller does not hold it, `LockLostError` if it was lost."""
        self._release([])

    def locked(self) -> bool:
        """Return whether a living process holds the lock."""
        segment = self._segment
        server = segment._open.server
        found = segment._held(self._field)
        if found[:1] != b"d":
            return found != b""
        # Its owner is missed. After a lost connection it has this time to come back.
        time.sleep(server.grace)
        again: bytes = segment._held(self._field)
        return again != b"" and again != found

    def __enter__(self) -> Self:
        named = self._entering.pop(threading.get_ident(), None)
        if not self._take(self._timeout, named and named()):
            raise self._late()
        return self

    if TYPE_CHECKING:

        def __exit__(self, *_exception: type[BaseException] | BaseException | TracebackType | None) -> None: ...

    else:
        __exit__ = _Exit()

    def _leave(self, exception: tuple[Any, ...]) -> None:
        """The end of `with`."""
        begun: list[Hold] = []
        try:
            self._release(begun)
        except Error:
            if not exception or exception[0] is None:
                raise
        except BaseException:
            # What a signal handler has raised before anything was done.
            if not begun and self._of(owners.releasing()) is not None:
                self._release(begun)
            raise

    def __aenter__(self) -> Coroutine[Any, Any, Self]:
        from shmvar._remote import task_locks

        return task_locks.enter(self)

    def __aexit__(
        self, *exception: type[BaseException] | BaseException | TracebackType | None
    ) -> Coroutine[Any, Any, None]:
        from shmvar._remote import task_locks

        return task_locks.leave(self, *exception)

    def __reduce__(self) -> NoReturn:
        raise TypeError("cannot pickle 'shmvar.RemoteLock' object")

    def __repr__(self) -> str:
        return f"<shmvar.RemoteLock {shown(self._field)} of segment {self._segment.url}>"

    def _mine(self) -> Hold | None:
        """What the caller holds of it, as a task or as a thread."""
        return self._of(owners.callers())

    def _of(self, several: tuple[Owner, ...]) -> Hold | None:
        held = self._segment._requests.held
        found = (held.find(owner, self._field) for owner in several)
        return next((hold for hold in found if hold is not None), None)

    def _take(self, timeout: float | None, leaving: _Leaving | None = None) -> bool:
        segment = self._segment
        segment._writable()
        owner = owners.thread()
        if self._again(owner, leaving):
            return True
        until = math.inf if timeout is None else now() + timeout
        taking = Taking(segment, self._field, owner)
        taken = False
        try:
            taken = taking.within(until)
            if taken:
                taking.keep(owner)
                # No function is called from here to the block of `with`, so that no signal handler runs.
                self._last = taking.hold
                if leaving is not None:
                    leaving.hold, leaving.__class__ = taking.hold, _Armed
                return True
        except BaseException:
            taking.give_up()
            raise
        taking.give_up()
        return False

    def _again(self, owner: Owner, leaving: _Leaving | None = None) -> bool:
        """Takes a lock once more that the owner has already. False: it has not."""
        hold = self._segment._requests.held.find(owner, self._field)
        if hold is None:
            return False
        if hold.lost:
            raise self._segment._requests.lost(self._field, "the second acquisition")
        hold.count += 1
        self._last = hold
        if leaving is not None:
            leaving.hold, leaving.__class__ = hold, _Armed
        return True

    def _release(self, begun: list[Hold]) -> None:
        """Releases what the caller holds once. `begun` gets it when nothing can come between any more."""
        self._segment._open  # noqa: B018 - it raises DetachedError
        hold = self._of(owners.releasing())
        if hold is None:
            raise self._not_held()
        self._let_go(hold, begun)

    def _let_go(self, hold: Hold, begun: list[Hold]) -> None:
        """Releases it once."""
        requests = self._segment._requests
        if hold.count > 1:
            try:
                begun.append(hold)
            finally:
                hold.count -= 1
            return
        try:
            begun.append(hold)
            requests.held.drop(hold)
            what = f"the release of lock {shown(self._field)}"
            if hold.lost:
                raise requests.lost(self._field, what)
            arguments = (b"free", hold.field, hold.token)
            requests.change(self._segment._open, scripts.LOCK_FREES, arguments, what, guarded=False)
            hold.presence.end(hold)
        except LockLostError:
            hold.lost = True
            hold.presence.end(hold)
            raise
        except BaseException:
            # Interrupted, or there is no server: it is not ours any more, whatever becomes of this.
            requests.held.drop(hold)
            hold.presence.undone(hold)
            raise

    def _not_held(self) -> RuntimeError:
        return RuntimeError(f"cannot release lock {shown(self._field)}: this thread or task does not hold it")

    def _late(self) -> WaitTimeoutError:
        return WaitTimeoutError(f"lock {shown(self._field)} was not let go within {self._timeout or 0:g} s")


def seconds_of(timeout: Any) -> float | None:
    """A timeout. None: without end."""
    if timeout is None:
        return None
    if isinstance(timeout, str | bytes) or not (hasattr(timeout, "__float__") or hasattr(timeout, "__index__")):
        raise TypeError(f"must be real number, not {type(timeout).__name__}")
    seconds = float(timeout)
    if math.isnan(seconds) or seconds < 0:
        raise ValueError(f"timeout must be None or at least 0 seconds, not {timeout}")
    return seconds if seconds < 2**63 else None


def _document() -> None:
    for name, member in vars(RemoteLock).items():
        if callable(member) or isinstance(member, property):
            if getattr(member, "__doc__", "") is None:
                member.__doc__ = getattr(getattr(Lock, name, None), "__doc__", None)


_document()
RemoteLock.__module__ = "shmvar"
