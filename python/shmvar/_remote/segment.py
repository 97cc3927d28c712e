"""`RemoteSegment`: the calls of `Segment` on a server. What is not said here is said there."""

from __future__ import annotations

import dataclasses
import sys
import time

from shmvar._core import (
    Segment,
    _check_report,
    _encode_value,
    _pickle_fault,
    _segment_info,
    _value_pickle,
    _variable_info,
)
from shmvar._errors import CorruptSegmentError, SegmentFullError, SegmentNotFoundError, UnsupportedError
from shmvar._remote import scripts
from shmvar._remote.arguments import MISSING, amount_of, number_of, size_of, ttl_of, turns, version_of
from shmvar._remote.changes import Changing
from shmvar._remote.displayed import Displayed
from shmvar._remote.handle import VAIN
from shmvar._remote.identity import destroy_id, known, with_key
from shmvar._remote.link import Link, link_to
from shmvar._remote.locking import Locking
from shmvar._remote.mapping import Mapping
from shmvar._remote.names import plain_index, prefix_of, shown
from shmvar._remote.queues import Queues
from shmvar._remote.records import INLINE, Stored, type_of
from shmvar._remote.waiting import Waiting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta
    from types import TracebackType
    from typing import Any, NoReturn, Self, SupportsIndex

    from shmvar._core import CheckReport, SegmentInfo, VariableInfo
    from shmvar._remote.aio import Aio
    from shmvar._remote.records import Record
    from shmvar._remote.url import Url

    _Index = SupportsIndex | str
    _Ttl = float | timedelta | None


