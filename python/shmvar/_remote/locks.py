"""`RemoteLock`: a named lock of a segment on a server. docs/remote.md, "Locks", has the protocol."""

from __future__ import annotations

import math
import threading
import time
import weakref

from shmvar._core import Lock
from shmvar._errors import Error, LockLostError, WaitTimeoutError
from shmvar._remote import owners, scripts
from shmvar._remote.displayed import Displayed
from shmvar._remote.link import now
from shmvar._remote.numbered import shown
from shmvar._remote.owners import Hold
from shmvar._remote.taking import Taking, held_locks, seconds_of, writable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Coroutine
    from types import TracebackType
    from typing import Any, NoReturn, Self

    from shmvar._remote.handle import Handle
    from shmvar._remote.owners import Owner


class _Leaving:
    """The end of one `with`: what it calls there."""

    __slots__ = ("__weakref__", "_lock", "hold")

    def __init__(self, lock: RemoteLock) -> None:
        self._lock = lock
        self.hold: Hold | None = None
        """What the beginning of the `with` has taken."""

    def __call__(self, *exception: Any) -> None:
        begun: list[Hold] = []
        try:
            self._lock._leave(exception, begun)
        finally:
            # A signal handler that raises in the first line of `_leave` leaves this as it is, and the lock held.
            if begun:
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
    """Release the lock once."""
    self._leave(_exception, [])


class RemoteLock(Displayed):
    """A named lock of a segment on a server, shared by every process that is attached: `Segment.lock` makes one.

    `with` takes it for the running thread, `async with` for the running task. Both may take it several times.

    The lock ends when its owner has not been heard of for the `lease` of the URL, though it may live, stopped or cut
    off. What the owner then changes in the segment is refused with `LockLostError`. For what it changes elsewhere there
    are `fence` and `lost`. If the owner dies, others get the lock after the `grace` of the URL.
    """

    __slots__ = ("__weakref__", "_entering", "_field", "_last", "_name", "_segment", "_timeout")

    def __init__(self, segment: Handle, name: int | str, field: bytes, timeout: float | None) -> None:
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
    def segment(self) -> Any:
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
        """Release the lock once.

        Raises:
            RuntimeError: the caller does not hold it.
            LockLostError: its lease has ended; it is another's, or nobody's.
        """
        self._release([])

    def locked(self) -> bool:
        """Return whether a living process holds the lock."""
        grace = self._segment._open.server.grace
        found: bytes = held_locks(self._segment, self._field)
        if found[:1] != b"d":
            return found != b""
        # Its owner is missed. After a lost connection it has this time to come back.
        time.sleep(grace)
        again: bytes = held_locks(self._segment, self._field)
        return again != b"" and again != found

    def __enter__(self) -> Self:
        named = self._entering.pop(threading.get_ident(), None)
        if not self._take(self._timeout, None if named is None else named()):
            raise self._late()
        return self

    if TYPE_CHECKING:

        def __exit__(self, *_exception: type[BaseException] | BaseException | TracebackType | None) -> None: ...

    else:
        __exit__ = _Exit()

    def _leave(self, exception: tuple[Any, ...], begun: list[Hold]) -> None:
        """The end of `with`. `begun`: see `_release`."""
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

    def __aenter__(self) -> Coroutine[Any, Any, RemoteLock]:
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
        return f"<shmvar.RemoteLock {shown(self._field)} of segment {self._segment._url.public}>"

    def _mine(self) -> Hold | None:
        """What the caller holds of it, as a task or as a thread."""
        return self._of(owners.callers())

    def _of(self, several: tuple[Owner, ...]) -> Hold | None:
        held = self._segment._requests.held
        found = (held.find(owner, self._field) for owner in several)
        return next((hold for hold in found if hold is not None), None)

    def _take(self, timeout: float | None, leaving: _Leaving | None = None) -> bool:
        segment = self._segment
        writable(segment)
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
        # A signal handler of this thread may have taken the lock meanwhile, and keeps it.
        return self._again(owner, leaving)

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
            if not requests.held.drop(hold):
                # Its task was collected meanwhile: the thread that renews lets it go.
                return
            what = f"the release of lock {shown(self._field)}"
            if hold.lost:
                raise requests.lost(self._field, what)
            arguments = (b"free", hold.field, hold.token)
            requests.change(self._segment._open, scripts.LOCK_FREES, arguments, what, guarded=False)
            hold.presence.end(hold)
        except LockLostError:
            hold.lost = True
            # If it is there after all, it goes.
            hold.presence.undone(hold)
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


def _document() -> None:
    for name, member in vars(RemoteLock).items():
        if (callable(member) or isinstance(member, property)) and getattr(member, "__doc__", "") is None:
            member.__doc__ = getattr(getattr(Lock, name, None), "__doc__", None)


_document()
RemoteLock.__module__ = "shmvar"
