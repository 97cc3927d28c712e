"""What every call of a handle needs: the link, the names of the segment, one variable as it is stored."""

from __future__ import annotations

import math
import os
import time

from shmvar._errors import CorruptSegmentError, Error, SegmentBusyError, SegmentFullError
from shmvar._own_errors import set_version
from shmvar._remote import blobs, scripts
from shmvar._remote.arguments import detached, read_only
from shmvar._remote.link import Link, OutOfMemory
from shmvar._remote.names import field_of
from shmvar._remote.numbered import Requests
from shmvar._remote.records import Record, Stored, decode, decode_apart

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, TypeVar

    from shmvar._remote.near import Near
    from shmvar._remote.records import _Apart
    from shmvar._remote.scripts import Script
    from shmvar._remote.url import Url

    _Body = TypeVar("_Body")

VAIN = 3
"""Tries to read a large value after which all of its chunks are asked for at once."""
_TIDYING = 1.0
"""Seconds for which a call that a signal handler ends tries to remove its chunks."""


class Handle:
    """One segment on a server. `RemoteSegment` adds the calls."""

    __slots__ = (
        "__weakref__",
        "_created",
        "_link",
        "_near",
        "_readonly",
        "_requests",
        "_trust",
        "_trusted",
        "_url",
        "_variables",
    )

    def __init__(
        self, url: Url, prefix: bytes, segment: bytes, created: bool, readonly: bool, trust: bool | None
    ) -> None:
        from shmvar._remote.link import link_to

        self._url = url
        self._link: Link | None = link_to(url.server, prefix)
        self._requests = Requests(f"segment {url.public}", prefix, segment)
        self._variables = self._requests.keys[1]
        self._created = created
        self._readonly = readonly
        self._trusted = trust is True
        self._trust = trust
        self._near: Near | None = None
        if url.server.near:
            from shmvar._remote.near import near_of

            self._near = near_of(self._link, self._requests, url, self._trusted)

    @property
    def _open(self) -> Link:
        """The link. Raises DetachedError."""
        link = self._link
        if link is None:
            raise detached(self._requests.name)
        return link

    def _change(self, script: Script, arguments: Sequence[bytes], what: str, end: float = math.inf) -> bytes:
        link = self._open
        if self._readonly:
            raise read_only(self._requests.name)
        try:
            return self._requests.change(link, script, arguments, what, end)
        except SegmentFullError as full:
            # What has expired is charged until it is removed, and one script removes 5,000 variables at most.
            if not full.needed or not self._trimmed(end):
                raise
        return self._requests.change(link, script, arguments, what, end)

    def _trimmed(self, end: float = math.inf) -> bool:
        """Removes what has expired. False: there was nothing."""
        found = False
        while self._requests.change(self._open, scripts.SEGMENT, (b"trim",), "the trim", end) == b"more":
            found = True
        return found

    def _single(
        self,
        index: int | str,
        op: bytes,
        stored: Stored | None = None,
        ttl: bytes = b"",
        version: bytes = b"",
    ) -> bytes:
        """A change of one variable: see single.lua. Uploads the value first if it is large."""
        script = scripts.SINGLE_FREES if op == b"del" else scripts.SINGLE
        kind, payload = (stored.kind, stored.payload) if stored else (b"", b"")
        if stored and stored.total:
            answer = self._large(index, stored, ttl, version)
        else:
            arguments = (field_of(index), op, kind, payload, ttl, version)
            answer = self._change(script, arguments, f"the {_NAMES[op]} {index!r}")
        if self._near is not None:
            self._near.changed(index, op, answer)
        return answer

    def _large(self, index: int | str, stored: Stored, ttl: bytes, version: bytes) -> bytes:
        what = f"the {_NAMES[b'put']} {index!r}"

        def change(end: float) -> bytes:
            arguments = (field_of(index), b"put", stored.kind, stored.payload, ttl, version)
            return self._change(scripts.SINGLE, arguments, what, end)

        return self._with_chunks([stored], what, change)

    def _with_chunks(self, large: Sequence[Stored], what: str, change: Callable[[float], bytes]) -> bytes:
        """Carries out a change with large values. Nothing is sent of them that the server would not take."""
        for stored in large:
            if stored.named_in != os.getpid():
                stored.renew()
        answer = change(math.inf)
        if answer != b"a":
            return answer
        # All is well but the chunks.
        upload = blobs.Upload(self._open, self._requests.data, large)
        for again in (True, False):
            sent = False
            try:
                upload.send()
                sent = True
                if upload.is_parents():
                    raise self._open.parents(what)
                answer = change(upload.end)
            except OutOfMemory as error:
                upload.drop()
                raise self._requests.no_memory(error) from None
            except Error as error:
                # A copy of the change that may yet be carried out needs its chunks.
                if not getattr(error, "maybe_applied", False):
                    upload.drop()
                raise
            except BaseException:
                # What a signal handler raises, say. Once all is sent, the change may be carried out yet.
                if not sent:
                    upload.drop(_TIDYING)
                raise
            if answer[:1] == b"o":
                return answer
            upload.drop()
            if answer != b"a":
                return answer
            if again:
                upload.renew()
        raise SegmentFullError(
            f"{self._requests.name}: {what}: the server has deleted chunks of the value while it was sent, because its "
            "memory is full and its maxmemory-policy deletes what has a time to live; nothing has changed. Remedies: a "
            "larger maxmemory; maxmemory-policy noeviction"
        )

    def _read(self, what: bytes, *arguments: bytes) -> Any:
        """What the script `read` returns."""
        requests, link = self._requests, self._open
        answer = link.script(
            scripts.READ, requests.keys[:3], (requests.id, what, *arguments), link.waited(), self._readonly
        )
        if answer == b"g":
            raise requests.gone()
        return answer

    def _record(self, index: int | str) -> tuple[Record, float | None] | None:
        """The record of a variable and the seconds until it expires; None if it is missing."""
        link = self._open
        data = link.call(b"HGET", self._variables, field_of(index))
        if data is None:
            seq = self._exists()
            if self._near is not None:
                self._near.seen(index, seq)
            return None
        record = Record(index, data)
        if self._near is not None:
            self._near.seen(index, record.version)
        if record.deadline is None:
            return record, None
        now, data = self._read(b"get", field_of(index))
        if data is None:
            return None
        record = Record(index, data)
        if self._near is not None:
            self._near.seen(index, record.version)
        return record, None if record.deadline is None else max(record.deadline - now, 0) / 1e6

    def _exists(self) -> int:
        """Tells a missing variable from a segment that is gone: the last version, or raises SegmentNotFoundError."""
        requests = self._requests
        found, seq = self._open.call(b"HMGET", requests.prefix, b"id", b"seq")
        if found != requests.id:
            raise requests.gone()
        return self._number(seq)

    def _value(self, index: int | str, record: Record, view: bool = False, at_once: bool = False) -> tuple[Any] | None:
        """The value of a record. None: it is a blob that was replaced meanwhile."""
        found = self._undecoded(index, record, at_once)
        if found is None:
            return None
        kind, body = found
        try:
            if isinstance(body, bytes):
                return (decode(index, kind, body, self._trusted, view),)
            return (decode_apart(index, body, self._trusted, view),)
        except Exception as error:
            set_version(error, record.version)
            raise

    def _undecoded(
        self, index: int | str, record: Record, at_once: bool = False
    ) -> tuple[bytes, _Apart | bytes] | None:
        """What the value of a record is made of, and how. None: it is a blob that was replaced meanwhile."""
        if record.kind != b"b":
            return record.kind, record.payload
        return self._fetched(index, record, at_once, blobs.download_apart)

    def _blob(self, index: int | str, record: Record, at_once: bool = False) -> tuple[bytes, bytes] | None:
        """The kind and the bytes of a large value. None: it was replaced meanwhile."""
        return self._fetched(index, record, at_once, blobs.download)

    def _fetched(
        self, index: int | str, record: Record, at_once: bool, download: Callable[..., _Body | None]
    ) -> tuple[bytes, _Body] | None:
        """The kind of a large value, and what `download` makes of it. None: it was replaced meanwhile."""
        try:
            stub = record.stub(index, self._largest())
            body = download(self._open, self._requests.data, stub, at_once)
            if body is not None:
                return stub.kind, body
            fault = CorruptSegmentError(f"index {index!r}: a chunk of its value is missing")
        except CorruptSegmentError as error:
            fault = error
        # A record and its chunks come and go together: the same one before and after means that nobody replaced it.
        if self._open.call(b"HGET", self._variables, field_of(index)) == record.data:
            raise fault
        return None

    def _found(self, index: int | str, view: bool = False) -> tuple[Any, Record] | None:
        """The value of a variable with its record, of one instant; None if it is missing."""
        found = self._of_one_instant(index, lambda record, at_once: self._value(index, record, view, at_once))
        return None if found is None else (found[0][0], found[1])

    def _of_one_instant(
        self, index: int | str, read: Callable[[Record, bool], _Body | None]
    ) -> tuple[_Body, Record] | None:
        """What `read` makes of the record of a variable, with the record; None if the variable is missing.

        `read` is told whether to ask for all chunks at once, and returns None where the value was replaced meanwhile.
        """
        until, vain = 0.0, 0
        while (found := self._record(index)) is not None:
            value = read(found[0], vain >= VAIN)
            if value is not None:
                return value, found[0]
            self._replaced(index, until)
            until, vain = until or time.monotonic() + self._url.server.timeout, vain + 1
        return None

    def _replaced(self, index: object, until: float) -> None:
        """Raises SegmentBusyError where large values were replaced for too long, faster than they could be read."""
        if until and time.monotonic() > until:
            raise SegmentBusyError(
                f"{self._requests.name}: {index!r} was replaced each time before it was read, for "
                f"{self._url.server.timeout:g} s"
            )

    def _largest(self) -> int:
        """What no stored value can exceed: the size of the segment."""
        size = self._open.call(b"HGET", self._requests.prefix, b"size")
        if size is None:
            raise self._requests.gone()
        return self._number(size)

    def _number(self, text: object) -> int:
        """A number that the server keeps of the segment."""
        digits = text if isinstance(text, bytes) else b"%d" % text if isinstance(text, int) else b""
        if not digits.isdigit() or len(digits) > 18:
            raise CorruptSegmentError(f"{self._requests.name}: {text!r} is no number of bytes or variables")
        return int(digits)


_NAMES = {b"put": "put of", b"add": "add to", b"del": "removal of", b"ver": "touch of", b"exp": "expiry of"}