class RemoteSegment(Changing, Displayed, Locking, Mapping, Queues, Waiting):
    """A handle on a segment on a Valkey or Redis server: the interface of `Segment`.

    `shmvar.attach` opens one for a URL. docs/remote.md says what is the same and what differs.

    A call goes on trying for the `timeout` of the URL, 10 seconds, while the server does not answer. Then it raises
    `SegmentUnavailableError`. However often a change had to be sent, it is carried out once.
    """

    __slots__ = ()

    @property
    def url(self) -> str:
        """The URL, without its password."""
        return self._url.public

    @property
    def key(self) -> int | str:
        """The key of the segment on its server."""
        key = self._url.key
        assert key is not None
        return key

    @property
    def size(self) -> int:
        return self._largest()

    @property
    def evict(self) -> None:
        """Always None: a segment on a server evicts nothing."""
        self._open  # noqa: B018 - it raises DetachedError

    @property
    def created(self) -> bool:
        return self._created

    @property
    def readonly(self) -> bool:
        return self._readonly

    @property
    def trusted(self) -> bool:
        """Whether values may run code when they are read: only if the caller said `trust=True`."""
        return self._trusted

    @property
    def detached(self) -> bool:
        return self._link is None

    @property
    def aio(self) -> Aio:
        """The calls of this handle as coroutines, for asyncio: `await segment.aio.get(index)`."""
        from shmvar._remote.aio import Aio

        return Aio(self)

    def put(self, index: _Index, value: Any, *, ttl: _Ttl = None) -> None:
        plain, life = plain_index(index), ttl_of(ttl)
        self._writable()
        self._single(plain, b"put", Stored(value), life)

    def get(self, index: _Index, default: Any = None) -> Any:
        near = self._near
        found = self._found(plain_index(index)) if near is None else near.find(self, index)
        return default if found is None else found[0]

    def view(self, index: _Index) -> Any:
        """Return a read-only copy of the value under `index`."""
        near = self._near
        found = self._found(plain_index(index), True) if near is None else near.view(self, index)
        if found is None:
            raise KeyError(index)
        return found[0]

    def array(
        self, index: _Index, shape: Any = None, dtype: Any = None, *, initial: Any = None, order: str = "C"
    ) -> NoReturn:
        """Not supported: no memory is shared with a server. Use `put` and `view`."""
        raise UnsupportedError(
            f"{self._requests.name} has no memory that processes share: store the array with `put`, read it with `view`"
        )

    def buffer(self, index: _Index, size: SupportsIndex | None = None) -> NoReturn:
        """Not supported: no memory is shared with a server. Use `put` and `view`."""
        raise UnsupportedError(
            f"{self._requests.name} has no memory that processes share: store the bytes with `put`, read them with "
            "`view`"
        )

    def touch(self, index: _Index) -> int:
        answer = self._single(plain_index(index), b"ver", ttl=b"keep")
        return int(answer[1:]) if answer != b"n" else 0

    def expire(self, index: _Index, ttl: _Ttl) -> bool:
        return self._single(plain_index(index), b"exp", ttl=ttl_of(ttl)) != b"n"

    def has(self, index: _Index) -> bool:
        return self._record(plain_index(index)) is not None

    def remove(self, index: _Index) -> bool:
        return self._single(plain_index(index), b"del") != b"n"

    def add(self, index: _Index, amount: Any = 1, *, ttl: _Ttl = None) -> Any:
        plain, number, life = plain_index(index), amount_of(amount), ttl_of(ttl)
        self._writable()
        if type(number) is float or -(10**15) < number < 10**15:
            answer = self._single(plain, b"add", Stored(number), life)
            if answer != b"s":
                total = answer[2:].partition(b" ")[0]
                return int(total) if answer[1:2] == b"i" else float(total)
        # Longer ints than the script adds exactly, or a value that is no number.
        for turn in turns():
            found = self._found(plain)
            if found is None:
                old: Any = 0
            else:
                old = number_of(found[0])
                if old is None:
                    name = type(found[0]).__name__
                    raise TypeError(f"add: the value of index {shown(plain)} is {name}, not an int or a float")
            keeps = life if found is None else b"keep"
            if self._compare(plain, found, Stored(old + number), keeps):
                return old + number
            turn()
        raise AssertionError

    def swap(self, index: _Index, value: Any, default: Any = None, *, ttl: _Ttl = None) -> Any:
        plain, life = plain_index(index), ttl_of(ttl)
        self._writable()
        stored = Stored(value)
        for turn in turns():
            found = self._found(plain)
            if self._compare(plain, found, stored, life):
                return default if found is None else found[0]
            turn()
        raise AssertionError

    def version(self, index: _Index) -> int:
        found = self._record(plain_index(index))
        return 0 if found is None else found[0].version

    def get_versioned(self, index: _Index) -> tuple[Any, int]:
        found = self._found(plain_index(index))
        if found is None:
            raise KeyError(index)
        return found[0], found[1].version

    def compare_and_put(self, index: _Index, version: int, value: Any, *, ttl: _Ttl = None) -> bool:
        plain, expected, life = plain_index(index), version_of(version), ttl_of(ttl)
        self._writable()
        stored = Stored(value)
        if expected is None:
            self._exists()
            return False
        return self._single(plain, b"put", stored, life, expected) != b"n"

    def modify(self, index: _Index, function: Callable[[Any], Any], default: Any = MISSING, *, ttl: _Ttl = None) -> Any:
        plain, life = plain_index(index), ttl_of(ttl)
        self._writable()
        for turn in turns():
            found = self._found(plain)
            if found is None and default is MISSING:
                raise KeyError(index)
            value = function(default if found is None else found[0])
            if self._compare(plain, found, Stored(value), life if ttl is not None else b"keep"):
                return value
            turn()
        raise AssertionError

    def stat(self, index: _Index) -> VariableInfo:
        plain = plain_index(index)
        found = self._bytes_of(plain)
        if found is None:
            raise KeyError(index)
        record, left, kind, body = found
        ends = None if left is None else round(left * 1e9)
        return _variable_info(record.charged(plain), record.version, ends, type_of(kind, body))

    def _bytes_of(self, plain: int | str) -> tuple[Record, float | None, bytes, bytes] | None:
        """A variable, of one instant: record, seconds until it expires, kind and bytes of its value. None: missing."""
        until, vain = 0.0, 0
        while (found := self._record(plain)) is not None:
            record, left = found
            if record.kind != b"b":
                return record, left, record.kind, record.payload
            whole = self._blob(plain, record, vain >= VAIN)
            if whole is not None:
                return record, left, *whole
            self._replaced(plain, until)
            until, vain = until or time.monotonic() + self._url.server.timeout, vain + 1
        return None

    def _stored_bytes(self, index: _Index) -> tuple[bool, bytes, float | None] | None:
        """A variable as a segment of this machine stores it, of one instant.

        Whether it has buffers beside its pickle, its bytes, and the seconds until it expires.
        """
        plain = plain_index(index)
        found = self._bytes_of(plain)
        if found is None:
            return None
        record, left, kind, body = found
        if kind in (b"i", b"f"):
            kind, body = b"p", _encode_value(record.value(plain, False))[1]
        return kind == b"o", body, left

    def _pickled(self, index: _Index) -> tuple[bytes, float | None] | None:
        """The pickle of a variable with its buffers in it, and the seconds until it expires, of one instant."""
        found = self._stored_bytes(index)
        if found is None:
            return None
        has_buffers, body, left = found
        pickle = _value_pickle(has_buffers, body)
        if pickle is None:
            raise CorruptSegmentError(f"index {plain_index(index)!r}: its table of buffers is damaged")
        return pickle, left

    def _put_stored(self, index: _Index, has_buffers: bool, body: bytes, ttl: float | None) -> None:
        """Stores bytes as `_stored_bytes` gives them, which were checked."""
        plain, life = plain_index(index), ttl_of(ttl)
        self._writable()
        self._single(plain, b"put", Stored.of_body(b"o", body) if has_buffers else Stored.of_pickle(body), life)

    def dump(self, file: Any) -> int:
        """Save everything to a file. As `Segment.dump`, but each variable is as of an instant of its own."""
        from shmvar import _dump

        return _dump.dump(self, file)

    def load(self, file: Any) -> int:
        """Store what a dump has. As `Segment.load`, but one variable after the other, once the dump is verified."""
        from shmvar import _dump

        return _dump.load(self, file)

    def _put_pickle(self, index: _Index, pickle: bytes, ttl: float | None) -> None:
        """Stores bytes that are a pickle."""
        plain, life = plain_index(index), ttl_of(ttl)
        if fault := _pickle_fault(pickle):
            raise ValueError(fault)
        self._writable()
        self._single(plain, b"put", Stored.of_pickle(pickle), life)

    def info(self) -> SegmentInfo:
        return self._facts(self._read(b"facts"))

    def _facts(self, facts: list[Any]) -> SegmentInfo:
        link, keys = self._open, self._requests.keys
        used, size, at, count = (self._number(fact) for fact in facts[1:])
        # A reader's rights are few.
        sizes = [] if self._readonly else link.read([(b"MEMORY", b"USAGE", name) for name in keys])
        resident = sum(size or 0 for size in sizes)
        free = max(size - used, 0)
        name = self._requests.prefix.decode()
        if at > 1 << 53:
            raise CorruptSegmentError(f"{self._requests.name}: it cannot have been created {at} us after 1970")
        words = (count, at * 1000, [size, used, free, _largest_bytes(free), resident, 0, 0], 0)
        lists = (self._locks(), self._queues())
        return _segment_info(self.key, name, words, [0, 2**32 - 1, 0], lists, ("usable", None, None))

    def resize(self, size: SupportsIndex) -> None:
        try:
            self._change(scripts.SEGMENT, (b"size", size_of(size)), "the resize")
        except SegmentFullError as full:
            if not full.needed:
                raise
            remedy = f"the limit cannot go below the {full.needed} bytes that are used: remove variables first"
            text = f"{str(full).rpartition('; ')[0]}; {remedy}"
            raise SegmentFullError(text, full.needed, full.free, full.size) from None

    def trim(self) -> None:
        """Remove what has expired. A server gives memory back by itself."""
        self._writable()
        self._trimmed()

    def detach(self) -> None:
        self._give_back_all()
        self._link = self._near = None
        self._let_go()
        self._requests.leave_slots()

    def destroy(self) -> None:
        """Destroy the segment, if its key still stands for this very segment.

        The next `attach` makes a new, empty segment. All other calls of the handles on this one raise
        `SegmentNotFoundError`.
        """
        self._writable()
        destroy_id(self._open, self._requests.prefix, self._requests.id)
        if self._near is not None:
            self._near.memory.void()

    def check(self) -> CheckReport:
        """Verify what the server keeps twice: what is used, the deadlines, the blobs.

        A segment of more than 100,000 variables is not checked: the server would stand still.
        """
        requests, link = self._requests, self._open
        answer = link.script(scripts.CHECK, requests.keys, (requests.id,), link.waited(), self._readonly)
        if answer == b"g":
            raise requests.gone()
        if answer == b"many":
            return _check_report(([self._read(b"len"), 0, len(self._locks()), 0, 0], [0] * 7, [0, 0, 1]))
        if isinstance(answer, bytes):
            raise CorruptSegmentError(f"{requests.name}: {answer.decode(errors='replace')}")
        return _check_report(([int(answer[0]), int(answer[1]), len(self._locks()), 0, 0], [0] * 7, [0, 0, 0]))

    def __enter__(self) -> Self:
        self._open  # noqa: B018 - it raises DetachedError
        return self

    def __exit__(self, *_exception: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.detach()

    def __copy__(self) -> RemoteSegment:
        """Another handle on this very segment. The password of the URL does not leave this process."""
        self._open  # noqa: B018 - it raises DetachedError
        return _again(self._url, self.key, self._requests.id, self._readonly, self._trust)

    def __deepcopy__(self, _memo: dict[int, Any]) -> RemoteSegment:
        return self.__copy__()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the handle, without a password of its URL. Unpickling attaches to this very segment again.

        Raises ValueError where the password was in the URL, unless a child of `multiprocessing` is being started.
        """
        self._open  # noqa: B018 - it raises DetachedError
        password = None
        if self._url.has_password:
            context = sys.modules.get("multiprocessing.context")
            if context is None or context.get_spawning_popen() is None:
                raise ValueError(
                    f"{self._requests.name}: its URL had a password, which no pickle shall have. Remedies: "
                    "SHMVAR_PASSWORD in the environment, or password_file= in the URL"
                )
            password = self._url.server.password
        return reattach, (self._url.public, self._requests.id, self._readonly, self._trust, password)

    def __repr__(self) -> str:
        return f"<shmvar.RemoteSegment {self._url.public}{', detached' if self._link is None else ''}>"

    def _ipython_key_completions_(self) -> list[int | str]:
        from shmvar import _display

        return _display.completions(self)

    def _compare(self, index: int | str, found: tuple[Any, Any] | None, stored: Stored, ttl: bytes) -> bool:
        """Stores a value if the variable is still as it was found."""
        version = b"0" if found is None else b"%d" % found[1].version
        return self._single(index, b"put", stored, ttl, version) != b"n"


def find(url: Url, link: Link, key: int | str, readonly: bool, trust: bool | None) -> RemoteSegment:
    """Opens a segment by plain reads."""
    prefix = prefix_of(key)
    version, found = link.call(b"HMGET", prefix, b"f", b"id")
    if version is None and found is None:
        raise SegmentNotFoundError(f"there is no segment {url.public}")
    known(url, version, found)
    return RemoteSegment(url, prefix, found, False, readonly, trust)


def reattach(text: str, segment: bytes, readonly: bool, trust: bool | None, password: str | None) -> RemoteSegment:
    """Unpickles a handle: the very segment that it was of."""
    url, key = with_key(text)
    if password is not None:
        url = dataclasses.replace(url, server=dataclasses.replace(url.server, password=password), has_password=True)
    return _again(url, key, segment, readonly, trust)


def _again(url: Url, key: int | str, segment: bytes, readonly: bool, trust: bool | None) -> RemoteSegment:
    """Another handle on the segment with this id."""
    found = find(url, link_to(url.server, prefix_of(key)), key, readonly, trust)
    if found._requests.id != segment:
        raise SegmentNotFoundError(f"the segment {url.public} that was pickled is gone; there is another one")
    return found


def _largest_bytes(free: int) -> int:
    """The longest `bytes` that fit under a new integer index."""
    record = 32 + 9
    small = free - record - 8
    if small <= INLINE - 8:
        return max(small if small > 255 else small + 3, 0)
    # Its stub, and its table and pickle before it.
    return max(free - record - 21 - _BESIDE, INLINE - 8)


_BESIDE = Stored(bytes(1 << 18)).total - (1 << 18)


def _document() -> None:
    """Gives each call that says nothing of its own the text of the same call of `Segment`."""
    for cls in (*RemoteSegment.__bases__, RemoteSegment):
        for name, call in vars(cls).items():
            if call is not None and getattr(call, "__doc__", "") is None:
                call.__doc__ = getattr(getattr(Segment, name, None), "__doc__", None)


_document()
RemoteSegment.__module__ = "shmvar"
