"""What every call of a handle needs: the link, the names of the segment, one variable as it is stored."""

from __future__ import annotations

import time

from shmvar._errors import CorruptSegmentError, ReadOnlyError, SegmentBusyError
from shmvar._remote import blobs, scripts
from shmvar._remote.arguments import detached
from shmvar._remote.link import Link, OutOfMemory
from shmvar._remote.names import field_of
from shmvar._remote.numbered import Requests
from shmvar._remote.records import Record, Stored, decode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from shmvar._remote.scripts import Script
    from shmvar._remote.url import Url


class Handle:
    """One segment on a server. `RemoteSegment` adds the calls."""

    __slots__ = (
        "__weakref__",
        "_created",
        "_link",
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
        self._link: Link | None = link_to(url.server)
        self._requests = Requests(f"segment {url.public}", prefix, segment)
        self._variables = self._requests.keys[1]
        self._created = created
        self._readonly = readonly
        self._trusted = trust is True
        self._trust = trust

    @property
    def _open(self) -> Link:
        """The link. Raises DetachedError."""
        link = self._link
        if link is None:
            raise detached(self._requests.name)
        return link

    def _change(self, script: Script, arguments: Sequence[bytes], what: str) -> bytes:
        link = self._open
        if self._readonly:
            raise ReadOnlyError(f"{self._requests.name} was attached with readonly=True")
        return self._requests.change(link, script, arguments, what)

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
        if stored and stored.body:
            return self._large(index, stored, ttl, version)
        arguments = (field_of(index), op, kind, payload, ttl, version)
        return self._change(script, arguments, f"the {_NAMES[op]} {index!r}")

    def _large(self, index: int | str, stored: Stored, ttl: bytes, version: bytes) -> bytes:
        what = f"the {_NAMES[b'put']} {index!r}"
        while True:
            self._upload([stored])
            arguments = (field_of(index), b"put", stored.kind, stored.payload, ttl, version)
            answer = self._change(scripts.SINGLE, arguments, what)
            if answer != b"a":
                return answer
            # Ten minutes passed since the upload of the first chunk, or the server has evicted one.
            stored.renew()

    def _upload(self, values: Sequence[Stored]) -> None:
        link = self._open
        if self._readonly:
            raise ReadOnlyError(f"{self._requests.name} was attached with readonly=True")
        for stored in values:
            if stored.body:
                try:
                    blobs.upload(link, self._requests.data, stored)
                except OutOfMemory as error:
                    raise self._requests.no_memory(error) from None

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
            self._exists()
            return None
        record = Record(index, data)
        if record.deadline is None:
            return record, None
        now, data = self._read(b"get", field_of(index))
        if data is None:
            return None
        record = Record(index, data)
        return record, None if record.deadline is None else max(record.deadline - now, 0) / 1e6

    def _exists(self) -> None:
        """Tells a missing variable from a segment that is gone: raises SegmentNotFoundError."""
        requests = self._requests
        if self._open.call(b"HGET", requests.prefix, b"id") != requests.id:
            raise requests.gone()

    def _value(self, index: int | str, record: Record, view: bool = False) -> tuple[Any] | None:
        """The value of a record. None: it is a blob that was replaced meanwhile."""
        if record.kind != b"b":
            return (record.value(index, self._trusted, view),)
        stub = record.stub(index, self._largest())
        body = blobs.download(self._open, self._requests.data, stub)
        return None if body is None else (decode(index, stub.kind, body, self._trusted, view),)

    def _found(self, index: int | str, view: bool = False) -> tuple[Any, Record] | None:
        """The value of a variable with its record, of one instant; None if it is missing."""
        until = 0.0
        while (found := self._record(index)) is not None:
            value = self._value(index, found[0], view)
            if value is not None:
                return value[0], found[0]
            self._replaced(index, until)
            until = until or time.monotonic() + self._url.server.timeout
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
