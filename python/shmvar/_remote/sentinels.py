"""Where the primary of a segment is, by the sentinels that watch it: docs/remote.md, "Where a segment is"."""

from __future__ import annotations

import _thread
from typing import Any

from shmvar._errors import Error, IncompatibleSegmentError, SegmentAccessError
from shmvar._remote import refusals
from shmvar._remote.connections import LOST, exceptions, now
from shmvar._remote.locate import address_of
from shmvar._remote.url import Address, place_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from shmvar._remote.locate import _Ask
    from shmvar._remote.url import Server

LOOK = 0.5
"""Seconds after which sentinels are asked again."""
_REST = 5.0
"""Seconds for which one that gave no answer is left alone while others answer."""
_PATIENCE = 0.1
"""Seconds for which a call waits for what another thread hears from the sentinels."""


class Sentinels:
    """A primary that sentinels watch."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._name = (server.sentinel or "").encode()
        self._hosts = server.hosts
        # Those that gave no answer, and when each is asked again.
        self._failed: dict[Address, float] = {}
        self._known: Address | None = None
        # The last finding, in doubt or not, and the epoch of the failover that made it the primary.
        self._last: Address | None = None
        self._epoch = -1
        self._findings = 0
        # Whether the last answer in another thread came in time.
        self._prompt = True
        self._starts: list[None] = [None]
        self.look_at = 0.0
        """When they are to be asked again, by `connections.now`."""

    def where(self, ask: _Ask) -> Address:
        """Asks the sentinels, and remembers the answer until there is a doubt."""
        found = self._known
        if found is None:
            found = self._find(ask, None)
            assert found is not None
        return found

    def doubt(self, failed: Address | None) -> bool:
        """Notes that the primary may be elsewhere by now."""
        self._known = None
        return True

    def forget(self) -> None:
        """In a forked child: the thread that asks is the parent's."""
        self._starts, self._prompt = [None], True

    def look(self, ask: _Ask, found: Callable[[Address], object], wait: bool) -> None:
        """Asks them in another thread, though nothing failed, if they were not asked just now.

        A planned failover by sentinels leaves the old primary as it was for some ten seconds: it takes changes, which
        are lost, and says nothing. So they are asked twice a second. No call that the primary could answer waits for a
        sentinel that is silent: it waits a moment, where the sentinels were prompt, and goes on.

        Args:
            ask: asks one of them.
            found: called with each answer, in the other thread.
            wait: whether to wait for that moment.
        """
        if now() <= self.look_at:
            return
        starts = self._starts
        try:
            starts.pop()
        except IndexError:
            # Another thread asks.
            return
        # Not an Event, whose own lock may be held at a fork.
        heard = _thread.allocate_lock()
        heard.acquire()
        try:
            self.look_at = now() + LOOK
            wait = wait and self._prompt
            # Not a Thread, whose `start` waits for it: a child that a signal handler forks there would wait for ever.
            _thread.start_new_thread(self._look, (ask, found, starts, heard))
        except BaseException as error:
            starts.append(None)
            if not isinstance(error, RuntimeError):
                raise
            # The system has no more threads, or the interpreter ends.
            return
        if wait:
            heard.acquire(timeout=_PATIENCE)

    def _look(self, ask: _Ask, found: Callable[[Address], object], starts: list[None], heard: Any) -> None:
        begun = now()
        answered = False
        try:
            try:
                answer = self._find(ask, self._findings)
                answered = True
                if answer is not None:
                    found(answer)
            except (*LOST, exceptions.RedisError, Error):
                # Nobody says anything: the link goes on with what it has.
                pass
            finally:
                self._prompt = answered and now() - begun < _PATIENCE
                heard.release()
            if answered:
                self._retry(ask)
        finally:
            self.look_at = now() + LOOK
            starts.append(None)

    def _find(self, ask: _Ask, findings: int | None) -> Address | None:
        """Asks all but those that are known not to answer. Where none is left, or none answers, it asks those, too.

        None: `findings` is given, and there was another finding meanwhile, which is newer.
        """
        found: list[tuple[int, Address]] = []
        faults: list[Exception] = []
        for host in sorted(self._hosts, key=lambda host: host in self._failed):
            if found and host in self._failed:
                break
            try:
                found.append(self._answer(host, ask))
            except (*LOST, exceptions.ResponseError, Error) as error:
                faults.append(error)
        if findings is not None and findings != self._findings:
            return None
        if not found:
            raise self._why(faults)
        # One that is cut off from the others has not heard of a failover, which has a greater epoch. Among equals: what
        # most of them say.
        addresses = [address for _, address in found]
        epoch, address = max(found, key=lambda answer: (answer[0], addresses.count(answer[1])))
        if epoch < self._epoch and self._last is not None and len(found) <= len(self._hosts) // 2:
            # Those that know more do not answer. A majority is believed: somebody may have set them up anew.
            epoch, address = self._epoch, self._last
        self._findings += 1
        self._epoch, self._last, self._known = epoch, address, address
        return address

    def _retry(self, ask: _Ask) -> None:
        """Asks those that gave no answer whether they do again."""
        for host, due in list(self._failed.items()):
            if now() >= due:
                try:
                    self._answer(host, ask)
                except (*LOST, exceptions.RedisError, Error):
                    pass

    def _answer(self, host: Address, ask: _Ask) -> tuple[int, Address]:
        """What one sentinel says: the epoch of the last failover, and the address."""
        try:
            # The epoch first: with an address of later than the epoch nobody who knows more is outvoted.
            state = ask(host, b"SENTINEL", b"MASTER", self._name, sentinel=True)
            answer = ask(host, b"SENTINEL", b"get-master-addr-by-name", self._name, sentinel=True)
            if answer is None:
                raise _Unknown(place_of(host))
            found = int(state[state.index(b"config-epoch") + 1]), address_of(answer, host)
        except Exception as error:
            self._failed[host] = now() + _REST
            if isinstance(error, TypeError | ValueError | LookupError | AttributeError):
                raise IncompatibleSegmentError(f"sentinel {place_of(host)}: its answer is no address") from None
            if isinstance(error, exceptions.ResponseError) and "No such master" in str(error):
                raise _Unknown(place_of(host)) from None
            if isinstance(error, (*LOST, exceptions.ResponseError)) and not isinstance(error, _Unknown | Error):
                why = f"{place_of(host)}: {self._sorted_out(host, error)}"
                raise exceptions.ConnectionError(f"no sentinel says where the primary is ({why})") from error
            raise
        self._failed.pop(host, None)
        return found

    def _sorted_out(self, host: Address, error: Exception) -> str:
        """Why a sentinel gave no answer. Raises the error that no repetition will mend."""
        if "nknown command" in str(error):
            raise IncompatibleSegmentError(f"{place_of(host)} is no sentinel: it says {error}") from None
        if isinstance(error, exceptions.AuthenticationError) or not isinstance(error, LOST):
            raise SegmentAccessError(
                f"sentinel {place_of(host)} says {error}. Remedies: sentinel_user and sentinel_password_file in the "
                "URL, or SHMVAR_SENTINEL_PASSWORD; the rights that docs/remote.md lists"
            ) from None
        return refusals.lost(self._server, place_of(host), error)

    def _why(self, faults: list[Exception]) -> Exception:
        """The error where no sentinel gave an answer."""
        passing = [fault for fault in faults if isinstance(fault, LOST) and not isinstance(fault, Error | _Unknown)]
        final = [fault for fault in faults if isinstance(fault, Error)]
        if final or passing:
            return (final or passing)[0]
        return IncompatibleSegmentError(f"sentinel {faults[-1]} watches no primary of the name {self._name.decode()}")


class _Unknown(exceptions.ResponseError):  # type: ignore[misc]
    """A sentinel watches no primary of this name."""
